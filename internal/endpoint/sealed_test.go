package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/tlsvstp"
)

var testCert = sync.OnceValue(func() *tlsvstp.DevCert {
	// Its dates have to hold in a bubble too, whose clock begins in the year 2000.
	c, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{
		Hosts:     []string{"localhost", "10.0.0.2", "127.0.0.1"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		ValidFor:  100 * 365 * 24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	return c
})

// sealedConfig is testConfig with TLS in both roles.
func sealedConfig() *Config {
	cfg := testConfig()
	cert := testCert()
	cfg.ServerTLS = tlsvstp.ServerConfig(&tls.Config{Certificates: []tls.Certificate{cert.Certificate}})
	client := &tls.Config{RootCAs: cert.Pool, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	cfg.ClientTLS = func(to udpio.Addr) *tls.Config { return tlsvstp.ClientConfig(client, to.Addr().String()) }
	return cfg
}

// TestSealedStream: bytes arrive, both ends know of each other, and of TLS.
func TestSealedStream(t *testing.T) {
	cfg := sealedConfig()
	cfg.Header.Add("who", "me")
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		for _, x := range []*Session{c, s} {
			r, ok := x.Result()
			if !ok || r.PeerHeader.Get("who") != "me" {
				t.Error("no metadata:", r, ok)
			}
			if st := x.TLSState(); st == nil || st.Version != tls.VersionTLS13 || st.NegotiatedProtocol != tlsvstp.ALPN {
				t.Errorf("%+v", st)
			}
		}
		rc, _ := c.Result()
		rs, _ := s.Result()
		if rc.SessionID != rs.SessionID || rc.SessionID == [16]byte{} {
			t.Error("session ids differ")
		}
		exchange(t, c, s)
		settle(t, d.a, d.b)
	})
}

// exchange sends a megabyte both ways, and closes.
func exchange(t *testing.T, c, s *Session) {
	t.Helper()
	want := pattern(1 << 20)
	var wg sync.WaitGroup
	for _, pair := range [][2]*Session{{c, s}, {s, c}} {
		wg.Go(func() {
			if _, err := pair[0].Write(want); err != nil {
				t.Error("write:", err)
			}
			pair[0].CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(pair[1])
			if err != nil {
				t.Error("read:", err)
			}
			equal(t, got, want)
		})
	}
	wg.Wait()
	c.Close()
	s.Close()
}

func TestSealedLoss(t *testing.T) {
	simnet.Run(t, 10, func(t *testing.T, seed uint64) {
		cfg := sealedConfig()
		cfg.HandshakeTimeout = time.Minute
		path := simnet.Path{Delay: 20 * time.Millisecond, Loss: 0.3, Duplicate: 0.2, Reorder: 0.2}
		d := newDuo(t, seed, path, cfg, cfg)
		c, s := connect(t, d.a, d.b)
		exchange(t, c, s)
	})
}

func TestSealedLoopback(t *testing.T) {
	cfg := sealedConfig()
	a, b := loopback(t, cfg), loopback(t, cfg)
	c, s := connect(t, a, b)
	exchange(t, c, s)
}

// TestSealedVerify: the hook decides, with what only the client and it know.
func TestSealedVerify(t *testing.T) {
	cfg := sealedConfig()
	cfg.Verify = func(ctx context.Context, h *Hello) (framing.Header, error) {
		if h.TLS == nil {
			t.Error("no TLS state")
		}
		if h.Header.Get("token") == "good" {
			return framing.Header{{Key: "hello", Value: "friend"}}, nil
		}
		return nil, &session.Refusal{Reason: "no", Header: framing.Header{{Key: "why", Value: "token"}}}
	}
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		d.b.Listen()
		good := *cfg
		good.Header = framing.Header{{Key: "token", Value: "good"}}
		e := newEndpoint(t, d.net.Host("10.0.0.3").ListenPacket(0), &good)
		s, err := e.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		if r, _ := s.Result(); r.PeerHeader.Get("hello") != "friend" {
			t.Error("no answer:", r.PeerHeader)
		}
		start := time.Now()
		_, err = d.a.DialStream(t.Context(), addrOf(t, d.b))
		var refused interface{ Error() string }
		if !errors.As(err, &refused) || time.Since(start) > time.Second {
			t.Error(err, time.Since(start))
		}
		t.Log(err)
		s.Close()
		settle(t, d.b)
	})
}

// TestSealedMismatch: one end with TLS and one without part with an error that says so.
func TestSealedMismatch(t *testing.T) {
	for _, c := range []struct {
		name         string
		client, serv *Config
		want         error
	}{
		{"client without", testConfig(), sealedConfig(), session.ErrTLSRequired},
		{"server without", sealedConfig(), testConfig(), session.ErrNotTLS},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuo(t, 1, simnet.Path{Delay: 20 * time.Millisecond}, c.client, c.serv)
				d.b.Listen()
				start := time.Now()
				_, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
				if !errors.Is(err, c.want) || time.Since(start) > time.Second {
					t.Error(err, time.Since(start))
				}
				if n := d.b.Stats().Refused; n == 0 {
					t.Error("the server has not counted it")
				}
				settle(t, d.a, d.b)
			})
		})
	}
}
