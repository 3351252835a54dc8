package endpoint

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// ends waits for the end of the goroutine that reads the socket of e.
func ends(t *testing.T, e *Endpoint, within time.Duration) {
	t.Helper()
	start := time.Now()
	select {
	case <-e.done:
		t.Logf("after %v", time.Since(start))
	case <-time.After(within):
		t.Errorf("after %v the socket is still read; %d sessions", within, e.Stats().Associations)
	}
}

// slowPath has a probe timeout of seconds.
var slowPath = simnet.Path{Delay: 400 * time.Millisecond}

// TestSocketGoesInTime: whatever way the last sessions of a socket end, and whatever
// becomes of their peers, the socket is closed within Config.Linger and a little. "A dead
// peer never hangs Close". Trap C2, C7.
func TestSocketGoesInTime(t *testing.T) {
	type ways struct {
		d    *duo
		c, s *Session // a stream from a to b
	}
	down := func(d *duo) { d.net.Both(d.ha, d.hb, simnet.Path{Down: true}) }
	// The socket is that of b. Each case has b go, and may wait.
	for name, f := range map[string]func(t *testing.T, w *ways){
		"closed, with a peer that has gone": func(t *testing.T, w *ways) {
			down(w.d)
			w.d.b.CloseWhenIdle()
			w.s.Write(pattern(1000))
			go w.s.Close()
		},
		"closed, and then the peer has gone": func(t *testing.T, w *ways) {
			w.d.b.CloseWhenIdle()
			w.s.Write(pattern(1 << 20))
			go w.s.Close()
			time.Sleep(time.Second)
			down(w.d)
		},
		"closed with an error that does not arrive": func(t *testing.T, w *ways) {
			down(w.d)
			w.d.b.CloseWhenIdle()
			w.s.CloseWithError(framing.CodeInternal, "")
		},
		"closed, and no answer comes": func(t *testing.T, w *ways) {
			w.d.net.Path(w.d.ha, w.d.hb).Update(func(p *simnet.Path) { p.Down = true })
			w.d.b.CloseWhenIdle()
			go w.s.Close()
		},
		"closed after the peer": func(t *testing.T, w *ways) {
			w.d.b.CloseWhenIdle()
			w.c.Close()
			io.Copy(io.Discard, w.s)
			down(w.d)
			go w.s.Close()
		},
		"closed after the peer has, unnoticed": func(t *testing.T, w *ways) {
			w.d.b.CloseWhenIdle()
			w.d.net.Path(w.d.ha, w.d.hb).Update(func(p *simnet.Path) { p.Down = true })
			w.c.Close()
			go w.s.Close()
		},
		"both closed at once": func(t *testing.T, w *ways) {
			w.d.b.CloseWhenIdle()
			go w.c.Close()
			go w.s.Close()
		},
		"a reader that does not read": func(t *testing.T, w *ways) {
			w.d.b.CloseWhenIdle()
			go w.s.Write(pattern(16 << 20))
			time.Sleep(10 * time.Second)
			go w.s.Close()
		},
		"closed while it writes": func(t *testing.T, w *ways) {
			w.d.b.CloseWhenIdle()
			go io.Copy(io.Discard, w.c)
			go w.s.Write(pattern(64 << 20))
			time.Sleep(5 * time.Second)
			down(w.d)
			go w.s.Close()
		},
		"not accepted": func(t *testing.T, w *ways) {
			w.s.Close()
			for range 3 {
				if _, err := w.d.a.DialStream(t.Context(), addrOf(t, w.d.b)); err != nil {
					t.Error(err)
				}
			}
			down(w.d)
			w.d.b.CloseWhenIdle()
		},
		"welcomed, and never heard of": func(t *testing.T, w *ways) {
			w.s.Close()
			wi := &wire{w.d.ha.ListenPacket(0), w.d.b.LocalAddr()}
			defer wi.pc.Close()
			m := newClientMachine(t, 7, true)
			wi.cookie(t, m)
			for _, b := range m.AppendHello(nil) {
				wi.send(b)
			}
			time.Sleep(2 * time.Second)
			down(w.d)
			w.d.b.CloseWhenIdle()
		},
		"messages that nobody takes": func(t *testing.T, w *ways) {
			w.s.Close()
			send(t, w.d.b, addrOf(t, w.d.a), &session.Message{ReqAck: true})
			down(w.d)
			for range 10 {
				send(t, w.d.b, addrOf(t, w.d.a), &session.Message{Payload: pattern(5000), Repair: true})
			}
			w.d.b.CloseWhenIdle()
		},
		"messages to nobody": func(t *testing.T, w *ways) {
			w.s.Close()
			down(w.d)
			send(t, w.d.b, addrOf(t, w.d.a), &session.Message{Repair: true})
			w.d.b.CloseWhenIdle()
		},
		"messages of an association that was idle": func(t *testing.T, w *ways) {
			w.s.Close()
			send(t, w.d.b, addrOf(t, w.d.a), &session.Message{ReqAck: true})
			down(w.d)
			send(t, w.d.b, addrOf(t, w.d.a), &session.Message{Repair: true})
			time.Sleep(sharedIdle + time.Second) // it ends, and does not come to an end
			w.d.b.CloseWhenIdle()
		},
		"a dial": func(t *testing.T, w *ways) {
			w.s.Close()
			down(w.d)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go w.d.b.DialStream(ctx, addrOf(t, w.d.a))
			time.Sleep(100 * time.Millisecond)
			w.d.b.CloseWhenIdle()
		},
		"Close": func(t *testing.T, w *ways) {
			send(t, w.d.b, addrOf(t, w.d.a), &session.Message{ReqAck: true})
			down(w.d)
			w.s.Write(pattern(1000))
			send(t, w.d.b, addrOf(t, w.d.a), &session.Message{Repair: true})
			go w.d.b.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []simnet.Path{clean, slowPath} {
				for _, linger := range []time.Duration{0, 2 * time.Second, 5 * time.Second} {
					synctest.Test(t, func(t *testing.T) {
						cfg := testConfig()
						cfg.Linger = linger
						cfg.Idle = 5 * time.Minute
						d := newDuo(t, 1, path, testConfig(), cfg)
						w := &ways{d: d}
						w.c, w.s = connect(t, d.a, d.b)
						w.s.Ping(t.Context())
						f(t, w)
						ends(t, d.b, linger+closeGrace+time.Millisecond)
					})
				}
			}
		})
	}
}

// TestRoleAfterEnd: the goroutine in the background finds the socket closed although a
// call has found it first, in the moment in which that goroutine read nothing.
func TestRoleAfterEnd(t *testing.T) {
	for _, armed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := &readRole{possible: true, resume: make(chan struct{}, 1)}
			if armed {
				o.take()
				o.release()
			}
			if !o.take() {
				t.Fatal("somebody has it")
			}
			o.fail()
			o.release()
			done := make(chan struct{})
			go func() {
				o.takeBackground(true)
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(time.Second):
				t.Error("it rests for ever")
				o.mu.Lock()
				o.wakeUp()
				o.mu.Unlock()
			}
		})
	}
}

// TestCloseWaitsForClose: the end of the socket does not cut off a Close that is under
// way.
func TestCloseWaitsForClose(t *testing.T) {
	bubble(t, simnet.Path{Delay: 50 * time.Millisecond, Rate: 1_000_000, Queue: 100_000}, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		want := pattern(500_000)
		var got []byte
		read := make(chan error)
		go func() {
			var err error
			got, err = io.ReadAll(s)
			read <- err
		}()
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error)
		go func() { closed <- c.Close() }()
		synctest.Wait()
		d.a.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := <-read; err != nil {
			t.Error(err)
		}
		equal(t, got, want)
	})
}
