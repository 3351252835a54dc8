package vstp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/internal/endpoint"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
)

// A host with several addresses: which are tried when, and what comes out of it.
func TestDialAny(t *testing.T) {
	refused := &handshake.RemoteError{Code: CodeRefused}
	broken := errors.New("no route")
	type answer struct {
		after time.Duration
		err   error // nil: a session
	}
	silent := answer{after: time.Hour, err: broken}
	for name, c := range map[string]struct {
		delay   time.Duration
		bound   time.Duration // of the context, 0: none
		answers []answer
		want    int // whose answer comes out
		err     error
		after   time.Duration
		tried   int
	}{
		"one":                         {answers: []answer{{after: time.Second}}, after: time.Second, tried: 1},
		"first at once":               {answers: []answer{{after: 299 * time.Millisecond}, {}}, after: 299 * time.Millisecond, tried: 1},
		"first dead":                  {answers: []answer{silent, {after: 50 * time.Millisecond}}, want: 1, after: 350 * time.Millisecond, tried: 2},
		"first slow":                  {answers: []answer{{after: 400 * time.Millisecond}, silent}, after: 400 * time.Millisecond, tried: 2},
		"first fails":                 {answers: []answer{{after: 10 * time.Millisecond, err: broken}, {}}, want: 1, after: 10 * time.Millisecond, tried: 2},
		"third":                       {answers: []answer{silent, silent, {}, {}}, want: 2, after: 600 * time.Millisecond, tried: 3},
		"all fail":                    {answers: []answer{{err: broken}, {after: time.Second, err: broken}}, err: broken, after: time.Second, tried: 2},
		"refused":                     {answers: []answer{{err: refused}, {}}, err: refused, tried: 1},
		"refused beside a dead one":   {answers: []answer{silent, {err: refused}, {}}, want: 1, err: refused, after: 300 * time.Millisecond, tried: 2},
		"all dead":                    {bound: time.Second, answers: []answer{silent, silent}, err: context.DeadlineExceeded, after: time.Second, tried: 2},
		"context ends before the 2nd": {bound: 100 * time.Millisecond, answers: []answer{silent, {}}, err: context.DeadlineExceeded, after: 100 * time.Millisecond, tried: 1},
		"delay":                       {delay: time.Second, answers: []answer{silent, {}}, want: 1, after: time.Second, tried: 2},
		"one after the other":         {delay: -1, answers: []answer{{after: time.Minute, err: broken}, {}}, want: 1, after: time.Minute, tried: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var addrs []netip.AddrPort
				for i := range c.answers {
					addrs = append(addrs, netip.AddrPortFrom(loopback(i%2 == 0), uint16(i)))
				}
				var tried atomic.Int32
				sessions := make([]*endpoint.Session, len(addrs))
				dial := func(ctx context.Context, to udpio.Addr) (*endpoint.Session, error) {
					tried.Add(1)
					i := to.Port()
					select {
					case <-time.After(c.answers[i].after):
					case <-ctx.Done():
						return nil, context.Cause(ctx)
					}
					if err := c.answers[i].err; err != nil {
						return nil, err
					}
					sessions[i] = new(endpoint.Session)
					return sessions[i], nil
				}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if c.bound > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.bound)
				}
				defer cancel()
				start := time.Now()
				s, addr, err := dialAny(ctx, dial, addrs, c.delay)
				require.Equal(t, c.after, time.Since(start))
				require.EqualValues(t, c.tried, tried.Load())
				require.ErrorIs(t, err, c.err)
				if c.err == nil {
					require.NoError(t, err)
					require.True(t, s != nil && s == sessions[c.want])
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					require.Equal(t, addrs[c.want], addr)
				}
			})
		})
	}
}

// Each address of several ends at once where nobody listens, and the next one is tried.
// Trap U1.
func TestDialAddrsRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not every system tells, or has addresses beside 127.0.0.1")
	}
	var addrs []netip.AddrPort
	for _, a := range []string{"127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"} {
		pc, err := net.ListenPacket("udp", a)
		require.NoError(t, err)
		addrs = append(addrs, pc.LocalAddr().(*net.UDPAddr).AddrPort())
		require.NoError(t, pc.Close())
	}
	config, err := (*Config)(nil).endpoint(dialing, "")
	require.NoError(t, err)
	nd := &net.Dialer{FallbackDelay: -1} // one after the other
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, network := range []string{"udp", "rudp"} {
		start := time.Now()
		_, addr, err := dialAddrs(ctx, nd, nil, network, addrs, config)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.Equal(t, addrs[0], addr)
		require.Less(t, time.Since(start), 5*time.Second)
	}
	ln, err := Listen("rudp", addrs[2].String())
	require.NoError(t, err)
	defer ln.Close()
	for _, local := range []*net.UDPAddr{nil, {IP: net.IPv4(127, 0, 0, 1)}} {
		nd.LocalAddr = nil
		if local != nil {
			nd.LocalAddr = local
		}
		c, addr, err := dialAddrs(ctx, nd, local, "rudp", addrs, config)
		require.NoError(t, err)
		require.Equal(t, addrs[2], addr)
		s, err := ln.Accept()
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, s.Close())
	}
	// With a local port there is one socket, and nothing is refused.
	nd.FallbackDelay = 10 * time.Millisecond
	local := net.UDPAddrFromAddrPort(addrs[0])
	nd.LocalAddr = local
	c, addr, err := dialAddrs(ctx, nd, local, "rudp", addrs[1:], config)
	require.NoError(t, err)
	require.Equal(t, addrs[2], addr)
	require.Equal(t, addrs[0].String(), c.LocalAddr().String())
	s, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, s.Close())
}

// What addresses mean, without asking anybody.
func TestResolveUDP(t *testing.T) {
	v4, v6 := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv6loopback}
	for _, c := range []struct {
		network, address string
		local            *net.UDPAddr
		want             string // empty: an error
	}{
		{"udp", "127.0.0.1:80", nil, "127.0.0.1:80"},
		{"udp", "127.0.0.1", nil, "127.0.0.1:6969"},
		{"udp", "[::1]:80", nil, "[::1]:80"},
		{"udp", "::1", nil, "[::1]:6969"},
		{"udp", "[fe80::1%lo]:80", nil, "[fe80::1%lo]:80"},
		{"udp", ":80", nil, "127.0.0.1:80"},
		{"udp6", ":80", nil, "[::1]:80"},
		{"udp", "0.0.0.0:80", nil, "127.0.0.1:80"},
		{"udp", "[::]:80", nil, "[::1]:80"},
		{"udp", "[::ffff:1.2.3.4]:80", nil, "1.2.3.4:80"},
		{"udp4", "[::ffff:1.2.3.4]:80", nil, "1.2.3.4:80"},
		{"udp4", "[::1]:80", nil, ""},
		{"udp6", "127.0.0.1:80", nil, ""},
		{"udp", "127.0.0.1:80", v4, "127.0.0.1:80"},
		{"udp", "127.0.0.1:80", v6, ""},
		{"udp", "[::1]:80", v4, ""},
		{"udp", "[::1]:80", &net.UDPAddr{Port: 5}, "[::1]:80"},
		{"udp", "1.2.3.4:80", &net.UDPAddr{IP: net.IPv6unspecified}, "1.2.3.4:80"},
		{"udp", "1.2.3.4:domain", nil, "1.2.3.4:53"},
		{"udp", "1.2.3.4:99999", nil, ""},
		{"udp", "1.2.3.4:", nil, "1.2.3.4:0"},
		{"udp", "", nil, ""},
		{"udp", "[::1:80", nil, ""},
	} {
		addrs, err := resolveUDP(t.Context(), nil, c.network, c.address, c.local)
		if c.want == "" {
			require.Error(t, err, "%s %s", c.network, c.address)
			continue
		}
		require.NoError(t, err, "%s %s", c.network, c.address)
		require.Len(t, addrs, 1)
		require.Equal(t, c.want, addrs[0].String(), "%s %s", c.network, c.address)
	}
}
