package vstp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/auto"
	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/stream"
	"github.com/vstp-go/vstp/internal/udpio"
)

// An autoDial is a dial of "auto", and what its session needs afterwards to attach TCP.
type autoDial struct {
	config  *Config // not nil
	network string
	address string // with the port
	udp     *net.Dialer
	tcp     *net.Dialer
	sockets *autoSockets // in place of those dialers; nil is none
	local   *net.UDPAddr
	addrs   []netip.AddrPort

	ep     *endpoint.Config
	stream *stream.Config
	memory *CarrierMemory
	conns  connTable

	mu      sync.Mutex
	tried   []*endpoint.Endpoint // of UDP
	udpAddr netip.AddrPort       // where it has failed
	decided chan struct{}        // closed when the race is over
	standby *tcpAttempt          // for the first attach
}

// autoSockets are sockets that are none of the system's.
type autoSockets struct {
	listenUDP func() (net.PacketConn, error)
	dialTCP   func(ctx context.Context, address string) (net.Conn, error)
	tokens    endpoint.Tokens
}

// dialAuto is DialContext for "auto".
func (d *Dialer) dialAuto(ctx context.Context, nd *net.Dialer, network, address string) (net.Conn, error) {
	if d.Config != nil && d.Config.Legacy { // the crate does not move
		return d.dialStream(ctx, nd, network, address)
	}
	a, err := d.newAutoDial(nd, network, address)
	if err != nil {
		return nil, a.opError(nd, err)
	}
	ctx, cancel := boundContext(ctx, nd)
	defer cancel()
	if a.addrs, err = resolveUDP(ctx, nd.Resolver, udpNetwork(network), address, a.local); err != nil {
		return nil, a.opError(nd, err)
	}
	ac := &a.config.Auto
	r := &carrierRace{
		first:     ac.Pin,
		only:      ac.Pin != CarrierAny,
		headStart: ac.headStart(),
		udp:       a.dialUDP,
		answered:  a.answered,
		tcp:       a.dialTCP,
		commit:    a.commit,
		discard:   closeStart,
	}
	if !r.only {
		if r.first = a.memory.remembered(a.address); r.first == CarrierAny {
			r.first = ac.Prefer
		}
		if !ac.NoStandby {
			r.standby = a.keep
		}
	}
	c, err := r.run(ctx)
	a.mu.Lock()
	a.tried = nil
	a.mu.Unlock()
	close(a.decided)
	if err != nil {
		return nil, a.opError(nd, err)
	}
	if !r.only {
		a.memory.worked(a.address, c.Carrier(), ac.preferenceTTL())
	}
	return c, nil
}

// newAutoDial resolves the configuration. It returns what it has even with an error.
func (d *Dialer) newAutoDial(nd *net.Dialer, network, address string) (a *autoDial, err error) {
	a = &autoDial{config: d.Config, network: network, sockets: d.sockets, memory: d.carrierMemory(), decided: make(chan struct{})}
	if a.config == nil {
		a.config = &Config{}
	}
	a.conns.network = network
	var host string
	a.address, host = dialAddress(network, address)
	if a.udp, a.tcp, a.local, err = autoDialers(nd); err != nil {
		return a, err
	}
	if a.ep, err = a.config.endpoint(dialing, host); err != nil {
		return a, err
	}
	if a.stream, err = a.config.session(true, host); err != nil {
		return a, err
	}
	a.ep.Tokens = d.tokens()
	ac := &a.config.Auto
	if ac.Pin != CarrierUDP {
		a.ep.EarlyData = false // it would be taken for an answer
	}
	a.ep.Auto = a.config.moves(&a.conns)
	a.ep.Auto.Attach = a.attach
	a.ep.Auto.Decide.Prefer, _ = ac.Prefer.lower()
	a.ep.Auto.Decide.Pin, a.ep.Auto.Decide.Pinned = ac.Pin.lower()
	a.ep.Auto.NoStandby = ac.NoStandby || ac.Pin != CarrierAny
	onMove := a.ep.Auto.OnMove
	a.ep.Auto.OnMove = func(s *endpoint.Session, m session.Move) {
		a.moved(m)
		if onMove != nil {
			onMove(s, m)
		}
	}

	// A session is the same wherever it begins.
	a.stream.Params.Idle = a.ep.Idle
	a.stream.Params.Compression = nil
	a.stream.Params.Checksum = a.ep.Checksum && a.config.TLS == nil
	a.stream.KeepAlive = a.ep.KeepAlive
	return a, nil
}

// autoDialers returns the dialers of both carriers. Both are bound to the local address of
// nd, and to its port the one of that kind.
func autoDialers(nd *net.Dialer) (udp, tcp *net.Dialer, local *net.UDPAddr, err error) {
	u, t := *nd, *nd
	u.LocalAddr, t.LocalAddr = nil, nil
	t.Deadline = time.Time{} // of the dial: TCP is dialed later too
	if t.KeepAlive == 0 && !t.KeepAliveConfig.Enable {
		t.KeepAlive = -1 // the session has its own, which costs less, and on one carrier
	}
	switch a := nd.LocalAddr.(type) {
	case nil:
	case *net.UDPAddr:
		local = a
		t.LocalAddr = &net.TCPAddr{IP: a.IP, Zone: a.Zone}
	case *net.TCPAddr:
		local = &net.UDPAddr{IP: a.IP, Zone: a.Zone}
		t.LocalAddr = a
	default:
		return nil, nil, nil, &net.AddrError{Err: "mismatched local address type", Addr: a.String()}
	}
	if local != nil {
		u.LocalAddr = local
	}
	return &u, &t, local, nil
}

// opError makes the error of the dial.
func (a *autoDial) opError(nd *net.Dialer, err error) error {
	var both *carriersError
	if errors.As(err, &both) {
		err = &carriersError{publicError(both.udp), publicError(both.tcp)}
	} else {
		err = publicError(err)
	}
	oe := &net.OpError{Op: "dial", Net: a.network, Source: nd.LocalAddr, Err: err}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.udpAddr.IsValid():
		oe.Addr = net.UDPAddrFromAddrPort(a.udpAddr)
	case len(a.addrs) == 1:
		oe.Addr = net.UDPAddrFromAddrPort(a.addrs[0])
	}
	return oe
}

// dialUDP runs the handshake on datagrams.
func (a *autoDial) dialUDP(ctx context.Context) (*Conn, error) {
	s, addr, err := dialSession(ctx, a.udp, a.local, a.network, a.addrs, a.ep, a.openUDP)
	if err != nil {
		a.mu.Lock()
		a.udpAddr = addr
		a.mu.Unlock()
		return nil, err
	}
	return a.conns.of(s), nil
}

// openUDP returns an endpoint on a new socket for an address.
func (a *autoDial) openUDP(ctx context.Context, addr netip.AddrPort) (e *endpoint.Endpoint, err error) {
	if a.sockets == nil {
		e, err = dialEndpoint(ctx, a.udp, addr, a.ep)
	} else if pc, perr := a.sockets.listenUDP(); perr == nil {
		e = newEndpoint(pc, a.ep)
	} else {
		err = perr
	}
	if err == nil {
		a.mu.Lock()
		a.tried = append(a.tried, e)
		a.mu.Unlock()
	}
	return e, err
}

// openTCP returns a new connection.
func (a *autoDial) openTCP(ctx context.Context, address string) (net.Conn, error) {
	if a.sockets != nil {
		return a.sockets.dialTCP(ctx, address)
	}
	return a.tcp.DialContext(ctx, tcpNetwork(a.network), address)
}

// answered reports whether anything came on UDP.
func (a *autoDial) answered() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.tried {
		if e.Stats().DatagramsReceived > 0 {
			return true
		}
	}
	return false
}

// dialTCP connects to the address as it was dialed, and runs the handshake of TLS.
func (a *autoDial) dialTCP(ctx context.Context) (*tcpStart, error) {
	return a.connectTCP(ctx, a.address)
}

func (a *autoDial) connectTCP(ctx context.Context, address string) (*tcpStart, error) {
	if d := a.stream.HandshakeTimeout; d > 0 { // of TCP's too: who is not there often says nothing
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, session.ErrHandshakeTimeout)
		defer cancel()
	}
	conn, err := a.openTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	config := *a.stream
	t := &tcpStart{stream.New(conn, &config), &config}
	if err := t.s.Connect(ctx); err != nil {
		t.s.Close()
		conn.Close()
		return nil, err
	}
	return t, nil
}

// commit says HELLO on TCP. A server that knows nothing of carriers makes an ordinary
// connection of it.
func (a *autoDial) commit(ctx context.Context, t *tcpStart) (*Conn, error) {
	e, to, err := a.endpointFor(ctx, t)
	if err != nil {
		a.config.logger().Warn("vstp: no datagrams, the connection will stay on TCP", "remote", t.s.RemoteAddr(), "err", err)
	}
	if err := t.s.Handshake(ctx); err != nil {
		t.s.Close()
		if e != nil {
			e.Close()
		}
		return nil, err
	}
	r := t.s.Auto()
	if r == nil {
		if e != nil {
			e.Close()
		}
		return newConn(t.s, a.network), nil
	}
	b := t.s.Detach()
	s, err := e.BeginStream(b, &r.Result, &r.Own, true, to)
	if err != nil {
		b.Close()
		e.Close()
		return nil, err
	}
	e.CloseWhenIdle() // with the session
	return a.conns.of(s), nil
}

// endpointFor makes a socket for the datagrams of a session that begins on t, to the same
// address, and prepares its HELLO.
func (a *autoDial) endpointFor(ctx context.Context, t *tcpStart) (*endpoint.Endpoint, udpio.Addr, error) {
	addr, err := addrPortOf(t.s.RemoteAddr())
	if err != nil {
		return nil, udpio.Addr{}, err
	}
	e, err := a.openUDP(ctx, addr)
	if err != nil {
		return nil, udpio.Addr{}, err
	}
	own, err := e.AutoParams(nil)
	if err != nil {
		e.Close()
		return nil, udpio.Addr{}, err
	}
	t.config.Auto = &own
	return e, udpio.Addr{AddrPort: addr}, nil
}

// addrPortOf returns a as UDP knows it.
func addrPortOf(a net.Addr) (netip.AddrPort, error) {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	if !ap.IsValid() {
		return ap, &net.AddrError{Err: "unexpected address", Addr: addrOf(a).String()}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// keep has an attempt on TCP become the standby of c.
func (a *autoDial) keep(c *Conn, t *tcpAttempt) {
	if m := c.mover(); m == nil || !m.Moves() {
		t.end(closeStart)
		return
	}
	t.unlink() // the dial is over
	a.mu.Lock()
	a.standby = t
	a.mu.Unlock()
	time.AfterFunc(DefaultHandshakeTimeout, func() { // the session may have ended before it came to that
		if t := a.kept(); t != nil {
			t.end(closeStart)
		}
	})
}

// kept returns what keep has kept, once.
func (a *autoDial) kept() *tcpAttempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.standby
	a.standby = nil
	return t
}

// closeStart closes a connection that is of no use.
func closeStart(t *tcpStart) { t.s.Close() }

// attach brings a TCP connection to a session: that of the dial, if there is one, or else
// one to where the session's server has answered, or to the name that was dialed. Servers
// of one name need not know each other's sessions.
func (a *autoDial) attach(ctx context.Context, s *endpoint.Session, r *handshake.AttachRequest) (endpoint.Bearer, error) {
	select {
	case <-a.decided:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if first := a.kept(); first != nil {
		b, err := a.attachFirst(ctx, first, r)
		if err == nil || ctx.Err() != nil {
			return b, err
		}
	}
	addresses := []string{a.address}
	if ap, err := addrPortOf(s.RemoteAddr()); err == nil && ap.String() != a.address {
		addresses = []string{ap.String(), a.address}
	}
	var failed error
	for _, address := range addresses {
		t, err := a.connectTCP(ctx, address)
		if err == nil {
			var b endpoint.Bearer
			if b, err = attachOn(ctx, t, r); err == nil {
				return b, nil
			}
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil || isFinal(err) {
			break
		}
	}
	return nil, failed
}

// attachFirst waits for the attempt of the dial.
func (a *autoDial) attachFirst(ctx context.Context, t *tcpAttempt, r *handshake.AttachRequest) (endpoint.Bearer, error) {
	select {
	case <-t.done:
	case <-ctx.Done():
		t.end(closeStart)
		return nil, context.Cause(ctx)
	}
	t.cancel() // it is done
	if t.err != nil {
		return nil, t.err
	}
	return attachOn(ctx, t.s, r)
}

// attachOn attaches t, or closes it.
func attachOn(ctx context.Context, t *tcpStart, r *handshake.AttachRequest) (endpoint.Bearer, error) {
	b, err := t.s.Attach(ctx, r)
	if err != nil {
		t.s.Close()
		return nil, err
	}
	return b, nil
}

// moved remembers where a session has gone by its own decision.
func (a *autoDial) moved(m session.Move) {
	if m.ByPeer || m.Reason == auto.ReasonForced.String() || m.Reason == auto.ReasonPinned.String() {
		return
	}
	to := CarrierUDP
	if m.To == CarrierTCP.String() {
		to = CarrierTCP
	}
	a.memory.worked(a.address, to, a.config.Auto.preferenceTTL())
}
