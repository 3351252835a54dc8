package endpoint

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
	"github.com/vstp-go/vstp/tlsvstp"
)

const (
	// A client that cannot attach a byte stream tries again after firstAttach, which
	// doubles up to maxAttach, or maxAttachActive where there is nothing else; after half
	// a minute where the server does not know the session, as behind a load balancer.
	firstAttach     = time.Second
	maxAttach       = time.Minute
	maxAttachActive = 5 * time.Second
	attachElsewhere = 30 * time.Second

	// A byte stream that ends is replaced at once, but one that was there for less than
	// steadyStream after another one only after firstAgain, which doubles.
	steadyStream = 5 * time.Second
	firstAgain   = 250 * time.Millisecond

	// Datagrams are of no use any more, if a server says on a byte stream that it does
	// not know the session, after so many probe timeouts and so much silence: time for
	// some attempts to reach the right one.
	deadTimeouts = 3
	deadSilence  = 5 * time.Second

	// standbyDelay is when a client attaches a byte stream that is not needed yet.
	standbyDelay = 200 * time.Millisecond

	// maxAttaches is how many byte streams a session takes in a second.
	maxAttaches = 16
)

// attaching is how far a client has come with a byte stream. Session.mu guards it.
type attaching struct {
	busy    bool
	wanted  bool      // also without standby
	next    time.Time // not before; zero: not at all
	after   time.Time // and not before, unless Move asks for it
	began   time.Time // the last attempt
	delay   time.Duration
	cancel  context.CancelFunc
	err     error     // of the last attempt
	unknown bool      // a server did not know the session although it was alive
	denied  time.Time // when one has said so

	second time.Time // server: in which streams are counted
	count  int
}

// AutoParams is what this side brings to the handshake of a session on a byte stream.
// PROTOCOL §7.14.
func (e *Endpoint) AutoParams(*handshake.Hello) (handshake.DatagramParams, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch err := e.usable(); {
	case err != nil && e.failed != nil && !e.closed: // without datagrams it is an ordinary one
		return handshake.DatagramParams{}, nil
	case err != nil:
		return handshake.DatagramParams{}, &handshake.Error{Code: framing.CodeOverload}
	}
	if len(e.sessions) >= e.cfg.maxAssociations() {
		e.stats.overloaded.Add(1)
		return handshake.DatagramParams{}, &handshake.Error{Code: framing.CodeOverload}
	}
	p := e.params(e.newID(), true)
	p.Moves, p.Carriers = true, handshake.BothCarriers
	return p, nil
}

// BeginStream makes a session that begins on a byte stream, of which the handshake gave
// r. A client says where the server's datagrams are.
func (e *Endpoint) BeginStream(b Bearer, r *handshake.DatagramResult, own *handshake.DatagramParams, client bool, to udpio.Addr) (*Session, error) {
	s := newSession(e, to, udpio.Local{})
	s.client, s.stream, s.id = client, true, reliable.ConnID(own.SourceID)
	s.tls = b.TLSState()
	s.connected, s.helloed = true, true
	now := time.Now()
	c := e.engineConfig(s, r, 0)
	c.Carrier, c.Moves = reliable.ByteStream, true
	if s.tls != nil {
		prot, err := tlsvstp.SessionProtection(s.tls, client)
		if err != nil {
			return nil, err
		}
		c.Protection = prot
	}
	s.start(now, c, r)
	s.beginMobile(now, reliable.ByteStream)
	m := s.mob
	m.laddr, m.raddr = b.LocalAddr(), b.RemoteAddr()
	m.bearer = &bearer{Bearer: b, begun: now}
	if client && !e.cfg.Auto.NoStandby {
		m.probes[reliable.Datagrams].next = now
	}
	prefix, counted := streamPrefix(m.raddr)
	counted = counted && !client
	e.mu.Lock()
	err := e.usable()
	switch {
	case err != nil:
	case len(e.sessions) >= e.cfg.maxAssociations(), counted && e.prefixes[prefix] >= e.cfg.maxPerPrefix():
		e.stats.overloaded.Add(1)
		err = errTooMany
	case e.sessions[s.id] != nil:
		err = errTooMany // not in this universe
	default:
		e.sessions[s.id] = s
		e.byPeer[peerKey{to.AddrPort, s.peerID}] = s
		s.up = true
		if s.prefix, s.counted = prefix, counted; counted {
			e.prefixes.add(prefix)
		}
	}
	e.mu.Unlock()
	if err != nil {
		s.rdl.end()
		s.wdl.end()
		return nil, err
	}
	s.mu.Lock()
	go s.readStream(m.bearer)
	s.watch(now)
	s.flush(now)
	s.mu.Unlock()
	return s, nil
}

// streamPrefix returns where the peer of a byte stream is, if that is known.
func streamPrefix(a net.Addr) (netip.Prefix, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	return prefixOf(t.AddrPort().Addr().Unmap()), true
}

// secret returns the secret of the session. Session.mu is held.
func (s *Session) secret() ([]byte, error) {
	m := s.mob
	if m.k != nil {
		return m.k, nil
	}
	if s.tls != nil {
		k, err := tlsvstp.SessionSecret(s.tls)
		m.k = k
		return k, err
	}
	client, server := handshake.ConnID(s.id), handshake.ConnID(s.peerID)
	if !s.client {
		client, server = server, client
	}
	m.k = handshake.PlainSecret(client, server, s.result.SessionID)
	return m.k, nil
}

// AttachSession is asked by the handshake of a byte stream for which a client says that
// it belongs to a session. The token is for Attached.
func (e *Endpoint) AttachSession(a *handshake.Attach, state *tls.ConnectionState) (proof [handshake.ProofLen]byte, token any, err error) {
	e.mu.Lock()
	s := e.sessions[reliable.ConnID(a.ServerID)]
	e.mu.Unlock()
	if s == nil || s.client {
		e.stats.unknownID.Add(1)
		return proof, nil, &handshake.Error{Code: framing.CodeUnknownID, Reason: "no such session"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.eng == nil || s.ended != nil || s.removed || s.unfinished:
		return proof, nil, &handshake.Error{Code: framing.CodeUnknownID, Reason: "no such session"}
	case s.mob == nil:
		return proof, nil, &handshake.Error{Code: framing.CodeAttach, Reason: "the session does not move"}
	case (s.tls == nil) != (state == nil): // never from TLS to no TLS; trap A5
		e.stats.refused.Add(1)
		return proof, nil, &handshake.Error{Code: framing.CodeAttach, Reason: "with TLS or without, as the session"}
	}
	k, err := s.secret()
	if err != nil {
		return proof, nil, &handshake.Error{Code: framing.CodeInternal, Err: err}
	}
	var binding []byte
	if state != nil {
		if binding, err = tlsvstp.AttachBinding(state); err != nil {
			return proof, nil, &handshake.Error{Code: framing.CodeInternal, Err: err}
		}
	}
	m := s.mob
	client := handshake.ConnID(s.peerID)
	want := handshake.AttachProof(k, false, a.ServerID, client, a.N, binding)
	if !hmac.Equal(want[:], a.Proof[:]) || a.N <= m.n {
		e.stats.refused.Add(1)
		return proof, nil, &handshake.Error{Code: framing.CodeAttach, Reason: "the proof is no good"}
	}
	m.n = a.N
	now := time.Now()
	if now.Sub(m.attach.second) >= time.Second {
		m.attach.second, m.attach.count = now, 0
	}
	if m.attach.count++; m.attach.count > maxAttaches {
		e.stats.overloaded.Add(1)
		return proof, nil, &handshake.Error{Code: framing.CodeOverload}
	}
	return handshake.AttachProof(k, true, a.ServerID, client, a.N, binding), &attachToken{s, a.N}, nil
}

type attachToken struct {
	s *Session
	n uint64
}

// Attached gives the byte stream to the session for which AttachSession gave the token.
func (e *Endpoint) Attached(token any, b Bearer) {
	t := token.(*attachToken)
	s := t.s
	s.mu.Lock()
	if t.n != s.mob.n { // there is a later one
		s.mu.Unlock()
		b.Close()
		return
	}
	s.useBearer(time.Now(), b)
	s.mu.Unlock()
}

// useBearer makes b the byte stream of the session, in place of one that may be there.
// Session.mu is held.
func (s *Session) useBearer(now time.Time, b Bearer) {
	m := s.mob
	if s.ended != nil && s.eng.Done() || s.removed {
		go b.Close()
		return
	}
	if old := m.bearer; old != nil {
		s.letGo(old)
		s.eng.SetAttached(now, reliable.ByteStream, false)
		go old.Close()
	}
	m.bearer = &bearer{Bearer: b, begun: now}
	m.lost = false
	m.attach.next, m.attach.err = time.Time{}, nil
	m.attach.wanted = false
	m.probes[reliable.ByteStream] = probing{}
	m.asideFrame = nil
	s.eng.SetAttached(now, reliable.ByteStream, true)
	m.waiters.wake()
	go s.readStream(m.bearer)
	s.events()
	if s.client && s.eng.Active() != reliable.ByteStream {
		s.probe(now, reliable.ByteStream) // how far is it?
	}
	s.watch(now)
	s.flush(now)
}

// wantCarrier has a client attach c, if that is possible. Session.mu is held.
func (s *Session) wantCarrier(now time.Time, c reliable.Carrier) {
	if c == reliable.Datagrams {
		s.probe(now, c)
		return
	}
	s.wantAttach(now)
}

// wantAttach has a client attach a byte stream when it may. Session.mu is held.
func (s *Session) wantAttach(now time.Time) {
	m := s.mob
	a := &m.attach
	first := a.delay == 0 && a.err == nil // it waits for nothing but standbyDelay
	if !s.client || m.bearer != nil || a.busy || !a.next.IsZero() && !first {
		return
	}
	if s.ep.cfg.Auto.NoStandby && !a.wanted && s.eng.Active() != reliable.ByteStream {
		return
	}
	a.next = now
	if a.after.After(now) {
		a.next = a.after
	}
	s.attachDue(now)
}

// slower doubles the pause between two attempts. Session.mu is held.
func (s *Session) slower(least time.Duration) {
	most := maxAttach
	if s.eng.Active() == reliable.ByteStream {
		most = maxAttachActive
	}
	a := &s.mob.attach
	a.delay = min(max(2*a.delay, least), most)
}

// needAttach is wantAttach where the other carrier has failed: it does not wait for longer
// than it takes to be no burden. Session.mu is held.
func (s *Session) needAttach(now time.Time) {
	a := &s.mob.attach
	a.wanted = true
	if !a.busy {
		a.next, a.after = time.Time{}, a.began.Add(firstAttach)
	}
	s.wantAttach(now)
}

// attachDue begins an attempt to attach a byte stream if it is time. Session.mu is held.
func (s *Session) attachDue(now time.Time) {
	m := s.mob
	a := &m.attach
	if a.busy || a.next.IsZero() || now.Before(a.next) || s.ended != nil || m.bearer != nil ||
		!s.mayAttach() {
		return
	}
	k, err := s.secret()
	if err != nil {
		a.next = time.Time{}
		s.ep.warn("vstp: no secret for another carrier", "err", err)
		return
	}
	m.n++
	req := &handshake.AttachRequest{K: k, ServerID: handshake.ConnID(s.peerID), ClientID: handshake.ConnID(s.id), N: m.n}
	ctx, cancel := context.WithCancel(context.Background())
	a.busy, a.cancel, a.next, a.began = true, cancel, time.Time{}, now
	go s.attachNow(ctx, req)
}

// mayAttach reports whether the server knows the session by now. Session.mu is held.
func (s *Session) mayAttach() bool {
	return s.ep.cfg.Auto.Attach != nil && s.connected && s.dial == nil && (s.sealed == nil || s.sealed.last == nil)
}

// attachNow tries to attach a byte stream.
func (s *Session) attachNow(ctx context.Context, req *handshake.AttachRequest) {
	e := s.ep
	b, err := e.cfg.Auto.Attach(ctx, s, req)
	s.mu.Lock()
	now := time.Now()
	m := s.mob
	a := &m.attach
	a.cancel()
	a.busy, a.cancel, a.err = false, nil, err
	switch {
	case err == nil:
		s.useBearer(now, b)
	case s.ended != nil || s.removed:
	default:
		s.attachFailed(now, err)
	}
	m.waiters.wake()
	s.arm(now)
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		e.remove(s)
	}
}

// attachFailed decides what comes after an attempt that has failed. Session.mu is held.
func (s *Session) attachFailed(now time.Time, err error) {
	m := s.mob
	a := &m.attach
	var remote *handshake.RemoteError
	unknown := errors.As(err, &remote) && remote.Code == framing.CodeUnknownID
	timeouts, silence := s.eng.Unheard(now)
	alone := s.eng.Active() == reliable.ByteStream && !m.dgrams
	if s.eng.Active() == reliable.Datagrams && timeouts >= deadTimeouts && silence >= deadSilence {
		alone = true // nothing comes in datagrams either
	}
	if unknown && !a.denied.IsZero() && s.heard.After(a.denied) {
		a.unknown = true // that was another one
	}
	if unknown && alone && !a.unknown {
		// No carrier is left, and the server, which knew it, does not any more: it was
		// started anew.
		s.eng.Reset(now)
		s.events()
		return
	}
	s.slower(firstAttach)
	if unknown && !alone {
		a.denied = now
		a.delay = max(a.delay, attachElsewhere)
	}
	a.next = now.Add(a.delay)
	if s.ep.cfg.Auto.NoStandby && s.eng.Active() != reliable.ByteStream {
		a.next = time.Time{}
	}
	s.ep.note(slog.LevelInfo, "vstp: no second carrier", "err", err)
}
