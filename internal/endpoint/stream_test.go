package endpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
)

var lossy = map[string]simnet.Path{
	"clean": {Delay: 10 * time.Millisecond},
	"5%":    {Delay: 10 * time.Millisecond, Loss: 0.05, Reorder: 0.05, Duplicate: 0.02},
	"20%":   {Delay: 10 * time.Millisecond, Loss: 0.2, Duplicate: 0.05},
	"30%":   {Delay: 10 * time.Millisecond, Loss: 0.3},
}

// TestStream proves trap C1: what Write took arrives, and then EOF, whatever the link
// does; and that nothing is left behind.
func TestStream(t *testing.T) {
	for name, path := range lossy {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 1000, 300000} {
				t.Run(strconv.Itoa(size), func(t *testing.T) {
					simnet.Run(t, 3, func(t *testing.T, seed uint64) {
						cfg := testConfig()
						cfg.Linger = time.Minute
						cfg.Checksum = true
						cfg.HandshakeTimeout = time.Minute
						d := newDuo(t, seed, path, cfg, cfg)
						c, s := connect(t, d.a, d.b)
						want := pattern(size)
						closed := make(chan error, 1)
						go func() {
							if n, err := c.Write(want); n != size || err != nil {
								t.Errorf("Write: %d, %v", n, err)
							}
							closed <- c.Close()
						}()
						got, err := io.ReadAll(struct{ io.Reader }{s})
						if err != nil {
							t.Fatal(err)
						}
						equal(t, got, want)
						if err := <-closed; err != nil {
							t.Error("Close:", err)
						}
						if err := s.Close(); err != nil {
							t.Error("Close:", err)
						}
						settle(t, d.a, d.b)
					})
				})
			}
		})
	}
}

// bubble runs f with two connected endpoints.
func bubble(t *testing.T, path simnet.Path, cfg *Config, f func(t *testing.T, d *duo)) {
	synctest.Test(t, func(t *testing.T) {
		f(t, newDuo(t, 1, path, cfg, cfg))
	})
}

var clean = simnet.Path{Delay: 10 * time.Millisecond}

// TestHalfClose: the other direction goes on, trap C5.
func TestHalfClose(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		c.Write([]byte("question"))
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal("again:", err)
		}
		if _, err := c.Write([]byte("x")); err != session.ErrWriteClosed {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "question" {
			t.Fatalf("%q, %v", got, err)
		}
		want := pattern(1 << 20)
		go func() {
			s.Write(want)
			s.Close()
		}()
		got, err = io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, want)
		c.Close()
		settle(t, d.a, d.b)
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		buf := make([]byte, 10)

		// A past deadline wins over data that is there, trap D1.
		c.Write([]byte("data"))
		time.Sleep(time.Second)
		s.SetReadDeadline(time.Unix(1, 0))
		if n, err := s.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
		s.SetReadDeadline(time.Time{})
		if n, err := s.Read(buf); n != 4 || err != nil {
			t.Fatal(n, err)
		}

		// It ends a Read that is blocked, at its time and not before; trap D2.
		start := time.Now()
		s.SetReadDeadline(start.Add(time.Hour))
		time.AfterFunc(time.Second, func() { s.SetReadDeadline(start.Add(3 * time.Second)) })
		if _, err := s.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Fatal(err, time.Since(start))
		}
		// Later, while blocked.
		start = time.Now()
		s.SetReadDeadline(start.Add(2 * time.Second))
		time.AfterFunc(time.Second, func() { s.SetReadDeadline(start.Add(5 * time.Second)) })
		if _, err := s.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Fatal(err, time.Since(start))
		}
		s.SetReadDeadline(time.Time{})

		// Of a Write that is cut, n bytes arrive and no others; trap N5, D3.
		c.SetReadDeadline(time.Unix(1, 0))
		c.SetWriteDeadline(time.Now().Add(time.Second))
		want := pattern(100 << 20)
		n, err := c.Write(want)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(want) {
			t.Fatal(n, err)
		}
		c.SetWriteDeadline(time.Time{})
		c.CloseWrite()
		got, err := io.ReadAll(struct{ io.Reader }{s})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, want[:n])
		c.Close()
		s.Close()
		settle(t, d.a, d.b)
	})
}

// TestCloseUnblocks proves trap C6.
func TestCloseUnblocks(t *testing.T) {
	slow := clean
	slow.Rate = 1 << 20
	bubble(t, slow, testConfig(), func(t *testing.T, d *duo) {
		c, _ := connect(t, d.a, d.b)
		errs := make(chan error)
		calls := []func() error{
			func() error { _, err := c.Read(make([]byte, 1)); return err },
			func() error { _, err := c.Read(make([]byte, 1)); return err },
			func() error { _, err := c.WriteTo(io.Discard); return err },
			func() error { _, err := c.Write(make([]byte, 100<<20)); return err },
			func() error { _, err := c.Write(make([]byte, 1)); return err },
			func() error { _, err := c.ReceiveMessage(context.Background()); return err },
			func() error {
				return c.SendMessage(context.Background(), &session.Message{Payload: make([]byte, 50<<20), ReqAck: true})
			},
		}
		for _, f := range calls {
			go func() { errs <- f() }()
			synctest.Wait()
		}
		time.Sleep(time.Second)
		start := time.Now()
		go c.Close()
		for range calls {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("after %v", d)
		}
	})
}

// TestCloseDeadPeer proves trap C2: the linger time bounds Close.
func TestCloseDeadPeer(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, _ := connect(t, d.a, d.b)
		d.net.Both(d.ha, d.hb, simnet.Path{Loss: 1})
		c.Write([]byte("lost"))
		start := time.Now()
		if err := c.Close(); err != session.ErrUnsent {
			t.Error(err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Error(took)
		}
		if err := c.Close(); err != nil {
			t.Error("second Close:", err)
		}
		settle(t, d.a, d.b)
	})
}

func TestCloseWithError(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		c.CloseWithError(framing.CodeApplication+7, "because")
		_, err := s.Read(make([]byte, 1))
		var remote *handshake.RemoteError
		if !errors.As(err, &remote) || remote.Code != framing.CodeApplication+7 || remote.Reason != "because" {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); !errors.As(err, &remote) {
			t.Fatal(err)
		}
		s.Close()
		settle(t, d.a, d.b)
	})
}

// TestPeerClosed: after the peer's Close there is EOF to read, and nobody to write to.
func TestPeerClosed(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		c.Write([]byte("rest"))
		go c.Close()
		time.Sleep(time.Second)
		if _, err := s.Write([]byte("x")); err != session.ErrPeerClosed {
			t.Error("Write:", err)
		}
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "rest" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := s.ReceiveMessage(t.Context()); err != io.EOF {
			t.Error("ReceiveMessage:", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		settle(t, d.a, d.b)
	})
}

func TestPing(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		time.Sleep(time.Second)
		for _, x := range []*Session{c, s} {
			if rtt, err := x.Ping(t.Context()); err != nil || rtt < 20*time.Millisecond || rtt > 30*time.Millisecond {
				t.Error(rtt, err)
			}
		}
		d.net.Both(d.ha, d.hb, simnet.Path{Loss: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		// A silent peer is given up after the idle timeout.
		_, err := c.Read(make([]byte, 1))
		if err != session.ErrIdleTimeout {
			t.Error(err)
		}
	})
}

// TestRestart: a peer that has lost its memory says so.
func TestRestart(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, _ := connect(t, d.a, d.b)
		d.net.Both(d.ha, d.hb, simnet.Path{Loss: 1})
		d.b.Close()
		d.net.Both(d.ha, d.hb, clean)
		d.b = newEndpoint(t, d.hb.ListenPacket(6969), testConfig())
		start := time.Now()
		c.Write(make([]byte, 100))
		if _, err := c.Read(make([]byte, 1)); err != session.ErrReset {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Error(took)
		}
		if _, err := c.Write([]byte("x")); err != session.ErrReset {
			t.Fatal(err)
		}
	})
}

// TestBothClose: two ends that close at once, with data that nobody has read, do not
// wait for each other. Trap C5.
func TestBothClose(t *testing.T) {
	for name, path := range lossy {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, 5, func(t *testing.T, seed uint64) {
				cfg := testConfig()
				cfg.Linger = time.Minute
				cfg.HandshakeTimeout = time.Minute
				d := newDuo(t, seed, path, cfg, cfg)
				c, s := connect(t, d.a, d.b)
				start := time.Now()
				errs := make(chan error)
				for _, x := range []*Session{c, s} {
					go func() {
						x.Write(pattern(100000))
						errs <- x.Close()
					}()
				}
				for range 2 {
					if err := <-errs; err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(start); took > 20*time.Second {
					t.Error("took", took)
				}
				settle(t, d.a, d.b)
			})
		})
	}
}

// TestAcceptEnded: a stream whose client has gone again is accepted all the same.
func TestAcceptEnded(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		d.b.Listen()
		c, err := d.a.DialStream(t.Context(), addrOf(t, d.b))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("bye"))
		c.Close()
		settle(t, d.a, d.b)
		s, err := d.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "bye" {
			t.Errorf("%q, %v", got, err)
		}
		s.Close()
	})
}

// TestManyCallers: many goroutines at one session, trap N8.
func TestManyCallers(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		const writers, each = 8, 5000
		for i := range writers {
			go func() {
				for range 20 {
					c.Write(bytes.Repeat([]byte{byte(i)}, each))
				}
			}()
		}
		counts := make(chan [writers]int)
		for range 4 {
			go func() {
				var n [writers]int
				b := make([]byte, 333)
				for {
					m, err := s.Read(b)
					for _, x := range b[:m] {
						n[x]++
					}
					if err != nil {
						counts <- n
						return
					}
				}
			}()
		}
		time.Sleep(10 * time.Second)
		c.Close()
		var total [writers]int
		for range 4 {
			for i, n := range <-counts {
				total[i] += n
			}
		}
		for i, n := range total {
			if n != 20*each {
				t.Errorf("%d bytes of writer %d", n, i)
			}
		}
		s.Close()
	})
}
