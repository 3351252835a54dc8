package vstp

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"
)

type Conn struct{}

func Client(conn net.Conn, config *Config) *Conn { panic("skeleton") }
func Server(conn net.Conn, config *Config) *Conn { panic("skeleton") }

func (c *Conn) Read(p []byte) (int, error)          { panic("skeleton") }
func (c *Conn) Write(p []byte) (int, error)         { panic("skeleton") }
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { panic("skeleton") }
func (c *Conn) WriteTo(w io.Writer) (int64, error)  { panic("skeleton") }
func (c *Conn) CloseWrite() error                   { panic("skeleton") }
func (c *Conn) Close() error                        { panic("skeleton") }
func (c *Conn) LocalAddr() net.Addr                 { panic("skeleton") }
func (c *Conn) RemoteAddr() net.Addr                { panic("skeleton") }
func (c *Conn) SetDeadline(t time.Time) error       { panic("skeleton") }
func (c *Conn) SetReadDeadline(t time.Time) error   { panic("skeleton") }
func (c *Conn) SetWriteDeadline(t time.Time) error  { panic("skeleton") }
func (c *Conn) Handshake(ctx context.Context) error { panic("skeleton") }
func (c *Conn) ConnectionState() ConnectionState    { panic("skeleton") }
func (c *Conn) Stats() Stats                        { panic("skeleton") }
func (c *Conn) NetConn() net.Conn                   { panic("skeleton") }

// Ping sends PING and waits for its PONG.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) { panic("skeleton") }

// CloseWithError sends ERR and ends the connection.
func (c *Conn) CloseWithError(code ErrorCode, reason string) error { panic("skeleton") }

func (c *Conn) SendMessage(ctx context.Context, m *Message) error    { panic("skeleton") }
func (c *Conn) ReceiveMessage(ctx context.Context) (*Message, error) { panic("skeleton") }

// ConnectionState is what the handshake agreed upon.
type ConnectionState struct {
	HandshakeComplete bool
	Network           string // that of Dial or Listen: "tcp", "unix"
	Carrier           string // what moves the frames: "tcp", "unix", "tcp+tls", ...
	Legacy            bool   // a crate peer, nothing negotiated
	SessionID         [16]byte
	PeerHeader        Header
	Checksum          bool
	Compression       Compression
	MaxFrameSize      int // the largest frame the peer accepts
	MaxMessageSize    int // the largest message the peer accepts
	TLS               *tls.ConnectionState
}

// Stats counts what a connection did.
type Stats struct {
	BytesSent, BytesReceived       uint64 // of Read, Write and message payloads
	WireSent, WireReceived         uint64 // with frame overhead, before TLS
	FramesSent, FramesReceived     uint64
	MessagesSent, MessagesReceived uint64
	RTT                            time.Duration // of the last Ping or keep-alive
	LastReceived                   time.Time
}
