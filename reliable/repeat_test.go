package reliable

import (
	"testing"
	"time"
)

// What is sent again in a sparse flow goes twice, so that losing the first of the two costs
// the pause between them.
func TestRepeatedTwice(t *testing.T) {
	for _, redundant := range []bool{false, true} {
		s := newRig(t, 1, wire{delay: 20 * time.Millisecond}, func(c *Config) { c.Redundancy = 8 })
		a := s.ends[0]
		n, seen, dropped := 0, uint64(0), 0
		s.links[0].drop = func([]byte) bool {
			n++
			if again := a.Stats().PacketsRetransmitted; again > seen {
				seen = again
				return again%2 == 1 // the first of two
			}
			if n%50 != 49 {
				return false
			}
			dropped++
			return true
		}
		f := flow{size: 200, interval: 10 * time.Millisecond, count: 1000, warm: 20, message: Outgoing{Repair: true, Redundant: redundant}}
		f.run(s, nil)
		st := a.Stats()
		t.Logf("p99 %v max %v; %d packets lost first, %d sent again", f.at(99), f.at(100), dropped, st.PacketsRetransmitted)
		if redundant {
			if st.PacketsRetransmitted > 0 {
				t.Errorf("%d packets sent again beside copies", st.PacketsRetransmitted)
			}
			continue
		}
		if f.at(100) > 80*time.Millisecond {
			t.Errorf("up to %v", f.at(100))
		}
		if st.PacketsRetransmitted != 2*uint64(dropped) {
			t.Errorf("%d packets lost, %d sent again", dropped, st.PacketsRetransmitted)
		}
	}
}

// Where more waits to be sent, there are no copies of what is sent again.
func TestRepeatedOnceInBulk(t *testing.T) {
	s := newRig(t, 1, wire{delay: 20 * time.Millisecond, loss: 0.02, rate: 12.5e6, queue: 500_000})
	const size = 8 << 20
	out, buf := make([]byte, size), make([]byte, 1<<16)
	wrote, got := 0, 0
	if !s.run(time.Minute, func() bool {
		n, err := s.ends[0].Write(s.now, 0, out[wrote:])
		if err != nil {
			t.Fatal(err)
		}
		wrote += n
		for {
			n, _ := s.ends[1].Read(s.now, 0, buf)
			if n == 0 {
				return got == size
			}
			got += n
		}
	}) {
		t.Fatalf("%d of %d bytes", got, size)
	}
	st := s.ends[0].Stats()
	t.Logf("%d of %d packets lost, %d sent again", st.PacketsLost, st.PacketsSent, st.PacketsRetransmitted)
	if st.PacketsRetransmitted > st.PacketsLost*11/10+8 {
		t.Errorf("%d packets lost, %d sent again", st.PacketsLost, st.PacketsRetransmitted)
	}
}

// A path on which nothing arrives has few copies: the first probe's, and none of those that
// back off.
func TestRepeatedNothingToNobody(t *testing.T) {
	s := newRig(t, 1, wire{delay: 20 * time.Millisecond})
	f := flow{size: 200, interval: 10 * time.Millisecond, count: 100, warm: 20, message: Outgoing{Repair: true}}
	f.run(s, nil)
	a := s.ends[0]
	s.links[0].down = true
	if err := a.SendMessage(s.now, &Outgoing{Payload: make([]byte, 200), Repair: true}); err != nil {
		t.Fatal(err)
	}
	before := a.Stats()
	s.wait(10 * time.Second)
	st := a.Stats()
	if sent, probes := st.PacketsSent-before.PacketsSent, st.ProbeTimeouts-before.ProbeTimeouts; sent > 1+probesPerPTO*probes+1 {
		t.Errorf("%d packets for %d probe timeouts", sent, probes)
	}
}
