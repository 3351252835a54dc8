package endpoint

import (
	"testing"
	"time"
)

// TestProbesGoAlone: a write with a probe of the path's MTU, which may fail as a whole, has
// nothing else in it.
func TestProbesGoAlone(t *testing.T) {
	bubble(t, clean, testConfig(), func(t *testing.T, d *duo) {
		d.a.segments = maxSegments
		c, _ := connect(t, d.a, d.b)
		probes, batches := 0, 0
		for range 200 {
			c.mu.Lock()
			now := time.Now()
			c.eng.Write(now, 0, make([]byte, 10_000))
			for {
				_, size, n, _ := c.fill(now, nil)
				if n == 0 {
					break
				}
				if n > 1 {
					batches++
				}
				if size > c.eng.LargestDatagram() {
					probes++
					if n > 1 {
						t.Fatalf("%d datagrams of %d, which is a probe", n, size)
					}
				}
			}
			c.mu.Unlock()
			time.Sleep(50 * time.Millisecond) // what does not arrive is lost, and goes again
		}
		if probes == 0 || batches == 0 {
			t.Errorf("%d probes, %d batches: nothing was tested", probes, batches)
		}
	})
}
