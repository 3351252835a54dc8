package stream

import (
	"errors"
	"io"
	"strconv"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/carrier"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// A current is the frame that is being received, from its header on. It survives
// timeouts: whoever holds rtok next goes on with it.
type current struct {
	kind   currentKind
	typ    framing.Type
	flags  framing.Flags
	left   int64  // payload on the wire not yet read; for kindStream without COMP only
	id     uint64 // of a message, ACK or cancellation
	total  uint64 // of a fragmented message
	offset uint64
	header framing.Header // of a message
	acked  bool           // ACK in the crate profile: has a msg-id
	close  bool           // BYE: with KeyClose
	token  []byte         // of PING and PONG

	plain []byte // decompressed payload not yet returned by Read; nil before
}

type currentKind uint8

const (
	kindNone     currentKind = iota
	kindStream               // bytes for Read
	kindMessage              // a whole message
	kindFragment             // a part of one
	kindLegacy               // a DATA frame of a crate peer: message and bytes
	kindControl
)

// next reads the header of the next frame into s.cur. The errors are those of pump.
func (s *Session) next() error {
	f, h, err := s.rd.Next()
	s.cur.typ = f.Type
	if err == nil {
		s.stats.framesIn.Add(1)
		err = s.begin(f, h)
	}
	if err != nil {
		return s.receiveFailed(err)
	}
	return nil
}

// receiveFailed sorts the error of a receiving step: a timeout passes, everything
// else ends the session's reading.
func (s *Session) receiveFailed(err error) error {
	if isTimeout(err) || err == errStalled {
		return err
	}
	var remote *handshake.RemoteError
	switch {
	case errors.As(err, &remote):
		s.fail(err, nil)
		return err
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.peerBye && err == io.EOF {
			s.endReading(io.EOF)
			return io.EOF
		}
		s.endReading(io.ErrUnexpectedEOF)
		return s.rerr
	}
	err = violation(err)
	var local *handshake.Error
	if errors.As(err, &local) {
		if s.cur.typ == framing.TypeErr {
			local = nil // §4.5: "ERR MUST NOT be answered by any frame", a bad one neither
		}
		s.fail(err, local)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endReading(err)
	return s.rerr
}

// endReading makes err final. Session.mu is held.
func (s *Session) endReading(err error) {
	if s.rerr == nil {
		s.rerr = err
		s.readEnded.Store(true)
	}
	s.changed()
}

// readError returns the error that has ended reading.
func (s *Session) readError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rerr
}

// begin looks at the header of a frame. The header block h is valid until the next
// call of a method of s.rd.
func (s *Session) begin(f framing.Fixed, h framing.RawHeader) error {
	s.cur = current{typ: f.Type, flags: f.Flags, left: f.PayloadLen}
	if err := h.Validate(); err != nil {
		// Damage or malice? The CRC tells, where there is one.
		if _, perr := s.rd.Payload(); errors.Is(perr, framing.ErrChecksum) {
			err = perr
		}
		return err
	}
	if s.result.Legacy {
		return s.beginLegacy(h)
	}
	switch {
	case f.Flags&^framing.KnownFlags != 0:
		return protocolError(framing.CodeProtocol, "unknown flags")
	case s.sum && !f.Flags.Has(framing.FlagCRC):
		return protocolError(framing.CodeProtocol, "frame without the CRC agreed upon")
	case f.Type != framing.TypeData && f.Flags&(framing.FlagFrag|framing.FlagComp|framing.FlagReqAck) != 0:
		return protocolError(framing.CodeProtocol, "flag on a control frame")
	case f.Type != framing.TypeData && f.PayloadLen > maxControlPayload:
		return protocolError(framing.CodeTooLarge, "control frame")
	case f.Flags.Has(framing.FlagComp) && s.result.Compression == 0:
		return protocolError(framing.CodeCompression, "compression was not agreed upon")
	}
	if f.Type == framing.TypeData {
		return s.beginData(h)
	}
	s.cur.kind = kindControl
	switch f.Type {
	case framing.TypePing, framing.TypePong:
		token, _ := h.Lookup(framing.KeyPing)
		if len(token) > maxPingToken {
			return protocolError(framing.CodeProtocol, "PING token too long")
		}
		s.cur.token = append([]byte(nil), token...)
	case framing.TypeAck:
		v, ok := h.Lookup(framing.KeyMessage)
		id, n := framing.ConsumeVarint(v)
		if !ok || n != len(v) {
			return protocolError(framing.CodeProtocol, "ACK without a message id")
		}
		s.cur.id = id
		s.cur.acked = true
	case framing.TypeBye:
		_, s.cur.close = h.Lookup(framing.KeyClose)
	case framing.TypeErr:
		s.cur.header = framing.Header{}
		s.cur.header, _ = h.AppendTo(s.cur.header)
	default:
		return protocolError(framing.CodeUnexpected, f.Type.String()+" after the handshake")
	}
	return nil
}

// beginData tells the byte stream from messages. PROTOCOL §5.1 to §5.3.
func (s *Session) beginData(h framing.RawHeader) error {
	if s.peerBye { // only the holder of rtok writes it
		return protocolError(framing.CodeUnexpected, "DATA after BYE")
	}
	c := &s.cur
	c.kind = kindStream
	if len(h) == 0 {
		if c.flags&(framing.FlagReqAck|framing.FlagFrag) != 0 {
			return protocolError(framing.CodeProtocol, "message flags without a message id")
		}
		return nil
	}
	key, value, rest, _ := h.Next() // validated
	switch string(key) {
	case framing.KeyMessage:
	case framing.KeyCancel:
		id, n := framing.ConsumeVarint(value)
		if n != len(value) || n <= 0 || c.left != 0 || c.flags&(framing.FlagReqAck|framing.FlagFrag) != 0 {
			return protocolError(framing.CodeProtocol, "malformed cancellation")
		}
		c.kind, c.id = kindControl, id
		return nil
	default:
		if c.flags&(framing.FlagReqAck|framing.FlagFrag) != 0 {
			return protocolError(framing.CodeProtocol, "message flags without a message id")
		}
		return nil
	}
	id, n := framing.ConsumeVarint(value)
	if n <= 0 {
		return protocolError(framing.CodeProtocol, "malformed message id")
	}
	value = value[n:]
	c.id, c.kind = id, kindMessage
	if !c.flags.Has(framing.FlagFrag) {
		if len(value) != 0 {
			return protocolError(framing.CodeProtocol, "malformed message id")
		}
		return s.beginMessage(rest)
	}
	c.kind = kindFragment
	var m int
	c.total, n = framing.ConsumeVarint(value)
	if n > 0 {
		c.offset, m = framing.ConsumeVarint(value[n:])
	}
	if n <= 0 || m <= 0 || n+m != len(value) || c.left == 0 {
		return protocolError(framing.CodeProtocol, "malformed fragment")
	}
	if c.offset > 0 {
		return s.partial.check(c)
	}
	if s.partial.open {
		return protocolError(framing.CodeProtocol, "two fragmented messages at once")
	}
	return s.beginMessage(rest)
}

// beginMessage handles the first or only frame of a message; h are its headers.
func (s *Session) beginMessage(h framing.RawHeader) (err error) {
	c := &s.cur
	if c.id < s.lastID {
		return protocolError(framing.CodeProtocol, "message id used before")
	}
	size := c.total
	if c.kind == kindMessage && !c.flags.Has(framing.FlagComp) {
		size = uint64(c.left)
	}
	if size > uint64(s.cfg.Params.MaxMessage) {
		return protocolError(framing.CodeTooLarge, "message of "+strconv.FormatUint(size, 10)+" bytes")
	}
	c.header, err = h.AppendUser(nil)
	if err != nil {
		return err
	}
	s.lastID = c.id + 1
	if c.kind == kindFragment {
		s.partial = partial{open: true, id: c.id, total: c.total, header: c.header,
			reqAck: c.flags.Has(framing.FlagReqAck)}
	}
	return nil
}

// beginLegacy is begin for a crate peer. PROTOCOL §6.4.
func (s *Session) beginLegacy(h framing.RawHeader) error {
	c := &s.cur
	c.flags = c.flags.Legacy()
	if c.typ == framing.TypeData {
		if s.peerBye {
			return protocolError(framing.CodeUnexpected, "DATA after BYE")
		}
		c.kind = kindLegacy
		header, err := h.AppendTo(nil)
		c.header = header
		return err
	}
	if c.left > maxControlPayload {
		return protocolError(framing.CodeTooLarge, "control frame")
	}
	c.kind = kindControl
	switch c.typ {
	case framing.TypePing, framing.TypeAck, framing.TypeErr:
		c.header, _ = h.AppendTo(framing.Header{})
	case framing.TypeWelcome:
		return protocolError(framing.CodeUnexpected, "WELCOME nobody asked for")
	}
	if c.typ == framing.TypeAck {
		c.id, c.acked = legacyID(c.header)
	}
	return nil
}

// legacyID returns the msg-id of the crate, decimal text.
func legacyID(h framing.Header) (uint64, bool) {
	v, ok := h.Lookup(framing.LegacyKeyMsgID)
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseUint(v, 10, 64)
	return id, err == nil
}

// pump does one step of receiving for somebody who is not Read: a frame is begun
// or brought further. Errors that are no timeout and not errStalled are final and
// in s.rerr.
func (s *Session) pump() error {
	if s.readEnded.Load() {
		return s.readError()
	}
	switch s.cur.kind {
	case kindNone:
		return s.next()
	case kindStream:
		return s.bufferStream()
	}
	return s.process()
}

// process brings a frame further that is not for Read.
func (s *Session) process() error {
	var err error
	switch s.cur.kind {
	case kindMessage, kindLegacy:
		err = s.receiveWhole()
	case kindFragment:
		err = s.receiveFragment()
	case kindControl:
		err = s.receiveControl()
	}
	if err != nil {
		return s.receiveFailed(err)
	}
	s.cur = current{}
	return nil
}

// payload returns the whole verified and decompressed payload of the current
// frame: a view, valid until the next use of s.rd or s.dec.
func (s *Session) payload() ([]byte, error) {
	p, err := s.rd.Payload()
	if err != nil || !s.cur.flags.Has(framing.FlagComp) || s.result.Legacy {
		return p, err
	}
	return s.dec.decompress(p, int(s.cfg.Params.MaxFrame))
}

// receiveControl acts on a control frame that has arrived whole.
func (s *Session) receiveControl() error {
	p, err := s.payload()
	if err != nil {
		return err
	}
	c := &s.cur
	switch c.typ {
	case framing.TypeData: // a cancellation
		if s.partial.open && s.partial.id == c.id {
			s.partial = partial{}
		}
	case framing.TypePing:
		s.receivePing()
	case framing.TypePong:
		s.receivePong()
	case framing.TypeAck:
		if c.acked {
			s.receiveAck(c.id)
		}
	case framing.TypeBye:
		s.receiveBye()
	case framing.TypeErr:
		h, _ := framing.AppendHeader(nil, c.header)
		return handshake.ParseErr(framing.Frame{Type: c.typ, Flags: c.flags, Header: h, Payload: p})
	}
	return nil
}

// receiveBye ends the peer's direction. PROTOCOL §5.7.
func (s *Session) receiveBye() {
	s.partial = partial{}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peerBye = true
	if s.cur.close {
		s.peerGone = true
		if s.werr == nil {
			s.werr = session.ErrPeerClosed
		}
		if s.wheld != nil && !s.wheld.closing {
			s.armWrite(aLongTimeAgo) // a Write that waits for a peer that reads no more
		}
	}
	s.changed()
}

// explain makes the errors of a stream that is no VSTP at all more telling.
func (s *Session) explain(err error) error {
	if errors.Is(err, framing.ErrMagic) && s.cfg.TLS == nil && carrier.IsTLSRecord(s.rd.Buffered()) {
		return session.ErrTLSRequired
	}
	return err
}
