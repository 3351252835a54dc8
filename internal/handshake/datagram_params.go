package handshake

import (
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
)

const (
	firstDatagramKey = 0x1a // framing.KeyMaxDatagram
	lastDatagramKey  = 0x1d // framing.KeyService

	maxDatagramOwn = maxOwn + lastDatagramKey - firstDatagramKey + 4 // and carriers, parity, token
)

// checkDatagram is check for what datagrams have in addition.
func (p *DatagramParams) checkDatagram() error {
	p.MaxFrame, p.Compression = 0, nil
	if err := p.check(); err != nil {
		return err
	}
	p.MaxFrame = DefaultMaxFrame // not sent
	if p.MaxDatagram == 0 {
		p.MaxDatagram = MinMaxDatagram
	}
	if p.AckDelay == 0 {
		p.AckDelay = DefaultAckDelay
	}
	if p.MaxDatagram < MinMaxDatagram || p.MaxDatagram > MaxMaxDatagram {
		return misuse("MaxDatagram out of range")
	}
	if p.AckDelay < 0 || p.AckDelay > MaxAckDelay {
		return misuse("AckDelay out of range")
	}
	for _, v := range p.Credit.list() {
		if v < 0 || v > framing.MaxVarint {
			return misuse("credit out of range")
		}
	}
	return nil
}

func (c *Credit) list() [4]int64 {
	return [4]int64{c.MaxData, c.MaxStreamData, c.MaxStreams, c.MaxMessages}
}

// appendDatagramLimits appends the fields of datagrams that HELLO and WELCOME write
// alike, without those that say what their absence says too.
func appendDatagramLimits(h framing.Header, p *DatagramParams) framing.Header {
	return appendDatagramOnly(appendLimits(h, &p.Params), p)
}

// appendDatagramOnly appends those that streams do not have.
func appendDatagramOnly(h framing.Header, p *DatagramParams) framing.Header {
	if p.MaxDatagram != MinMaxDatagram {
		h = append(h, varintField(framing.KeyMaxDatagram, uint64(p.MaxDatagram)))
	}
	if p.Credit != (Credit{}) {
		var b []byte
		for _, v := range p.Credit.list() {
			b = framing.AppendVarint(b, uint64(v))
		}
		h = append(h, framing.Field{Key: framing.KeyCredit, Value: string(b)})
	}
	if p.AckDelay != DefaultAckDelay {
		h = append(h, varintField(framing.KeyAckDelay, uint64(p.AckDelay/time.Microsecond)))
	}
	if p.Parity {
		h = append(h, framing.Field{Key: framing.KeyParity, Value: "\x01"})
	}
	return h
}

// appendService appends what a client asks for.
func appendService(h framing.Header, p *DatagramParams) framing.Header {
	switch {
	case p.Moves:
		return append(h, framing.Field{Key: framing.KeyService, Value: serviceMoves})
	case p.Stream:
		return append(h, framing.Field{Key: framing.KeyService, Value: "\x01"})
	}
	return h
}

// appendBlock encodes a header block of own fields and metadata.
func appendBlock(own framing.Header, user ...framing.Header) ([]byte, error) {
	h := own
	for _, u := range user {
		if u.HasReserved() {
			return nil, misuse("metadata with a reserved key")
		}
		h = append(h, u...)
	}
	if len(h) > MaxFields {
		return nil, misuse("too much metadata")
	}
	b, err := framing.AppendHeader(nil, h)
	if err != nil {
		return nil, &Error{Code: framing.CodeInternal, Reason: "metadata cannot be sent", Err: err}
	}
	return b, nil
}

// datagramFields are the protocol's own values in a header block, as views of it.
type datagramFields struct {
	fields
	v        [lastDatagramKey - firstDatagramKey + 1][]byte // by key; nil means absent
	parity   []byte                                         // nil means absent
	carriers []byte                                         // of WELCOME; nil means absent
	token    []byte                                         // of WELCOME; nil means absent
	repeated bool
}

// scanDatagram picks the protocol's own values out of the block of a HELLO or
// WELCOME. Those that mean nothing on datagrams are passed over.
func scanDatagram(t framing.Type, block framing.RawHeader) (fs datagramFields, err error) {
	fs.fields, err = scan(&framing.Frame{Type: t, Flags: framing.FlagCRC, Header: block})
	if err != nil {
		return fs, err
	}
	for _, key := range [...]string{framing.KeyMaxFrame, framing.KeyCompress} {
		i := key[0] - firstKey
		fs.fields.v[i], fs.fields.repeated[i] = nil, false
	}
	for key, value := range block.All() {
		if t == framing.TypeWelcome && string(key) == framing.KeyCarriers {
			fs.repeated = fs.repeated || fs.carriers != nil
			fs.carriers = value
		}
		if t == framing.TypeWelcome && string(key) == framing.KeyToken && len(value) > 0 && len(value) <= MaxToken {
			fs.repeated = fs.repeated || fs.token != nil
			fs.token = value
		}
		if string(key) == framing.KeyParity {
			fs.repeated = fs.repeated || fs.parity != nil
			fs.parity = value
		}
		if len(key) != 1 || key[0] < firstDatagramKey || key[0] > lastDatagramKey {
			continue
		}
		if t == framing.TypeWelcome && string(key) == framing.KeyService {
			continue
		}
		i := key[0] - firstDatagramKey
		fs.repeated = fs.repeated || fs.v[i] != nil
		fs.v[i] = value
	}
	return fs, nil
}

func (fs *datagramFields) get(key string) []byte { return fs.v[key[0]-firstDatagramKey] }

// params decodes everything but the versions, the session id and the metadata.
func (fs *datagramFields) params() (p DatagramParams, err error) {
	if fs.repeated {
		return p, protocol("a header key is repeated")
	}
	if p.Params, err = fs.fields.params(); err != nil {
		return p, err
	}
	p.MaxDatagram, p.AckDelay = MinMaxDatagram, DefaultAckDelay
	if b := fs.get(framing.KeyMaxDatagram); b != nil {
		v, ok := wholeVarint(b)
		if !ok || v < MinMaxDatagram {
			return p, protocol("bad maximum datagram size")
		}
		p.MaxDatagram = int(min(v, MaxMaxDatagram))
	}
	if b := fs.get(framing.KeyAckDelay); b != nil {
		v, ok := wholeVarint(b)
		if !ok || v > uint64(MaxAckDelay/time.Microsecond) {
			return p, protocol("bad acknowledgement delay")
		}
		p.AckDelay = time.Duration(v) * time.Microsecond
	}
	if b := fs.get(framing.KeyCredit); b != nil {
		if !p.Credit.parse(b) {
			return p, protocol("bad credit")
		}
	}
	if b := fs.get(framing.KeyService); b != nil {
		if len(b) != 1 || b[0] > 2 {
			return p, protocol("bad service")
		}
		p.Stream, p.Moves = b[0] >= 1, b[0] == 2
	}
	if b := fs.parity; b != nil {
		if len(b) != 1 || b[0] > 1 {
			return p, protocol("bad parity")
		}
		p.Parity = b[0] == 1
	}
	p.Carriers = parseCarriers(fs.carriers)
	return p, nil
}

// parse decodes four varints that fill b exactly.
func (c *Credit) parse(b []byte) bool {
	for _, to := range [...]*int64{&c.MaxData, &c.MaxStreamData, &c.MaxStreams, &c.MaxMessages} {
		v, n := framing.ConsumeVarint(b)
		if n < 0 {
			return false
		}
		*to, b = int64(v), b[n:]
	}
	return len(b) == 0
}

// limits is what a received p grants.
func (p *DatagramParams) limits() DatagramLimits {
	return DatagramLimits{MaxDatagram: p.MaxDatagram, Credit: p.Credit, MaxMessage: p.MaxMessage, AckDelay: p.AckDelay, Parity: p.Parity}
}

// chooseVersion returns the first of the client's list that the server knows.
func chooseVersion(offered, known []uint64) (uint64, error) {
	i := slices.IndexFunc(offered, func(v uint64) bool { return slices.Contains(known, v) })
	if i < 0 {
		return 0, &Error{Code: framing.CodeVersion, Reason: "none of the versions offered is known"}
	}
	return offered[i], nil
}
