package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/simnet"
)

// askAndAnswer dials, and has a byte go there and another one back. It returns when Dial
// had returned, when the server had its byte, and when the client had.
func askAndAnswer(t *testing.T, d *duo) (dialed, asked, answered time.Duration) {
	t.Helper()
	d.b.Listen()
	start := time.Now()
	served := make(chan error, 1)
	go func() {
		s, err := d.b.Accept(t.Context())
		if err == nil {
			_, err = io.ReadFull(s, make([]byte, 1))
			asked = time.Since(start)
		}
		if err == nil {
			s.Write([]byte("!"))
			err = s.Close()
		}
		served <- err
	}()
	c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
	if err != nil {
		t.Fatalf("dial: %v after %v", err, time.Since(start))
	}
	dialed = time.Since(start)
	c.Write([]byte("?"))
	if got, err := io.ReadAll(c); err != nil || string(got) != "!" {
		t.Errorf("%q, %v", got, err)
	}
	answered = time.Since(start)
	c.Close()
	if err := <-served; err != nil {
		t.Error("server:", err)
	}
	return dialed, asked, answered
}

// TestSealedTimes: how many round trips it takes until the client may write, the server
// has the first byte, and the client has the answer.
func TestSealedTimes(t *testing.T) {
	const rtt = 40 * time.Millisecond
	for _, c := range []struct {
		name                    string
		set                     func(*Config)
		dialed, asked, answered time.Duration
	}{
		{"plain", func(*Config) {}, rtt, rtt * 3 / 2, 2 * rtt},
		{"cookie", func(c *Config) { c.MaxUnvalidated = -1 }, 2 * rtt, rtt * 5 / 2, 3 * rtt},
		{"metadata", func(c *Config) { c.Header = framing.Header{{Key: "a", Value: "b"}} }, 2 * rtt, rtt * 5 / 2, 3 * rtt},
		{"client certificates", func(c *Config) { c.ServerTLS.ClientAuth = tls.RequestClientCert }, 2 * rtt, rtt * 5 / 2, 3 * rtt},
		{"hook", func(c *Config) {
			c.Verify = func(context.Context, *Hello) (framing.Header, error) { time.Sleep(rtt); return nil, nil }
		}, 3 * rtt, rtt * 7 / 2, 4 * rtt},
		{"another curve", func(c *Config) { c.ServerTLS.CurvePreferences = []tls.CurveID{tls.CurveP521} }, 2 * rtt, rtt * 5 / 2, 3 * rtt},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := sealedConfig()
			c.set(cfg)
			bubble(t, simnet.Path{Delay: rtt / 2}, cfg, func(t *testing.T, d *duo) {
				if dialed, asked, answered := askAndAnswer(t, d); dialed != c.dialed || asked != c.asked || answered != c.answered {
					t.Error(dialed, asked, answered)
				}
				settle(t, d.a, d.b)
			})
		})
	}
}

// TestSealedEachDatagram: whatever happens to one of the datagrams between the ends, they
// get over it, and soon.
func TestSealedEachDatagram(t *testing.T) {
	const delay = 20 * time.Millisecond
	fates := []struct {
		name  string
		lost  bool          // it does not come when it should
		again time.Duration // it comes so much after it was sent; 0: it does not
		limit time.Duration
	}{
		{"lost", true, 0, 1500 * time.Millisecond},
		{"twice", false, delay, 1500 * time.Millisecond},
		{"twice, later", false, 10 * delay, 1500 * time.Millisecond},
		{"behind the next", true, delay + time.Nanosecond, 1500 * time.Millisecond},
		{"late", true, 3 * delay, 1500 * time.Millisecond},
		{"last of all", true, 20 * time.Second, 1500 * time.Millisecond},
	}
	for _, k := range []struct {
		name string
		set  func(*Config)
	}{
		{"plain", func(c *Config) { c.ServerTLS.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} }},
		{"cookie", func(c *Config) { c.MaxUnvalidated = -1 }},
		{"another curve", func(c *Config) { c.ServerTLS.CurvePreferences = []tls.CurveID{tls.CurveP521} }},
		{"confirm", func(c *Config) { c.Header = framing.Header{{Key: "a", Value: "b"}} }},
	} {
		run := func(t *testing.T, toServer bool, n int, lost bool, again time.Duration) (took time.Duration, sent [2]int) {
			synctest.Test(t, func(t *testing.T) {
				cfg := sealedConfig()
				k.set(cfg)
				d := newDuo(t, 1, simnet.Path{Delay: delay}, cfg, cfg)
				from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
				path := d.net.Path(d.ha, d.hb)
				if !toServer {
					from, to, path = to, from, d.net.Path(d.hb, d.ha)
				}
				path.Filter(func(i int, b []byte) bool {
					if i != n {
						return false
					}
					if again > 0 {
						b := bytes.Clone(b)
						time.AfterFunc(again, func() { d.net.Inject(from, to, b) })
					}
					return lost
				})
				_, _, took = askAndAnswer(t, d)
				sent = [2]int{int(d.net.Path(d.ha, d.hb).Stats().Sent), int(d.net.Path(d.hb, d.ha).Stats().Sent)}
				time.Sleep(30 * time.Second)
				settle(t, d.a, d.b)
			})
			return took, sent
		}
		clean, sent := run(t, true, -1, false, 0)
		for _, f := range fates {
			for side := range sent {
				for n := range sent[side] {
					t.Run(fmt.Sprintf("%s/%s/%d.%d", k.name, f.name, side, n), func(t *testing.T) {
						if took, _ := run(t, side == 0, n, f.lost, f.again); took > clean+f.limit {
							t.Errorf("it takes %v, and without that %v", took, clean)
						}
					})
				}
			}
		}
	}
}

// TestSealedHeavyLoss: handshakes at 30 % loss.
func TestSealedHeavyLoss(t *testing.T) {
	seeds := 100
	if testing.Short() {
		seeds = 20
	}
	simnet.Run(t, seeds, func(t *testing.T, seed uint64) {
		cfg := sealedConfig()
		cfg.HandshakeTimeout, cfg.Linger = time.Minute, time.Minute
		switch seed % 3 {
		case 1:
			cfg.MaxUnvalidated = -1
		case 2:
			cfg.Header = framing.Header{{Key: "a", Value: "b"}}
		}
		path := simnet.Path{Delay: 20 * time.Millisecond, Loss: 0.3, Duplicate: 0.1, Reorder: 0.1}
		d := newDuo(t, seed, path, cfg, cfg)
		dialed, _, answered := askAndAnswer(t, d)
		if dialed > 20*time.Second || answered > 40*time.Second {
			t.Error(dialed, answered)
		}
		settle(t, d.a, d.b)
	})
}
