package handshake

import (
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// check reports what is wrong with the caller's own parameters, and sets defaults.
func (p *Params) check() error {
	if len(p.Versions) == 0 {
		p.Versions = []uint64{Version1}
	}
	if p.MaxFrame == 0 {
		p.MaxFrame = DefaultMaxFrame
	}
	if p.MaxMessage == 0 {
		p.MaxMessage = DefaultMaxMessage
	}
	switch {
	case len(p.Versions) > MaxVersions:
		return misuse("too many versions")
	case p.MaxFrame < MinMaxFrame || p.MaxFrame > framing.MaxVarint:
		return misuse("MaxFrame out of range")
	case p.MaxMessage < 0 || p.MaxMessage > framing.MaxVarint:
		return misuse("MaxMessage out of range")
	case len(p.Compression) > framing.MaxValueLen:
		return misuse("too many compression algorithms")
	}
	if slices.Contains(p.Compression, 0) {
		return misuse("compression algorithm 0")
	}
	for _, v := range p.Versions {
		if v == 0 || v > framing.MaxVarint {
			return misuse("version out of range")
		}
	}
	p.Idle = wholeMillis(p.Idle)
	return nil
}

// wholeMillis rounds d up to what KeyIdle can say.
func wholeMillis(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	if d > MaxIdle*time.Millisecond {
		return MaxIdle * time.Millisecond
	}
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// minNonZero returns the smaller of two timeouts of which 0 means none.
func minNonZero(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// appendLimits appends the fields that HELLO and WELCOME write alike, without
// those that say what their absence says too. PROTOCOL §4.1.
func appendLimits(h framing.Header, p *Params) framing.Header {
	if p.MaxFrame != DefaultMaxFrame {
		h = append(h, varintField(framing.KeyMaxFrame, uint64(p.MaxFrame)))
	}
	if p.MaxMessage != DefaultMaxMessage {
		h = append(h, varintField(framing.KeyMaxMessage, uint64(p.MaxMessage)))
	}
	if !p.Checksum {
		h = append(h, framing.Field{Key: framing.KeyChecksum, Value: "\x00"})
	}
	if len(p.Compression) > 0 {
		h = append(h, framing.Field{Key: framing.KeyCompress, Value: string(p.Compression)})
	}
	if p.Idle > 0 {
		h = append(h, varintField(framing.KeyIdle, uint64(p.Idle/time.Millisecond)))
	}
	return h
}

func varintField(key string, v uint64) framing.Field {
	var b [framing.MaxVarintLen]byte
	return framing.Field{Key: key, Value: string(framing.AppendVarint(b[:0], v))}
}

// appendFrame appends a frame of the handshake, whose CRC is always on. The user's
// metadata follows the protocol's own fields. On error b is returned as it was.
func appendFrame(b []byte, t framing.Type, own framing.Header, payload string, user ...framing.Header) ([]byte, error) {
	h := own
	for _, u := range user {
		if u.HasReserved() {
			return b, misuse("metadata with a reserved key")
		}
		h = append(h, u...)
	}
	if len(h) > MaxFields {
		return b, misuse("too much metadata")
	}
	raw, err := framing.AppendHeader(nil, h)
	if err != nil {
		return b, &Error{Code: framing.CodeInternal, Reason: "metadata cannot be sent", Err: err}
	}
	f := framing.Frame{Type: t, Flags: framing.FlagCRC, Header: raw, Payload: []byte(payload)}
	b, err = framing.AppendFrame(b, f, framing.TrailerByFlag)
	if err != nil {
		return b, &Error{Code: framing.CodeInternal, Reason: "frame cannot be sent", Err: err}
	}
	return b, nil
}

// fields are the protocol's own values in a HELLO or WELCOME, as views of the frame.
type fields struct {
	v        [maxOwn][]byte // by key; nil means absent
	repeated [maxOwn]bool
}

const (
	firstKey = 0x10 // framing.KeyVersions
	lastKey  = 0x16 // framing.KeyIdle

	maxOwn = lastKey - firstKey + 1
)

// scan walks through the header block of a HELLO or WELCOME and picks the
// protocol's own values. Keys that have no meaning there are passed over, §3.
func scan(f *framing.Frame) (fs fields, err error) {
	h := f.Header
	for n := 0; len(h) > 0; n++ {
		if n == MaxFields {
			return fs, &Error{Code: framing.CodeTooLarge, Reason: "too many header fields"}
		}
		var key, value []byte
		if key, value, h, err = h.Next(); err != nil {
			return fs, &Error{Code: framing.CodeHeader, Err: err}
		}
		if len(key) != 1 || key[0] < firstKey || key[0] > lastKey {
			continue
		}
		if f.Type == framing.TypeHello && string(key) == framing.KeySessionID {
			continue
		}
		i := key[0] - firstKey
		fs.repeated[i] = fs.v[i] != nil
		fs.v[i] = value // not nil even if empty
	}
	return fs, nil
}

func (fs *fields) get(key string) []byte { return fs.v[key[0]-firstKey] }

// versions decodes the list of KeyVersions: at least one, at most MaxVersions, none
// of them 0.
func (fs *fields) versions() ([]uint64, error) {
	b := fs.get(framing.KeyVersions)
	if fs.repeated[0] {
		return nil, protocol("versions twice")
	}
	if len(b) == 0 {
		return nil, protocol("no version")
	}
	list := make([]uint64, 0, min(len(b), MaxVersions))
	for len(b) > 0 {
		v, n := framing.ConsumeVarint(b)
		if n <= 0 || v == 0 {
			return nil, protocol("malformed versions")
		}
		if len(list) == MaxVersions {
			return nil, protocol("too many versions")
		}
		list = append(list, v)
		b = b[n:]
	}
	return list, nil
}

// number decodes a value that is one varint and nothing else, or returns def where
// the key is absent.
func (fs *fields) number(key string, def uint64) (uint64, bool) {
	b := fs.get(key)
	if b == nil {
		return def, true
	}
	return wholeVarint(b)
}

// wholeVarint decodes a varint that fills b exactly.
func wholeVarint(b []byte) (uint64, bool) {
	v, n := framing.ConsumeVarint(b)
	return v, n > 0 && n == len(b)
}

// params decodes everything but the versions and the session id. PROTOCOL §4.3.
func (fs *fields) params() (p Params, err error) {
	if slices.Contains(fs.repeated[:], true) {
		return p, protocol("a header key is repeated")
	}
	maxFrame, ok := fs.number(framing.KeyMaxFrame, DefaultMaxFrame)
	if !ok || maxFrame < MinMaxFrame {
		return p, protocol("bad maximum frame size")
	}
	maxMessage, ok := fs.number(framing.KeyMaxMessage, DefaultMaxMessage)
	if !ok {
		return p, protocol("bad maximum message size")
	}
	idle, ok := fs.number(framing.KeyIdle, 0)
	if !ok || idle > MaxIdle {
		return p, protocol("bad idle timeout")
	}
	p.MaxFrame, p.MaxMessage = int64(maxFrame), int64(maxMessage)
	p.Idle = time.Duration(idle) * time.Millisecond
	p.Checksum = true
	if b := fs.get(framing.KeyChecksum); b != nil {
		if len(b) != 1 || b[0] > 1 {
			return p, protocol("bad checksum choice")
		}
		p.Checksum = b[0] == 1
	}
	if b := fs.get(framing.KeyCompress); len(b) > 0 {
		p.Compression = append([]byte(nil), b...)
	}
	return p, nil
}

// checkFrame holds the rules for HELLO and WELCOME that are not about single
// keys: no flag but CRC, which must be set, and no payload.
func checkFrame(f *framing.Frame) error {
	switch {
	case f.Flags != framing.FlagCRC:
		return protocol(f.Type.String() + " with flags other than CRC")
	case len(f.Payload) != 0:
		return protocol(f.Type.String() + " with a payload")
	}
	return nil
}

// userHeader copies the user's metadata out of a block that scan has approved.
func userHeader(h framing.RawHeader) (framing.Header, error) {
	user, err := h.AppendUser(nil)
	if err != nil {
		return nil, &Error{Code: framing.CodeHeader, Err: err}
	}
	return user, nil
}
