package endpoint

import (
	"log/slog"
	"net"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// The address of a client may change while an association is open, that of a server does
// not. PROTOCOL §7.13; trap S10.

const (
	// A candidate is challenged maxChallenges times, at first after firstChallenge or
	// the probe timeout, if that is longer, and then after twice as long each. Of the
	// new path nobody knows how long it is: answers count until lastChance after the
	// last one.
	maxChallenges  = 3
	firstChallenge = 50 * time.Millisecond
	lastChance     = time.Second

	// maxGrowth is how many bytes are sent to an address that was not shown to be the
	// peer's, for each one that came from there. RFC 9000 §8.1.
	maxGrowth = 3

	// smallChallenge is the size of a challenge where there is no room for a whole one.
	smallChallenge = 64
)

// A candidate is an address from which a client's packets come, and which has not shown
// that the client is there. Session.mu guards it.
type candidate struct {
	addr    udpio.Addr
	local   udpio.Local
	in, out int // bytes
	sent    [maxChallenges]challenge
	tries   int
	delay   time.Duration
	next    time.Time // of the next challenge, or the end; zero: at once
}

type challenge struct {
	data [8]byte
	at   time.Time
}

// room is how many bytes may be sent to the candidate.
func (c *candidate) room() int { return maxGrowth*c.in - c.out }

// setRemote makes another address that of the peer. Session.mu is held; the address is
// read with that or Endpoint.mu held.
func (s *Session) setRemote(to udpio.Addr) {
	e := s.ep
	e.mu.Lock()
	defer e.mu.Unlock()
	from := s.remote
	s.remote = to
	if key := (peerKey{from.AddrPort, s.peerID}); e.byPeer[key] == s {
		delete(e.byPeer, key)
		if key.addr = to.AddrPort; e.byPeer[key] == nil {
			e.byPeer[key] = s
		}
	}
	if e.shared[from.AddrPort] == s {
		delete(e.shared, from.AddrPort)
	}
	if old := e.shared[to.AddrPort]; s.shared && !s.closed && s.ended == nil && (old == nil || old.up) {
		e.shared[to.AddrPort] = s // who has shown to be there last is there
	}
}

// RemoteAddr returns the peer's address, which may change.
func (s *Session) RemoteAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.mob; m != nil && m.raddr != nil {
		return m.raddr
	}
	return s.remote.NetAddr()
}

// receiveFrom takes a packet from an address that may be another one than the peer's.
// Session.mu is held.
func (s *Session) receiveFrom(now time.Time, b []byte, p *udpio.Packet) {
	if s.remote.AddrPort == p.Addr.AddrPort {
		if got := s.receive(now, b); got.Latest && s.cand != nil && s.ended == nil {
			s.cand = nil // the client is where it was, or is there again
		}
		return
	}
	if s.client { // trap U9
		s.ep.stats.dropped.Add(1)
		return
	}
	got := s.eng.ReceiveElsewhere(now, b)
	if got.Taken {
		s.stats.pktsIn++
		s.stats.wireIn += uint64(len(b))
	} else {
		s.ep.stats.dropped.Add(1) // trap U9
	}
	c := s.cand
	switch {
	case !got.Opened:
		return
	case c != nil && c.addr.AddrPort == p.Addr.AddrPort:
		c.in += len(b)
	case got.Latest:
		if c == nil {
			c = new(candidate)
			s.cand = c
		}
		*c = candidate{addr: p.Addr, local: p.Local, in: len(b)}
	}
}

// candidateAt returns when there is something to do for the candidate, zero for never.
// Session.mu is held.
func (s *Session) candidateAt() time.Time {
	switch {
	case s.cand == nil || s.ended != nil:
		return time.Time{}
	case s.cand.next.IsZero():
		return s.ep.epoch // it came while another packet was on its way out
	}
	return s.cand.next
}

// challenge sends the candidate a challenge if one is due, or forgets it. Session.mu is
// held, and is released for the write.
func (s *Session) challenge(now time.Time) {
	c := s.cand
	if c == nil || s.ended != nil || now.Before(c.next) {
		return
	}
	if c.tries == maxChallenges {
		s.cand = nil
		return
	}
	size := c.room()
	if size >= reliable.BaseMTU {
		size = reliable.BaseMTU
	} else {
		size = min(size, smallChallenge)
	}
	if c.tries == 0 {
		c.delay = max(s.eng.ProbeTimeout(), firstChallenge)
	}
	ch := &c.sent[c.tries]
	c.tries++
	c.next = now.Add(c.delay)
	c.delay *= 2
	if c.tries == maxChallenges {
		c.next = now.Add(max(c.delay, lastChance))
	}
	s.ep.cfg.random(ch.data[:])
	ch.at = now
	var buf [reliable.BaseMTU]byte
	b := s.eng.AppendChallenge(now, buf[:0], ch.data, size)
	if len(b) == 0 {
		return // without room for it, the address has to send more
	}
	c.out += len(b)
	s.writeAside(b, c)
}

// writeAside sends a datagram to the candidate. Session.mu is held, and is released for
// the write.
func (s *Session) writeAside(b []byte, c *candidate) {
	s.stats.pktsOut++
	s.stats.wireOut += uint64(len(b))
	to, local := c.addr, c.local
	s.mu.Unlock()
	s.ep.write(b, to, local)
	s.mu.Lock()
}

// pathResponse takes the answer to a challenge. Session.mu is held.
func (s *Session) pathResponse(now time.Time, data [8]byte) {
	c := s.cand
	if c == nil || s.ended != nil {
		return
	}
	for _, ch := range c.sent[:c.tries] {
		if ch.data == data {
			s.moved(now, c, now.Sub(ch.at))
			return
		}
	}
}

// moved makes the candidate the path. Session.mu is held.
func (s *Session) moved(now time.Time, c *candidate, rtt time.Duration) {
	from, e := s.remote, s.ep
	s.cand = nil
	s.carry = s.carry[:0] // counts as in flight
	s.local = c.local
	s.setRemote(c.addr)
	s.pathChanged(now, max(rtt, time.Microsecond), from.Addr() == c.addr.Addr())
	e.crate.negotiated(c.addr.AddrPort)
	if !from.IsValid() {
		return // a session that began on a byte stream has datagrams now
	}
	e.stats.pathChanges.Add(1)
	if s.stats.pathChanges++; s.stats.pathChanges == 1 {
		e.note(slog.LevelInfo, "vstp: a client has changed its address", "from", from.AddrPort, "to", c.addr.AddrPort)
	}
}

// answerAside sends what ends the association to the candidate too, as it may be where
// the peer is now and asks; within bounds. Session.mu is held, and is released for the
// write.
func (s *Session) answerAside(b []byte) {
	c := s.cand
	if c == nil || s.ended == nil || len(b) > c.room() {
		return
	}
	c.out += len(b)
	s.writeAside(b, c)
}
