package vstp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// What is promised of messages on datagrams beyond that they arrive.

// Lost acknowledgements make no message arrive twice (R1), nor fail that has arrived
// while there are retries.
func TestStackLostAcks(t *testing.T) {
	filters := map[string]func(from time.Time) simnet.Filter{
		"all for 7 s": func(from time.Time) simnet.Filter {
			return func(int, []byte) bool { return time.Since(from) < 7*time.Second }
		},
		"nine of ten": func(time.Time) simnet.Filter {
			return func(n int, _ []byte) bool { return n%10 != 0 }
		},
		"small ones for 7 s": func(from time.Time) simnet.Filter {
			return func(n int, b []byte) bool { return time.Since(from) < 7*time.Second && len(b) < 60 }
		},
	}
	for name, filter := range filters {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, 3, func(t *testing.T, seed uint64) {
				l := newStack(t, simnet.Options{Seed: seed, Path: lossy(0.02)}, &vstp.Config{MaxRetries: 10}, nil)
				require.NoError(t, l.send(&vstp.Message{RequireAck: true}))
				l.receive(t)
				l.net.Path(l.sh, l.ch).Filter(filter(time.Now()))
				const count = 20
				var g group
				for i := range count {
					g.Go(func() error {
						return l.send(&vstp.Message{Payload: contentBytes(1 + i*i*100), RequireAck: true, Ordered: i%2 == 0})
					})
				}
				seen := make(map[int]bool)
				for range count {
					m := l.receive(t)
					isContent(t, int64(len(m.Payload)), m.Payload)
					require.False(t, seen[len(m.Payload)], "%d bytes again", len(m.Payload))
					seen[len(m.Payload)] = true
				}
				g.wg.Wait()
				g.Wait(t)
				l.quiet(t)
				l.close()
			})
		})
	}
}

// A dead peer is ErrAckTimeout at exactly the time that Config says: attempts of
// AckTimeout, and between them RetryDelay, which doubles up to MaxRetryDelay.
func TestStackAckTimeout(t *testing.T) {
	for _, test := range []struct {
		config vstp.Config
		want   time.Duration
	}{
		{vstp.Config{}, 4*2*time.Second + (100+200+400)*ms},
		{vstp.Config{MaxRetries: -1}, 2 * time.Second},
		{vstp.Config{MaxRetries: 1, AckTimeout: 300 * ms, RetryDelay: -1}, 600 * ms},
		{vstp.Config{MaxRetries: 4, AckTimeout: time.Second, RetryDelay: 300 * ms, MaxRetryDelay: time.Second}, 7900 * ms},
		{vstp.Config{MaxRetries: 2, AckTimeout: 5 * time.Second, RetryDelay: time.Second, MaxRetryDelay: -1}, 18 * time.Second},
	} {
		t.Run(fmt.Sprint(test.want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newStack(t, simnet.Options{Path: simnet.Path{Delay: 10 * ms}}, &test.config, nil)
				require.NoError(t, l.send(&vstp.Message{RequireAck: true}))
				l.receive(t)
				time.Sleep(time.Second)
				l.net.Both(l.ch, l.sh, simnet.Path{Down: true})
				for _, n := range []int{0, 100, 20_000} {
					start := time.Now()
					err := l.send(&vstp.Message{Payload: contentBytes(n), RequireAck: true})
					require.Equal(t, test.want, time.Since(start), "%d bytes", n)
					require.ErrorIs(t, err, vstp.ErrAckTimeout)
					var ne net.Error
					require.True(t, errors.As(err, &ne) && ne.Timeout())
				}
				// And the association is none the worse for it.
				l.net.Both(l.ch, l.sh, simnet.Path{Delay: 10 * ms})
				require.NoError(t, l.send(&vstp.Message{Payload: []byte("after"), RequireAck: true}))
				require.Equal(t, "after", string(l.receive(t).Payload))
				l.quiet(t)
				l.close()
			})
		})
	}
}

// A context ends SendMessage at once, with its cause; what it ended does not arrive
// later, and what comes behind does.
func TestStackCancel(t *testing.T) {
	for _, n := range []int{0, 1000, 1 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := simnet.Path{Delay: 10 * ms}
				l := newStack(t, simnet.Options{Path: path}, stackConfig, nil)
				require.NoError(t, l.send(&vstp.Message{RequireAck: true}))
				l.receive(t)
				for i, ordered := range []bool{false, true} {
					l.net.Both(l.ch, l.sh, simnet.Path{Down: true})
					why := errors.New("why")
					ctx, cancel := context.WithCancelCause(context.Background())
					start := time.Now()
					time.AfterFunc(777*ms, func() { cancel(why) })
					m := &vstp.Message{Payload: contentBytes(n), RequireAck: true, Ordered: ordered, Channel: 5}
					err := l.client.SendMessage(ctx, m, l.server.LocalAddr())
					require.ErrorIs(t, err, why)
					require.Equal(t, 777*ms, time.Since(start))
					l.net.Both(l.ch, l.sh, path)
					require.NoError(t, l.send(&vstp.Message{Payload: []byte{byte(i)}, RequireAck: true, Ordered: ordered, Channel: 5}))
					require.Equal(t, []byte{byte(i)}, l.receive(t).Payload)
					l.quiet(t)
				}
				l.close()
			})
		})
	}
}

// "A 100-byte message beside a 100 MB one takes about a round trip" (F9), p99.
func TestStackSmallBesideHuge(t *testing.T) {
	for _, loss := range []float64{0, 0.01} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rtt = 40 * ms
				path := simnet.Path{Delay: rtt / 2, Rate: 25_000_000, Queue: 1_000_000, Loss: loss}
				l := newStack(t, simnet.Options{Seed: 1, Path: path}, stackConfig, nil)
				require.NoError(t, l.send(&vstp.Message{RequireAck: true}))
				l.receive(t)
				huge := async(func() error {
					return l.send(&vstp.Message{Payload: contentBytes(int(bigSize)), RequireAck: true})
				})
				arrived := make(map[int]time.Time)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						m, _, err := l.server.ReceiveMessage(context.Background())
						if err != nil || len(m.Payload) != 100 {
							return
						}
						arrived[int(m.Payload[0])<<8|int(m.Payload[1])] = time.Now()
					}
				}()
				var began []time.Time
				took := make([]time.Duration, 1<<16)
				var g group
				for len(huge) == 0 {
					i, at := len(began), time.Now()
					began = append(began, at)
					g.Go(func() error {
						p := contentBytes(100)
						p[0], p[1] = byte(i>>8), byte(i)
						err := l.send(&vstp.Message{Payload: p, RequireAck: true})
						took[i] = time.Since(at)
						return err
					})
					time.Sleep(10 * ms)
				}
				require.NoError(t, <-huge)
				<-done
				g.wg.Wait()
				g.Wait(t)
				var ways []time.Duration
				for i, at := range arrived {
					ways = append(ways, at.Sub(began[i]))
				}
				require.GreaterOrEqual(t, len(ways), len(began)*9/10)
				slices.Sort(ways)
				took = took[:len(began)]
				slices.Sort(took)
				p99 := took[len(took)*99/100]
				t.Logf("%d: one way p50 %v, p99 %v; acknowledged p50 %v, p99 %v, max %v", len(took), ways[len(ways)/2],
					ways[len(ways)*99/100], took[len(took)/2], p99, took[len(took)-1])
				require.Less(t, took[len(took)/2], rtt*5/4)
				limit := 3 * rtt // a queue of 40 ms is filled for a moment
				if loss > 0 {
					limit = 6 * rtt // one is lost, its repetition too
				}
				require.Less(t, p99, limit)
				l.close()
			})
		})
	}
}

// Ordered messages of many channels and sizes keep their order, and one channel does
// not wait for another that is held up.
func TestStackChannels(t *testing.T) {
	simnet.Run(t, 5, func(t *testing.T, seed uint64) {
		l := newStack(t, simnet.Options{Seed: seed, Path: lossy(0.1)}, stackConfig, nil)
		const channels, count = 8, 40
		var g group
		for ch := range channels {
			g.Go(func() error {
				for i := range count {
					p := append([]byte{byte(ch), byte(i)}, contentBytes((i*7919+ch*104729)%30_000)...)
					if err := l.send(&vstp.Message{Payload: p, Ordered: true, Channel: uint64(ch) * 146, RequireAck: i%5 == 0}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		var next [channels]int
		for range channels * count {
			p := l.receive(t).Payload
			ch := int(p[0])
			require.Equal(t, next[ch], int(p[1]), "channel %d", ch)
			isContent(t, int64((next[ch]*7919+ch*104729)%30_000), p[2:])
			next[ch]++
		}
		g.wg.Wait()
		g.Wait(t)
		l.quiet(t)
		l.close()
	})
}

// A message with a larger Priority goes before those that wait.
func TestStackPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newStack(t, simnet.Options{Path: simnet.Path{Delay: 10 * ms, Rate: 1_000_000, Queue: 100_000}}, stackConfig, nil)
		require.NoError(t, l.send(&vstp.Message{RequireAck: true}))
		l.receive(t)
		const low = 50 // of 50 KB: 2.5 s
		var g group
		for range low {
			g.Go(func() error {
				return l.send(&vstp.Message{Payload: contentBytes(50_000), RequireAck: true, Priority: -1})
			})
		}
		time.Sleep(500 * ms)
		start := time.Now()
		var took time.Duration
		g.Go(func() error {
			err := l.send(&vstp.Message{Payload: contentBytes(20_000), RequireAck: true, Priority: 1})
			took = time.Since(start)
			return err
		})
		for range low + 1 {
			l.receive(t)
		}
		g.wg.Wait()
		g.Wait(t)
		t.Log(took)
		require.Less(t, took, 300*ms, "its 20 ms, a round trip and a queue")
		l.close()
	})
}

// A message whose Lifetime ends is ErrExpired at exactly that time and is forgotten at
// both ends (R9), whether it waits, is half through, or has not found its peer yet.
func TestStackLifetime(t *testing.T) {
	simnet.Run(t, 3, func(t *testing.T, seed uint64) {
		path := simnet.Path{Delay: 10 * ms, Rate: 1_000_000, Queue: 50_000, Loss: 0.05}
		l := newStack(t, simnet.Options{Seed: seed, Path: simnet.Path{Down: true}}, stackConfig, nil)
		for _, p := range []simnet.Path{{Down: true}, path, path} { // no association; half through
			l.net.Both(l.ch, l.sh, p)
			start := time.Now()
			err := l.send(&vstp.Message{Payload: contentBytes(5 << 20), RequireAck: true, Ordered: true, Lifetime: time.Second})
			require.ErrorIs(t, err, vstp.ErrExpired)
			require.InDelta(t, time.Second, time.Since(start), float64(100*time.Microsecond)) // timers are no closer
			var ne net.Error
			require.True(t, errors.As(err, &ne) && ne.Timeout())
			l.net.Both(l.ch, l.sh, path)
			require.NoError(t, l.send(&vstp.Message{Payload: []byte("next"), RequireAck: true, Ordered: true, Lifetime: time.Minute}))
			require.Equal(t, "next", string(l.receive(t).Payload))
		}
		l.quiet(t)
		l.close()
	})
}
