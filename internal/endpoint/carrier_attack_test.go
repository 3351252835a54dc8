package endpoint

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/stream"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

var (
	shortUDP = simnet.Path{Delay: 10 * time.Millisecond}
	shortTCP = simnet.TCPPath{Delay: 10 * time.Millisecond}
)

// TestCarrierOtherServer: behind the address of the server, datagrams reach another one,
// which does not know the session. That is no reason to end it. PROTOCOL §7.14.
func TestCarrierOtherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, shortUDP, shortTCP, false, nil)
		other := newEndpoint(t, m.net.Host("10.0.0.3").ListenPacket(6969), testConfig())
		other.Listen()
		conn, err := m.ha.DialTCP(t.Context(), m.addr)
		if err != nil {
			t.Fatal(err)
		}
		cfg := m.streamConfig(m.a, true)
		p, err := m.a.AutoParams(nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Auto = &p
		x := stream.New(conn, cfg)
		if err := x.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := x.Auto()
		c, err := m.a.BeginStream(x.Detach(), &r.Result, &r.Own, true, udpio.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.3:6969")})
		if err != nil {
			t.Fatal(err)
		}
		s := <-m.accepted
		for range 3 {
			time.Sleep(10 * time.Second)
			swap(t, c, s)
			m.net.ResetTCP(m.ha, m.hb) // nor is it while there is nothing else
		}
		if n := other.Stats().Resets; n == 0 {
			t.Error("the other server was not asked")
		}
		c.Close()
		s.Close()
		settle(t, m.a, m.b)
	})
}

// TestCarrierReplay: datagrams that somebody has recorded do not keep a session on a
// path that is dead, also where the other carrier is slow.
func TestCarrierReplay(t *testing.T) {
	for _, sealed := range [...]bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMovers(t, 1, shortUDP, simnet.TCPPath{Delay: 200 * time.Millisecond}, sealed, nil)
			var mu sync.Mutex
			var old []byte
			m.net.Observe(func(e simnet.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.From == m.addr {
					old = append([]byte(nil), e.Data...)
				}
			})
			c, s := connect(t, m.a, m.b)
			attachedBoth(t, c, s)
			swap(t, c, s)
			time.Sleep(2 * time.Second)
			m.net.Observe(nil)
			m.net.Both(m.ha, m.hb, simnet.Path{Down: true})
			to := netip.AddrPortFrom(m.ha.Addr(), addrOf(t, m.a).Port())
			stop := attack(t, 20*time.Millisecond, func() { m.net.Inject(m.addr, to, append([]byte(nil), old...)) })
			defer stop()
			begin := time.Now()
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			s.SetReadDeadline(begin.Add(20 * time.Second))
			if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
				t.Error(err)
			}
			if d := time.Since(begin); d > 2*time.Second {
				t.Errorf("it took %v", d)
			}
			c.Close()
			s.Close()
			settle(t, m.a, m.b)
		})
	}
}

// TestCarrierEndBlocked: a session ends whose byte stream, which is not active, takes
// nothing. What it waits for is not asked for all the time.
func TestCarrierEndBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, shortUDP, shortTCP, false, nil)
		c, s := connect(t, m.a, m.b)
		attachedBoth(t, c, s)
		c.Move(t.Context(), reliable.ByteStream)
		swap(t, c, s)
		m.net.BothTCP(m.ha, m.hb, simnet.TCPPath{Stalled: true})
		go s.Write(make([]byte, 3<<20))
		go io.Copy(io.Discard, c)
		time.Sleep(100 * time.Millisecond)
		c.Move(t.Context(), reliable.Datagrams)
		time.Sleep(100 * time.Millisecond)
		s.mu.Lock()
		if s.eng.Active() != reliable.Datagrams || s.mob.bearer == nil || !s.mob.bearer.writing {
			t.Error("not what is to be tested")
		}
		s.mu.Unlock()
		s.CloseWithError(3, "")
		short := 0
		for range 200 {
			time.Sleep(9777 * time.Microsecond)
			synctest.Wait()
			s.mu.Lock()
			if !s.removed && s.eng.Done() && time.Until(s.armed) < 100*time.Microsecond {
				short++
			}
			s.mu.Unlock()
		}
		if short > 5 {
			t.Error("a busy loop")
		}
		c.Close()
		settle(t, m.a, m.b)
	})
}

// TestCarrierMoveLostProbe: who moves to datagrams without having a standby, does so also
// if the first of them are lost.
func TestCarrierMoveLostProbe(t *testing.T) {
	for _, sealed := range [...]bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMovers(t, 1, shortUDP, shortTCP, sealed, func(c *Config) { c.Auto.NoStandby = true })
			c, s := m.dialStream(t)
			time.Sleep(time.Second)
			m.net.Both(m.ha, m.hb, simnet.Path{Down: true})
			time.AfterFunc(2*time.Second, func() { m.net.Both(m.ha, m.hb, shortUDP) })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := c.Move(ctx, reliable.Datagrams); err != nil {
				t.Error("Move:", err)
			}
			swap(t, c, s)
			c.Close()
			s.Close()
			settle(t, m.a, m.b)
		})
	}
}
