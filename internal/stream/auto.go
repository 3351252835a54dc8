package stream

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/vstp-go/vstp/internal/handshake"
)

// An AutoServer is what a server asks whose sessions move between carriers.
// PROTOCOL §7.14.
type AutoServer interface {
	// AutoParams returns the server's own side for WELCOME, with a fresh SourceID, and
	// the Carriers; without those the session is an ordinary one. It is called after
	// Verify, for a client that would move.
	AutoParams(hello *handshake.Hello) (handshake.DatagramParams, error)

	// AttachSession is asked by whom a byte stream is to be attached; state is that of
	// its TLS, nil without. It returns the server's proof, and what AutoResult.Attach
	// will be. An error, a [*handshake.Error], says what the client learns.
	AttachSession(a *handshake.Attach, state *tls.ConnectionState) (proof [handshake.ProofLen]byte, token any, err error)
}

// An AutoResult is what the handshake of a byte stream came to that carries the packets
// of a session.
type AutoResult struct {
	Result handshake.DatagramResult
	Own    handshake.DatagramParams
	Attach any // server: not nil if the stream was attached; all else is zero then
}

var errStub = errors.New("stream: not implemented")

// Connect runs the TLS handshake of a client, if there is one, and no more.
func (s *Session) Connect(ctx context.Context) error { return errStub }

// Attach attaches the byte stream to a session, in place of Handshake.
func (s *Session) Attach(ctx context.Context, r *handshake.AttachRequest) (*Bearer, error) {
	return nil, errStub
}

// Auto returns what Handshake came to; nil means an ordinary session.
func (s *Session) Auto() *AutoResult { return nil }

// Detach gives the byte stream away, with what has been read ahead. The session is over
// then, but does not close it.
func (s *Session) Detach() *Bearer { return nil }
