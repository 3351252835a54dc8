package reliable

import (
	"testing"
	"time"
)

// TestSteadyAllocations: a transfer that is under way costs no memory, sealed or not.
func TestSteadyAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	plain := steadyAllocations(t)
	var seal float64
	sealed(func() { seal = steadyAllocations(t) })
	if t.Logf("%.3f a packet, sealed %.3f", plain, seal); plain > 0.05 || seal > 0.05 {
		t.Error("too many")
	}
}

// steadyAllocations returns how many allocations a packet costs at both ends together.
func steadyAllocations(t *testing.T) float64 {
	s := newRig(t, 1, wire{})
	c, v := s.ends[0], s.ends[1]
	data, buf := make([]byte, 64<<10), make([]byte, 64<<10)
	packet := make([]byte, 0, 2000)
	packets := uint64(0)
	move := func() {
		for range 20 {
			s.now = s.now.Add(time.Millisecond)
			c.Write(s.now, 0, data)
			for i, a := range s.ends {
				a.Advance(s.now)
				for range 20 {
					packet = a.AppendDatagram(s.now, packet[:0])
					if len(packet) == 0 {
						break
					}
					packets++
					s.ends[1-i].Receive(s.now, packet)
				}
				for a.NextEvent().Kind != EventNone {
				}
			}
			v.Read(s.now, 0, buf)
		}
	}
	for range 200 {
		move()
	}
	packets = 0
	n := testing.AllocsPerRun(100, move)
	return n / (float64(packets) / 101)
}
