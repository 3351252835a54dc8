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

const (
	// maxSealedInbox bounds the datagrams that wait while TLS computes. All that an end
	// may have to say at once has room.
	maxSealedInbox = 64

	// minFlight is when a flight is repeated at the earliest, once the round-trip time
	// is known: after two of those.
	minFlight = 25 * time.Millisecond

	// hintPatience is how long a client goes on after an ERR that anybody could have sent.
	hintPatience = 500 * time.Millisecond
)

// A sealedClient is what a client's session with TLS has beside dialing. TLS may take
// its time, and ask the application, so that neither the reader of the socket nor a
// timer calls it: they leave datagrams and wishes here, and a goroutine that lives as
// long as there are any works through them. Session.mu guards all but m and said, which belong
// to that goroutine.
type sealedClient struct {
	m      *sealed.Client
	said   bool // something was sent
	ctx    context.Context
	cancel context.CancelFunc
	busy   bool
	inbox  [][]byte
	since  time.Time // when the first one in inbox came
	ticket []byte    // TLS bytes of the control stream
	repeat bool      // the last flight is due again

	prot    *tlsvstp.Protection
	held    []waiting // messages for when the server has confirmed
	confirm bool      // the server looks at the client before it is connected
	heard   bool      // the server has answered
	rtt     time.Duration
	hint    error     // why the server refuses, perhaps
	hintBy  time.Time // when hint is believed; zero for none

	// From the end of TLS until HANDSHAKE_DONE:
	last  [][]byte // the client's Finished
	next  time.Time
	delay time.Duration
	limit time.Time
}

// newSealed prepares a handshake with TLS.
func (e *Endpoint) newSealed() *sealedClient {
	t := new(sealedClient)
	t.ctx, t.cancel = context.WithCancel(context.Background()) // Close lets it go on for as long as it lingers
	return t
}

// offer leaves a datagram of the server, which it copies, for the handshake. It
// reports whether somebody has to be sent for it. Session.mu is held.
func (t *sealedClient) offer(b []byte) (run bool) {
	if len(t.inbox) == 0 {
		t.since = time.Now()
	}
	if len(t.inbox) < maxSealedInbox && len(b) <= handshake.MaxHandshakeDatagram {
		t.inbox = append(t.inbox, bytes.Clone(b))
	}
	return t.begin()
}

// begin takes the turn of who works with m, if nobody has it. Session.mu is held.
func (t *sealedClient) begin() bool {
	if t.busy {
		return false
	}
	t.busy = true
	return true
}

// end gives up m, unless somebody has it, who will. Session.mu is held.
func (t *sealedClient) end() {
	t.cancel()
	if !t.busy && t.m != nil {
		t.m.Close()
		t.m = nil
	}
}

// runSealed works through what waits for TLS. Whoever calls it has the turn.
func (s *Session) runSealed() { s.stepSealed(false) }

// stepSealed is runSealed; if once is set, it takes no more than one step before another
// goroutine goes on: the caller of Dial does not wait for what TLS asks the application.
func (s *Session) stepSealed(once bool) {
	t := s.sealed
	s.mu.Lock()
	for {
		dialing := s.dial != nil && s.dial.sealed
		alive := len(t.ticket) > 0 && t.m != nil || s.ended == nil && !s.removed && (dialing || t.last != nil)
		if !alive || t.m != nil && len(t.inbox) == 0 && len(t.ticket) == 0 && !t.repeat {
			break
		}
		if once && t.m != nil {
			s.mu.Unlock()
			go s.runSealed()
			return
		}
		inbox, ticket, repeat, since := t.inbox, t.ticket, t.repeat, t.since
		t.inbox, t.ticket, t.repeat = nil, nil, false
		first := t.m == nil
		s.mu.Unlock()

		err := s.makeSealed(t)
		heard := false
		var flight [][]byte
		if err == nil {
			for _, b := range inbox {
				heard = t.m.Receive(b) || heard
			}
			err = t.m.Err()
			if fresh := t.m.Fresh(); fresh || repeat || err != nil {
				flight = t.m.AppendFlight(nil)
			}
			if err == nil && len(ticket) > 0 {
				s.takeTicket(t, ticket)
			}
			if err != nil { // before Dial returns, and the socket goes
				s.sayFlight(flight)
				flight = nil
			}
		}

		s.mu.Lock()
		now := time.Now()
		s.sealedStepped(now, since, t, heard, repeat, flight, err)
		if first && err == nil && s.dial != nil {
			s.startEarly(now, t)
		}
		s.mu.Unlock()
		s.sayFlight(flight)
		s.mu.Lock()
		if s.eng != nil {
			s.flush(time.Now())
			if !t.confirm && !s.connected { // what it needs has been said by now, whatever the application does next
				s.clientConnected(time.Now())
			}
		}
	}
	t.busy = false
	if s.ended != nil || s.removed || s.sealedOver(t) {
		t.end()
	}
	s.arm(time.Now())
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}

// makeSealed begins TLS if that was not done.
func (s *Session) makeSealed(t *sealedClient) (err error) {
	if t.m != nil {
		return nil
	}
	e := s.ep
	own := e.sealedParams(s.id, s.stream)
	t.m, err = sealed.NewClient(t.ctx, e.cfg.ClientTLS(s.remote), own, e.cfg.EarlyData)
	if err == nil {
		t.m.SetToken(e.useToken(s.remote))
	}
	return err
}

// sealedParams is what this side brings to a handshake with TLS.
func (e *Endpoint) sealedParams(id reliable.ConnID, stream bool) handshake.SealedParams {
	p := handshake.SealedParams{DatagramParams: e.params(id, stream)}
	p.Header, p.Checksum = nil, false // the metadata comes when there are keys
	return p
}

// sealedStepped takes what a step of the handshake has brought, with datagrams that have
// come since a time. Session.mu is held.
func (s *Session) sealedStepped(now, since time.Time, t *sealedClient, heard, repeated bool, flight [][]byte, err error) {
	d := s.dial
	if err != nil {
		err = clientError(err)
		switch {
		case d != nil:
			s.dialEnded(err)
		case s.ended == nil && s.eng != nil: // the server does not like our certificate
			s.ended = err
			s.eng.Close(now, 0, "")
			s.wakeAll()
		}
		return
	}
	if d == nil {
		return
	}
	if heard && !t.heard {
		t.heard = true
		if !d.sent.IsZero() {
			t.rtt = max(since.Sub(d.sent), time.Microsecond)
		}
	}
	if len(flight) > 0 {
		if d.sent.IsZero() && !repeated && !t.heard {
			d.sent = now // of the first flight
		} else if !t.heard {
			d.sent = time.Time{} // an answer may be to either of them
		}
	}
	if heard {
		d.delay = max(2*t.rtt, minFlight)
		if t.rtt == 0 {
			d.delay = helloDelay
		}
		d.next = now.Add(d.delay)
	}
	switch hint := t.m.Hint(); {
	case hint == nil:
		t.hint, t.hintBy = nil, time.Time{}
	case t.hint == nil:
		t.hint, t.hintBy = clientError(hint), now.Add(hintPatience)
	}
	if t.m.Done() {
		s.establishSealed(now, t, flight)
		return
	}
	s.arm(now)
}

// clientError gives what a handshake with TLS has failed of the names that callers know.
func clientError(err error) error {
	var r *handshake.RemoteError
	if errors.As(err, &r) && r.Code == framing.CodeTLS {
		return session.ErrNotTLS
	}
	return err
}

// establishSealed begins the association. Session.mu is held.
func (s *Session) establishSealed(now time.Time, t *sealedClient, flight [][]byte) {
	d := s.dial
	s.dial = nil
	result, peer := t.m.Result()
	state := t.m.State()
	s.tls = &state
	s.peerToken, s.hasPeerToken = peer.ResetToken, peer.HasResetToken
	cfg := s.ep.engineConfig(s, &result, t.rtt)
	if s.eng != nil {
		t.m.Install(t.prot)
		s.early = !t.m.EarlyRejected()
		s.peerID = reliable.ConnID(result.PeerID)
		result.PeerHeader = s.result.PeerHeader
		s.result = result.Result
		s.eng.Established(now, s.peerID, cfg.Peer, cfg.IdleTimeout, s.early)
	} else {
		t.confirm = peer.Confirm
		s.startSealed(now, t, cfg, &result)
	}

	t.last, t.delay = flight, max(2*t.rtt, minFlight)
	t.next = now.Add(t.delay)
	t.limit = d.limit
	if l := s.ep.cfg.HandshakeTimeout; l > 0 && !t.confirm {
		t.limit = now.Add(l)
	}
	s.ep.established(s)
	s.ep.crate.negotiated(s.remote.AddrPort)
	if s.connected {
		s.sendQueued(now, d.queue)
	} else {
		t.held = d.queue
	}
	for _, b := range d.early {
		s.receive(now, b)
	}
	s.events()
	s.others.wake()
	s.room.wake()
	s.messages.wake()
	s.arm(now)
}

// startSealed makes the engine, with the keys that are there. Session.mu is held.
func (s *Session) startSealed(now time.Time, t *sealedClient, cfg *reliable.Config, result *handshake.DatagramResult) {
	t.prot = tlsvstp.NewProtection()
	t.m.Install(t.prot)
	cfg.Protection = t.prot
	s.start(now, cfg, result)
	hello, err := s.controlHello()
	if err != nil || !s.eng.WriteControl(hello) {
		s.ended = &handshake.Error{Code: framing.CodeInternal, Reason: "metadata cannot be sent", Err: err}
		s.eng.Close(now, uint64(framing.CodeInternal), "")
	}
}

// startEarly begins an association before the handshake has, if the server has allowed
// that the last time: Dial need not wait then. PROTOCOL §8.9. Session.mu is held.
func (s *Session) startEarly(now time.Time, t *sealedClient) {
	remembered := t.m.Remembered()
	if remembered == nil {
		return
	}
	peer := *remembered
	peer.ClientID = handshake.ConnID(s.id)
	own := s.ep.sealedParams(s.id, s.stream)
	result, err := handshake.Negotiate(&own, &peer, true)
	if err != nil {
		return // the ends have changed
	}
	cfg := s.ep.engineConfig(s, &result, 0)
	cfg.Early, cfg.PeerID = true, reliable.ConnID{}
	t.confirm = peer.Confirm // it will hardly have changed its mind
	s.startSealed(now, t, cfg, &result)
}

// clientConnected lets the application have the session. What it has sent before goes out.
// Session.mu is held.
func (s *Session) clientConnected(now time.Time) {
	s.connected = true
	queue := s.sealed.held
	s.sealed.held = nil
	if d := s.dial; d != nil {
		queue, d.queue = d.queue, nil
	}
	s.sendQueued(now, queue)
	s.others.wake()
	s.room.wake()
	s.flush(now)
}

// controlHello makes the first record of the control stream.
func (s *Session) controlHello() ([]byte, error) {
	e := s.ep
	if e.cfg.ServerTLS != nil { // its tokens depend on where the peer reaches it, which is not known yet
		return handshake.AppendControlHello(nil, e.cfg.Header)
	}
	return handshake.AppendControlHelloToken(nil, e.cfg.Header, e.resetToken(s.id, udpio.Local{}))
}

// sayFlight sends datagrams of the handshake.
func (s *Session) sayFlight(flight [][]byte) {
	if len(flight) == 0 {
		return
	}
	first := !s.sealed.said
	s.sealed.said = true
	err := s.ep.writeAll(flight, s.remote, udpio.Local{})
	if err == nil || !fatalForDial(err, first) {
		return
	}
	s.mu.Lock()
	if s.dial != nil {
		s.dialEnded(err)
	}
	s.mu.Unlock()
}

// sealedDue is what a session's timer does for a handshake with TLS. It reports
// whether somebody has to call runSealed. Session.mu is held.
func (s *Session) sealedDue(now time.Time) (run bool) {
	t := s.sealed
	if at := s.sealedAt(); at.IsZero() || now.Before(at) {
		return false
	}
	if !t.limit.IsZero() && !now.Before(t.limit) {
		s.ended = session.ErrHandshakeTimeout
		s.eng.Close(now, uint64(framing.CodeTimeout), "")
		s.wakeAll()
		return false
	}
	t.delay = min(2*t.delay, maxHelloDelay)
	t.next = now.Add(t.delay)
	t.repeat = true
	return t.begin()
}

// sealedAt returns when sealedDue has something to do, zero for never.
func (s *Session) sealedAt() time.Time {
	t := s.sealed
	switch {
	case t == nil || s.ended != nil || s.dial != nil:
		return time.Time{}
	case t.last != nil && (t.limit.IsZero() || t.next.Before(t.limit)):
		return t.next
	case t.last != nil || !s.connected:
		return t.limit // of Finished, and of WELCOME
	}
	return time.Time{}
}

// handshakeDone is called when the server has told that it has the client's Finished.
// Session.mu is held.
func (s *Session) handshakeDone() {
	if t := s.sealed; t != nil {
		t.last = nil
		if s.sealedOver(t) {
			t.end()
		}
	}
}

// sealedOver reports whether TLS has nothing to do any more: it waits for tickets if
// they are of use. Session.mu is held.
func (s *Session) sealedOver(t *sealedClient) bool {
	return s.eng != nil && s.dial == nil && t.last == nil && (t.m == nil || !t.m.WantsTickets())
}

// takeTicket gives TLS the bytes of a session ticket. One that is no good does no harm
// to the association.
func (s *Session) takeTicket(t *sealedClient, b []byte) {
	if err := t.m.Ticket(b); err != nil {
		s.ep.warn("vstp: session ticket refused", "err", err)
	}
}
