package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/internal/udpio"
)

// TestMessagesAcked: each is delivered once, whatever is lost, and its sender knows.
func TestMessagesAcked(t *testing.T) {
	for name, path := range lossy {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, 3, func(t *testing.T, seed uint64) {
				cfg := testConfig()
				cfg.Retry.MaxRetries = 20
				cfg.HandshakeTimeout = time.Minute
				d := newDuo(t, seed, path, cfg, cfg)
				const count = 40
				errs := make(chan error, count)
				for i := range count {
					go func() {
						p := pattern(1 << (i % 20))
						m := &session.Message{Header: framing.Header{{Key: "i", Value: fmt.Sprint(i)}}, Payload: p, ReqAck: true}
						errs <- d.a.SendMessage(t.Context(), m, addrOf(t, d.b))
					}()
				}
				seen := make(map[string]bool)
				for range count {
					m := receive(t, d.b)
					i := m.Header.Get("i")
					if seen[i] || !m.ReqAck {
						t.Error("twice:", i)
					}
					seen[i] = true
					equal(t, m.Payload, pattern(len(m.Payload)))
				}
				for range count {
					if err := <-errs; err != nil {
						t.Error(err)
					}
				}
				time.Sleep(10 * time.Second)
				settle(t, d.a, d.b)
			})
		})
	}
}

// TestFireAndForget: the first messages wait for the handshake, their sender does not.
func TestFireAndForget(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		start := time.Now()
		for i := range maxQueued {
			send(t, d.a, addrOf(t, d.b), &session.Message{Payload: []byte{byte(i)}})
		}
		if time.Since(start) != 0 {
			t.Error("SendMessage has waited for the handshake")
		}
		send(t, d.a, addrOf(t, d.b), &session.Message{Payload: []byte{maxQueued}}) // waits
		for i := range maxQueued + 1 {
			if m := receive(t, d.b); m.Payload[0] != byte(i) {
				t.Fatal(m.Payload)
			}
		}
		// To nobody: lost after a while, without an error.
		nobody := udpio.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.2:1")}
		start = time.Now()
		for range 10 * maxQueued {
			send(t, d.a, nobody, &session.Message{Payload: []byte("x")})
		}
		if took := time.Since(start); took > patience {
			t.Error(took)
		}
		// With an answer asked for, there is an error.
		err := d.a.SendMessage(t.Context(), &session.Message{ReqAck: true}, nobody)
		if err != session.ErrHandshakeTimeout {
			t.Error(err)
		}
		settle(t, d.a, d.b)
	})
}

// TestIdle: an association that nobody uses ends, and comes back when it is needed.
func TestIdle(t *testing.T) {
	cfg := testConfig()
	cfg.Idle = 0
	bubble(t, clean, cfg, func(t *testing.T, d *duo) {
		for range 3 {
			send(t, d.a, addrOf(t, d.b), &session.Message{Payload: []byte("x"), ReqAck: true})
			receive(t, d.b)
			time.Sleep(sharedIdle - time.Second)
			if d.a.Stats().Associations != 1 {
				t.Error("gone too soon")
			}
			settle(t, d.a, d.b)
		}
	})
}

// TestMessageDeadPeer: a blocked sender learns of the end, and the next message takes
// a new association.
func TestMessageDeadPeer(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		to := addrOf(t, d.b)
		send(t, d.a, to, &session.Message{ReqAck: true})
		receive(t, d.b)
		d.net.Both(d.ha, d.hb, simnet.Path{Down: true})
		err := d.a.SendMessage(t.Context(), &session.Message{ReqAck: true}, to)
		if err != session.ErrAckTimeout && err != session.ErrIdleTimeout {
			t.Error(err)
		}
		d.b.Close()
		d.net.Both(d.ha, d.hb, clean)
		d.b = newEndpoint(t, d.hb.ListenPacket(6969), testConfig())
		time.Sleep(time.Minute)
		send(t, d.a, to, &session.Message{Payload: []byte("new"), ReqAck: true})
		equal(t, receive(t, d.b).Payload, []byte("new"))
	})
}

func TestMessageLimits(t *testing.T) {
	cfg := testConfig()
	cfg.MaxMessage = 100000
	cfg.NoFragments = true
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, 1, clean, testConfig(), cfg)
		to := addrOf(t, d.b)
		for size, want := range map[int]error{100000: nil, 100001: session.ErrMessageTooLarge} {
			err := d.a.SendMessage(t.Context(), &session.Message{Payload: make([]byte, size)}, to)
			if err != want {
				t.Error(size, err)
			}
		}
		receive(t, d.b)
		from := addrOf(t, d.a)
		for size, want := range map[int]error{1000: nil, 1500: session.ErrMessageTooLarge} {
			err := d.b.SendMessage(t.Context(), &session.Message{Payload: make([]byte, size)}, from)
			if err != want {
				t.Error(size, err)
			}
		}
		reserved := &session.Message{Header: framing.Header{{Key: "\x01"}}}
		if err := d.a.SendMessage(t.Context(), reserved, to); err != session.ErrReservedKey {
			t.Error(err)
		}
	})
}

// TestSendInterrupted: context and write deadline end a blocked SendMessage, and the
// payload is the caller's again.
func TestSendInterrupted(t *testing.T) {
	slow := clean
	slow.Rate = 100 << 10
	bubble(t, slow, testConfig(), func(t *testing.T, d *duo) {
		to := addrOf(t, d.b)
		big := &session.Message{Payload: make([]byte, 10<<20)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.a.SendMessage(ctx, big, to); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		clear(big.Payload)
		d.a.SetWriteDeadline(time.Now().Add(time.Second))
		if err := d.a.SendMessage(t.Context(), big, to); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if err := d.a.SendMessage(t.Context(), &session.Message{}, to); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		d.a.SetWriteDeadline(time.Time{})
		send(t, d.a, to, &session.Message{Payload: []byte("small"), ReqAck: true})
		equal(t, receive(t, d.b).Payload, []byte("small"))
	})
}

// TestEndpointClose: what was accepted arrives, also when its handshake has not ended.
func TestEndpointClose(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		send(t, d.a, addrOf(t, d.b), &session.Message{Payload: []byte("first")})
		if err := d.a.Close(); err != nil {
			t.Error(err)
		}
		equal(t, receive(t, d.b).Payload, []byte("first"))
		if err := d.a.SendMessage(t.Context(), &session.Message{}, addrOf(t, d.b)); err != net.ErrClosed {
			t.Error(err)
		}
		if _, _, err := d.a.ReceiveMessage(t.Context()); err != net.ErrClosed {
			t.Error(err)
		}
		if err := d.a.SetReadDeadline(time.Time{}); err != net.ErrClosed {
			t.Error(err)
		}
		if err := d.a.Close(); err != nil {
			t.Error(err)
		}
		settle(t, d.a, d.b)
	})
}

// TestDialMessages: a session of messages is a net.Conn as that of net.Dial("udp").
func TestDialMessages(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, err := d.a.DialMessages(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"hello", "", "world"} {
			if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatal(n, err)
			}
			m, from, err := d.b.ReceiveMessage(t.Context())
			if err != nil || string(m.Payload) != s || from.String() != c.LocalAddr().String() {
				t.Fatalf("%q, %v, %v", m.Payload, from, err)
			}
		}
		// The answer takes the same association.
		send(t, d.b, addrOf(t, d.a), &session.Message{Payload: []byte("answer")})
		b := make([]byte, 4)
		if n, err := c.Read(b); n != 4 || err != nil || string(b) != "answ" {
			t.Fatal(n, err)
		}
		send(t, d.b, addrOf(t, d.a), &session.Message{Payload: []byte("next")}) // the rest is lost
		if n, err := c.Read(b); n != 4 || err != nil || string(b) != "next" {
			t.Fatal(n, err)
		}
		if err := c.CloseWrite(); err != session.ErrNotSupported {
			t.Error(err)
		}
		go d.b.Close()
		if _, err := c.Read(b); err != io.EOF {
			t.Error(err)
		}
		c.Close()
	})
}

// TestStreamMessages: messages beside a byte stream.
func TestStreamMessages(t *testing.T) {
	bubble(t, simnet.Path{Delay: 10 * time.Millisecond, Loss: 0.1}, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		go c.Write(pattern(100000))
		for i := range 50 {
			if err := c.SendMessage(t.Context(), &session.Message{Payload: []byte{byte(i)}, Ordered: true}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			m, err := s.ReceiveMessage(t.Context())
			if err != nil || m.Payload[0] != byte(i) {
				t.Fatal(i, err)
			}
		}
		got := make([]byte, 100000)
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		equal(t, got, pattern(100000))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.ReceiveMessage(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
