package vstp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// A site is an http.Server and an http.Client for it, both of them as they are.
type site struct {
	url       string
	server    *http.Server
	client    *http.Client
	transport *http.Transport
	dialer    *vstp.Dialer
	conns     atomic.Int64 // accepted so far
	served    chan error   // what Serve returned
}

// newSite starts a site. Each of options may change it before it starts.
func newSite(t testing.TB, tr transport, handler http.Handler, options ...func(*site)) *site {
	t.Helper()
	ln, d := tr.start(t)
	s := &site{dialer: d, served: make(chan error, 1)}
	s.server = &http.Server{Handler: handler, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}}
	s.transport = &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return d.DialContext(ctx, tr.network, addr)
	}}
	s.url = "http://" + ln.Addr().String() + "/"
	if tr.network == "unix" {
		s.url = "http://unix.test/"
		s.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", ln.Addr().String())
		}
	}
	s.client = &http.Client{Transport: s.transport}
	for _, o := range options {
		o(s)
	}
	go func() { s.served <- s.server.Serve(ln) }()
	t.Cleanup(func() {
		s.transport.CloseIdleConnections()
		s.server.Close()
	})
	return s
}

// host is what a client of s dials.
func (s *site) host() string {
	return strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/")
}

// do sends a request and returns the answer and its body.
func (s *site) do(t testing.TB, method string, body io.Reader) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, s.url, body)
	require.NoError(t, err)
	res, err := s.client.Do(req)
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res, b
}

// Requests one after the other use one connection: the server's background read is
// interrupted by a deadline and leaves it whole (N12).
func TestHTTPKeepAlive(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body) // an HTTP/1.1 server reads first, then answers
			w.Write(b)
		}))
		for i := range 20 {
			reused := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
			})
			body := strings.Repeat("x", i*100)
			req, _ := http.NewRequestWithContext(ctx, "POST", s.url, strings.NewReader(body))
			res, err := s.client.Do(req)
			require.NoError(t, err)
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, body, string(b))
			require.Equal(t, i > 0, reused, "request %d", i)
		}
		require.EqualValues(t, 1, s.conns.Load())
	})
}

// Bodies of 100 MB each way arrive as they were sent.
func TestHTTPBigBodies(t *testing.T) {
	want := contentDigest(bigSize)
	eachTransport(t, func(t *testing.T, tr transport) {
		up := make(chan digest, 1)
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				d, err := digestOf(r.Body)
				if err != nil {
					w.WriteHeader(http.StatusInternalServerError)
				}
				up <- d
				return
			}
			io.Copy(w, content(bigSize)) // chunked
		}))
		res, _ := s.do(t, "PUT", content(bigSize))
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, want, <-up)

		res, err := s.client.Get(s.url)
		require.NoError(t, err)
		defer res.Body.Close()
		down, err := digestOf(res.Body)
		require.NoError(t, err)
		require.Equal(t, want, down)
		require.EqualValues(t, 1, s.conns.Load())
	})
}

// Both bodies of one exchange flow at the same time.
func TestHTTPFullDuplex(t *testing.T) {
	size := sized[int64](16<<20, 4<<20)
	want := contentDigest(size)
	eachTransport(t, func(t *testing.T, tr transport) {
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			io.Copy(w, r.Body)
		}))
		res, err := s.client.Post(s.url, "", content(size))
		require.NoError(t, err)
		defer res.Body.Close()
		got, err := digestOf(res.Body)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// What a handler has flushed is with the client before the handler goes on.
func TestHTTPStreaming(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		next := make(chan string)
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for line := range next {
				io.WriteString(w, line+"\n")
				w.(http.Flusher).Flush()
			}
		}))
		first := async(func() error { next <- "line 0"; return nil })
		res, err := s.client.Get(s.url)
		require.NoError(t, err)
		require.NoError(t, <-first)
		defer res.Body.Close()
		r := bufio.NewReader(res.Body)
		for i := range 50 {
			if i > 0 {
				next <- "line " + string(rune('0'+i))
			}
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "line "+string(rune('0'+i))+"\n", line)
		}
		close(next)
		_, err = r.ReadByte()
		require.Equal(t, io.EOF, err)
	})
}

// A request cancelled by its context ends at the server too, whether it waits for the
// answer or is in the middle of it, and the next request is served.
func TestHTTPCancel(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		started, ended := make(chan struct{}, 1), make(chan error, 1)
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodGet: // waits
				started <- struct{}{}
				<-r.Context().Done()
				ended <- r.Context().Err()
			case http.MethodPost: // writes without end
				started <- struct{}{}
				_, err := io.Copy(w, &contentReader{})
				ended <- err
			}
		}))
		ctx, cancel := context.WithCancel(t.Context())
		result := async(func() error {
			req, _ := http.NewRequestWithContext(ctx, "GET", s.url, nil)
			_, err := s.client.Do(req)
			return err
		})
		receive(t, started)
		cancel()
		require.ErrorIs(t, receive(t, result), context.Canceled)
		require.ErrorIs(t, receive(t, ended), context.Canceled)

		ctx, cancel = context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", s.url, nil)
		res, err := s.client.Do(req)
		require.NoError(t, err)
		receive(t, started)
		_, err = io.CopyN(io.Discard, res.Body, 1<<20)
		require.NoError(t, err)
		cancel()
		_, err = io.Copy(io.Discard, res.Body)
		require.ErrorIs(t, err, context.Canceled)
		res.Body.Close()
		require.Error(t, receive(t, ended))

		res, _ = s.do(t, "HEAD", nil)
		require.Equal(t, http.StatusOK, res.StatusCode)
	})
}

// Shutdown lets a request in flight end, and nobody else in.
func TestHTTPShutdown(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		started, release := make(chan struct{}), make(chan struct{})
		tr.config.HandshakeTimeout = time.Second // on datagrams nobody says that nobody is there
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(started)
			<-release
			io.Copy(w, content(1<<20))
		}))
		got := async(func() digest {
			res, err := s.client.Get(s.url)
			if err != nil {
				return digest{}
			}
			defer res.Body.Close()
			d, _ := digestOf(res.Body)
			return d
		})
		receive(t, started)
		down := async(func() error { return s.server.Shutdown(t.Context()) })
		require.ErrorIs(t, receive(t, s.served), http.ErrServerClosed)
		fresh := &http.Client{Transport: &http.Transport{DialContext: s.transport.DialContext}}
		_, err := fresh.Get(s.url) // the listener is closed by now or about to be
		require.Error(t, err)
		select {
		case err := <-down:
			t.Fatal("Shutdown did not wait for the request:", err)
		default:
		}
		close(release)
		require.Equal(t, contentDigest(1<<20), receive(t, got))
		require.NoError(t, receive(t, down))
	})
}

// A hijacked connection is the vstp.Conn itself: bytes both ways, half-close, and what
// the server had read ahead.
func TestHTTPHijack(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			if _, ok := conn.(*vstp.Conn); !ok {
				return
			}
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			b, _ := io.ReadAll(rw) // to the client's CloseWrite
			conn.Write(b)
		}))
		c, err := s.transport.DialContext(t.Context(), "tcp", s.host())
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nread ahead,")
		require.NoError(t, err)
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
		data := contentBytes(300_000)
		_, err = c.Write(data)
		require.NoError(t, err)
		require.NoError(t, c.(*vstp.Conn).CloseWrite())
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(append([]byte("read ahead,"), data...), got))
	})
}

// A client that expects 100 Continue sends the body only when it is asked for.
func TestHTTPExpectContinue(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Refuse") != "" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			b, _ := io.ReadAll(r.Body)
			w.Write(b)
		}), func(s *site) { s.transport.ExpectContinueTimeout = time.Hour })
		for _, refuse := range []bool{false, true} {
			var asked, read atomic.Bool
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { asked.Store(true) }})
			body := readerFunc(func(p []byte) (int, error) {
				read.Store(true)
				return 0, io.EOF
			})
			req, _ := http.NewRequestWithContext(ctx, "PUT", s.url, io.MultiReader(strings.NewReader("hello"), body))
			req.Header.Set("Expect", "100-continue")
			if refuse {
				req.Header.Set("Refuse", "1")
			}
			res, err := s.client.Do(req)
			require.NoError(t, err)
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, !refuse, asked.Load())
			require.Equal(t, !refuse, read.Load())
			if !refuse {
				require.Equal(t, "hello", string(b))
			}
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// http.ServeContent and http.Transport hand files to ReadFrom (N13), whole and in
// parts; without checksum they go by sendfile.
func TestHTTPFiles(t *testing.T) {
	const size = 3_000_000
	data := contentBytes(size)
	name := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	eachTransport(t, func(t *testing.T, tr transport) {
		var up []byte
		s := newSite(t, tr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				up, _ = io.ReadAll(r.Body)
				return
			}
			http.ServeFile(w, r, name)
		}))
		_, b := s.do(t, "GET", nil)
		require.True(t, bytes.Equal(data, b))

		req, _ := http.NewRequest("GET", s.url, nil)
		req.Header.Set("Range", "bytes=1000000-2999998")
		res, err := s.client.Do(req)
		require.NoError(t, err)
		b, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		require.True(t, bytes.Equal(data[1_000_000:2_999_999], b))

		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		req, _ = http.NewRequest("PUT", s.url, f)
		req.ContentLength = size
		res, err = s.client.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.True(t, bytes.Equal(data, up))
	})
}

// A client that finds no server gets an error it can look into, and soon.
func TestHTTPNoServer(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		tr.config.HandshakeTimeout = time.Second
		s := newSite(t, tr, http.NotFoundHandler())
		require.NoError(t, s.server.Close())
		receive(t, s.served)
		_, err := s.client.Get(s.url)
		var oe *net.OpError
		require.True(t, errors.As(err, &oe), "%v", err)
		require.Equal(t, "dial", oe.Op)
	})
}
