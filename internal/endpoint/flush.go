package endpoint

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
)

const (
	// maxBatch is how many bytes one write to the socket carries: what a UDP
	// datagram can be in IPv4, which bounds GSO too. maxSegments is the kernel's
	// UDP_MAX_SEGMENTS.
	maxBatch    = 65507
	maxSegments = 64

	// backOff is how long a session waits when the buffer of the socket is full.
	backOff = time.Millisecond

	// backOffCapped is that when the client has to send something first.
	backOffCapped = 50 * time.Millisecond

	// minTimer bounds how often a timer fires: a time in the past must not become a
	// busy loop.
	minTimer = 50 * time.Microsecond
)

// A batch is the memory in which datagrams are made: those of one write, and one more
// of which only its size shows that it does not belong to them.
type batch [2 * 65536]byte

var batches = sync.Pool{New: func() any { return new(batch) }}

// flush sends what the engine has to send, unless somebody else is at it: then that
// one does. Session.mu is held, and is released for each write.
func (s *Session) flush(now time.Time) { s.flushSome(now, -1) }

// flushSome is flush with at most that many writes. It reports whether it has sent
// all that may be sent now. Session.mu is held, and is released for each write.
func (s *Session) flushSome(now time.Time, writes int) (all bool) {
	if s.mob != nil && s.eng != nil && !s.removed && !s.over {
		s.flushStream(now)
	}
	if s.flushing {
		s.asked = true
		return true
	}
	if s.eng == nil || s.removed || s.over {
		return true
	}
	if !s.remote.IsValid() && s.cand == nil { // it began on a byte stream
		s.events()
		s.arm(now)
		return true
	}
	if !s.again.IsZero() {
		if now.Before(s.again) {
			s.arm(now)
			return true
		}
		s.again = time.Time{}
	}
	s.flushing = true
	buf := batches.Get().(*batch)
	all = true
	for ; ; writes-- {
		if writes == 0 {
			all = false
			break
		}
		s.asked = false
		if s.atLimit() {
			break // until more comes from there
		}
		s.challenge(now)
		if s.mob != nil && !s.remote.IsValid() {
			break
		}
		b, size, n, more := s.fill(now, buf[:0])
		if n == 0 {
			// What is aside goes behind the answer to the peer, which may let it pass.
			if s.mob != nil && s.sayAside() && s.asked {
				continue // the session has moved meanwhile, maybe
			}
			break
		}
		s.stats.pktsOut += uint64(n)
		s.stats.wireOut += uint64(len(b))
		s.allowance -= len(b)
		remote, local, sock := s.remote, s.local, s.lane.sock
		s.answerAside(b)
		s.mu.Unlock()
		err := sock.Write(b, size, remote, local)
		s.ep.wrote(n, len(b), err)
		s.mu.Lock()
		if n == 1 && !more && err == nil && !s.asked && s.mob == nil {
			s.unsent = 0
			break // one packet, as in every short exchange: nothing has changed since
		}
		now = time.Now()
		if err == nil {
			s.unsent = 0
		} else if !s.writeFailed(now, err, size) {
			break
		}
		if !more && !s.asked && writes == 1 {
			break // the engine had no more, and nobody has given it more since
		}
	}
	batches.Put(buf)
	s.flushing = false
	s.events()
	s.arm(now)
	return all
}

// flushCredit is flush after something was read, which most often makes nothing to send.
// Session.mu is held.
func (s *Session) flushCredit(now time.Time) {
	if s.mob != nil || s.eng.CreditDue() {
		s.flush(now)
	}
}

// atLimit reports whether nothing may be sent before more has come. Session.mu is held.
func (s *Session) atLimit() bool {
	return s.capped && s.eng != nil && s.allowance < s.eng.LargestDatagram()
}

// fill makes the datagrams of one write: all of one size, but for the last one, which
// may be smaller. A probe of the path's MTU goes alone: if it is larger than the device
// takes, all of its write is lost. fill returns that size and their number, and whether
// there is more.
func (s *Session) fill(now time.Time, b []byte) (_ []byte, size, n int, more bool) {
	b = append(b, s.carry...)
	s.carry = s.carry[:0]
	if len(b) > 0 {
		size, n = len(b), 1
	}
	most := min(s.ep.segments, maxSegments)
	if s.capped {
		most = 1
	}
	if size > s.eng.LargestDatagram() {
		return b, size, n, true
	}
	for n < most || n == 0 {
		if n > 0 && len(b)+size > maxBatch {
			break // a full one would have to be carried over
		}
		start := len(b)
		b = s.eng.AppendDatagram(now, b)
		m := len(b) - start
		switch {
		case m == 0:
			return b, size, n, false
		case n == 0:
			size = m
		case m > size || len(b) > maxBatch:
			s.carry = append(s.carry, b[start:]...)
			return b[:start], size, n, true
		}
		n++
		if m < size || m > s.eng.LargestDatagram() {
			break
		}
	}
	return b, size, n, true
}

// writeFailed looks into an error of the socket, none of which ends the session, and
// reports whether to go on sending. Trap U1, U2, U5. Session.mu is held.
func (s *Session) writeFailed(now time.Time, err error, size int) bool {
	s.stats.sendErrors++
	if s.mob != nil && !errors.Is(err, udpio.ErrAgain) && !errors.Is(err, udpio.ErrTooLarge) {
		s.mob.sendErrors++
		s.mob.next = now
	}
	switch {
	case errors.Is(err, udpio.ErrTooLarge):
		s.eng.DatagramTooLarge(now, size)
		return true
	case errors.Is(err, net.ErrClosed):
		s.carry = s.carry[:0]
		return false // the endpoint is about to end everything
	}
	s.noWay(now, err)
	// What was in the batch is lost, as on any link. Whatever keeps the socket from
	// sending, asking at once again would not help.
	s.again = now.Add(backOff)
	return false
}

// flushRest goes on where the reader of the socket has stopped.
func (s *Session) flushRest() {
	s.mu.Lock()
	s.flush(time.Now())
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}

// arm sets the timer if it would fire too late. Session.mu is held. Trap D4, D5.
func (s *Session) arm(now time.Time) {
	if s.removed {
		return
	}
	next := s.wakeup()
	if !s.again.IsZero() && (next.IsZero() || next.Before(s.again)) {
		next = s.again // nothing can be sent before
	}
	if next.IsZero() || !s.armed.IsZero() && !next.Before(s.armed) {
		return
	}
	d := max(next.Sub(now), minTimer)
	if least := s.stuck(now); least > 0 {
		d = max(d, least)
	}
	if s.atLimit() {
		d = max(d, backOffCapped)
	}
	at := now.Add(d)
	if !s.armed.IsZero() && !at.Before(s.armed) {
		return // whoever asks all the time would put it off for ever
	}
	s.armed = at
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.fire)
	} else {
		s.timer.Reset(d)
	}
}

// wakeup returns when the session wants to do something, zero for never.
func (s *Session) wakeup() time.Time {
	d := s.dial
	switch {
	case d != nil && s.eng == nil:
		return s.dialWakeup(d)
	case s.eng == nil:
		return time.Time{}
	case s.over || s.eng.Done():
		return s.used // it is over: the timer looks whether it can be forgotten
	}
	t := s.eng.Timeout()
	if d != nil { // with 0-RTT there are both
		if at := s.dialWakeup(d); t.IsZero() || at.Before(t) {
			t = at
		}
	}
	for _, end := range [...]time.Time{s.limit(), s.stillbornAt(), s.sealedAt(), s.candidateAt(), s.mobileAt()} {
		if !end.IsZero() && (t.IsZero() || end.Before(t)) {
			t = end
		}
	}
	if s.shared && !s.closed && s.ended == nil {
		if idle := s.idleAt(); t.IsZero() || idle.Before(t) {
			t = idle
		}
	}
	return t
}

// fire is what the timer calls.
func (s *Session) fire() {
	s.mu.Lock()
	if s.removed {
		s.mu.Unlock()
		return
	}
	s.armed = time.Time{}
	now := time.Now()
	if s.dial != nil && s.eng == nil {
		s.dialTimer(now) // releases mu
		return
	}
	if s.eng != nil {
		s.eng.Advance(now)
		s.events()
		s.mobileDue(now)
		s.noAnswer(now)
		s.closeIdle(now)
		s.endLate(now)
		s.endStillborn(now)
		if s.sealedDue(now) {
			go s.runSealed()
		}
		s.flush(now)
		s.arm(now)
	}
	if s.dial != nil {
		s.dialTimer(now) // releases mu
		return
	}
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}

// gone reports whether nothing is left to be done, once. Session.mu is held.
func (s *Session) gone() bool {
	if s.removed || s.flushing || s.dial != nil || s.eng != nil && !s.over && !s.eng.Done() {
		return false
	}
	if s.mob != nil && !s.over && s.mob.pumping() {
		return false // the end is on its way
	}
	s.removed = true
	s.endMobile()
	if s.timer != nil {
		s.timer.Stop()
	}
	return true
}
