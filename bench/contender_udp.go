package main

import (
	"net"
	"net/netip"
	"sync/atomic"
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
