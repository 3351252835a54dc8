package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// withTimes returns a config with a keep-alive and an idle timeout.
func withTimes(client bool, keepAlive, idle time.Duration) *Config {
	cfg := testConfig(client)
	cfg.KeepAlive = keepAlive
	cfg.Params.Idle = idle
	return cfg
}

// near reports whether d is at least want and no more than the service timer's slices
// later.
func near(d, want time.Duration) bool { return d >= want && d <= want+50*time.Millisecond }

// TestIdleTimeout ends a session whose peer is silent, whichever side asked for it:
// "The smaller of the two values that are not 0 counts, at both ends."
func TestIdleTimeout(t *testing.T) {
	const sec = time.Second
	for _, c := range []struct{ ours, peers, want time.Duration }{
		{30 * sec, 0, 30 * sec}, {0, 30 * sec, 30 * sec}, {30 * sec, 20 * sec, 20 * sec},
		{20 * sec, 30 * sec, 20 * sec}, {time.Millisecond, 0, time.Millisecond}, {7 * time.Hour, 0, 7 * time.Hour},
	} {
		for _, role := range roles {
			for _, reading := range []bool{false, true} {
				bubble(t, func(t *testing.T) {
					s, p := open(t, withTimes(role.client, 0, c.ours), handshake.Params{Idle: c.peers}, 0)
					defer s.Close()
					start := time.Now()
					if reading {
						_, err := s.Read(make([]byte, 1))
						if err != session.ErrIdleTimeout {
							t.Errorf("Read: %v", err)
						}
					} else {
						p.c.SetReadDeadline(time.Now().Add(c.want + time.Second))
					}
					f := p.want(framing.TypeErr)
					if d := time.Since(start); !near(d, c.want) {
						t.Errorf("ended after %v, want %v", d, c.want)
					}
					if e := handshake.ParseErr(f); e.Code != framing.CodeTimeout {
						t.Error(e)
					}
					wantAll(t, s, func(what string, err error) {
						var ne net.Error
						if err != session.ErrIdleTimeout || !errors.As(err, &ne) || !ne.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("%s: %v", what, err)
						}
					})
				})
			}
		}
	}
}

// TestIdleTimeoutMidFrame has the peer fall silent inside a frame.
func TestIdleTimeoutMidFrame(t *testing.T) {
	for cut := range 30 {
		bubble(t, func(t *testing.T) {
			s, p := open(t, withTimes(true, 0, 10*time.Second), handshake.Params{}, 0)
			defer s.Close()
			p.send(streamData(crc, "a frame with a CRC")[:cut])
			start := time.Now()
			if _, err := s.Read(make([]byte, 1)); err != session.ErrIdleTimeout {
				t.Errorf("%d: %v", cut, err)
			}
			if d := time.Since(start); !near(d, 10*time.Second) {
				t.Errorf("%d: after %v", cut, d)
			}
		})
	}
}

// TestKeepAlive has two sides that do nothing, of which one or both send PINGs: they
// live. A side that never calls Read answers all the same.
func TestKeepAlive(t *testing.T) {
	const sec = time.Second
	for _, c := range []struct{ ka1, idle1, ka2, idle2 time.Duration }{
		{10 * sec, 30 * sec, 0, 0}, {10 * sec, 0, 0, 30 * sec}, {0, 30 * sec, 10 * sec, 0},
		{15 * sec, 31 * sec, 15 * sec, 31 * sec}, {sec, 2 * sec, 0, 100 * sec}, {5 * sec, 0, 5 * sec, 0},
	} {
		bubble(t, func(t *testing.T) {
			a, b := pair(t, withTimes(true, c.ka1, c.idle1), withTimes(false, c.ka2, c.idle2), 0)
			time.Sleep(time.Hour)
			for _, s := range []*Session{a, b} {
				if err := s.readError(); err != nil {
					t.Errorf("%v: ended: %v", c, err)
				}
			}
			sent := a.Stats().FramesSent
			if most := uint64(time.Hour/sec) * 3; sent > most {
				t.Errorf("%v: %d frames in an hour", c, sent)
			}
			if n, err := a.Write([]byte("alive")); n != 5 || err != nil {
				t.Error(n, err)
			}
			if n, err := io.ReadFull(readerOf{b}, make([]byte, 5)); n != 5 || err != nil {
				t.Error(n, err)
			}
			a.Close()
			b.Close()
		})
	}
}

// TestKeepAliveTimes has PINGs at exact times, and none while data comes.
func TestKeepAliveTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, withTimes(false, 10*time.Second, 0), handshake.Params{}, 0)
		defer s.Close()
		start := time.Now()
		for i := 1; i <= 3; i++ {
			f := p.want(framing.TypePing)
			if d := time.Since(start); !near(d, time.Duration(i)*10*time.Second) {
				t.Errorf("PING %d after %v", i, d)
			}
			p.send(frame(framing.TypePong, 0, f.Header, nil))
		}
	})
	bubble(t, func(t *testing.T) { // an application that does not read lives on as well
		s, p := open(t, withTimes(false, 10*time.Second, 30*time.Second), handshake.Params{}, 1<<20)
		defer s.Close()
		p.send(streamData(0, string(make([]byte, 2*maxBufferedStream))))
		for i := range 200 {
			start := time.Now()
			f := p.want(framing.TypePing)
			if d := time.Since(start); d > 20*time.Second {
				t.Fatalf("PING %d came after %v", i, d)
			}
			p.send(frame(framing.TypePong, 0, f.Header, nil))
		}
	})
	bubble(t, func(t *testing.T) {
		s, p := open(t, withTimes(false, 10*time.Second, 0), handshake.Params{}, 0)
		defer s.Close()
		go io.Copy(io.Discard, readerOf{s})
		for range 20 {
			time.Sleep(9 * time.Second)
			p.send(streamData(0, "x"))
		}
		if n := p.c.Buffered(); n != 0 {
			t.Errorf("%d bytes sent to a peer that is not silent", n)
		}
	})
}

// TestIdleWhileStalled leaves received data unread: the time "does not run while
// received data waits for this side's application".
func TestIdleWhileStalled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, p := open(t, withTimes(false, 0, 10*time.Second), handshake.Params{}, 1<<20)
		defer s.Close()
		data := make([]byte, 2*maxBufferedStream)
		p.send(streamData(0, string(data)))
		time.Sleep(time.Hour)
		if n, err := io.ReadFull(readerOf{s}, data); err != nil {
			t.Fatalf("after an hour: %d, %v", n, err)
		}
		// From here on the peer is silent.
		start := time.Now()
		if _, err := s.Read(data); err != session.ErrIdleTimeout {
			t.Errorf("then: %v", err)
		}
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("then after %v", d)
		}
	})
	bubble(t, func(t *testing.T) { // messages
		s, p := open(t, withTimes(false, 0, 10*time.Second), handshake.Params{}, 1<<20)
		defer s.Close()
		var all []byte
		for id := range uint64(maxQueuedMessages + 10) {
			all = append(all, message(0, id, "m")...)
		}
		p.send(all)
		time.Sleep(time.Hour)
		for id := range maxQueuedMessages + 10 {
			if _, err := s.ReceiveMessage(context.Background()); err != nil {
				t.Fatalf("%d: %v", id, err)
			}
		}
	})
}

// TestIdleWhileWriting has the peer take a large Write slowly, and say nothing.
func TestIdleWhileWriting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, s := pair(t, withTimes(true, 0, 10*time.Second), testConfig(false), 1000)
		defer s.Close()
		defer c.Close()
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 100_000))
			wrote <- err
		}()
		var got bytes.Buffer
		for got.Len() < 100_000 {
			time.Sleep(8 * time.Second) // the peer is the one who must not be silent for longer
			io.CopyN(&got, readerOf{s}, 5000)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

// TestPing has many at once, and checks the time.
func TestPing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, s := pair(t, testConfig(true), testConfig(false), 0)
		defer s.Close()
		defer c.Close()
		const n = 1000
		errs := make(chan error, 2*n)
		for _, x := range []*Session{c, s} {
			go io.Copy(io.Discard, readerOf{x}) // who does not read does not answer
			for range n {
				go func() {
					_, err := x.Ping(context.Background())
					errs <- err
				}()
			}
		}
		for range 2 * n {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
	})
	bubble(t, func(t *testing.T) {
		s, p := open(t, testConfig(true), handshake.Params{}, 0)
		defer s.Close()
		go func() {
			f := p.want(framing.TypePing)
			time.Sleep(70 * time.Millisecond)
			p.send(frame(framing.TypePong, 0, nil, nil), // none of ours
				frame(framing.TypePong, 0, field(framing.KeyPing, 0xff, 0, 0, 0, 0, 0, 0, 0), nil),
				frame(framing.TypePong, 0, f.Header, nil),
				frame(framing.TypePong, 0, f.Header, nil))
		}()
		d, err := s.Ping(context.Background())
		if d != 70*time.Millisecond || err != nil || s.Stats().RTT != d {
			t.Errorf("%v, %v, RTT %v", d, err, s.Stats().RTT)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := s.Ping(ctx); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
