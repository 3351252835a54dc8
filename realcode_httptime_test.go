package vstp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// The timeouts of http.Server are deadlines on its connections. In a bubble they can
// be measured exactly.

// timedSite runs f with a server and a raw client connection to it, in a bubble. The
// server's handler may tell f an error by got.
func timedSite(t *testing.T, server *http.Server, handler func(w http.ResponseWriter, r *http.Request) error,
	f func(t *testing.T, c *vstp.Conn, got <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		got := make(chan error, 10)
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- handler(w, r) })
		inner := newMemListener()
		served := async(func() error { return server.Serve(vstp.NewListener(inner, nil)) })
		raw, err := inner.dial()
		require.NoError(t, err)
		c := vstp.Client(raw, nil)
		require.NoError(t, c.Handshake(t.Context()))
		f(t, c, got)
		require.NoError(t, c.Close())
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}

// exchange sends a request and reads the answer, whose body has to be "ok".
func exchange(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "ok", string(b))
}

func sayOK(w http.ResponseWriter, r *http.Request) error {
	_, err := io.WriteString(w, "ok")
	return err
}

func TestHTTPIdleTimeout(t *testing.T) {
	server := &http.Server{IdleTimeout: 7 * time.Second}
	timedSite(t, server, sayOK, func(t *testing.T, c *vstp.Conn, _ <-chan error) {
		r := bufio.NewReader(c)
		for range 3 { // a connection in use is not idle
			exchange(t, c, r)
			time.Sleep(6 * time.Second)
		}
		exchange(t, c, r)
		start := time.Now()
		_, err := r.ReadByte()
		require.Equal(t, io.EOF, err)
		require.Equal(t, 7*time.Second, time.Since(start))
	})
}

func TestHTTPReadHeaderTimeout(t *testing.T) {
	server := &http.Server{ReadHeaderTimeout: 3 * time.Second}
	timedSite(t, server, sayOK, func(t *testing.T, c *vstp.Conn, _ <-chan error) {
		start := time.Now()
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost:")
		require.NoError(t, err)
		_, err = io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

// ReadTimeout ends the reading of a body of which no more comes; the handler can
// still answer (D3).
func TestHTTPReadTimeout(t *testing.T) {
	server := &http.Server{ReadTimeout: 3 * time.Second}
	handler := func(w http.ResponseWriter, r *http.Request) error {
		_, err := io.ReadAll(r.Body)
		sayOK(w, r)
		return err
	}
	timedSite(t, server, handler, func(t *testing.T, c *vstp.Conn, got <-chan error) {
		start := time.Now()
		_, err := io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
		require.NoError(t, err)
		ne, ok := (<-got).(net.Error)
		require.True(t, ok && ne.Timeout(), "N1: no net.Error with Timeout")
		require.Equal(t, 3*time.Second, time.Since(start))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "ok", string(b))
	})
}

// WriteTimeout ends a handler whose client does not read (N13: io.Copy in the handler
// ends in Conn.ReadFrom). What the client then reads is a piece of the answer, whole
// frames, and no orderly end of the body.
func TestHTTPWriteTimeout(t *testing.T) {
	server := &http.Server{WriteTimeout: 3 * time.Second}
	handler := func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Length", "10000000")
		_, err := io.Copy(w, content(10_000_000))
		return err
	}
	timedSite(t, server, handler, func(t *testing.T, c *vstp.Conn, got <-chan error) {
		start := time.Now()
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		ne, ok := (<-got).(net.Error)
		require.True(t, ok && ne.Timeout(), "N1: no net.Error with Timeout")
		require.Equal(t, 3*time.Second, time.Since(start))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		d, err := digestOf(res.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Positive(t, d.n)
		require.Equal(t, contentDigest(d.n), d)
	})
}

// A handler may move its own deadlines (http.ResponseController).
func TestHTTPResponseController(t *testing.T) {
	server := &http.Server{ReadTimeout: time.Second, WriteTimeout: time.Second}
	handler := func(w http.ResponseWriter, r *http.Request) error {
		rc := http.NewResponseController(w)
		rc.SetReadDeadline(time.Now().Add(time.Minute))
		rc.SetWriteDeadline(time.Time{})
		io.Copy(io.Discard, r.Body)
		return sayOK(w, r)
	}
	timedSite(t, server, handler, func(t *testing.T, c *vstp.Conn, _ <-chan error) {
		_, err := io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfirst")
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		_, err = io.WriteString(c, "later")
		require.NoError(t, err)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "ok", string(b))
	})
}

// http.Client.Timeout and the transport's own timeouts work, and leave nothing behind.
func TestHTTPClientTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newMemListener()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done() // until the client gives up
		})}
		go server.Serve(vstp.NewListener(inner, nil))
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			raw, err := inner.dial()
			if err != nil {
				return nil, err
			}
			c := vstp.Client(raw, nil)
			return c, c.Handshake(ctx)
		}}
		client := &http.Client{Transport: tr, Timeout: 4 * time.Second}
		start := time.Now()
		_, err := client.Get("http://mem.test/")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 4*time.Second, time.Since(start))

		client.Timeout = 0
		tr.ResponseHeaderTimeout = 2 * time.Second
		start = time.Now()
		_, err = client.Get("http://mem.test/")
		require.Error(t, err)
		require.Equal(t, 2*time.Second, time.Since(start))

		// Every handler has ended: Shutdown has nothing to wait for.
		require.NoError(t, server.Shutdown(t.Context()))
	})
}
