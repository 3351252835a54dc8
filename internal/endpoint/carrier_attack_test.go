package endpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
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

// A streamRogue is a client that says what it likes on a byte stream.
type streamRogue struct {
	b      *stream.Bearer
	server *Session
	pn     uint32
}

// newStreamRogue begins a session without checksums or TLS.
func newStreamRogue(t *testing.T, m *movers) *streamRogue {
	t.Helper()
	conn, err := m.ha.DialTCP(t.Context(), m.addr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.a.AutoParams(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := m.streamConfig(m.a, true)
	cfg.Auto = &p
	x := stream.New(conn, cfg)
	if err := x.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &streamRogue{b: x.Detach(), server: <-m.accepted}
}

// say sends a packet with those chunks.
func (r *streamRogue) say(chunks ...byte) error {
	b := framing.AppendFixed(nil, framing.TypeData, 0, 15, int64(len(chunks)))
	b = append(append(b, 1, 12, framing.KeyPacket[0]), r.server.id[:]...)
	b = binary.BigEndian.AppendUint32(b, r.pn)
	r.pn++
	return r.b.Write(append(b, chunks...))
}

// TestCarrierNeverReads: a peer that takes nothing, and asks all the time, costs neither
// time nor memory. Trap S3.
func TestCarrierNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, shortUDP, shortTCP, false, func(c *Config) { c.Idle = 5 * time.Minute })
		r := newStreamRogue(t, m)
		credit := framing.AppendVarint(nil, 1<<40)
		r.say(append(append(append([]byte{0x10}, credit...), 0x11, 0), credit...)...) // MAX_DATA, MAX_STREAM_DATA
		r.say(0x1d, 1, 0)                                                             // MOVE to datagrams, which are not there
		before := heapInUse()
		go func() {
			for err := error(nil); err == nil; {
				_, err = r.server.Write(make([]byte, 100_000))
			}
		}()
		time.Sleep(10 * time.Second)
		fires := 0
		var last time.Time
		for i := range 2000 {
			if i%10 == 0 {
				if err := r.say(1, 0x1a, 1, 2, 3, 4, 5, 6, 7, 8); err != nil { // PING, PATH_CHALLENGE
					t.Fatal(err)
				}
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			r.server.mu.Lock()
			if r.server.armed != last {
				last = r.server.armed
				fires++
			}
			r.server.mu.Unlock()
		}
		if fires > 60 {
			t.Errorf("the timer was set %d times in 2 s", fires)
		}
		if n := heapInUse() - before; n > 8<<20 {
			t.Errorf("%d bytes", n)
		}
		begin := time.Now()
		r.server.Close()
		if d := time.Since(begin); d > m.b.cfg.Linger+closeGrace {
			t.Errorf("Close took %v", d)
		}
		settle(t, m.b)
		r.b.Close()
	})
}

// A slowSocket calls a function in the middle of sending a datagram of some size, once.
type slowSocket struct {
	net.PacketConn
	mu    sync.Mutex
	size  int
	first func()
}

func (c *slowSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	f := c.first
	if len(b) == c.size {
		c.first = nil
	} else {
		f = nil
	}
	c.mu.Unlock()
	if f != nil {
		f()
	}
	return c.PacketConn.WriteTo(b, to)
}

// TestCarrierMovedWhileProbing: a session is moved while it is sending a probe. What it has
// to say then does not wait for the next timer.
func TestCarrierMovedWhileProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, shortUDP, shortTCP, false, nil)
		sock := &slowSocket{PacketConn: m.ha.ListenPacket(0), size: standbyProbe}
		m.a = newEndpoint(t, sock, m.a.cfg)
		c, s := connect(t, m.a, m.b)
		attachedBoth(t, c, s)
		c.Move(t.Context(), reliable.ByteStream)
		swap(t, c, s)
		time.Sleep(time.Second)
		sock.mu.Lock()
		sock.first = func() {
			if err := s.Move(t.Context(), reliable.Datagrams); err != nil {
				t.Error(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		sock.mu.Unlock()
		c.mu.Lock()
		now := time.Now()
		c.mob.probes[reliable.Datagrams].first = true
		c.probe(now, reliable.Datagrams)
		before := c.eng.CarrierStats(now, reliable.Datagrams).Sent
		c.flush(now)
		if c.eng.Active() != reliable.Datagrams {
			t.Error("not what is to be tested")
		}
		if n := c.eng.CarrierStats(time.Now(), reliable.Datagrams).Sent; n == before {
			t.Error("nothing was sent")
		}
		c.mu.Unlock()
		c.Close()
		s.Close()
		settle(t, m.a, m.b)
	})
}

// TestCarrierAnsweredWhileAsking: the datagrams for which Move waits answer before the
// system call that has asked them returns.
func TestCarrierAnsweredWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, shortUDP, shortTCP, false, func(c *Config) { c.Auto.NoStandby = true })
		m.a = newEndpoint(t, &lateSocket{m.ha.ListenPacket(0)}, m.a.cfg)
		m.net.Both(m.ha, m.hb, simnet.Path{Down: true})
		c, s := m.dialStream(t)
		time.Sleep(5 * time.Second) // datagrams that it sends by itself are lost
		m.net.Both(m.ha, m.hb, shortUDP)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begin := time.Now()
		err := c.Move(ctx, reliable.Datagrams)
		if d := time.Since(begin); err != nil || d > time.Second {
			t.Errorf("Move: %v after %v", err, d)
		}
		swap(t, c, s)
		c.Close()
		s.Close()
		settle(t, m.a, m.b)
	})
}

// A lateSocket returns from WriteTo when what it has sent has been answered.
type lateSocket struct{ net.PacketConn }

func (c *lateSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(b, to)
	time.Sleep(50 * time.Millisecond)
	return n, err
}

// TestCarrierShortLived: a byte stream that ends again and again as soon as it is attached is
// not made anew all the time.
func TestCarrierShortLived(t *testing.T) {
	for _, alone := range [...]bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMovers(t, 1, shortUDP, shortTCP, false, func(c *Config) { c.Idle = 5 * time.Minute })
			var c, s *Session
			if alone {
				m.net.Both(m.ha, m.hb, simnet.Path{Down: true})
				c, s = m.dialStream(t)
			} else {
				c, s = connect(t, m.a, m.b)
				attachedBoth(t, c, s)
			}
			swap(t, c, s)
			stop := attack(t, 5*time.Millisecond, func() {
				s.mu.Lock()
				if b := s.mob.bearer; b != nil {
					b.Close()
				}
				s.mu.Unlock()
			})
			before := m.net.TCP(m.ha, m.hb).Stats().Connects
			time.Sleep(time.Minute)
			if n := m.net.TCP(m.ha, m.hb).Stats().Connects - before; n < 3 || n > 20 {
				t.Errorf("alone %v: %d connections in a minute", alone, n)
			} else {
				t.Logf("alone %v: %d connections in a minute", alone, n)
			}
			stop()
			time.Sleep(time.Minute)
			s.mu.Lock()
			if s.mob.bearer == nil {
				t.Error("there is none any more")
			}
			s.mu.Unlock()
			swap(t, c, s)
			c.Close()
			s.Close()
			settle(t, m.a, m.b)
		})
	}
}

// TestCarrierNeeded: a byte stream that could not be attached for long is tried again when the
// datagrams fail.
func TestCarrierNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, shortUDP, simnet.TCPPath{Refused: true}, false, func(c *Config) { c.Idle = 10 * time.Minute })
		c, s := connect(t, m.a, m.b)
		time.Sleep(4 * time.Minute)
		before := m.net.TCP(m.ha, m.hb).Stats().Connects
		m.net.Both(m.ha, m.hb, simnet.Path{Down: true})
		c.Write([]byte("x"))
		time.Sleep(20 * time.Second)
		if n := m.net.TCP(m.ha, m.hb).Stats().Connects - before; n > 25 {
			t.Errorf("%d connections in 20 s", n)
		}
		m.net.BothTCP(m.ha, m.hb, shortTCP)
		begin := time.Now()
		io.ReadFull(s, make([]byte, 1))
		swap(t, s, c)
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		c.Close()
		s.Close()
		settle(t, m.a, m.b)
	})
}

// TestCarrierCloseEndsMove: Close ends a Move that waits, at once.
func TestCarrierCloseEndsMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, shortUDP, simnet.TCPPath{Blocked: true}, false, nil)
		c, s := connect(t, m.a, m.b)
		swap(t, c, s)
		begin := time.Now()
		moved := make(chan error)
		go func() { moved <- c.Move(context.Background(), reliable.ByteStream) }()
		time.Sleep(time.Second)
		m.net.Both(m.ha, m.hb, simnet.Path{Down: true})
		c.Write([]byte("x")) // Close waits for that
		go c.Close()
		if err := <-moved; !errors.Is(err, net.ErrClosed) || time.Since(begin) > 1100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		s.CloseWithError(1, "")
		settle(t, m.a, m.b)
	})
}

// TestCarrierLargestMove: a peer that has used up the numbers of moves keeps this side from
// moving, as it may do with its own session. Move says so, and nothing else happens.
func TestCarrierLargestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMovers(t, 1, simnet.Path{Down: true}, shortTCP, false, nil)
		r := newStreamRogue(t, m)
		r.say(append(framing.AppendVarint([]byte{0x1d}, framing.MaxVarint), 1)...)
		time.Sleep(time.Second)
		s := r.server
		s.mu.Lock()
		s.setRemote(addrOf(t, m.a))
		s.pathChanged(time.Now(), time.Millisecond, false)
		s.mu.Unlock()
		if err := s.Move(t.Context(), reliable.Datagrams); !errors.Is(err, session.ErrNoCarrier) {
			t.Error("Move:", err)
		}
		go s.Write(make([]byte, 100_000)) // which is not acknowledged
		fires := 0
		var last time.Time
		for range 9000 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			s.mu.Lock()
			if s.armed != last {
				last = s.armed
				fires++
			}
			s.mu.Unlock()
		}
		if s.Carrier() != reliable.ByteStream || fires > 1000 {
			t.Errorf("on %v; the timer was set %d times in 9 s", s.Carrier(), fires)
		}
		r.b.Close()
		s.Close()
		settle(t, m.b)
	})
}

// TestCarrierRestart: a server is started anew, and its clients learn soon that it does not
// know them. PROTOCOL §7.14.
func TestCarrierRestart(t *testing.T) {
	for _, sealed := range [...]bool{false, true} {
		for i := range 4 {
			synctest.Test(t, func(t *testing.T) {
				m := newMovers(t, 1, shortUDP, shortTCP, sealed, func(c *Config) { c.ResetKey = new([32]byte) })
				var c, s *Session
				if i&1 == 0 {
					c, s = connect(t, m.a, m.b)
				} else {
					c, s = m.dialStream(t)
				}
				attachedBoth(t, c, s)
				if i&2 != 0 {
					c.Move(t.Context(), reliable.ByteStream)
				}
				swap(t, c, s)
				cfg := m.b.cfg
				m.hb.Crash()
				m.b = newEndpoint(t, m.hb.ListenPacket(6969), cfg)
				m.b.Listen()
				ln, err := m.hb.ListenTCP(6969)
				if err != nil {
					t.Fatal(err)
				}
				m.ln = ln
				defer ln.Close()
				go m.serve()
				begin := time.Now()
				c.Write(make([]byte, 1000)) // large enough for an answer
				c.SetReadDeadline(begin.Add(time.Minute))
				_, err = c.Read(make([]byte, 1))
				if d := time.Since(begin); !errors.Is(err, session.ErrReset) || d > 8*time.Second {
					t.Errorf("sealed %v, %d: %v after %v", sealed, i, err, d)
				}
				c.Close()
				s.Close()
				settle(t, m.a, m.b)
			})
		}
	}
}
