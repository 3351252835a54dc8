package vstp

import (
	"context"
	"errors"
	"net"
	"time"
)

// Listen announces on the local network address, as [net.Listen]. The dynamic type is always *Listener.
func Listen(network, address string) (net.Listener, error) {
	return (&ListenConfig{}).Listen(context.Background(), network, address)
}

// ListenConfig holds the options for listening.
type ListenConfig struct {
	Config          *Config
	NetListenConfig *net.ListenConfig
}

func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return nil, errors.New("skeleton")
}

// NewListener wraps what the caller listens on, as [tls.NewListener].
func NewListener(inner net.Listener, config *Config) *Listener { panic("skeleton") }

type Listener struct{}

func (l *Listener) Accept() (net.Conn, error)     { panic("skeleton") }
func (l *Listener) Close() error                  { panic("skeleton") }
func (l *Listener) Addr() net.Addr                { panic("skeleton") }
func (l *Listener) SetDeadline(t time.Time) error { panic("skeleton") }

// A MessageHandler is called for each message of each connection, in order; an error ends that connection.
type MessageHandler func(ctx context.Context, c *Conn, m *Message) error

// Serve accepts connections and calls handler until ctx ends or l is closed.
func (l *Listener) Serve(ctx context.Context, handler MessageHandler) error { panic("skeleton") }
