package endpoint

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
)

// New begins to serve sock, which the endpoint owns from now on.
func New(sock *udpio.Conn, cfg *Config) *Endpoint { return &Endpoint{} }

// An Endpoint is one socket and its associations.
type Endpoint struct{}

func (e *Endpoint) Listen() error                                { return nil }
func (e *Endpoint) CloseListen() error                           { return nil }
func (e *Endpoint) CloseWhenIdle() error                         { return nil }
func (e *Endpoint) Close() error                                 { return nil }
func (e *Endpoint) Accept(ctx context.Context) (*Session, error) { return nil, nil }
func (e *Endpoint) LocalAddr() net.Addr                          { return nil }
func (e *Endpoint) Stats() Stats                                 { return Stats{} }
func (e *Endpoint) SetReadDeadline(t time.Time) error            { return nil }
func (e *Endpoint) SetWriteDeadline(t time.Time) error           { return nil }
func (e *Endpoint) DialStream(ctx context.Context, to udpio.Addr) (*Session, error) {
	return nil, nil
}
func (e *Endpoint) DialMessages(ctx context.Context, to udpio.Addr) (*Session, error) {
	return nil, nil
}
func (e *Endpoint) SendMessage(ctx context.Context, m *session.Message, to udpio.Addr) error {
	return nil
}
func (e *Endpoint) ReceiveMessage(ctx context.Context) (*session.Message, net.Addr, error) {
	return nil, nil, nil
}

// A Session is one association.
type Session struct{}

func (s *Session) Read(p []byte) (int, error)                                { return 0, nil }
func (s *Session) Write(p []byte) (int, error)                               { return 0, nil }
func (s *Session) ReadFrom(r io.Reader) (int64, error)                       { return 0, nil }
func (s *Session) WriteTo(w io.Writer) (int64, error)                        { return 0, nil }
func (s *Session) CloseWrite() error                                         { return nil }
func (s *Session) Close() error                                              { return nil }
func (s *Session) LocalAddr() net.Addr                                       { return nil }
func (s *Session) RemoteAddr() net.Addr                                      { return nil }
func (s *Session) SetReadDeadline(t time.Time) error                         { return nil }
func (s *Session) SetWriteDeadline(t time.Time) error                        { return nil }
func (s *Session) Handshake(ctx context.Context) error                       { return nil }
func (s *Session) NetConn() net.Conn                                         { return nil }
func (s *Session) TLSState() *tls.ConnectionState                            { return nil }
func (s *Session) Result() (handshake.Result, bool)                          { return handshake.Result{}, false }
func (s *Session) Stats() session.Stats                                      { return session.Stats{} }
func (s *Session) Ping(ctx context.Context) (time.Duration, error)           { return 0, nil }
func (s *Session) SendMessage(ctx context.Context, m *session.Message) error { return nil }
func (s *Session) ReceiveMessage(ctx context.Context) (*session.Message, error) {
	return nil, nil
}
func (s *Session) CloseWithError(code framing.ErrorCode, reason string) error { return nil }
