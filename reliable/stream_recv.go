package reliable

import (
	"io"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// streamReceived takes a STREAM chunk.
func (a *Assoc) streamReceived(t instant, c *chunk) error {
	end := c.offset + uint64(len(c.data))
	if end > framing.MaxVarint {
		return protocolError("stream too long")
	}
	s, err := a.peerStream(c.id)
	if s == nil {
		return err
	}
	if err := a.account(s, int64(end), c.fin); err != nil {
		return err
	}
	if s.stopped || s.readErr != nil {
		a.discard(t, s)
		return nil
	}
	if a.readPast(t, s, c) {
		return nil
	}
	before := s.in.ready()
	if !s.in.write(a.blocks(), int64(c.offset), c.data) {
		return errNoRoom
	}
	a.commit(s, int64(end), c.fin)
	if c.fin && s.id == 0 && !a.messagesOver {
		a.messagesOver = true
		a.event(Event{Kind: EventMessagesEnd})
	}
	if s.in.ready() > before || s.final >= 0 && s.in.read+int64(s.in.ready()) == s.final {
		a.readable(s)
	}
	return nil
}

// account checks what a chunk says about offsets against what was said before and
// what was granted.
func (a *Assoc) account(s *stream, end int64, fin bool) error {
	switch {
	case s.final >= 0 && (end > s.final || fin && end != s.final), fin && end < s.received:
		return protocolError("the stream's end has moved")
	case end > s.granted:
		return protocolError("more than the stream's credit")
	case end-s.received > a.granted-a.received:
		return protocolError("more than the credit of all streams")
	}
	if s.stopped || s.readErr != nil {
		a.commit(s, end, fin)
	}
	return nil
}

// commit notes what account has found right.
func (a *Assoc) commit(s *stream, end int64, fin bool) {
	if end > s.received {
		a.received += end - s.received
		s.received = end
	}
	if fin {
		s.final = end
	}
}

func (a *Assoc) readable(s *stream) {
	if !s.announced {
		s.announced = true
		a.event(Event{Kind: EventReadable, Stream: s.id})
	}
}

// discard counts what nobody will read as read.
func (a *Assoc) discard(t instant, s *stream) {
	if n := s.received - s.in.read; n > 0 {
		s.in.read = s.received
		s.in.drop(a.blocks())
		a.consume(t, n)
	}
	a.checkOver(s)
}

// Read copies what has come to p. It returns 0 and nil if nothing has, io.EOF at the
// end of the stream. A stream other than 0 is forgotten when both directions have
// ended and Read has told so; calls return ErrNoStream from then on.
func (a *Assoc) Read(now time.Time, id StreamID, p []byte) (int, error) {
	t := a.tick(now)
	s := a.streams.get(id)
	if s == nil {
		return 0, ErrNoStream
	}
	s.announced = false
	n := 0
	for n < len(p) {
		q := s.in.peek()
		if len(q) == 0 {
			break
		}
		m := copy(p[n:], q)
		n += m
		s.in.skip(a.blocks(), m)
	}
	if n > 0 {
		a.streamConsumed(t, s, int64(n))
		return n, nil
	}
	return 0, a.readEnd(s)
}

// Peek returns bytes that can be read, in one piece, without taking them. They are
// valid until the next call of a method of a.
func (a *Assoc) Peek(id StreamID) ([]byte, error) {
	s := a.streams.get(id)
	if s == nil {
		return nil, ErrNoStream
	}
	s.announced = false
	if q := s.in.peek(); len(q) > 0 {
		return q, nil
	}
	return nil, a.readEnd(s)
}

// Skip takes n bytes that Peek has shown.
func (a *Assoc) Skip(now time.Time, id StreamID, n int) {
	t := a.tick(now)
	if s := a.streams.get(id); s != nil && n > 0 {
		s.in.skip(a.blocks(), n)
		a.streamConsumed(t, s, int64(n))
	}
}

// readEnd says why nothing can be read: nil if there may be something later.
func (a *Assoc) readEnd(s *stream) error {
	switch {
	case s.final >= 0 && s.in.read == s.final && s.readErr == nil:
		s.toldEnd = true
		a.checkOver(s)
		return io.EOF
	case s.readErr != nil:
		s.toldEnd = true
		a.checkOver(s)
		return s.readErr
	case a.err == ErrPeerClosed:
		return ErrTruncated
	}
	return a.err
}

// streamConsumed gives credit back for n bytes.
func (a *Assoc) streamConsumed(t instant, s *stream, n int64) {
	a.consume(t, n)
	if s.final >= 0 {
		return
	}
	if s.granted-s.in.read > s.window/2 {
		return
	}
	s.window = a.tune(t, s.window, a.c.ReceiveWindow, s.grantedAt)
	s.grantedAt = t
	s.granted = s.in.read + s.window
	s.grantDue = true
	a.attend(s)
}

// consume gives credit of the association back.
func (a *Assoc) consume(t instant, n int64) {
	a.consumed += n
	a.rested = false
	if a.granted-a.consumed > a.window/2 {
		return
	}
	a.window = a.tune(t, a.window, a.maxWindow(), a.grantedAt)
	a.grantedAt = t
	a.granted = a.consumed + a.window
	a.maxDataDue = true
}

// defaultReceiveWindow is where the credit of a stream ends to grow. It is five times what
// is on its way at 1 Gbit/s and 100 ms: a packet that is lost, and lost again, holds up what
// is sent meanwhile. A window grows only while the application reads half of it within two
// round trips.
const defaultReceiveWindow = 64 << 20

// tune doubles a window of which half was used within two round trips, as then the
// path could carry more.
func (a *Assoc) tune(t instant, window, limit int64, since instant) int64 {
	if window < limit && since != 0 && t.sub(since) < 2*a.rtt.smoothed {
		return min(2*window, limit)
	}
	return window
}

// StopReading drops what has come and will come, and asks the peer to send no more.
func (a *Assoc) StopReading(now time.Time, id StreamID) {
	t := a.tick(now)
	s := a.streams.get(id)
	if s == nil || s.stopped {
		return
	}
	s.stopped = true
	a.discard(t, s)
	if s.final < 0 && a.err == nil {
		s.stopDue = true
		a.attend(s)
	}
}

// resetReceived takes a RESET_STREAM: the peer gives the rest up.
func (a *Assoc) resetReceived(t instant, c *chunk) error {
	s, err := a.peerStream(c.id)
	if s == nil {
		return err
	}
	if c.total > framing.MaxVarint {
		return protocolError("stream too long")
	}
	if err := a.account(s, int64(c.total), true); err != nil {
		return err
	}
	// Where all up to FIN is there, the stream is complete. RFC 9000 §3.2. But with
	// no FIN, all that was sent is not all that was meant.
	complete := s.final >= 0 && s.in.read+int64(s.in.ready()) == s.final
	a.commit(s, int64(c.total), true)
	if s.readErr == nil && !complete {
		s.readErr = ErrStreamReset
		a.readable(s)
	}
	if s.readErr != nil || s.stopped {
		a.discard(t, s)
	}
	return nil
}

// stopReceived takes a STOP_SENDING: nobody reads what this side sends.
func (a *Assoc) stopReceived(c *chunk) error {
	s, err := a.peerStream(c.id)
	if s == nil {
		return err
	}
	if !s.reset && s.fin != finAcked {
		a.resetStream(s, c.value, ErrPeerClosed)
	}
	return nil
}
