package vstp

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
)

// A messagePeer is what the Conn is over that ListenConfig.Messages gets: somebody who sends
// messages on UDP, and to whom some can be sent. It is no connection of its own.
type messagePeer struct {
	e  *endpoint.Endpoint
	to udpio.Addr
}

var _ connSession = (*messagePeer)(nil)

func (s *messagePeer) SendMessage(ctx context.Context, m *session.Message) error {
	return s.e.SendMessage(ctx, m, s.to)
}

// Write sends one message.
func (s *messagePeer) Write(p []byte) (int, error) {
	if err := s.SendMessage(context.Background(), &session.Message{Payload: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *messagePeer) Handshake(context.Context) error { return nil }

// What comes from the peer is the handler's.
func (s *messagePeer) Read([]byte) (int, error)          { return 0, session.ErrNotSupported }
func (s *messagePeer) WriteTo(io.Writer) (int64, error)  { return 0, session.ErrNotSupported }
func (s *messagePeer) ReadFrom(io.Reader) (int64, error) { return 0, session.ErrNotSupported }
func (s *messagePeer) ReceiveMessage(context.Context) (*session.Message, error) {
	return nil, session.ErrNotSupported
}

func (s *messagePeer) Ping(context.Context) (time.Duration, error) {
	return 0, session.ErrNotSupported
}

func (s *messagePeer) CloseWrite() error                              { return session.ErrNotSupported }
func (s *messagePeer) Close() error                                   { return nil }
func (s *messagePeer) CloseWithError(framing.ErrorCode, string) error { return nil }

func (s *messagePeer) LocalAddr() net.Addr  { return s.e.LocalAddr() }
func (s *messagePeer) RemoteAddr() net.Addr { return s.to.NetAddr() }

// The deadlines of the socket are for everybody on it.
func (s *messagePeer) SetReadDeadline(time.Time) error  { return session.ErrNotSupported }
func (s *messagePeer) SetWriteDeadline(time.Time) error { return session.ErrNotSupported }

func (s *messagePeer) NetConn() net.Conn                { return nil }
func (s *messagePeer) TLSState() *tls.ConnectionState   { return nil }
func (s *messagePeer) Result() (handshake.Result, bool) { return handshake.Result{}, false }
func (s *messagePeer) Stats() session.Stats             { return session.Stats{} }
