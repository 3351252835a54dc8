package vstp_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/tlsvstp"
)

// echoHandler answers with the request's body, as it comes.
var echoHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	rc.Flush()
	b := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(b)
		if _, werr := w.Write(b[:n]); err != nil || werr != nil {
			return
		}
		rc.Flush()
	}
})

// concurrentEchoes sends 50 bodies at a time through client and compares what comes back.
func concurrentEchoes(t *testing.T, client *http.Client, url string) {
	t.Helper()
	var g group
	for i := range 50 {
		size := int64(i) * sized[int64](40_000, 3_000)
		g.Go(func() error {
			res, err := client.Post(url, "", content(size))
			if err != nil {
				return err
			}
			defer res.Body.Close()
			got, err := digestOf(res.Body)
			if err != nil {
				return err
			}
			if res.ProtoMajor != 2 || got != contentDigest(size) {
				return fmt.Errorf("%s: %d bytes of %d", res.Proto, got.n, size)
			}
			return nil
		})
	}
	g.Wait(t)
}

// HTTP/2 with prior knowledge, as net/http has it: many streams on one connection,
// with and without TLS in vstp.
func TestHTTP2(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		s := newSite(t, tr, echoHandler, func(s *site) {
			var p http.Protocols
			p.SetUnencryptedHTTP2(true)
			s.server.Protocols, s.transport.Protocols = &p, &p
		})
		concurrentEchoes(t, s.client, s.url)

		// A stream that is cancelled does not harm the others.
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		req, _ := http.NewRequestWithContext(ctx, "POST", s.url, r)
		res, err := s.client.Do(req)
		require.NoError(t, err)
		for _, word := range []string{"one", "two", "three"} { // both directions in turns
			io.WriteString(w, word)
			b := make([]byte, len(word))
			_, err = io.ReadFull(res.Body, b)
			require.NoError(t, err)
			require.Equal(t, word, string(b))
		}
		cancel()
		w.CloseWithError(context.Canceled) // net/http does not interrupt the Read of a body
		_, err = res.Body.Read(make([]byte, 1))
		require.ErrorIs(t, err, context.Canceled)
		concurrentEchoes(t, s.client, s.url)
	})
}

// HTTPS with HTTP/2 chosen by ALPN, where the TLS is that of net/http, inside vstp.
func TestHTTP2TLSInside(t *testing.T) {
	cert, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"vstp.test"}})
	require.NoError(t, err)
	eachTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		server := &http.Server{Handler: echoHandler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert.Certificate}}}
		served := async(func() error { return server.ServeTLS(ln, "", "") })
		transport := &http.Transport{
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{RootCAs: cert.Pool},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.DialContext(ctx, tr.network, ln.Addr().String())
			},
		}
		concurrentEchoes(t, &http.Client{Transport: transport}, "https://vstp.test/")
		transport.CloseIdleConnections()
		require.NoError(t, server.Shutdown(t.Context()))
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}
