package simnet

import (
	"net"
	"net/netip"
	"sync"

	"github.com/pion/logging"
	"github.com/pion/transport/v3"
	"github.com/pion/transport/v3/vnet"
)

// vnetMu guards vnet's counter of MAC addresses, which it shares between networks.
var vnetMu sync.Mutex

// vnetCarrier has a router of vnet carry packets from host to host. They enter by
// vnet's sockets and are taken out by a filter of the router, in front of vnet's
// receive queues: those drop silently after 1024 packets, and their deadlines work once.
type vnetCarrier struct {
	net    *Net
	router *vnet.Router
}

func newVNetCarrier(n *Net) (*vnetCarrier, error) {
	v := &vnetCarrier{net: n}
	var err error
	if v.router, err = v.newRouter(&vnet.RouterConfig{CIDR: "0.0.0.0/0"}); err != nil {
		return nil, err
	}
	return v, v.router.Start()
}

// newRouter returns a router that does not run yet.
func (v *vnetCarrier) newRouter(c *vnet.RouterConfig) (*vnet.Router, error) {
	c.LoggerFactory = &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	vnetMu.Lock()
	defer vnetMu.Unlock()
	r, err := vnet.NewRouter(c)
	if err != nil {
		return nil, err
	}
	r.AddChunkFilter(func(c vnet.Chunk) bool { return v.take(r, c) })
	return r, nil
}

func (v *vnetCarrier) close() { v.router.Stop() } // and those behind it

// take is the filter of a router: it takes out what is for one of its hosts. The rest
// stays with vnet, for which it is on its way from or to a NAT, or lost.
func (v *vnetCarrier) take(r *vnet.Router, c vnet.Chunk) bool {
	src, ok1 := c.SourceAddr().(*net.UDPAddr)
	dst, ok2 := c.DestinationAddr().(*net.UDPAddr)
	if !ok1 || !ok2 {
		return true
	}
	p := &packet{buf: c.UserData(), src: unmap(src), dst: unmap(dst)}
	v.net.tableMu.RLock()
	h, nat := v.net.hosts[p.dst.Addr()], v.net.nats[p.dst.Addr()]
	v.net.tableMu.RUnlock()
	switch {
	case h != nil && h.vnet.router == r:
		v.net.arrive(p)
		return false
	case r == v.router && nat == nil:
		v.net.noHost.Add(1)
	}
	return true
}

func unmap(a *net.UDPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// vnetHost is a host as vnet sees it.
type vnetHost struct {
	net    *vnet.Net
	router *vnet.Router
}

func newVNetHost(r *vnet.Router, ip netip.Addr) *vnetHost {
	if !ip.Is4() {
		panic("simnet: vnet is for IPv4 only")
	}
	vnetMu.Lock()
	nw, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{ip.String()}})
	vnetMu.Unlock()
	if err == nil {
		err = r.AddNet(nw)
	}
	if err != nil {
		panic("simnet: " + err.Error())
	}
	return &vnetHost{net: nw, router: r}
}

// vnetConn is the sending half of a socket.
type vnetConn struct{ pc transport.UDPConn }

// bindVNet opens the socket in vnet.
func (c *Conn) bindVNet() error {
	pc, err := c.host.vnet.net.ListenUDP("udp4", udpAddr(c.local))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vnet = &vnetConn{pc: pc}
	return nil
}

// send works after close, too: packets outlive the socket they were sent from.
func (v *vnetConn) send(b []byte, to netip.AddrPort) { v.pc.WriteTo(b, udpAddr(to)) }

func (v *vnetConn) close() { v.pc.Close() }
