package stream

import (
	"context"
	"errors"
	"github.com/vstp-go/vstp/internal/session"
	"net"
	"os"
	"time"
)

// aLongTimeAgo is a deadline that interrupts whoever is blocked in the carrier.
var aLongTimeAgo = time.Unix(1, 0)

// A deadline is that of SetReadDeadline or SetWriteDeadline. Session.mu guards it.
type deadline struct {
	t       time.Time
	changed chan struct{} // closed when t changes; nil while nobody waits
}

// An op is one blocking call as seen by those who may have to end it: what bounds
// it in time. An op with a context belongs to one call; see Session.watch.
type op struct {
	ctx      context.Context // may be nil
	dl       *deadline       // may be nil
	limit    time.Time       // may be zero
	limitErr error           // what to return when limit has passed
	closing  bool            // goes on after Close
}

// until returns when the op has to end, zero for never. Session.mu is held.
func (o *op) until() time.Time {
	if o.ctx != nil && o.ctx.Err() != nil {
		return aLongTimeAgo
	}
	t := o.limit
	if o.dl != nil && !o.dl.t.IsZero() && (t.IsZero() || o.dl.t.Before(t)) {
		t = o.dl.t
	}
	return t
}

// expired returns why the op has to end now, or nil. Session.mu is held.
func (s *Session) expired(o *op) error {
	if s.closed && !o.closing {
		return net.ErrClosed
	}
	if o.ctx != nil {
		if err := o.ctx.Err(); err != nil {
			return context.Cause(o.ctx)
		}
	}
	t := o.until()
	if t.IsZero() || time.Now().Before(t) {
		return nil
	}
	if o.dl != nil && t.Equal(o.dl.t) {
		return os.ErrDeadlineExceeded
	}
	return o.limitErr
}

// watch arranges for the end of o's context to interrupt o wherever it is blocked.
// The caller must call the returned function when o is over.
func (s *Session) watch(o *op) (stop func() bool) {
	if o.ctx == nil || o.ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(o.ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.rheld == o {
			s.armRead(aLongTimeAgo)
		}
		if s.wheld == o {
			s.armWrite(aLongTimeAgo)
		}
	})
}

// armRead and armWrite set a deadline on the carrier. Session.mu is held.
func (s *Session) armRead(t time.Time) {
	if !s.rarmed.Equal(t) && !s.draining {
		s.rarmed = t
		s.car.SetReadDeadline(t)
	}
}

func (s *Session) armWrite(t time.Time) {
	if !s.warmed.Equal(t) {
		s.warmed = t
		s.car.SetWriteDeadline(t)
	}
}

// setDeadline is SetReadDeadline and SetWriteDeadline: it applies to calls that
// are blocked too, whether in the carrier or for a token.
func (s *Session) setDeadline(d *deadline, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	d.t = t
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
	// Whoever was interrupted because there is nothing to wait for any more may not
	// have noticed yet: the poller forgets a deadline that is moved.
	if s.rheld != nil && s.rheld.dl == d && s.rerr == nil {
		s.armRead(s.readUntil(s.rheld))
	}
	if s.wheld != nil && s.wheld.dl == d && (s.werr == nil || s.werr == session.ErrWriteClosed) {
		s.armWrite(s.wheld.until())
	}
	return nil
}

// SetReadDeadline is that of net.Conn. It holds for Read and ReceiveMessage.
func (s *Session) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.rdl, t) }

// SetWriteDeadline is that of net.Conn. It holds for Write and SendMessage.
func (s *Session) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.wdl, t) }

// acquire takes the token tok for o, or returns false when ev is closed first. A
// nil tok is never had, a nil ev never closed.
func (s *Session) acquire(tok chan struct{}, o *op, ev <-chan struct{}) (bool, error) {
	select {
	case tok <- struct{}{}:
		return true, nil
	default:
	}
	for {
		s.mu.Lock()
		if err := s.expired(o); err != nil {
			s.mu.Unlock()
			return false, err
		}
		until := o.until()
		var changed chan struct{}
		if o.dl != nil {
			if o.dl.changed == nil {
				o.dl.changed = make(chan struct{})
			}
			changed = o.dl.changed
		}
		s.mu.Unlock()

		var timer *time.Timer
		var timeout <-chan time.Time
		if !until.IsZero() {
			timer = time.NewTimer(time.Until(until))
			timeout = timer.C
		}
		var cancelled <-chan struct{}
		if o.ctx != nil {
			cancelled = o.ctx.Done()
		}
		done := s.done
		if o.closing {
			done = nil
		}
		got, woken := false, false
		select {
		case tok <- struct{}{}:
			got = true
		case <-ev:
			woken = true
		case <-changed:
		case <-timeout:
		case <-cancelled:
		case <-done:
		}
		if timer != nil {
			timer.Stop()
		}
		if got || woken {
			return got, nil
		}
	}
}

// holdRead announces that o, which has taken rtok, is going to read the carrier.
func (s *Session) holdRead(o *op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.expired(o); err != nil {
		return err
	}
	s.rheld = o
	s.armRead(s.readUntil(o))
	return nil
}

// readUntil returns when o, which holds rtok, has to let go of the carrier: at once
// where a Read waits for the token and there are bytes for it already. Session.mu is
// held.
func (s *Session) readUntil(o *op) time.Time {
	if s.inTheWay(o) {
		return aLongTimeAgo
	}
	return o.until()
}

// inTheWay is the condition of readUntil. Session.mu is held.
func (s *Session) inTheWay(o *op) bool {
	return s.readsWait > 0 && o != &s.readOp && (s.buffered || s.result.Legacy && len(s.msgs) > 0)
}

// yields reports whether o, which holds rtok, has to give it to a Read before it goes on.
func (s *Session) yields(o *op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inTheWay(o)
}

// acquireRead is acquire for Read: bytes that others have received for it do not wait
// until the one who reads the carrier has got something.
func (s *Session) acquireRead() error {
	select {
	case s.rtok <- struct{}{}:
		return nil
	default:
	}
	s.mu.Lock()
	s.readsWait++
	if s.rheld != nil && s.rerr == nil {
		s.armRead(s.readUntil(s.rheld))
	}
	s.mu.Unlock()
	_, err := s.acquire(s.rtok, &s.readOp, nil)
	s.mu.Lock()
	s.readsWait--
	s.mu.Unlock()
	return err
}

// releaseRead gives rtok back.
func (s *Session) releaseRead() {
	s.mu.Lock()
	s.rheld = nil
	s.mu.Unlock()
	<-s.rtok
}

// event returns a channel that is closed at the next change. Session.mu is held.
func (s *Session) event() <-chan struct{} {
	if s.ev == nil {
		s.ev = make(chan struct{})
	}
	return s.ev
}

// changed wakes those who wait for a change. Session.mu is held.
func (s *Session) changed() {
	if s.ev != nil {
		close(s.ev)
		s.ev = nil
	}
}

// await blocks until ready returns true, and reads the carrier while nobody else
// does. ready is called with Session.mu held. An error that has ended reading is
// returned only when ready says no.
func (s *Session) await(o *op, ready func() bool) error {
	for {
		s.mu.Lock()
		if err := s.expired(o); err != nil {
			s.mu.Unlock()
			return err
		}
		if ready() {
			s.mu.Unlock()
			return nil
		}
		if s.rerr != nil {
			err := s.rerr
			s.mu.Unlock()
			return err
		}
		ev := s.event()
		s.mu.Unlock()
		got, err := s.acquire(s.rtok, o, ev)
		if err != nil {
			return err
		}
		if !got {
			continue
		}
		if err := s.holdRead(o); err != nil {
			s.releaseRead()
			return err
		}
		err = nil
		select {
		case <-ev: // what came meanwhile may be what o waits for
		default:
			err = s.pump()
		}
		s.releaseRead()
		if err == errStalled {
			if _, err := s.acquire(nil, o, ev); err != nil {
				return err
			}
		}
		// A timeout is looked into at the top, anything else is in s.rerr by now.
	}
}

// isTimeout reports whether err is an expired deadline on the carrier. Whose it
// was is for expired to tell.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
