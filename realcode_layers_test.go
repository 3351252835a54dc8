package vstp_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// tlsConfigs returns the configurations of crypto/tls for both ends.
func tlsConfigs(t testing.TB) (client, server *tls.Config) {
	t.Helper()
	cert, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"vstp.test"}})
	require.NoError(t, err)
	return &tls.Config{RootCAs: cert.Pool, ServerName: "vstp.test"},
		&tls.Config{Certificates: []tls.Certificate{cert.Certificate}}
}

// crypto/tls over a vstp connection: bytes both ways at a time, its own half-close, and
// the end of the carrier after it.
func TestTLSInside(t *testing.T) {
	cc, sc := tlsConfigs(t)
	size := sized[int64](20_000_000, 3_000_000)
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		client, server := tls.Client(c, cc), tls.Server(s, sc)
		var g group
		for _, end := range []*tls.Conn{client, server} {
			g.Go(func() error {
				if _, err := io.Copy(end, content(size)); err != nil {
					return err
				}
				return end.CloseWrite()
			})
			g.Go(func() error { return talk{}.expect(end, size) })
		}
		g.Wait(t)
		require.NoError(t, client.Close())
		require.NoError(t, server.Close())
		_, err := client.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// A long reply after the half-close of TLS.
func TestTLSInsideHalfClose(t *testing.T) {
	cc, sc := tlsConfigs(t)
	k := talk{first: 100_000, second: sized[int64](10_000_000, 3_000_000)}
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		var g group
		g.Go(func() error { return k.begin(tls.Client(c, cc)) })
		g.Go(func() error { return k.answer(tls.Server(s, sc)) })
		g.Wait(t)
	})
}

// Deadlines and contexts of crypto/tls pass through: a Read that times out can be
// repeated, a handshake ends with its context.
func TestTLSInsideDeadlines(t *testing.T) {
	cc, sc := tlsConfigs(t)
	now := time.Now()
	cc.Time = func() time.Time { return now } // not that of the bubble, where the certificate is not yet valid
	synctest.Test(t, func(t *testing.T) {
		c, s := memPair(t, 64<<10, nil)
		client, server := tls.Client(c, cc), tls.Server(s, sc)
		shaken := async(func() error { return server.HandshakeContext(t.Context()) })
		require.NoError(t, client.HandshakeContext(t.Context()))
		require.NoError(t, <-shaken)
		for range 3 {
			start := time.Now()
			require.NoError(t, client.SetReadDeadline(start.Add(2*time.Second)))
			_, err := client.Read(make([]byte, 1))
			ne, ok := err.(net.Error)
			require.True(t, ok && ne.Timeout(), "N1: %v", err)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Equal(t, 2*time.Second, time.Since(start))

			require.NoError(t, client.SetReadDeadline(time.Time{}))
			_, err = server.Write([]byte("still there"))
			require.NoError(t, err)
			b := make([]byte, 11)
			_, err = io.ReadFull(client, b)
			require.NoError(t, err)
			require.Equal(t, "still there", string(b))
		}
		start := time.Now()
		require.NoError(t, client.SetWriteDeadline(start.Add(3*time.Second)))
		_, err := client.Write(make([]byte, 10<<20)) // crypto/tls is of no use after this, vstp is
		ne, ok := err.(net.Error)
		require.True(t, ok && ne.Timeout(), "N1: %v", err)
		require.Equal(t, 3*time.Second, time.Since(start))
		go io.Copy(io.Discard, s)
		require.NoError(t, c.SetDeadline(time.Time{}))
		_, err = c.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, s.Close())
	})
	synctest.Test(t, func(t *testing.T) {
		c, s := memPair(t, 64<<10, nil)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		err := tls.Client(c, cc).HandshakeContext(ctx) // nobody answers
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 4*time.Second, time.Since(start))
		s.Close()
		c.Close()
	})
}

// lowLinger keeps tests short in which the peer does not close.
var lowLinger = &vstp.Config{Linger: 500 * time.Millisecond}

// Carriers that are not a socket of ours: each gives two connected ends that a vstp
// connection can be put on.
func layers(t testing.TB) map[string]func() (client, server net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	tcp := func() (net.Conn, net.Conn) {
		c, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		s, err := ln.Accept()
		require.NoError(t, err)
		return c, s
	}
	cc, sc := tlsConfigs(t)
	vstpOver := func(under func() (net.Conn, net.Conn)) func() (net.Conn, net.Conn) {
		return func() (net.Conn, net.Conn) {
			a, b := under()
			c, s := vstp.Client(a, lowLinger), vstp.Server(b, lowLinger)
			shake(t, c, s)
			return c, s
		}
	}
	return map[string]func() (net.Conn, net.Conn){
		"net.Pipe": net.Pipe,
		"memory":   func() (net.Conn, net.Conn) { return memPipe(100_000) },
		"wrapper": func() (net.Conn, net.Conn) { // as a rate limiter or a counter would be
			a, b := tcp()
			return struct{ net.Conn }{a}, struct{ net.Conn }{b}
		},
		"tls.Conn": func() (net.Conn, net.Conn) {
			a, b := tcp()
			return tls.Client(a, cc), tls.Server(b, sc)
		},
		"tls.Conn over net.Pipe": func() (net.Conn, net.Conn) {
			a, b := net.Pipe()
			return tls.Client(a, cc), tls.Server(b, sc)
		},
		"vstp":          vstpOver(tcp),
		"vstp net.Pipe": vstpOver(net.Pipe),
		"vstp vstp":     vstpOver(vstpOver(tcp)),
	}
}

// nettest.TestConn, unmodified, on vstp over each of these.
func TestConnOverLayers(t *testing.T) {
	for name, layer := range layers(t) {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				a, b := layer()
				c, s := vstp.Client(a, lowLinger), vstp.Server(b, lowLinger)
				return c, s, func() {
					first := async(c.Close)
					s.Close()
					<-first
				}, nil
			})
		})
	}
}

// A conversation with half-close and a long reply on vstp over each of these, and
// after that an orderly end on both sides; plain and with TLS in the upper vstp.
func TestTalkOverLayers(t *testing.T) {
	k := talk{first: 1_000_000, second: sized[int64](10_000_000, 2_000_000)}
	cc, sc := tlsConfigs(t)
	for name, layer := range layers(t) {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				a, b := layer()
				var client, server vstp.Config
				if secure {
					client.TLS, server.TLS = cc, sc
				}
				c, s := vstp.Client(a, &client), vstp.Server(b, &server)
				var g group
				g.Go(func() error { return k.begin(c) })
				g.Go(func() error { return k.answer(s) })
				g.Wait(t)
				first := async(c.Close)
				require.NoError(t, s.Close())
				require.NoError(t, receive(t, first))
				// What is underneath closes when the peer's end has been seen.
				require.Eventually(t, func() bool {
					_, err := a.Write([]byte("x"))
					return err != nil
				}, 10*time.Second, time.Millisecond, "Close closes the connection underneath")
			})
		}
	}
}

// A write deadline on vstp over the caller's own TLS: crypto/tls does not survive one
// (N3), this does.
func TestWriteDeadlineOverTLS(t *testing.T) {
	for name, layer := range layers(t) {
		t.Run(name, func(t *testing.T) {
			a, b := layer()
			c, s := vstp.Client(a, nil), vstp.Server(b, nil)
			shake(t, c, s)
			data := contentBytes(30 << 20)
			total := 0
			for range 3 {
				require.NoError(t, c.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
				n, err := c.Write(data[total:])
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				total += n
			}
			require.NoError(t, c.SetWriteDeadline(time.Time{}))
			got := async(func() digest { d, _ := digestOf(s); return d })
			_, err := c.Write(data[total : total+1])
			require.NoError(t, err)
			require.NoError(t, c.Close())
			require.Equal(t, contentDigest(int64(total+1)), receive(t, got))
			require.NoError(t, s.Close())
		})
	}
}

// A dead peer does not hold Close for longer than Config.Linger on any of these
// (C2), although crypto/tls can block for five seconds (N15).
func TestCloseDeadPeerOverLayers(t *testing.T) {
	for name, layer := range layers(t) {
		t.Run(name, func(t *testing.T) {
			a, b := layer()
			config := &vstp.Config{Linger: 100 * time.Millisecond}
			c, s := vstp.Client(a, config), vstp.Server(b, config)
			shake(t, c, s)
			c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := c.Write(contentBytes(30 << 20))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			start := time.Now()
			c.Close()
			require.Less(t, time.Since(start), 4*time.Second)
			b.Close()
			s.Close()
		})
	}
}

// Close returns when the peer has read to the end, although it then reads no more: what
// TLS says after BYE, on a carrier that holds nothing, keeps nobody waiting (N15).
func TestCloseDoesNotWaitForTLS(t *testing.T) {
	cc, sc := tlsConfigs(t)
	now := time.Now()
	cc.Time = func() time.Time { return now }
	for _, inside := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS of vstp %v", inside), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				var client, server vstp.Config
				if inside {
					client.TLS, server.TLS = cc, sc
				} else {
					a, b = tls.Client(a, cc), tls.Server(b, sc)
				}
				c, s := vstp.Client(a, &client), vstp.Server(b, &server)
				shake(t, c, s)
				read := async(func() error { _, err := io.ReadAll(s); return err })
				start := time.Now()
				_, err := c.Write([]byte("hello"))
				require.NoError(t, err)
				require.NoError(t, c.Close())
				require.NoError(t, <-read)
				require.Zero(t, time.Since(start))
				s.Close()
			})
		})
	}
}
