package reliable

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// burstLoss loses packets in bursts of that mean length, in all that share of them.
func burstLoss(seed uint64, loss, length float64) func([]byte) bool {
	rng := rand.New(rand.NewPCG(seed, 7))
	bad := false
	return func([]byte) bool {
		if bad {
			bad = rng.Float64() >= 1/length
		} else {
			bad = rng.Float64() < loss/(1-loss)/length
		}
		return bad
	}
}

// seeds returns how many of n seeds are tried: fewer under the race detector.
func seeds(n uint64) uint64 {
	if raceEnabled {
		return max(1, n/5)
	}
	return n
}

// A flow sends messages of a size at intervals, and measures how long they take.
type flow struct {
	size     int
	interval time.Duration
	count    int
	message  Outgoing // what they have in common

	warm int // messages at the beginning whose time does not count

	took []time.Duration // sorted, at the end
	sent int64
}

// run sends the flow from the client, and checks that each arrives once, with its bytes.
func (f *flow) run(s *rig, each func()) {
	at := make([]time.Time, f.count)
	seen := make([]bool, f.count)
	n := 0
	next := s.now
	limit := s.now.Add(time.Duration(f.count)*f.interval + 10*time.Minute)
	for len(f.took) < f.count {
		for n < f.count && !next.After(s.now) {
			m := f.message
			m.Payload = payloadOf(n, f.size)
			if err := s.ends[0].SendMessage(s.now, &m); err != nil {
				s.t.Fatal(err)
			}
			f.sent += m.total()
			if m.Ordered && n > 63 {
				f.sent++ // its place takes a byte more than that in the head that was made first
			}
			at[n] = s.now
			n++
			next = next.Add(f.interval)
		}
		if each != nil {
			each()
		}
		until := limit
		if n < f.count && next.Before(until) {
			until = next
		}
		if !s.step(until) && !until.Before(limit) {
			s.t.Fatalf("%d of %d messages arrived", len(f.took), f.count)
		}
		for in, ok := s.ends[1].ReceiveMessage(s.now); ok; in, ok = s.ends[1].ReceiveMessage(s.now) {
			i := int(binary.BigEndian.Uint32(in.Payload))
			if seen[i] || !bytes.Equal(in.Payload, payloadOf(i, f.size)) {
				s.t.Fatalf("message %d: again, or other bytes", i)
			}
			seen[i] = true
			f.took = append(f.took, s.now.Sub(at[i]))
		}
	}
	f.took = f.took[f.warm:]
	slices.Sort(f.took)
	s.wait(3 * time.Second)
	s.run(time.Minute, func() bool {
		for _, a := range s.ends {
			if a.eliciting > 0 || a.controlDue() {
				return false
			}
		}
		return true
	})
	if in, ok := s.ends[1].ReceiveMessage(s.now); ok {
		s.t.Fatalf("message %d again", binary.BigEndian.Uint32(in.Payload))
	}
}

func payloadOf(i, size int) []byte {
	b := make([]byte, max(size, 4))
	rng := rand.New(rand.NewPCG(uint64(i), 3))
	for j := range b {
		b[j] = byte(rng.Uint32())
	}
	binary.BigEndian.PutUint32(b, uint32(i))
	return b
}

// at returns the time that so many percent took at most.
func (f *flow) at(percent float64) time.Duration {
	return f.took[min(int(float64(len(f.took))*percent/100), len(f.took)-1)]
}

// lossyLink is 100 Mbit/s with 40 ms, and random losses or those in bursts.
func lossyLink(seed uint64, loss, burst float64) wire {
	w := wire{delay: 20 * time.Millisecond, rate: 100 * mbit, queue: int(100 * mbit * 0.04)}
	if burst > 1 {
		w.drop = burstLoss(seed, loss, burst)
	} else {
		w.loss = loss
	}
	return w
}

func redundant(ratio float64) func(*Config) {
	return func(c *Config) { c.Redundancy, c.Local.Parity, c.Peer.Parity = ratio, true, true }
}

// "p99 of small messages does not wait for a retransmission": one way and 10 ms.
func TestRedundantLatency(t *testing.T) {
	for _, tt := range []struct {
		loss, burst float64
		redundant   bool
		p99         time.Duration
	}{
		{0, 1, false, 21 * time.Millisecond},
		{0, 1, true, 21 * time.Millisecond},
		{0.01, 1, false, 75 * time.Millisecond},
		{0.01, 1, true, 25 * time.Millisecond},
		{0.05, 1, false, 90 * time.Millisecond},
		{0.05, 1, true, 30 * time.Millisecond},
		{0.01, 8, false, 250 * time.Millisecond},
		{0.01, 8, true, 60 * time.Millisecond},
		{0.05, 8, false, 250 * time.Millisecond},
		{0.05, 8, true, 75 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%v in %v, %v", tt.loss, tt.burst, tt.redundant), func(t *testing.T) {
			for seed := range seeds(3) {
				s := newRig(t, seed, lossyLink(seed, tt.loss, tt.burst), redundant(3))
				s.links[1].drop, s.links[1].loss = nil, tt.loss
				f := flow{size: 200, interval: 10 * time.Millisecond, count: 3000, message: Outgoing{Repair: true, Redundant: tt.redundant}}
				f.run(s, nil)
				st := s.ends[0].Stats()
				t.Logf("p50 %v p95 %v p99 %v p99.9 %v max %v; redundancy %.2f, repaired %d, lost %d of %d, repeated %d, cwnd %d",
					f.at(50), f.at(95), f.at(99), f.at(99.9), f.at(100), float64(st.RedundantSent)/float64(f.sent), st.RedundantRepaired,
					st.PacketsLost, st.PacketsSent, st.BytesRetransmitted, st.CongestionWindow)
				if p := f.at(99); p > tt.p99 {
					t.Errorf("p99 %v, over %v", p, tt.p99)
				}
			}
		})
	}
}

// Redundancy keeps its budget, every message arrives once and whole, whatever the path
// does, with every other option of a message.
func TestRedundantMessages(t *testing.T) {
	for seed := range seeds(30) {
		rng := rand.New(rand.NewPCG(seed, 9))
		ratio := []float64{0.5, 1, 3, 8}[rng.IntN(4)]
		link := wire{delay: time.Duration(1+rng.IntN(50)) * time.Millisecond, jitter: time.Duration(rng.IntN(30)) * time.Millisecond,
			loss: rng.Float64() * 0.3, dup: rng.Float64() * 0.2, corrupt: rng.Float64() * 0.02}
		if rng.IntN(2) == 0 {
			link.drop = burstLoss(seed, 0.1, 1+rng.Float64()*10)
		}
		if rng.IntN(3) == 0 {
			link.rate, link.queue = 0.1*mbit, 20000
		}
		s := newRig(t, seed, link, redundant(ratio))
		size := []int{4, 200, 1000, 1100, 1500, 5000, 60000}[rng.IntN(7)]
		f := flow{
			size: size, interval: time.Duration(rng.IntN(20)) * time.Millisecond, count: max(30_000/max(size, 100), 5),
			message: Outgoing{Redundant: true, Ack: rng.IntN(2) == 0, Ordered: rng.IntN(2) == 0, Priority: int8(rng.IntN(3))},
		}
		s.ends[0].c.Retry.MaxRetries = 100
		f.run(s, nil)
		st := s.ends[0].Stats()
		if float64(st.RedundantSent) > ratio*float64(f.sent) {
			t.Errorf("seed %d: %d redundant bytes for %d, with a budget of %v", seed, st.RedundantSent, f.sent, ratio)
		}
		if n := s.ends[0].red.queued; n != 0 {
			t.Errorf("seed %d: %d messages in the queue", seed, n)
		}
		for _, a := range s.ends {
			atRest(t, a)
		}
	}
}

// What is given up, is not sent again, be it by a copy.
func TestRedundantLifetime(t *testing.T) {
	s := newRig(t, 1, wire{delay: 20 * time.Millisecond}, redundant(3))
	s.wait(time.Second)
	s.links[0].down = true
	m := &Outgoing{Payload: payloadOf(1, 200), Redundant: true, Lifetime: 100 * time.Millisecond}
	if err := s.ends[0].SendMessage(s.now, m); err != nil {
		t.Fatal(err)
	}
	s.wait(time.Second)
	if m.Err() != ErrExpired {
		t.Fatal(m.Err())
	}
	sent := s.ends[0].Stats().RedundantSent
	if sent == 0 {
		t.Error("no copies")
	}
	s.links[0].down = false
	s.wait(10 * time.Second)
	if _, ok := s.ends[1].ReceiveMessage(s.now); ok {
		t.Error("it has arrived")
	}
	if n := s.ends[0].Stats().RedundantSent; n != sent {
		t.Errorf("%d bytes of copies after its end", n-sent)
	}
}

// "Never so that it slows down what did not ask": a stream beside messages that ask for
// redundancy is as fast as beside messages that do not.
func TestRedundantBesideBulk(t *testing.T) {
	const n = 20 << 20
	for _, loss := range []float64{0, 0.05} {
		var took [2]time.Duration
		for i, on := range []bool{false, true} {
			s := newRig(t, 1, lossyLink(1, loss, 1), redundant(3))
			next := s.now
			sent := int64(0)
			d, err := s.bulkWith(0, n, time.Minute, func() {
				for ; !next.After(s.now); next = next.Add(2 * time.Millisecond) {
					m := &Outgoing{Payload: payloadOf(1, 500), Repair: true, Redundant: on}
					if err := s.ends[0].SendMessage(s.now, m); err != nil {
						t.Fatal(err)
					}
					sent += m.total()
				}
				for _, ok := s.ends[1].ReceiveMessage(s.now); ok; _, ok = s.ends[1].ReceiveMessage(s.now) {
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			took[i] = d
			st := s.ends[0].Stats()
			t.Logf("loss %v, redundant %v: %v, %d redundant bytes for %d, of %d", loss, on, d, st.RedundantSent, sent, st.BytesSent)
			if st.RedundantSent > st.BytesSent/40+32<<10 { // busyShare, and more while nothing waited
				t.Errorf("%d redundant bytes of %d", st.RedundantSent, st.BytesSent)
			}
		}
		if took[1] > took[0]*106/100 {
			t.Errorf("loss %v: %v with redundancy, %v without", loss, took[1], took[0])
		}
	}
}
