package endpoint

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/internal/simnet"
	"github.com/vstp-go/vstp/reliable"
)

// What docs/TUNING.md says of links, in virtual time: -v shows the figures.

// tuningLink is 100 Mbit/s and 40 ms there and back, with a queue of that.
func tuningLink(loss float64) simnet.Path {
	return simnet.Path{Delay: 20 * time.Millisecond, Rate: 12_500_000, Queue: 500_000, Overhead: 28, Loss: loss}
}

// goodput returns what a stream of n bytes makes of a path, in Mbit/s.
func goodput(t *testing.T, path simnet.Path, cfg *Config, n int) (rate float64) {
	bubble(t, path, cfg, func(t *testing.T, d *duo) {
		c, s := connect(t, d.a, d.b)
		start := time.Now()
		go c.Write(pattern(n))
		_, err := io.CopyN(io.Discard, s, int64(n))
		require.NoError(t, err)
		rate = float64(n) * 8 / 1e6 / time.Since(start).Seconds()
		go s.Close()
		c.Close()
	})
	return rate
}

// BBR makes use of a path with random loss, CUBIC takes loss for congestion.
func TestTuningController(t *testing.T) {
	for _, loss := range []float64{0, 0.001, 0.01, 0.05} {
		rates := map[reliable.Controller]float64{}
		for _, c := range []reliable.Controller{reliable.BBR, reliable.CUBIC} {
			cfg := testConfig()
			cfg.Controller = c
			rates[c] = goodput(t, tuningLink(loss), cfg, 20<<20)
		}
		t.Logf("loss %.1f %%: bbr %.1f, cubic %.1f Mbit/s", 100*loss, rates[reliable.BBR], rates[reliable.CUBIC])
		if loss >= 0.01 {
			require.Greater(t, rates[reliable.BBR], 5*rates[reliable.CUBIC])
		}
	}
}

// A window smaller than rate times round trip bounds a stream.
func TestTuningWindow(t *testing.T) {
	long := simnet.Path{Delay: 100 * time.Millisecond, Rate: 12_500_000, Queue: 2_500_000, Overhead: 28}
	full := goodput(t, long, testConfig(), 50<<20)
	cfg := testConfig()
	cfg.ReceiveWindow = 1 << 20
	small := goodput(t, long, cfg, 50<<20)
	cfg = testConfig()
	cfg.SendBuffer = 1 << 20
	sender := goodput(t, long, cfg, 50<<20)
	t.Logf("200 ms: default %.1f, ReceiveWindow 1 MiB %.1f, SendBuffer 1 MiB %.1f Mbit/s", full, small, sender)
	require.Less(t, small, 1<<20*8/1e6/0.2*1.05)
	require.Greater(t, full, small)
}

// Redundancy hides most losses of small messages.
func TestTuningRedundancy(t *testing.T) {
	const messages = 2000
	for _, redundant := range []bool{false, true} {
		cfg := testConfig()
		cfg.Redundancy = 3 // as vstp.Config has it
		bubble(t, tuningLink(0.05), cfg, func(t *testing.T, d *duo) {
			c, s := connect(t, d.a, d.b)
			sent := make([]time.Time, messages)
			before := c.Stats().WireSent
			go func() {
				for i := range messages {
					sent[i] = time.Now()
					c.SendMessage(t.Context(), &session.Message{Payload: append([]byte{byte(i >> 8), byte(i)}, make([]byte, 198)...), Repair: true, Redundant: redundant})
					time.Sleep(10 * time.Millisecond)
				}
			}()
			var took []time.Duration
			for range messages {
				m, err := s.ReceiveMessage(t.Context())
				require.NoError(t, err)
				took = append(took, time.Since(sent[int(m.Payload[0])<<8|int(m.Payload[1])]))
			}
			slices.Sort(took)
			t.Logf("redundant %v: p50 %v, p99 %v, largest %v; %.2f bytes for each", redundant,
				took[messages/2], took[messages*99/100], took[messages-1], float64(c.Stats().WireSent-before)/messages/200)
			if redundant {
				require.Less(t, took[messages*99/100], 40*time.Millisecond)
			}
			go s.Close()
			c.Close()
		})
	}
}
