package endpoint

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// plainOrSealed is a configuration with TLS or without.
func plainOrSealed(sealed bool) *Config {
	if sealed {
		return sealedConfig()
	}
	return testConfig()
}

// A roamer is a duo of which the client a changes its address.
type roamer struct {
	*duo
	pc    *simnet.Conn
	moves int
}

func newRoamer(t *testing.T, seed uint64, path simnet.Path, ca, cb *Config) *roamer {
	d := &duo{net: simnet.New(t, simnet.Options{Seed: seed, Path: path, Limit: time.Hour})}
	d.ha, d.hb = d.net.Host("10.0.0.1"), d.net.Host("10.0.0.2")
	r := &roamer{duo: d, pc: d.ha.ListenPacket(0)}
	d.a = newEndpoint(t, r.pc, ca)
	d.b = newEndpoint(t, d.hb.ListenPacket(6969), cb)
	return r
}

// move gives the client another port, or another host too.
func (r *roamer) move(t *testing.T, sameHost bool) {
	t.Helper()
	r.moves++
	if !sameHost {
		r.ha = r.net.Host(fmt.Sprintf("10.1.%d.%d", r.moves/250, r.moves%250+1))
	}
	if err := r.pc.Rebind(r.ha, 0); err != nil {
		t.Fatal(err)
	}
}

// bothWays sends want both ways, and what each gives is called meanwhile until it says
// that it is done; then both ends are closed.
func bothWays(t *testing.T, c, s *Session, want []byte, each func() bool) {
	t.Helper()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, x := range [...]*Session{c, s} {
		wg.Go(func() {
			for {
				if _, err := x.Write(want); err != nil {
					t.Error("Write:", err)
				}
				select {
				case <-stop:
					x.CloseWrite()
					return
				default:
				}
			}
		})
		wg.Go(func() {
			got := make([]byte, len(want))
			for {
				switch n, err := io.ReadFull(x, got); err {
				case nil:
					if !bytes.Equal(got, want) {
						t.Error("other bytes")
						return
					}
				case io.EOF:
					return
				default:
					t.Errorf("Read: %d, %v", n, err)
					return
				}
			}
		})
	}
	for each() {
	}
	close(stop)
	wg.Wait()
}

// TestMove: nothing is lost when a client changes its port or its host in the middle of
// a transfer. PROTOCOL §7.13; trap S10.
func TestMove(t *testing.T) {
	for name, path := range lossy {
		for i := range 4 {
			sameHost, sealed := i%2 == 0, i/2 == 0
			t.Run(fmt.Sprintf("%s/same host %v/TLS %v", name, sameHost, sealed), func(t *testing.T) {
				simnet.Run(t, 1, func(t *testing.T, seed uint64) {
					cfg := plainOrSealed(sealed)
					cfg.Linger, cfg.HandshakeTimeout = time.Minute, time.Minute
					path.Rate, path.Queue = 1<<18, 1<<18
					r := newRoamer(t, seed, path, cfg, cfg)
					c, s := connect(t, r.a, r.b)
					n := 0
					bothWays(t, c, s, pattern(100000), func() bool {
						time.Sleep(2 * time.Second)
						r.move(t, sameHost)
						time.Sleep(2 * time.Second)
						n++
						return n < 2
					})
					if got := s.RemoteAddr().String(); got != r.at() {
						t.Errorf("the client is at %s, not %s", r.at(), got)
					}
					if st := s.Stats(); st.PathChanges == 0 || st.PathChanges != r.b.Stats().PathChanges || c.Stats().PathChanges != 0 {
						t.Error(st.PathChanges, r.b.Stats().PathChanges, c.Stats().PathChanges)
					}
					if err := c.Close(); err != nil {
						t.Error(err)
					}
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					settle(t, r.a, r.b)
				})
			})
		}
	}
}

// at is where the client's socket is now.
func (r *roamer) at() string {
	var from netip.AddrPort
	r.net.Observe(func(e simnet.Event) { from = e.From })
	r.pc.WriteTo([]byte("where"), r.b.LocalAddr())
	r.net.Observe(nil)
	return from.String()
}

// TestMoveOften: an association survives a hundred changes, ten a second.
func TestMoveOften(t *testing.T) {
	simnet.Run(t, 2, func(t *testing.T, seed uint64) {
		cfg := plainOrSealed(seed == 2)
		cfg.Linger = time.Minute
		r := newRoamer(t, seed, simnet.Path{Delay: 10 * time.Millisecond, Loss: 0.05, Rate: 1 << 20, Queue: 1 << 15}, cfg, cfg)
		c, s := connect(t, r.a, r.b)
		bothWays(t, c, s, pattern(30000), func() bool {
			time.Sleep(100 * time.Millisecond)
			r.move(t, r.moves%2 == 0)
			return r.moves < 100
		})
		if n := s.Stats().PathChanges; n < 10 { // some come before the one before is noticed
			t.Errorf("%d changes", n)
		}
		c.Close()
		s.Close()
		settle(t, r.a, r.b)
	})
}

// TestMoveDownload: a client that only receives is found, although it has no reason to say
// anything, and no keep-alive.
func TestMoveDownload(t *testing.T) {
	simnet.Run(t, 6, func(t *testing.T, seed uint64) {
		cfg := plainOrSealed(seed%2 == 0)
		cfg.Linger = time.Minute
		r := newRoamer(t, seed, simnet.Path{Delay: 20 * time.Millisecond, Rate: 1 << 20, Queue: 1 << 17}, cfg, cfg)
		c, s := connect(t, r.a, r.b)
		want := pattern(6 << 20)
		closed := make(chan error, 1)
		go func() {
			s.Write(want)
			closed <- s.Close()
		}()
		done := make(chan struct{})
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			for {
				select {
				case <-done:
					return
				case <-time.After(500 * time.Millisecond):
					r.move(t, seed%3 == 0)
				}
			}
		}()
		got, err := io.ReadAll(struct{ io.Reader }{c})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, want)
		close(done)
		<-moved
		if err := <-closed; err != nil {
			t.Error(err)
		}
		c.Close()
		settle(t, r.a, r.b)
	})
}

// TestMoveIdle: a server finds a silent client that has moved when that says something,
// by its keep-alive at the latest.
func TestMoveIdle(t *testing.T) {
	for i := range 4 {
		sameHost, sealed := i%2 == 0, i/2 == 0
		synctest.Test(t, func(t *testing.T) {
			ca, cb := plainOrSealed(sealed), plainOrSealed(sealed)
			ca.KeepAlive = 5 * time.Second
			r := newRoamer(t, 1, clean, ca, cb)
			c, s := connect(t, r.a, r.b)
			time.Sleep(time.Minute + time.Second)
			r.move(t, sameHost)
			start := time.Now()
			if _, err := s.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 5)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
				t.Fatal(b, err)
			}
			if d := time.Since(start); d > 5*time.Second+200*time.Millisecond {
				t.Errorf("after %v", d)
			}
			if s.RemoteAddr().String() != r.at() {
				t.Error(s.RemoteAddr())
			}
			// And the client's own word is enough, without any keep-alive.
			r.move(t, sameHost)
			start = time.Now()
			c.Write([]byte("again"))
			io.ReadFull(s, b)
			s.Write(b)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "again" {
				t.Fatal(b, err)
			}
			if d := time.Since(start); d > 100*time.Millisecond {
				t.Errorf("after %v", d)
			}
			c.Close()
			s.Close()
			settle(t, r.a, r.b)
		})
	}
}

// TestMoveWhileClosing: whenever in the course of its end a client moves, both ends learn
// of it soon, and nothing is lost. PROTOCOL §7.10.
func TestMoveWhileClosing(t *testing.T) {
	for at := range 25 {
		for _, first := range []string{"client", "server"} {
			t.Run(fmt.Sprint(first, " ", 4*at, " ms"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := plainOrSealed(at%4 > 1)
					cfg.Idle, cfg.KeepAlive = 20*time.Second, 3*time.Second
					r := newRoamer(t, uint64(at), clean, cfg, cfg)
					c, s := connect(t, r.a, r.b)
					time.Sleep(time.Second)
					one, other := c, s
					if first == "server" {
						one, other = s, c
					}
					want := pattern(20000)
					go func() {
						time.Sleep(time.Duration(4*at) * time.Millisecond)
						r.move(t, at%2 == 0)
					}()
					start := time.Now()
					if _, err := one.Write(want); err != nil {
						t.Error(err)
					}
					closed := make(chan error, 1)
					go func() { closed <- one.Close() }()
					got, err := io.ReadAll(struct{ io.Reader }{other})
					if err != nil {
						t.Error(err)
					}
					equal(t, got, want)
					if err := <-closed; err != nil {
						t.Error("Close:", err)
					}
					if err := other.Close(); err != nil {
						t.Error("Close:", err)
					}
					if d := time.Since(start); d > 4*time.Second {
						t.Errorf("it took %v", d)
					}
					settle(t, r.a, r.b)
				})
			})
		}
	}
}

// TestMoveMessages: messages that want an acknowledgement are delivered once, whatever
// becomes of the address; those to the client go where it is now, and those of it come
// from there.
func TestMoveMessages(t *testing.T) {
	simnet.Run(t, 4, func(t *testing.T, seed uint64) {
		cfg := plainOrSealed(seed%2 == 0)
		cfg.Retry.MaxRetries = 20
		r := newRoamer(t, seed, simnet.Path{Delay: 10 * time.Millisecond, Loss: 0.05, Duplicate: 0.05}, cfg, cfg)
		const count = 300
		errs := make(chan error, 2*count)
		message := func(i int) *session.Message {
			return &session.Message{Header: framing.Header{{Key: "i", Value: fmt.Sprint(i)}}, Payload: pattern(1 << (i % 14)), ReqAck: true}
		}
		go func() {
			for i := range count {
				time.Sleep(10 * time.Millisecond)
				go func() { errs <- r.a.SendMessage(t.Context(), message(i), addrOf(t, r.b)) }()
			}
		}()
		begun, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			<-begun // a handshake begins anew at another address
			for range 30 {
				time.Sleep(100 * time.Millisecond)
				r.move(t, r.moves%3 != 0)
			}
		}()
		seen := make(map[string]bool)
		for range count {
			m := receive(t, r.b)
			if i := m.Header.Get("i"); seen[i] {
				t.Error("twice:", i)
			} else {
				seen[i] = true
			}
			equal(t, m.Payload, pattern(len(m.Payload)))
			if len(seen) == 1 {
				close(begun)
			}
		}
		for range count {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		<-done
		send(t, r.a, addrOf(t, r.b), &session.Message{Payload: []byte("here"), ReqAck: true})
		receive(t, r.b)
		time.Sleep(5 * time.Second)
		send(t, r.a, addrOf(t, r.b), &session.Message{Payload: []byte("here"), ReqAck: true})
		_, from, err := r.b.ReceiveMessage(t.Context())
		if err != nil || from.String() != r.at() {
			t.Fatal(from, r.at(), err)
		}
		before := len(r.b.sessionsNow())
		for range 3 {
			go func() { errs <- r.b.SendMessage(t.Context(), message(0), mustAddr(t, from)) }()
			receive(t, r.a)
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := len(r.b.sessionsNow()); n != before || n != 1 {
			t.Errorf("%d associations, %d before", n, before)
		}
		settle(t, r.a, r.b)
	})
}

func (e *Endpoint) sessionsNow() (all []*Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sessions {
		all = append(all, s)
	}
	return all
}

// A meter counts what is sent to addresses of 172.16/12, which are nobody's, and what
// was said to come from there.
type meter struct {
	mu      sync.Mutex
	in, out map[netip.AddrPort]int
	packets map[netip.AddrPort]int
}

var nobodys = netip.MustParsePrefix("172.16.0.0/12")

func newMeter() *meter {
	return &meter{in: make(map[netip.AddrPort]int), out: make(map[netip.AddrPort]int), packets: make(map[netip.AddrPort]int)}
}

func (m *meter) sent(e simnet.Event) {
	if nobodys.Contains(e.To.Addr()) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.out[e.To] += len(e.Data)
		m.packets[e.To]++
	}
}

// check fails if to any address more was sent than it may get. RFC 9000 §8.1.
func (m *meter) check(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for a, n := range m.out {
		if n > 3*m.in[a] {
			t.Errorf("%d bytes to %v, from where %d came", n, a, m.in[a])
		}
	}
}

// TestCopies: somebody on the path sends copies of a client's packets from thousands of
// addresses, and is faster. What he causes is bounded, and association and throughput
// are as they were. RFC 9000 §9.3.1.
func TestCopies(t *testing.T) {
	var took [4]time.Duration
	for i := range took {
		copies := i%2 == 1
		synctest.Test(t, func(t *testing.T) {
			cfg := plainOrSealed(i/2 == 1)
			r := newRoamer(t, 1, simnet.Path{Delay: 10 * time.Millisecond, Rate: 1 << 19, Queue: 1 << 16}, cfg, cfg)
			c, s := connect(t, r.a, r.b)
			m := newMeter()
			n := 0
			to := netip.MustParseAddrPort("10.0.0.2:6969")
			r.net.Observe(func(e simnet.Event) {
				m.sent(e)
				if !copies || e.To != to {
					return
				}
				for range 4 {
					n++
					from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)}), 1000)
					m.mu.Lock()
					m.in[from] += len(e.Data)
					m.mu.Unlock()
					r.net.Inject(from, to, bytes.Clone(e.Data))
				}
			})
			start := time.Now()
			rounds := 0
			bothWays(t, c, s, pattern(1<<20), func() bool { rounds++; return rounds < 2 })
			took[i] = time.Since(start)
			r.net.Observe(nil)
			m.check(t)
			if copies && (n < 2000 || len(m.out) == 0) {
				t.Errorf("%d copies, %d addresses got something", n, len(m.out))
			}
			if s.Stats().PathChanges != 0 || s.RemoteAddr().String() != r.at() {
				t.Error(s.Stats().PathChanges, s.RemoteAddr())
			}
			c.Close()
			s.Close()
			settle(t, r.a, r.b)
		})
	}
	for i := range 2 {
		if took[2*i+1] > took[2*i]*12/10 {
			t.Errorf("%v with copies, %v without", took[2*i+1], took[2*i])
		}
	}
}

// TestCandidate: an address that does not answer is challenged three times, with other
// bytes each time, and forgotten. It gets three times what it sent at most.
func TestCandidate(t *testing.T) {
	for i := range 4 {
		size := []int{1, 1000}[i%2]
		synctest.Test(t, func(t *testing.T) {
			cfg := plainOrSealed(i/2 == 1)
			r := newRoamer(t, 1, clean, cfg, cfg)
			c, s := connect(t, r.a, r.b)
			time.Sleep(time.Second)
			m := newMeter()
			nobody := netip.MustParseAddrPort("172.16.0.1:1")
			to := netip.MustParseAddrPort("10.0.0.2:6969")
			seen := make(map[string]bool)
			r.net.Observe(func(e simnet.Event) {
				m.sent(e)
				if e.To == nobody {
					seen[string(e.Data[26:35])] = true
					return
				}
				if e.To == to && len(m.in) == 0 {
					m.mu.Lock()
					m.in[nobody] += len(e.Data)
					m.mu.Unlock()
					r.net.Inject(nobody, to, bytes.Clone(e.Data))
				}
			})
			r.net.Path(r.ha, r.hb).Update(func(p *simnet.Path) { p.Loss = 1 }) // but for the copy
			c.Write(pattern(size))
			time.Sleep(40 * time.Millisecond)
			s.mu.Lock()
			if s.cand == nil || s.cand.addr.AddrPort != nobody {
				t.Error("no candidate")
			}
			s.mu.Unlock()
			r.net.Observe(m.sent)
			time.Sleep(10 * time.Second)
			s.mu.Lock()
			if s.cand != nil {
				t.Error("it is not forgotten")
			}
			s.mu.Unlock()
			m.check(t)
			if n := m.packets[nobody]; n == 0 || n > maxChallenges || size > 500 && n != maxChallenges {
				t.Errorf("%d challenges", n)
			}
			if s.RemoteAddr().String() != "10.0.0.1:49152" {
				t.Error(s.RemoteAddr())
			}
			r.net.Path(r.ha, r.hb).Set(clean)
			got := make([]byte, size)
			if _, err := io.ReadFull(s, got); err != nil {
				t.Fatal(err)
			}
			c.Close()
			s.Close()
			settle(t, r.a, r.b)
		})
	}
}

// TestRemoteAddrRace reads the address while it changes (trap N8).
func TestRemoteAddrRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		r := newRoamer(t, 1, clean, cfg, cfg)
		c, s := connect(t, r.a, r.b)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if s.RemoteAddr() == nil || s.LocalAddr() == nil || c.RemoteAddr() == nil {
						t.Error("no address")
					}
					s.Stats()
					r.b.Stats()
					time.Sleep(time.Millisecond)
				}
			})
		}
		bothWays(t, c, s, pattern(1000), func() bool {
			time.Sleep(30 * time.Millisecond)
			r.move(t, r.moves%2 == 0)
			return r.moves < 20
		})
		cancel()
		wg.Wait()
		c.Close()
		s.Close()
		settle(t, r.a, r.b)
	})
}
