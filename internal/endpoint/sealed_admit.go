package endpoint

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// Which clients with TLS the application gets, and what it is asked before.

// placed gives a client that TLS is content with a place where streams wait for Accept,
// if it needs one, and reports whether it has what it needs.
func (e *Endpoint) placed(c *client) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.sealed.begun {
		return true
	}
	now := time.Now()
	stream := c.sealed.m.Params().Stream
	err := e.place(c, stream)
	if err == errNoPlace && e.freeSilent(now, maxSilence) {
		err = e.place(c, stream)
	}
	if c.stream {
		e.freeSilent(now, math.MaxInt64) // only so that the list does not grow
		c.sealed.placed = now
		e.silent = append(e.silent, c)
	}
	return err != errNoPlace
}

// maxSilence is how long a client keeps others from a place where streams wait for
// Accept that does not say anything after its handshake.
const maxSilence = time.Second

// freeSilent takes the place of the client that has been silent for longest, if it has
// been for longer than d, and reports whether there is one. Endpoint.mu is held.
func (e *Endpoint) freeSilent(now time.Time, d time.Duration) bool {
	for len(e.silent) > 0 {
		c := e.silent[0]
		silent := c.stream && !c.sealed.spoke
		if silent && now.Sub(c.sealed.placed) <= d {
			return false
		}
		e.silent[0] = nil
		e.silent = e.silent[1:]
		if silent {
			e.freePlace(c)
			return true
		}
	}
	return false
}

// admit looks at the parameters of a client, before it has shown more than that: it may
// be nowhere, so it gets no place yet where streams wait for Accept.
func (e *Endpoint) admit(c *client, hello *handshake.SealedParams) (*handshake.SealedParams, error) {
	e.mu.Lock()
	err := e.mayServe(hello.Stream)
	if err == errNoPlace && e.freeSilent(time.Now(), maxSilence) {
		err = nil
	}
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p := e.sealedParams(c.sealed.id, hello.Stream)
	if !hello.Moves {
		p.Carriers = 0 // the answer to nothing
	}
	p.ResetToken, p.HasResetToken = e.resetToken(c.sealed.id, c.local), true
	p.SessionID = e.cfg.sessionID()
	p.Confirm = e.cfg.Verify != nil || len(e.cfg.Header) > 0 || e.cfg.ServerTLS.ClientAuth != 0 || e.cfg.ServerTLS.GetConfigForClient != nil
	return &p, nil
}

// controlHello takes the metadata of a client, which wait for the decision about it.
// Session.mu is held.
func (e *Endpoint) controlHello(s *Session, header framing.Header) {
	s.result.PeerHeader = header
	c := s.admission
	e.mu.Lock()
	c.sealed.spoke = true
	var err error
	if s.stream && !c.stream {
		err = e.place(c, true)
	}
	e.mu.Unlock()
	switch {
	case err != nil:
		s.notAdmitted(err)
		return
	case e.cfg.Verify == nil:
		s.admitted(nil)
		return
	}
	state := s.tls // it changes when the client's Finished comes
	go func() {
		ctx, cancel := c.sessionContext(e)
		defer cancel()
		extra, err := e.cfg.Verify(ctx, &Hello{
			LocalAddr:  s.LocalAddr(),
			RemoteAddr: s.RemoteAddr(),
			Header:     header,
			Stream:     s.stream,
			TLS:        state,
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
	// Whoever reads this is where it is sent to, also before the client's Finished has come.
	token := e.newToken(s.remote.Addr(), s.eng.Stats().MinRTT)
	welcome, err := handshake.AppendControlWelcomeToken(nil, slices.Concat(e.cfg.Header, extra), token)
	if err != nil {
		s.notAdmitted(&handshake.Error{Code: framing.CodeInternal})
		return
	}
	s.eng.WriteControl(welcome)
	s.connected = true
	s.sendTickets()
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
