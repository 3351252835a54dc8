package vstp_test

import (
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

// streamLatencies is latencies for messages on the byte stream, where a loss delays those
// behind it.
func streamLatencies(t *testing.T, client, server *vstp.Conn, size, count int) []time.Duration {
	t.Helper()
	begin := time.Now()
	sent := async(func() error {
		for i := range count {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * 10 * time.Millisecond)))
			if _, err := client.Write(binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(i))[:size]); err != nil {
				return err
			}
		}
		return nil
	})
	took := make([]time.Duration, count)
	b := make([]byte, size)
	for i := range count {
		_, err := io.ReadFull(server, b)
		require.NoError(t, err)
		require.EqualValues(t, i, binary.BigEndian.Uint32(b))
		took[i] = time.Since(begin) - time.Duration(i)*10*time.Millisecond
	}
	require.NoError(t, <-sent)
	return took
}

// What losses cost messages of 200 bytes, one every 10 ms, over 20 ms one way. Without
// redundancy a loss is known when the next packet is acknowledged: 10 + 40 ms, then 20 ms on
// the way; and of what is sent again a copy follows, so that few wait for longer.
func TestSimMessageTail(t *testing.T) {
	const ms = time.Millisecond
	const bytes, count = 200, 500
	seeds := 20
	if raceEnabled {
		seeds = 2 // too few for bounds
	}
	for _, tt := range []struct {
		loss, burst float64
		kind        string
		p99, p999   time.Duration
		wire        float64 // bytes of packets, for each byte of the messages
	}{
		{0.01, 1, "stream", 72 * ms, 80 * ms, 1.3},
		{0.01, 1, "messages", 72 * ms, 80 * ms, 1.3},
		{0.01, 1, "redundant", 25 * ms, 30 * ms, 2.6},
		{0.05, 1, "stream", 80 * ms, 110 * ms, 1.4},
		{0.05, 1, "messages", 75 * ms, 110 * ms, 1.4},
		{0.05, 1, "redundant", 25 * ms, 35 * ms, 3.8},
		{0.10, 1, "stream", 95 * ms, 135 * ms, 1.55},
		{0.10, 1, "messages", 90 * ms, 135 * ms, 1.55},
		{0.10, 1, "redundant", 30 * ms, 75 * ms, 4},
		{0.20, 1, "stream", 140 * ms, 200 * ms, 1.8},
		{0.20, 1, "redundant", 35 * ms, 85 * ms, 4.3},
		{0.02, 8, "redundant", 75 * ms, 110 * ms, 3.7},
	} {
		t.Run(fmt.Sprintf("%v in %v, %v", tt.loss, tt.burst, tt.kind), func(t *testing.T) {
			var all []time.Duration
			var wire float64
			simnet.Run(t, seeds, func(t *testing.T, seed uint64) {
				l := newSimLink(t, seed, fastPath(tt.loss, tt.burst), nil)
				c, s := l.pair(t)
				if tt.kind == "stream" {
					all = append(all, streamLatencies(t, c, s, bytes, count)...)
				} else {
					all = append(all, latencies(t, c, s, vstp.Message{Redundant: tt.kind == "redundant"}, bytes, count)...)
				}
				wire += float64(l.net.Path(l.ch, l.sh).Stats().SentBytes) / bytes / count / float64(seeds)
				l.close()
			})
			slices.Sort(all)
			n := len(all)
			p99, p999 := all[n*99/100], all[n*999/1000]
			t.Logf("p50 %v, p99 %v, p99.9 %v, max %v; %.2f bytes for each", all[n/2], p99, p999, all[n-1], wire)
			if raceEnabled {
				return
			}
			require.LessOrEqual(t, p99, tt.p99)
			require.LessOrEqual(t, p999, tt.p999)
			if *sealAll {
				tt.wire *= 1.1 // a packet has 12 bytes more
			}
			require.LessOrEqual(t, wire, tt.wire)
		})
	}
}
