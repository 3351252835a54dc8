package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A network carries UDP and TCP from one port to that of a server, and back. It can be
// told to lose all UDP, as firewalls do that somebody reconfigures.
type network struct {
	loseUDP atomic.Bool

	server string
	tcp    net.Listener
	udp    net.PacketConn

	mu    sync.Mutex
	conns map[io.Closer]bool
	peers map[string]net.Conn // of carryUDP, by the address of the client
}

func newNetwork(server string) (*network, error) {
	n := &network{server: server, conns: make(map[io.Closer]bool), peers: make(map[string]net.Conn)}
	for range 10 { // until both have the same port
		var err error
		if n.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		if n.udp, err = net.ListenPacket("udp", n.tcp.Addr().String()); err == nil {
			go n.carryTCP()
			go n.carryUDP()
			return n, nil
		}
		n.tcp.Close()
	}
	return nil, errors.New("no port is free on UDP and on TCP")
}

func (n *network) address() string { return n.tcp.Addr().String() }

func (n *network) close() {
	n.tcp.Close()
	n.udp.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.Close()
	}
}

// dial connects to the server.
func (n *network) dial(network string) (net.Conn, error) {
	c, err := net.Dial(network, n.server)
	if err != nil {
		return nil, fmt.Errorf("the server: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c] = true
	return c, nil
}

func (n *network) carryTCP() {
	for {
		client, err := n.tcp.Accept()
		if err != nil {
			return
		}
		server, err := n.dial("tcp")
		if err != nil {
			client.Close()
			continue
		}
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			go func() {
				io.Copy(way[1], way[0])
				way[0].Close()
				way[1].Close()
			}()
		}
	}
}

// carryUDP gives each client a socket of its own towards the server.
func (n *network) carryUDP() {
	buf := make([]byte, 65535)
	for {
		m, client, err := n.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		if n.loseUDP.Load() {
			continue
		}
		server := n.peers[client.String()]
		if server == nil {
			if server, err = n.dial("udp"); err != nil {
				continue
			}
			n.peers[client.String()] = server
			go n.answers(server, client)
		}
		server.Write(buf[:m])
	}
}

func (n *network) answers(server net.Conn, client net.Addr) {
	buf := make([]byte, 65535)
	for {
		m, err := server.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && !n.loseUDP.Load() {
			n.udp.WriteTo(buf[:m], client)
		}
	}
}
