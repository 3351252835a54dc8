package vstp

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/stream"
	"github.com/vstp-go/vstp/internal/udpio"
)

// freePortTries is how many ports that TCP has found free are tried on UDP.
const freePortTries = 16

// listenAuto is Listen for "auto".
func (lc *ListenConfig) listenAuto(ctx context.Context, network, address string) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) { return nil, namedListenError(network, err) }
	config, sc, err := lc.autoConfigs()
	if err != nil {
		return fail(err)
	}
	n, err := lc.sockets()
	if err != nil {
		return fail(err)
	}
	address, _ = dialAddress(network, address)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	nlc := lc.netListenConfig()
	for try := 1; ; try++ {
		ln, err := nlc.Listen(ctx, tcpNetwork(network), address)
		if err != nil {
			return fail(err)
		}
		at := net.JoinHostPort(host, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
		pcs, err := lc.listenPackets(ctx, udpNetwork(network), at, n)
		if err == nil {
			l, err := newAutoListener(pcs, ln, network, lc, config, sc)
			if err != nil {
				return fail(err)
			}
			return l, nil
		}
		ln.Close()
		if !isAnyPort(port) || try == freePortTries || !errors.Is(err, syscall.EADDRINUSE) {
			return fail(err)
		}
	}
}

// isAnyPort reports whether a port to listen on leaves the choice to the system.
func isAnyPort(port string) bool {
	n, err := strconv.Atoi(port)
	return port == "" || err == nil && n == 0
}

// namedListenError is listenError for an error that may be one of package net already.
func namedListenError(network string, err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		named := *oe
		named.Net = network
		return &named
	}
	return listenError(network, err)
}

// NewAutoListener returns a listener as Listen of "auto" does, on sockets of the caller,
// which it owns from now on: of any kind, as those that a service manager has opened.
// Clients use the same host and port for both, so that the sockets should have them too.
func NewAutoListener(packets net.PacketConn, inner net.Listener, config *Config) (*Listener, error) {
	lc := &ListenConfig{Config: config}
	ec, sc, err := lc.autoConfigs()
	if err == nil {
		return newAutoListener([]net.PacketConn{packets}, inner, "auto", lc, ec, sc)
	}
	packets.Close()
	inner.Close()
	return nil, namedListenError("auto", err)
}

// autoConfigs resolves the configuration for both carriers.
func (lc *ListenConfig) autoConfigs() (*endpoint.Config, *stream.Config, error) {
	role := listening
	if lc.Messages != nil {
		role = serving
	}
	c := lc.Config
	if c != nil && c.Legacy { // which is for clients, and would make of UDP something else
		plain := *c
		plain.Legacy = false
		c = &plain
	}
	ec, err := c.endpoint(role, "")
	if err != nil {
		return nil, nil, err
	}
	sc, err := c.session(false, "")
	return ec, sc, err
}

// newAutoListener returns a listener on sockets that it owns.
func newAutoListener(pcs []net.PacketConn, ln net.Listener, network string, lc *ListenConfig, ec *endpoint.Config, sc *stream.Config) (*Listener, error) {
	conns := &connTable{network: network}
	ec.Auto = lc.Config.moves(conns)
	e := newSpreadEndpoint(pcs, ec)
	if err := e.Listen(); err != nil {
		e.Close()
		ln.Close()
		return nil, namedListenError(network, publicError(err))
	}
	sc.AutoServer = e
	src := &autoSource{
		streamSource: makeStreamSource(ln, network, lc.Config, sc),
		e:            e,
		conns:        conns,
		quiet:        lc.NetListenConfig == nil || lc.NetListenConfig.KeepAlive == 0 && !lc.NetListenConfig.KeepAliveConfig.Enable,
	}
	src.ctx, src.cancel = context.WithCancel(context.Background())
	src.finish = src.began
	go src.acceptLoop()
	src.wg.Go(src.acceptDatagrams)
	if lc.Messages != nil {
		go src.serveMessages(lc.Config, lc.Messages) // whose handler may be who closes
	}
	return newListener(src, network, lc.Config), nil
}

// An autoSource accepts what begins on TCP as a streamSource does, and hands on what begins
// on UDP through it.
type autoSource struct {
	*streamSource
	e     *endpoint.Endpoint
	conns *connTable
	quiet bool // keep-alive of TCP is nothing that the caller has asked for

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// began turns a connection that has finished its handshake on TCP into what the
// application accepts, or nil if that is nothing: a carrier for a session that is there.
func (l *autoSource) began(c *Conn) (*Conn, error) {
	s := c.s.(*stream.Session)
	r := s.Auto()
	if r == nil {
		return c, nil
	}
	if tcp, ok := s.NetConn().(*net.TCPConn); ok && l.quiet {
		tcp.SetKeepAlive(false) // the session has its own, and a standby is asked by its client
	}
	b := s.Detach()
	if r.Attach != nil {
		l.e.Attached(r.Attach, b)
		return nil, nil
	}
	es, err := l.e.BeginStream(b, &r.Result, &r.Own, false, noDatagrams)
	if err != nil {
		b.Close()
		return nil, err
	}
	return l.conns.of(es), nil
}

// acceptDatagrams takes what begins on UDP.
func (l *autoSource) acceptDatagrams() {
	for {
		s, err := l.e.Accept(l.ctx)
		if err != nil {
			if l.ctx.Err() == nil {
				l.log.Error("vstp: UDP has failed, going on with TCP alone", "addr", l.e.LocalAddr(), "err", publicError(err))
			}
			return
		}
		l.deliver(l.conns.of(s))
	}
}

// closeWait is how long close waits for handshakes on TCP to end, which the application may
// hold up.
const closeWait = time.Second

// close ends accepting on both carriers. What was accepted lives on. The socket of UDP is
// there until the last handshake on TCP is over: a client that has been welcomed is told.
func (l *autoSource) close() error {
	l.cancel()
	err := l.streamSource.close()
	if eerr := l.e.CloseListen(); err == nil {
		err = eerr
	}
	l.wg.Wait()
	l.drain()
	idle := make(chan struct{})
	go func() {
		l.handshakes.Wait()
		l.e.CloseWhenIdle()
		close(idle)
	}()
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	}
	return err
}

// noDatagrams is where a client's datagrams come from that has not sent any.
var noDatagrams udpio.Addr

// serveMessages calls handler for the messages of clients that have no connection.
func (l *autoSource) serveMessages(config *Config, handler MessageHandler) {
	pc := newPacketConn(l.e, udpNetwork(l.network), config)
	s := newPacketServer(l.ctx, pc, func(ctx context.Context, pc *PacketConn, m *Message, addr net.Addr) error {
		to, err := udpio.AddrOf(addr)
		if err != nil {
			return err
		}
		return handler(ctx, newConn(&messagePeer{e: l.e, to: to}, pc.network), m)
	})
	s.run() // what has ended the socket is told by acceptDatagrams
	s.wg.Wait()
}
