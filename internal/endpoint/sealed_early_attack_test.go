package endpoint

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// TestEarlyCapped: a server sends no more than three times what has come from a client
// that has not shown its address, and waits for it in peace.
func TestEarlyCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, nil)
		d.a.ownTokens.forget() // one would show the address
		there, back := d.net.Path(d.ha, d.hb), d.net.Path(d.hb, d.ha)
		var first time.Time
		there.Filter(func(int, []byte) bool {
			if first.IsZero() {
				first = time.Now()
			}
			return time.Since(first) > 10*time.Millisecond // what comes first is all that comes
		})
		there.ResetStats()
		back.ResetStats()
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("request"))
		s, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.SetWriteDeadline(time.Now().Add(5 * time.Second))
		go s.Write(pattern(1 << 20))
		soon := 0
		for range 1000 {
			time.Sleep(time.Millisecond)
			s.mu.Lock()
			if !s.armed.IsZero() && time.Until(s.armed) < time.Millisecond {
				soon++
			}
			s.mu.Unlock()
		}
		if soon > 100 {
			t.Errorf("the timer fires all the time: %d", soon)
		}
		in, out := there.Stats().ArrivedSize, back.Stats().SentBytes
		if out > 3*in {
			t.Errorf("%d bytes for %d", out, in)
		}
		there.Filter(nil)
		s.SetWriteDeadline(time.Time{})
		got := make([]byte, 10000)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, pattern(len(got))) {
			t.Error("when it has:", err)
		}
		c.Close()
		s.Close()
		d.b.CloseListen()
		settle(t, d.a, d.b)
	})
}

// TestEarlyCappedClose: also if it has to say that it is over.
func TestEarlyCappedClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, nil)
		start := time.Now()
		d.net.Path(d.ha, d.hb).Filter(func(int, []byte) bool { return time.Since(start) > 10*time.Millisecond })
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("request"))
		s, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.SetWriteDeadline(time.Now().Add(time.Second))
		s.Write(pattern(1 << 20))
		s.CloseWithError(framing.CodeApplication, "full")
		soon := 0
		for range 500 {
			time.Sleep(time.Millisecond)
			s.mu.Lock()
			if !s.removed && !s.armed.IsZero() && time.Until(s.armed) < time.Millisecond {
				soon++
			}
			s.mu.Unlock()
		}
		if soon > 50 {
			t.Errorf("the timer fires all the time: %d", soon)
		}
		c.Close()
		d.b.CloseListen()
		settle(t, d.a, d.b)
	})
}

// TestEarlyEnded: an association that ended before the client's Finished had come does not
// begin again with that.
func TestEarlyEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, nil)
		var held [][]byte
		d.net.Path(d.ha, d.hb).Filter(func(_ int, b []byte) bool {
			_, _, kind := handshake.RouteID(b)
			if kind == handshake.KindSealedHello && len(held) < 10 {
				held = append(held, bytes.Clone(b))
			}
			return kind == handshake.KindSealedHello
		})
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("request"))
		s, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.CloseWithError(framing.CodeApplication, "full")
		time.Sleep(7 * time.Second)
		before := d.b.Stats().Associations
		for _, b := range held {
			d.net.Inject(addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort, b)
		}
		time.Sleep(100 * time.Millisecond)
		if n := d.b.Stats().Associations; before != 0 || n != 0 || len(held) == 0 {
			t.Error(before, n, len(held))
		}
		c.Close()
		d.b.CloseListen()
		settle(t, d.a, d.b)
	})
}

// TestEarlyEachDatagram is TestSealedEachDatagram with 0-RTT.
func TestEarlyEachDatagram(t *testing.T) {
	const delay = 20 * time.Millisecond
	for _, refuse := range []bool{false, true} {
		run := func(t *testing.T, toServer bool, n int, lost bool, again time.Duration) (took time.Duration, sent [2]int) {
			synctest.Test(t, func(t *testing.T) {
				d := earlyDuo(t, simnet.Path{Delay: delay}, nil)
				if refuse {
					d.b.mu.Lock()
					d.b.replays.now, d.b.replays.since = nil, time.Time{}
					d.b.mu.Unlock()
					cfg := *d.b.cfg
					cfg.EarlyData = false
					d.b.cfg = &cfg
				}
				from, to := addrOf(t, d.a).AddrPort, addrOf(t, d.b).AddrPort
				there, back := d.net.Path(d.ha, d.hb), d.net.Path(d.hb, d.ha)
				there.ResetStats()
				back.ResetStats()
				path := there
				if !toServer {
					from, to, path = to, from, back
				}
				i := -1
				path.Filter(func(_ int, b []byte) bool {
					if i++; i != n {
						return false
					}
					if again > 0 {
						b := bytes.Clone(b)
						time.AfterFunc(again, func() { d.net.Inject(from, to, b) })
					}
					return lost
				})
				_, _, took = askAndAnswer(t, d)
				sent = [2]int{int(there.Stats().Sent), int(back.Stats().Sent)}
				time.Sleep(30 * time.Second)
				d.b.CloseListen()
				settle(t, d.a, d.b)
			})
			return took, sent
		}
		clean, sent := run(t, true, -1, false, 0)
		if limit := 4 * delay; clean > limit {
			t.Errorf("refused %v: %v", refuse, clean)
		}
		for _, f := range []struct {
			name  string
			lost  bool
			again time.Duration
			limit time.Duration
		}{
			{"lost", true, 0, 1500 * time.Millisecond},
			{"twice, later", false, 10 * delay, 1500 * time.Millisecond},
			{"behind the next", true, delay + time.Nanosecond, 1500 * time.Millisecond},
			{"last of all", true, 20 * time.Second, 1500 * time.Millisecond},
		} {
			for side := range sent {
				for n := range sent[side] {
					t.Run(fmt.Sprintf("refused %v/%s/%d.%d", refuse, f.name, side, n), func(t *testing.T) {
						if took, _ := run(t, side == 0, n, f.lost, f.again); took > clean+f.limit {
							t.Errorf("it takes %v, and without that %v", took, clean)
						}
					})
				}
			}
		}
	}
}

// TestEarlyOnTheSide: replays from everywhere, at once and later.
func TestEarlyOnTheSide(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, nil)
			var count atomic.Uint64
			d.net.Observe(func(e simnet.Event) {
				n := int(count.Add(1))
				d.net.Inject(spoofed(n), e.To, e.Data)
				if (uint64(n)+seed)%2 == 0 {
					d.net.Inject(e.From, e.To, e.Data)
				}
			})
			dialed, all := work(t, d, 50000)
			d.net.Observe(nil)
			if dialed > 0 || all > time.Second {
				t.Error(dialed, all)
			}
			time.Sleep(20 * time.Second)
			if n := d.b.Stats().Associations; n > 0 {
				t.Error(n, "associations")
			}
			d.b.CloseListen()
			settle(t, d.a, d.b)
		})
	}
}

// TestEarlyCloseAnytime is TestSealedCloseAnytime with 0-RTT.
func TestEarlyCloseAnytime(t *testing.T) {
	const delay = 20 * time.Millisecond
	for _, who := range []string{"client", "server", "both", "client's session", "server's session"} {
		for at := time.Duration(0); at <= 5*delay; at += delay / 2 {
			for _, after := range []time.Duration{0, 1} {
				synctest.Test(t, func(t *testing.T) {
					d := earlyDuo(t, simnet.Path{Delay: delay}, nil)
					c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
					if err != nil {
						t.Fatal(err)
					}
					c.Write([]byte("request"))
					var all sync.WaitGroup
					all.Go(func() {
						s, err := d.b.Accept(t.Context())
						if err != nil {
							return
						}
						if who == "server's session" {
							time.Sleep(at)
							s.CloseWithError(framing.CodeApplication, "full")
							return
						}
						s.Write(pattern(10000))
						s.Close()
					})
					all.Go(func() {
						io.ReadAll(c)
						c.Close()
					})
					time.Sleep(at + after)
					switch who {
					case "client":
						all.Go(func() { d.a.Close() })
					case "server":
						all.Go(func() { d.b.Close() })
					case "both":
						all.Go(func() { d.a.Close() })
						all.Go(func() { d.b.Close() })
					case "client's session":
						all.Go(func() { c.Close() })
					}
					time.Sleep(40 * time.Second)
					d.b.CloseListen()
					all.Wait()
					settle(t, d.a, d.b)
				})
			}
		}
	}
}

// TestSealedMessageEachDatagram: a message with repair arrives once, whichever datagram is
// lost while its association begins, with 0-RTT and without.
func TestSealedMessageEachDatagram(t *testing.T) {
	for _, early := range []bool{false, true} {
		run := func(side, n int) (sent [2]int) {
			synctest.Test(t, func(t *testing.T) {
				set := func(c, s *Config) { c.EarlyData, s.EarlyData = early, early }
				d := earlyDuo(t, simnet.Path{Delay: 20 * time.Millisecond}, set)
				there, back := d.net.Path(d.ha, d.hb), d.net.Path(d.hb, d.ha)
				there.ResetStats()
				back.ResetStats()
				i := 0
				[]*simnet.Link{there, back}[side].Filter(func(int, []byte) bool { i++; return i == n+1 })
				var got []string
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						m, _, err := d.b.ReceiveMessage(ctx)
						if err != nil {
							return
						}
						got = append(got, string(m.Payload))
					}
				}()
				for _, text := range []string{"one", "two", "three"} {
					send(t, d.a, addrOf(t, d.b), &session.Message{Payload: []byte(text), Repair: true, Ordered: true})
				}
				<-done
				if fmt.Sprint(got) != "[one two three]" {
					t.Errorf("early %v, side %d, datagram %d: %v", early, side, n, got)
				}
				sent = [2]int{int(there.Stats().Sent), int(back.Stats().Sent)}
				d.b.CloseListen()
			})
			return sent
		}
		sent := run(0, -1)
		for side := range sent {
			for n := range sent[side] {
				run(side, n)
			}
		}
	}
}
