package stream

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/tlsvstp"
)

// An AutoServer is what a server asks whose sessions move between carriers.
// PROTOCOL §7.14.
type AutoServer interface {
	// AutoParams returns the server's own side for WELCOME, with a fresh SourceID, and
	// the Carriers; without the byte stream among them, the session is an ordinary one.
	// It is called after Verify, for a client that would move.
	AutoParams(hello *handshake.Hello) (handshake.DatagramParams, error)

	// AttachSession is asked by whom a byte stream is to be attached; state is that of
	// its TLS, nil without. It returns the server's proof, and what AutoResult.Attach
	// will be, not nil. An error, a [*handshake.Error], says what the client learns.
	AttachSession(a *handshake.Attach, state *tls.ConnectionState) (proof [handshake.ProofLen]byte, token any, err error)
}

// An AutoResult is what the handshake of a byte stream came to that carries the packets
// of a session.
type AutoResult struct {
	Result handshake.DatagramResult
	Own    handshake.DatagramParams // as it was sent
	Attach any                      // server: not nil if the stream was attached; all else is zero then
}

// errPackets is the error of Read, Write and the like on a session that carries packets.
var errPackets = errors.New("stream: the byte stream carries packets")

// Connect runs the TLS handshake of a client, if there is one, and no more. Handshake or
// Attach go on from there; no other method but Close may be called meanwhile. An error, or
// the end of ctx, ends the session. HandshakeTimeout holds for this part by itself.
func (s *Session) Connect(ctx context.Context) error {
	if s.cfg.TLS == nil || s.connected || !s.hsStarted.CompareAndSwap(false, true) {
		return nil // nothing to do, or Close was faster: Handshake says so
	}
	stop := s.giveUpWith(ctx)
	s.wtok <- struct{}{}
	hs, cancel := s.bound()
	defer cancel()
	err := s.cfg.Err
	if err == nil {
		err = s.startTLS(hs)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	if err != nil || s.closed {
		s.handshakeFailed(hs, err) // unlocks
		s.hsEnd(nil)
		close(s.hsCh)
		return s.hsErr
	}
	s.connected = true
	s.armRead(time.Time{})
	s.armWrite(time.Time{})
	s.hsStarted.Store(false) // before the mutex is free: Close looks at it afterwards
	s.mu.Unlock()
	s.releaseWrite()
	return nil
}

// Attach attaches the byte stream to a session, in place of Handshake, and gives it away
// as Detach does. An error ends s. It is for clients.
func (s *Session) Attach(ctx context.Context, r *handshake.AttachRequest) (*Bearer, error) {
	if s.attach != nil || s.hsDone.Load() {
		return nil, errPackets
	}
	s.attach = r
	if err := s.Handshake(ctx); err != nil {
		return nil, err
	}
	return s.Detach(), nil
}

// negotiateAttach is negotiateClient for Attach.
func (s *Session) negotiateAttach() error {
	r := s.attach
	binding, err := s.binding()
	if err != nil {
		return err
	}
	proof := handshake.AttachProof(r.K, false, r.ServerID, r.ClientID, r.N, binding)
	f, err := s.ask(handshake.AppendAttachHello(nil, &handshake.Attach{ServerID: r.ServerID, N: r.N, Proof: proof}))
	switch {
	case err != nil:
		return err
	case f.Type == framing.TypeErr:
		return needTLS(handshake.ParseErr(f))
	case f.Type != framing.TypeWelcome:
		return protocolError(framing.CodeUnexpected, f.Type.String())
	}
	got, err := handshake.ParseAttachWelcome(f)
	if err != nil {
		return err
	}
	want := handshake.AttachProof(r.K, true, r.ServerID, r.ClientID, r.N, binding)
	if !hmac.Equal(got[:], want[:]) {
		return protocolError(framing.CodeAttach, "the server has not the secret of the session")
	}
	s.auto = &AutoResult{}
	return nil
}

// binding returns what ties a proof to this byte stream.
func (s *Session) binding() ([]byte, error) {
	state := s.TLSState()
	if state == nil {
		return nil, nil
	}
	return tlsvstp.AttachBinding(state)
}

// acceptAttach answers a client that attaches.
func (s *Session) acceptAttach(a *handshake.Attach) error {
	proof, token, err := s.cfg.AutoServer.AttachSession(a, s.TLSState())
	if err != nil {
		return forClient(err)
	}
	s.auto = &AutoResult{Attach: token}
	return s.sendNow(handshake.AppendAttachWelcome(nil, proof))
}

// welcomeAuto welcomes a client that would move, and reports whether packets follow.
func (s *Session) welcomeAuto(m *handshake.Server, hello *handshake.Hello, extra framing.Header) (bool, error) {
	own, err := s.cfg.AutoServer.AutoParams(hello)
	if err != nil {
		return false, forClient(err)
	}
	if own.Carriers&handshake.CarrierByteStream == 0 {
		return false, nil
	}
	b, result, err := m.AppendWelcomeAuto(nil, s.cfg.NewSessionID(), &own, extra)
	if err != nil {
		return false, err
	}
	s.setAuto(result, own)
	return true, s.sendNow(b)
}

// forClient is err, an error of AutoServer, as something that the client is told.
func forClient(err error) error {
	var local *handshake.Error
	var refusal *session.Refusal
	if errors.As(err, &local) || errors.As(err, &refusal) {
		return err
	}
	return &handshake.Error{Code: framing.CodeInternal, Err: err}
}

// setAuto notes that packets follow.
func (s *Session) setAuto(r handshake.DatagramResult, own handshake.DatagramParams) {
	if s.cfg.TLS != nil {
		r.Checksum = false // the records of TLS have better ones, and so have sealed packets
	}
	s.result = r.Result
	s.auto = &AutoResult{Result: r, Own: own}
}

// Auto returns what Handshake came to, after it; nil means an ordinary session. The byte
// stream of another one carries packets, and is good for Detach and Close alone.
func (s *Session) Auto() *AutoResult {
	if !s.hsDone.Load() {
		return nil
	}
	return s.auto
}

// Detach gives the byte stream away, with what has been read ahead. The session is over
// then, but does not close it; if it was closed before, so is what Detach returns. It
// returns nil if there are no packets on the byte stream, or it was given away before.
func (s *Session) Detach() *Bearer {
	if s.Auto() == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detached {
		return nil
	}
	s.detached = true
	s.car.Detach() // the Bearer does not keep the session
	b := newBearer(s.car, s.rd.Buffered())
	s.rd = framing.Reader{} // its memory is not for the Bearer to keep
	if s.closed {
		b.closed.Store(true)
		close(b.done)
		return b
	}
	s.closed = true
	close(s.done)
	s.changed()
	return b
}

// closePackets is Close for a session that carries packets, which nobody has taken.
func (s *Session) closePackets(why *handshake.Error) error {
	if why == nil || !s.sayWhy(why) {
		return s.car.Close()
	}
	return nil
}
