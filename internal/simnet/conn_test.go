package simnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestCut: a packet larger than the buffer is cut, without an error, as UDP sockets of
// Go have it; empty packets are packets.
func TestCut(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		n := New(t, o)
		a, b := n.Host("10.0.0.1").ListenPacket(1), n.Host("10.0.0.2").ListenPacket(2)
		buf := []byte("hello, world")
		for _, s := range []string{string(buf), "", "x"} {
			if k, err := a.WriteTo([]byte(s), b.LocalAddr()); k != len(s) || err != nil {
				t.Fatalf("wrote %d, %v", k, err)
			}
		}
		for _, want := range []string{"hello", "", "x"} {
			k, from, err := b.ReadFrom(buf[:5])
			if string(buf[:k]) != want || err != nil {
				t.Errorf("read %q, %v", buf[:k], err)
			}
			if u, ok := from.(*net.UDPAddr); !ok || u.AddrPort() != netip.MustParseAddrPort("10.0.0.1:1") {
				t.Errorf("from %T %v", from, from)
			}
		}
	})
}

// TestCopies: neither side sees the buffer of the other, nor two readers the same address.
func TestCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Options{Seed: 1, Path: Path{Delay: time.Millisecond, Duplicate: 1}})
		buf := []byte("one")
		p.a.WriteTo(buf, p.b.LocalAddr())
		copy(buf, "two")
		p.a.WriteTo(buf, p.b.LocalAddr())
		copy(buf, "xxx")
		got := p.finish()
		if s := fmt.Sprintf("%s %s %s %s", got[0].data, got[1].data, got[2].data, got[3].data); s != "one one two two" {
			t.Errorf("got %s", s)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Options{})
		a, b := n.Host("10.0.0.1").ListenPacket(1), n.Host("10.0.0.2").ListenPacket(2)
		a.WriteTo(nil, b.LocalAddr())
		a.WriteTo(nil, b.LocalAddr())
		_, first, _ := b.ReadFrom(nil)
		first.(*net.UDPAddr).IP[0] = 99
		if _, second, _ := b.ReadFrom(nil); second.String() != "10.0.0.1:1" {
			t.Errorf("from %v", second)
		}
	})
}

// TestReadDeadline: it ends reads that wait already, holds until it is set again, and
// comes before packets that wait.
func TestReadDeadline(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		n := New(t, o)
		a, b := n.Host("10.0.0.1").ListenPacket(1), n.Host("10.0.0.2").ListenPacket(2)
		read := func(after time.Duration) {
			t.Helper()
			start := time.Now()
			_, _, err := b.ReadFrom(nil)
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Fatalf("ReadFrom: %v", err)
			}
			if d := time.Since(start); d != after {
				t.Fatalf("after %v, want %v", d, after)
			}
		}
		b.SetReadDeadline(time.Now().Add(time.Second))
		read(time.Second)
		read(0)
		b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { b.SetReadDeadline(time.Now().Add(-1)) })
		read(time.Minute)
		b.SetReadDeadline(time.Now().Add(time.Hour))
		time.AfterFunc(time.Second, func() { b.SetDeadline(time.Now().Add(time.Second)) })
		read(2 * time.Second)

		a.WriteTo([]byte("x"), b.LocalAddr())
		synctest.Wait()
		read(0)
		if _, err := b.WriteTo(nil, a.LocalAddr()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("WriteTo: %v", err)
		}
		b.SetDeadline(time.Time{})
		if k, _, err := b.ReadFrom(make([]byte, 9)); k != 1 || err != nil {
			t.Errorf("ReadFrom: %d, %v", k, err)
		}
	})
}

// TestClose: it ends waiting reads; afterwards everything fails with net.ErrClosed, and
// the port is free; what was sent before arrives.
func TestClose(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		o.Path = Path{Delay: time.Second}
		n := New(t, o)
		a, b := n.Host("10.0.0.1").ListenPacket(1), n.Host("10.0.0.2").ListenPacket(2)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, err := a.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
					t.Errorf("ReadFrom: %v", err)
				}
			})
		}
		synctest.Wait()
		if _, err := n.Host("10.0.0.1").Listen(1); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("port in use: %v", err)
		}
		a.WriteTo([]byte("bye"), b.LocalAddr())
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		_, _, err1 := a.ReadFrom(nil)
		_, err2 := a.WriteTo(nil, b.LocalAddr())
		for i, err := range []error{err1, err2, a.Close(), a.SetDeadline(time.Time{}), a.SetReadDeadline(time.Time{}), a.SetWriteDeadline(time.Time{})} {
			var op *net.OpError
			if !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
				t.Errorf("%d: %v", i, err)
			}
		}
		buf := make([]byte, 9)
		if k, _, err := b.ReadFrom(buf); string(buf[:k]) != "bye" || err != nil {
			t.Errorf("%q, %v", buf[:k], err)
		}
		b.WriteTo(nil, a.LocalAddr()) // nobody there
		time.Sleep(2 * time.Second)
		synctest.Wait()
		again := n.Host("10.0.0.1").ListenPacket(1)
		b.WriteTo([]byte("again"), a.LocalAddr())
		if k, _, err := again.ReadFrom(buf); k != 5 || err != nil {
			t.Errorf("%q, %v", buf[:k], err)
		}
		if s := n.Stats(); s != (NetStats{NoSocket: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// TestNetClose: closing the network ends everything, with packets on their way.
func TestNetClose(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		o.Path = Path{Delay: time.Second}
		n := New(t, o)
		a, b := n.Host("10.0.0.1").ListenPacket(1), n.Host("10.0.0.2").ListenPacket(2)
		done := make(chan error)
		go func() {
			_, _, err := b.ReadFrom(nil)
			done <- err
		}()
		a.WriteTo(nil, b.LocalAddr())
		a.SetReadDeadline(time.Now().Add(time.Hour))
		n.Close()
		n.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := n.Host("10.0.0.1").Listen(0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Listen: %v", err)
		}
	})
}

func TestWriteErrors(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		n := New(t, o)
		a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
		pa, pb := a.ListenPacket(0), b.ListenPacket(0)
		n.Path(a, b).Set(Path{MTU: 1500, MTUError: true})
		n.Path(b, a).Set(Path{MTU: 1280})
		for _, tt := range []struct {
			size int
			from *Conn
			to   net.Addr
			want error
		}{
			{1472, pa, pb.LocalAddr(), nil},
			{1473, pa, pb.LocalAddr(), syscall.EMSGSIZE},
			{1252, pb, pa.LocalAddr(), nil},
			{1253, pb, pa.LocalAddr(), nil}, // vanishes
			{65507, pb, pb.LocalAddr(), nil},
			{65508, pb, pb.LocalAddr(), syscall.EMSGSIZE},
			{10, pa, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1}, syscall.EINVAL},
			{10, pa, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2)}, syscall.EINVAL},
			{10, pa, &net.UDPAddr{Port: 1}, syscall.EINVAL},
			{10, pa, &net.UDPAddr{IP: net.IPv6loopback, Port: 1}, syscall.EAFNOSUPPORT},
			{10, pa, &net.UDPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 1}, nil}, // nobody there
		} {
			_, err := tt.from.WriteTo(make([]byte, tt.size), tt.to)
			if !errors.Is(err, tt.want) {
				t.Errorf("%d bytes to %v: %v", tt.size, tt.to, err)
			}
		}
		synctest.Wait()
		if s := n.Path(a, b).Stats(); s.TooLarge != 1 || s.Arrived != 1 {
			t.Errorf("%+v", s)
		}
		if s := n.Path(b, a).Stats(); s.TooLarge != 1 || s.Arrived != 1 {
			t.Errorf("%+v", s)
		}
		if s := n.Stats(); s.NoHost != 1 || pb.Buffered() != 2 {
			t.Errorf("%+v, %d in the buffer", s, pb.Buffered())
		}
	})
}

// TestOverflow: the receive buffer has a bound, for empty packets, too.
func TestOverflow(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		o.RecvBuffer = 10 * (1000 + packetCost)
		n := New(t, o)
		a, b := n.Host("10.0.0.1").ListenPacket(0), n.Host("10.0.0.2").ListenPacket(0)
		for range 25 {
			a.WriteTo(make([]byte, 1000), b.LocalAddr())
		}
		synctest.Wait()
		if s := n.Stats(); s.Overflow != 15 || b.Buffered() != 10 {
			t.Errorf("%+v, %d in the buffer", s, b.Buffered())
		}
		for range 10 {
			b.ReadFrom(nil)
		}
		for range 1000 {
			a.WriteTo(nil, b.LocalAddr())
		}
		synctest.Wait()
		if got, want := b.Buffered(), o.RecvBuffer/packetCost; got != want {
			t.Errorf("%d empty packets, want %d", got, want)
		}
	})
}

// TestManyAtOnce: more packets than a queue of vnet holds arrive at the same instant.
func TestManyAtOnce(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		o.Path = Path{Delay: time.Second}
		p := newPair(t, o)
		p.burst(t, 5000, 100, 0)
		for i, a := range p.finish() {
			if a.number() != i {
				t.Fatalf("packet %d as %d", a.number(), i)
			}
		}
		if len(p.arrivals) != 5000 {
			t.Errorf("%d arrived", len(p.arrivals))
		}
	})
}

func TestIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Options{Path: Path{MTU: 1280}})
		a, b := n.Host("fd00::1").ListenPacket(0), n.Host("fd00::2").ListenPacket(0)
		a.WriteTo(make([]byte, 1232), b.LocalAddr())
		a.WriteTo(make([]byte, 1233), b.LocalAddr())
		if _, from, err := b.ReadFrom(nil); from.String() != "[fd00::1]:49152" || err != nil || b.Buffered() != 0 {
			t.Errorf("from %v, %v", from, err)
		}
	})
}

// TestMapped: ::ffff:10.0.0.2 is 10.0.0.2 (trap U8).
func TestMapped(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		n := New(t, o)
		a, b := n.Host("::ffff:10.0.0.1").ListenPacket(5), n.Host("10.0.0.2").ListenPacket(7)
		a.WriteTo(nil, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2).To16(), Port: 7})
		if _, from, err := b.ReadFrom(nil); from.String() != "10.0.0.1:5" || err != nil {
			t.Errorf("from %v, %v", from, err)
		}
	})
}

// TestRebind: the others see a new address and answer there; the old one is dead.
func TestRebind(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		n := New(t, o)
		a, b := n.Host("10.0.0.1").ListenPacket(5), n.Host("10.0.0.2").ListenPacket(7)
		if err := a.Rebind(n.Host("10.0.0.3"), 6); err != nil {
			t.Fatal(err)
		}
		a.WriteTo(nil, b.LocalAddr())
		_, from, err := b.ReadFrom(nil)
		if from.String() != "10.0.0.3:6" || err != nil || a.LocalAddr().String() != "10.0.0.1:5" {
			t.Errorf("from %v, %v, local %v", from, err, a.LocalAddr())
		}
		b.WriteTo([]byte("old"), a.LocalAddr())
		b.WriteTo([]byte("new"), from)
		buf := make([]byte, 9)
		if k, _, err := a.ReadFrom(buf); string(buf[:k]) != "new" || err != nil {
			t.Errorf("%q, %v", buf[:k], err)
		}
		synctest.Wait()
		if n.Stats().NoSocket != 1 {
			t.Errorf("%+v", n.Stats())
		}
		n.Host("10.0.0.1").ListenPacket(5).Close()
		a.Close()
		n.Host("10.0.0.3").ListenPacket(6).Close()
		if err := a.Rebind(n.Host("10.0.0.1"), 5); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Rebind after Close: %v", err)
		}
		n.Host("10.0.0.1").ListenPacket(5)
	})
}

func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Options{Seed: 1})
		send := func(sizes ...int) string {
			for _, s := range sizes {
				p.a.WriteTo(make([]byte, s), p.b.LocalAddr())
			}
			synctest.Wait()
			var out []string
			for _, a := range p.arrivals {
				out = append(out, fmt.Sprint(len(a.data)))
			}
			p.arrivals = nil
			return strings.Join(out, " ")
		}
		for _, tt := range []struct {
			f    Filter
			want string
		}{
			{DropNth(0, 2), "20 40"},
			{DropAbove(30), "10 20 30"},
			{DropBelow(30), "30 40"},
			{nil, "10 20 30 40"},
			{func(n int, b []byte) bool { return n%4 == 1 }, "10 30 40"},
			// A filter may change the path.
			{func(n int, b []byte) bool { p.ab.Update(func(p *Path) { p.Down = n%4 > 1 }); return false }, "10 20"},
		} {
			p.ab.count = 0
			p.ab.Filter(tt.f)
			if got := send(10, 20, 30, 40); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		}
		if s := p.ab.Stats(); s.Filtered != 2+1+2+0+1 || s.Down != 2 || s.Sent != 24 {
			t.Errorf("%+v", s)
		}
		p.ab.Set(Path{})
		p.ab.Filter(func(_ int, b []byte) bool { b[0] = 'X'; return false })
		sent := []byte("abc")
		p.a.WriteTo(sent, p.b.LocalAddr())
		if got := p.finish(); string(got[0].data) != "Xbc" || string(sent) != "abc" {
			t.Errorf("got %q, sent %q", got[0].data, sent)
		}
	})
}

func TestObserve(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		o.Path = Path{Delay: time.Second}
		p := newPair(t, o)
		var seen []string
		p.n.Observe(func(e Event) {
			if len(p.arrivals) > 0 {
				t.Error("seen after its arrival")
			}
			seen = append(seen, fmt.Sprintf("%v %v>%v %d %q %v", e.At, e.From, e.To, e.N, e.Data, e.Fate))
			p.ab.Update(func(p *Path) { p.Down = true }) // for the next
		})
		p.a.WriteTo([]byte("x"), p.b.LocalAddr())
		time.Sleep(time.Millisecond)
		p.a.WriteTo([]byte("y"), p.b.LocalAddr())
		p.n.Observe(nil)
		p.a.WriteTo([]byte("z"), p.b.LocalAddr())
		want := `0s 10.0.0.1:49152>10.0.0.2:9 0 "x" ok; 1ms 10.0.0.1:49152>10.0.0.2:9 1 "y" down`
		if got := strings.Join(seen, "; "); got != want {
			t.Errorf("seen %s", got)
		}
		if Fate(0).Arrives() == Down.Arrives() || (Lost|Held).String() != "lost, held" {
			t.Error("Fate")
		}
	})
}

// TestInject: someone off the path sends with a wrong address.
func TestInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Options{Path: Path{Down: true}})
		a := n.Host("10.0.0.1").ListenPacket(5)
		from, to := netip.MustParseAddrPort("10.0.0.9:1"), netip.MustParseAddrPort("10.0.0.1:5")
		if !n.Inject(from, to, []byte("x")) || n.Inject(from, from, nil) {
			t.Error("Inject")
		}
		if k, got, err := a.ReadFrom(make([]byte, 9)); k != 1 || got.String() != from.String() || err != nil {
			t.Errorf("%d from %v, %v", k, got, err)
		}
	})
}

// TestPorts: a free port is not given out again at once.
func TestPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(t, Options{})
		h := n.Host("10.0.0.1")
		first := h.ListenPacket(0)
		first.Close()
		h.next = 65535
		last, taken := h.ListenPacket(0), h.ListenPacket(firstEphemeral)
		next := h.ListenPacket(0)
		if last.local.Port() != 65535 || next.local.Port() != firstEphemeral+1 {
			t.Errorf("%v %v %v", last.local, taken.local, next.local)
		}
		if h != n.Host("10.0.0.1") || h.Addr() != first.local.Addr() {
			t.Error("another host of the same address")
		}
	})
}

// TestSeeds: without a seed it comes from the name of the test; VSTP_SEED chooses one
// of Run's.
func TestSeeds(t *testing.T) {
	if a, b := New(t, Options{}), New(t, Options{}); a.Seed() != b.Seed() || a.Seed() == 0 {
		t.Error("seed of the name")
	}
	run := func() (seeds []uint64) {
		Run(t, 3, func(t *testing.T, seed uint64) { seeds = append(seeds, seed) })
		return seeds
	}
	t.Setenv("VSTP_SEED", "")
	t.Setenv("VSTP_SEEDS", "")
	if s := run(); fmt.Sprint(s) != "[1 2 3]" {
		t.Error(s)
	}
	t.Setenv("VSTP_SEEDS", "2")
	if s := run(); fmt.Sprint(s) != "[1 2]" {
		t.Error(s)
	}
	t.Setenv("VSTP_SEED", "42")
	if s := run(); fmt.Sprint(s) != "[42]" {
		t.Error(s)
	}
}
