package endpoint

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/internal/udpio"
)

// kernelLanes is an endpoint on n of the kernel's sockets with one port. If it is not steered,
// it is told so nevertheless, so that it counts what comes on another lane.
func kernelLanes(t *testing.T, n int, steered bool, cfg *Config) *Endpoint {
	t.Helper()
	first, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	raw, err := first.(*net.UDPConn).SyscallConn()
	require.NoError(t, err)
	require.False(t, udpio.SharesPort(raw))
	require.NoError(t, udpio.SharePort(raw))
	require.True(t, udpio.SharesPort(raw))
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return udpio.SharePort(raw) }}
	socks := []*udpio.Conn{udpio.New(first, udpio.Options{})}
	for range n - 1 {
		pc, err := lc.ListenPacket(t.Context(), "udp", first.LocalAddr().String())
		require.NoError(t, err)
		socks = append(socks, udpio.New(pc, udpio.Options{}))
	}
	spread := testSpread(n)
	if steered {
		require.NoError(t, spread.Attach(first))
	}
	e := NewOnSockets(socks, spread, cfg)
	t.Cleanup(func() { e.Close() })
	return e
}

// A rebinder is between a client and a server, as a NAT.
type rebinder struct {
	inside net.PacketConn
	server net.Addr

	mu      sync.Mutex
	client  net.Addr
	outside net.PacketConn
}

func newRebinder(t *testing.T, server net.Addr) *rebinder {
	inside, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &rebinder{inside: inside, server: server}
	r.rebind(t)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := inside.ReadFrom(b)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.client = from
			out := r.outside
			r.mu.Unlock()
			out.WriteTo(b[:n], r.server)
		}
	}()
	t.Cleanup(func() { inside.Close(); r.outside.Close() })
	return r
}

// rebind gives the client another address.
func (r *rebinder) rebind(t *testing.T) {
	out, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, _, err := out.ReadFrom(b)
			if err != nil {
				return
			}
			r.mu.Lock()
			to := r.client
			r.mu.Unlock()
			r.inside.WriteTo(b[:n], to)
		}
	}()
	r.mu.Lock()
	before := r.outside
	r.outside = out
	r.mu.Unlock()
	if before != nil {
		before.Close()
	}
}

// echoOnce sends n bytes and has them come back.
func echoOnce(t *testing.T, c, s *Session, n int) {
	t.Helper()
	want, got := pattern(n), make([]byte, n)
	go func() {
		b := make([]byte, n)
		if _, err := io.ReadFull(s, b); err == nil {
			s.Write(b)
		}
	}()
	_, err := c.Write(want)
	require.NoError(t, err)
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	equal(t, got, want)
}

// The kernel gives each packet of an association to the socket that its id says, also when
// the client's address is another one: nothing comes elsewhere.
func TestKernelSteers(t *testing.T) {
	const lanes = 4
	b := kernelLanes(t, lanes, true, testConfig())
	for range 2 * lanes {
		r := newRebinder(t, b.LocalAddr())
		a := loopback(t, testConfig())
		b.Listen()
		c, err := a.DialStream(t.Context(), mustAddr(t, r.inside.LocalAddr()))
		require.NoError(t, err)
		s, err := b.Accept(t.Context())
		require.NoError(t, err)
		own := b.lanes[b.spread.Of(s.id)]
		for range 3 {
			before := own.datagramsIn.Load()
			echoOnce(t, c, s, 40_000)
			require.Greater(t, own.datagramsIn.Load(), before)
			require.Same(t, own, laneOf(s))
			r.rebind(t)
		}
		require.Equal(t, uint64(2), s.Stats().PathChanges)
		a.Close()
	}
	require.Zero(t, b.Stats().Strays)
	for _, l := range b.lanes {
		require.NotZero(t, l.datagramsIn.Load())
	}
}

// Where the kernel has no program, packets come where their addresses say, and are as good.
func TestKernelDoesNotSteer(t *testing.T) {
	b := kernelLanes(t, 4, false, testConfig())
	for range 16 {
		c, s := connect(t, loopback(t, testConfig()), b)
		echoOnce(t, c, s, 20_000)
	}
	require.NotZero(t, b.Stats().Strays) // all right by chance: one in 2^32
}
