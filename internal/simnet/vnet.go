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
	quiet := &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	vnetMu.Lock()
	router, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "0.0.0.0/0", LoggerFactory: quiet})
	vnetMu.Unlock()
	if err != nil {
		return nil, err
	}
	v := &vnetCarrier{net: n, router: router}
	router.AddChunkFilter(v.take)
	return v, router.Start()
}

func (v *vnetCarrier) close() { v.router.Stop() }

// take is the filter: it takes out what is for a host of ours. The rest stays with
// vnet, which finds no host for it or, behind a NAT, a router.
func (v *vnetCarrier) take(c vnet.Chunk) bool {
	src, ok1 := c.SourceAddr().(*net.UDPAddr)
	dst, ok2 := c.DestinationAddr().(*net.UDPAddr)
	if !ok1 || !ok2 {
		return true
	}
	p := &packet{buf: c.UserData(), src: unmap(src), dst: unmap(dst)}
	if !v.net.hasHost(p.dst.Addr()) {
		v.net.noHost.Add(1)
		return true
	}
	v.net.arrive(p)
	return false
}

func unmap(a *net.UDPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// vnetHost is a host as vnet sees it.
type vnetHost struct{ net *vnet.Net }

func (v *vnetCarrier) newHost(ip netip.Addr) *vnetHost {
	if !ip.Is4() {
		panic("simnet: vnet is for IPv4 only")
	}
	vnetMu.Lock()
	nw, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{ip.String()}})
	vnetMu.Unlock()
	if err == nil {
		err = v.router.AddNet(nw)
	}
	if err != nil {
		panic("simnet: " + err.Error())
	}
	return &vnetHost{net: nw}
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
