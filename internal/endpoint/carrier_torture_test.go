package endpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/reliable"
)

// A carrierTorture is a session that moves, with everything going wrong.
type carrierTorture struct {
	*movers
	t    *testing.T
	rnd  *rand.Rand
	c, s *Session
	udp  simnet.Path
	tcp  simnet.TCPPath
	log  []string
}

func (x *carrierTorture) did(format string, args ...any) {
	x.log = append(x.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

// TestCarrierTorture: carriers die, come back and change while streams and messages go both
// ways. All arrives once, in order, and nothing is left behind. Traps A1, A2.
func TestCarrierTorture(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 4
	}
	simnet.Run(t, seeds, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		x := &carrierTorture{
			t: t, rnd: rnd,
			udp: simnet.Path{Delay: time.Duration(1+rnd.IntN(40)) * time.Millisecond, Jitter: time.Millisecond, Loss: []float64{0, 0.02, 0.1}[rnd.IntN(3)], Duplicate: 0.02, Reorder: 0.02},
			tcp: simnet.TCPPath{Delay: time.Duration(1+rnd.IntN(40)) * time.Millisecond, Loss: []float64{0, 0.01}[rnd.IntN(2)]},
		}
		// Never without a rate: windows would grow to where only they are the limit, at gigabytes
		// a second of virtual time.
		x.udp.Rate, x.udp.Queue = 20<<20, 1<<20
		if rnd.IntN(2) == 0 {
			x.udp.Rate, x.udp.Queue = 1<<20, 1<<16
		}
		x.tcp.Rate = 20 << 20
		if rnd.IntN(2) == 0 {
			x.tcp.Rate = 1 << 20
		}
		small := rnd.IntN(3) == 0
		noStandby := rnd.IntN(4) == 0
		x.movers = newMovers(t, seed, x.udp, x.tcp, rnd.IntN(2) == 0, func(c *Config) {
			c.Idle = 2 * time.Minute
			c.Auto.NoStandby = noStandby
			if small {
				c.SendBuffer, c.ReceiveWindow = 3000, 5000
			}
			c.Retry = reliable.Retry{MaxRetries: 20, AckTimeout: 2 * time.Second, Delay: 100 * time.Millisecond, MaxDelay: 5 * time.Second}
		})
		if rnd.IntN(2) == 0 {
			x.c, x.s = connect(t, x.a, x.b)
		} else {
			x.c, x.s = x.dialStream(t)
		}
		defer func() {
			if t.Failed() {
				t.Log("\n", strings.Join(x.log, "\n"))
				t.Logf("client %+v", x.c.Stats())
				t.Logf("server %+v", x.s.Stats())
			}
		}()
		if rnd.IntN(2) == 0 {
			defer x.replay()()
		}
		if rnd.IntN(3) == 0 {
			x.cut()
		} else {
			x.whole()
		}
		x.heal()
		for _, s := range [...]*Session{x.c, x.s} {
			begin := time.Now()
			s.Close()
			if d := time.Since(begin); d > x.a.cfg.Linger+closeGrace {
				t.Errorf("Close took %v", d)
			}
		}
		settle(t, x.a, x.b)
	})
}

// fault does something bad, or good.
func (x *carrierTorture) fault(rnd *rand.Rand) {
	nodes := [2][2]simnet.Node{{x.ha, x.hb}, {x.hb, x.ha}}
	dir := nodes[rnd.IntN(2)]
	both := rnd.IntN(2) == 0
	links := func(f func(a, b simnet.Node)) {
		f(dir[0], dir[1])
		if both {
			f(dir[1], dir[0])
		}
	}
	e, who := x.c, "client"
	if rnd.IntN(2) == 0 {
		e, who = x.s, "server"
	}
	to := reliable.Carrier(rnd.IntN(2))
	switch k := rnd.IntN(14); k {
	case 0, 1:
		x.did("UDP down %v %v", dir, both)
		links(func(a, b simnet.Node) { x.net.Path(a, b).Update(func(p *simnet.Path) { p.Down = true }) })
	case 2:
		x.did("UDP bad %v", both)
		links(func(a, b simnet.Node) {
			x.net.Path(a, b).Update(func(p *simnet.Path) { p.Loss, p.Delay = 0.4, 200*time.Millisecond })
		})
	case 3:
		x.did("TCP blocked %v %v", dir, both)
		links(func(a, b simnet.Node) { x.net.TCP(a, b).Update(func(p *simnet.TCPPath) { p.Blocked = true }) })
	case 4:
		x.did("TCP stalled %v %v", dir, both)
		links(func(a, b simnet.Node) { x.net.TCP(a, b).Update(func(p *simnet.TCPPath) { p.Stalled = true }) })
	case 5:
		x.did("TCP refused")
		x.net.TCP(x.ha, x.hb).Update(func(p *simnet.TCPPath) { p.Refused = true })
	case 6, 7:
		x.did("TCP reset: %d", x.net.ResetTCP(x.ha, x.hb))
	case 8:
		x.did("TCP forgotten: %d", x.net.ForgetTCP(x.ha, x.hb))
	case 9, 10, 11:
		x.did("%s moves to %v", who, to)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.IntN(1000))*time.Millisecond)
		err := e.Move(ctx, to)
		cancel()
		x.did("moved: %v", err)
	case 12:
		if rnd.IntN(2) == 0 {
			x.did("%s pins %v", who, to)
			e.Pin(&to)
		} else {
			x.did("%s unpins", who)
			e.Pin(nil)
		}
	default:
		x.heal()
	}
}

// heal ends all faults.
func (x *carrierTorture) heal() {
	x.did("healed; on %v and %v", x.c.Carrier(), x.s.Carrier())
	x.net.Both(x.ha, x.hb, x.udp)
	x.net.BothTCP(x.ha, x.hb, x.tcp)
	x.c.Pin(nil)
	x.s.Pin(nil)
}

// whole has all arrive.
func (x *carrierTorture) whole() {
	t := x.t
	size := 200_000 + x.rnd.IntN(3_000_000)
	if x.a.cfg.ReceiveWindow > 0 {
		size = 100_000
	}
	var wg sync.WaitGroup
	dirs := [...][2]*Session{{x.c, x.s}, {x.s, x.c}}
	for i, d := range dirs {
		from, to := d[0], d[1]
		wr, rr := rand.New(rand.NewPCG(x.rnd.Uint64(), 2)), rand.New(rand.NewPCG(x.rnd.Uint64(), 3))
		slow := x.rnd.IntN(3) == 0
		sent := x.messages(&wg, i, from, to)
		wg.Go(func() {
			for n := 0; n < size; {
				b := make([]byte, min(1+wr.IntN(60000), size-n))
				for j := range b {
					b[j] = streamByte(i, n+j)
				}
				if _, err := from.Write(b); err != nil {
					t.Errorf("%d: Write at %d: %v", i, n, err)
					return
				}
				n += len(b)
				if wr.IntN(20) == 0 {
					time.Sleep(time.Duration(wr.IntN(1000)) * time.Millisecond)
				}
			}
			<-sent
			from.CloseWrite()
		})
		wg.Go(func() {
			buf := make([]byte, 50000)
			for n := 0; ; {
				k, err := to.Read(buf[:1+rr.IntN(len(buf)-1)])
				for j := range k {
					if buf[j] != streamByte(i, n+j) {
						t.Errorf("%d: wrong byte at %d", i, n+j)
						return
					}
				}
				n += k
				if err != nil {
					if err != io.EOF || n != size {
						t.Errorf("%d: Read at %d of %d: %v", i, n, size, err)
					}
					return
				}
				if slow && rr.IntN(20) == 0 {
					time.Sleep(time.Duration(rr.IntN(500)) * time.Millisecond)
				}
			}
		})
	}
	faults := rand.New(rand.NewPCG(x.rnd.Uint64(), 4))
	stop := make(chan struct{})
	var fw sync.WaitGroup
	fw.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(faults.IntN(1500)) * time.Millisecond):
			}
			if n%12 == 11 || n > 60 {
				x.heal()
				time.Sleep(10 * time.Second)
				continue
			}
			x.fault(faults)
		}
	})
	begin := time.Now()
	wg.Wait()
	close(stop)
	fw.Wait()
	if d := time.Since(begin); d > 20*time.Minute {
		t.Errorf("it took %v", d)
	}
}

// replay has somebody record datagrams, and send them again, from where they came or from
// elsewhere, until the function that it returns is called.
func (x *carrierTorture) replay() func() {
	rnd := rand.New(rand.NewPCG(x.rnd.Uint64(), 6))
	var mu sync.Mutex
	var seen []simnet.Event
	x.net.Observe(func(e simnet.Event) {
		mu.Lock()
		defer mu.Unlock()
		e.Data = bytes.Clone(e.Data)
		if len(seen) < 200 {
			seen = append(seen, e)
		} else {
			seen[rnd.IntN(len(seen))] = e
		}
	})
	stop := attack(x.t, 11*time.Millisecond, func() {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) == 0 {
			return
		}
		e := seen[rnd.IntN(len(seen))]
		from := e.From
		if rnd.IntN(4) == 0 {
			from = netip.AddrPortFrom(x.net.Host("10.0.0.9").Addr(), 1234)
		}
		x.net.Inject(from, e.To, bytes.Clone(e.Data))
	})
	return func() {
		stop()
		x.net.Observe(nil)
	}
}

func streamByte(dir, i int) byte { return byte(i ^ i>>8 ^ i>>16 ^ dir*77) }

// messages sends some that are to arrive once, and closes what it returns.
func (x *carrierTorture) messages(wg *sync.WaitGroup, dir int, from, to *Session) <-chan struct{} {
	done := make(chan struct{})
	const count = 40
	rnd := rand.New(rand.NewPCG(x.rnd.Uint64(), 5))
	sent := make(chan [count]bool, 1)
	wg.Go(func() {
		var ok [count]bool
		for i := range count {
			b := make([]byte, 8+rnd.IntN(20000))
			binary.BigEndian.PutUint64(b, uint64(i))
			err := from.SendMessage(context.Background(), &session.Message{Payload: b, ReqAck: true, Ordered: i%2 == 0, Repair: true})
			if err != nil && !errors.Is(err, session.ErrAckTimeout) {
				x.t.Errorf("%d: message %d: %v", dir, i, err)
			}
			ok[i] = err == nil
			time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
		}
		sent <- ok
		close(done)
	})
	got := make(chan [count]int, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		var n [count]int
		for {
			m, err := to.ReceiveMessage(ctx)
			if err != nil {
				got <- n
				return
			}
			n[binary.BigEndian.Uint64(m.Payload)]++
		}
	}()
	wg.Go(func() {
		ok := <-sent
		time.Sleep(time.Second)
		cancel()
		n := <-got
		for i := range count {
			if n[i] > 1 || ok[i] && n[i] != 1 {
				x.t.Errorf("%d: message %d came %d times; acknowledged %v", dir, i, n[i], ok[i])
			}
		}
	})
	return done
}

// cut ends the session at some moment, somehow.
func (x *carrierTorture) cut() {
	t, rnd := x.t, x.rnd
	var wg sync.WaitGroup
	for _, s := range [...]*Session{x.c, x.s} {
		wg.Go(func() {
			b := make([]byte, 10000)
			for {
				if _, err := s.Write(b); err != nil {
					return
				}
			}
		})
		wg.Go(func() { io.Copy(io.Discard, s) })
		wg.Go(func() {
			for s.SendMessage(context.Background(), &session.Message{Payload: []byte("x"), ReqAck: true}) == nil {
				time.Sleep(30 * time.Millisecond)
			}
		})
		wg.Go(func() {
			for {
				if _, err := s.ReceiveMessage(context.Background()); err != nil {
					return
				}
			}
		})
	}
	faults := rand.New(rand.NewPCG(rnd.Uint64(), 4))
	for range rnd.IntN(12) {
		time.Sleep(time.Duration(faults.IntN(1000)) * time.Millisecond)
		x.fault(faults)
	}
	time.Sleep(time.Duration(faults.IntN(int(300 * time.Millisecond))))
	s, e := x.c, x.a
	if rnd.IntN(2) == 0 {
		s, e = x.s, x.b
	}
	if rnd.IntN(4) == 0 { // a move waits
		to := reliable.Carrier(rnd.IntN(2))
		wg.Go(func() { x.c.Move(context.Background(), to) })
		wg.Go(func() { x.s.Move(context.Background(), to) })
	}
	begin := time.Now()
	switch how := rnd.IntN(4); how {
	case 0, 1:
		x.did("close")
		if err := s.Close(); err != nil && !errors.Is(err, session.ErrUnsent) && !errors.Is(err, net.ErrClosed) {
			t.Error("Close:", err)
		}
	case 2:
		x.did("close with error")
		s.CloseWithError(framing.CodeInternal, "why not")
	default:
		x.did("endpoint closed")
		e.Close()
	}
	if d := time.Since(begin); d > x.a.cfg.Linger+closeGrace {
		t.Errorf("Close took %v", d)
	}
	wg.Wait() // the other end has to learn of it, or gives up, when what TCP still has has come
	held := time.Duration(float64(16<<20) / float64(x.tcp.Rate) * float64(time.Second))
	if d := time.Since(begin); d > x.a.cfg.Idle+10*time.Second+held {
		t.Errorf("it took %v", d)
	}
}
