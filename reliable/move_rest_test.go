package reliable

import (
	"testing"
	"time"
)

// TestMoveRests: what is left on a byte stream that works is not sent again, but when that
// stops to deliver, or ends. PROTOCOL §7.14.
func TestMoveRests(t *testing.T) {
	const size = 100_000
	begin := func(t *testing.T) *rig {
		s, _ := bothCarriers(t, ByteStream)
		s.ends[0].Write(s.now, 0, make([]byte, size))
		s.wait(time.Millisecond) // it is on its way
		if s.ends[0].eliciting == 0 {
			t.Fatal("nothing is in flight")
		}
		return s
	}
	arrived := func(s *rig) int {
		n := 0
		for b := make([]byte, size); ; {
			k, err := s.ends[1].Read(s.now, 0, b)
			if n += k; k == 0 || err != nil {
				return n
			}
		}
	}
	t.Run("works", func(t *testing.T) {
		s := begin(t)
		a := s.ends[0]
		pongs := 0
		before := s.onEvent
		s.onEvent = func(end int, e Event) {
			if end == 0 && e.Kind == EventPong {
				pongs++
			}
			before(end, e)
		}
		a.Ping() // is not asked again
		s.wait(time.Millisecond)
		a.Move(s.now, Datagrams)
		if !a.moves.resting || a.eliciting != 0 {
			t.Fatalf("resting: %v, %d in flight", a.moves.resting, a.eliciting)
		}
		s.wait(time.Second)
		if pongs != 1 {
			t.Errorf("%d PONGs", pongs)
		}
		if n := arrived(s); n != size || a.Unacked(0) != 0 {
			t.Errorf("%d bytes have come, %d are not acknowledged", n, a.Unacked(0))
		}
		if a.stats.BytesMoved != 0 || a.stats.PacketsLost != 0 || a.moves.resting && a.moves.moved != nil {
			t.Errorf("%d bytes sent again, %d packets lost", a.stats.BytesMoved, a.stats.PacketsLost)
		}
	})
	t.Run("stalls", func(t *testing.T) {
		s := begin(t)
		a := s.ends[0]
		s.pipe.stall[0] = true
		s.pipe.delay = time.Hour
		a.Write(s.now, 0, make([]byte, size))
		s.wait(20 * time.Millisecond)
		a.Move(s.now, Datagrams)
		s.wait(maxRest + time.Second)
		if n := arrived(s); n != 2*size || a.Unacked(0) != 0 || a.stats.BytesMoved == 0 {
			t.Errorf("%d bytes have come, %d are not acknowledged, %d sent again", n, a.Unacked(0), a.stats.BytesMoved)
		}
	})
	t.Run("ends", func(t *testing.T) {
		s := begin(t)
		a := s.ends[0]
		s.pipe.stall = [2]bool{true, true}
		a.Write(s.now, 0, make([]byte, size))
		s.wait(time.Millisecond)
		a.Move(s.now, Datagrams)
		a.SetAttached(s.now, ByteStream, false)
		if a.moves.resting {
			t.Error("still waiting for what cannot come")
		}
		s.wait(300 * time.Millisecond)
		if n := arrived(s); n < size {
			t.Errorf("%d bytes have come", n)
		}
	})
	t.Run("silent before", func(t *testing.T) {
		s := begin(t)
		a := s.ends[0]
		s.pipe.stall = [2]bool{true, true}
		a.Write(s.now, 0, make([]byte, size))
		s.wait(3 * time.Second)
		if a.unheard == 0 {
			t.Fatal("it was heard")
		}
		a.Move(s.now, Datagrams)
		if a.moves.resting {
			t.Error("waits for a byte stream that is dead")
		}
	})
}
