package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
)

// A partial is a message of which fragments have arrived. PROTOCOL §5.3.
type partial struct {
	open   bool
	id     uint64
	total  uint64
	header framing.Header
	reqAck bool
	buf    []byte
}

// check reports whether c continues p.
func (p *partial) check(c *current) error {
	switch {
	case !p.open || c.id != p.id:
		return protocolError(framing.CodeProtocol, "fragment of no open message")
	case c.total != p.total || c.offset != uint64(len(p.buf)):
		return protocolError(framing.CodeProtocol, "fragment does not continue its message")
	case c.flags.Has(framing.FlagReqAck):
		return protocolError(framing.CodeProtocol, "REQ_ACK on a later fragment")
	}
	return nil
}

// bufferShare is how many times what has come the buffer of a message may be.
const bufferShare = 4

// room returns space for up to n more bytes, but not beyond the total: the buffer
// grows with what has arrived, whatever was claimed. It doubles until a quarter is there, so
// that most of a large message is copied once, and memory for little more than one is needed.
func (p *partial) room(n int) []byte {
	have := len(p.buf)
	n = int(min(uint64(n), p.total-uint64(have)))
	if cap(p.buf)-have < n {
		c := int(min(p.total, uint64(max(have+n, 2*have))))
		if p.total/bufferShare <= uint64(have+n) {
			c = int(p.total)
		}
		b := make([]byte, have, c)
		copy(b, p.buf)
		p.buf = b
	}
	return p.buf[have : have+n]
}

// receiveWhole queues the message in the current frame.
func (s *Session) receiveWhole() error {
	if s.queueFull() {
		return errStalled
	}
	c := &s.cur
	b, err := s.payload()
	if err != nil {
		return err
	}
	if len(b) > int(s.cfg.Params.MaxMessage) {
		return protocolError(framing.CodeTooLarge, "message")
	}
	if c.flags.Has(framing.FlagComp) && !s.result.Legacy {
		b = append([]byte(nil), b...)
	} else {
		b = s.rd.Detach()
	}
	m := &session.Message{Header: c.header, Payload: b, ReqAck: c.flags.Has(framing.FlagReqAck)}
	if s.result.Legacy {
		s.enqueueLegacy(m)
		return nil
	}
	s.enqueue(m, c.id)
	return nil
}

// enqueueLegacy queues a crate peer's message, and acknowledges it if it has an id.
func (s *Session) enqueueLegacy(m *session.Message) {
	id, ok := legacyID(m.Header)
	m.ReqAck = m.ReqAck && ok
	if ok {
		m.Header = m.Header.Clone()
		m.Header.Del(framing.LegacyKeyMsgID)
	}
	s.enqueue(m, id)
}

// receiveFragment adds the current frame to the open message.
func (s *Session) receiveFragment() error {
	if s.queueFull() {
		return errStalled
	}
	p := &s.partial
	if s.cur.flags.Has(framing.FlagComp) {
		b, err := s.payload()
		if err != nil {
			return err
		}
		if uint64(len(b)) > p.total-uint64(len(p.buf)) {
			return protocolError(framing.CodeProtocol, "fragment beyond the total")
		}
		n := copy(p.room(len(b)), b)
		p.buf = p.buf[:len(p.buf)+n]
	} else if err := s.receivePlainFragment(); err != nil {
		return err
	}
	if uint64(len(p.buf)) < p.total {
		return nil
	}
	m := &session.Message{Header: p.header, Payload: p.buf, ReqAck: p.reqAck}
	id := p.id
	s.partial = partial{}
	s.enqueue(m, id)
	return nil
}

// receivePlainFragment reads the payload to where it belongs, without a copy.
func (s *Session) receivePlainFragment() error {
	p := &s.partial
	if uint64(s.cur.left) > p.total-uint64(len(p.buf)) {
		return protocolError(framing.CodeProtocol, "fragment beyond the total")
	}
	for {
		room := p.room(int(min(s.cur.left, maxFragment)))
		if len(room) == 0 {
			room = make([]byte, 1) // nothing is left but the CRC
		}
		n, err := s.rd.Read(room)
		s.cur.left -= int64(n)
		p.buf = p.buf[:len(p.buf)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// queueFull reports whether received messages, or the ACKs for them, have to be
// taken before more can be.
func (s *Session) queueFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.msgs) >= maxQueuedMessages || s.msgBytes >= maxQueuedBytes ||
		len(s.ctl.acks) >= maxPendingAcks
}

// enqueue hands a verified message to the application, and only then acknowledges it.
func (s *Session) enqueue(m *session.Message, id uint64) {
	s.mu.Lock()
	s.msgs = append(s.msgs, m)
	s.msgBytes += m.Cost()
	if m.ReqAck {
		s.ctl.acks = append(s.ctl.acks, id)
	}
	s.changed()
	s.mu.Unlock()
	if m.ReqAck {
		s.kick()
	}
}

// popMessage takes the oldest message. Session.mu is held.
func (s *Session) popMessage() *session.Message {
	m := s.msgs[0]
	s.msgs[0] = nil
	s.msgs = s.msgs[1:]
	if len(s.msgs) == 0 {
		s.msgs = nil
	}
	s.msgBytes -= m.Cost()
	s.changed() // there is room again
	return m
}

// ReceiveMessage returns the next message. After the peer's BYE the error is io.EOF.
// The end of ctx and the read deadline end the wait; nothing is lost then.
func (s *Session) ReceiveMessage(ctx context.Context) (*session.Message, error) {
	o := &op{ctx: ctx, dl: &s.rdl}
	if err := s.ready(o); err != nil {
		return nil, err
	}
	stop := s.watch(o)
	defer stop()
	var m *session.Message
	err := s.await(o, func() bool {
		if len(s.msgs) > 0 {
			m = s.popMessage()
			return true
		}
		return s.peerBye
	})
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return nil, io.EOF
	}
	s.stats.msgsIn.Add(1)
	s.stats.bytesIn.Add(uint64(len(m.Payload)))
	return m, nil
}

// An ackWait is a message that waits for its ACK.
type ackWait struct{ acked bool }

// receiveAck marks a message as acknowledged.
func (s *Session) receiveAck(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.acks[id]; w != nil {
		w.acked = true
		delete(s.acks, id)
		s.changed()
	}
}

// SendMessage sends one message. Without ReqAck it returns when the carrier has
// taken it. The write deadline and ctx apply, and the message's lifetime until the
// carrier has all of it.
func (s *Session) SendMessage(ctx context.Context, m *session.Message) error {
	o := &op{ctx: ctx, dl: &s.wdl}
	if m.Lifetime > 0 {
		o.limit, o.limitErr = time.Now().Add(m.Lifetime), session.ErrExpired
	}
	if err := s.ready(o); err != nil {
		return err
	}
	if err := s.checkMessage(m); err != nil {
		return err
	}
	stop := s.watch(o)
	defer stop()
	var w *ackWait
	if m.ReqAck {
		w = &ackWait{}
	}
	id, err := s.sendMessage(o, m, w)
	if err == nil {
		s.stats.msgsOut.Add(1)
		s.stats.bytesOut.Add(uint64(len(m.Payload)))
		if w != nil {
			err = s.awaitAck(o, w)
		}
	}
	if w != nil {
		s.mu.Lock()
		if s.acks[id] == w {
			delete(s.acks, id)
		}
		s.mu.Unlock()
	}
	return err
}

// awaitAck waits for the ACK of w, for as long as o and Config.AckTimeout allow.
func (s *Session) awaitAck(o *op, w *ackWait) error {
	s.mu.Lock()
	o.limit, o.limitErr = time.Time{}, nil // what is on its way arrives, whatever its lifetime was
	if _, ok := o.ctx.Deadline(); !ok && s.cfg.AckTimeout > 0 {
		o.limit, o.limitErr = time.Now().Add(s.cfg.AckTimeout), session.ErrAckTimeout
	}
	s.mu.Unlock()
	err := s.await(o, func() bool { return w.acked })
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the peer is gone, the ACK will not come
	}
	return err
}

// checkMessage finds what is wrong with m before anything of it is sent.
func (s *Session) checkMessage(m *session.Message) error {
	if int64(len(m.Payload)) > s.result.PeerMaxMessage {
		return session.ErrMessageTooLarge
	}
	if m.Header.HasReserved() {
		return session.ErrReservedKey
	}
	if err := m.Header.Validate(); err != nil {
		return err
	}
	if m.Header.EncodedLen()+messageFieldLen > framing.MaxHeaderLen {
		return framing.ErrHeaderTooLarge
	}
	if s.result.Legacy {
		if _, ok := m.Header.Lookup(framing.LegacyKeyMsgID); ok && m.ReqAck {
			return session.ErrReservedKey
		}
		size := framing.FixedLen + m.Header.EncodedLen() + len(m.Payload) + framing.TrailerLen
		if m.ReqAck {
			size += legacyFieldLen
		}
		if int64(size) > s.result.PeerMaxFrame {
			return session.ErrMessageTooLarge
		}
	}
	return nil
}

const (
	messageFieldLen = 2 + 1 + 3*8                          // KeyMessage with three varints
	legacyFieldLen  = 2 + len(framing.LegacyKeyMsgID) + 20 // msg-id with 64 bits in decimal
)

// sendMessage sends m in one frame or several, and registers w for its ACK.
func (s *Session) sendMessage(o *op, m *session.Message, w *ackWait) (id uint64, err error) {
	if len(m.Payload) <= maxFragment || s.result.Legacy {
		return s.sendWhole(o, m, w)
	}
	// One fragmented message at a time; others and the stream go in between.
	s.mu.Lock()
	if s.bigtok == nil {
		s.bigtok = make(chan struct{}, 1)
	}
	tok := s.bigtok
	s.mu.Unlock()
	if _, err := s.acquire(tok, o, nil); err != nil {
		return 0, err
	}
	defer func() { <-tok }()
	numbered := false
	for off := 0; off < len(m.Payload); {
		end := min(off+maxFragment, len(m.Payload))
		err := s.withWrite(o, func() error {
			if off == 0 && !numbered {
				id, numbered = s.newID(w), true
			}
			return s.writeFragment(m, id, off, end)
		})
		if err != nil {
			if off > 0 {
				s.cancelMessage(id)
			}
			return id, err
		}
		off = end
	}
	return id, nil
}

// newID takes the next message id. The holder of wtok calls it.
func (s *Session) newID(w *ackWait) uint64 {
	id := s.nextID
	s.nextID++
	if w != nil {
		s.mu.Lock()
		if s.acks == nil {
			s.acks = make(map[uint64]*ackWait)
		}
		s.acks[id] = w
		s.mu.Unlock()
	}
	return id
}

func (s *Session) sendWhole(o *op, m *session.Message, w *ackWait) (id uint64, err error) {
	numbered := false
	err = s.withWrite(o, func() error {
		if !numbered {
			id, numbered = s.newID(w), true
		}
		var flags framing.Flags
		if m.ReqAck {
			flags = framing.FlagReqAck
		}
		b := s.head[:0]
		b = append(b, make([]byte, framing.FixedLen)...)
		if s.result.Legacy {
			b, _ = framing.AppendHeader(b, m.Header) // checked before
			if m.ReqAck {
				b, _ = framing.AppendField(b, framing.LegacyKeyMsgID, strconv.FormatUint(id, 10))
			}
		} else {
			var v [8]byte
			b, _ = framing.AppendField(b, framing.KeyMessage, framing.AppendVarint(v[:0], id))
			b, _ = framing.AppendHeader(b, m.Header)
		}
		return s.writeFrame(framing.TypeData, flags, b, m.Payload)
	})
	return id, err
}

// writeFragment sends bytes off to end of m.
func (s *Session) writeFragment(m *session.Message, id uint64, off, end int) error {
	flags := framing.FlagFrag
	v := framing.AppendVarint(make([]byte, 0, 3*8), id)
	v = framing.AppendVarint(v, uint64(len(m.Payload)))
	v = framing.AppendVarint(v, uint64(off))
	b := append(s.head[:0], make([]byte, framing.FixedLen)...)
	b, _ = framing.AppendField(b, framing.KeyMessage, v)
	if off == 0 {
		b, _ = framing.AppendHeader(b, m.Header) // checked before
		if m.ReqAck {
			flags |= framing.FlagReqAck
		}
	}
	return s.writeFrame(framing.TypeData, flags, b, m.Payload[off:end])
}

// cancelMessage tells the peer that no more fragments of id will come. Before the
// next fragmented message the frame has been sent, so there is never a second one.
// BYE tells the peer too, and has no DATA behind it.
func (s *Session) cancelMessage(id uint64) {
	s.mu.Lock()
	if !s.byeSent {
		s.ctl.cancel, s.ctl.cancelID = true, id
	}
	s.mu.Unlock()
	s.kick()
}

// isClosed reports whether err says that this side has closed the session.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
