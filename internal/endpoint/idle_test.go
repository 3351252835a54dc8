package endpoint

import (
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

// TestIdleUnread: an association that nobody uses does not end while it holds messages
// that the application has not received: their sender was told that they arrived.
func TestIdleUnread(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Minute} {
		cfg := testConfig()
		cfg.Idle = idle
		bubble(t, clean, cfg, func(t *testing.T, d *duo) {
			for i := range 3 {
				send(t, d.a, addrOf(t, d.b), &session.Message{Payload: []byte{byte(i)}, ReqAck: true})
			}
			time.Sleep(3 * sharedIdle)
			for i := range 3 {
				if m := receive(t, d.b); m.Payload[0] != byte(i) {
					t.Fatal(m.Payload)
				}
			}
			settle(t, d.a, d.b)
		})
	}
}

// TestIdleLong: nor does it while a message takes its time on the way, in either of its
// ends, whether somebody waits for it or not.
func TestIdleLong(t *testing.T) {
	cfg := testConfig()
	cfg.Idle = time.Minute
	bubble(t, simnet.Path{Delay: 50 * time.Millisecond, Rate: 4_000, Queue: 20_000}, cfg, func(t *testing.T, d *duo) {
		want := pattern(600_000)
		sent := make(chan error)
		go func() {
			sent <- d.a.SendMessage(t.Context(), &session.Message{Payload: want, ReqAck: true}, addrOf(t, d.b))
		}()
		time.Sleep(3 * sharedIdle)
		equal(t, receive(t, d.b).Payload, want)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		settle(t, d.a, d.b)
		// Many small ones that nobody waits for.
		for range 50 {
			send(t, d.a, addrOf(t, d.b), &session.Message{Payload: pattern(12_000), Repair: true})
		}
		for range 50 {
			m, _, err := d.b.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			equal(t, m.Payload, pattern(12_000))
		}
		settle(t, d.a, d.b)
	})
}

// TestIdlePeriod: messages of a client that sends one now and then never meet the end of
// the association on their way, whatever the period.
func TestIdlePeriod(t *testing.T) {
	for _, idle := range []time.Duration{0, 10 * time.Second, time.Minute, 5 * time.Minute} {
		for _, period := range []time.Duration{7500, 8750, 10_000, 45_000, 52_500, 60_000, 70_000, 300_000} {
			for _, off := range []time.Duration{-10, 0, 10, 20} {
				cfg := testConfig()
				cfg.Idle = idle
				bubble(t, clean, cfg, func(t *testing.T, d *duo) {
					go func() {
						for {
							if _, _, err := d.b.ReceiveMessage(t.Context()); err != nil {
								return
							}
						}
					}()
					for range 5 {
						send(t, d.a, addrOf(t, d.b), &session.Message{ReqAck: true})
						time.Sleep((period + off) * time.Millisecond)
					}
					d.b.Close()
				})
			}
		}
	}
}

// TestIdleDialed: who has dialed for messages, and keeps the association alive, has it as
// long as he wants, whether there are messages or not.
func TestIdleDialed(t *testing.T) {
	cfg := testConfig()
	cfg.KeepAlive = 15 * time.Second
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		s, err := d.a.DialMessages(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := s.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if m := receive(t, d.b); string(m.Payload) != "hello" {
				t.Fatal(m.Payload)
			}
			time.Sleep(5 * sharedIdle)
		}
		s.Close()
		settle(t, d.a, d.b)
	})
}
