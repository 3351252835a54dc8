package endpoint

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/sealed"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
	"github.com/vstp-go/vstp/tlsvstp"
)

// maxEarlySealed is how many packets of a client are kept that come before its Finished,
// and maxEarlyBytes how many bytes.
const (
	maxEarlySealed = 16
	maxEarlyBytes  = 256 << 10
)

// A sealedServer is what a client has whose handshake is one with TLS. As at
// sealedClient, a goroutine that lives as long as there is something to do has m to
// itself; client.mu guards the rest.
type sealedServer struct {
	m     *sealed.Server
	id    reliable.ConnID // of the association there may be
	inbox []sealedDatagram
	early [][]byte // packets for the association
	busy  bool
	over  bool // m is not to be used any more

	// These belong to m too.
	said    time.Time // when it has said something for the first time
	flights int       // how often it has
	begun   bool      // there is an association, with 0-RTT, or was

	placed      time.Time   // when it got a place in the backlog; Endpoint.mu guards it, and what follows
	spoke       bool        // HELLO of the control stream has come
	limit       *time.Timer // of the handshake
	unvalidated bool        // counts as such
}

// A sealedDatagram is one that waits for TLS.
type sealedDatagram struct {
	b         []byte
	at        time.Time
	hello     bool // HELLO; otherwise a handshake packet
	validated bool // with a good cookie
}

// refuseBare answers a HELLO of a kind that is not served here. Nothing is kept, and
// the client has shown its address. PROTOCOL §8.5.
func (r *reader) refuseBare(h *handshake.DatagramHello, b []byte, p *udpio.Packet, code framing.ErrorCode, reason string) {
	e := r.e
	e.stats.refused.Add(1)
	answer, err := handshake.AppendRefusal(r.scratch[:0], h.SourceID, code, reason, nil)
	if r.scratch = answer; err == nil && len(answer) <= len(b) {
		e.write(answer, p.Addr, p.Local)
	}
	if code == framing.CodeTLS {
		err := session.ErrNotTLS
		if h.Crypto {
			err = session.ErrTLSRequired
		}
		e.warn("vstp: client refused", "addr", p.Addr.AddrPort, "err", err)
	}
}

// sealedHello takes a HELLO with TLS.
func (r *reader) sealedHello(h *handshake.DatagramHello, b []byte, p *udpio.Packet, validated bool) {
	if len(b) > handshake.MaxHandshakeDatagram { // PROTOCOL §8.5
		r.e.stats.dropped.Add(1)
		return
	}
	c := r.e.sealedClientOf(r.now, h, p, validated)
	if c != nil {
		r.e.offer(c, b, true, validated)
	}
}

// demandCookie reports whether a client that has shown nothing has to do so first.
// Endpoint.mu is held.
func (e *Endpoint) demandCookie() bool {
	return e.clients.unvalidated >= e.cfg.maxUnvalidated() || e.clients.halfOpen >= e.cfg.maxHandshakes()/2
}

// knows reports whether h is of a client that is remembered, or of one that need not
// show a cookie.
func (e *Endpoint) needsCookie(h *handshake.DatagramHello, p *udpio.Packet) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clients.all[clientKey{p.Addr.AddrPort, h.SourceID}] != nil {
		return false
	}
	return e.demandCookie()
}

// sealedClientOf returns what is remembered of the sender of h, or begins to. It
// returns nil if h is not to be answered.
func (e *Endpoint) sealedClientOf(now time.Time, h *handshake.DatagramHello, p *udpio.Packet, validated bool) *client {
	e.mu.Lock()
	defer e.mu.Unlock()
	cs := &e.clients
	cs.expire(now, e.cfg.HandshakeTimeout)
	if c := cs.all[clientKey{p.Addr.AddrPort, h.SourceID}]; c != nil {
		c.seen = now
		if c.sealed == nil {
			return nil
		}
		if validated {
			cs.validated(c)
		}
		return c
	}
	if len(h.Data) == 0 {
		return nil // it goes on with something that is not known any more
	}
	c := e.newClient(now, h.SourceID, p)
	if c == nil {
		return nil
	}
	id := e.newID()
	c.sealed = &sealedServer{id: id}
	var early *sealed.Early
	if e.cfg.EarlyData {
		early = &sealed.Early{
			Accept: func(sent *handshake.SealedParams, note []byte) bool { return e.acceptsEarly(c, sent, note) },
			Note:   e.ticketNote(now),
		}
	}
	ctx := tlsvstp.WithConn(c.ctx, e.helloConn(p.Addr, p.Local))
	c.sealed.m = sealed.NewServer(ctx, e.cfg.ServerTLS, handshake.ConnID(id), h.SourceID, early,
		func(p *handshake.SealedParams) (*handshake.SealedParams, error) { return e.admit(c, p) })
	cs.byID[id] = c
	if d := e.cfg.HandshakeTimeout; d > 0 {
		c.sealed.limit = time.AfterFunc(d, func() { e.giveUp(c) })
	}
	context.AfterFunc(c.ctx, c.sealed.stop(c)) // crypto/tls has a goroutine, which the context alone does not end
	if !validated {
		c.sealed.unvalidated = true
		cs.unvalidated++
	}
	return c
}

// giveUp forgets a client whose handshake takes too long.
func (e *Endpoint) giveUp(c *client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.half {
		e.clients.forget(c)
	}
}

// validated notes that a client has shown its address. Endpoint.mu is held.
func (cs *clientSet) validated(c *client) {
	if t := c.sealed; t != nil && t.unvalidated {
		t.unvalidated = false
		cs.unvalidated--
	}
}

// offer leaves a datagram, which it copies, for the handshake of c.
func (e *Endpoint) offer(c *client, b []byte, hello, validated bool) {
	t := c.sealed
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.over || len(t.inbox) >= maxSealedInbox {
		return
	}
	t.inbox = append(t.inbox, sealedDatagram{bytes.Clone(b), time.Now(), hello, validated})
	if !t.busy {
		t.busy = true
		go e.serveSealed(c)
	}
}

// sealedPacket takes a handshake packet of a client.
func (r *reader) sealedPacket(id reliable.ConnID, b []byte, p *udpio.Packet) {
	if c := r.e.clientByID(id); c != nil && c.key.addr == p.Addr.AddrPort && len(b) <= handshake.MaxHandshakeDatagram {
		r.e.offer(c, b, false, false)
		return
	}
	r.e.stats.dropped.Add(1)
}

func (e *Endpoint) clientByID(id reliable.ConnID) *client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clients.byID[id]
}

// keepEarly keeps a packet whose handshake is not over yet, and reports whether there
// is one.
func (r *reader) keepEarly(id reliable.ConnID, b []byte, p *udpio.Packet) bool {
	c := r.e.clientByID(id)
	if c == nil || c.key.addr != p.Addr.AddrPort {
		return false
	}
	r.keepEarlyOf(c, b)
	return true
}

func (r *reader) keepEarlyOf(c *client, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.sealed
	size := len(b)
	for _, p := range t.early {
		size += len(p)
	}
	if !t.over && len(t.early) < maxEarlySealed && size <= maxEarlyBytes {
		t.early = append(t.early, bytes.Clone(b))
	} else {
		r.e.stats.dropped.Add(1)
	}
}

// serveSealed works through what has come for a handshake.
func (e *Endpoint) serveSealed(c *client) {
	t := c.sealed
	c.mu.Lock()
	for !t.over && len(t.inbox) > 0 && c.ctx.Err() == nil {
		inbox := t.inbox
		t.inbox = nil
		c.mu.Unlock()
		for _, d := range inbox {
			if !d.hello {
				if t.m.Packet(d.b) && t.flights == 1 && c.rtt == 0 {
					// Longer ones may be the client's application, which takes its time.
					if rtt := d.at.Sub(t.said); rtt < helloDelay {
						c.rtt = max(rtt, time.Microsecond)
					}
				}
			} else if h, err := handshake.ParseHello(d.b); err == nil {
				t.m.Hello(&h, len(d.b), d.validated)
			}
		}
		err := t.m.Err()
		if errors.Is(err, errNoPlace) { // it will ask again, and by then there may be room
			e.mu.Lock()
			e.clients.forget(c)
			e.mu.Unlock()
			c.mu.Lock()
			break
		}
		if t.m.Validated() {
			e.mu.Lock()
			e.clients.validated(c)
			e.mu.Unlock()
		}
		if flight := t.m.AppendFlight(nil); len(flight) > 0 {
			if t.flights++; t.flights == 1 {
				t.said = time.Now()
			}
			e.say(c, flight)
		}
		switch {
		case err != nil:
			e.sealedFailed(c, err)
		case t.m.Done() && !e.placed(c): // it will repeat its Finished, and by then there may be room
		case t.m.Done():
			e.welcomeSealed(c)
		case t.m.EarlyKeys() && !t.begun:
			e.beginEarly(c)
		}
		c.mu.Lock()
	}
	over := t.over || c.ctx.Err() != nil
	if t.busy = over; over { // m stays with who closes it
		t.over = true
		t.inbox = nil
	}
	c.mu.Unlock()
	if over {
		t.m.Close()
		t.m = nil // the client is remembered for longer than that is of use
	}
}

// endSealed ends the handshake of a client that is forgotten. Endpoint.mu is held.
func (cs *clientSet) endSealed(c *client) {
	t := c.sealed
	if t == nil {
		return
	}
	cs.validated(c)
	if cs.byID[t.id] == c {
		delete(cs.byID, t.id)
	}
	if t.limit != nil {
		t.limit.Stop()
	}
}

// stop returns what ends the handshake of c, or lets the goroutine that works on it.
func (t *sealedServer) stop(c *client) func() {
	return func() {
		c.mu.Lock()
		t.over = true
		busy := t.busy
		t.busy = true // m stays with who closes it
		c.mu.Unlock()
		if !busy {
			t.m.Close()
			t.m = nil
		}
	}
}

// sealedFailed notes that a handshake is over that came to nothing. The client goes on
// to be told so for as long as the handshake may take.
func (e *Endpoint) sealedFailed(c *client, err error) {
	e.mu.Lock()
	first := !c.failed
	c.failed = true
	e.freePlace(c)
	s := c.session
	e.mu.Unlock()
	if s != nil { // there was 0-RTT
		s.forget(err)
	}
	if first {
		c.sealed.m.Close() // whoever calls has m; what there is to say is said without TLS
		e.stats.refused.Add(1)
		e.warn("vstp: TLS handshake failed", "addr", c.addr.AddrPort, "err", err)
	}
}

// sealedSession makes the association of a client. It returns nil if that comes too late:
// the client has been given up, or nobody listens any more.
func (e *Endpoint) sealedSession(c *client) *Session {
	t := c.sealed
	hello, result := t.m.Params(), t.m.Result()
	result.SessionID = t.m.SessionID()
	s := newSession(e, c.addr, c.local)
	s.id = t.id
	s.stream, s.shared = hello.Stream, !hello.Stream
	s.admission = c
	s.capped, s.allowance = !t.m.Validated(), t.m.Allowance()
	s.unfinished = true
	s.prot = tlsvstp.NewProtection()
	t.m.Install(s.prot)
	state := t.m.State()
	s.tls = &state

	cfg := e.engineConfig(s, &result, c.rtt)
	cfg.Protection = s.prot
	s.start(time.Now(), cfg, &result)

	e.mu.Lock()
	defer e.mu.Unlock()
	if !c.half || e.usable() != nil || s.stream && !e.listening || e.sessions[s.id] != nil {
		e.clients.forget(c)
		e.freePlace(c)
		return nil
	}
	s.prefix, s.counted = c.prefix, c.counted
	c.counted = false
	e.clients.sessions[s] = c
	c.session = s
	e.sessions[s.id] = s
	e.byPeer[peerKey{c.addr.AddrPort, s.peerID}] = s
	return s
}

// beginEarly lets a client have its association before the handshake is over, as TLS has
// accepted its 0-RTT.
func (e *Endpoint) beginEarly(c *client) {
	s := e.sealedSession(c)
	if s == nil {
		return
	}
	c.sealed.begun = true
	e.crate.negotiated(c.addr.AddrPort)
	s.mu.Lock()
	s.early = true
	s.takeEarly(c, framing.TypeHello)
	s.mu.Unlock()
}

// welcomeSealed begins the association of a client that TLS is content with, or has it go
// on.
func (e *Endpoint) welcomeSealed(c *client) {
	t := c.sealed
	tickets, err := t.m.Tickets()
	if err != nil {
		e.warn("vstp: no session ticket", "err", err)
	}
	e.mu.Lock()
	s := c.session
	if s == nil && t.begun { // it has ended already
		e.clients.answered(c)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	if s == nil {
		if s = e.sealedSession(c); s == nil {
			return
		}
		e.crate.negotiated(c.addr.AddrPort)
	}
	state := t.m.State()
	s.mu.Lock()
	s.tls = &state
	t.m.Install(s.prot)
	s.prot.SetEarlyRead(nil)
	s.prot = nil
	s.unfinished, s.capped = false, false
	s.tickets = tickets
	s.sendTickets()
	s.eng.SendHandshakeDone()
	s.others.wake()
	e.mu.Lock()
	e.clients.answered(c)
	e.mu.Unlock()
	s.takeEarly(c, framing.TypeData)
	s.arm(time.Now())
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		e.remove(s)
	}
}

// takeEarly takes the packets of a type that have come before their keys. Session.mu is
// held.
func (s *Session) takeEarly(c *client, typ framing.Type) {
	c.mu.Lock()
	early := c.sealed.early
	c.sealed.early = nil
	c.mu.Unlock()
	now := time.Now()
	for _, b := range early {
		if framing.Type(b[3]) == typ {
			s.receive(now, b)
		}
	}
	s.events()
	s.flush(now)
}

// sendTickets sends what the client can resume with, once it is admitted. Session.mu is
// held.
func (s *Session) sendTickets() {
	if s.connected && len(s.tickets) > 0 {
		s.eng.WriteControl(handshake.AppendControlData(nil, s.tickets))
		s.tickets = nil
	}
}

// earlyPacket takes a 0-RTT packet, which has the id of its sender.
func (r *reader) earlyPacket(id handshake.ConnID, b []byte, p *udpio.Packet) {
	e := r.e
	e.mu.Lock()
	c := e.clients.all[clientKey{p.Addr.AddrPort, id}]
	var s *Session
	if c != nil {
		s = c.session
	}
	e.mu.Unlock()
	switch {
	case c == nil || c.sealed == nil:
		e.stats.dropped.Add(1)
	case s == nil:
		r.keepEarlyOf(c, b)
	default:
		s.mu.Lock()
		r.cur = s
		if s.unfinished {
			s.allowance += 3 * len(b)
			s.receive(r.now, b)
		} else {
			e.stats.dropped.Add(1)
		}
	}
}
