package endpoint

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/simnet"
)

// earlyDuo is two endpoints with 0-RTT, of which the first has a ticket of the second.
func earlyDuo(t *testing.T, path simnet.Path, change func(client, server *Config)) *duo {
	t.Helper()
	client, server := sealedConfig(), sealedConfig()
	client.EarlyData, server.EarlyData = true, true
	if change != nil {
		change(client, server)
	}
	d := newDuo(t, 1, path, client, server)
	c, s := connect(t, d.a, d.b)
	if c.EarlyData() || s.EarlyData() {
		t.Error("0-RTT out of nothing")
	}
	time.Sleep(time.Second) // the ticket comes
	c.Close()
	s.Close()
	time.Sleep(time.Second)
	return d
}

// TestEarlyData: with a ticket Dial returns at once, what is written then reaches the
// server after half a round trip, and its answer is there after one.
func TestEarlyData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 40 * time.Millisecond
		d := earlyDuo(t, simnet.Path{Delay: rtt / 2}, nil)
		start := time.Now()
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil || time.Since(start) > 0 {
			t.Fatal(err, time.Since(start))
		}
		if _, err := c.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		s, err := d.b.Accept(t.Context())
		if err != nil || time.Since(start) != rtt/2 {
			t.Fatal("accept:", err, time.Since(start))
		}
		b := make([]byte, 7)
		if _, err := io.ReadFull(s, b); err != nil || string(b) != "request" || time.Since(start) != rtt/2 {
			t.Fatal(string(b), err, time.Since(start))
		}
		if !s.EarlyData() {
			t.Error("the server does not tell of 0-RTT")
		}
		ctx, cancel := context.WithTimeout(t.Context(), rtt/2)
		defer cancel()
		if err := s.Handshake(ctx); err == nil {
			t.Error("the handshake is over before the client has answered")
		}
		if _, err := s.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b[:6]); err != nil || string(b[:6]) != "answer" {
			t.Fatal(err)
		}
		t.Log("answer after", time.Since(start))
		if err := s.Handshake(t.Context()); err != nil {
			t.Error(err)
		}
		if !c.EarlyData() || !c.TLSState().DidResume {
			t.Error("the client does not know")
		}
		exchange(t, c, s)
		settle(t, d.a, d.b)
	})
}

// TestEarlyAnswer: the answer to 0-RTT is there after one round trip.
func TestEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 40 * time.Millisecond
		d := earlyDuo(t, simnet.Path{Delay: rtt / 2}, nil)
		go func() {
			s, err := d.b.Accept(t.Context())
			if err != nil {
				return
			}
			io.Copy(s, s)
			s.Close()
		}()
		start := time.Now()
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("ping"))
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil || time.Since(start) != rtt {
			t.Error(err, time.Since(start))
		}
		c.Close()
		settle(t, d.a, d.b)
	})
}

// TestEarlyRefused: whatever the server has against 0-RTT, all of it arrives, once.
func TestEarlyRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		refuse func(server *Config)
	}{
		{"opted out", func(c *Config) { c.EarlyData = false }},
		{"smaller limits", func(c *Config) { c.ReceiveWindow = 64 << 10 }},
		{"other ticket keys", func(c *Config) {
			fresh := sealedConfig().ServerTLS
			fresh.SetSessionTicketKeys([][32]byte{{1}})
			fresh.WrapSession, fresh.UnwrapSession = nil, nil
			c.ServerTLS = fresh
		}},
		{"a cookie first", func(c *Config) { c.MaxUnvalidated = -1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var server *Config
				d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, func(_, s *Config) { server = s })
				d.b.Close()
				c.refuse(server)
				d.b = newEndpoint(t, d.hb.ListenPacket(6969), server)
				client, s := connect(t, d.a, d.b)
				exchange(t, client, s)
				if c.name != "a cookie first" && (s.EarlyData() || client.EarlyData()) {
					t.Error("0-RTT was accepted")
				}
				settle(t, d.a, d.b)
			})
		})
	}
}

// TestEarlyReplay: the datagrams of a client with 0-RTT begin one association, however
// often and from wherever they come.
func TestEarlyReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var config *Config
		d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, func(_, server *Config) { config = server })
		// Another socket with the same ticket keys, as on other machines of a service.
		sibling := newEndpoint(t, d.hb.ListenPacket(7000), config)
		sibling.Listen()
		type datagram struct {
			from, to netip.AddrPort
			b        []byte
		}
		var mu sync.Mutex
		var seen []datagram
		d.net.Observe(func(ev simnet.Event) {
			if ev.From.Addr() == d.ha.Addr() {
				mu.Lock()
				seen = append(seen, datagram{ev.From, ev.To, bytes.Clone(ev.Data)})
				mu.Unlock()
			}
		})
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("transfer 1 coin")); err != nil {
			t.Fatal(err)
		}
		s, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 15)); err != nil {
			t.Fatal(err)
		}
		exchange(t, c, s)
		d.net.Observe(nil)
		stranger := netip.MustParseAddrPort("10.0.0.9:1")
		for i, r := range []struct {
			wait time.Duration
			from netip.AddrPort
			to   *Endpoint
		}{
			{0, seen[0].from, d.b}, {0, stranger, d.b}, {0, stranger, sibling},
			{3 * time.Minute, stranger, d.b}, {6 * time.Minute, stranger, d.b}, {50 * time.Second, seen[0].from, d.b},
			{time.Minute, stranger, d.b}, {10 * time.Minute, seen[0].from, d.b}, {20 * time.Minute, stranger, d.b}, {0, stranger, sibling},
		} {
			time.Sleep(r.wait)
			for _, p := range seen {
				d.net.Inject(r.from, addrOf(t, r.to).AddrPort, p.b)
			}
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if s, err := r.to.Accept(ctx); err == nil {
				t.Errorf("replay %d made a connection of which 0-RTT is %v", i, s.EarlyData())
			}
			cancel()
		}
	})
}

// TestEarlyTicket: a ticket that is old, or of another socket with the same keys, resumes the
// session, without 0-RTT.
func TestEarlyTicket(t *testing.T) {
	for _, c := range []struct {
		name  string
		wait  time.Duration
		other bool
		early bool
	}{{"young", replayWindow - time.Minute, false, true}, {"old", replayWindow, false, false}, {"of another", 0, true, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var server *Config
				d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, func(_, s *Config) { server = s })
				time.Sleep(c.wait)
				to := d.b
				if c.other {
					to = newEndpoint(t, d.hb.ListenPacket(7000), server)
				}
				client, s := connect(t, d.a, to)
				exchange(t, client, s)
				if s.EarlyData() != c.early || !client.TLSState().DidResume {
					t.Errorf("0-RTT %v, resumed %v", s.EarlyData(), client.TLSState().DidResume)
				}
			})
		})
	}
}

func TestEarlyLoss(t *testing.T) {
	simnet.Run(t, 20, func(t *testing.T, seed uint64) {
		client, server := sealedConfig(), sealedConfig()
		client.EarlyData, server.EarlyData = true, true
		client.HandshakeTimeout, server.HandshakeTimeout = time.Minute, time.Minute
		path := simnet.Path{Delay: 20 * time.Millisecond, Loss: 0.2, Duplicate: 0.1, Reorder: 0.1}
		d := newDuo(t, seed, path, client, server)
		for range 5 {
			c, s := connect(t, d.a, d.b)
			exchange(t, c, s)
			time.Sleep(time.Second)
		}
	})
}
