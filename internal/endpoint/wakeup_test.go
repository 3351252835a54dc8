package endpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/session"
)

// stuckAfter is how long nothing may take although all is there. One loss on a busy
// machine costs a second at most.
const stuckAfter = 2 * time.Second

// withProcs runs a test with as many processors.
func withProcs(t *testing.T, f func(t *testing.T, rnd *rand.Rand)) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
			f(t, rand.New(rand.NewPCG(uint64(n), 1)))
		})
	}
}

// within fails if f takes too long, and shows where everything stands.
func within(t *testing.T, what string, f func()) {
	timer := time.AfterFunc(stuckAfter, func() {
		b := make([]byte, 1<<20)
		t.Errorf("stuck: %s\n%s", what, b[:runtime.Stack(b, true)])
	})
	defer timer.Stop()
	f()
}

// TestPingPongPauses: whoever reads the socket, and whatever pauses there are around
// the grace after which somebody else does, each answer arrives.
func TestPingPongPauses(t *testing.T) {
	withProcs(t, func(t *testing.T, rnd *rand.Rand) {
		a, b := loopback(t, testConfig()), loopback(t, testConfig())
		var wg sync.WaitGroup
		for range 3 {
			c, s := connect(t, a, b)
			seed := rnd.Uint64()
			end := time.Now().Add(time.Second)
			wg.Go(func() {
				defer s.Close()
				io.Copy(onlyWriter{s}, s)
			})
			wg.Go(func() {
				defer c.Close()
				rnd := rand.New(rand.NewPCG(seed, 2))
				buf := make([]byte, 8)
				for time.Now().Before(end) && !t.Failed() {
					within(t, "ping-pong", func() {
						if _, err := c.Write(buf); err != nil {
							t.Error(err)
						}
						if _, err := io.ReadFull(c, buf); err != nil {
							t.Error(err)
						}
					})
					time.Sleep(upTo(rnd, 3*time.Millisecond))
				}
			})
		}
		wg.Wait()
	})
}

type onlyWriter struct{ io.Writer }

// TestWakeUps mixes all calls that wait, on a few sockets, with deadlines and ends.
func TestWakeUps(t *testing.T) {
	withProcs(t, func(t *testing.T, rnd *rand.Rand) {
		cfg := testConfig()
		cfg.Linger = time.Second
		a, b := loopback(t, cfg), loopback(t, cfg)
		b.Listen()
		var servers, clients sync.WaitGroup
		servers.Go(func() {
			for {
				s, err := b.Accept(context.Background())
				if err != nil {
					return
				}
				servers.Go(func() { // echoes both
					defer s.Close()
					servers.Go(func() {
						for {
							m, err := s.ReceiveMessage(context.Background())
							if err != nil || s.SendMessage(context.Background(), &session.Message{Payload: m.Payload}) != nil {
								return
							}
						}
					})
					io.Copy(onlyWriter{s}, s)
				})
			}
		})
		end := time.Now().Add(1500 * time.Millisecond)
		for range 6 {
			seed := rnd.Uint64()
			clients.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, 3))
				for time.Now().Before(end) && !t.Failed() {
					var s *Session
					within(t, "dial", func() {
						var err error
						if s, err = a.DialStream(context.Background(), addrOf(t, b)); err != nil {
							t.Error(err)
						}
					})
					if s == nil {
						return
					}
					useSession(t, s, rnd)
					if t.Failed() {
						return
					}
				}
			})
		}
		clients.Wait()
		b.CloseListen()
		within(t, "close", func() { a.Close() })
		b.Close()
		servers.Wait()
	})
}

// useSession does things with a session whose peer echoes.
func useSession(t *testing.T, s *Session, rnd *rand.Rand) {
	for range 1 + rnd.IntN(20) {
		switch rnd.IntN(6) {
		case 0: // both at once, several packets
			b := make([]byte, 1+rnd.IntN(20000))
			got := make([]byte, len(b))
			var wg sync.WaitGroup
			within(t, "write and read", func() {
				wg.Go(func() { s.Write(b) })
				if _, err := io.ReadFull(s, got); err != nil {
					t.Error(err)
				}
				wg.Wait()
			})
		case 1: // a deadline ends a read, nothing else; then another one is gone again
			s.SetReadDeadline(time.Now().Add(upTo(rnd, 2*time.Millisecond)))
			within(t, "deadline", func() {
				if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			})
			s.SetReadDeadline(time.Time{})
		case 2: // one that is set while the read waits
			timer := time.AfterFunc(upTo(rnd, 2*time.Millisecond), func() { s.SetReadDeadline(time.Unix(1, 0)) })
			within(t, "deadline set late", func() { s.Read(make([]byte, 1)) })
			timer.Stop()
			s.SetReadDeadline(time.Time{})
		case 3:
			want := []byte("message")
			within(t, "message", func() {
				if err := s.SendMessage(context.Background(), &session.Message{Payload: want, ReqAck: rnd.IntN(2) == 0}); err != nil {
					t.Error(err)
				}
				if m, err := s.ReceiveMessage(context.Background()); err != nil || !bytes.Equal(m.Payload, want) {
					t.Error(err)
				}
			})
		case 4:
			within(t, "ping", func() {
				if _, err := s.Ping(context.Background()); err != nil {
					t.Error(err)
				}
			})
		case 5:
			time.Sleep(upTo(rnd, 3*time.Millisecond))
		}
		if t.Failed() {
			break
		}
	}
	if rnd.IntN(2) == 0 { // closed under a read
		done := make(chan struct{})
		go func() {
			s.Read(make([]byte, 1))
			close(done)
		}()
		within(t, "close under a read", func() {
			s.Close()
			<-done
		})
		return
	}
	within(t, "close", func() { s.Close() })
}

func upTo(rnd *rand.Rand, d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d))) }
