package stream

import (
	"os"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// startService starts the timer of a session that has something to look after
// while its application does nothing: PINGs to send, an idle timeout to watch, or a
// peer with an idle timeout, whose PINGs want an answer although nobody calls Read.
// No goroutine runs between two ticks. Session.mu is held.
func (s *Session) startService() {
	d := s.serviceInterval()
	if d == 0 {
		return
	}
	s.epoch = time.Now()
	s.lastSeen.Store(0)
	s.serviced.Store(true)
	s.service = time.AfterFunc(d, s.serve)
}

// stopService stops the timer. Session.mu is held.
func (s *Session) stopService() {
	if s.service != nil {
		s.service.Stop()
	}
}

// serviceInterval returns the time between two ticks, 0 if none are needed.
func (s *Session) serviceInterval() time.Duration {
	if s.result.Legacy {
		return 0
	}
	d := s.cfg.KeepAlive
	if third := s.result.Idle / 3; third > 0 && (d == 0 || third < d) {
		d = third
	}
	return d
}

// serve is one tick.
func (s *Session) serve() {
	before := s.lastSeen.Load()
	stalled := s.poll()
	now := time.Since(s.epoch)
	if stalled {
		s.lastSeen.Store(int64(now)) // the silence is ours
	}
	silence := now - time.Duration(s.lastSeen.Load())
	quiet := now - time.Duration(before) // what poll has read came at some time since
	s.mu.Lock()
	if s.closed || s.rerr != nil {
		s.mu.Unlock()
		return
	}
	writing := s.wheld != nil
	idle := s.result.Idle
	if idle > 0 && silence >= idle && !(writing && s.car.Responsive(idle)) {
		s.mu.Unlock()
		s.fail(session.ErrIdleTimeout, &handshake.Error{Code: framing.CodeTimeout, Reason: "idle"})
		return
	}
	next := s.serviceInterval()
	if k := s.cfg.KeepAlive; k > 0 {
		if quiet >= k {
			s.queuePing()
			defer s.kick()
		} else {
			next = min(next, k-quiet)
		}
	}
	if idle > 0 && silence < idle {
		next = min(next, idle-silence)
	}
	s.service.Reset(next)
	s.mu.Unlock()
}

// poll reads what has already arrived, if nobody else is reading. It reports
// whether there is more that only the application can make room for.
func (s *Session) poll() (stalled bool) {
	select {
	case s.rtok <- struct{}{}:
	default:
		return false
	}
	defer s.releaseRead()
	o := &op{limit: time.Now().Add(serviceSlice), limitErr: os.ErrDeadlineExceeded}
	for {
		if s.holdRead(o) != nil {
			return false
		}
		switch err := s.pump(); {
		case err == errStalled:
			return true
		case err != nil && (!isTimeout(err) || s.yields(o)):
			return false
		}
	}
}
