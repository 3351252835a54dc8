package simnet

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Errors of the operating system that the sockets return, in a *net.OpError.
var (
	errInUse    = os.NewSyscallError("bind", syscall.EADDRINUSE)
	errTooLarge = os.NewSyscallError("sendto", syscall.EMSGSIZE)
)

// maxPayload is the most that fits into an IPv4 packet.
const maxPayload = 65535 - 20 - 8

// Conn is a UDP socket of a host. It behaves as a *net.UDPConn that is not connected:
// a packet that does not fit is cut without an error, an expired deadline comes before
// packets that wait, writing never blocks. It is safe for concurrent use.
type Conn struct {
	host *Host
	max  int // bytes in the receive buffer

	mu       sync.Mutex
	arrived  sync.Cond      // a packet, Close, or a change of the deadline
	local    netip.AddrPort // changed by Rebind
	first    netip.AddrPort // what LocalAddr says; zero: as local
	vnet     *vnetConn
	queue    []*packet
	size     int // of queue in bytes, with packetCost
	closed   bool
	readEnd  time.Time // deadlines
	writeEnd time.Time
	timer    *time.Timer // of readEnd
}

var _ net.PacketConn = (*Conn)(nil)

func newConn(h *Host, size int) *Conn {
	c := &Conn{host: h, max: size}
	c.arrived.L = &c.mu
	return c
}

// push puts a packet into the receive buffer and reports whether there was room.
func (c *Conn) push(p *packet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cost := len(p.buf) + packetCost
	if c.closed || c.size+cost > c.max {
		if c.closed {
			c.host.net.noSocket.Add(1)
		} else {
			c.host.net.overflow.Add(1)
		}
		p.recycle()
		return false
	}
	c.queue = append(c.queue, p)
	c.size += cost
	c.arrived.Signal()
	return true
}

// ReadFrom waits for a packet. The address is a *net.UDPAddr of the caller's own.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	p, err := c.next()
	if err != nil {
		return 0, nil, &net.OpError{Op: "read", Net: "udp", Source: c.LocalAddr(), Err: err}
	}
	n, from := copy(b, p.buf), udpAddr(p.src)
	p.recycle()
	return n, from, nil
}

// next waits for the next packet.
func (c *Conn) next() (*packet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return nil, net.ErrClosed
		case expired(c.readEnd):
			return nil, os.ErrDeadlineExceeded
		case len(c.queue) > 0:
			p := c.queue[0]
			c.queue[0] = nil
			c.queue = c.queue[1:]
			c.size -= len(p.buf) + packetCost
			return p, nil
		}
		c.arrived.Wait()
	}
}

// WriteTo sends a packet; addr must be a *net.UDPAddr. That the network does not
// deliver it is no error.
func (c *Conn) WriteTo(b []byte, addr net.Addr) (int, error) {
	err := c.write(b, addr)
	if err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Addr: addr, Err: err}
	}
	return len(b), nil
}

func (c *Conn) write(b []byte, addr net.Addr) error {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || udp == nil {
		return syscall.EINVAL
	}
	dst := udp.AddrPort()
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	c.mu.Lock()
	closed, late, src, vnet := c.closed, expired(c.writeEnd), c.local, c.vnet
	c.mu.Unlock()
	switch {
	case closed:
		return net.ErrClosed
	case late:
		return os.ErrDeadlineExceeded
	case !dst.IsValid() || dst.Port() == 0:
		return syscall.EINVAL
	case dst.Addr().Is4() != src.Addr().Is4():
		return syscall.EAFNOSUPPORT
	case len(b) > maxPayload:
		return errTooLarge
	}
	n := c.host.net
	n.mu.Lock()
	l := n.link(src.Addr(), dst.Addr())
	n.mu.Unlock()
	return l.send(src, dst, vnet, b)
}

// Close closes the socket and ends all waiting reads. What was sent before still
// arrives at the others.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return &net.OpError{Op: "close", Net: "udp", Source: udpAddr(c.local), Err: net.ErrClosed}
	}
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	for _, p := range c.queue {
		p.recycle()
	}
	c.queue, c.size = nil, 0
	local, vnet := c.local, c.vnet
	c.arrived.Broadcast()
	c.mu.Unlock()

	c.host.net.unbind(local, vnet)
	return nil
}

// unbind frees the port of a socket.
func (n *Net) unbind(local netip.AddrPort, vnet *vnetConn) {
	if vnet != nil {
		vnet.close()
	}
	n.tableMu.Lock()
	delete(n.socks, local)
	n.tableMu.Unlock()
}

// Rebind moves the socket to another host and port (0: a free one), as a NAT does that
// has forgotten it, or a computer that changes its network: packets leave from there
// and those to the old address are lost. LocalAddr stays as it was.
func (c *Conn) Rebind(h *Host, port int) error {
	other, err := h.Listen(port)
	if err != nil {
		return err
	}
	n := h.net
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		other.Close()
		return net.ErrClosed
	}
	if !c.first.IsValid() {
		c.first = c.local
	}
	oldLocal, oldVNet := c.local, c.vnet
	c.local, c.vnet = other.local, other.vnet
	c.mu.Unlock()

	n.unbind(oldLocal, oldVNet)
	n.tableMu.Lock()
	n.socks[other.local] = c
	n.tableMu.Unlock()
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed { // Close may have come in between
		n.unbind(other.local, other.vnet)
	}
	return nil
}

// LocalAddr returns the address the socket was opened with, a *net.UDPAddr.
func (c *Conn) LocalAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first.IsValid() {
		return udpAddr(c.first)
	}
	return udpAddr(c.local)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline applies to reads that wait already, too.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.setError()
	}
	c.readEnd = t
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if d := time.Until(t); !t.IsZero() && d > 0 {
		c.timer = time.AfterFunc(d, c.wakeAll)
	}
	c.arrived.Broadcast()
	return nil
}

func (c *Conn) wakeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrived.Broadcast()
}

// SetWriteDeadline makes writes fail after t.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.setError()
	}
	c.writeEnd = t
	return nil
}

func (c *Conn) setError() error {
	return &net.OpError{Op: "set", Net: "udp", Source: udpAddr(c.local), Err: net.ErrClosed}
}

// Buffered returns how many packets wait for a reader.
func (c *Conn) Buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// expired reports whether a deadline has passed.
func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// udpAddr returns a new *net.UDPAddr, in one allocation.
func udpAddr(a netip.AddrPort) *net.UDPAddr {
	v := &struct {
		addr net.UDPAddr
		ip   [16]byte
	}{}
	if a.Addr().Is4() {
		ip := a.Addr().As4()
		v.addr.IP = v.ip[:copy(v.ip[:], ip[:]):4]
	} else {
		v.ip = a.Addr().As16()
		v.addr.IP = v.ip[:]
	}
	v.addr.Port, v.addr.Zone = int(a.Port()), a.Addr().Zone()
	return &v.addr
}
