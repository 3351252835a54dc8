package vstp

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/stream"
)

var (
	_ net.Conn      = (*Conn)(nil)
	_ io.ReaderFrom = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
)

// A Conn is one end of a connection. It is a net.Conn for the byte stream, and
// beside it sends and receives messages with metadata; both are in order, each for
// itself. All methods may be called concurrently.
//
// The methods of a net.Conn return io.EOF as it is, and only after the peer has
// said BYE; every other error is a *net.OpError. Inside it are
// os.ErrDeadlineExceeded for a deadline, net.ErrClosed after Close,
// io.ErrUnexpectedEOF for a carrier that ended without BYE, a *ProtocolError,
// a *RefusedError, or what the carrier returned.
//
// A deadline never damages the connection: a Write that it cuts short returns how
// many bytes were accepted, all of which will be sent, and the connection works on
// once the deadline is lifted, with TLS as well.
//
// A Conn of "udp" carries messages only: each Write sends one, without metadata, and
// each Read returns the payload of one; what does not fit into p is dropped, as with
// [net.UDPConn]. SendMessage and ReceiveMessage are the same with metadata, and
// CloseWrite is not supported.
//
// A Conn of "auto" is as one of "rudp", whatever carries it at the time; only where the
// server does not move it may be as one of "tcp" for all its life.
type Conn struct {
	s            connSession
	network      string
	laddr, raddr net.Addr
}

// A connSession is what is underneath: a *stream.Session or an *endpoint.Session.
// Its errors are those of package session.
type connSession interface {
	Handshake(ctx context.Context) error
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	ReadFrom(r io.Reader) (int64, error)
	WriteTo(w io.Writer) (int64, error)
	SendMessage(ctx context.Context, m *session.Message) error
	ReceiveMessage(ctx context.Context) (*session.Message, error)
	Ping(ctx context.Context) (time.Duration, error)
	CloseWrite() error
	Close() error
	CloseWithError(code framing.ErrorCode, reason string) error
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	NetConn() net.Conn
	Result() (handshake.Result, bool)
	TLSState() *tls.ConnectionState
	Stats() session.Stats
}

var _ connSession = (*stream.Session)(nil)

// newConn returns a Conn over s. An empty network is that of its address.
func newConn(s connSession, network string) *Conn {
	c := &Conn{
		s:       s,
		network: network,
		laddr:   addrOf(s.LocalAddr()),
		raddr:   addrOf(s.RemoteAddr()),
	}
	if network == "" {
		c.network = c.laddr.Network()
	}
	return c
}

// addrOf returns a, or an address that says nothing: callers of LocalAddr and
// RemoteAddr never get nil, whatever the carrier has.
func addrOf(a net.Addr) net.Addr {
	if a == nil {
		return unknownAddr{}
	}
	return a
}

type unknownAddr struct{}

func (unknownAddr) Network() string { return "unknown" }
func (unknownAddr) String() string  { return "unknown" }

// Client returns the client side of a connection over conn, which can be of any
// kind as long as its deadlines work. The handshake runs with the first use, or
// with Handshake. Closing the Conn closes conn. If config.TLS is not nil, its
// ServerName must be set, or InsecureSkipVerify, as for [tls.Client].
func Client(conn net.Conn, config *Config) *Conn {
	c, _ := config.session(true, "") // a bad config is the error of Handshake
	return newConn(stream.New(conn, c), "")
}

// Server returns the server side of a connection over conn; see Client. TLS sessions
// are resumed across all connections with the same config.TLS.
func Server(conn net.Conn, config *Config) *Conn {
	c, _ := config.session(false, "")
	return newConn(stream.New(conn, c), "")
}

// Read reads from the peer's byte stream. On streams, bytes of a frame with a
// checksum are returned once all of the frame has arrived and the checksum was found
// right, in p itself if it has room. The error is io.EOF after the peer's CloseWrite or Close.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.s.Read(p)
	return n, c.opError("read", err)
}

// Write writes to the byte stream. It returns when the carrier, or on datagrams the
// send buffer, has taken all of p, or with an error and the number of bytes that were
// accepted. It does not keep p.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.s.Write(p)
	return n, c.opError("write", err)
}

// ReadFrom writes what r gives until its end to the byte stream. It implements
// [io.ReaderFrom]. An *os.File goes out by sendfile on a plaintext TCP connection
// without checksum and compression.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.s.ReadFrom(r)
	return n, c.opError("write", err)
}

// WriteTo writes the peer's byte stream to w until its end. It implements
// [io.WriterTo].
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	n, err := c.s.WriteTo(w)
	return n, c.opError("read", err)
}

// CloseWrite ends this side's stream and messages: the peer reads io.EOF after
// what was sent before. Reading goes on. CloseWrite does not block. On datagrams the
// end comes after all messages, those that the peer does not receive included.
func (c *Conn) CloseWrite() error { return c.opError("close", c.s.CloseWrite()) }

// Close closes the connection. What Write has accepted is sent; Close waits at most
// Config.Linger for the carrier to take it, on datagrams for the peer to have it, and
// returns ErrUnsent if that was not enough.
// Blocked calls return at once. Closing again returns nil.
func (c *Conn) Close() error { return c.opError("close", c.s.Close()) }

// CloseWithError closes the connection as Close does, but tells the peer why: its
// calls return a *ProtocolError with that code and reason.
func (c *Conn) CloseWithError(code ErrorCode, reason string) error {
	return c.opError("close", c.s.CloseWithError(code, reason))
}

// LocalAddr returns the local address of the carrier, on "auto" of the one that the
// connection began on. It does not change, and is valid after Close.
func (c *Conn) LocalAddr() net.Addr { return c.laddr }

// RemoteAddr returns the peer's address on that carrier. It does not change, and is valid
// after Close.
func (c *Conn) RemoteAddr() net.Addr { return c.raddr }

// SetDeadline sets both deadlines; see [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	err := c.s.SetReadDeadline(t)
	if err == nil {
		err = c.s.SetWriteDeadline(t)
	}
	return c.opError("set", err)
}

// SetReadDeadline sets the deadline of Read, WriteTo and ReceiveMessage.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.opError("set", c.s.SetReadDeadline(t)) }

// SetWriteDeadline sets the deadline of Write, ReadFrom and SendMessage.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.opError("set", c.s.SetWriteDeadline(t))
}

// Handshake runs the handshake, TLS included, unless it has run already, and
// returns its error. If ctx ends first the connection is closed. Most programs need
// not call it: Dial and Accept have done so, other methods do. With 0-RTT
// (Config.EarlyData) Dial and Accept return before it is over, and Handshake waits for
// that: from then on, a server knows that nothing it reads is a replay. On datagrams with
// TLS, Dial does not wait for a server that neither checks its clients nor has metadata;
// Handshake does, and so tells of a refusal.
func (c *Conn) Handshake(ctx context.Context) error {
	return c.opError("handshake", c.s.Handshake(ctx))
}

// Ping sends a PING and returns the time until its PONG.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	d, err := c.s.Ping(ctx)
	return d, c.opError("ping", noEOF(err))
}

// SendMessage sends m. Without m.RequireAck it returns when the carrier has taken
// the message, or, when the write deadline or ctx cut it short, whatever of it the
// peer will drop. With RequireAck it waits for the peer's ACK; see Config.AckTimeout
// for how long. A message larger than the peer accepts is refused at once with
// ErrMessageTooLarge. Large messages do not delay others, nor the byte stream.
func (c *Conn) SendMessage(ctx context.Context, m *Message) error {
	return c.opError("send", noEOF(c.s.SendMessage(ctx, m.lower())))
}

// ReceiveMessage returns the next message, which belongs to the caller. After the
// peer's CloseWrite or Close the error is io.EOF. When ctx or the read deadline
// ends the wait nothing is lost.
//
// On streams, byte stream and messages share the carrier: ReceiveMessage gets past
// at most 256 KiB of stream that nobody reads, and Read past at most 1,024 messages
// or 4 MiB of them. On datagrams neither stops the other.
func (c *Conn) ReceiveMessage(ctx context.Context) (*Message, error) {
	m, err := c.s.ReceiveMessage(ctx)
	if err != nil {
		return nil, c.opError("receive", err)
	}
	return liftMessage(m), nil
}

// noEOF keeps io.EOF from calls for which it is no orderly end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// NetConn returns the connection underneath, nil on datagrams. Reading from it or
// writing to it corrupts this one.
func (c *Conn) NetConn() net.Conn { return c.s.NetConn() }

// ConnectionState is what the handshake agreed upon.
type ConnectionState struct {
	// HandshakeComplete says that the fields below Carrier are valid.
	HandshakeComplete bool

	Network string // that of Dial or Listen: "tcp", "unix", "udp", "rudp", "auto", ...
	Carrier string // what moves the frames, on "auto" now: "tcp", "unix", "tcp+tls", "udp", ...

	Legacy         bool     // the peer negotiated nothing: the crate
	SessionID      [16]byte // the same at both ends
	PeerHeader     Header   // metadata of the peer's HELLO or WELCOME
	Checksum       bool     // every frame has a CRC
	Compression    Compression
	MaxFrameSize   int           // the largest frame the peer accepts; 0 on datagrams
	MaxMessageSize int           // the largest message the peer accepts
	IdleTimeout    time.Duration // the smaller one of both sides, or 0

	TLS *tls.ConnectionState // nil in plaintext

	// EarlyData says that the connection began with 0-RTT, which the server has
	// accepted (Config.EarlyData). At a server, what was read before Handshake
	// returned may be a replay.
	EarlyData bool
}

// ConnectionState returns what is known about the connection.
func (c *Conn) ConnectionState() ConnectionState {
	cs := ConnectionState{Network: c.network, Carrier: c.laddr.Network()}
	if m := c.mover(); m != nil {
		cs.Carrier = m.Carrier().String()
	}
	r, ok := c.s.Result()
	if !ok {
		return cs
	}
	cs.HandshakeComplete = true
	cs.Legacy = r.Legacy
	cs.SessionID = r.SessionID
	cs.PeerHeader = r.PeerHeader.Clone()
	cs.Checksum = r.Checksum
	if r.Compression == handshake.CompressZstd {
		cs.Compression = CompressionZstd
	}
	cs.MaxFrameSize = int(min(r.PeerMaxFrame, maxMaxFrame))
	cs.MaxMessageSize = int(min(r.PeerMaxMessage, maxMaxFrame))
	cs.IdleTimeout = r.Idle
	if cs.TLS = c.s.TLSState(); cs.TLS != nil {
		cs.Carrier += "+tls"
	}
	if e, ok := c.s.(interface{ EarlyData() bool }); ok {
		cs.EarlyData = e.EarlyData()
	}
	return cs
}

// Stats counts what a connection did. The fields from PacketsSent on are zero on
// streams ("tcp", "unix"); on "auto", packets are those on both carriers.
type Stats struct {
	BytesSent, BytesReceived       uint64 // of the byte stream and of message payloads
	WireSent, WireReceived         uint64 // whole frames, before TLS
	FramesSent, FramesReceived     uint64
	MessagesSent, MessagesReceived uint64
	RTT                            time.Duration // streams: of the last PING that was answered; datagrams: smoothed

	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64 // declared lost; some may have come late
	PacketsRetransmitted         uint64 // with something in them that was sent before
	PacketsDropped               uint64 // received, and malformed or a duplicate
	BytesRetransmitted           uint64 // of the byte stream and of messages
	RedundantSent                uint64 // bytes of copies and parity, see Message.Redundant
	RedundantRepaired            uint64 // lost packets for whose messages nothing had to be sent again, thanks to those

	MinRTT, RTTVar   time.Duration // smallest round trip lately, mean deviation
	CongestionWindow int           // bytes that may be in flight
	BytesInFlight    int           // bytes sent and neither acknowledged nor lost
	PacingRate       float64       // bytes per second
	Bandwidth        float64       // estimated, bytes per second; 0 if unknown
	MTU              int           // payload of a full datagram
	PathChanges      uint64        // how often the peer's address, or the own one, has changed
	Controller       string        // name and state of the congestion controller

	Moves       uint64 // between carriers, on "auto"
	RecentMoves []Move // the last 16 of them, oldest first, with what they have cost so far
}

// A Move is a change of the carrier that a connection of "auto" sends on: From and To are
// "udp" or "tcp".
type Move = session.Move

// Stats returns the counters so far. They are not of one instant.
func (c *Conn) Stats() Stats { return Stats(c.s.Stats()) }
