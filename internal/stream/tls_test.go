package stream

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/memconn"
	"github.com/vstp-go/vstp/tlsvstp"
)

// testCert is valid in bubbles, where it is the year 2000.
var testCert = sync.OnceValue(func() *tlsvstp.DevCert {
	c, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{
		Hosts:     []string{"localhost"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		ValidFor:  50 * 365 * 24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	return c
})

func clientTLS() *tls.Config {
	return tlsvstp.ClientConfig(&tls.Config{RootCAs: testCert().Pool}, "localhost")
}

func serverTLS() *tls.Config {
	return tlsvstp.ServerConfig(&tls.Config{Certificates: []tls.Certificate{testCert().Certificate}})
}

// A mode is one way that frames travel.
type mode struct {
	name      string
	sum, zstd bool
	tls       bool // the session's own
	callerTLS bool // around the conn that the session gets
}

var modes = []mode{
	{name: "plain"},
	{name: "crc", sum: true},
	{name: "zstd", zstd: true},
	{name: "zstd+crc", zstd: true, sum: true},
	{name: "tls", tls: true},
	{name: "tls+crc", tls: true, sum: true},
	{name: "tls+zstd", tls: true, zstd: true},
	{name: "caller's tls", callerTLS: true},
	{name: "caller's tls, crc", callerTLS: true, sum: true},
}

// apply makes cfg one of this mode.
func (m mode) apply(cfg *Config) *Config {
	cfg.Params.Checksum = m.sum
	if m.zstd {
		cfg.Params.Compression = []byte{1}
	}
	if m.tls && cfg.Client {
		cfg.TLS = clientTLS()
	} else if m.tls {
		cfg.TLS = serverTLS()
	}
	return cfg
}

// pair returns two sessions that have shaken hands, and the ends of the carrier below
// everything.
func (m mode) pair(t testing.TB, client, server *Config) (c, s *Session, cc, sc *memconn.Conn) {
	t.Helper()
	cc, sc = memconn.Pipe(0)
	var cn, sn net.Conn = cc, sc
	if m.callerTLS {
		cn, sn = tls.Client(cc, clientTLS()), tls.Server(sc, serverTLS())
	}
	c, s = New(cn, m.apply(client)), New(sn, m.apply(server))
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }()
	if err := c.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c, s, cc, sc
}

func TestModes(t *testing.T) {
	for _, m := range modes {
		bubble(t, func(t *testing.T) {
			c, s, _, _ := m.pair(t, testConfig(true), testConfig(false))
			if r, _ := s.Result(); r.Checksum != m.sum || (r.Compression != 0) != m.zstd || (s.TLSState() != nil) != m.tls {
				t.Errorf("%s: %+v", m.name, r)
			}
			c.Close()
			s.Close()
		})
	}
}
