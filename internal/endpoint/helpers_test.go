package endpoint

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// testConfig is a configuration as the root package would make it.
func testConfig() *Config {
	return &Config{
		HandshakeTimeout: 10 * time.Second,
		Linger:           5 * time.Second,
		Idle:             30 * time.Second,
		Retry:            reliable.Retry{MaxRetries: 3, AckTimeout: 2 * time.Second, Delay: 100 * time.Millisecond, MaxDelay: 5 * time.Second},
	}
}

func newEndpoint(t testing.TB, pc net.PacketConn, cfg *Config) *Endpoint {
	e := New(udpio.New(pc, udpio.Options{}), cfg)
	t.Cleanup(func() { e.Close() })
	return e
}

func loopback(t testing.TB, cfg *Config) *Endpoint {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newEndpoint(t, pc, cfg)
}

func addrOf(t testing.TB, e *Endpoint) udpio.Addr {
	t.Helper()
	a, err := udpio.AddrOf(e.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// connect makes a stream from a to b.
func connect(t testing.TB, a, b *Endpoint) (client, server *Session) {
	t.Helper()
	b.Listen()
	c, err := a.DialStream(t.Context(), addrOf(t, b))
	if err != nil {
		t.Fatal("dial:", err)
	}
	s, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal("accept:", err)
	}
	return c, s
}

func send(t testing.TB, e *Endpoint, to udpio.Addr, m *session.Message) {
	t.Helper()
	if err := e.SendMessage(t.Context(), m, to); err != nil {
		t.Fatal("send:", err)
	}
}

func receive(t testing.TB, e *Endpoint) *session.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, _, err := e.ReceiveMessage(ctx)
	if err != nil {
		t.Fatalf("receive: %v; %+v", err, e.Stats())
	}
	return m
}

// pattern is n bytes that tell where they belong.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func equal(t testing.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes that are not the %d sent", len(got), len(want))
	}
}

// A duo is two endpoints with a network between them, in a bubble.
type duo struct {
	net    *simnet.Net
	ha, hb *simnet.Host
	a, b   *Endpoint
}

func newDuo(t *testing.T, seed uint64, path simnet.Path, ca, cb *Config) *duo {
	d := &duo{net: simnet.New(t, simnet.Options{Seed: seed, Path: path, Limit: time.Hour})}
	d.ha, d.hb = d.net.Host("10.0.0.1"), d.net.Host("10.0.0.2")
	d.a = newEndpoint(t, d.ha.ListenPacket(0), ca)
	d.b = newEndpoint(t, d.hb.ListenPacket(6969), cb)
	return d
}

// settle lets the ends of associations be over.
func settle(t *testing.T, es ...*Endpoint) {
	t.Helper()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	for _, e := range es {
		e.mu.Lock()
		if len(e.sessions) > 0 || len(e.byPeer) > 0 || len(e.shared) > 0 || len(e.clients.sessions) > 0 || !e.closed && len(e.clients.all) > 0 || e.clients.halfOpen > 0 || e.waiting > 0 {
			t.Errorf("left behind: %d sessions, %d by peer, %d shared, %d of clients, %d clients, %d half-open, %d waiting",
				len(e.sessions), len(e.byPeer), len(e.shared), len(e.clients.sessions), len(e.clients.all), e.clients.halfOpen, e.waiting)
		}
		e.mu.Unlock()
	}
}

func mustAddr(t testing.TB, a net.Addr) udpio.Addr {
	t.Helper()
	u, err := udpio.AddrOf(a)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// udpAddr is a port of 10.0.0.1.
func udpAddr(port int) net.Addr { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port} }
