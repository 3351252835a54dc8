package vstp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// resumes dials until a session is resumed: a ticket comes a little after the handshake.
func resumes(t testing.TB, network, addr string, config *vstp.Config) *vstp.Conn {
	t.Helper()
	for range 10 {
		c := dialed(t, network, addr, config)
		answers(t, c)
		if c.ConnectionState().TLS.DidResume {
			return c
		}
		c.Close()
	}
	t.Fatal("no session was resumed")
	return nil
}

// A session goes on over the same and over other networks, as long as one tls.Config has
// the ticket keys; who the peers are is remembered with it.
func TestTLSResumption(t *testing.T) {
	a := newAuthority(t)
	sc := a.server()
	sc.ClientAuth, sc.ClientCAs = tls.RequireAndVerifyClientCert, a.cert.Pool
	names := make(chan string, 64)
	server := &vstp.Config{TLS: sc, VerifyHello: func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
		names <- fmt.Sprint(h.TLS.DidResume, " ", h.TLS.PeerCertificates[0].DNSNames[0])
		return nil, nil
	}}
	addrs := map[string]string{}
	for _, network := range []string{"tcp", "rudp", "udp"} {
		addrs[network] = serveEcho(t, network, server)
	}
	for _, way := range [][2]string{{"rudp", "rudp"}, {"udp", "udp"}, {"tcp", "rudp"}, {"rudp", "tcp"}, {"udp", "rudp"}} {
		t.Run(way[0]+" to "+way[1], func(t *testing.T) {
			cc := a.client()
			cc.Certificates = []tls.Certificate{a.issue(tlsvstp.DevOptions{Hosts: []string{"me.test"}})}
			cc.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			client := &vstp.Config{TLS: cc}
			first := dialed(t, way[0], addrs[way[0]], client)
			require.False(t, first.ConnectionState().TLS.DidResume)
			answers(t, first)
			require.NoError(t, first.Close())
			require.Equal(t, "false me.test", receive(t, names))

			c := resumes(t, way[1], addrs[way[1]], client)
			require.NotEmpty(t, c.ConnectionState().TLS.VerifiedChains)
			for seen := ""; seen != "true me.test"; {
				seen = receive(t, names)
				require.Contains(t, seen, "me.test")
			}
		})
	}
	// And not where tickets are off.
	off := a.server()
	off.SessionTicketsDisabled = true
	addr := serveEcho(t, "rudp", &vstp.Config{TLS: off})
	cc := a.client()
	cc.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 2 {
		c := dialed(t, "rudp", addr, &vstp.Config{TLS: cc})
		answers(t, c)
		require.False(t, c.ConnectionState().TLS.DidResume)
		c.Close()
	}
}

// Two listeners with the same ticket keys, as two machines would have them, resume each
// other's sessions; with other keys they do not, and the handshake is a full one.
func TestTLSTicketKeys(t *testing.T) {
	a := newAuthority(t)
	serve := func(key byte) string {
		sc := a.server()
		sc.SetSessionTicketKeys([][32]byte{{key}})
		return serveEcho(t, "rudp", &vstp.Config{TLS: sc})
	}
	one, same, another := serve(1), serve(1), serve(2)
	cc := a.client()
	cc.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	client := &vstp.Config{TLS: cc}
	resumes(t, "rudp", one, client)
	require.True(t, resumes(t, "rudp", same, client).ConnectionState().TLS.DidResume)
	c := dialed(t, "rudp", another, client)
	require.False(t, c.ConnectionState().TLS.DidResume)
	answers(t, c)
}

// Keys can be logged for Wireshark: one line of each kind and connection, at both ends
// the same.
func TestTLSKeyLog(t *testing.T) {
	a := newAuthority(t)
	datagramNetworks(t, func(t *testing.T, network string) {
		var clientLog, serverLog logBuffer
		sc, cc := a.server(), a.client()
		sc.KeyLogWriter, cc.KeyLogWriter = &serverLog, &clientLog
		addr := serveEcho(t, network, &vstp.Config{TLS: sc})
		answers(t, dialed(t, network, addr, &vstp.Config{TLS: cc}))
		for _, label := range []string{
			"CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "SERVER_HANDSHAKE_TRAFFIC_SECRET ", "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 ",
		} {
			require.Equal(t, 1, strings.Count(clientLog.String(), label), clientLog.String())
			require.Equal(t, 1, strings.Count(serverLog.String(), label), serverLog.String())
		}
	})
}

// Nothing that is written, and no metadata, can be read or changed on the way: a relay
// that sees and spoils what it carries finds none of it, and does not end anything.
func TestTLSOnTheWay(t *testing.T) {
	a := newAuthority(t)
	secrets := []string{"attack at dawn", "t0ken-of-the-client", "word-of-the-server"}
	addr := serveEcho(t, "rudp", &vstp.Config{TLS: a.server(), Header: vstp.Header{{Key: "word", Value: secrets[2]}}})
	relay := newRelay(t, addr)
	c := dialed(t, "rudp", relay.addr(), &vstp.Config{TLS: a.client(), Header: vstp.Header{{Key: "token", Value: secrets[1]}}})
	require.Equal(t, secrets[2], c.ConnectionState().PeerHeader.Get("word"))
	text := strings.Repeat(secrets[0], 1000)
	for range 20 {
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		b := make([]byte, len(text))
		_, err = io.ReadFull(c, b)
		require.NoError(t, err)
		require.Equal(t, text, string(b))
	}
	seen, spoiled := relay.seen()
	require.Positive(t, spoiled)
	for _, s := range secrets {
		require.NotContains(t, seen, s)
	}
	require.Contains(t, seen, tlsvstp.ALPN) // what is known to be readable: ClientHello
}

// A relayUDP carries datagrams between a client and a server, keeps a copy, and sends a
// changed copy of some before them.
type relayUDP struct {
	t       testing.TB
	c       *net.UDPConn
	server  *net.UDPAddr
	mu      sync.Mutex
	all     []byte
	spoiled int
}

func newRelay(t testing.TB, server string) *relayUDP {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", server)
	require.NoError(t, err)
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	r := &relayUDP{t: t, c: c, server: to}
	done := make(chan struct{})
	go func() { defer close(done); r.run() }()
	t.Cleanup(func() { c.Close(); <-done })
	return r
}

func (r *relayUDP) addr() string { return r.c.LocalAddr().String() }

func (r *relayUDP) seen() (string, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.all), r.spoiled
}

func (r *relayUDP) run() {
	b := make([]byte, 65536)
	var client *net.UDPAddr
	for i := 0; ; i++ {
		n, from, err := r.c.ReadFromUDP(b)
		if err != nil {
			return
		}
		to := r.server
		if from.Port == r.server.Port {
			to = client
		} else {
			client = from
		}
		r.mu.Lock()
		r.all = append(r.all, b[:n]...)
		r.mu.Unlock()
		if to == nil {
			continue
		}
		if i%3 == 2 {
			bad := bytes.Clone(b[:n])
			bad[(i*31)%n] ^= 1 << (i % 8)
			r.c.WriteToUDP(bad, to)
			r.mu.Lock()
			r.spoiled++
			r.mu.Unlock()
		}
		r.c.WriteToUDP(b[:n], to)
	}
}

// With 0-RTT the hook is asked before the client has shown that it is there now: what it
// sees can be a replay, and HelloInfo.TLS says so. PROTOCOL §8.9.
func TestTLSVerifyHelloEarly(t *testing.T) {
	a := newAuthority(t)
	asked := make(chan bool, 16)
	addr := serveEcho(t, "rudp", &vstp.Config{TLS: a.server(), EarlyData: true, VerifyHello: func(_ context.Context, h *vstp.HelloInfo) (vstp.Header, error) {
		asked <- h.TLS.HandshakeComplete
		return nil, nil
	}})
	cc := a.client()
	cc.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	client := &vstp.Config{TLS: cc, EarlyData: true}
	c := dialed(t, "rudp", addr, client)
	answers(t, c)
	require.False(t, c.ConnectionState().EarlyData)
	require.True(t, receive(t, asked))
	require.NoError(t, c.Close())
	for range 10 {
		c := dialed(t, "rudp", addr, client)
		answers(t, c)
		require.NoError(t, c.Handshake(t.Context()))
		if early := c.ConnectionState().EarlyData; early {
			require.False(t, receive(t, asked))
			return
		}
		require.True(t, receive(t, asked))
	}
	t.Fatal("no 0-RTT")
}
