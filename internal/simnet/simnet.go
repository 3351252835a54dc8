// Package simnet is a network for tests: hosts, sockets and paths between them that
// delay, lose, repeat, reorder, damage and queue packets, all from one seed and, in a
// testing/synctest bubble, in virtual time. Beside them are byte streams, simulated at
// the level of TCP segments, with faults of their own (TCPPath).
//
// # Usage
//
//	simnet.Run(t, 10, func(t *testing.T, seed uint64) {
//		n := simnet.New(t, simnet.Options{Seed: seed})
//		a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
//		n.Both(a, b, simnet.Path{Delay: 20 * time.Millisecond, Loss: 0.05})
//		pc := a.ListenPacket(0) // a net.PacketConn
//		...
//	})
//
// # Guarantees
//
// What happens to the n-th packet of a path follows from the seed, the two addresses, n
// and the parameters of the path at that moment, and from nothing else: every packet
// draws the same number of random values, so changing one parameter leaves the
// decisions of the others as they were. Paths do not influence each other.
//
// There are no goroutines of its own, but for the router of pion vnet if that carries
// the packets (Options.VNet). Everything ends with Close, which New registers as a
// cleanup of the test.
//
// # Limitations
//
// Goroutines that send on the same path at the same instant do so in the order in which
// the scheduler runs them. Sizes and rates count payload, without IP and UDP headers,
// which Path.Overhead is for; only Path.MTU counts those anyhow.
package simnet

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v3/vnet"
)

// Options are the parameters of a network.
type Options struct {
	// Seed decides everything random. If zero, it is made from the name of the test.
	Seed uint64

	// Path is what every path is like until its Set is called.
	Path Path

	// RecvBuffer bounds what a socket holds for its reader, in bytes; every packet
	// counts for packetCost more than its length. What does not fit is dropped. If
	// zero, it is 16 MiB, so that a test loses nothing it did not ask for.
	RecvBuffer int

	// VNet has pion vnet carry the packets from host to host, behind the delays and
	// losses, which are made at the sender. It costs a few microseconds a packet, is
	// for IPv4 only, and is there for what vnet knows: NAT.
	VNet bool

	// TCP is what every path is like for TCP until its Set is called. TCPBuffer is what
	// each end of a connection holds for sending and for reading, in bytes; if zero,
	// 256 KiB.
	TCP       TCPPath
	TCPBuffer int

	// Trace is how many packets, the last ones that were sent, are logged if the test
	// fails. If zero, none are.
	Trace int

	// Limit is for tests that never end because some timer always goes on: after that
	// much time the test fails, shows the goroutines, and the network is closed. If
	// zero, it is a day, which in a bubble is soon over; if negative, there is none.
	Limit time.Duration
}

const (
	defaultRecvBuffer = 16 << 20
	defaultLimit      = 24 * time.Hour
	packetCost        = 64
	firstEphemeral    = 49152
)

// Net is a network of hosts. It is safe for concurrent use.
type Net struct {
	opts  Options
	start time.Time
	vnet  *vnetCarrier // nil: packets go straight into the socket
	tcp   *tcpNet

	// Order of locks: Link.sendMu, mu, those of vnet, tableMu, Conn.mu.
	mu     sync.Mutex
	closed bool
	links  map[linkKey]*Link
	flying packetHeap // packets on their way
	seq    uint64     // of the packets in flying
	timer  *time.Timer
	armed  int64 // the due time timer is set to; 0: none
	onSend func(Event)
	trace  *trace      // Options.Trace; nil: none
	limit  *time.Timer // Options.Limit; nil: none

	tableMu sync.RWMutex
	hosts   map[netip.Addr]*Host
	nats    map[netip.Addr]*NAT
	socks   map[netip.AddrPort]*Conn

	noHost, noSocket, overflow atomic.Uint64
}

// Event is one packet being sent, as observers see it.
type Event struct {
	At       time.Duration // since New
	From, To netip.AddrPort
	N        int    // how many packets the path got before this one
	Data     []byte // as sent, before any damage; valid during the call
	Fate     Fate
}

// NetStats counts packets that went through their path and found nobody.
type NetStats struct {
	NoHost   uint64 // no host has that address
	NoSocket uint64 // the host has no such port open
	Overflow uint64 // the receive buffer of the socket was full
}

// Node is an end of a path.
type Node interface {
	// Addr returns the address packets to that node are sent to.
	Addr() netip.Addr
}

// New returns a network without hosts. It is closed when the test ends; in a synctest
// bubble New must be called in the bubble, with its *testing.T.
func New(t testing.TB, o Options) *Net {
	t.Helper()
	if o.Seed == 0 {
		h := fnv.New64a()
		h.Write([]byte(t.Name()))
		o.Seed = h.Sum64()
	}
	if o.RecvBuffer == 0 {
		o.RecvBuffer = defaultRecvBuffer
	}
	o.TCPBuffer = cmp.Or(o.TCPBuffer, defaultTCPBuffer)
	n := &Net{
		opts:  o,
		start: time.Now(),
		links: make(map[linkKey]*Link),
		hosts: make(map[netip.Addr]*Host),
		nats:  make(map[netip.Addr]*NAT),
		socks: make(map[netip.AddrPort]*Conn),
	}
	n.tcp = newTCPNet(n)
	n.timer = time.AfterFunc(time.Hour, n.fire)
	n.timer.Stop()
	if o.Trace > 0 {
		n.trace = &trace{lines: make([]traceLine, o.Trace)}
	}
	if o.Limit >= 0 {
		limit := cmp.Or(o.Limit, defaultLimit)
		n.limit = time.AfterFunc(limit, func() { n.expire(t, limit) })
	}
	if o.VNet {
		var err error
		if n.vnet, err = newVNetCarrier(n); err != nil {
			t.Fatalf("simnet: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("simnet: seed %d", o.Seed)
			if n.trace != nil {
				t.Logf("simnet: the last packets:\n%s", n.traced())
			}
		}
		n.Close()
	})
	return n
}

// Seed returns the seed of the network.
func (n *Net) Seed() uint64 { return n.opts.Seed }

// Close closes all sockets; packets on their way are lost. Nothing of the network runs
// any more when the bubble becomes idle. It may be called again.
func (n *Net) Close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	n.timer.Stop()
	if n.limit != nil {
		n.limit.Stop()
	}
	for _, p := range n.flying {
		p.recycle()
	}
	n.flying = nil
	n.mu.Unlock()

	n.tableMu.Lock()
	open := make([]*Conn, 0, len(n.socks))
	for _, c := range n.socks {
		open = append(open, c)
	}
	n.tableMu.Unlock()
	for _, c := range open {
		c.Close()
	}
	n.tcp.close()
	if n.vnet != nil {
		n.vnet.close()
	}
}

// Stats returns the counters that belong to no path.
func (n *Net) Stats() NetStats {
	return NetStats{NoHost: n.noHost.Load(), NoSocket: n.noSocket.Load(), Overflow: n.overflow.Load()}
}

// Observe has f called for every packet that is sent, before it arrives anywhere, and
// replaces the observer before; nil ends it. Calls for one path do not overlap. f may
// use all of the network but must not send on the same path.
func (n *Net) Observe(f func(Event)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onSend = f
}

// Path returns the path from one node to another, which is none of the way back.
func (n *Net) Path(from, to Node) *Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.link(from.Addr(), to.Addr())
}

// Both sets the parameters of the paths of two nodes to each other.
func (n *Net) Both(a, b Node, p Path) {
	n.Path(a, b).Set(p)
	n.Path(b, a).Set(p)
}

// link finds or makes a path. n.mu is held.
func (n *Net) link(from, to netip.Addr) *Link {
	key := linkKey{from, to}
	l := n.links[key]
	if l == nil {
		name := from.String() + ">" + to.String()
		h := fnv.New64a()
		h.Write([]byte(name))
		l = &Link{net: n, name: name, path: n.opts.Path, rng: rand.NewPCG(n.opts.Seed, h.Sum64())}
		n.links[key] = l
	}
	return l
}

// Inject puts a packet into the socket that listens at to, at once and as if it came
// from the given address: what someone off the path can do. It reports whether there
// was such a socket with room.
func (n *Net) Inject(from, to netip.AddrPort, b []byte) bool {
	p := newPacket(b)
	p.src, p.dst = from, to
	return n.arrive(p)
}

// Host is a computer with one address. It is safe for concurrent use.
type Host struct {
	net  *Net
	addr netip.Addr
	vnet *vnetHost // nil without vnet
	next int       // ephemeral port; guarded by net.tableMu
}

// Host returns the host with that address, which it adds if it is not there.
func (n *Net) Host(addr string) *Host {
	if n.vnet != nil {
		return n.host(addr, n.vnet.router)
	}
	return n.host(addr, nil)
}

// host finds or adds the host, at that router of vnet if there is one.
func (n *Net) host(addr string, router *vnet.Router) *Host {
	ip := netip.MustParseAddr(addr).Unmap()
	n.tableMu.Lock()
	h := n.hosts[ip]
	n.tableMu.Unlock()
	if h != nil {
		return h
	}
	h = &Host{net: n, addr: ip, next: firstEphemeral}
	if router != nil {
		h.vnet = newVNetHost(router, ip)
	}
	n.tableMu.Lock()
	defer n.tableMu.Unlock()
	n.hosts[ip] = h
	return h
}

// Addr returns the address of the host.
func (h *Host) Addr() netip.Addr { return h.addr }

// ListenPacket is Listen for ports that are known to be free: it panics on errors.
func (h *Host) ListenPacket(port int) *Conn {
	c, err := h.Listen(port)
	if err != nil {
		panic(fmt.Sprintf("simnet: %v", err))
	}
	return c
}

// Listen opens a socket. Port 0 stands for a free one; free ports are given out in
// order and not used again soon, as RFC 6056 has it, so that packets to a socket that
// was closed do not reach the next one.
func (h *Host) Listen(port int) (*Conn, error) {
	n := h.net
	n.mu.Lock()
	closed := n.closed
	n.mu.Unlock()
	local := netip.AddrPortFrom(h.addr, uint16(port))
	if closed {
		return nil, h.listenError(local, net.ErrClosed)
	}
	c := newConn(h, n.opts.RecvBuffer)
	n.tableMu.Lock()
	if port == 0 {
		for range 1<<16 - firstEphemeral {
			local = netip.AddrPortFrom(h.addr, uint16(h.next))
			if h.next++; h.next == 1<<16 {
				h.next = firstEphemeral
			}
			if n.socks[local] == nil {
				break
			}
		}
	}
	if n.socks[local] != nil {
		n.tableMu.Unlock()
		return nil, h.listenError(local, errInUse)
	}
	c.local = local
	n.socks[local] = c
	n.tableMu.Unlock()
	if h.vnet != nil {
		if err := c.bindVNet(); err != nil {
			c.Close()
			return nil, h.listenError(local, err)
		}
	}
	return c, nil
}

func (h *Host) listenError(local netip.AddrPort, err error) error {
	return &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(local), Err: err}
}
