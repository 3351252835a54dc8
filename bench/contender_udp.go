package main

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// udpContender is what a datagram costs at least: one socket at each end and nothing
// in between. It repairs nothing, so that it takes part in round trips only, where
// loopback loses none.
func udpContender() *contender {
	return &contender{
		name: "udp", what: "net.UDPConn, a datagram each way",
		tests:   []string{"rr", "fine-rr"},
		maxSize: maxUDPPayload,
		listen: func(_ *env, host string) (acceptor, error) {
			addr, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, "0"))
			if err != nil {
				return nil, err
			}
			conn, err := net.ListenUDP("udp", addr)
			if err != nil {
				return nil, err
			}
			return newPacketAcceptor(&udpStream{UDPConn: conn}, conn.LocalAddr()), nil
		},
		dial: func(_ *env, addr string) (stream, error) { return net.Dial("udp", addr) },
	}
}

const maxUDPPayload = 65507

// A udpStream is the server's socket: it answers who has sent last.
type udpStream struct {
	*net.UDPConn
	peer netip.AddrPort
}

func (s *udpStream) Read(p []byte) (n int, err error) {
	n, s.peer, err = s.ReadFromUDPAddrPort(p)
	return n, err
}

func (s *udpStream) Write(p []byte) (int, error) { return s.WriteToUDPAddrPort(p, s.peer) }

// A packetStream is the same for any net.PacketConn.
type packetStream struct {
	net.PacketConn
	peer net.Addr
}

func (s *packetStream) Read(p []byte) (n int, err error) {
	n, s.peer, err = s.ReadFrom(p)
	return n, err
}

func (s *packetStream) Write(p []byte) (int, error) { return s.WriteTo(p, s.peer) }

// A packetAcceptor hands out the one socket that serves all clients. As no client
// can end it, the server does, by closing the acceptor.
type packetAcceptor struct {
	s        stream
	addr     net.Addr
	accepted atomic.Bool
	done     chan struct{}
	closed   atomic.Bool
}

func newPacketAcceptor(s stream, addr net.Addr) *packetAcceptor {
	return &packetAcceptor{s: s, addr: addr, done: make(chan struct{})}
}

func (a *packetAcceptor) Accept() (stream, error) {
	if !a.accepted.Swap(true) {
		return a.s, nil
	}
	<-a.done
	return nil, net.ErrClosed
}

func (a *packetAcceptor) Addr() string { return a.addr.String() }

func (a *packetAcceptor) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	close(a.done)
	return a.s.Close()
}

// udpBlastContender is how fast datagrams go at most: nobody asks whether they arrive.
func udpBlastContender() *contender {
	return &contender{
		name: "udp-gso", what: "net.UDPConn, GSO and GRO, datagrams of 1200 B as fast as they can be written, many of them lost",
		tests: []string{"bulk"},
		lossy: true,
		probe: func() error {
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				return err
			}
			defer conn.Close()
			return udpOffload(conn, blastSegment)
		},
		listen: func(_ *env, host string) (acceptor, error) {
			addr, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, "0"))
			if err != nil {
				return nil, err
			}
			conn, err := net.ListenUDP("udp", addr)
			if err != nil {
				return nil, err
			}
			a := newChanAcceptor(conn.LocalAddr().String(), conn.Close)
			go func() {
				if err := udpOffload(conn, blastSegment); err != nil {
					return
				}
				// The first datagram is the client's, and says where to send all.
				s := &udpBlastStream{udpStream{UDPConn: conn}}
				if _, err := s.Read(make([]byte, 1)); err == nil {
					a.put(s)
				}
			}()
			return a, nil
		},
		dial: func(_ *env, addr string) (stream, error) {
			c, err := net.Dial("udp", addr)
			if err != nil {
				return nil, err
			}
			conn := c.(*net.UDPConn)
			conn.SetReadBuffer(4 << 20)
			if err := udpOffload(conn, 0); err != nil {
				conn.Close()
				return nil, err
			}
			if _, err := conn.Write([]byte{0}); err != nil {
				conn.Close()
				return nil, err
			}
			return &udpBlastReader{conn}, nil
		},
	}
}

const (
	blastSegment = 1200
	blastWrite   = maxUDPPayload / blastSegment * blastSegment // one system call
)

// A udpBlastStream cuts what is written into datagrams. One of a single byte is the end.
type udpBlastStream struct{ udpStream }

func (s *udpBlastStream) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = s.udpStream.Write(p[n:min(len(p), n+blastWrite)])
		n += m
	}
	return n, err
}

// Close says several times that this is the end: some may be lost, or come in one piece
// with data.
func (s *udpBlastStream) Close() error {
	for range 50 {
		if _, err := s.udpStream.Write([]byte{0}); err != nil {
			return nil // the client is gone
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// A udpBlastReader reads several datagrams at once.
type udpBlastReader struct{ *net.UDPConn }

func (r *udpBlastReader) Read(p []byte) (int, error) {
	n, err := r.UDPConn.Read(p)
	if n == 1 && err == nil {
		return 0, io.EOF
	}
	return n, err
}
