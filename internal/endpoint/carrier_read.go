package endpoint

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/reliable"
)

// A byte stream is read by a goroutine in the background. After that one has woken a Read
// or a Write, the next one that has to wait takes its place: it needs nobody to wake it then,
// and bytes go from the socket to where a Read wants them. The goroutine comes back when none
// has come for a grace, or somebody else waits.

// streamGrace is how long nobody needs to read a byte stream after a Read or Write.
const streamGrace = time.Millisecond

// streamTurns says who reads a byte stream. Session.mu guards it.
type streamTurns struct {
	parked      bool          // the goroutine waits for resume
	resume      chan struct{} // one element; made when it is needed
	held        bool          // a Read or Write reads instead
	reading     bool          // it is in the Bearer
	interrupted bool          // and was told to return
	count       uint64        // turns so far
	armed       uint64        // and when the timer was set
	timer       *time.Timer   // runs while parked
	want        int64         // offset of the byte that Read wants
	plan        func(begin []byte) (at, n int)
}

// maxReadAhead is how many packets that came at once are taken at once.
const maxReadAhead = 64

// readStream gives the engine what comes on b, until that ends.
func (s *Session) readStream(b *bearer) {
	for {
		p, err := b.ReadPacket()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue // of somebody whose turn is over
		}
		s.mu.Lock()
		reads, writes := s.readers.head != nil, s.writers.head != nil
		err = s.receiveFrames(time.Now(), b, p, err)
		gone := s.gone()
		park := err == nil && !gone && (reads || writes) && s.park(b)
		s.mu.Unlock()
		if gone {
			s.ep.remove(s)
		}
		if err != nil {
			b.Close()
			return
		}
		if park {
			<-b.turns.resume
		}
	}
}

// receiveFrames takes p, which came on b if err is nil, and what came with it. Session.mu is
// held, and is released for writes.
func (s *Session) receiveFrames(now time.Time, b *bearer, p []byte, err error) error {
	for n := 1; ; n++ {
		if err == nil {
			err = s.receiveFrame(now, b, p)
		}
		if err != nil || n == maxReadAhead || !b.Buffered() {
			break
		}
		p, err = b.ReadPacket()
	}
	s.received(now, b, err)
	return err
}

// received does what there is to do after packets were taken. Session.mu is held, and is
// released for writes.
func (s *Session) received(now time.Time, b *bearer, err error) {
	if err != nil {
		s.streamGone(now, b, err)
	}
	s.events()
	if !s.removed {
		s.watchIfDue(now)
		s.flush(now)
	}
}

// receiveFrame takes a packet of the byte stream. Session.mu is held.
func (s *Session) receiveFrame(now time.Time, b *bearer, p []byte) error {
	if err := s.expectFrame(b, p); err != nil {
		return err
	}
	s.stats.wireIn += uint64(len(p))
	return s.frameReceived(now, s.eng.ReceiveFrame(now, p))
}

// receiveData is receiveFrame for a packet of which data was read to where it belongs. It
// reports whether data counts as read.
func (s *Session) receiveData(now time.Time, b *bearer, head, data, trailer []byte) (bool, error) {
	if err := s.expectFrame(b, head); err != nil {
		return false, err
	}
	s.stats.wireIn += uint64(len(head) + len(data) + len(trailer))
	got, read := s.eng.ReceiveFrameData(now, head, data, trailer)
	return read, s.frameReceived(now, got)
}

// expectFrame looks whether a packet may come. Session.mu is held.
func (s *Session) expectFrame(b *bearer, p []byte) error {
	if s.mob.bearer != b || s.removed {
		return io.EOF // it is not ours any more
	}
	if id, _, kind := handshake.RouteID(p); kind != handshake.KindPacket || reliable.ConnID(id) != s.id {
		return errStranger
	}
	s.stats.pktsIn++
	return nil
}

// frameReceived notes what has become of a packet. Session.mu is held.
func (s *Session) frameReceived(now time.Time, got reliable.Received) error {
	if !got.Opened {
		return errStranger
	}
	s.arrived(now, reliable.ByteStream)
	s.heard = now
	return nil
}

// readOrWait waits in q, for a Read with p or for a Write. If it returns n > 0, it has read that
// many bytes to p. Session.mu is held, and is released meanwhile.
func (s *Session) readOrWait(q *waitq, p []byte) (n int) {
	var b *bearer
	if s.mob != nil && s.eng.Active() == reliable.ByteStream {
		b = s.mob.bearer
	}
	if b == nil || !b.turns.parked || b.turns.held || s.removed {
		s.waitOrRead(q, nil)
		return 0
	}
	t := &b.turns
	t.held = true
	t.count++
	w := q.enter(b)
	var err error
	for w.queued && n == 0 && err == nil {
		n, err = s.readTurn(b, p)
	}
	q.leave(w)
	t.held = false
	if err != nil || s.mob.bearer != b || s.othersWait() {
		s.unpark(b) // it finds the same error
	}
	if n > 0 {
		s.stats.bytesIn += uint64(n)
	}
	if s.gone() {
		s.mu.Unlock()
		s.ep.remove(s)
		s.mu.Lock()
	}
	return n
}

// readTurn reads b once for a Read or Write. Session.mu is held, and is released meanwhile.
func (s *Session) readTurn(b *bearer, p []byte) (n int, err error) {
	t := &b.turns
	t.want = s.eng.NextRead()
	t.reading = true
	s.mu.Unlock()
	packet, n, trailer, err := b.ReadPacketTo(p, t.plan)
	now := time.Now()
	s.mu.Lock()
	t.reading = false
	if t.interrupted {
		t.interrupted = false
		b.SetReadDeadline(time.Time{})
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, s.receiveFrames(now, b, packet, nil)
	}
	read, err := s.receiveData(now, b, packet, p[:n], trailer)
	if !read {
		n = 0
	}
	s.received(now, b, err)
	return n, err
}

// interrupt ends the turn of a Read or Write. Session.mu is held.
func (b *bearer) interrupt() {
	if t := &b.turns; t.reading && !t.interrupted {
		t.interrupted = true
		b.SetReadDeadline(aLongTimeAgo)
	}
}

// aLongTimeAgo is a deadline that interrupts who reads.
var aLongTimeAgo = time.Unix(1, 0)

// park has the goroutine in the background wait, if it may. Session.mu is held.
func (s *Session) park(b *bearer) bool {
	if s.mob.bearer != b || s.removed || s.closed || s.othersWait() {
		return false
	}
	t := &b.turns
	t.parked, t.armed = true, t.count
	if t.resume == nil {
		t.resume = make(chan struct{}, 1)
		t.plan = func(begin []byte) (at, n int) { return reliable.StreamData(begin, t.want) }
		t.timer = time.AfterFunc(streamGrace, func() { s.graceOver(b) })
	} else {
		t.timer.Reset(streamGrace)
	}
	return true
}

// graceOver has the goroutine in the background go on, unless a Read or Write has come meanwhile.
func (s *Session) graceOver(b *bearer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &b.turns
	switch {
	case !t.parked:
	case t.held, t.count != t.armed:
		t.armed = t.count
		t.timer.Reset(streamGrace)
	default:
		s.unpark(b)
	}
}

// unpark has the goroutine in the background go on, if nobody is in its place: then that
// one does so. Session.mu is held.
func (s *Session) unpark(b *bearer) {
	if t := &b.turns; t.parked && !t.held {
		t.parked = false
		t.timer.Stop()
		t.resume <- struct{}{}
	}
}

// letGo ends what the session has to do with a byte stream: who waits to read it finds that
// out. Session.mu is held.
func (s *Session) letGo(b *bearer) {
	s.mob.bearer = nil
	s.unpark(b)
}

// readStreamAgain is called by who is about to wait for something from the peer.
// Session.mu is held.
func (s *Session) readStreamAgain() {
	if b := s.mob.bearer; b != nil {
		s.unpark(b)
	}
}

// othersWait reports whether calls wait for something that has to be read. Session.mu is
// held.
func (s *Session) othersWait() bool {
	return s.readers.head != nil || s.writers.head != nil || s.messages.head != nil || s.room.head != nil ||
		s.others.head != nil || len(s.sends) > 0 || s.mob.waiters.head != nil
}

// enter and leave are around the turn of a Read, which is in the queue meanwhile. The
// mutex that guards q is held.
func (q *waitq) enter(b *bearer) *waiter {
	w := q.free
	q.free = nil
	if w == nil {
		w = &waiter{ch: make(chan struct{}, 1)}
	}
	w.next, w.queued, w.stream = q.head, true, b
	q.head = w
	return w
}

func (q *waitq) leave(w *waiter) {
	if w.queued {
		q.remove(w)
	} else {
		<-w.ch
	}
	w.stream = nil
	q.free = w
}
