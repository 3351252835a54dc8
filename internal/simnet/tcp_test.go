package simnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

// tcpPair is a connection between two hosts.
type tcpPair struct {
	n        *Net
	a, b     *Host
	ln       *TCPListener
	c, s     *TCPConn
	there    *TCPLink // from client to server
	andBack  *TCPLink
	listenAt netip.AddrPort
}

// newTCPPair must be called in a bubble, or with a path without delay.
func newTCPPair(t *testing.T, o Options) *tcpPair {
	t.Helper()
	p := &tcpPair{n: New(t, o), listenAt: netip.MustParseAddrPort("10.0.0.2:80")}
	p.a, p.b = p.n.Host("10.0.0.1"), p.n.Host("10.0.0.2")
	p.there, p.andBack = p.n.TCP(p.a, p.b), p.n.TCP(p.b, p.a)
	var err error
	if p.ln, err = p.b.ListenTCP(80); err != nil {
		t.Fatal(err)
	}
	p.c, p.s = p.dial(t)
	return p
}

func (p *tcpPair) dial(t *testing.T) (c, s *TCPConn) {
	t.Helper()
	c, err := p.a.DialTCP(context.Background(), p.listenAt)
	if err != nil {
		t.Fatal(err)
	}
	sc, err := p.ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c, sc.(*TCPConn)
}

// both sets the parameters of both directions.
func (p *tcpPair) both(f func(*TCPPath)) {
	p.there.Update(f)
	p.andBack.Update(f)
}

// ends returns how many ends of connections there are.
func (p *tcpPair) ends() int {
	p.n.tcp.mu.Lock()
	defer p.n.tcp.mu.Unlock()
	return len(p.n.tcp.conns)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> (i % 5))
	}
	return b
}

// copied sends data from a to b, and returns how long it took until b had it all.
func copied(t *testing.T, a, b net.Conn, data []byte) time.Duration {
	t.Helper()
	start := time.Now()
	go a.Write(data)
	got := make([]byte, len(data))
	if _, err := io.ReadFull(b, got); err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Fatal("other bytes arrived")
	}
	return time.Since(start)
}

func TestTCPConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		p := newTCPPair(t, Options{Seed: 1})
		return p.c, p.s, p.n.Close, nil
	})
}

// TestTCPTimes: connecting takes a round trip; bytes take the delay; and what is sent
// is bounded by the rate, and by a window each round trip.
func TestTCPTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := newTCPPair(t, Options{TCP: TCPPath{Delay: 20 * time.Millisecond}})
		if d := time.Since(start); d != 60*time.Millisecond { // Accept a trip later
			t.Errorf("both ends after %v", d)
		}
		if a, ok := p.s.RemoteAddr().(*net.TCPAddr); !ok || a.String() != p.c.LocalAddr().String() {
			t.Errorf("from %v", a)
		}
		if d := copied(t, p.c, p.s, []byte("x")); d != 20*time.Millisecond {
			t.Errorf("a byte took %v", d)
		}
		data := randomBytes(10 * defaultTCPBuffer)
		between(t, "ten windows", copied(t, p.s, p.c, data), 9*40*time.Millisecond, 12*40*time.Millisecond)
		p.both(func(p *TCPPath) { p.Rate = 1e6 })
		between(t, "at a rate", copied(t, p.c, p.s, randomBytes(2e6)), 2*time.Second, 2100*time.Millisecond)
		time.AfterFunc(time.Second, func() { p.both(func(p *TCPPath) { p.Rate = 1e5 }) })
		between(t, "at two", copied(t, p.c, p.s, randomBytes(1.1e6)), 1900*time.Millisecond, 2300*time.Millisecond)
	})
}

// TestTCPShares: connections share the rate.
func TestTCPShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTCPPair(t, Options{TCP: TCPPath{Delay: 20 * time.Millisecond, Rate: 1e6}})
		c, s := p.dial(t)
		done := make(chan time.Duration)
		go func() { done <- copied(t, c, s, randomBytes(1e6)) }()
		between(t, "one", copied(t, p.c, p.s, randomBytes(1e6)), 1900*time.Millisecond, 2100*time.Millisecond)
		between(t, "the other", <-done, 1900*time.Millisecond, 2100*time.Millisecond)
	})
}

// TestTCPWaits: timers of connections that wait for their turn on a slow path do not run
// hot, whatever was acknowledged before.
func TestTCPWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTCPPair(t, Options{TCP: TCPPath{Delay: 20 * time.Millisecond, Rate: 5e3, Loss: 0.3}})
		var done []chan time.Duration
		for range 3 {
			c, s := p.dial(t)
			d := make(chan time.Duration)
			done = append(done, d)
			go func() { d <- copied(t, c, s, randomBytes(1e5)) }()
		}
		for _, d := range done {
			between(t, "took", <-d, 10*time.Second, 90*time.Second)
		}
		p.n.tcp.mu.Lock()
		defer p.n.tcp.mu.Unlock()
		if n := p.n.tcp.seq; n > 10_000 {
			t.Errorf("%d events", n)
		}
	})
}

// TestTCPBackPressure: who does not read stops who writes, at the size of the buffers.
func TestTCPBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTCPPair(t, Options{TCPBuffer: 50_000, TCP: TCPPath{Delay: time.Millisecond}})
		data := randomBytes(1 << 20)
		start := time.Now()
		p.c.SetWriteDeadline(start.Add(time.Hour)) // longer than timers of the sender
		n, err := p.c.Write(data)
		if n != 100_000 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour {
			t.Fatalf("wrote %d, %v, in %v", n, err, time.Since(start))
		}
		p.c.SetWriteDeadline(time.Time{})
		go p.c.Write(data[n:])
		got := make([]byte, len(data))
		if _, err := io.ReadFull(p.s, got); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("read: %v", err)
		}
	})
}

// TestTCPEnds: half-closes, closes, and what is closed with something unread.
func TestTCPEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTCPPair(t, Options{TCP: TCPPath{Delay: 5 * time.Millisecond, Rate: 1e6}})
		data := randomBytes(100_000)
		p.c.Write(data)
		p.c.CloseWrite()
		if _, err := p.c.Write(data); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write after CloseWrite: %v", err)
		}
		if got, err := io.ReadAll(p.s); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read %d, %v", len(got), err)
		}
		p.s.Write(data)
		p.s.Close() // and the bytes still come
		if got, err := io.ReadAll(p.c); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read %d, %v", len(got), err)
		}
		p.c.Close()
		if _, err := p.c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
		if err := p.c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close again: %v", err)
		}

		c, s := p.dial(t)
		c.Write(data)
		time.Sleep(time.Second)
		s.Close() // nobody has read
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read: %v", err)
		}
		c, s = p.dial(t)
		s.Close()
		c.Write(data)
		time.Sleep(time.Second)
		if _, err := c.Write(data); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Write to who is closed: %v", err)
		}
		if n := p.ends(); n != 0 {
			t.Errorf("%d ends are still there", n)
		}
	})
}

// TestTCPConnecting: what can become of attempts to connect.
func TestTCPConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTCPPair(t, Options{TCP: TCPPath{Delay: 10 * time.Millisecond}})
		fails := func(want error, after time.Duration) {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			start := time.Now()
			_, err := p.a.DialTCP(ctx, p.listenAt)
			if d := time.Since(start); !errors.Is(err, want) || d != after {
				t.Errorf("%v after %v, want %v after %v", err, d, want, after)
			}
		}
		p.there.Update(func(p *TCPPath) { p.Refused = true })
		fails(syscall.ECONNREFUSED, 20*time.Millisecond)
		p.there.Update(func(p *TCPPath) { p.Refused = false; p.Blocked = true })
		fails(syscall.ETIMEDOUT, synTimeout)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := p.a.DialTCP(ctx, p.listenAt); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline: %v", err)
		}

		for _, l := range []*TCPLink{p.there, p.andBack} { // it comes back in between
			p.there.Update(func(p *TCPPath) { p.Blocked = false })
			l.Update(func(p *TCPPath) { p.Blocked = true })
			start := time.Now()
			time.AfterFunc(2*time.Second, func() { l.Update(func(p *TCPPath) { p.Blocked = false }) })
			c, _ := p.dial(t)
			if d := time.Since(start); d != 3*time.Second+30*time.Millisecond {
				t.Errorf("after %v", d)
			}
			c.Close()
		}
		p.both(func(p *TCPPath) { p.Stalled = true }) // connecting works, and that is all
		c, s := p.dial(t)
		c.Write([]byte("x"))
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		p.both(func(p *TCPPath) { p.Stalled = false })
		p.ln.Close()
		fails(syscall.ECONNREFUSED, 20*time.Millisecond)
		p.listenAt = netip.MustParseAddrPort("10.0.0.3:80") // nobody has it
		fails(syscall.ETIMEDOUT, synTimeout)
	})
}

// TestTCPBlocked: what faults swallow comes when they have ended, in either direction,
// by the timers of the sender.
func TestTCPBlocked(t *testing.T) {
	faults := map[string]func(p *TCPPath, on bool){
		"blocked": func(p *TCPPath, on bool) { p.Blocked = on },
		"stalled": func(p *TCPPath, on bool) { p.Stalled = on },
	}
	ways := map[string]func(p *tcpPair) []*TCPLink{
		"there": func(p *tcpPair) []*TCPLink { return []*TCPLink{p.there} },
		"back":  func(p *tcpPair) []*TCPLink { return []*TCPLink{p.andBack} },
		"both":  func(p *tcpPair) []*TCPLink { return []*TCPLink{p.there, p.andBack} },
	}
	for name, fault := range faults {
		for where, links := range ways {
			for _, d := range []time.Duration{time.Millisecond, 50 * time.Millisecond, 10 * time.Second} {
				t.Run(fmt.Sprintf("%s/%s/%v", name, where, d), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newTCPPair(t, Options{TCP: TCPPath{Delay: 10 * time.Millisecond, Rate: 1e6}})
						set := func(on bool) {
							for _, l := range links(p) {
								l.Update(func(p *TCPPath) { fault(p, on) })
							}
						}
						time.AfterFunc(time.Second, func() { set(true) })
						time.AfterFunc(time.Second+d, func() { set(false) })
						took := copied(t, p.c, p.s, randomBytes(2e6))
						between(t, "took", took, 2*time.Second, 2500*time.Millisecond+2*d)
						p.c.Close()
						p.s.Close()
						time.Sleep(time.Minute)
						if n := p.ends(); n != 0 {
							t.Errorf("%d ends are still there", n)
						}
					})
				})
			}
		}
	}
}

// TestTCPGivesUp: after a quarter of an hour without an answer it ends, and not before.
func TestTCPGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTCPPair(t, Options{TCP: TCPPath{Delay: 10 * time.Millisecond}})
		p.both(func(p *TCPPath) { p.Blocked = true })
		start := time.Now()
		p.c.Write([]byte("x"))
		if _, err := p.c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("Read: %v", err)
		}
		between(t, "after", time.Since(start), sendTimeout, sendTimeout+maxRTO)
	})
}

// TestTCPReset: by something in the middle, and by a host that was started again.
func TestTCPReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTCPPair(t, Options{TCP: TCPPath{Delay: 10 * time.Millisecond}})
		copied(t, p.c, p.s, []byte("x"))
		time.AfterFunc(time.Second, func() {
			if n := p.n.ResetTCP(p.a, p.b); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
		for _, c := range []net.Conn{p.c, p.s} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Read: %v", err)
			}
		}
		if _, err := p.c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Write: %v", err)
		}
		c, s := p.dial(t)
		if n := p.n.ForgetTCP(p.a, p.b); n != 1 {
			t.Errorf("%d connections", n)
		}
		c.Write([]byte("x"))
		s.Write([]byte("x"))
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		if c.Buffered() != 0 || c.Unsent() != 1 {
			t.Errorf("%d bytes came, %d wait", c.Buffered(), c.Unsent())
		}
		c, s = p.dial(t)
		copied(t, c, s, []byte("x"))
		p.b.Crash()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read: %v", err)
		}
		c.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		c.SetReadDeadline(time.Time{})
		start := time.Now()
		c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || time.Since(start) != 20*time.Millisecond {
			t.Errorf("Read: %v after %v", err, time.Since(start))
		}
	})
}

// TestTCPLoss: it costs time and no bytes.
func TestTCPLoss(t *testing.T) {
	Run(t, 3, func(t *testing.T, seed uint64) {
		p := newTCPPair(t, Options{Seed: seed, TCP: TCPPath{Delay: 10 * time.Millisecond, Loss: 0.05}})
		data := randomBytes(4 << 20)
		done := make(chan time.Duration)
		go func() { done <- copied(t, p.s, p.c, data) }()
		between(t, "took", copied(t, p.c, p.s, data), time.Second, 20*time.Second)
		<-done
		if s := p.there.Stats(); s.Late == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPolice: a policer drops what is too much, delays nothing, and permits a burst.
func TestPolice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Options{Path: Path{Delay: time.Millisecond, Rate: 100_000, Queue: 10_000, Police: true}})
		p.burst(t, 20, 1000, 0)
		got := p.finish()
		if len(got) != 10 || got[9].at != time.Millisecond {
			t.Errorf("%d packets, the last at %v", len(got), got[len(got)-1].at)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Options{Path: Path{Rate: 100_000, Queue: 10_000, Police: true}})
		p.burst(t, 4000, 500, time.Millisecond) // five times too much
		between(t, "arrived", len(p.finish()), 800, 840)
	})
}
