package vstp_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// Latency of messages over a path of 100 Mbit/s and 40 ms, with losses, through all of the
// stack, in virtual time.

func fastPath(loss, burst float64) simnet.Path {
	p := simnet.Path{Delay: 20 * time.Millisecond, Rate: 12_500_000, Overhead: 28, Queue: 500_000}
	if burst > 1 {
		p.Burst = simnet.Bursts(loss, burst)
	} else {
		p.Loss = loss
	}
	return p
}

// latencies sends messages like m from client to server, of so many bytes, one every 10 ms,
// and returns how long they took, sorted. Each must arrive once.
func latencies(t *testing.T, client, server *vstp.Conn, m vstp.Message, size, count int) []time.Duration {
	t.Helper()
	begin := time.Now()
	sent := async(func() error {
		for i := range count {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * 10 * time.Millisecond)))
			m := m
			m.Payload = binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(i))[:size]
			if err := client.SendMessage(context.Background(), &m); err != nil {
				return err
			}
		}
		return nil
	})
	took := make([]time.Duration, count)
	for range count {
		got, err := server.ReceiveMessage(context.Background())
		require.NoError(t, err)
		require.Len(t, got.Payload, size)
		i := binary.BigEndian.Uint32(got.Payload)
		require.Zero(t, took[i], "message %d again", i)
		took[i] = time.Since(begin) - time.Duration(i)*10*time.Millisecond
	}
	require.NoError(t, <-sent)
	slices.Sort(took)
	return took
}

// "p99 of 200 B messages at 1 and 5 % loss: one way and at most 10 ms."
func TestSimRedundantLatency(t *testing.T) {
	for _, tt := range []struct {
		size        int
		loss, burst float64
		redundant   bool
		p50, p99    time.Duration
		budget      float64 // redundant bytes for each byte, at most
	}{
		{200, 0, 1, false, 21 * time.Millisecond, 21 * time.Millisecond, 0},
		{200, 0, 1, true, 21 * time.Millisecond, 21 * time.Millisecond, 1.1},
		{200, 0.01, 1, true, 21 * time.Millisecond, 30 * time.Millisecond, 1.3},
		{200, 0.05, 1, false, 21 * time.Millisecond, 125 * time.Millisecond, 0},
		{200, 0.05, 1, true, 21 * time.Millisecond, 30 * time.Millisecond, 2.5},
		{200, 0.05, 8, true, 21 * time.Millisecond, 100 * time.Millisecond, 3},
		{8000, 0.05, 1, true, 25 * time.Millisecond, 70 * time.Millisecond, 1},
	} {
		t.Run(fmt.Sprintf("%d bytes, %v in %v, %v", tt.size, tt.loss, tt.burst, tt.redundant), func(t *testing.T) {
			simnet.Run(t, 2, func(t *testing.T, seed uint64) {
				l := newSimLink(t, seed, fastPath(tt.loss, tt.burst), nil)
				c, s := l.pair(t)
				took := latencies(t, c, s, vstp.Message{Redundant: tt.redundant}, tt.size, 1000)
				st := c.Stats()
				spent := float64(st.RedundantSent) / float64(1000*tt.size)
				t.Logf("p50 %v p99 %v max %v; redundancy %.2f, %d repaired, %d of %d packets lost", took[500], took[990], took[999],
					spent, st.RedundantRepaired, st.PacketsLost, st.PacketsSent)
				require.LessOrEqual(t, took[500], tt.p50)
				require.LessOrEqual(t, took[990], tt.p99)
				require.LessOrEqual(t, spent, tt.budget)
				require.NoError(t, c.Close())
				_, err := io.Copy(io.Discard, s)
				require.NoError(t, err)
				l.close()
			})
		})
	}
}

// Redundancy goes with every other wish: order, acknowledgement, TLS, and Write of a
// message connection.
func TestSimRedundantOptions(t *testing.T) {
	for name, config := range map[string]*vstp.Config{
		"plain": {RedundantMessages: true, Redundancy: 1},
		"TLS":   sealedConfig(&vstp.Config{RedundantMessages: true, Redundancy: 8}),
		"none":  {RedundantMessages: true, Redundancy: -1},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Run(t, 2, func(t *testing.T, seed uint64) {
				l := newSimLink(t, seed, lossy(0.1), config)
				const count = 200
				sent := async(func() error {
					for i := range count {
						time.Sleep(5 * time.Millisecond)
						m := &vstp.Message{Payload: []byte{byte(i)}, Ordered: true, RequireAck: i%10 == 0}
						if i%3 == 0 {
							m.Payload = append(m.Payload, contentBytes(20*i)...)
						}
						if err := l.client.SendMessage(context.Background(), m, l.server.LocalAddr()); err != nil {
							return err
						}
					}
					return nil
				})
				for i := range count {
					m, _, err := l.server.ReceiveMessage(context.Background())
					require.NoError(t, err)
					require.Equal(t, byte(i), m.Payload[0])
					if i%3 == 0 {
						require.Equal(t, contentBytes(20*i), m.Payload[1:])
					}
				}
				require.NoError(t, <-sent)
				l.close()
			})
		})
	}
}

// A stream beside redundant messages is as fast as beside others.
func TestSimRedundantBesideStream(t *testing.T) {
	const n = 64 << 20 // so long that how Startup ends does not count
	took := make(map[bool]time.Duration)
	for _, on := range []bool{false, true} {
		simnet.Run(t, 1, func(t *testing.T, seed uint64) {
			l := newSimLink(t, seed, fastPath(0.01, 1), nil)
			c, s := l.pair(t)
			begin := time.Now()
			stop := make(chan struct{})
			messages := async(func() error {
				for {
					select {
					case <-stop:
						return nil
					case <-time.After(5 * time.Millisecond):
					}
					if err := c.SendMessage(context.Background(), &vstp.Message{Payload: make([]byte, 300), Redundant: on}); err != nil {
						return err
					}
				}
			})
			wrote := async(func() error {
				_, err := io.Copy(c, content(n))
				close(stop)
				return cmp.Or(err, <-messages, c.CloseWrite())
			})
			got, err := digestOf(s)
			took[on] = time.Since(begin)
			require.NoError(t, err)
			require.Equal(t, contentDigest(n), got)
			require.NoError(t, <-wrote)
			l.close()
		})
	}
	t.Logf("%v without, %v with redundancy", took[false], took[true])
	require.LessOrEqual(t, took[true], took[false]*106/100)
}
