package reliable

import (
	"fmt"
	"testing"
	"time"
)

// TestWindowsGrow: buffers and credit follow the path without being told, and none of their
// bounds is what limits a transfer.
func TestWindowsGrow(t *testing.T) {
	for _, tt := range []struct {
		rate float64
		rtt  time.Duration
		loss float64
	}{
		{500, 10 * time.Millisecond, 0},
		{500, 10 * time.Millisecond, 0.001},
		{100, 40 * time.Millisecond, 0},
		{100, 200 * time.Millisecond, 0},
		{100, 200 * time.Millisecond, 0.01},
		{1000, 100 * time.Millisecond, 0},
		{1000, 100 * time.Millisecond, 0.001},
	} {
		if raceEnabled && tt.rate > 100 {
			continue // too many packets
		}
		t.Run(fmt.Sprint(tt.rate, tt.rtt, tt.loss), func(t *testing.T) {
			bytesPerRTT := tt.rate * mbit * tt.rtt.Seconds()
			s := newRig(t, 1, wire{delay: tt.rtt / 2, loss: tt.loss, rate: tt.rate * mbit, queue: int(bytesPerRTT)})
			n := int(tt.rate * mbit * 4)
			if tt.rate <= 100 {
				n *= 3
			}
			in, out := s.ends[1].streams.get(0), s.ends[0].streams.get(0)
			var from time.Time
			var read, acks int64
			kept, unread := 0, 0
			_, err := s.bulkWith(0, n, 100*time.Second, func() {
				if from.IsZero() && s.since() > 3*time.Second {
					from, read, acks = s.now, in.in.read, int64(s.ends[1].Stats().PacketsSent)
				}
				kept, unread = max(kept, out.out.len()), max(unread, int(in.in.highest-in.in.read))
			})
			if err != nil {
				t.Fatal(err)
			}
			d := s.now.Sub(from).Seconds()
			share := float64(int64(n)-read) / d / (tt.rate * mbit)
			perRTT := float64(int64(s.ends[1].Stats().PacketsSent)-acks) / d * tt.rtt.Seconds()
			mib := func(n int) float64 { return float64(n) / (1 << 20) }
			t.Logf("%.3f of the rate, %.1f ACKs a round trip; in flight %.1f MiB, sender keeps %.1f, receiver %.1f, window %.0f",
				share, perRTT, bytesPerRTT/(1<<20), mib(kept), mib(unread), mib(int(in.window)))
			if share < 0.93 {
				t.Error("too little")
			}
		})
	}
}
