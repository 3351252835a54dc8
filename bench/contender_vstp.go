package main

import (
	"context"
	"slices"
	"time"

	"github.com/vstp-go/vstp"
)

func vstpContender() *contender {
	c := vstpOver("vstp", "vstp over TCP, CRC on (the default)", "tcp", "tcp",
		func(*env, bool) *vstp.Config { return nil })
	c.tests = append(slices.Clone(coreTests), "link")
	return c
}

func vstpNoCRCContender() *contender {
	return vstpOver("vstp-nocrc", "vstp over TCP, CRC off", "tcp", "tcp", noCRC)
}

func vstpTLSContender() *contender {
	c := vstpOver("vstp-tls", "vstp over TCP and TLS 1.3", "tls", "tcp",
		withTLS)
	c.tests = sealedTests
	c.idleConns = 2000
	return c
}

func vstpUnixContender() *contender {
	return vstpOver("vstp-unix", "vstp over a unix socket, CRC on", "unix", "unix",
		func(*env, bool) *vstp.Config { return nil })
}

func vstpUnixNoCRCContender() *contender {
	return vstpOver("vstp-unix-nocrc", "vstp over a unix socket, CRC off", "unix", "unix", noCRC)
}

func noCRC(*env, bool) *vstp.Config { return &vstp.Config{Checksum: vstp.ChecksumOff} }

func withTLS(e *env, server bool) *vstp.Config {
	if server {
		return &vstp.Config{TLS: e.serverTLS}
	}
	return &vstp.Config{TLS: e.clientTLS}
}

func vstpOver(name, what, base, network string, config func(e *env, server bool) *vstp.Config) *contender {
	return &contender{
		name: name, what: what, base: base, tests: coreTests, ports: vstpPort,
		listen: func(e *env, host string) (acceptor, error) {
			addr := host + ":0"
			if network == "unix" {
				var err error
				if addr, err = socketPath(e); err != nil {
					return nil, err
				}
			}
			lc := vstp.ListenConfig{Config: config(e, true)}
			ln, err := lc.Listen(context.Background(), network, addr)
			if err != nil {
				return nil, err
			}
			return netAcceptor{ln}, nil
		},
		dial: func(e *env, addr string) (stream, error) {
			d := vstp.Dialer{Config: config(e, false)}
			return d.Dial(network, addr)
		},
	}
}

// rudpBases are what a stream over datagrams has to show itself beside.
var rudpBases = map[string]string{"bulk": "quic", "message": "quic", "rr": "udp"}

func vstpRUDPContender() *contender {
	return rudpOver("vstp-rudp", "vstp stream over UDP, CRC on (the default)",
		func(*env, bool) *vstp.Config { return nil })
}

func vstpRUDPNoCRCContender() *contender {
	return rudpOver("vstp-rudp-nocrc", "vstp stream over UDP, CRC off", noCRC)
}

func vstpRUDPTLSContender() *contender {
	c := rudpOver("vstp-rudp-tls", "vstp stream over UDP, TLS 1.3", withTLS)
	c.tests = append(c.tests, "handshakes")
	c.idleConns = 2000
	return c
}

// vstpRUDPMessagesContender sends messages beside the stream: none waits for another.
func vstpRUDPMessagesContender() *contender {
	return rudpMessages("vstp-rudp-messages", "vstp messages on a connection of rudp, each for itself", vstp.Message{})
}

// vstpRUDPRedundantContender sends them so that a loss costs no round trip.
func vstpRUDPRedundantContender() *contender {
	return rudpMessages("vstp-rudp-red", "the same with Message.Redundant", vstp.Message{Redundant: true})
}

func rudpMessages(name, what string, m vstp.Message) *contender {
	c := rudpOver(name, what, func(*env, bool) *vstp.Config { return nil })
	c.tests, c.bases = []string{"link-messages"}, nil
	c.messages = func(s stream) messagePort { return &smallMessages{s.(*vstp.Conn), m} }
	return c
}

// smallMessages are sent as m says, without waiting for an answer.
type smallMessages struct {
	conn *vstp.Conn
	m    vstp.Message
}

func (x *smallMessages) Send(p []byte) error {
	x.m.Payload = p
	return x.conn.SendMessage(context.Background(), &x.m)
}

func (x *smallMessages) Receive() ([]byte, error) {
	m, err := x.conn.ReceiveMessage(context.Background())
	if err != nil {
		return nil, err
	}
	return m.Payload, nil
}

func rudpOver(name, what string, config func(e *env, server bool) *vstp.Config) *contender {
	c := vstpOver(name, what, "", "rudp", config)
	c.tests = append(slices.Clone(coreTests), "link")
	c.bases = rudpBases
	return c
}

func vstpUDPContender() *contender {
	return udpMessages("vstp-udp", "vstp messages over UDP, Dial to ListenPacket",
		func(*env, bool) *vstp.Config { return nil })
}

func vstpUDPTLSContender() *contender {
	return udpMessages("vstp-udp-tls", "vstp messages over UDP, TLS 1.3, Dial to ListenPacket", withTLS)
}

// udpMessages sends messages between a dialed connection and a net.PacketConn.
func udpMessages(name, what string, config func(e *env, server bool) *vstp.Config) *contender {
	return &contender{
		name: name, what: what,
		tests: []string{"rr", "fine-rr", "message"},
		bases: rudpBases,
		listen: func(e *env, host string) (acceptor, error) {
			lc := vstp.ListenConfig{Config: config(e, true)}
			pc, err := lc.ListenPacket(context.Background(), "udp", host+":0")
			if err != nil {
				return nil, err
			}
			return newPacketAcceptor(&packetStream{PacketConn: pc}, pc.LocalAddr()), nil
		},
		dial: func(e *env, addr string) (stream, error) {
			d := vstp.Dialer{Config: config(e, false)}
			return d.Dial("udp", addr)
		},
		ports: vstpPort,
	}
}

// A vstpMessages sends with RequireAck.
type vstpMessages struct {
	conn    *vstp.Conn
	receive func(context.Context) (*vstp.Message, error)
}

// vstpPort returns the messages of a connection, or of a socket.
func vstpPort(s stream) messagePort {
	if conn, ok := s.(*vstp.Conn); ok {
		return &vstpMessages{conn: conn, receive: conn.ReceiveMessage}
	}
	pc := s.(*packetStream).PacketConn.(*vstp.PacketConn)
	return &vstpMessages{receive: func(ctx context.Context) (*vstp.Message, error) {
		m, _, err := pc.ReceiveMessage(ctx)
		return m, err
	}}
}

// Send waits at most a minute for the acknowledgement.
func (v *vstpMessages) Send(p []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return v.conn.SendMessage(ctx, &vstp.Message{Payload: p, RequireAck: true})
}

func (v *vstpMessages) Receive() ([]byte, error) {
	m, err := v.receive(context.Background())
	if err != nil {
		return nil, err
	}
	return m.Payload, nil
}

// vstpRetransmitted returns the share of packets with something in them that was sent
// before.
func vstpRetransmitted(c *vstp.Conn) float64 {
	stats := c.Stats()
	return share(stats.PacketsRetransmitted, stats.PacketsSent)
}
