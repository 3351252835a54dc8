package udpio

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
)

// generic reads and writes any net.PacketConn, one datagram a call.
type generic struct {
	c   *Conn
	udp *net.UDPConn // nil if the conn is anything else, wrappers included
	buf []byte       // owned by Read

	last int // bytes of buf handed out

	connected atomic.Bool // WriteTo is refused, Write is the way
	lastAddr  atomic.Pointer[knownAddr]
}

// knownAddr saves making a net.Addr for each datagram. It is never changed.
type knownAddr struct {
	ap  netip.AddrPort
	net *net.UDPAddr
}

func newGeneric(c *Conn) *generic {
	g := &generic{c: c}
	g.udp, _ = c.pc.(*net.UDPConn)
	return g
}

func (g *generic) maxSegments() int { return 1 }

func (g *generic) moved(net.Addr) {}

func (g *generic) state() (gso, gro, mmsg bool) { return false, false, false }

func (g *generic) read(ps []Packet) (int, error) {
	if g.buf == nil {
		g.buf = make([]byte, bufferSize)
	}
	if poison {
		overwrite(g.buf[:g.last])
	}
	var n int
	var from Addr
	var err error
	if g.udp != nil {
		n, from.AddrPort, err = g.udp.ReadFromUDPAddrPort(g.buf)
		from.AddrPort = canonical(from.AddrPort)
	} else {
		var a net.Addr
		n, a, err = g.c.pc.ReadFrom(g.buf)
		if err == nil {
			if from, err = AddrOf(a); err != nil {
				g.c.counters.badAddrs.Add(1)
				return 0, nil
			}
		}
	}
	switch {
	case err != nil:
		return 0, err
	case n >= len(g.buf): // nothing says that it ended there, trap U10
		g.c.counters.truncated.Add(1)
		return 0, nil
	}
	g.last = n
	ps[0] = Packet{Data: g.buf[:n:n], Addr: from}
	return 1, nil
}

func (g *generic) write(b []byte, segSize int, to Addr, _ Local) error {
	if !to.IsValid() {
		return errAddr
	}
	for {
		var segment []byte
		segment, b = firstSegment(b, segSize)
		err := g.writeOne(segment, to)
		switch kindOf(err) {
		case kindRefused, kindPermission:
			// The error is of an earlier datagram, this one did not go out, trap U1.
			g.c.countRetry(err)
			err = g.writeOne(segment, to)
		}
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
	}
}

func (c *Conn) countRetry(err error) {
	if kindOf(err) == kindRefused {
		c.refused()
	} else {
		c.counters.permission.Add(1)
	}
}

func (g *generic) writeOne(b []byte, to Addr) error {
	if w, ok := g.c.pc.(io.Writer); ok && g.connected.Load() {
		_, err := w.Write(b)
		return err
	}
	var err error
	if g.udp != nil && to.Other == nil {
		_, err = g.udp.WriteToUDPAddrPort(b, to.AddrPort)
	} else {
		_, err = g.c.pc.WriteTo(b, g.netAddr(to))
	}
	if w, ok := g.c.pc.(io.Writer); ok && errors.Is(err, net.ErrWriteToConnected) {
		g.connected.Store(true)
		_, err = w.Write(b)
	}
	return err
}

func (g *generic) netAddr(to Addr) net.Addr {
	if to.Other != nil {
		return to.Other
	}
	if k := g.lastAddr.Load(); k != nil && k.ap == to.AddrPort {
		return k.net
	}
	k := &knownAddr{to.AddrPort, net.UDPAddrFromAddrPort(to.AddrPort)}
	g.lastAddr.Store(k)
	return k.net
}
