package vstp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

var _ net.Listener = (*Listener)(nil)

// Listen announces on the local network address with the default configuration. The
// networks are "tcp", "tcp4", "tcp6", "unix", "rudp", "rudp4", "rudp6", "auto", "auto4" and
// "auto6", addresses as for [net.Listen]; where one names a host and no port it is 6969. The
// dynamic type is always *Listener.
//
// "auto" is TCP and UDP of one port, and its connections are those of clients of "auto",
// of "rudp", and of "tcp", those of the crate among the latter. With [ListenConfig.Messages] it
// serves clients of "udp" too, and those of the crate on UDP. With Config.TLS it refuses
// whoever comes without, on both carriers.
func Listen(network, address string) (net.Listener, error) {
	return (&ListenConfig{}).Listen(context.Background(), network, address)
}

// A ListenConfig holds the options for listening. Its zero value is what Listen uses.
type ListenConfig struct {
	// Config holds the options of the connections and the listener's limits; nil
	// means the defaults.
	Config *Config

	// NetListenConfig makes the sockets; nil means the zero net.ListenConfig.
	NetListenConfig *net.ListenConfig

	// Sockets is how many sockets share the UDP port of "rudp", "auto" and "udp" on Linux, so
	// that as many goroutines read what comes (SO_REUSEPORT). The kernel is told to
	// choose by the connection id in each datagram: a connection stays on its socket, also
	// when its client's address changes. All limits hold for the sockets together, and
	// nothing else is different. If zero, it is one for every four of GOMAXPROCS, at
	// most 16: one for up to seven. If more than 64, it is 64. If negative, listening fails. Elsewhere, for
	// sockets that the caller opens, and where NetListenConfig sets SO_REUSEPORT itself,
	// there is one.
	Sockets int

	// Messages, if not nil, has a listener of "auto" take the messages of clients of
	// "udp", and those that the crate sends on UDP, which are no connections, and
	// is called for each, in order for each client, but for several at once. Its Conn sends to that client, and
	// nothing else; it needs no Close. Its error is logged. Without it such clients are refused, as
	// listeners of "rudp" do. The handler's context ends with the listener.
	Messages MessageHandler
}

// Listen announces on the local network address; see the function [Listen]. ctx
// bounds the resolution of the address, not the listener.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	switch kindOf(network) {
	case streamNetwork:
		return lc.listenStream(ctx, network, address)
	case reliableNetwork:
		return lc.listenReliable(ctx, network, address)
	case autoNetwork:
		return lc.listenAuto(ctx, network, address)
	}
	return nil, listenError(network, net.UnknownNetworkError(network))
}

func (lc *ListenConfig) listenStream(ctx context.Context, network, address string) (net.Listener, error) {
	config, err := lc.Config.session(false, "")
	if err != nil {
		return nil, listenError(network, err)
	}
	address, _ = dialAddress(network, address)
	inner, err := lc.netListenConfig().Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newListener(newStreamSource(inner, network, lc.Config, config), network, lc.Config), nil
}

func (lc *ListenConfig) netListenConfig() *net.ListenConfig {
	if lc.NetListenConfig != nil {
		return lc.NetListenConfig
	}
	return &net.ListenConfig{}
}

func listenError(network string, err error) error {
	return &net.OpError{Op: "listen", Net: network, Err: err}
}

// NewListener returns a listener that runs the protocol on the connections of
// inner, which it owns from now on. If config cannot work, as with TLS without a
// certificate, every handshake fails, which Config.Logger shows.
func NewListener(inner net.Listener, config *Config) *Listener {
	c, _ := config.session(false, "")
	network := inner.Addr().Network()
	return newListener(newStreamSource(inner, network, config, c), network, config)
}

// A Listener is a net.Listener of which Accept returns only connections that have
// finished their handshake, and no error of a single one of them. Handshakes run
// beside Accept, limited in number (Config.MaxHandshakes) and time
// (Config.HandshakeTimeout). A goroutine reads from each socket until Close, on
// datagrams until the last connection has ended.
type Listener struct {
	src     source
	network string
	log     *slog.Logger

	mu     sync.Mutex
	until  context.Context // ends with the deadline of Accept
	cancel context.CancelCauseFunc
	stop   context.CancelFunc // of until's timer
}

// A source is where the connections of a Listener come from. All of it may be called
// concurrently.
type source interface {
	// accept returns the next connection that is ready. Its errors are net.ErrClosed
	// after close, the cause of ctx, and what has ended the socket.
	accept(ctx context.Context) (*Conn, error)

	// close ends accepting and what was not accepted. Only the first call does
	// something.
	close() error

	addr() net.Addr
}

func newListener(src source, network string, config *Config) *Listener {
	l := &Listener{src: src, network: network, log: config.logger()}
	l.setDeadline(time.Time{})
	return l
}

// Accept returns the next connection that has finished its handshake; its dynamic
// type is *Conn. The errors are net.ErrClosed after Close, os.ErrDeadlineExceeded
// after SetDeadline, and those with which the socket fails for good, each in a
// *net.OpError.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		ctx := l.until
		l.mu.Unlock()
		c, err := l.src.accept(ctx)
		switch {
		case err == nil:
			return c, nil
		case err == errDeadlineMoved:
			continue
		}
		return nil, &net.OpError{Op: "accept", Net: l.network, Addr: l.Addr(), Err: publicError(err)}
	}
}

// errDeadlineMoved is the cause of the end of a context with a deadline that is not
// the one any more.
var errDeadlineMoved = errors.New("deadline moved")

// SetDeadline sets the time after which Accept fails, also one that is blocked. The
// zero time means never.
func (l *Listener) SetDeadline(t time.Time) error {
	l.setDeadline(t)
	return nil
}

func (l *Listener) setDeadline(t time.Time) {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := context.CancelFunc(func() {})
	if !t.IsZero() {
		ctx, stop = context.WithDeadlineCause(ctx, t, os.ErrDeadlineExceeded)
	}
	l.mu.Lock()
	oldCancel, oldStop := l.cancel, l.stop
	l.until, l.cancel, l.stop = ctx, cancel, stop
	l.mu.Unlock()
	if oldCancel != nil {
		oldCancel(errDeadlineMoved)
		oldStop()
	}
}

// Close stops listening. Connections that Accept has returned stay open, all others
// are closed. Closing again returns nil. The socket of "rudp", and that of UDP of "auto", is
// shared with the connections, and closed with the last one. Connections of "auto" go on
// with the carriers that they have: there is nobody any more to take another TCP connection.
func (l *Listener) Close() error {
	err := l.src.close()
	l.setDeadline(time.Time{}) // no timer is left behind
	return err
}

// Addr returns the address of the socket, on datagrams a *net.UDPAddr. On "auto" it is that
// of TCP; UDP has the same port.
func (l *Listener) Addr() net.Addr { return l.src.addr() }
