package endpoint

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/session"
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

// readers returns how many goroutines serve sockets.
func ourGoroutines() int {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	return strings.Count(string(b), "internal/endpoint.(*Endpoint)") + strings.Count(string(b), "internal/endpoint.(*Session)")
}
