//lint:file-ignore SA1019 the deprecated package is what much code still uses

package vstp_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// golang.org/x/net/http2 with its own DialTLSContext and ServeConn.
func TestHTTP2Package(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			c, err := ln.Accept()
			if err != nil {
				return
			}
			new(http2.Server).ServeConn(c, &http2.ServeConnOpts{Handler: echoHandler})
		}()
		h2 := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, tr.network, ln.Addr().String())
		}}
		concurrentEchoes(t, &http.Client{Transport: h2}, "http://vstp.test/")
		h2.CloseIdleConnections()
		receive(t, served)
	})
}
