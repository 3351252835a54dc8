package endpoint

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// restart ends b without a word, and begins it anew at the same address.
func (d *duo) restart(t *testing.T, cfg *Config) {
	d.net.Both(d.ha, d.hb, simnet.Path{Down: true})
	d.b.Close()
	d.net.Both(d.ha, d.hb, clean)
	d.b = newEndpoint(t, d.hb.ListenPacket(6969), cfg)
}

func noLinger() *Config {
	cfg := testConfig()
	cfg.Linger = 0
	return cfg
}

// TestMoveRestart: messages that are to be repaired, and of which the peer has acknowledged
// nothing when it is started anew, arrive at the new one: once, and those in order in order.
func TestMoveRestart(t *testing.T) {
	for name, again := range map[string]bool{"": false, "and sent meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuo(t, 1, clean, testConfig(), noLinger())
				to := addrOf(t, d.b)
				send(t, d.a, to, &session.Message{ReqAck: true})
				receive(t, d.b)
				d.net.Both(d.ha, d.hb, simnet.Path{Down: true})
				const count = 30
				number := func(i int) framing.Header { return framing.Header{{Key: "i", Value: fmt.Sprint(i)}} }
				for i := range count {
					m := &session.Message{Header: number(i), Payload: pattern(500 * (i % 5)), Repair: true, Priority: int8(i % 3)}
					if i%2 == 0 {
						m.Ordered, m.Channel = true, 7
					}
					send(t, d.a, to, m)
				}
				send(t, d.a, to, &session.Message{Header: number(99), Repair: true, Lifetime: time.Second}) // too late
				time.Sleep(2 * time.Second)
				d.restart(t, noLinger())
				total := count
				if again { // a new association, and a message in order behind those of the old one
					for d.a.Stats().UnknownID+d.b.Stats().Resets == 0 {
						time.Sleep(time.Millisecond)
					}
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
					send(t, d.a, to, &session.Message{Header: number(count), Ordered: true, Channel: 7})
					total++
				}
				seen := make(map[int]bool)
				last := -1
				for range total {
					m := receive(t, d.b)
					var i int
					fmt.Sscan(m.Header.Get("i"), &i)
					if seen[i] {
						t.Error("twice:", i)
					}
					seen[i] = true
					if i%2 == 0 {
						if i < last {
							t.Error(i, "after", last)
						}
						last = i
					}
					if i < count {
						equal(t, m.Payload, pattern(500*(i%5)))
					}
				}
				time.Sleep(10 * time.Second)
				if st := d.a.Stats(); st.Lost != 0 {
					t.Errorf("%+v", st)
				}
				settle(t, d.a, d.b)
			})
		})
	}
}

// TestMoveClosed: a peer that has closed its socket and opened it again gets them too.
func TestMoveClosed(t *testing.T) {
	bubble(t, clean, noLinger(), func(t *testing.T, d *duo) {
		to := addrOf(t, d.b)
		send(t, d.a, to, &session.Message{ReqAck: true})
		receive(t, d.b)
		send(t, d.a, to, &session.Message{Payload: []byte("x"), Repair: true})
		time.Sleep(5 * time.Millisecond) // it crosses with the end
		d.b.Close()
		d.b = newEndpoint(t, d.hb.ListenPacket(6969), noLinger())
		equal(t, receive(t, d.b).Payload, []byte("x"))
	})
}

// TestMoveWaiting: a call that waits for room is none of the end's; it goes on with the
// next association. One that waits for an acknowledgement learns of the end, as the peer
// before may have had its message: "delivered exactly once".
func TestMoveWaiting(t *testing.T) {
	cfg := noLinger()
	cfg.MaxMessage = 100_000
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, testConfig(), cfg)
		to := addrOf(t, d.b)
		send(t, d.a, to, &session.Message{ReqAck: true})
		receive(t, d.b)
		d.net.Both(d.ha, d.hb, simnet.Path{Down: true})
		const count = 300 // more than wait for the window
		done := make(chan error)
		go func() {
			for range count {
				if err := d.a.SendMessage(t.Context(), &session.Message{Payload: make([]byte, 1000)}, to); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		acked := make(chan error)
		go func() { acked <- d.a.SendMessage(t.Context(), &session.Message{ReqAck: true}, to) }()
		time.Sleep(2 * time.Second)
		d.restart(t, cfg)
		if err := <-acked; !errors.Is(err, session.ErrReset) {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestMoveEnds: what cannot be delivered is counted, and a peer that does not survive a
// message does not get it for ever.
func TestMoveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, testConfig(), noLinger())
		to := addrOf(t, d.b)
		send(t, d.a, to, &session.Message{ReqAck: true})
		receive(t, d.b)
		d.net.Both(d.ha, d.hb, simnet.Path{Down: true})
		send(t, d.a, to, &session.Message{Repair: true})
		time.Sleep(5 * time.Minute)
		if n := d.a.Stats().Lost; n != 1 {
			t.Error(n)
		}
		d.restart(t, noLinger())
		send(t, d.a, to, &session.Message{ReqAck: true})
		receive(t, d.b)
		// Nothing but handshakes gets through.
		d.net.Path(d.ha, d.hb).Filter(simnet.DropAbove(500))
		send(t, d.a, to, &session.Message{Payload: pattern(1000), Repair: true})
		for range maxMoves + 1 {
			time.Sleep(4 * time.Second)
			if n := d.a.Stats().Lost; n != 1 {
				t.Error(n)
			}
			d.b.Close()
			d.b = newEndpoint(t, d.hb.ListenPacket(6969), noLinger())
		}
		time.Sleep(time.Minute)
		if n := d.a.Stats().Lost; n != 2 {
			t.Error(n)
		}
		settle(t, d.a, d.b)
	})
}
