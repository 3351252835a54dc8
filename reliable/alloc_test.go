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

// TestSteadyFrameAllocations: the same over a byte stream.
func TestSteadyFrameAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	move, frames := frameMover(t)
	for range 200 {
		move()
	}
	*frames = 0
	n := testing.AllocsPerRun(100, move) / (float64(*frames) / 101)
	if t.Logf("%.3f a frame", n); n > 0.05 {
		t.Error("too many")
	}
}

// BenchmarkFrames is bulk over a byte stream, in memory.
func BenchmarkFrames(b *testing.B) {
	move, _ := frameMover(b)
	b.SetBytes(20 * 64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		move()
	}
}

// frameMover returns what moves 1.25 MiB from one end to the other, and counts frames.
func frameMover(t testing.TB) (move func(), frames *int) {
	s := newRig(t, 1, wire{}, func(c *Config) {
		c.Moves, c.Carrier = true, ByteStream
		c.Local.MaxData, c.Local.MaxStreamData = 8<<20, 8<<20
		c.Peer = c.Local
	})
	c, v := s.ends[0], s.ends[1]
	data, buf := make([]byte, 64<<10), make([]byte, 64<<10)
	frame := make([]byte, 0, MaxFrame)
	frames = new(int)
	return func() {
		for range 20 {
			s.now = s.now.Add(100 * time.Microsecond)
			if n, err := c.Write(s.now, 0, data); n < len(data) || err != nil {
				t.Fatal(n, err)
			}
			for i, a := range s.ends {
				a.Advance(s.now)
				for {
					frame = a.AppendFrame(s.now, frame[:0])
					if len(frame) == 0 {
						break
					}
					*frames++
					if !s.ends[1-i].ReceiveFrame(s.now, frame).Opened {
						t.Fatal("not opened")
					}
				}
				for a.NextEvent().Kind != EventNone {
				}
			}
			for {
				if n, _ := v.Read(s.now, 0, buf); n == 0 {
					break
				}
			}
		}
	}, frames
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
