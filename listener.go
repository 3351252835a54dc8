package vstp

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/stream"
)

var _ net.Listener = (*Listener)(nil)

// Listen announces on the local network address with the default configuration. The
// networks are "tcp", "tcp4", "tcp6" and "unix", addresses as for [net.Listen]; where
// one names a host and no port it is 6969. The dynamic type is always *Listener.
func Listen(network, address string) (net.Listener, error) {
	return (&ListenConfig{}).Listen(context.Background(), network, address)
}

// A ListenConfig holds the options for listening. Its zero value is what Listen uses.
type ListenConfig struct {
	// Config holds the options of the connections and the listener's limits; nil
	// means the defaults.
	Config *Config

	// NetListenConfig makes the socket; nil means the zero net.ListenConfig.
	NetListenConfig *net.ListenConfig
}

// Listen announces on the local network address; see the function [Listen]. ctx
// bounds the resolution of the address, not the listener.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if kindOf(network) != streamNetwork {
		return nil, &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
	}
	config, err := lc.Config.session(false, "")
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	nlc := lc.NetListenConfig
	if nlc == nil {
		nlc = &net.ListenConfig{}
	}
	address, _ = dialAddress(network, address)
	inner, err := nlc.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newListener(inner, network, lc.Config, config), nil
}

// NewListener returns a listener that runs the protocol on the connections of
// inner, which it owns from now on. If config cannot work, as with TLS without a
// certificate, every handshake fails, which Config.Logger shows.
func NewListener(inner net.Listener, config *Config) *Listener {
	c, _ := config.session(false, "")
	return newListener(inner, inner.Addr().Network(), config, c)
}

// A Listener is a net.Listener of which Accept returns only connections that have
// finished their handshake, and no error of a single one of them. Handshakes run
// beside Accept, limited in number (Config.MaxHandshakes) and time
// (Config.HandshakeTimeout). A goroutine accepts from the socket until Close.
type Listener struct {
	inner   net.Listener
	network string
	config  *stream.Config
	limit   int // of connections that are not yet in ready
	log     *slog.Logger

	ready  chan *Conn    // handshake finished, not yet accepted
	done   chan struct{} // closed by Close
	failed chan struct{} // closed when the socket accepts no more; err says why
	err    error

	mu         sync.Mutex
	room       sync.Cond  // below limit again, or closed
	halfOpen   *list.List // of *Conn in their handshake, oldest first
	delivering int        // finished, waiting for room in ready
	closed     bool

	dlmu     sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed and renewed by SetDeadline
}

func newListener(inner net.Listener, network string, config *Config, sc *stream.Config) *Listener {
	l := &Listener{
		inner:    inner,
		network:  network,
		config:   sc,
		limit:    config.maxHandshakes(),
		log:      config.logger(),
		ready:    make(chan *Conn, config.acceptBacklog()),
		done:     make(chan struct{}),
		failed:   make(chan struct{}),
		halfOpen: list.New(),
		changed:  make(chan struct{}),
	}
	l.room.L = &l.mu
	go l.acceptLoop()
	return l
}

// Backoff after an error of the socket that may pass, such as no file descriptors.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// acceptLoop takes connections from the socket until it fails for good.
func (l *Listener) acceptLoop() {
	defer close(l.failed)
	delay := minAcceptDelay
	for {
		conn, err := l.inner.Accept()
		if err == nil {
			delay = minAcceptDelay
			l.begin(conn)
			continue
		}
		te, ok := err.(interface{ Temporary() bool })
		if !ok || !te.Temporary() || l.isClosed() {
			l.err = err
			return
		}
		l.log.Warn("vstp: accept failed, trying again", "addr", l.inner.Addr(), "err", err, "delay", delay)
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-l.done:
			t.Stop()
		}
		delay = min(2*delay, maxAcceptDelay)
	}
}

func (l *Listener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// begin starts the handshake of conn. At the limit, the oldest unfinished one makes
// room: an honest client needs a round trip or two, so what is old is likely
// stalled. If all are finished and wait for Accept, begin waits too, and with it the
// kernel's backlog.
func (l *Listener) begin(conn net.Conn) {
	c := newConn(stream.New(conn, l.config), l.network)
	l.mu.Lock()
	for !l.closed && l.halfOpen.Len()+l.delivering >= l.limit {
		oldest := l.halfOpen.Front()
		if oldest == nil {
			l.room.Wait()
			continue
		}
		old := l.halfOpen.Remove(oldest).(*Conn)
		l.log.Warn("vstp: too many unfinished handshakes, gave up the oldest", "remote", old.raddr)
		go old.s.Close()
	}
	if l.closed {
		l.mu.Unlock()
		conn.Close()
		return
	}
	e := l.halfOpen.PushBack(c)
	l.mu.Unlock()
	go l.handshake(c, e)
}

// handshake runs c's handshake and hands c to Accept.
func (l *Listener) handshake(c *Conn, e *list.Element) {
	err := c.s.Handshake(context.Background())
	l.mu.Lock()
	l.halfOpen.Remove(e) // no effect if it has been removed
	if err != nil || l.closed {
		l.room.Signal()
		l.mu.Unlock()
		c.s.Close()
		if err != nil {
			l.log.Info("vstp: handshake failed", "remote", c.raddr, "err", publicError(err))
		}
		return
	}
	l.delivering++
	l.mu.Unlock()
	select {
	case l.ready <- c:
	case <-l.done:
		c.s.Close()
	}
	l.mu.Lock()
	l.delivering--
	l.room.Signal()
	l.mu.Unlock()
	if l.isClosed() {
		l.drain() // Close may have drained before c came
	}
}

// drain closes what nobody will accept.
func (l *Listener) drain() {
	for {
		select {
		case c := <-l.ready:
			c.s.Close()
		default:
			return
		}
	}
}

// Accept returns the next connection that has finished its handshake; its dynamic
// type is *Conn. The errors are net.ErrClosed after Close, os.ErrDeadlineExceeded
// after SetDeadline, and those with which the socket fails for good, each in a
// *net.OpError.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.dlmu.Lock()
		deadline, changed := l.deadline, l.changed
		l.dlmu.Unlock()
		c, again, err := l.acceptUntil(deadline, changed)
		if again {
			continue
		}
		if err != nil {
			return nil, &net.OpError{Op: "accept", Net: l.network, Addr: l.Addr(), Err: publicError(err)}
		}
		return c, nil
	}
}

func (l *Listener) acceptUntil(deadline time.Time, changed <-chan struct{}) (c *Conn, again bool, err error) {
	if l.isClosed() {
		return nil, false, net.ErrClosed
	}
	var timeout <-chan time.Time
	if !deadline.IsZero() {
		d := time.Until(deadline)
		if d <= 0 {
			return nil, false, errDeadline
		}
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case c = <-l.ready:
		return c, false, nil
	case <-l.done:
		return nil, false, net.ErrClosed
	case <-timeout:
		return nil, false, errDeadline
	case <-changed:
		return nil, true, nil
	case <-l.failed:
	}
	select {
	case c = <-l.ready: // those that came before the failure
		return c, false, nil
	default:
		return nil, false, l.err
	}
}

// SetDeadline sets the time after which Accept fails, also one that is blocked. The
// zero time means never.
func (l *Listener) SetDeadline(t time.Time) error {
	l.dlmu.Lock()
	defer l.dlmu.Unlock()
	l.deadline = t
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// Close stops listening. Connections that Accept has returned stay open, all others
// are closed. Closing again returns nil.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.done)
	for e := l.halfOpen.Front(); e != nil; e = e.Next() {
		go e.Value.(*Conn).s.Close()
	}
	l.room.Broadcast()
	l.mu.Unlock()
	err := l.inner.Close()
	<-l.failed
	l.drain()
	return err
}

// Addr returns the address of the socket.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }
