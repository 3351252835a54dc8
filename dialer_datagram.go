package vstp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
)

var _ connSession = (*endpoint.Session)(nil)

// defaultFallbackDelay is how long one address is tried alone, as in package net.
// RFC 8305 §5.
const defaultFallbackDelay = 300 * time.Millisecond

// dialDatagram is DialContext for the networks on UDP.
func (d *Dialer) dialDatagram(ctx context.Context, nd *net.Dialer, network, address string) (net.Conn, error) {
	opError := func(addr net.Addr, err error) error {
		return &net.OpError{Op: "dial", Net: network, Source: nd.LocalAddr, Addr: addr, Err: err}
	}
	_, host := dialAddress(network, address)
	config, err := d.Config.endpoint(dialing, host)
	if err == nil && config.Legacy && kindOf(network) == reliableNetwork {
		err = ErrNotSupported
	}
	if err != nil {
		return nil, opError(nil, err)
	}
	config.Tokens = d.tokens()
	ctx, cancel := boundContext(ctx, nd)
	defer cancel()
	local, err := localUDPAddr(nd)
	if err != nil {
		return nil, opError(nil, err)
	}
	addrs, err := resolveUDP(ctx, nd.Resolver, udpNetwork(network), address, local)
	if err != nil {
		return nil, opError(nil, publicError(err))
	}
	if config.Legacy {
		e, err := dialEndpoint(ctx, nd, addrs[0], config)
		if err != nil {
			return nil, opError(net.UDPAddrFromAddrPort(addrs[0]), publicError(err))
		}
		return newConn(&legacyMessages{e: e, to: udpio.Addr{AddrPort: addrs[0]}}, network), nil // nobody to ask
	}
	c, addr, err := dialAddrs(ctx, nd, local, network, addrs, config)
	if err != nil {
		return nil, opError(net.UDPAddrFromAddrPort(addr), publicError(err))
	}
	return c, nil
}

// dialAddrs returns a connection to one of addrs, or an address with what is wrong.
func dialAddrs(ctx context.Context, nd *net.Dialer, local *net.UDPAddr, network string, addrs []netip.AddrPort, config *endpoint.Config) (*Conn, netip.AddrPort, error) {
	open := func(ctx context.Context, addr netip.AddrPort) (*endpoint.Endpoint, error) {
		return dialEndpoint(ctx, nd, addr, config)
	}
	s, addr, err := dialSession(ctx, nd, local, network, addrs, config, open)
	if err != nil {
		return nil, addr, err
	}
	return newConn(s, network), addr, nil
}

// dialSession is dialAddrs for a session. open makes an endpoint for one address.
func dialSession(ctx context.Context, nd *net.Dialer, local *net.UDPAddr, network string, addrs []netip.AddrPort, config *endpoint.Config,
	open func(context.Context, netip.AddrPort) (*endpoint.Endpoint, error)) (*endpoint.Session, netip.AddrPort, error) {
	on := func(e *endpoint.Endpoint) dialFunc {
		if kindOf(network) == messageNetwork {
			return e.DialMessages
		}
		return e.DialStream
	}
	var shared *endpoint.Endpoint
	var dial dialFunc
	if local == nil || local.Port == 0 || len(addrs) == 1 {
		dial = func(ctx context.Context, to udpio.Addr) (*endpoint.Session, error) {
			e, err := open(ctx, to.AddrPort)
			if err != nil {
				return nil, err
			}
			return dialOn(ctx, e, on(e), to)
		}
	} else {
		// There is one port for all of them, and so one socket.
		var err error
		if shared, err = sharedDialEndpoint(ctx, nd, local, addrs, config); err != nil {
			return nil, addrs[0], err
		}
		dial = on(shared)
	}
	s, addr, err := dialAny(ctx, dial, addrs, nd.FallbackDelay)
	switch {
	case err != nil && shared != nil:
		shared.Close()
	case shared != nil:
		shared.CloseWhenIdle() // it ends with the session
	}
	return s, addr, err
}

// dialOn dials on e, which ends with the session or at once.
func dialOn(ctx context.Context, e *endpoint.Endpoint, dial dialFunc, to udpio.Addr) (*endpoint.Session, error) {
	s, err := dial(ctx, to)
	if err != nil {
		e.Close()
		return nil, err
	}
	e.CloseWhenIdle()
	return s, nil
}

// localUDPAddr returns nd.LocalAddr, nil for any.
func localUDPAddr(nd *net.Dialer) (*net.UDPAddr, error) {
	switch a := nd.LocalAddr.(type) {
	case nil:
		return nil, nil
	case *net.UDPAddr:
		return a, nil
	default:
		return nil, &net.AddrError{Err: "mismatched local address type", Addr: a.String()}
	}
}

// resolveUDP returns the addresses of address on a network of UDP, best first, those
// that local cannot send to left out. No host means this one, as in package net.
func resolveUDP(ctx context.Context, r *net.Resolver, network, address string, local *net.UDPAddr) ([]netip.AddrPort, error) {
	if r == nil {
		r = net.DefaultResolver
	}
	address, _ = dialAddress(network, address)
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := r.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := lookupIPs(ctx, r, network, host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		ip = ip.Unmap()
		if ip.IsUnspecified() {
			ip = loopback(ip.Is4())
		}
		if network == "udp4" && !ip.Is4() || network == "udp6" && ip.Is4() || !reaches(local, ip) {
			continue
		}
		addrs = append(addrs, netip.AddrPortFrom(ip, uint16(port)))
	}
	if len(addrs) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return addrs, nil
}

// lookupIPs returns the addresses of a host that may be a literal or empty.
func lookupIPs(ctx context.Context, r *net.Resolver, network, host string) ([]netip.Addr, error) {
	if host == "" {
		return []netip.Addr{loopback(network != "udp6")}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ips, err := r.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(ips))
	for _, a := range ips {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			addrs = append(addrs, ip.Unmap().WithZone(a.Zone))
		}
	}
	return addrs, nil
}

func loopback(is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// reaches reports whether a socket bound to local can send to ip.
func reaches(local *net.UDPAddr, ip netip.Addr) bool {
	if local == nil || len(local.IP) == 0 || local.IP.IsUnspecified() && local.IP.To4() == nil {
		return true
	}
	return (local.IP.To4() != nil) == ip.Is4()
}

// dialEndpoint returns an endpoint on a new socket for addr alone: it is connected, so
// that the system tells if nobody is there, and need not look for the way to it again and
// again.
func dialEndpoint(ctx context.Context, nd *net.Dialer, addr netip.AddrPort, config *endpoint.Config) (*endpoint.Endpoint, error) {
	c, err := (&net.Dialer{LocalAddr: nd.LocalAddr, Control: nd.Control, ControlContext: nd.ControlContext}).DialContext(ctx, "udp", addr.String())
	if err != nil {
		return nil, err
	}
	return newEndpoint(c.(*net.UDPConn), config), nil
}

// sharedDialEndpoint returns an endpoint on a new socket at local that can send to all of
// addrs.
func sharedDialEndpoint(ctx context.Context, nd *net.Dialer, local *net.UDPAddr, addrs []netip.AddrPort, config *endpoint.Config) (*endpoint.Endpoint, error) {
	lc := &net.ListenConfig{Control: nd.Control}
	if nd.ControlContext != nil {
		lc.Control = func(network, address string, c syscall.RawConn) error {
			return nd.ControlContext(ctx, network, address, c)
		}
	}
	any4, any6 := false, false
	for _, a := range addrs {
		any4 = any4 || a.Addr().Is4()
		any6 = any6 || a.Addr().Is6()
	}
	network := "udp"
	switch {
	case !any6:
		network = "udp4"
	case !any4:
		network = "udp6"
	}
	pc, err := lc.ListenPacket(ctx, network, local.String())
	if err != nil {
		return nil, err
	}
	return newEndpoint(pc, config), nil
}

// newEndpoint returns an endpoint that owns pc.
func newEndpoint(pc net.PacketConn, config *endpoint.Config) *endpoint.Endpoint {
	return endpoint.New(newSocket(pc, config), config)
}

func newSocket(pc net.PacketConn, config *endpoint.Config) *udpio.Conn {
	return udpio.New(pc, udpio.Options{MaxDatagram: config.MaxDatagram, Logger: config.Logger})
}

// A dialFunc is DialStream or DialMessages of an endpoint.
type dialFunc func(ctx context.Context, to udpio.Addr) (*endpoint.Session, error)

// dialAny tries addrs until one answers: each a little after the one before, or when
// that has failed, because a dead address may say nothing at all (RFC 8305 §5). It
// returns when all attempts have ended. The address is that of the session or error.
func dialAny(ctx context.Context, dial dialFunc, addrs []netip.AddrPort, delay time.Duration) (*endpoint.Session, netip.AddrPort, error) {
	type attempt struct {
		s    *endpoint.Session
		addr netip.AddrPort
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt)
	running := 0
	start := func() {
		addr := addrs[0]
		addrs = addrs[1:]
		running++
		go func() {
			s, err := dial(ctx, udpio.Addr{AddrPort: addr})
			results <- attempt{s, addr, err}
		}()
	}
	if delay == 0 {
		delay = defaultFallbackDelay
	}
	next := time.NewTimer(max(delay, 0))
	defer next.Stop()
	if delay < 0 {
		next.Stop()
	}
	var best attempt
	for start(); running > 0; {
		select {
		case <-next.C:
			if len(addrs) > 0 {
				start()
				next.Reset(delay)
			}
			continue
		case a := <-results:
			running--
			switch {
			case a.err == nil && best.s != nil:
				go a.s.Close() // two have answered
			case best.s != nil:
			case a.err == nil, best.err == nil, says(a.err) && !says(best.err):
				best = a
			}
		}
		switch {
		case best.s != nil || says(best.err) || ctx.Err() != nil:
			addrs = nil
			cancel()
		case len(addrs) > 0:
			start()
		}
	}
	return best.s, best.addr, best.err
}

// says reports whether err is what the host answered: no other address of it will say
// anything else.
func says(err error) bool {
	var remote *handshake.RemoteError
	return errors.As(err, &remote)
}
