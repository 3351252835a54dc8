package main

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/tlsvstp"
)

// issued writes a certificate with these options and returns its files.
func issued(t *testing.T, opts tlsvstp.DevOptions) (ca, cert, key string) {
	dir := t.TempDir()
	dev, err := tlsvstp.SelfSigned(opts)
	require.NoError(t, err)
	require.NoError(t, dev.WriteFiles(dir, false))
	return filepath.Join(dir, tlsvstp.CAFile), filepath.Join(dir, tlsvstp.CertFile), filepath.Join(dir, tlsvstp.KeyFile)
}

// What goes wrong with certificates is said at once, with what helps, on every network.
func TestCertificateErrors(t *testing.T) {
	ca, cert, key := certs(t)
	otherCA, otherCert, otherKey := issued(t, tlsvstp.DevOptions{})
	oldCA, oldCert, oldKey := issued(t, tlsvstp.DevOptions{NotBefore: time.Now().Add(-48 * time.Hour), ValidFor: time.Hour})
	for _, network := range []string{"tcp", "rudp", "udp", "auto"} {
		t.Run(network, func(t *testing.T) {
			s := site{network: network, listen: "127.0.0.1:0", server: []string{"--network", network}, client: []string{"--network", network}}
			serve := func(flags ...string) string {
				args := []string{"serve"}
				if network != "udp" {
					args = append(args, t.TempDir())
				}
				addr, _ := s.serve(t, append(args, flags...)...)
				return addr
			}
			ping := func(addr string, flags ...string) []string {
				return s.args(append([]string{"ping", "-c", "1", addr}, flags...)...)
			}
			fails := func(want, addr string, flags ...string) {
				t.Helper()
				begin := time.Now()
				line := vstpFails(t, exitFailure, ping(addr, flags...)...)
				require.Contains(t, line, want)
				require.Less(t, time.Since(begin), 5*time.Second, line)
			}
			plain := serve()
			sealed := serve("--cert", cert, "--key", key)
			picky := serve("--cert", cert, "--key", key, "--client-ca", ca)
			old := serve("--cert", oldCert, "--key", oldKey)

			fails("add --tls", sealed)
			fails("the other side speaks no TLS", plain, "--ca", ca)
			fails("--ca FILE", sealed, "--tls")
			fails("--ca FILE", sealed, "--ca", otherCA)
			fails("--server-name NAME", sealed, "--ca", ca, "--server-name", "example.org")
			fails("make a new certificate", old, "--ca", oldCA)
			fails("--cert FILE --key FILE", picky, "--ca", ca)
			if network == "auto" {
				for _, pin := range []string{"udp", "tcp"} {
					fails("add --tls", sealed, "--pin", pin)
					fails("the other side speaks no TLS", plain, "--ca", ca, "--pin", pin)
					fails("--ca FILE", sealed, "--ca", otherCA, "--pin", pin)
					fails("--cert FILE --key FILE", picky, "--ca", ca, "--pin", pin)
				}
			}
			fails("--cert FILE --key FILE", picky, "--ca", ca, "--cert", otherCert, "--key", otherKey)
			vstpOK(t, ping(picky, "--ca", ca, "--cert", cert, "--key", key)...)
			require.Contains(t, vstpOK(t, ping(old, "--insecure")...), "NOT VERIFIED")
			require.Contains(t, vstpOK(t, ping(sealed, "--ca", ca, "--server-name", "localhost")...), "connected by "+network+"+tls")
		})
	}
}

// With -v both sides say who the other one is.
func TestVerboseTLS(t *testing.T) {
	ca, cert, key := certs(t)
	src := t.TempDir()
	writeFile(t, src+"/f", []byte("x"))
	s := site{network: "rudp", listen: "127.0.0.1:0", server: []string{"--network", "rudp"}}
	addr, server := s.serve(t, "serve", "-v", src, "--cert", cert, "--key", key, "--client-ca", ca)
	p := start(t, nil, "get", "-v", "--network", "rudp", "--ca", ca, "--cert", cert, "--key", key, addr+"/f", t.TempDir())
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	for _, said := range []*syncBuffer{p.stderr, server.stderr} {
		said.wait(t, `connected by rudp\+tls to 127\.0\.0\.1:\d+; TLS 1\.3, \w+, new session, certificate of localhost, 127\.0\.0\.1, ::1 \(ECDSA P-256\) until \d{4}-`)
	}
}

// Several connections of one command share a session cache.
func TestBenchResumes(t *testing.T) {
	for _, network := range []string{"tcp", "rudp", "udp", "auto"} {
		s := site{network: network, listen: "127.0.0.1:0", server: []string{"--network", network}, client: []string{"--network", network}}.withTLS(t)
		addr, _ := s.serve(t, "bench", "-s")
		mode := "--rr"
		out := vstpOK(t, s.args("bench", addr, "-P", "3", "-n", "1000", mode)...)
		require.Contains(t, out, "connected by "+network+"+tls")
		if network != "tcp" { // there the ticket is read with what comes next
			require.Contains(t, out, "resumed session")
		}
	}
}

func TestTLSReport(t *testing.T) {
	require.Empty(t, (*tlsReport)(nil).line())
	require.Contains(t, (&tlsReport{Version: "TLS 1.3", Suite: "TLS_X"}).line(), "TLS 1.3, X, new session, peer without certificate")
	c := &x509.Certificate{DNSNames: []string{"a", "b"}, IPAddresses: []net.IP{{1, 2, 3, 4}, {1, 2, 3, 5}, {1, 2, 3, 6}}}
	require.Equal(t, "a, b, 1.2.3.4, 1.2.3.5, ...", certNames(c))
	c = &x509.Certificate{PublicKey: ed25519.PublicKey{}}
	c.Subject.CommonName = "me"
	require.Equal(t, "CN=me", certNames(c))
	require.Equal(t, "Ed25519", keyName(c))
	b, err := json.Marshal(&tlsReport{Version: tls.VersionName(tls.VersionTLS13)})
	require.NoError(t, err)
	require.JSONEq(t, `{"version":"TLS 1.3","cipher_suite":"","resumed":false,"verified":false}`, string(b))
}

// The walk-through of the README: certificates, a proxy at each end, and programs that
// know nothing of it.
func TestReadmeProxy(t *testing.T) {
	dir := t.TempDir()
	vstpOK(t, "cert", "-d", dir, "localhost", "127.0.0.1")
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello", r.URL.Path) }))
	defer web.Close()
	proxy := func(args ...string) (string, *process) {
		p := start(t, nil, append([]string{"proxy", "-v", "--network", "rudp"}, args...)...)
		return p.stderr.wait(t, `carrying connections from (\S+) to`)[1], p
	}
	far, farProxy := proxy("--listen", "vstp+tls://127.0.0.1:0", "--cert", cert, "--key", key, "--to", "tcp://"+web.Listener.Addr().String())
	near, nearProxy := proxy("--listen", "tcp://127.0.0.1:0", "--to", "vstp+tls://"+far, "--ca", ca)
	for i := range 3 { // a connection each
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(fmt.Sprintf("http://%s/%d", near, i))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("hello /%d\n", i), string(body))
	}
	nearProxy.stderr.wait(t, `rudp\+tls to 127\.0\.0\.1:\d+; TLS 1\.3, \w+, resumed session`)
	farProxy.stderr.wait(t, `rudp\+tls to 127\.0\.0\.1:\d+; TLS 1\.3, \w+, resumed session, peer without certificate`)

	// Who does not have the authority does not get through, and the log says what helps.
	wrong, wrongProxy := proxy("--listen", "tcp://127.0.0.1:0", "--to", "vstp+tls://"+far)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	_, err := client.Get("http://" + wrong + "/")
	require.Error(t, err)
	wrongProxy.stderr.wait(t, `cannot reach the target|--ca FILE`)
	require.True(t, strings.Contains(wrongProxy.stderr.String(), "--ca FILE"), wrongProxy.stderr.String())
}
