package endpoint

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/reliable"
)

const (
	// maxCopied is the payload up to which a message that needs no answer is copied,
	// so that SendMessage need not wait for its end.
	maxCopied = 64 << 10

	// maxQueued and maxQueuedBytes bound the messages that wait for the end of a
	// handshake in the background.
	maxQueued      = 64
	maxQueuedBytes = 256 << 10

	// maxUnfragmented is what fits a datagram on every path, beside header and chunk.
	maxUnfragmented = reliable.BaseMTU - 40

	// patience is how long a message waits for a place among those. Later ones are
	// lost, as in a network: the peer may never answer.
	patience = time.Second
)

// A sendOp is a message that its sender waits for.
type sendOp struct {
	out     *reliable.Outgoing
	done    bool
	settled waitq
}

// A smallMessage is a message with what had to be copied of it, in one piece of memory.
type smallMessage struct {
	reliable.Outgoing
	room [128]byte
}

// A waiting message is one that is kept for the end of a handshake.
type waiting struct {
	out *reliable.Outgoing
	end time.Time // of its lifetime; zero for none
}

// errStale says that a shared session had ended before it has taken a message.
var errStale = errors.New("endpoint: the association has ended")

// outgoing makes of m what the engine takes. It reports whether the caller has to
// wait until it is settled: for an answer, or because its payload is not copied.
func (s *Session) outgoing(m *session.Message) (out *reliable.Outgoing, wait bool, err error) {
	if err := checkMessage(m); err != nil {
		return nil, false, err
	}
	wait = m.ReqAck || len(m.Payload) > maxCopied
	n := m.Header.EncodedLen()
	var room []byte // for the header and what has to be copied of the payload
	switch size := n + len(m.Payload); {
	case !wait && size <= len(smallMessage{}.room):
		small := new(smallMessage)
		out, room = &small.Outgoing, small.room[:0]
	case !wait:
		out, room = new(reliable.Outgoing), make([]byte, 0, size)
	default:
		out, room = new(reliable.Outgoing), make([]byte, 0, n)
	}
	*out = reliable.Outgoing{
		Payload:   m.Payload,
		Ack:       m.ReqAck,
		Repair:    m.Repair || s.stream || s.ep.cfg.ReliableMessages,
		Ordered:   m.Ordered,
		Channel:   m.Channel,
		Redundant: m.Redundant || s.ep.cfg.RedundantMessages,
		Priority:  m.Priority,
		Lifetime:  m.Lifetime,
	}
	room, _ = framing.AppendHeader(room, m.Header) // checked
	if n > 0 {
		out.Header = room[:n:n]
	}
	if !wait {
		out.Payload = append(room, m.Payload...)[n:]
	}
	return out, wait, nil
}

// checkMessage finds what is wrong with m wherever it goes.
func checkMessage(m *session.Message) error {
	if m.Header.HasReserved() {
		return session.ErrReservedKey
	}
	return m.Header.Validate()
}

// SendMessage sends one message. Unless it asks for an acknowledgement, or its
// payload is large, it returns when the engine has taken it. The write deadline and
// ctx apply.
func (s *Session) SendMessage(ctx context.Context, m *session.Message) error {
	return s.sendMessage(ctx, &s.wdl, m)
}

func (s *Session) sendMessage(ctx context.Context, dl *deadline, m *session.Message) error {
	out, wait, err := s.outgoing(m)
	if err != nil {
		return err
	}
	var end time.Time // of the message's lifetime, which runs while it waits here
	if out.Lifetime > 0 {
		end = time.Now().Add(out.Lifetime)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.shared && (s.closed || s.ended != nil && s.connected) {
			return errStale
		}
		if err := s.sendable(ctx, dl); err != nil {
			return err
		}
		if !end.IsZero() && !outlives(out, end, time.Now()) {
			return session.ErrExpired
		}
		if !s.connected {
			queued, err := s.queue(ctx, out, end, wait)
			if queued || err != nil {
				return err
			}
			continue
		}
		if s.ep.cfg.NoFragments && !s.eng.FitsDatagram(len(out.Header), len(out.Payload)) {
			return session.ErrMessageTooLarge
		}
		now := time.Now()
		switch err := s.eng.SendMessage(now, out); err {
		case nil:
			s.messageSent(now, out)
			if !wait {
				s.flush(now)
				return nil
			}
			return s.awaitSettled(now, ctx, dl, out)
		case reliable.ErrFull:
			s.flush(now)
			s.waitForRoom(ctx, end)
		default:
			if s.ended != nil {
				return s.writeError()
			}
			return translate(err)
		}
	}
}

// sendable returns why nothing can be sent now, or nil.
func (s *Session) sendable(ctx context.Context, dl *deadline) error {
	if s.closed {
		return net.ErrClosed
	}
	if err := over(ctx, dl); err != nil {
		return err
	}
	if s.ended != nil {
		return s.writeError()
	}
	return nil
}

func (s *Session) messageSent(now time.Time, out *reliable.Outgoing) {
	s.used = now
	s.stats.msgsOut++
	s.stats.bytesOut += uint64(len(out.Payload))
}

// queue keeps a message for the end of the handshake, or waits for that if the sender
// waits anyway. It reports whether the message is dealt with.
func (s *Session) queue(ctx context.Context, out *reliable.Outgoing, end time.Time, wait bool) (bool, error) {
	d := s.dial
	if d == nil {
		s.waitForRoom(ctx, end) // for the server to say that it wants this client
		return false, nil
	}
	if int64(len(out.Payload)) > s.ep.cfg.maxMessage() {
		return false, session.ErrMessageTooLarge // the peer will hardly take more than we do
	}
	size := len(out.Header) + len(out.Payload)
	if s.ep.cfg.NoFragments && size > maxUnfragmented {
		return false, session.ErrMessageTooLarge // as the path is not known yet, so is what fits
	}
	if !wait && len(d.queue) < maxQueued && d.queued+size <= maxQueuedBytes {
		d.queue = append(d.queue, waiting{out, end})
		d.queued += size
		return true, nil
	}
	if !wait && d.patience.IsZero() {
		s.ep.stats.lost.Add(1)
		return true, nil
	}
	s.waitForRoom(ctx, end)
	return false, nil
}

// waitForRoom waits until a message may be taken, or its lifetime ends, if it has one.
func (s *Session) waitForRoom(ctx context.Context, end time.Time) {
	if !end.IsZero() {
		t := time.AfterFunc(time.Until(end), func() {
			s.mu.Lock()
			s.room.wake()
			s.mu.Unlock()
		})
		defer t.Stop()
	}
	s.waitOrRead(&s.room, doneOf(ctx))
}

// outlives gives out what is left of its lifetime at now, and reports whether anything
// is.
func outlives(out *reliable.Outgoing, end, now time.Time) bool {
	if end.IsZero() {
		return true
	}
	out.Lifetime = end.Sub(now)
	return out.Lifetime > 0
}

// sendQueued sends what has waited for the handshake. Session.mu is held.
func (s *Session) sendQueued(now time.Time, queue []waiting) {
	for _, w := range queue {
		if !outlives(w.out, w.end, now) || s.eng.SendMessage(now, w.out) != nil {
			s.ep.stats.lost.Add(1)
			continue
		}
		s.messageSent(now, w.out)
	}
}

// awaitSettled waits for the end of a message of which the caller keeps the payload.
func (s *Session) awaitSettled(now time.Time, ctx context.Context, dl *deadline, out *reliable.Outgoing) error {
	op := &sendOp{out: out}
	if s.sends == nil {
		s.sends = make(map[*reliable.Outgoing]*sendOp)
	}
	s.sends[out] = op
	s.flush(now)
	for {
		switch err := s.sendable(ctx, dl); {
		case op.done:
			return translate(out.Err())
		case err != nil:
			delete(s.sends, out)
			s.eng.CancelMessage(time.Now(), out)
			s.flush(time.Now())
			return err
		}
		op.settled.waitOrRead(&s.mu, doneOf(ctx), s.lane)
	}
}

// messageDone wakes who waits for a message. Session.mu is held.
func (s *Session) messageDone(out *reliable.Outgoing) {
	s.used = time.Now()
	if op := s.sends[out]; op != nil {
		delete(s.sends, out)
		op.done = true
		op.settled.wake()
		return
	}
	if s.shared {
		s.leftOver(out)
	}
}

// messageArrived wakes who wants to receive. Session.mu is held.
func (s *Session) messageArrived() {
	switch {
	case !s.connected && !s.client: // the application has not said yet that it wants them
	case s.shared:
		s.ep.markReady(s)
	default:
		s.messages.wake()
	}
}

// takeMessage returns the next message that can be decoded, or nil. Session.mu is held.
func (s *Session) takeMessage(now time.Time) *session.Message {
	for {
		in, ok := s.eng.ReceiveMessage(now)
		if !ok {
			return nil
		}
		h, err := framing.RawHeader(in.Header).AppendUser(nil)
		if err != nil {
			s.ep.stats.malformed.Add(1)
			continue
		}
		s.used = now
		s.stats.msgsIn++
		s.stats.bytesIn += uint64(len(in.Payload))
		return &session.Message{Header: h, Payload: in.Payload, ReqAck: in.Ack}
	}
}

// ReceiveMessage returns the next message. After the peer's end the error is io.EOF.
// The end of ctx and the read deadline end the wait; nothing is lost then.
func (s *Session) ReceiveMessage(ctx context.Context) (*session.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return nil, net.ErrClosed
		}
		if err := over(ctx, &s.rdl); err != nil {
			return nil, err
		}
		if s.eng != nil {
			if s.eng.MessagesWaiting() {
				now := time.Now()
				if m := s.takeMessage(now); m != nil {
					s.flushCredit(now)
					return m, nil
				}
			}
			if s.eng.MessagesEnded() {
				return nil, io.EOF
			}
		}
		if s.ended != nil {
			if s.ended == session.ErrPeerClosed {
				return nil, io.EOF
			}
			return nil, s.ended
		}
		s.waitOrRead(&s.messages, doneOf(ctx))
	}
}

// readMessage is Read of a session without a stream.
func (s *Session) readMessage(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	m, err := s.ReceiveMessage(context.Background())
	if err != nil {
		return 0, err
	}
	return copy(p, m.Payload), nil
}

// writeMessage is Write of a session without a stream.
func (s *Session) writeMessage(p []byte) (int, error) {
	if err := s.SendMessage(context.Background(), &session.Message{Payload: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeMessagesTo is WriteTo of a session without a stream: a Write for each message.
func (s *Session) writeMessagesTo(w io.Writer) (n int64, err error) {
	for {
		m, err := s.ReceiveMessage(context.Background())
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		k, err := w.Write(m.Payload)
		n += int64(k)
		if err != nil {
			return n, &session.CopyError{Err: err}
		}
	}
}
