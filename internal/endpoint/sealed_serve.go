package endpoint

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/sealed"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// maxEarlySealed is how many packets of a client are kept that come before its Finished.
const maxEarlySealed = 16

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

	unvalidated bool // counts as such; Endpoint.mu guards it
}

// A sealedDatagram is one that waits for TLS.
type sealedDatagram struct {
	b         []byte
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
	c.sealed.m = sealed.NewServer(c.ctx, e.cfg.ServerTLS, handshake.ConnID(id), h.SourceID, e.cfg.EarlyData,
		func(p *handshake.SealedParams) (*handshake.SealedParams, error) { return e.admit(c, p) })
	cs.byID[id] = c
	context.AfterFunc(c.ctx, c.sealed.stop(c)) // crypto/tls has a goroutine, which the context alone does not end
	if !validated {
		c.sealed.unvalidated = true
		cs.unvalidated++
	}
	return c
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
	t.inbox = append(t.inbox, sealedDatagram{bytes.Clone(b), hello, validated})
	if !t.busy {
		t.busy = true
		go e.serveSealed(c)
	}
}

// sealedPacket takes a handshake packet of a client.
func (r *reader) sealedPacket(id reliable.ConnID, b []byte, p *udpio.Packet) {
	if c := r.e.clientByID(id); c != nil && c.key.addr == p.Addr.AddrPort {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.sealed; !t.over && len(t.early) < maxEarlySealed {
		t.early = append(t.early, bytes.Clone(b))
	}
	return true
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
				t.m.Packet(d.b)
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
		e.say(c, t.m.AppendFlight(nil))
		switch {
		case err != nil:
			e.sealedFailed(c, err)
		case t.m.Done():
			e.welcomeSealed(c)
		}
		c.mu.Lock()
	}
	t.busy = false
	over := t.over || c.ctx.Err() != nil
	if over {
		t.over = true
		t.inbox, t.early = nil, nil
	}
	c.mu.Unlock()
	if over {
		t.m.Close()
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
}

// stop returns what ends the handshake of c, or lets the goroutine that works on it.
func (t *sealedServer) stop(c *client) func() {
	return func() {
		c.mu.Lock()
		t.over = true
		busy := t.busy
		c.mu.Unlock()
		if !busy {
			t.m.Close()
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
	e.mu.Unlock()
	if first {
		c.sealed.m.Close() // whoever calls has m; what there is to say is said without TLS
		e.stats.refused.Add(1)
		e.warn("vstp: TLS handshake failed", "addr", c.addr.AddrPort, "err", err)
	}
}

// admit looks at the parameters of a client, before it has shown more than that.
func (e *Endpoint) admit(c *client, hello *handshake.SealedParams) (*handshake.SealedParams, error) {
	e.mu.Lock()
	err := e.place(c, hello.Stream)
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p := e.sealedParams(c.sealed.id, hello.Stream)
	p.ResetToken, p.HasResetToken = e.resetToken(c.sealed.id, c.local), true
	p.SessionID = e.cfg.sessionID()
	p.Confirm = e.cfg.Verify != nil || len(e.cfg.Header) > 0 || e.cfg.ServerTLS.ClientAuth != 0 || e.cfg.ServerTLS.GetConfigForClient != nil
	return &p, nil
}

// welcomeSealed makes the association of a client that TLS is content with.
func (e *Endpoint) welcomeSealed(c *client) {
	t := c.sealed
	state := t.m.State()
	hello, result := t.m.Params(), t.m.Result()
	tickets, err := t.m.Tickets()
	if err != nil {
		e.warn("vstp: no session ticket", "err", err)
	}
	s := newSession(e, c.addr, c.local)
	s.id = t.id
	s.stream, s.shared = hello.Stream, !hello.Stream
	s.tls = &state
	s.admission, s.tickets = c, tickets
	result.SessionID = t.m.SessionID()

	now := time.Now()
	cfg := e.engineConfig(s, &result, c.rtt)
	cfg.Protection = t.m.Protection()
	s.start(now, cfg, &result)
	s.eng.SendHandshakeDone()

	e.mu.Lock()
	given := !c.half || e.usable() != nil || s.stream && !e.listening || e.sessions[s.id] != nil
	if !given {
		s.prefix, s.counted = c.prefix, c.counted
		c.counted = false
		e.clients.answered(c)
		e.clients.sessions[s] = c
		c.session = s
		e.sessions[s.id] = s
		e.byPeer[peerKey{c.addr.AddrPort, reliable.ConnID(result.PeerID)}] = s
	}
	e.mu.Unlock()
	c.mu.Lock()
	t.over = true
	early := t.early
	t.early = nil
	c.mu.Unlock()
	if given { // up meanwhile: too old, or nobody listens any more
		e.mu.Lock()
		e.clients.forget(c)
		e.freePlace(c)
		e.mu.Unlock()
		return
	}
	e.crate.negotiated(c.addr.AddrPort)
	s.mu.Lock()
	for _, b := range early {
		s.receive(now, b)
	}
	s.events()
	s.flush(now)
	s.arm(now)
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		e.remove(s)
	}
}

// controlHello takes the metadata of a client, which wait for the decision about it.
// Session.mu is held.
func (e *Endpoint) controlHello(s *Session, header framing.Header) {
	s.result.PeerHeader = header
	c := s.admission
	if e.cfg.Verify == nil {
		s.admitted(nil)
		return
	}
	go func() {
		ctx, cancel := c.sessionContext(e)
		defer cancel()
		extra, err := e.cfg.Verify(ctx, &Hello{
			LocalAddr:  s.LocalAddr(),
			RemoteAddr: s.RemoteAddr(),
			Header:     header,
			Stream:     s.stream,
			TLS:        s.tls,
		})
		if ctx.Err() != nil {
			err = &handshake.Error{Code: framing.CodeTimeout, Reason: "handshake"}
		}
		s.mu.Lock()
		if err != nil {
			s.notAdmitted(err)
		} else {
			s.admitted(extra)
		}
		s.flush(time.Now())
		gone := s.gone()
		s.mu.Unlock()
		if gone {
			e.remove(s)
		}
	}()
}

// sessionContext bounds what the application may take to decide.
func (c *client) sessionContext(e *Endpoint) (context.Context, context.CancelFunc) {
	if d := e.cfg.HandshakeTimeout; d > 0 {
		return context.WithTimeoutCause(e.ctx, d, session.ErrHandshakeTimeout)
	}
	return context.WithCancel(e.ctx)
}

// admitted lets the application have a client. Session.mu is held.
func (s *Session) admitted(extra framing.Header) {
	e := s.ep
	if s.ended != nil || s.closed || s.connected {
		return
	}
	welcome, err := handshake.AppendControlWelcome(nil, slices.Concat(e.cfg.Header, extra))
	if err != nil {
		s.notAdmitted(&handshake.Error{Code: framing.CodeInternal})
		return
	}
	s.eng.WriteControl(welcome)
	if len(s.tickets) > 0 {
		s.eng.WriteControl(handshake.AppendControlData(nil, s.tickets))
		s.tickets = nil
	}
	s.connected = true
	s.used = time.Now()
	c := s.admission
	s.admission = nil
	e.mu.Lock()
	e.freePlace(c)
	given := e.usable() != nil || s.stream && !e.listening
	switch {
	case given:
	case s.stream:
		e.backlog = append(e.backlog, s)
		e.accepts.wake()
	default:
		if old := e.shared[s.remote.AddrPort]; old == nil || old.up {
			e.shared[s.remote.AddrPort] = s // the old one may be from before the peer was restarted
		}
	}
	s.up = true
	e.mu.Unlock()
	if given {
		s.closed = true
		s.limitEnd(time.Now(), true)
		s.eng.Close(time.Now(), uint64(framing.CodeRefused), "nobody accepts streams")
		return
	}
	if s.shared && s.eng.MessagesWaiting() {
		e.markReady(s)
	}
}

// notAdmitted tells a client why there will be nothing. Session.mu is held.
func (s *Session) notAdmitted(err error) {
	e := s.ep
	if s.ended != nil || s.closed || s.connected {
		return
	}
	e.stats.refused.Add(1)
	code, reason, header := framing.CodeRefused, "", framing.Header(nil)
	var own *handshake.Error
	var refusal *session.Refusal
	switch {
	case errors.As(err, &own):
		code, reason = own.Code, own.Reason
	case errors.As(err, &refusal):
		reason, header = refusal.Reason, refusal.Header
	} // why else is not for the client's eyes
	record, rerr := handshake.AppendControlErr(nil, code, reason, header)
	if rerr != nil {
		record, _ = handshake.AppendControlErr(nil, code, "", nil)
	}
	now := time.Now()
	s.closed = true
	s.limitEnd(now, true)
	s.eng.WriteControl(record)
	s.eng.Shutdown(now) // when the client has that; it may be the first to close
	c := s.admission
	s.admission = nil
	e.mu.Lock()
	e.freePlace(c)
	e.mu.Unlock()
	e.warn("vstp: client refused", "addr", s.remote.AddrPort, "err", err)
}
