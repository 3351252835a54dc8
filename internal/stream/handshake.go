package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/tlsvstp"
)

// errClosed is net.ErrClosed: this side has closed the session.
var errClosed = net.ErrClosed

// Handshake runs the handshake if it has not run yet, and returns its result. When
// ctx ends first the session is over, as with crypto/tls.
func (s *Session) Handshake(ctx context.Context) error {
	if s.hsDone.Load() {
		return nil
	}
	stop := s.giveUpWith(ctx)
	if s.hsStarted.CompareAndSwap(false, true) {
		s.runHandshake() // here rather than in a goroutine: it is dialing that waits
	}
	<-s.hsCh
	if !stop() && s.hsErr == nil {
		return context.Cause(ctx) // it was faster, but giveUp has closed the carrier
	}
	return s.hsErr
}

// giveUpWith makes the end of ctx that of an unfinished handshake.
func (s *Session) giveUpWith(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() {
		s.hsEnd(context.Cause(ctx))
		s.car.Close()
	})
}

// startHandshake runs it in a goroutine of its own, so that callers can wait with
// deadlines of theirs, none of which can break it.
func (s *Session) startHandshake() {
	if s.hsStarted.CompareAndSwap(false, true) {
		go s.runHandshake()
	}
}

// ready waits for the end of the handshake, for as long as o allows.
func (s *Session) ready(o *op) error {
	if !s.hsDone.Load() {
		s.startHandshake()
		if _, err := s.acquire(nil, o, s.hsCh); err != nil {
			return err
		}
	}
	if s.auto != nil && s.hsErr == nil {
		return errPackets
	}
	return s.hsErr
}

// runHandshake has wtok all the time: TLS may want to answer its peer before the
// handshake is finished, which the flusher must not do beside sendNow. If packets follow
// it keeps it, as nothing else is to be written then.
func (s *Session) runHandshake() {
	defer close(s.hsCh)
	defer s.hsEnd(nil)
	s.wtok <- struct{}{}
	ctx, cancel := s.bound()
	defer cancel()
	err := s.negotiate(ctx)
	s.mu.Lock()
	if err == nil && s.closed {
		err = errClosed
	}
	if err != nil {
		s.handshakeFailed(ctx, err) // unlocks
		return
	}
	s.armRead(time.Time{})
	s.armWrite(time.Time{})
	if s.auto != nil {
		s.endReading(errPackets)
		s.werr = errPackets
		s.hsDone.Store(true)
		s.mu.Unlock()
		return
	}
	s.sum = s.result.Checksum
	s.hsDone.Store(true)
	s.startService()
	s.mu.Unlock()
	s.releaseWrite()
}

// bound returns the context of a part of the handshake, and puts its deadline on the
// carrier.
func (s *Session) bound() (context.Context, context.CancelFunc) {
	d := s.cfg.HandshakeTimeout
	if d <= 0 {
		return s.hsCtx, func() {}
	}
	ctx, cancel := context.WithTimeoutCause(s.hsCtx, d, session.ErrHandshakeTimeout)
	limit, _ := ctx.Deadline()
	s.mu.Lock()
	if !s.closed {
		s.armRead(limit)
		s.armWrite(limit)
	}
	s.mu.Unlock()
	return ctx, cancel
}

// handshakeFailed ends the session. Session.mu is held, and given back; wtok too.
func (s *Session) handshakeFailed(ctx context.Context, err error) {
	if s.closed {
		err = errClosed
	} else if ctx.Err() != nil || isTimeout(err) {
		err = context.Cause(ctx)
		if err == nil {
			err = session.ErrHandshakeTimeout
		}
	}
	s.hsErr = err
	s.endReading(err)
	s.werr = err
	s.mu.Unlock()
	if s.cfg.Client || s.result.Legacy || s.cur.typ == framing.TypeErr || !s.sayWhy(err) {
		s.car.Close()
	}
	<-s.wtok
}

// sayWhy tells the client why the handshake failed, where that helps, and ends the
// carrier in a way that lets it arrive. It reports whether it did so.
func (s *Session) sayWhy(err error) bool {
	var local *handshake.Error
	var refusal *session.Refusal
	var b []byte
	switch {
	case errors.As(err, &refusal):
		b, err = handshake.AppendErr(nil, framing.CodeRefused, refusal.Reason, refusal.Header)
		if err != nil {
			b, err = handshake.AppendErr(nil, framing.CodeRefused, refusal.Reason, nil)
		}
	case errors.As(err, &local):
		b, err = handshake.AppendErr(nil, local.Code, local.Reason, nil)
	case errors.Is(err, session.ErrTLSRequired), errors.Is(err, session.ErrNotTLS):
		// Cleartext for a peer that reads cleartext, and a record that is none for
		// one that reads TLS: both then know.
		b, err = handshake.AppendErr(nil, framing.CodeTLS, "", nil)
		s.car.Plain()
	case errors.Is(err, session.ErrHandshakeTimeout):
		b, err = handshake.AppendErr(nil, framing.CodeTimeout, "handshake", nil)
	default:
		return false
	}
	if err != nil {
		return false
	}
	// Something so small goes at once or not at all.
	s.car.SetWriteDeadline(time.Now().Add(min(s.cfg.Linger, time.Second)))
	if s.car.WriteFrame(b, nil, nil) != nil || s.car.Flush() != nil || !s.car.CloseWrite() {
		return false
	}
	go func() {
		s.car.SetReadDeadline(time.Now().Add(s.cfg.Linger))
		s.car.Discard(make([]byte, drainBuffer))
		s.car.Close()
	}()
	return true
}

func (s *Session) negotiate(ctx context.Context) error {
	if s.cfg.Err != nil {
		return s.cfg.Err
	}
	if s.cfg.TLS != nil && !s.connected {
		if err := s.startTLS(ctx); err != nil {
			return err
		}
	}
	mode := framing.TrailerByFlag
	switch {
	case !s.cfg.Client:
		mode = framing.TrailerSniff
	case s.cfg.Legacy:
		mode = framing.TrailerAlways
	}
	s.rd.Init((*source)(s), int(s.cfg.Params.MaxFrame), mode)
	switch {
	case !s.cfg.Client:
		return s.negotiateServer(ctx)
	case s.attach != nil:
		return s.negotiateAttach()
	}
	return s.negotiateClient()
}

func (s *Session) startTLS(ctx context.Context) error {
	err := s.car.StartTLS(ctx, s.cfg.TLS, s.cfg.Client, s.kick)
	if err != nil {
		var rec tls.RecordHeaderError
		if errors.As(err, &rec) {
			return session.ErrNotTLS
		}
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return tlsvstp.VerifyState(s.car.TLS().ConnectionState())
}

func (s *Session) negotiateClient() error {
	if s.cfg.Legacy {
		s.nextID = 1 // as the crate counts
		s.result = handshake.LegacyResult()
		return nil
	}
	m := handshake.NewClient(s.cfg.Params)
	if s.cfg.Auto != nil {
		m.Offer(*s.cfg.Auto)
	}
	b, err := m.AppendHello(nil)
	if err != nil {
		return err
	}
	f, err := s.ask(b)
	if err != nil {
		return err
	}
	s.result, err = m.Receive(f)
	if r := m.Auto(); r != nil && err == nil {
		s.setAuto(*r, m.Offered())
	}
	return needTLS(err)
}

// ask sends a HELLO and returns the answer.
func (s *Session) ask(hello []byte) (framing.Frame, error) {
	if err := s.sendNow(hello); err != nil {
		return framing.Frame{}, err
	}
	f, _, err := s.firstFrame()
	if err != nil {
		return f, s.explain(violation(err))
	}
	return f, nil
}

// needTLS makes what a server with TLS says more telling.
func needTLS(err error) error {
	var remote *handshake.RemoteError
	if errors.As(err, &remote) && remote.Code == framing.CodeTLS {
		return session.ErrTLSRequired
	}
	return err
}

func (s *Session) negotiateServer(ctx context.Context) error {
	f, fixed, err := s.firstFrame()
	if err != nil {
		return s.explain(violation(err))
	}
	m := handshake.NewServer(s.cfg.Params)
	if s.cfg.AutoServer != nil {
		m.AllowAuto()
	}
	hello, err := m.Receive(f)
	if err != nil {
		return err
	}
	if hello.Attach != nil {
		return s.acceptAttach(hello.Attach)
	}
	var extra framing.Header
	if s.cfg.Verify != nil {
		extra, err = s.cfg.Verify(ctx, s, hello)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			var r *session.Refusal
			if !errors.As(err, &r) {
				err = &session.Refusal{} // why is not for the client's eyes
			}
			return err
		}
	}
	if hello.Auto != nil {
		if packets, err := s.welcomeAuto(m, hello, extra); packets || err != nil {
			return err
		}
	}
	b, result, err := m.AppendWelcome(nil, s.cfg.NewSessionID(), extra)
	if err != nil {
		return err
	}
	s.result = result
	if result.Legacy {
		s.nextID = 1 // as the crate counts
		if f.Type == framing.TypeHello {
			return nil
		}
		// The frame has been read but not acted upon.
		s.stats.framesIn.Add(1)
		return s.begin(fixed, f.Header)
	}
	s.rd.SetTrailer(framing.TrailerByFlag)
	return s.sendNow(b)
}

// sendNow sends a frame during the handshake.
func (s *Session) sendNow(b []byte) error {
	if err := s.car.WriteFrame(b, nil, nil); err != nil {
		return err
	}
	s.stats.framesOut.Add(1)
	s.stats.wireOut.Add(uint64(len(b)))
	return s.car.Flush()
}

// firstFrame reads the peer's first frame, whole if it belongs to the handshake:
// what else a crate peer may begin with, which can be large, stays to be received.
// Its header is a copy, as reading the payload may move the original.
func (s *Session) firstFrame() (framing.Frame, framing.Fixed, error) {
	fixed, h, err := s.rd.Next()
	s.cur.typ = fixed.Type
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return framing.Frame{}, fixed, err
	}
	f := framing.Frame{Type: fixed.Type, Flags: fixed.Flags, Header: append(framing.RawHeader(nil), h...)}
	switch fixed.Type {
	case framing.TypeHello, framing.TypeWelcome, framing.TypeErr:
		if fixed.PayloadLen > maxControlPayload {
			return f, fixed, protocolError(framing.CodeTooLarge, "control frame")
		}
		if f.Payload, err = s.rd.Payload(); err != nil {
			return f, fixed, err
		}
	}
	if fixed.Type != framing.TypeErr { // an ERR is taken as it comes
		err = f.Header.Validate()
	}
	return f, fixed, err
}
