package crate

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// Config bounds what a Receiver keeps. A zero field means its default.
type Config struct {
	MaxMessage int64 // largest payload of a message; if zero, 1 MiB
	MaxSources int   // addresses of which anything is kept; if zero, 4096
	MaxBytes   int   // of all that is kept; if zero, 16 MiB. A source has at most an eighth
}

const (
	defaultMaxMessage = 1 << 20
	defaultMaxSources = 4096
	defaultMaxBytes   = 16 << 20
)

// A Receiver understands the datagrams of all crate peers of a socket.
type Receiver struct {
	cfg   Config
	now   time.Time // the latest that was ever told
	peers sources
	block []byte // scratch: a header block
	reply []byte // scratch: what Result.Reply shows
}

// NewReceiver returns a Receiver that keeps to c.
func NewReceiver(c Config) *Receiver {
	if c.MaxMessage <= 0 {
		c.MaxMessage = defaultMaxMessage
	}
	if c.MaxSources <= 0 {
		c.MaxSources = defaultMaxSources
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = defaultMaxBytes
	}
	r := &Receiver{cfg: c}
	r.peers.init(c.MaxSources, c.MaxBytes)
	return r
}

// Receive takes a datagram that came from an address; it keeps nothing of the slice.
// Room is how many bytes, as [Message.Size] counts, the application's queue still
// takes: a message that is larger is neither delivered nor acknowledged, so that its
// sender may try again.
func (r *Receiver) Receive(now time.Time, from netip.AddrPort, datagram []byte, room int64) Result {
	r.tick(now)
	f, trailer, err := framing.ParseDatagram(datagram)
	switch {
	case err != nil:
		return Result{Drop: DropMalformed}
	case !trailer:
		return Result{Drop: DropNoTrailer}
	}
	f.Flags = f.Flags.Legacy()
	var res Result
	switch f.Type {
	case framing.TypeData:
		res = r.receiveData(from, f, room)
	case framing.TypePing:
		res.Reply = r.answerPing(f)
	case framing.TypeAck:
		id, _, ok := messageID(f.Header)
		if !ok {
			return Result{Drop: DropType}
		}
		res.Acked, res.ID = true, id
	default:
		return Result{Drop: DropType}
	}
	// Nothing that is larger than what it answers leaves here, whatever the reason
	// (trap S9).
	if len(res.Reply) > len(datagram) {
		res.Reply = nil
	}
	return res
}

// tick keeps the clock from going backwards.
func (r *Receiver) tick(now time.Time) {
	if now.After(r.now) {
		r.now = now
	}
}

// Timeout returns when Advance has to be called; zero if there is nothing to forget.
func (r *Receiver) Timeout() time.Time { return r.peers.next }

// Advance forgets what has expired.
func (r *Receiver) Advance(now time.Time) {
	r.tick(now)
	if next := r.peers.next; !next.IsZero() && !r.now.Before(next) {
		r.peers.expire(r.now)
	}
}

// A candidate is a message that is all there.
type candidate struct {
	header  framing.RawHeader // without the fields of fragments
	payload [][]byte          // borrowed: pieces in their order
	reqAck  bool
}

// receiveData takes DATA: a message, a fragment of one, or a copy of one that says it
// is a fragment. PROTOCOL §6.7.
func (r *Receiver) receiveData(from netip.AddrPort, f framing.Frame, room int64) Result {
	c := candidate{header: f.Header, payload: [][]byte{f.Payload}, reqAck: f.Flags.Has(framing.FlagReqAck)}
	if !f.Flags.Has(framing.FlagFrag) {
		return r.deliver(from, c, room)
	}
	frag, state := parseFragment(f.Header)
	switch state {
	case fragNone: // an echo of what a crate peer has put together
		return r.deliver(from, c, room)
	case fragBad:
		return Result{Drop: DropFragment}
	}
	r.block = appendWithoutFrags(r.block[:0], f.Header)
	c.header = r.block
	switch {
	case frag.total == 1:
		return r.deliver(from, c, room)
	case isCopy(frag.total, len(c.header), len(f.Payload)):
		return r.receiveCopy(from, frag, c, room)
	case len(f.Payload) == 0:
		return Result{Drop: DropFragment}
	}
	return r.receiveSlice(from, frag, c, room)
}

// deliver gives a message to the application, once, and acknowledges it, each time.
func (r *Receiver) deliver(from netip.AddrPort, c candidate, room int64) Result {
	var n int64
	for _, p := range c.payload {
		n += int64(len(p))
	}
	if n > r.cfg.MaxMessage {
		return Result{Drop: DropTooLarge}
	}
	id, text, isID := messageID(c.header)
	ack := c.reqAck && isID
	sum := c.sum()
	if ack && r.peers.seen(r.now, from, id, sum) {
		return Result{Drop: DropDuplicate, Reply: r.appendAck(text)}
	}
	if messageSize(c.header, n) > room {
		return Result{Drop: DropFull}
	}
	m := &Message{ReqAck: ack, Payload: make([]byte, 0, n)}
	for _, p := range c.payload {
		m.Payload = append(m.Payload, p...)
	}
	h, err := c.header.AppendUser(nil)
	if err != nil {
		return Result{Drop: DropMalformed}
	}
	if isID {
		h.Del(framing.LegacyKeyMsgID)
	}
	m.Header = h
	res := Result{Message: m}
	if ack {
		r.peers.remember(r.now, from, id, sum)
		res.Reply = r.appendAck(text)
	}
	return res
}

// sum is what a message is known again by, beside its msg-id.
func (c *candidate) sum() uint32 {
	s := framing.Checksum(0, c.header)
	for _, p := range c.payload {
		s = framing.Checksum(s, p)
	}
	return s
}

// answerPing answers the probe of the crate's easy module by ACK, any other PING by
// PONG. PROTOCOL §6.6.
func (r *Receiver) answerPing(f framing.Frame) []byte {
	if f.Flags.Has(framing.FlagReqAck) {
		if _, text, ok := messageID(f.Header); ok {
			return r.appendAck(text)
		}
	}
	return r.appendReply(framing.Frame{Type: framing.TypePong})
}

// appendAck encodes an ACK. The id goes back as it came, since a peer may compare text.
func (r *Receiver) appendAck(id []byte) []byte {
	var field [2 + len(framing.LegacyKeyMsgID) + maxIDText]byte
	h, err := framing.AppendField(field[:0], framing.LegacyKeyMsgID, id)
	if err != nil {
		return nil
	}
	return r.appendReply(framing.Frame{Type: framing.TypeAck, Header: h})
}

func (r *Receiver) appendReply(f framing.Frame) []byte {
	b, err := framing.AppendFrame(r.reply[:0], f, framing.TrailerAlways)
	if err != nil {
		return nil
	}
	r.reply = b
	return b
}

// messageID returns the msg-id of a header block: a number in decimal digits of at
// most 64 bits. Anything else is metadata.
func messageID(h framing.RawHeader) (id uint64, text []byte, ok bool) {
	text, ok = h.Lookup(framing.LegacyKeyMsgID)
	if !ok || len(text) > maxIDText {
		return 0, nil, false
	}
	id, err := strconv.ParseUint(string(text), 10, 64)
	return id, text, err == nil
}

// fieldSize is about what a decoded field takes beside its bytes.
const fieldSize = 32

// Size returns the memory that m takes, about.
func (m *Message) Size() int64 {
	n := int64(len(m.Payload)) + messageOverhead
	for _, f := range m.Header {
		n += int64(len(f.Key)+len(f.Value)) + fieldSize
	}
	return n
}

const messageOverhead = 64 // of a message in a queue

// messageSize returns the size of a message before it is made; not less than
// [Message.Size] will say.
func messageSize(h framing.RawHeader, payload int64) int64 {
	n := payload + messageOverhead + int64(len(h))
	for range h.All() {
		n += fieldSize
	}
	return n
}
