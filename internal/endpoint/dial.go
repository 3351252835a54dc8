package endpoint

import (
	"bytes"
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// HELLO is repeated after helloDelay, or less where the round-trip time is known. The time
// doubles up to maxHelloDelay.
const (
	helloDelay    = 250 * time.Millisecond
	maxHelloDelay = 2 * time.Second
)

// What is kept of packets that have overtaken WELCOME, or come in place of it: what a server
// sends in a round trip or two that speaks at once.
const (
	maxEarly     = 64
	maxEarlySize = 64 << 10
)

// A dialing is what a client's session has before the handshake is over. Its timer
// repeats HELLO; no goroutine does. Session.mu guards it.
type dialing struct {
	m         *handshake.DatagramClient
	delay     time.Duration
	next      time.Time     // when HELLO is due again
	limit     time.Time     // when it is given up; zero for never
	sent      time.Time     // HELLO as it is now, for the first time; zero if it was repeated
	said      time.Time     // HELLO, for the last time
	rtt       time.Duration // that a retry has shown
	missed    bool          // WELCOME: there are packets already
	early     [][]byte      // those
	earlySize int
	queue     []waiting
	queued    int       // bytes in queue
	sealed    bool      // with TLS: m is nil, see sealedClient
	refused   int       // how often nobody was there
	patience  time.Time // until then messages wait for room in queue; zero when that is over
}

// DialStream makes an association with a byte stream.
func (e *Endpoint) DialStream(ctx context.Context, to udpio.Addr) (*Session, error) {
	return e.dialAndWait(ctx, to, true)
}

// DialMessages makes an association for messages, which belong to the Session alone.
func (e *Endpoint) DialMessages(ctx context.Context, to udpio.Addr) (*Session, error) {
	return e.dialAndWait(ctx, to, false)
}

func (e *Endpoint) dialAndWait(ctx context.Context, to udpio.Addr, stream bool) (*Session, error) {
	if err := over(ctx, nil); err != nil {
		return nil, err
	}
	s, err := e.newDial(to, stream, false)
	if err != nil {
		return nil, err
	}
	s.sayHello(true)
	if err := s.await(ctx, func() bool { return s.connected }); err != nil {
		s.retire(time.Now())
		e.leave(s)
		return nil, err
	}
	return s, nil
}

// leave forgets a session that has failed, whoever else is about to do so: the caller of
// Dial finds nothing of it.
func (e *Endpoint) leave(s *Session) {
	s.mu.Lock()
	removed := s.removed
	s.mu.Unlock()
	if removed {
		e.remove(s)
	}
}

// newDial makes a session that has sent nothing yet; sayHello comes next.
func (e *Endpoint) newDial(to udpio.Addr, stream, shared bool) (*Session, error) {
	s := newSession(e, to, udpio.Local{})
	s.client, s.stream, s.shared = true, stream, shared
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.usable(); err != nil {
		return nil, err
	}
	if len(e.sessions) >= e.cfg.maxAssociations() {
		e.stats.overloaded.Add(1)
		return nil, errTooMany
	}
	s.id = e.newID()
	now := time.Now()
	s.dial = &dialing{delay: helloDelay, next: now.Add(helloDelay), patience: now.Add(patience)}
	if s.dial.sealed = e.cfg.ClientTLS != nil; s.dial.sealed {
		s.sealed = e.newSealed()
	} else {
		var err error
		if s.dial.m, err = handshake.NewDatagramClient(e.params(s.id, stream)); err != nil {
			return nil, err
		}
		s.dial.m.SetToken(e.useToken(to))
	}
	if d := e.cfg.HandshakeTimeout; d > 0 {
		s.dial.limit = now.Add(d)
	}
	e.sessions[s.id] = s
	if shared {
		e.shared[to.AddrPort] = s
	}
	return s, nil
}

var errTooMany = errors.New("vstp: too many associations")

// sayHello sends HELLO as it is now. fresh says that it was not sent before.
func (s *Session) sayHello(fresh bool) {
	s.mu.Lock()
	d := s.dial
	if d == nil {
		s.mu.Unlock()
		return
	}
	if d.sealed {
		s.sealed.repeat = !fresh
		run := s.sealed.begin()
		s.arm(time.Now())
		s.mu.Unlock()
		if run {
			s.stepSealed(true)
		}
		return
	}
	now := time.Now()
	first := fresh && d.sent.IsZero()
	d.sent = time.Time{}
	if fresh {
		d.sent = now
	}
	d.said = now
	datagrams := d.m.AppendHello(nil)
	s.arm(now)
	s.mu.Unlock()
	for _, b := range datagrams {
		err := s.ep.write(b, s.remote, udpio.Local{})
		if err == nil || !fatalForDial(err, first) {
			continue
		}
		s.mu.Lock()
		if s.dial == d {
			s.dialEnded(err)
		}
		gone := s.gone()
		s.mu.Unlock()
		if gone {
			s.ep.remove(s)
		}
		return
	}
}

// Nobody is there when that was reported twice: one report may be about a packet from
// before this handshake, of who had the port before, or forged; and a server that is
// being started may be a little late. Trap U1.
const (
	fatalRefusals = 2
	refusedRetry  = 50 * time.Millisecond // after the first one
)

// errRefused is why a dial ends to an address that nobody listens at.
var errRefused = os.NewSyscallError("connect", syscall.ECONNREFUSED)

// peerRefused is called when the one peer of the socket is reported to have nobody who
// listens. An association does not end by that: reports are easily forged.
func (e *Endpoint) peerRefused() {
	e.mu.Lock()
	all := make([]*Session, 0, 1)
	for _, s := range e.sessions {
		if !s.up {
			all = append(all, s)
		}
	}
	e.mu.Unlock()
	for _, s := range all {
		s.refusedOnce()
	}
}

func (s *Session) refusedOnce() {
	s.mu.Lock()
	if d := s.dial; d != nil {
		if d.refused++; d.refused >= fatalRefusals {
			s.dialEnded(errRefused)
		} else if now := time.Now(); now.Add(refusedRetry).Before(d.next) {
			d.next = now.Add(refusedRetry)
			s.arm(now)
		}
	}
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}

// fatalForDial reports whether an error of the socket ends a handshake: one that
// says that nobody is there, or at first that there is no way to the peer. The
// others may pass. Trap U1, U5.
func fatalForDial(err error, first bool) bool {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return true
	case errors.Is(err, udpio.ErrAgain), errors.Is(err, udpio.ErrTooLarge), errors.Is(err, syscall.EPERM):
		return false
	}
	return first
}

// dialTimer is the timer during the handshake. It is called with Session.mu held and
// releases it.
func (s *Session) dialTimer(now time.Time) {
	d := s.dial
	if !d.limit.IsZero() && !now.Before(d.limit) {
		s.dialEnded(session.ErrHandshakeTimeout)
		gone := s.gone()
		s.mu.Unlock()
		if gone {
			s.ep.remove(s)
		}
		return
	}
	if t := s.sealed; d.sealed && !t.hintBy.IsZero() && !now.Before(t.hintBy) {
		s.dialEnded(&session.UnprovenError{Err: t.hint})
		gone := s.gone()
		s.mu.Unlock()
		if gone {
			s.ep.remove(s)
		}
		return
	}
	if !d.patience.IsZero() && !now.Before(d.patience) {
		d.patience = time.Time{}
		s.room.wake()
	}
	due := !now.Before(d.next)
	if due {
		if !d.missed {
			d.delay = min(2*d.delay, maxHelloDelay)
		}
		d.missed = false
		d.next = now.Add(d.delay)
		if !d.limit.IsZero() && d.limit.Before(d.next) {
			d.next = d.limit
		}
	}
	s.arm(now)
	s.mu.Unlock()
	if due {
		s.sayHello(false)
	}
}

// dialWakeup returns when dialTimer has something to do.
func (s *Session) dialWakeup(d *dialing) time.Time {
	at := d.next
	if !d.patience.IsZero() && d.patience.Before(at) {
		at = d.patience
	}
	if !d.limit.IsZero() && d.limit.Before(at) {
		at = d.limit
	}
	if t := s.sealed; d.sealed && !t.hintBy.IsZero() && t.hintBy.Before(at) {
		at = t.hintBy
	}
	return at
}

// dialEnded ends the handshake without an association. Session.mu is held.
func (s *Session) dialEnded(err error) {
	if s.dial != nil {
		s.ep.stats.lost.Add(uint64(len(s.dial.queue)))
		s.dial = nil
		if s.sealed != nil {
			s.sealed.end()
		}
	}
	if s.ended == nil {
		s.ended = err
	}
	if s.eng != nil { // 0-RTT to nobody
		s.over = true
	}
	if s.shared { // who sends next begins again
		s.ep.unshare(s)
	}
	s.wakeAll()
}

// handshake gives a datagram to the session whose handshake it belongs to. It reports
// whether there is one.
func (r *reader) handshake(id reliable.ConnID, b []byte, p *udpio.Packet) bool {
	r.e.mu.Lock()
	s := r.e.sessions[id]
	mine := s != nil && s.client && s.remote.AddrPort == p.Addr.AddrPort
	r.e.mu.Unlock()
	if !mine {
		return false
	}
	s.mu.Lock()
	if t := s.sealed; t != nil {
		taken := s.dial != nil || t.last != nil
		run := false
		if taken {
			s.reached = p.Local.Addr
			run = t.offer(b)
		}
		s.mu.Unlock()
		if run {
			go s.runSealed()
		}
		return taken
	}
	if s.dial == nil {
		s.mu.Unlock()
		return true // a repetition
	}
	outcome, err := s.dial.m.Receive(b)
	switch {
	case outcome == handshake.Again:
		s.retried(r.now)
	case err != nil:
		s.dialEnded(bareError(err))
	case outcome == handshake.Done:
		s.reached = p.Local.Addr
		s.establish(r.now)
	}
	gone := s.gone()
	s.mu.Unlock()
	switch {
	case gone:
		r.e.remove(s)
	case outcome == handshake.Again:
		s.sayHello(true)
	}
	return true
}

// retried notes a retry, which shows the round-trip time. Session.mu is held.
func (s *Session) retried(now time.Time) {
	d := s.dial
	d.delay = helloDelay
	if !d.sent.IsZero() {
		d.rtt = max(now.Sub(d.sent), time.Microsecond)
		d.delay = max(2*d.rtt, minFlight)
	}
	d.next = now.Add(d.delay)
}

// overtaken keeps a packet that has come before WELCOME, if there is room. Most likely
// WELCOME was lost: HELLO, which asks for it, need not wait for its time. Session.mu is held.
func (s *Session) overtaken(now time.Time, b []byte) (kept bool) {
	d := s.dial
	if !d.sealed {
		if at := d.said.Add(max(d.rtt, minFlight)); at.Before(d.next) {
			d.next, d.missed = at, true
			s.arm(now)
		}
	}
	if len(d.early) == maxEarly || d.earlySize+len(b) > maxEarlySize {
		return false
	}
	d.early = append(d.early, bytes.Clone(b))
	d.earlySize += len(b)
	return true
}

// bareError gives the refusal of a server with TLS the name that callers know.
func bareError(err error) error {
	var r *handshake.RemoteError
	if errors.As(err, &r) && r.Code == framing.CodeTLS {
		return session.ErrTLSRequired
	}
	return err
}

// establish begins the association after WELCOME. Session.mu is held.
func (s *Session) establish(now time.Time) {
	d := s.dial
	s.dial = nil
	result := d.m.Result()
	rtt := d.rtt
	if !d.sent.IsZero() {
		rtt = max(now.Sub(d.sent), time.Microsecond)
	}
	s.start(now, s.ep.engineConfig(s, &result, rtt), &result)
	s.connected = true
	s.keepToken(result.Token)
	s.ep.established(s)
	s.ep.crate.negotiated(s.remote.AddrPort)
	s.eng.Ping() // the server keeps WELCOME until it has a packet
	s.sendQueued(now, d.queue)
	for _, b := range d.early {
		s.receive(now, b)
	}
	s.events()
	s.others.wake()
	s.room.wake()
	s.messages.wake()
	s.flush(now)
}

// established makes s known by its peer's id.
func (e *Endpoint) established(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions[s.id] == s {
		e.byPeer[peerKey{s.remote.AddrPort, s.peerID}] = s
		s.up = true
	}
}
