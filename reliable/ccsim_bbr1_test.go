package reliable

import (
	"math"
	"math/rand/v2"
	"time"
)

// What the first version of BBR is (draft-cardwell-iccrg-bbr-congestion-control-00),
// as kernels have it.
const (
	bbr1High     = 2.885
	bbr1Window   = 2.0
	bbr1Rounds   = 10
	bbr1MinRTT   = 10 * time.Second
	bbr1ProbeRTT = 200 * time.Millisecond
	bbr1Margin   = .99
	bbr1First    = 10 // packets
	bbr1Least    = 4
)

var bbr1Cycle = [...]float64{1.25, .75, 1, 1, 1, 1, 1, 1}

// bbr1 is that version, to see what others get beside it.
type bbr1 struct {
	rate  rateState
	rng   *rand.Rand
	mtu   int
	cwnd  int
	st    bbrState // startup, drain, cruise (with phase), probe RTT
	phase int
	begun instant // this phase

	maxBW     [bbr1Rounds]float64 // by round
	full      float64
	fullCount int
	filled    bool

	minRTT   time.Duration
	minSeen  instant
	probeEnd instant
	probed   bool
	prior    int // window before ProbeRTT or recovery

	recovery   instant // last loss in it; 0 if there is none
	conserving bool

	extra bbrExtra
	pace  float64
}

func newBBR1(seed uint64) controller {
	return &bbr1{rng: rand.New(rand.NewPCG(seed, 1))}
}

func (b *bbr1) mtuChanged(mtu int) {
	b.mtu = mtu
	b.cwnd = max(b.cwnd, bbr1First*mtu)
}

func (b *bbr1) packetSent(now instant, p *ratePacket, size, inflight int) {
	b.rate.packetSent(now, p, size, inflight)
}

func (b *bbr1) appLimited(inflight int)        { b.rate.appLimited(inflight) }
func (b *bbr1) persistentCongestion(_ instant) { b.cwnd = bbr1Least * b.mtu }
func (b *bbr1) spurious(instant, int)          {}
func (b *bbr1) lost(s *ackSample)              { b.rate.acked(s); b.losses(s) }
func (b *bbr1) window() int                    { return b.cwnd }
func (b *bbr1) bandwidth() float64             { return b.bw() }
func (b *bbr1) state() string                  { return bbrNames[b.st] }

func (b *bbr1) bw() (most float64) {
	for _, x := range b.maxBW {
		most = max(most, x)
	}
	return most
}

func (b *bbr1) bdp(gain float64) float64 {
	return gain*b.bw()*b.minRTT.Seconds() + 3*b.goal()
}

// goal is what goes out at once: a millisecond's worth.
func (b *bbr1) goal() float64 {
	return float64(b.mtu) * max(2, math.Floor(b.pace/1000/float64(b.mtu)))
}

func (b *bbr1) losses(s *ackSample) {
	if s.lostLen == 0 {
		return
	}
	if b.recovery == 0 {
		b.prior = max(b.prior, b.cwnd)
		b.conserving = true
		b.rate.roundEnd = b.rate.delivered
		b.cwnd = s.inflight + s.ackedLen
	} else {
		b.cwnd = max(b.cwnd-s.lostLen, b.mtu)
	}
	b.recovery = s.now
}

func (b *bbr1) acked(s *ackSample) {
	rs := b.rate.acked(s)
	if rs.round {
		b.conserving = false
		b.maxBW[b.rate.rounds%bbr1Rounds] = 0
	}
	if rs.rate > 0 && (!rs.appLimited || rs.rate >= b.bw()) {
		i := b.rate.rounds % bbr1Rounds
		b.maxBW[i] = max(b.maxBW[i], rs.rate)
	}
	b.extra.update(s, b.bw(), &rs, b.cwnd)
	b.updateState(s, &rs)
	b.updateMin(s, &rs)
	if rate := bbr1Margin * b.gain() * b.bw(); b.filled || rate > b.pace {
		b.pace = rate
	}
	b.setWindow(s)
}

func (b *bbr1) gain() float64 {
	switch b.st {
	case bbrStartup:
		return bbr1High
	case bbrDrain:
		return 1 / bbr1High
	case bbrCruise:
		return bbr1Cycle[b.phase]
	}
	return 1
}

func (b *bbr1) updateState(s *ackSample, rs *rateSample) {
	gain := b.gain()
	inflight := float64(s.inflight)
	switch b.st {
	case bbrStartup:
		if !rs.round || rs.appLimited {
			return
		}
		if b.bw() >= 1.25*b.full {
			b.full, b.fullCount = b.bw(), 0
		} else if b.fullCount++; b.fullCount >= 3 {
			b.filled = true
			b.st = bbrDrain
		}
	case bbrDrain:
		if inflight <= b.bdp(1) {
			b.beginCycle(s.now)
		}
	case bbrCruise:
		long := s.now.sub(b.begun) > b.minRTT
		next := long
		if gain > 1 {
			next = long && (s.lostLen > 0 || inflight >= b.bdp(gain))
		} else if gain < 1 {
			next = long || inflight <= b.bdp(1)
		}
		if next {
			b.phase = (b.phase + 1) % len(bbr1Cycle)
			b.begun = s.now
		}
	}
}

func (b *bbr1) beginCycle(now instant) {
	b.st, b.begun = bbrCruise, now
	b.phase = (2 + b.rng.IntN(len(bbr1Cycle)-1)) % len(bbr1Cycle) // any but the second
}

func (b *bbr1) updateMin(s *ackSample, rs *rateSample) {
	old := b.minSeen != 0 && s.now.sub(b.minSeen) > bbr1MinRTT
	if s.rtt > 0 && (b.minRTT == 0 || s.rtt <= b.minRTT || old) {
		b.minRTT, b.minSeen = s.rtt, s.now
	}
	if old && b.st != bbrRTT {
		b.prior = max(b.prior, b.cwnd)
		if b.recovery == 0 {
			b.prior = b.cwnd
		}
		b.st, b.probeEnd = bbrRTT, 0
	}
	if b.st != bbrRTT {
		return
	}
	b.rate.appLimited(s.inflight)
	if b.probeEnd == 0 {
		if s.inflight <= bbr1Least*b.mtu {
			b.probeEnd, b.probed = s.now.add(bbr1ProbeRTT), false
			b.rate.roundEnd = b.rate.delivered
		}
		return
	}
	b.probed = b.probed || rs.round
	if b.probed && s.now > b.probeEnd {
		b.minSeen = s.now
		b.cwnd = max(b.cwnd, b.prior)
		if b.filled {
			b.beginCycle(s.now)
		} else {
			b.st = bbrStartup
		}
	}
}

func (b *bbr1) setWindow(s *ackSample) {
	defer func() {
		if b.st == bbrRTT {
			b.cwnd = min(b.cwnd, bbr1Least*b.mtu)
		}
	}()
	b.losses(s)
	if b.recovery != 0 && s.lostLen == 0 {
		for i := range s.acked {
			if s.acked[i].sent > b.recovery {
				b.recovery, b.conserving = 0, false
				b.cwnd = max(b.cwnd, b.prior)
				b.prior = 0
				break
			}
		}
	}
	if b.conserving && b.recovery != 0 {
		b.cwnd = max(b.cwnd, s.inflight+s.ackedLen)
		return
	}
	gain := bbr1Window
	if !b.filled || b.st == bbrDrain {
		gain = bbr1High
	}
	target := int(b.bdp(gain) + b.extra.max())
	if b.filled {
		b.cwnd = min(b.cwnd+s.ackedLen, target)
	} else if b.cwnd < target || b.rate.delivered < int64(bbr1First*b.mtu) {
		b.cwnd += s.ackedLen
	}
	b.cwnd = max(b.cwnd, bbr1Least*b.mtu)
}

func (b *bbr1) pacingRate() float64 {
	if b.pace == 0 {
		if b.minRTT == 0 {
			return 0
		}
		return bbr1High * float64(b.cwnd) / b.minRTT.Seconds()
	}
	return b.pace
}
