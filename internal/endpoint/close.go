package endpoint

import (
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// Close ends the session. It blocks until the peer has all that Write and SendMessage
// have accepted, at most Config.Linger; the error is session.ErrUnsent if that was
// not enough. Blocked calls return net.ErrClosed at once.
func (s *Session) Close() error { return s.close(nil) }

// CloseWithError ends the session at once and tells the peer why.
func (s *Session) CloseWithError(code framing.ErrorCode, reason string) error {
	return s.close(&handshake.Error{Code: code, Reason: reason})
}

func (s *Session) close(cause *handshake.Error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.wakeAll()
	now := time.Now()
	s.limitEnd(now, false)
	var err error
	if cause == nil {
		err = s.shutdown()
	} else if s.eng != nil && s.ended == nil {
		s.eng.Close(now, uint64(cause.Code), cause.Reason)
		s.flush(now)
	}
	if s.dial != nil {
		s.dialEnded(net.ErrClosed)
	}
	gone := s.gone()
	s.mu.Unlock()
	s.rdl.end()
	s.wdl.end()
	if gone {
		s.ep.remove(s)
	}
	return err
}

// shutdown ends the session when the peer has all, or the linger time is over. What
// waits for a handshake may go out too. Session.mu is held.
func (s *Session) shutdown() error {
	linger := s.ep.cfg.Linger
	late := linger <= 0
	if s.ended == nil && !late {
		t := time.AfterFunc(linger, func() {
			s.mu.Lock()
			late = true
			s.others.wake()
			s.mu.Unlock()
		})
		defer t.Stop()
	}
	for s.hasHeld() && s.ended == nil && !late {
		s.waitOrRead(&s.others, nil)
	}
	if s.eng == nil || s.ended != nil {
		return nil
	}
	s.beginEnd(time.Now())
	for s.ended == nil && !late {
		s.waitOrRead(&s.others, nil)
	}
	switch {
	case s.ended == session.ErrIdleTimeout && s.eng.Unacked(0) > 0:
		return session.ErrUnsent
	case s.ended != nil:
		return nil // it has everything, or wants no more
	}
	now := time.Now()
	s.eng.Close(now, 0, "") // the engine tells the peer that something is missing
	s.flush(now)
	if linger <= 0 {
		return nil
	}
	return session.ErrUnsent
}

// hasHeld reports whether messages wait for the end of a handshake. Session.mu is held.
func (s *Session) hasHeld() bool {
	if s.dial != nil {
		return len(s.dial.queue) > 0
	}
	return s.sealed != nil && len(s.sealed.held) > 0
}

// beginEnd has the engine send what is left, and end. Session.mu is held.
func (s *Session) beginEnd(now time.Time) {
	if s.stream {
		s.eng.StopReading(now, 0)
		if !s.wclosed {
			s.wclosed = true
			s.eng.CloseWrite(0)
		}
	}
	s.eng.Shutdown(now)
	s.events()
	s.flush(now)
}

// closeGrace is how long an end goes on at most beyond Config.Linger: time to tell
// the peer once more that there will be nothing, and for its answer.
const closeGrace = time.Second

// limitEnd has a session that was closed be forgotten in time, whatever becomes of its
// peer. If it is alone, nobody waits in Close to end it before. Session.mu is held.
func (s *Session) limitEnd(now time.Time, alone bool) {
	if s.endBy.IsZero() {
		s.endBy = now.Add(max(s.ep.cfg.Linger, 0) + closeGrace)
		s.alone = alone
		s.arm(now)
	}
}

// limit returns when endLate has something to do, zero for never.
func (s *Session) limit() time.Time {
	if s.alone && s.ended == nil {
		return s.endBy.Add(-closeGrace)
	}
	return s.endBy
}

// endLate ends what limitEnd has set a limit to. Session.mu is held.
func (s *Session) endLate(now time.Time) {
	if s.endBy.IsZero() || now.Before(s.limit()) {
		return
	}
	if now.Before(s.endBy) {
		s.eng.Close(now, 0, "") // the engine tells the peer that something is missing
		s.events()
		return
	}
	if s.ended == nil {
		s.ended = session.ErrUnsent
		s.wakeAll()
	}
	s.over = true
}

// awaitEnd waits for the end of a session that was closed before.
func (s *Session) awaitEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limitEnd(time.Now(), true)
	for s.ended == nil && !s.removed && (s.eng != nil || s.dial != nil) {
		s.waitOrRead(&s.others, nil)
	}
}

// retire is Close for a session that no application knows: nobody waits.
func (s *Session) retire(now time.Time) {
	s.mu.Lock()
	s.limitEnd(now, true)
	if !s.closed {
		s.closed = true
		if s.dial != nil {
			s.dialEnded(net.ErrClosed)
		} else if s.ended == nil {
			s.beginEnd(now)
		}
		s.wakeAll()
	}
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}

// reject ends a session at once, and tells the peer why. Nobody waits.
func (s *Session) reject(code framing.ErrorCode, reason string) {
	s.mu.Lock()
	if !s.closed && s.eng != nil {
		s.closed = true
		now := time.Now()
		s.limitEnd(now, true)
		s.eng.Close(now, uint64(code), reason)
		s.flush(now)
		s.wakeAll()
	}
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}

// forget ends a session whose socket is gone.
func (s *Session) forget(err error) {
	s.mu.Lock()
	s.dial = nil
	if s.sealed != nil {
		s.sealed.end()
	}
	if s.ended == nil {
		s.ended = err
	}
	s.wakeAll()
	first := !s.removed
	s.removed = true
	s.endMobile()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	if first {
		s.ep.remove(s)
	}
}

// sharedIdle is how long an association for messages is kept that nobody uses, at most.
const sharedIdle = time.Minute

// idleAt returns when closeIdle may end a shared session. The client is the first to do
// so, some time before the server does, or the idle timeout: a message of a client that
// sends once in a while does not meet the end on its way.
func (s *Session) idleAt() time.Time {
	if !s.client {
		used := s.used
		if s.heard.After(used) {
			used = s.heard // a client that keeps it alive wants it
		}
		return used.Add(sharedIdle + sharedIdle/6)
	}
	d := sharedIdle
	if idle := s.result.Idle; idle > 0 {
		d = min(d, idle/4*3)
	}
	return s.used.Add(d)
}

// closeIdle ends a shared session that was not used for long. Session.mu is held.
func (s *Session) closeIdle(now time.Time) {
	if !s.shared || s.closed || s.ended != nil || now.Before(s.idleAt()) {
		return
	}
	if len(s.sends) > 0 || !s.eng.Quiet() {
		s.used = now // also that the timer does not fire again at once
		return
	}
	s.closed = true
	s.ep.unshare(s)
	s.beginEnd(now)
}
