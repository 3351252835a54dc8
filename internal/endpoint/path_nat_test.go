package endpoint

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// TestNATForgets: a NAT that lets nobody in forgets a silent client, which it gives
// another port when that says something, and the association goes on. Trap U11.
func TestNATForgets(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := plainOrSealed(sealed)
			cfg.Idle = 2 * time.Minute
			n := simnet.New(t, simnet.Options{Seed: 1, VNet: true, Path: clean, Limit: time.Hour})
			x := n.NAT("10.0.0.1", "192.168.1.0/24", simnet.NATOptions{Filter: simnet.AddressAndPortDependent, Lifetime: 30 * time.Second})
			a := newEndpoint(t, x.Host("192.168.1.5").ListenPacket(0), cfg)
			b := newEndpoint(t, n.Host("10.0.0.2").ListenPacket(6969), cfg)
			c, s := connect(t, a, b)
			got := make([]byte, 5)
			at := s.RemoteAddr().String()
			for i := range 3 {
				time.Sleep(45 * time.Second)
				s.Write([]byte("hello")) // goes nowhere
				time.Sleep(time.Second)
				c.Write([]byte("there"))
				for _, end := range []*Session{c, s} {
					if _, err := io.ReadFull(end, got); err != nil {
						t.Fatal(i, err)
					}
				}
				if now := s.RemoteAddr().String(); now == at || s.Stats().PathChanges != uint64(i+1) {
					t.Errorf("%s as before, %d changes", at, s.Stats().PathChanges)
				}
				at = s.RemoteAddr().String()
			}
			c.Close()
			s.Close()
			settle(t, a, b)
		})
	}
}

// TestMoveSwap: of two clients each gets the address of the other, as a NAT may have it.
// What was theirs stays theirs.
func TestMoveSwap(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := plainOrSealed(sealed)
			n := simnet.New(t, simnet.Options{Seed: 1, Path: clean, Limit: time.Hour})
			h := n.Host("10.0.0.1")
			b := newEndpoint(t, n.Host("10.0.0.2").ListenPacket(6969), cfg)
			var pcs [2]*simnet.Conn
			var as [2]*Endpoint
			for i := range as {
				pcs[i] = h.ListenPacket(1000 + i)
				as[i] = newEndpoint(t, pcs[i], cfg)
			}
			for round := range 3 {
				for i, a := range as {
					send(t, a, addrOf(t, b), &session.Message{Payload: []byte{byte(i)}, ReqAck: true})
				}
				for range as {
					m, from, err := b.ReceiveMessage(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					want := fmt.Sprintf("10.0.0.1:%d", 1000+(int(m.Payload[0])+round)%2)
					if round == 0 && from.String() != want {
						t.Errorf("%d is at %v, not %s", m.Payload[0], from, want)
					}
				}
				time.Sleep(5 * time.Second)
				for i, a := range as { // once more, from where they have shown to be
					done := make(chan error, 1)
					go func() {
						done <- b.SendMessage(t.Context(), &session.Message{Payload: []byte{byte(i)}, ReqAck: true}, mustAddr(t, udpAddr(1000+(i+round)%2)))
					}()
					if m := receive(t, a); m.Payload[0] != byte(i) {
						t.Errorf("%d got what was for %d", i, m.Payload[0])
					}
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				if k := len(b.sessionsNow()); k != 2 {
					t.Errorf("%d associations", k)
				}
				pcs[0].Rebind(h, 2000)
				pcs[1].Rebind(h, 1000+round%2)
				pcs[0].Rebind(h, 1000+(round+1)%2)
			}
			settle(t, b)
		})
	}
}

// TestMoveThereAndBack: a client that is back before it has shown to be elsewhere stays
// where it was.
func TestMoveThereAndBack(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRoamer(t, 1, clean, plainOrSealed(sealed), plainOrSealed(sealed))
			c, s := connect(t, r.a, r.b)
			time.Sleep(time.Second)
			at := s.RemoteAddr().String()
			got := make([]byte, 4)
			for range 20 {
				r.move(t, true)
				c.Write([]byte("away"))
				time.Sleep(5 * time.Millisecond)
				r.pc.Rebind(r.ha, int(netip.MustParseAddrPort(at).Port()))
				time.Sleep(time.Millisecond)
				c.Write([]byte("back"))
				for range 2 {
					if _, err := io.ReadFull(s, got); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(100 * time.Millisecond)
			}
			if s.RemoteAddr().String() != at || s.Stats().PathChanges != 0 {
				t.Errorf("at %s, not %s, after %d changes", s.RemoteAddr(), at, s.Stats().PathChanges)
			}
			c.Close()
			s.Close()
			settle(t, r.a, r.b)
		})
	}
}

// TestMoveByRelay: an attacker on the path who is faster and lets the client answer can
// become a part of the path; as soon as he is not any more, the path is the client's
// again. RFC 9000 §9.3.3.
func TestMoveByRelay(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := plainOrSealed(sealed)
			cfg.KeepAlive = time.Second
			r := newRoamer(t, 1, clean, cfg, cfg)
			c, s := connect(t, r.a, r.b)
			client := netip.MustParseAddrPort(r.at())
			server := netip.MustParseAddrPort("10.0.0.2:6969")
			attacker := netip.MustParseAddrPort("172.16.0.1:1")
			var active atomic.Bool
			active.Store(true)
			r.net.Observe(func(e simnet.Event) {
				switch {
				case !active.Load():
				case e.To == server:
					r.net.Inject(attacker, server, bytes.Clone(e.Data))
				case e.To == attacker:
					r.net.Inject(server, client, bytes.Clone(e.Data))
				}
			})
			got := make([]byte, 5)
			for range 10 {
				c.Write([]byte("hello"))
				if _, err := io.ReadFull(s, got); err != nil {
					t.Fatal(err)
				}
				s.Write(got)
				if _, err := io.ReadFull(c, got); err != nil {
					t.Fatal(err)
				}
			}
			if s.RemoteAddr().String() != attacker.String() {
				t.Log("he did not get through")
			}
			active.Store(false)
			time.Sleep(5 * time.Second)
			s.Write(got)
			if _, err := io.ReadFull(c, got); err != nil {
				t.Fatal(err)
			}
			if s.RemoteAddr().String() != client.String() {
				t.Errorf("the client is at %s", s.RemoteAddr())
			}
			r.net.Observe(nil)
			c.Close()
			s.Close()
			settle(t, r.a, r.b)
		})
	}
}
