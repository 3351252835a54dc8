package vstp_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A halfCloser is a connection as proxies want it.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// talk is a conversation in which a side sends, ends its direction, and reads a long
// reply after that: every proxy in between has to pass the half-close on and keep the
// other direction open (C5, I6).
type talk struct{ first, second int64 }

// begin sends first, half-closes, and reads second to the end.
func (k talk) begin(c halfCloser) error {
	if _, err := io.Copy(c, content(k.first)); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	if err := c.CloseWrite(); err != nil {
		return fmt.Errorf("half-closing: %w", err)
	}
	return k.expect(c, k.second)
}

// answer reads first to the end, then sends second.
func (k talk) answer(c halfCloser) error {
	if err := k.expect(c, k.first); err != nil {
		return err
	}
	if _, err := io.Copy(c, content(k.second)); err != nil {
		return fmt.Errorf("answering: %w", err)
	}
	return c.CloseWrite()
}

func (k talk) expect(r io.Reader, n int64) error {
	d, err := digestOf(r)
	if err != nil {
		return fmt.Errorf("after %d bytes of %d: %w", d.n, n, err)
	}
	if d != contentDigest(n) {
		return fmt.Errorf("%d bytes differ from the %d sent", d.n, n)
	}
	return nil
}

// forward is the proxy that everybody writes.
func forward(a, b halfCloser) error {
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for _, p := range [...][2]halfCloser{{a, b}, {b, a}} {
		wg.Go(func() {
			_, err := io.Copy(p[0], p[1])
			if err == nil {
				err = p[0].CloseWrite()
			}
			errs <- err
		})
	}
	wg.Wait()
	a.Close()
	b.Close()
	if err := <-errs; err != nil {
		return err
	}
	return <-errs
}

// A proxy of two vstp connections, of vstp and TCP, and of TCP and vstp, each with
// either side beginning.
func TestProxyCopy(t *testing.T) {
	tcp := transport{name: "net"}
	k := talk{first: 3_000_000, second: sized[int64](20_000_000, 5_000_000)}
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, leg := range []struct {
			name     string
			in, out  transport
			reversed bool
		}{
			{name: "vstp-vstp", in: tr, out: tr},
			{name: "vstp-vstp reversed", in: tr, out: tr, reversed: true},
			{name: "vstp-net", in: tr, out: tcp},
			{name: "vstp-net reversed", in: tr, out: tcp, reversed: true},
			{name: "net-vstp", in: tcp, out: tr},
			{name: "net-vstp reversed", in: tcp, out: tr, reversed: true},
		} {
			t.Run(leg.name, func(t *testing.T) {
				client, in := leg.in.ends(t)
				out, backend := leg.out.ends(t)
				var g group
				g.Go(func() error { return forward(in, out) })
				if leg.reversed {
					g.Go(func() error { return k.answer(client) })
					g.Go(func() error { return k.begin(backend) })
				} else {
					g.Go(func() error { return k.begin(client) })
					g.Go(func() error { return k.answer(backend) })
				}
				g.Wait(t)
			})
		}
	})
}

// ends is pair, and for the transport "net" plain TCP.
func (tr transport) ends(t *testing.T) (client, server halfCloser) {
	t.Helper()
	if tr.name != "net" {
		return tr.pair(t)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	s, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return c.(halfCloser), s.(halfCloser)
}

// httputil.ReverseProxy between two vstp sites: a plain request, and an upgraded
// connection on which either side half-closes first. ReverseProxy passes that on by
// CloseWrite.
func TestReverseProxy(t *testing.T) {
	k := talk{first: 500_000, second: 3_000_000}
	eachTransport(t, func(t *testing.T, tr transport) {
		result := make(chan error, 1)
		backend := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") == "" {
				io.Copy(w, content(k.second))
				return
			}
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				result <- err
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n")
			if r.URL.Path == "/backend-first" {
				result <- k.begin(c.(halfCloser))
			} else {
				result <- k.answer(c.(halfCloser))
			}
		}))
		target, err := url.Parse(backend.url)
		require.NoError(t, err)
		proxy := &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: backend.transport,
		}
		front := newSite(t, tr, proxy)

		res, err := front.client.Get(front.url)
		require.NoError(t, err)
		require.NoError(t, k.expect(res.Body, k.second))
		res.Body.Close()

		for _, path := range []string{"client-first", "backend-first"} {
			req, _ := http.NewRequest("GET", front.url+path, nil)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "talk")
			c, err := front.transport.DialContext(t.Context(), "tcp", req.URL.Host)
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, req.Write(c))
			r := bufio.NewReader(c)
			res, err := http.ReadResponse(r, req)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
			end := buffered{c.(halfCloser), r}
			if path == "backend-first" {
				require.NoError(t, k.answer(end))
			} else {
				require.NoError(t, k.begin(end))
			}
			require.NoError(t, receive(t, result), path)
		}
	})
}

// buffered is a connection of which some has been read ahead.
type buffered struct {
	halfCloser
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
