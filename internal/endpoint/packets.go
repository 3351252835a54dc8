package endpoint

import (
	"context"
	"net"
	"time"

	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
)

const (
	// maxOrphans is how many ended associations are kept for the messages in them.
	maxOrphans = 1024

	// sendAttempts is how often a message looks for an association that can take it:
	// one may end between it is found and it is used.
	sendAttempts = 3
)

// An inbox is where ReceiveMessage looks. Endpoint.mu guards it.
type inbox struct {
	ready   []*Session  // with messages; they take turns
	room    [4]*Session // which ready begins in, as it is empty most of the time
	orphans int         // of those, how many the endpoint has forgotten
	crate   []received
	last    bool  // the last one was of crate
	size    int64 // of crate
	waiters waitq
}

// received is a message without an association.
type received struct {
	m    *session.Message
	size int64
	from net.Addr
}

// markReady notes that s has messages. Session.mu is held.
func (e *Endpoint) markReady(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !s.ready {
		s.ready = true
		if e.inbox.ready == nil {
			e.inbox.ready = e.inbox.room[:0]
		}
		e.inbox.ready = append(e.inbox.ready, s)
	}
	e.inbox.waiters.wake()
}

// orphan is called when the endpoint forgets s.
func (in *inbox) orphan(s *Session) {
	if !s.ready {
		return
	}
	if in.orphans < maxOrphans {
		in.orphans++
		s.orphan = true
		return
	}
	for i, t := range in.ready {
		if t == s {
			in.ready = append(in.ready[:i], in.ready[i+1:]...)
			s.ready = false
			return
		}
	}
}

// pop takes the session whose turn it is.
func (in *inbox) pop() *Session {
	s := in.ready[0]
	in.ready[0] = nil
	if in.ready = in.ready[1:]; len(in.ready) == 0 {
		in.ready = in.room[:0]
	}
	s.ready = false
	if s.orphan {
		s.orphan = false
		in.orphans--
	}
	return s
}

// ReceiveMessage returns the next message of any association for messages, or of a
// crate peer, and the address it came from.
func (e *Endpoint) ReceiveMessage(ctx context.Context) (*session.Message, net.Addr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if e.closed {
			return nil, nil, net.ErrClosed
		}
		if err := over(ctx, &e.rdl); err != nil {
			return nil, nil, err
		}
		in := &e.inbox
		switch {
		case len(in.crate) > 0 && (!in.last || len(in.ready) == 0):
			in.last = true
			c := in.crate[0]
			in.crate[0] = received{}
			in.crate = in.crate[1:]
			in.size -= c.size
			return c.m, c.from, nil
		case len(in.ready) > 0:
			in.last = false
			s := in.pop()
			e.mu.Unlock()
			m, from := s.receiveShared()
			e.mu.Lock()
			if m != nil {
				return m, from.NetAddr(), nil
			}
			continue
		case e.failed != nil:
			return nil, nil, e.failed
		case e.whenIdle:
			return nil, nil, net.ErrClosed
		}
		if len(e.lanes) > 1 {
			in.waiters.waitFor(&e.mu, doneOf(ctx), e.lanes[0], true)
		} else {
			in.waiters.waitOrRead(&e.mu, doneOf(ctx), e.lanes[0])
		}
	}
}

// receiveShared takes one message, and gives up the turn of s. It returns the address
// of the peer, too.
func (s *Session) receiveShared() (*session.Message, udpio.Addr) {
	s.mu.Lock()
	from := s.remote
	if s.eng == nil {
		s.mu.Unlock()
		return nil, from
	}
	now := time.Now()
	m := s.takeMessage(now)
	if s.eng.MessagesWaiting() {
		s.ep.markReady(s)
	}
	s.flushCredit(now)
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
	return m, from
}

// SendMessage sends a message to an address: over the association for messages that
// there is with it, or over a new one. A message that its sender need not wait for is
// kept, within bounds, until the new one stands. The write deadline and ctx apply.
func (e *Endpoint) SendMessage(ctx context.Context, m *session.Message, to udpio.Addr) error {
	if err := checkMessage(m); err != nil {
		return err
	}
	if err := over(ctx, &e.wdl); err != nil {
		return err
	}
	if e.cfg.Legacy || e.crate.knows(to.AddrPort) {
		return e.crate.send(ctx, m, to)
	}
	var err error
	for range sendAttempts {
		var s *Session
		if s, err = e.sharedSession(to); err != nil {
			return err
		}
		if err = s.sendMessage(ctx, &e.wdl, m); err != errStale {
			return err
		}
		e.unshare(s)
	}
	return net.ErrClosed
}

// sharedSession returns the association for messages to an address. Without one, it
// begins one in the background.
func (e *Endpoint) sharedSession(to udpio.Addr) (*Session, error) {
	e.mu.Lock()
	err := e.usable()
	s := e.shared[to.AddrPort]
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if s != nil {
		return s, nil
	}
	if s, err = e.newDial(to, false, true); err != nil {
		return nil, err
	}
	s.sayHello(true)
	return s, nil
}

// unshare makes the next message to the peer of s take a new association.
func (e *Endpoint) unshare(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shared[s.remote.AddrPort] == s {
		delete(e.shared, s.remote.AddrPort)
	}
}

// SetReadDeadline holds for ReceiveMessage, SetWriteDeadline for SendMessage; blocked
// calls too.
func (e *Endpoint) SetReadDeadline(t time.Time) error { return e.setDeadline(&e.rdl, t) }

// SetWriteDeadline is described at SetReadDeadline.
func (e *Endpoint) SetWriteDeadline(t time.Time) error { return e.setDeadline(&e.wdl, t) }

func (e *Endpoint) setDeadline(d *deadline, t time.Time) error {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	d.set(t)
	return nil
}

func (e *Endpoint) wakeReceivers() {
	e.mu.Lock()
	e.inbox.waiters.wake()
	e.mu.Unlock()
}

func (e *Endpoint) wakeSenders() {
	e.mu.Lock()
	shared := make([]*Session, 0, len(e.shared))
	for _, s := range e.sessions {
		if s.shared {
			shared = append(shared, s)
		}
	}
	e.mu.Unlock()
	for _, s := range shared {
		s.mu.Lock()
		s.wakeSends()
		s.mu.Unlock()
	}
	e.crate.wake()
}
