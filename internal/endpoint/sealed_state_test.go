package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/udpio"
)

// TestSealedSlowCallbacks: an application that takes its time in a hook of TLS makes
// nobody else wait. Trap S11.
func TestSealedSlowCallbacks(t *testing.T) {
	const takes = 5 * time.Second
	for _, c := range []struct {
		name string
		set  func(server *tls.Config, client *tls.Config, slow func() error)
	}{
		{"GetCertificate", func(s, _ *tls.Config, slow func() error) {
			cert := s.Certificates[0]
			s.Certificates = nil
			s.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, slow() }
		}},
		{"VerifyConnection of the server", func(s, _ *tls.Config, slow func() error) {
			s.VerifyConnection = func(tls.ConnectionState) error { return slow() }
		}},
		{"VerifyConnection of the client", func(_, c *tls.Config, slow func() error) {
			c.VerifyConnection = func(tls.ConnectionState) error { return slow() }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var calls atomic.Int32
			slow := func() error {
				if calls.Add(1) == 2 { // the first one is of the association that is there
					time.Sleep(takes)
				}
				return nil
			}
			cfg := sealedConfig()
			client := cfg.ClientTLS(mustAddr(t, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2)})).Clone()
			client.ClientSessionCache = nil
			c.set(cfg.ServerTLS, client, slow)
			cfg.ClientTLS = func(udpio.Addr) *tls.Config { return client }
			bubble(t, simnet.Path{Delay: 20 * time.Millisecond}, cfg, func(t *testing.T, d *duo) {
				x, y := connect(t, d.a, d.b)
				start := time.Now()
				var all sync.WaitGroup
				all.Go(func() {
					s, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
					if err != nil {
						t.Error(err)
						return
					}
					if took := time.Since(start); c.name != "VerifyConnection of the server" && took < takes {
						t.Error("nothing was slow:", took)
					}
					st := s.Stats()
					if st.RTT > time.Second {
						t.Errorf("the round trip is taken for %v", st.RTT)
					}
					s.Close()
				})
				time.Sleep(5 * time.Millisecond)
				for range 3 {
					at := time.Now()
					s, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
					if took := time.Since(at); err != nil || took != 40*time.Millisecond {
						t.Error("another handshake:", err, took)
					}
					s.Close()
					at = time.Now()
					if rtt, err := x.Ping(t.Context()); err != nil || rtt != 40*time.Millisecond || time.Since(at) != rtt {
						t.Error("another association:", rtt, err)
					}
				}
				all.Wait()
				x.Close()
				y.Close()
				d.b.CloseListen()
				settle(t, d.a, d.b)
			})
		})
	}
}

// TestSealedDialCanceledInCallback: Dial does not wait for a hook either.
func TestSealedDialCanceledInCallback(t *testing.T) {
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		cfg := sealedConfig()
		client := cfg.ClientTLS(mustAddr(t, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2)})).Clone()
		client.VerifyConnection = func(tls.ConnectionState) error { time.Sleep(10 * time.Minute); return nil }
		cfg.ClientTLS = func(udpio.Addr) *tls.Config { return client }
		bubble(t, simnet.Path{Delay: delay}, cfg, func(t *testing.T, d *duo) {
			d.b.Listen()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if _, err := d.a.DialStream(ctx, addrOf(t, d.b)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Error(err, time.Since(start))
			}
			time.Sleep(10 * time.Minute)
			settle(t, d.a, d.b)
		})
	}
}

// TestSealedConfirmLimit: a server that never makes up its mind keeps no client waiting
// for ever.
func TestSealedConfirmLimit(t *testing.T) {
	client, server := sealedConfig(), sealedConfig()
	client.KeepAlive = time.Second
	server.HandshakeTimeout = 0
	server.Verify = func(ctx context.Context, _ *Hello) (framing.Header, error) {
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
		return nil, nil
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, client, server)
		d.b.Listen()
		start := time.Now()
		_, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if !errors.Is(err, session.ErrHandshakeTimeout) || time.Since(start) != client.HandshakeTimeout {
			t.Error(err, time.Since(start))
		}
		settle(t, d.a, d.b)
	})
}

// TestSealedCloseAnytime: whenever one end or both are closed, Dial returns, and nothing
// is left, no goroutine either. Trap C7, N14.
func TestSealedCloseAnytime(t *testing.T) {
	const delay = 20 * time.Millisecond
	for _, who := range []string{"client", "server", "both", "context", "listener"} {
		for at := time.Duration(0); at <= 9*delay; at += delay / 2 {
			for _, after := range []time.Duration{0, 1} { // before and after what happens then
				cfg := sealedConfig()
				cfg.Header = framing.Header{{Key: "a", Value: "b"}}
				cfg.MaxUnvalidated = -1
				bubble(t, simnet.Path{Delay: delay}, cfg, func(t *testing.T, d *duo) {
					d.b.Listen()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					start := time.Now()
					dialed := make(chan error, 1)
					to := addrOf(t, d.b)
					go func() {
						s, err := d.a.DialStream(ctx, to)
						if err == nil {
							s.Close()
						}
						dialed <- err
					}()
					time.Sleep(at + after)
					var all sync.WaitGroup
					switch who {
					case "client":
						all.Go(func() { d.a.Close() })
					case "server":
						all.Go(func() { d.b.Close() })
					case "both":
						all.Go(func() { d.a.Close() })
						all.Go(func() { d.b.Close() })
					case "context":
						cancel()
					case "listener":
						d.b.CloseListen()
					}
					err := <-dialed
					if took := time.Since(start); took > cfg.HandshakeTimeout+time.Second {
						t.Errorf("%s at %v: dialing took %v: %v", who, at+after, took, err)
					}
					if who == "context" && err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					all.Wait()
					if who == "client" || who == "both" {
						d.a.Close()
					}
					d.b.CloseListen()
					settle(t, d.a, d.b)
				})
			}
		}
	}
}

// TestSealedForgets: of a handshake that is over, only who it was with is remembered.
func TestSealedForgets(t *testing.T) {
	cfg := sealedConfig()
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
		defer w.pc.Close()
		w.send(newStranger(t, 1).hello(t)) // and never again
		time.Sleep(cfg.HandshakeTimeout + time.Second)
		synctest.Wait()
		d.b.mu.Lock()
		if n := len(d.b.clients.all); n != 1 {
			t.Errorf("%d clients", n)
		}
		for _, c := range d.b.clients.order {
			c.mu.Lock()
			if c.sealed.m != nil || !c.sealed.over || c.sealed.inbox != nil || c.sealed.early != nil {
				t.Error("the handshake is kept")
			}
			c.mu.Unlock()
		}
		if len(d.b.clients.byID) > 0 || d.b.clients.unvalidated > 0 {
			t.Error(len(d.b.clients.byID), d.b.clients.unvalidated)
		}
		d.b.mu.Unlock()
		c.mu.Lock()
		if c.sealed.m != nil {
			t.Error("and at the client")
		}
		c.mu.Unlock()
		c.Close()
		s.Close()
		settle(t, d.a, d.b)
	})
}

// A tape is what a host has sent to another one.
type tape struct {
	mu  sync.Mutex
	all [][]byte
}

// record has a tape of one direction.
func record(l *simnet.Link) *tape {
	r := new(tape)
	l.Filter(func(_ int, b []byte) bool {
		r.mu.Lock()
		r.all = append(r.all, bytes.Clone(b))
		r.mu.Unlock()
		return false
	})
	return r
}

// take returns what is on it.
func (r *tape) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([][]byte(nil), r.all...)
}

// TestSealedReplay: what was said once makes no second association, however late.
func TestSealedReplay(t *testing.T) {
	for _, cookie := range []bool{false, true} {
		cfg := sealedConfig()
		if cookie {
			cfg.MaxUnvalidated = -1
		}
		bubble(t, simnet.Path{Delay: 20 * time.Millisecond}, cfg, func(t *testing.T, d *duo) {
			said := record(d.net.Path(d.ha, d.hb))
			askAndAnswer(t, d)
			from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
			accepted := make(chan error, 1)
			go func() {
				s, err := d.b.Accept(t.Context())
				if err == nil {
					err = fmt.Errorf("%v was accepted", s.RemoteAddr())
				}
				accepted <- err
			}()
			for _, wait := range []time.Duration{time.Second, time.Second, handshake.CookieLifetime, handshake.CookieLifetime, 10 * time.Minute} {
				time.Sleep(wait)
				for _, b := range said.take() {
					d.net.Inject(from, to, b)
					d.net.Inject(spoofed(1), to, b)
				}
				synctest.Wait()
				if st := d.b.Stats(); st.Associations > 0 || st.Handshakes > 2 {
					t.Errorf("%v later: %+v", wait, st)
				}
			}
			d.b.CloseListen()
			if err := <-accepted; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			settle(t, d.a, d.b)
		})
	}
}

// TestSealedLimits: those for each prefix, and for each second, hold with TLS too.
func TestSealedLimits(t *testing.T) {
	t.Run("prefix", func(t *testing.T) {
		cfg := sealedConfig()
		cfg.MaxPerPrefix = 3
		bubble(t, clean, cfg, func(t *testing.T, d *duo) {
			d.b.Listen()
			w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
			defer w.pc.Close()
			for i := range 10 {
				w.send(newStranger(t, i).hello(t))
			}
			time.Sleep(time.Second)
			if n := d.b.Stats().Handshakes; n != 3 {
				t.Error(n)
			}
			far := newEndpoint(t, d.net.Host("10.9.0.1").ListenPacket(0), cfg)
			c, err := far.DialStream(t.Context(), addrOf(t, d.b))
			if err != nil {
				t.Fatal("from elsewhere:", err)
			}
			c.Close()
			// When they are given up there is room again.
			time.Sleep(cfg.HandshakeTimeout)
			c, err = d.a.DialStream(t.Context(), addrOf(t, d.b))
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			d.b.CloseListen()
			settle(t, d.b)
			d.b.mu.Lock()
			if len(d.b.prefixes) > 0 {
				t.Error(d.b.prefixes)
			}
			d.b.mu.Unlock()
		})
	})
	t.Run("rate", func(t *testing.T) {
		cfg := sealedConfig()
		cfg.HandshakeRate = 40
		bubble(t, clean, cfg, func(t *testing.T, d *duo) {
			d.b.Listen()
			w := &wire{d.ha.ListenPacket(0), d.b.LocalAddr()}
			defer w.pc.Close()
			for i := range 100 {
				w.send(newStranger(t, i).hello(t))
			}
			time.Sleep(20 * time.Millisecond)
			if n := d.b.Stats().Handshakes; n != 10 {
				t.Error(n, "at once")
			}
		})
	})
}

// TestSealedCloseInCallback: nor does Close.
func TestSealedCloseInCallback(t *testing.T) {
	slow := func() { time.Sleep(10 * time.Minute) }
	for name, set := range map[string]func(server, client *tls.Config){
		"server": func(s, _ *tls.Config) {
			cert := s.Certificates[0]
			s.Certificates = nil
			s.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { slow(); return &cert, nil }
		},
		"client": func(_, c *tls.Config) {
			c.VerifyConnection = func(tls.ConnectionState) error { slow(); return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := sealedConfig()
			client := cfg.ClientTLS(mustAddr(t, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2)})).Clone()
			set(cfg.ServerTLS, client)
			cfg.ClientTLS = func(udpio.Addr) *tls.Config { return client }
			bubble(t, clean, cfg, func(t *testing.T, d *duo) {
				d.b.Listen()
				dialed := make(chan error, 1)
				to := addrOf(t, d.b)
				go func() {
					_, err := d.a.DialStream(t.Context(), to)
					dialed <- err
				}()
				time.Sleep(time.Second)
				start := time.Now()
				d.a.Close()
				d.b.Close()
				if err := <-dialed; !errors.Is(err, net.ErrClosed) || time.Since(start) > time.Second {
					t.Error(err, time.Since(start))
				}
				time.Sleep(10 * time.Minute) // for the hook to come back
				settle(t, d.a)
			})
		})
	}
}
