package endpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
	"github.com/vstp-go/vstp/tlsvstp"
)

// hello takes a HELLO. Before it has a good cookie it is answered without anything
// being kept. PROTOCOL §7.3; trap S1.
func (r *reader) hello(b []byte, p *udpio.Packet) {
	e := r.e
	h, err := handshake.ParseHello(b)
	if err != nil {
		e.stats.malformed.Add(1)
		return
	}
	r.scratch, _ = p.Addr.AddrPort.AppendBinary(r.scratch[:0]) // never fails
	n := len(r.scratch)
	validated := h.Cookie != nil && e.cookies.Check(r.now, r.scratch, h.SourceID, h.Cookie)
	var rtt time.Duration
	switch {
	case validated:
		// A cookie begins with the time at which it was made.
		rtt = time.Duration(r.now.UnixNano() - int64(binary.BigEndian.Uint64(h.Cookie)))
		if rtt >= helloDelay {
			rtt = 0 // of several tries
		}
	case len(h.Cookie) == handshake.TokenLen:
		rtt, validated = e.takesToken(r.now, &h, p.Addr.AddrPort)
	case h.Cookie != nil:
		e.stats.badCookies.Add(1)
	}
	seals := e.cfg.ServerTLS != nil
	if !validated && (!h.Crypto || !seals || e.needsCookie(&h, p)) {
		if !h.WantsAnswer() {
			return // one retry for all parts
		}
		if h.Cookie != nil && r.behind && !r.retries.take(r.now) {
			e.stats.overloaded.Add(1)
			return
		}
		r.scratch = e.cookies.Append(r.scratch, r.now, r.scratch[:n], h.SourceID)
		m := len(r.scratch)
		r.scratch = handshake.AppendRetry(r.scratch, h.SourceID, r.scratch[n:m])
		if answer := r.scratch[m:]; len(answer) <= len(b) {
			e.write(answer, p.Addr, p.Local)
		}
		return
	}
	switch {
	case h.Crypto && seals:
		r.sealedHello(&h, b, p, validated)
		return
	case h.Crypto && e.cfg.ClientTLS != nil:
		r.refuseBare(&h, b, p, framing.CodeRefused, "this end has no certificate")
		return
	case h.Crypto:
		r.refuseBare(&h, b, p, framing.CodeTLS, "this server does not speak TLS")
		return
	case e.cfg.sealsAll():
		r.refuseBare(&h, b, p, framing.CodeTLS, "this server speaks TLS")
		return
	}
	c := e.client(r.now, &h, p, rtt)
	if c == nil {
		return
	}
	c.mu.Lock()
	if c.m == nil {
		c.mu.Unlock()
		return
	}
	outcome, err := c.m.Receive(&h)
	answer := c.m.Answer()
	c.mu.Unlock()
	switch {
	case err != nil:
		e.refuse(c, err)
	case outcome == handshake.Again:
		if !e.confirmed(c) {
			e.say(c, answer)
		}
	case outcome == handshake.Done:
		e.decide(c)
	}
}

// client returns what is remembered of the sender of h, or begins to. It returns nil
// if h is not to be answered.
func (e *Endpoint) client(now time.Time, h *handshake.DatagramHello, p *udpio.Packet, rtt time.Duration) *client {
	e.mu.Lock()
	defer e.mu.Unlock()
	cs := &e.clients
	cs.expire(now, e.cfg.HandshakeTimeout)
	key := clientKey{p.Addr.AddrPort, h.SourceID}
	if c := cs.all[key]; c != nil {
		c.seen = now
		return c
	}
	c := e.newClient(now, h.SourceID, p)
	if c == nil {
		return nil
	}
	c.m = new(handshake.DatagramServer)
	c.rtt = max(rtt, 0)
	return c
}

// newClient remembers a client, unless there are too many: then it has to come again.
// Endpoint.mu is held.
func (e *Endpoint) newClient(now time.Time, id handshake.ConnID, p *udpio.Packet) *client {
	cs := &e.clients
	if e.closed || e.failed != nil {
		return nil
	}
	prefix := prefixOf(p.Addr.AddrPort.Addr())
	if e.prefixes[prefix] >= e.cfg.maxPerPrefix() || !e.rate.take(now) {
		e.stats.overloaded.Add(1)
		return nil
	}
	for cs.halfOpen >= e.cfg.maxHandshakes() {
		e.stats.overloaded.Add(1)
		cs.makeRoom(prefix)
	}
	key := clientKey{p.Addr.AddrPort, id}
	c := &client{key: key, addr: p.Addr, local: p.Local, born: now, seen: now, due: now, prefix: prefix, half: true, counted: true}
	c.ctx, c.cancel = context.WithCancel(e.ctx)
	e.prefixes.add(prefix)
	cs.all[key] = c
	cs.order = append(cs.order, c)
	cs.arm(now)
	cs.half = append(cs.half, c)
	cs.halfOpen++
	cs.prune(prefix)
	cs.halfOf[prefix] = append(cs.halfOf[prefix], c)
	cs.share.add(prefix)
	return c
}

// confirmed reports whether the client has shown that it has WELCOME.
func (e *Endpoint) confirmed(c *client) bool {
	e.mu.Lock()
	s := c.session
	e.mu.Unlock()
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.pktsIn > 0
}

// say sends the answer to a client.
func (e *Endpoint) say(c *client, answer [][]byte) {
	e.writeAll(answer, c.addr, c.local) // what is lost is asked for again
}

// decide looks at a complete HELLO.
func (e *Endpoint) decide(c *client) {
	c.mu.Lock()
	hello := *c.m.Hello()
	c.mu.Unlock()
	e.mu.Lock()
	err := e.place(c, hello.Stream)
	if err == errNoPlace {
		e.clients.forget(c)
	}
	e.mu.Unlock()
	switch {
	case err == errNoPlace: // it will ask again, and by then there may be room
	case err != nil:
		e.refuse(c, err)
	case e.cfg.Verify == nil:
		e.welcome(c, &hello, nil)
	default:
		go e.verify(c, &hello)
	}
}

// errNoPlace says that those who wait for Accept are too many already.
var errNoPlace = &handshake.Error{Code: framing.CodeOverload}

// place reports why a client cannot be served, or gives it a place where streams wait
// for Accept. Endpoint.mu is held.
func (e *Endpoint) place(c *client, stream bool) error {
	if err := e.mayServe(stream); err != nil {
		return err
	}
	if stream && !c.stream {
		c.stream = true
		e.waiting++
	}
	return nil
}

// mayServe reports why a client cannot be served. Endpoint.mu is held.
func (e *Endpoint) mayServe(stream bool) error {
	switch {
	case stream && !e.listening, e.whenIdle:
		return &handshake.Error{Code: framing.CodeRefused, Reason: "nobody accepts streams"}
	case !stream && e.cfg.RefuseMessages:
		return &handshake.Error{Code: framing.CodeRefused, Reason: "nobody receives messages"}
	case len(e.sessions) >= e.cfg.maxAssociations():
		e.stats.overloaded.Add(1)
		return &handshake.Error{Code: framing.CodeOverload}
	case stream && len(e.backlog)+e.waiting >= e.cfg.acceptBacklog():
		e.stats.overloaded.Add(1)
		return errNoPlace
	}
	return nil
}

// verify asks the application. It is the only goroutine that a client gets.
func (e *Endpoint) verify(c *client, hello *handshake.DatagramParams) {
	ctx := c.ctx
	if d := e.cfg.HandshakeTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, session.ErrHandshakeTimeout)
		defer cancel()
	}
	extra, err := e.cfg.Verify(ctx, &Hello{
		LocalAddr:  e.LocalAddr(),
		RemoteAddr: c.addr.NetAddr(),
		Header:     hello.Header,
		Stream:     hello.Stream,
	})
	switch {
	case ctx.Err() != nil && c.ctx.Err() == nil:
		err = &handshake.Error{Code: framing.CodeTimeout, Reason: "handshake"}
	case ctx.Err() != nil:
		err = &handshake.Error{Code: framing.CodeOverload}
	}
	if err != nil {
		e.refuse(c, err)
		return
	}
	e.welcome(c, hello, extra)
}

// refuse tells a client that there will be nothing, and remembers that.
func (e *Endpoint) refuse(c *client, err error) {
	e.stats.refused.Add(1)
	var own *handshake.Error
	var refusal *session.Refusal
	c.mu.Lock()
	var answer [][]byte
	if c.m != nil {
		switch {
		case errors.As(err, &own):
			c.m.Refuse(own.Code, own.Reason, nil)
		case errors.As(err, &refusal):
			c.m.Refuse(framing.CodeRefused, refusal.Reason, refusal.Header)
		default:
			c.m.Refuse(framing.CodeRefused, "", nil) // why is not for the client's eyes
		}
		answer = c.m.Answer()
	}
	c.mu.Unlock()
	e.mu.Lock()
	e.clients.answered(c)
	e.freePlace(c)
	e.mu.Unlock()
	e.say(c, answer)
	e.warn("vstp: client refused", "addr", c.addr.AddrPort, "err", err)
}

// freePlace gives back the place in the backlog. Endpoint.mu is held.
func (e *Endpoint) freePlace(c *client) {
	if c.stream {
		c.stream = false
		e.waiting--
	}
}

// welcome makes the association.
func (e *Endpoint) welcome(c *client, hello *handshake.DatagramParams, extra framing.Header) {
	s := newSession(e, c.addr, c.local)
	s.stream, s.shared = hello.Stream, !hello.Stream
	e.mu.Lock()
	s.id = e.newID()
	e.mu.Unlock()

	c.mu.Lock()
	var result handshake.DatagramResult
	err := error(net.ErrClosed)
	if c.m != nil {
		own := e.params(s.id, s.stream)
		own.Token = e.newToken(c.addr.Addr(), c.rtt)
		result, err = c.m.Welcome(own, e.cfg.sessionID(), extra)
	}
	var answer [][]byte
	if err == nil {
		answer = c.m.Answer()
	}
	c.mu.Unlock()
	if err != nil {
		e.refuse(c, &handshake.Error{Code: framing.CodeInternal})
		return
	}
	s.start(time.Now(), e.engineConfig(s, &result, c.rtt), &result)
	s.connected = true

	e.mu.Lock()
	e.freePlace(c)
	given := !c.half || e.usable() != nil || s.stream && !e.listening || e.sessions[s.id] != nil
	if !given {
		if c.counted {
			s.prefix, s.counted = c.prefix, true
			c.counted = false
		}
		e.clients.answered(c)
		e.clients.sessions[s] = c
		c.session = s
		e.sessions[s.id] = s
		e.byPeer[peerKey{c.addr.AddrPort, reliable.ConnID(result.PeerID)}] = s
		if s.stream {
			e.backlog = append(e.backlog, s)
			e.accepts.wake()
		} else if old := e.shared[c.addr.AddrPort]; old == nil || old.up {
			e.shared[c.addr.AddrPort] = s // the old one may be from before the peer was restarted
		}
		s.up = true
	}
	e.mu.Unlock()
	if given { // up meanwhile: too old, or nobody listens any more
		c.mu.Lock()
		c.m = nil
		c.mu.Unlock()
		return
	}
	e.crate.negotiated(c.addr.AddrPort)
	e.say(c, answer)
	s.mu.Lock()
	s.arm(time.Now())
	s.mu.Unlock()
}

// stillbornAt returns when a session is given up from whose client no packet has come
// since WELCOME, zero for never. PROTOCOL §7.3. Session.mu is held.
func (s *Session) stillbornAt() time.Time {
	d := s.ep.cfg.HandshakeTimeout
	if s.client || s.connected && !s.unfinished && s.stats.pktsIn > 0 || d <= 0 || s.closed || s.ended != nil {
		return time.Time{}
	}
	if s.tls != nil {
		return s.born.Add(d)
	}
	return s.used.Add(d)
}

// endStillborn gives it up. Session.mu is held.
func (s *Session) endStillborn(now time.Time) {
	at := s.stillbornAt()
	if at.IsZero() || now.Before(at) {
		return
	}
	s.ended = session.ErrHandshakeTimeout
	s.over = true
	s.wakeAll()
	e := s.ep
	e.mu.Lock()
	if i := slices.Index(e.backlog, s); i >= 0 {
		e.backlog = slices.Delete(e.backlog, i, i+1)
	}
	e.mu.Unlock()
}

// Listen begins to accept streams.
func (e *Endpoint) Listen() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.usable(); err != nil {
		return err
	}
	if e.listening {
		return errListening
	}
	if e.cfg.ClientTLS != nil && e.cfg.ServerTLS == nil {
		return tlsvstp.ErrNoCertificate
	}
	e.listening, e.listened = true, true
	return nil
}

var errListening = errors.New("vstp: the socket is listening already")

// CloseListen ends accepting. What waits in the queue is closed, what was accepted
// lives on. Trap N11.
func (e *Endpoint) CloseListen() error {
	e.mu.Lock()
	e.listening = false
	queued := e.backlog
	e.backlog = nil
	e.accepts.wake()
	e.mu.Unlock()
	for _, s := range queued {
		s.reject(framing.CodeRefused, "nobody accepts streams")
	}
	return nil
}

// Accept waits for a stream. Its errors are net.ErrClosed when listening has ended,
// or why the socket has, and that of ctx. Trap N10.
func (e *Endpoint) Accept(ctx context.Context) (*Session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if err := over(ctx, nil); err != nil {
			return nil, err
		}
		if len(e.backlog) > 0 {
			s := e.backlog[0]
			e.backlog[0] = nil
			e.backlog = e.backlog[1:]
			if len(e.backlog) > 0 {
				e.accepts.wake()
			}
			return s, nil
		}
		switch {
		case e.closed:
			return nil, net.ErrClosed
		case e.failed != nil:
			return nil, e.failed
		case !e.listening:
			return nil, net.ErrClosed
		}
		e.accepts.wait(&e.mu, doneOf(ctx))
	}
}
