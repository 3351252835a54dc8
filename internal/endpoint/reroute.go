package endpoint

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// A client whose packets find no way any more, or no answer, may go on from another
// address. PROTOCOL §7.13. Where the socket is not connected, the system chooses the
// address for each packet anyway. A connected one keeps the address that it had when it
// was connected, also when that is gone: it has to be connected anew.

const (
	// rerouteWrites is how many writes fail in a row before it is done, and
	// rerouteTimeouts how many probe timeouts pass without a packet from the peer, for
	// rerouteSilence at least: a port is not changed for a hiccup, or a busy machine.
	rerouteWrites   = 3
	rerouteTimeouts = 3
	rerouteSilence  = 3 * time.Second

	// It is not done again before rerouteDelay, which doubles while it does not help.
	rerouteDelay    = 2 * time.Second
	maxRerouteDelay = 32 * time.Second
)

// A reroute is when a socket was connected anew. Endpoint.mu guards it.
type reroute struct {
	busy  bool
	next  time.Time // not before
	delay time.Duration
}

// noRoute are the errors of a socket whose address or route is gone. EDESTADDRREQ is
// that of one for which connecting anew has failed.
var noRoute = [...]error{
	syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EINVAL, syscall.ENODEV, syscall.EDESTADDRREQ,
}

// noWay looks whether a write has failed because there is no way to the peer. Session.mu
// is held.
func (s *Session) noWay(now time.Time, err error) {
	for _, e := range noRoute {
		if errors.Is(err, e) {
			if s.unsent++; s.unsent >= rerouteWrites {
				s.goAnotherWay(now)
			}
			return
		}
	}
}

// noAnswer looks whether the peer does not answer any more. Session.mu is held.
func (s *Session) noAnswer(now time.Time) {
	if s.ended != nil || !s.client || s.mob != nil && s.eng.Active() != reliable.Datagrams {
		return
	}
	if n, silence := s.eng.Unheard(now); n >= rerouteTimeouts && silence >= rerouteSilence {
		s.goAnotherWay(now)
	}
}

// goAnotherWay has the socket be connected anew, if it may be. Session.mu is held.
func (s *Session) goAnotherWay(now time.Time) {
	e := s.ep
	if !s.client || s.ended != nil || !e.sock.CanReconnect() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.reroute
	if r.busy || now.Before(r.next) || e.usable() != nil && !e.whenIdle {
		return
	}
	if now.Sub(r.next) > maxRerouteDelay {
		r.delay = rerouteDelay // it is another case
	}
	r.busy = true
	go e.goAnotherWay() // no lock may be held
}

func (e *Endpoint) goAnotherWay() {
	before := e.LocalAddr()
	err := e.sock.Reconnect()
	after := e.LocalAddr()
	now := time.Now()
	e.mu.Lock()
	r := &e.reroute
	r.busy = false
	r.next = now.Add(r.delay)
	if err == nil { // otherwise it is tried until there is a way
		r.delay = min(2*r.delay, maxRerouteDelay)
	}
	all := make([]*Session, 0, len(e.sessions))
	for _, s := range e.sessions {
		all = append(all, s)
	}
	e.mu.Unlock()
	if err != nil {
		e.warn("vstp: no way to the peer", "err", err)
		return
	}
	e.note(slog.LevelInfo, "vstp: no answer, trying from another address", "from", before, "to", after)
	for _, s := range all {
		s.rerouted(now, sameHost(before, after))
	}
}

func sameHost(a, b net.Addr) bool {
	u, ok := a.(*net.UDPAddr)
	v, ok2 := b.(*net.UDPAddr)
	return ok && ok2 && u.IP.Equal(v.IP)
}

// rerouted goes on after the socket was connected anew.
func (s *Session) rerouted(now time.Time, sameHost bool) {
	s.mu.Lock()
	if s.eng != nil && s.ended == nil {
		s.stats.pathChanges++
		s.ep.stats.pathChanges.Add(1)
		s.carry = s.carry[:0] // counts as in flight
		s.again = time.Time{}
		s.unsent = 0
		s.pathChanged(now, 0, sameHost)
		s.flush(now)
	}
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}
