package vstp

import (
	"context"
	"net"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/udpio"
)

var _ net.PacketConn = (*PacketConn)(nil)

// A PacketConn exchanges messages with any number of peers over one socket. It is a
// net.PacketConn whose packets can be as large as the peer's Config.MaxMessageSize,
// and beside it sends and receives messages with metadata. Peers need not be dialed:
// the first message to an address makes an association with it, which ends when
// nothing came for Config.IdleTimeout, or with Close. Byte streams can share the socket:
// DialStream and ListenStream. All methods may be called concurrently.
//
// As on a UDP socket, ReadFrom drops what does not fit into p, an empty message is a
// message, and an error of one peer is none of the PacketConn's. What of the messages
// is repaired and what may be lost is said at [Message]. What arrives and nobody
// receives is kept within bounds; the senders wait then, or lose what was not to be
// repaired.
//
// Every error is a *net.OpError. Inside it are os.ErrDeadlineExceeded for a deadline,
// net.ErrClosed after Close, ErrMessageTooLarge, or what the socket returned.
type PacketConn struct {
	e       *endpoint.Endpoint // nil if err is not
	network string
	laddr   net.Addr
	config  *Config

	inner  net.PacketConn // to close, if there is no endpoint
	err    error          // the configuration cannot work
	closed atomic.Bool
}

// NewPacketConn returns a PacketConn that runs the protocol on the datagrams of
// inner, which it owns from now on: Close closes inner. inner can be of any kind; a
// *net.UDPConn, and what has its SyscallConn, is read and written in batches. If config
// cannot work, every method returns why.
func NewPacketConn(inner net.PacketConn, config *Config) *PacketConn {
	network := addrOf(inner.LocalAddr()).Network()
	c, err := config.endpoint(meeting, "")
	if err != nil {
		return &PacketConn{network: network, laddr: addrOf(inner.LocalAddr()), config: config, inner: inner, err: err}
	}
	return newPacketConn(newEndpoint(inner, c), network, config)
}

func newPacketConn(e *endpoint.Endpoint, network string, config *Config) *PacketConn {
	return &PacketConn{e: e, network: network, laddr: addrOf(e.LocalAddr()), config: config}
}

// ReadFrom returns the payload of the next message and where it is from. Its metadata
// is dropped, and so is what does not fit into p.
func (pc *PacketConn) ReadFrom(p []byte) (n int, addr net.Addr, err error) {
	m, addr, err := pc.receive(context.Background(), "read")
	if err != nil {
		return 0, nil, err
	}
	return copy(p, m.Payload), addr, nil
}

// WriteTo sends p as one message without metadata to addr. It returns when the message
// is on its way or may be repaired without p; see Config.Reliable. It does not keep p.
func (pc *PacketConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if err := pc.send(context.Background(), "write", &session.Message{Payload: p}, addr); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SendMessage sends m to addr, which must be of the kind that the socket's own address
// is. Without m.RequireAck it returns when the message is on its way; with it, when the
// peer has it, or with ErrAckTimeout after Config.MaxRetries, or with ErrReset when the
// peer turns out to have been restarted: the next message finds it. The write deadline
// and ctx end the wait, and the message. One that is larger than the peer accepts, or with
// Config.NoFragmentation larger than a datagram, is refused with ErrMessageTooLarge.
func (pc *PacketConn) SendMessage(ctx context.Context, m *Message, addr net.Addr) error {
	return pc.send(ctx, "send", m.lower(), addr)
}

// ReceiveMessage returns the next message, which belongs to the caller, and where it is
// from. When ctx or the read deadline ends the wait nothing is lost.
func (pc *PacketConn) ReceiveMessage(ctx context.Context) (*Message, net.Addr, error) {
	m, addr, err := pc.receive(ctx, "receive")
	if err != nil {
		return nil, nil, err
	}
	return liftMessage(m), addr, nil
}

func (pc *PacketConn) receive(ctx context.Context, op string) (*session.Message, net.Addr, error) {
	if err := pc.check(); err != nil {
		return nil, nil, pc.opError(op, nil, err)
	}
	m, addr, err := pc.e.ReceiveMessage(ctx)
	if err != nil {
		return nil, nil, pc.opError(op, nil, err)
	}
	return m, addr, nil
}

func (pc *PacketConn) send(ctx context.Context, op string, m *session.Message, addr net.Addr) error {
	err := pc.check()
	var to udpio.Addr
	if err == nil {
		to, err = pc.destination(addr)
	}
	if err == nil {
		err = pc.e.SendMessage(ctx, m, to)
	}
	return pc.opError(op, addr, err)
}

// destination checks that addr is of the kind that the socket can send to.
func (pc *PacketConn) destination(addr net.Addr) (udpio.Addr, error) {
	if addr == nil {
		return udpio.Addr{}, &net.AddrError{Err: "missing address"}
	}
	if v := reflect.ValueOf(addr); v.Kind() == reflect.Pointer && v.IsNil() {
		return udpio.Addr{}, &net.AddrError{Err: "missing address"}
	}
	_, isUDP := addr.(*net.UDPAddr)
	if _, weAre := pc.laddr.(*net.UDPAddr); weAre && !isUDP {
		return udpio.Addr{}, &net.AddrError{Err: "unexpected address type", Addr: addr.String()}
	}
	if isUDP {
		addr = pc.thisHost(addr.(*net.UDPAddr))
	}
	to, err := udpio.AddrOf(addr)
	if err != nil {
		return udpio.Addr{}, &net.AddrError{Err: "invalid address", Addr: addr.String()}
	}
	return to, nil
}

// thisHost returns a, or where "this host" answers from if that is what a says.
func (pc *PacketConn) thisHost(a *net.UDPAddr) *net.UDPAddr {
	if len(a.IP) > 0 && !a.IP.IsUnspecified() {
		return a
	}
	is4 := pc.network != "udp6"
	if l, ok := pc.laddr.(*net.UDPAddr); ok && len(l.IP) > 0 && !l.IP.IsUnspecified() {
		is4 = l.IP.To4() != nil
	}
	return &net.UDPAddr{IP: loopback(is4).AsSlice(), Port: a.Port, Zone: a.Zone}
}

// DialStream opens a byte stream to addr over this socket, as Dial of "rudp" does over
// one of its own. It ends with the PacketConn.
func (pc *PacketConn) DialStream(ctx context.Context, addr net.Addr) (net.Conn, error) {
	err := pc.check()
	var to udpio.Addr
	if err == nil {
		to, err = pc.destination(addr)
	}
	var s *endpoint.Session
	if err == nil {
		s, err = pc.e.DialStream(ctx, to)
	}
	if err != nil {
		return nil, pc.opError("dial", addr, err)
	}
	return newConn(s, pc.streamNetwork()), nil
}

// ListenStream returns a listener for byte streams over this socket; there can be one
// at a time. Its dynamic type is *Listener. Closing it leaves the PacketConn and
// accepted connections open; closing the PacketConn closes all of them. Until then,
// those who dial a byte stream are refused.
func (pc *PacketConn) ListenStream() (net.Listener, error) {
	err := pc.check()
	if err == nil {
		err = pc.e.Listen()
	}
	if err != nil {
		return nil, pc.opError("listen", nil, err)
	}
	return newListener(newEndpointSource(pc.e, pc.streamNetwork(), pc.e.CloseListen), pc.streamNetwork(), pc.config), nil
}

// streamNetwork is the network of the byte streams on the socket.
func (pc *PacketConn) streamNetwork() string {
	if kindOf(pc.network) == messageNetwork {
		return "r" + pc.network
	}
	return pc.network
}

// Close ends everything on the socket and closes it. Messages that are to be repaired
// are sent until they have arrived, for at most Config.Linger. Blocked calls return at
// once. Closing again returns nil.
func (pc *PacketConn) Close() error {
	if pc.closed.Swap(true) {
		return nil
	}
	if pc.e == nil {
		return pc.opError("close", nil, pc.inner.Close())
	}
	return pc.opError("close", nil, pc.e.Close())
}

// LocalAddr returns the address of the socket. It is valid after Close.
func (pc *PacketConn) LocalAddr() net.Addr { return pc.laddr }

// SetDeadline sets both deadlines; see [net.PacketConn].
func (pc *PacketConn) SetDeadline(t time.Time) error {
	if err := pc.SetReadDeadline(t); err != nil {
		return err
	}
	return pc.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of ReadFrom and ReceiveMessage.
func (pc *PacketConn) SetReadDeadline(t time.Time) error {
	err := pc.check()
	if err == nil {
		err = pc.e.SetReadDeadline(t)
	}
	return pc.opError("set", nil, err)
}

// SetWriteDeadline sets the deadline of WriteTo and SendMessage.
func (pc *PacketConn) SetWriteDeadline(t time.Time) error {
	err := pc.check()
	if err == nil {
		err = pc.e.SetWriteDeadline(t)
	}
	return pc.opError("set", nil, err)
}

// check returns why no method can work.
func (pc *PacketConn) check() error {
	if pc.closed.Load() {
		return net.ErrClosed
	}
	return pc.err
}

// opError puts err into one *net.OpError.
func (pc *PacketConn) opError(op string, addr net.Addr, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: pc.network, Source: pc.laddr, Addr: addr, Err: publicError(noEOF(err))}
}

// PacketStats counts what a socket did, or the sockets of one port together.
type PacketStats struct {
	Associations int // peers it knows now
	Handshakes   int // that are not finished

	DatagramsSent, DatagramsReceived uint64
	BytesSent, BytesReceived         uint64 // of datagrams, whole

	SendErrors uint64 // datagrams that the socket refused
	Malformed  uint64 // datagrams that were no frame, or not one that may come
	UnknownID  uint64 // packets of connections that are not, or no more
	Resets     uint64 // answers to those
	Overloaded uint64 // handshakes turned away because a limit was reached
	Refused    uint64 // handshakes refused
	BadCookies uint64 // handshakes with a cookie that is not ours, or old
	Dropped    uint64 // messages and packets that came, and for which there was no room
	Lost       uint64 // messages to peers that have gone or cannot be reached, of which SendMessage knew nothing yet

	Sockets int    // how many there are, see ListenConfig.Sockets
	Strays  uint64 // times that packets came on another of them than the kernel was told to choose, which does no harm

	ReceiveBuffer, SendBuffer int  // of the socket, in bytes, as the system granted them; 0 if unknown
	GSO, GRO                  bool // the system splits and joins datagrams for us
	Batches                   bool // several datagrams are read or written in one call
}

// Stats returns the counters so far. They are not of one instant.
func (pc *PacketConn) Stats() PacketStats {
	if pc.e == nil {
		return PacketStats{}
	}
	return packetStats(pc.e)
}

func packetStats(e *endpoint.Endpoint) PacketStats {
	s := e.Stats()
	return PacketStats{
		Associations:      s.Associations,
		Handshakes:        s.Handshakes,
		DatagramsSent:     s.DatagramsSent,
		DatagramsReceived: s.DatagramsReceived,
		BytesSent:         s.BytesSent,
		BytesReceived:     s.BytesReceived,
		SendErrors:        s.SendErrors,
		Malformed:         s.Malformed,
		UnknownID:         s.UnknownID,
		Resets:            s.Resets,
		Overloaded:        s.Overloaded,
		Refused:           s.Refused,
		BadCookies:        s.BadCookies,
		Dropped:           s.Dropped,
		Lost:              s.Lost,
		Sockets:           s.Sockets,
		Strays:            s.Strays,
		ReceiveBuffer:     s.Socket.RecvBuffer,
		SendBuffer:        s.Socket.SendBuffer,
		GSO:               s.Socket.GSO,
		GRO:               s.Socket.GRO,
		Batches:           s.Socket.MMsg,
	}
}
