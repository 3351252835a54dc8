package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// TestWriteDeadlineAnywhere has the carrier take k bytes and no more, for each k up
// to more than two frames, until deadlines and contexts have ended Write and
// SendMessage. Then the peer gets exactly what was accepted, and all works on: N3,
// golang/go#46977.
func TestWriteDeadlineAnywhere(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 7
			}
			for k := 0; k < 560; k += step {
				bubble(t, func(t *testing.T) { testWriteDeadline(t, m, k) })
			}
		})
	}
}

func testWriteDeadline(t *testing.T, m mode, k int) {
	c, s, cc, _ := m.pair(t, testConfig(true), testConfig(false))
	defer s.Close()
	defer c.Close()
	cc.SetWriteBuffer(k)
	start := time.Now()
	var accepted []byte
	write := func(what string, p []byte) {
		t.Helper()
		n, err := c.Write(p)
		accepted = append(accepted, p[:n]...)
		switch {
		case n == len(p) && err == nil:
		case n == 0 && errors.Is(err, os.ErrDeadlineExceeded):
		default:
			t.Fatalf("%d: %s: %d of %d bytes, %v", k, what, n, len(p), err)
		}
	}
	sent := 0
	message := func(what string, ctx context.Context, ended error) {
		t.Helper()
		err := c.SendMessage(ctx, &session.Message{Payload: []byte(what)})
		if err == nil {
			sent++
		} else if !errors.Is(err, ended) {
			t.Fatalf("%d: %s: %v", k, what, err)
		}
	}
	first := bytes.Repeat([]byte("first "), 33) // long enough for zstd
	c.SetWriteDeadline(start.Add(time.Second))
	write("first", first)
	message("with a deadline", context.Background(), os.ErrDeadlineExceeded)
	if d := time.Since(start); d != 0 && d != time.Second {
		t.Errorf("%d: took %v", k, d)
	}
	c.SetWriteDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	message("with a context", ctx, context.DeadlineExceeded)
	cancel()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	write("second", []byte(strings.Repeat("second ", 20)))
	write("past", []byte("past"))
	c.SetWriteDeadline(time.Now())
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d: Write past its deadline: %d, %v", k, n, err)
	}

	c.SetWriteDeadline(time.Time{})
	cc.SetWriteBuffer(64 << 10)
	write("last", []byte("last"))
	message("last", context.Background(), nil)
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	got, err := io.ReadAll(readerOf{s})
	if err != nil || !bytes.Equal(got, accepted) {
		t.Errorf("%d: read %q, %v, want %q", k, got, err, accepted)
	}
	for range sent {
		if _, err := s.ReceiveMessage(context.Background()); err != nil {
			t.Errorf("%d: %v", k, err)
		}
	}
	if m, err := s.ReceiveMessage(context.Background()); err != io.EOF {
		t.Errorf("%d: a message more: %q, %v", k, m.Payload, err)
	}
	if _, err := s.Write([]byte("reply")); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 9)); n != 5 || err != nil {
		t.Errorf("%d: reply: %d, %v", k, n, err)
	}
}

// TestWriteDeadlineLarge is TestWriteDeadlineAnywhere for Write and fragmented
// messages of several frames. N5: "returns partial n on deadline".
func TestWriteDeadlineLarge(t *testing.T) {
	payload := make([]byte, 300_000)
	for i := range payload {
		payload[i] = byte(i * i >> 8)
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, k := range []int{0, 1, 11, 30, 5000, 65_547, 65_551, 65_560, 65_575, 65_600, 131_100, 131_150, 190_000, 250_000} {
				bubble(t, func(t *testing.T) { testWriteDeadlineLarge(t, m, k, payload) })
			}
		})
	}
}

func testWriteDeadlineLarge(t *testing.T, m mode, k int, payload []byte) {
	c, s, cc, _ := m.pair(t, testConfig(true), testConfig(false))
	defer s.Close()
	defer c.Close()
	cc.SetWriteBuffer(k)
	c.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := c.Write(payload)
	if n%maxDataPayload != 0 && n != len(payload) || (n < len(payload)) != errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d: %d bytes, %v", k, n, err)
	}
	c.SetWriteDeadline(time.Time{})
	// A message that is given up, and one beside it that is not.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	big := c.SendMessage(ctx, &session.Message{Payload: payload, ReqAck: false})
	if big != nil && big != context.DeadlineExceeded {
		t.Errorf("%d: %v", k, big)
	}
	cc.SetWriteBuffer(64 << 10)
	go func() {
		for _, b := range []byte{1, 2} {
			if err := c.SendMessage(context.Background(), &session.Message{Payload: append([]byte{b}, payload...), ReqAck: true}); err != nil {
				t.Errorf("%d: %v", k, err)
			}
		}
		c.CloseWrite()
	}()
	got, err := io.ReadAll(readerOf{s})
	if err != nil || !bytes.Equal(got, payload[:n]) {
		t.Errorf("%d: read %d bytes, %v, want %d", k, len(got), err, n)
	}
	want := 2
	if big == nil {
		want++
	}
	for i := range want {
		msg, err := s.ReceiveMessage(context.Background())
		if err != nil {
			t.Fatalf("%d: %v", k, err)
		}
		b := msg.Payload
		if i >= want-2 {
			b = b[1:]
		}
		if !bytes.Equal(b, payload) {
			t.Errorf("%d: message %d is damaged", k, i)
		}
	}
}

// TestCancelFrame looks at the frames of a fragmented message that is given up, by its
// context or by the deadline: whole ones, then the cancellation. §5.3.
func TestCancelFrame(t *testing.T) {
	for k := 1000; k < 300_000; k += 13_337 {
		for _, byDeadline := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				s, p := open(t, testConfig(false), handshake.Params{}, k)
				defer s.Close()
				ctx, cancel := context.WithCancel(context.Background())
				want := context.Canceled
				if byDeadline {
					want = os.ErrDeadlineExceeded
					s.SetWriteDeadline(time.Now().Add(time.Second))
				} else {
					time.AfterFunc(time.Second, cancel)
				}
				start := time.Now()
				err := s.SendMessage(ctx, &session.Message{Payload: make([]byte, 400_000), ReqAck: true})
				if !errors.Is(err, want) || time.Since(start) != time.Second {
					t.Fatalf("%d: %v after %v", k, err, time.Since(start))
				}
				cancel()
				s.SetWriteDeadline(time.Time{})
				sent := make(chan error)
				go func() { sent <- s.SendMessage(context.Background(), &session.Message{Payload: []byte("next")}) }()
				sum, cancelled := 0, 0
				for {
					f := p.want(framing.TypeData)
					key, value, _, _ := f.Header.Next()
					if string(f.Payload) == "next" {
						break
					}
					switch string(key) {
					case framing.KeyMessage:
						if !f.Flags.Has(framing.FlagFrag) || cancelled > 0 {
							t.Errorf("%d: %v after %d cancellations", k, f.Flags, cancelled)
						}
						sum += len(f.Payload)
					case framing.KeyCancel:
						if id, _ := framing.ConsumeVarint(value); id != 0 {
							t.Errorf("%d: id %d cancelled", k, id)
						}
						cancelled++
					}
				}
				if cancelled != 1 || sum%maxFragment != 0 || sum == 0 {
					t.Errorf("%d: %d bytes, %d cancellations", k, sum, cancelled)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.acks) != 0 {
					t.Errorf("%d: still waiting for %d ACKs", k, len(s.acks))
				}
			})
		}
	}
}
