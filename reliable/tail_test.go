package reliable

import (
	"testing"
	"time"
)

// wide is a path of which the send buffer is of large blocks.
func wide(mtu int) func(*Config) {
	return func(c *Config) {
		c.Local.MaxData, c.Local.MaxStreamData, c.Local.MaxDatagram = 16<<20, 16<<20, mtu
		c.Peer = c.Local
		c.SearchMTU = mtu
	}
}

// TestTail: bytes that are sealed right from the send buffer arrive, and so do those around
// them, where heads of packets lie meanwhile, also if they are sent again.
func TestTail(t *testing.T) {
	for _, mtu := range []int{1472, 9000, MaxMTU} {
		for _, loss := range []float64{0, 0.02} {
			s, c, _ := newNullRig(t, wide(mtu))
			for i := range s.links {
				s.links[i].delay, s.links[i].rate, s.links[i].loss = 20*time.Millisecond, 100<<20, loss
			}
			large := 0
			_, err := s.bulkWith(0, 40<<20, time.Minute, func() {
				for _, b := range c.streams[0].out.blocks {
					if cap(b.b) == largeBlockLen {
						large++
					}
				}
			})
			if err != nil {
				t.Fatalf("%d, %v: %v", mtu, loss, err)
			}
			sent, from := c.Stats().PacketsSent, nullOf(c).from
			if t.Logf("%d, %v: %d of %d packets", mtu, loss, from, sent); from < int(sent)*6/10 {
				t.Errorf("%d, %v: %d of %d packets without a copy", mtu, loss, from, sent)
			}
			if large == 0 {
				t.Error("no large blocks")
			}
		}
	}
}
