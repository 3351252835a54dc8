package vstp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// movers has connections move to and fro, every pause, until count moves were made in all,
// and returns what ends it earlier, and a channel that is closed at the end.
func movers(t testing.TB, count int, pause time.Duration, conns ...*vstp.Conn) (stop func() int) {
	var made atomic.Int64
	quit := make(chan struct{})
	var dones []<-chan struct{}
	for i, c := range conns {
		done := make(chan struct{})
		dones = append(dones, done)
		go func() {
			defer close(done)
			time.Sleep(time.Duration(i) * pause / 2)
			for made.Load() < int64(count) {
				select {
				case <-quit:
					return
				default:
				}
				before := c.Carrier()
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				err := c.Move(ctx, vstp.CarrierAny)
				cancel()
				if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
					t.Logf("Move %d from %v: %v", made.Load(), before, err)
				}
				if err == nil {
					made.Add(1)
				}
				time.Sleep(pause)
			}
		}()
	}
	return func() int {
		close(quit)
		for _, d := range dones {
			<-d
		}
		return int(made.Load())
	}
}

// forcing is a configuration under which nobody but the test moves.
func forcing() *vstp.Config {
	return &vstp.Config{
		Auto:   vstp.AutoConfig{SwitchCooldown: 24 * time.Hour, MinDwellTime: 24 * time.Hour},
		Linger: 5 * time.Minute, IdleTimeout: 5 * time.Minute, MaxRetries: 30,
	}
}

// 100 MB both ways at once through a thousand forced moves, by the client, or by both
// sides against each other, at several losses of datagrams: what arrives is what was
// sent. Trap A1.
func TestAutoSimThousandMoves(t *testing.T) {
	size := sized[int64](100<<20, 6<<20)
	if testing.Short() {
		size = 4 << 20
	}
	for _, loss := range []float64{0, 0.05, 0.2} {
		for _, both := range []bool{false, true} {
			name := fmt.Sprintf("loss %v/client", loss)
			if both {
				name = fmt.Sprintf("loss %v/both sides", loss)
			}
			rate := size / 25 // so that it takes as long as the moves
			o := autoOptions{
				udp:    &simnet.Path{Delay: 5 * ms, Loss: loss, Rate: rate, Queue: int(rate / 20)},
				tcp:    &simnet.TCPPath{Delay: 5 * ms, Rate: rate},
				buffer: int(rate / 100),
				client: forcing(), server: forcing(),
			}
			t.Run(name, func(t *testing.T) {
				eachAuto(t, o, func(t *testing.T, a *autoSim) {
					c, s := a.dialWarm()
					start := time.Now()
					pause := 20 * ms
					moving := []*vstp.Conn{c}
					if both {
						moving, pause = []*vstp.Conn{c, s}, 2*pause
					}
					stop := movers(t, 1000, pause, moving...)
					up, down := a.flow(c, s, size), a.flow(s, c, size)
					up.finish()
					down.finish()
					took := time.Since(start)
					made := stop()
					t.Logf("%d moves ordered, %d and %d made, in %v: %.1f MB/s; sent again %d", made, c.Stats().Moves, s.Stats().Moves,
						took, float64(size)/1e6/took.Seconds(), c.Stats().BytesRetransmitted)
					require.Greater(t, made, 900)
					a.close(c, s)
				})
			})
		}
	}
}

// Messages with RequireAck through a hundred moves: each arrives once, and those of an
// ordered channel in order. Trap A7.
func TestAutoSimMessages(t *testing.T) {
	const count, channels = 1000, 4
	for _, loss := range []float64{0, 0.05, 0.2} {
		o := autoOptions{
			udp:    &simnet.Path{Delay: 5 * ms, Loss: loss, Rate: 2_000_000, Queue: 100_000},
			tcp:    &simnet.TCPPath{Delay: 5 * ms, Rate: 2_000_000},
			client: forcing(), server: forcing(),
		}
		t.Run(fmt.Sprintf("loss %v", loss), func(t *testing.T) {
			eachAuto(t, o, func(t *testing.T, a *autoSim) {
				c, s := a.dialWarm()
				stop := movers(t, 1000, 10*ms, c)
				var g group
				for ch := range channels {
					g.Go(func() error {
						for i := range count / channels {
							size := i * 97 % 3000
							if i%50 == 49 {
								size = 200_000
							}
							head := binary.BigEndian.AppendUint32([]byte{byte(ch)}, uint32(i))
							m := &vstp.Message{Payload: append(head, contentBytes(size)...), RequireAck: true, Ordered: ch%2 == 0, Channel: uint64(ch)}
							if err := c.SendMessage(context.Background(), m); err != nil {
								return fmt.Errorf("message %d on %d: %w", i, ch, err)
							}
						}
						return nil
					})
				}
				next := [channels]int{}
				for n := range count {
					m, err := s.ReceiveMessage(context.Background())
					require.NoError(t, err, "after %d", n)
					ch, i := m.Payload[0], int(binary.BigEndian.Uint32(m.Payload[1:]))
					require.Equal(t, next[ch], i, "channel %d", ch)
					next[ch]++
					require.True(t, bytes.Equal(contentBytes(len(m.Payload)-5), m.Payload[5:]))
				}
				g.Wait(t)
				t.Logf("%d moves", stop())
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				_, err := s.ReceiveMessage(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded, "one more")
				a.close(c, s)
			})
		})
	}
}

// Messages side by side without order, while connections are reset and datagrams lost.
func TestAutoSimMessagesAtOnce(t *testing.T) {
	o := autoOptions{
		udp:    &simnet.Path{Delay: 5 * ms, Loss: 0.1, Rate: 2_000_000, Queue: 100_000},
		tcp:    &simnet.TCPPath{Delay: 5 * ms, Rate: 2_000_000},
		client: forcing(), server: forcing(),
	}
	eachAuto(t, o, func(t *testing.T, a *autoSim) {
		c, s := a.dialWarm()
		stop := movers(t, 1000, 50*ms, c)
		resets := time.NewTicker(400 * ms)
		quit := make(chan struct{})
		go func() {
			for {
				select {
				case <-quit:
					return
				case <-resets.C:
					a.net.ResetTCP(a.ch, a.sh)
				}
			}
		}()
		const count = 500
		var g group
		for i := range count {
			g.Go(func() error {
				time.Sleep(time.Duration(i) * 10 * ms)
				return c.SendMessage(context.Background(), &vstp.Message{Payload: append([]byte{byte(i), byte(i >> 8)}, contentBytes(i*20)...), RequireAck: true})
			})
		}
		seen := make(map[int]bool)
		for range count {
			m, err := s.ReceiveMessage(context.Background())
			require.NoError(t, err)
			i := int(m.Payload[0]) | int(m.Payload[1])<<8
			require.False(t, seen[i], "message %d again", i)
			require.True(t, bytes.Equal(contentBytes(i*20), m.Payload[2:]))
			seen[i] = true
		}
		g.Wait(t)
		close(quit)
		resets.Stop()
		t.Logf("%d moves, %d connections", stop(), a.tcpDials())
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err := s.ReceiveMessage(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		a.close(c, s)
	})
}
