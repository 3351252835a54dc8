package simnet

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestBulk measures what a packet costs in real time.
func TestBulk(t *testing.T) {
	const total, size = 100 << 20, 1400
	tests := []struct {
		name string
		vnet bool
		path Path
		pace int // packets sent between pauses of 1 ms; 0: as the queue lets them
	}{
		{"direct", false, Path{}, 64},
		{"direct delay", false, Path{Delay: 20 * time.Millisecond}, 64},
		{"direct rate", false, Path{Delay: 20 * time.Millisecond, Rate: 64 * size * 1000}, 64},
		{"direct all", false, Path{Delay: 20 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.01, Reorder: 0.01, Duplicate: 0.01, Rate: 64 * size * 1000, Queue: 1 << 20, Burst: Bursts(0.01, 5)}, 64},
		{"vnet", true, Path{}, 64},
		{"vnet delay", true, Path{Delay: 20 * time.Millisecond}, 64},
		{"vnet rate", true, Path{Delay: 20 * time.Millisecond, Rate: 64 * size * 1000}, 64},
	}
	packets := total / size
	if testing.Short() || raceEnabled {
		packets /= 20
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			var received int
			synctest.Test(t, func(t *testing.T) {
				n := New(t, Options{Seed: 1, VNet: tt.vnet, Path: tt.path})
				a, b := n.Host("10.0.0.1").ListenPacket(0), n.Host("10.0.0.2").ListenPacket(9)
				done := make(chan int)
				go func() {
					buf, got := make([]byte, 2048), 0
					for {
						if _, _, err := b.ReadFrom(buf); errors.Is(err, net.ErrClosed) {
							done <- got
							return
						}
						got++
					}
				}()
				buf := make([]byte, size)
				for i := range packets {
					if i%tt.pace == tt.pace-1 {
						time.Sleep(time.Millisecond)
					}
					if _, err := a.WriteTo(buf, b.LocalAddr()); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				b.Close()
				received = <-done
				link := n.Path(n.Host("10.0.0.1"), n.Host("10.0.0.2"))
				if s := link.Stats(); uint64(received) != s.Arrived {
					t.Errorf("received %d of %d, %+v", received, s.Arrived, n.Stats())
				}
			})
			took := time.Since(start)
			t.Logf("%d of %d packets, %v each, %.0f packets/s, %.0f MB/s", received, packets,
				took/time.Duration(packets), float64(packets)/took.Seconds(), float64(packets)*size/1e6/took.Seconds())
		})
	}
}
