package reliable

import (
	"math"
	"time"
)

const (
	bbrMinRTTWindow  = 10 * time.Second // the smallest RTT of so long is the path's
	bbrLongWindow    = 30 * time.Second // the same to tell a path with a queue that others keep
	bbrCompeteQueue  = 3.0              // smallest RTT of a cycle over the smallest of that
	bbrCompeteCycles = 3
	bbrRTTSlack      = time.Millisecond
	bbrUnqueued      = 1.1 // from a smallest RTT that is so much longer than the next nothing was to be learnt
	bbrProbeRTTTime  = 200 * time.Millisecond
	bbrExtraRounds   = 5
	bbrExtraMax      = 50 * time.Millisecond // worth of bandwidth
)

// bbrBandwidth is the largest delivery rate of this cycle and of the last.
type bbrBandwidth struct {
	bwMax    [2]float64
	bwLatest float64 // largest sample of this round
	bwRound  float64 // largest sample of the last round
}

func (b *bbrBandwidth) maxBW() float64 { return max(b.bwMax[0], b.bwMax[1]) }

// advanceBW begins a cycle.
func (b *bbrBandwidth) advanceBW() {
	if b.bwMax[1] > 0 { // a cycle without samples forgets nothing
		b.bwMax[0], b.bwMax[1] = b.bwMax[1], 0
	}
}

func (b *bbr) updateBandwidth(s *ackSample, rs *rateSample) {
	if rs.round {
		b.bwRound, b.bwLatest = b.bwLatest, 0
	}
	if rs.rate == 0 {
		return
	}
	b.bwLatest = max(b.bwLatest, rs.rate)
	if rs.rate >= b.maxBW() || !rs.appLimited {
		b.bwMax[1] = max(b.bwMax[1], rs.rate)
	}
}

// bbrDelay is the RTT of the path without a queue: the smallest of this half window
// and of the last.
type bbrDelay struct {
	minRTT    time.Duration
	srtt      time.Duration
	half      [2]time.Duration
	halfBegin instant
	long      [2]time.Duration // as half, of bbrLongWindow
	longBegin instant
	competes  int           // cycles in a row with a long queue that others keep
	lowSeen   instant       // last RTT near the smallest
	probeEnd  instant       // of ProbeRTT; 0 while too much is in flight
	probeMin  bool          // a round of ProbeRTT is over
	probeLow  time.Duration // smallest RTT in it
	resume    int           // window before ProbeRTT
	roundMin  time.Duration
	roundSum  float64 // of the RTTs of this round, in seconds
	roundRTTs int
	lastMean  float64       // mean RTT of the last round, in seconds
	lastMin   time.Duration // smallest RTT of the last round
	cycleMin  time.Duration // smallest RTT since Down began
}

func (b *bbr) updateRTT(s *ackSample) {
	if s.srtt > 0 {
		b.srtt = s.srtt
	}
	if s.rtt <= 0 {
		return
	}
	if b.roundMin == 0 || s.rtt < b.roundMin {
		b.roundMin = s.rtt
	}
	b.roundSum += s.rtt.Seconds()
	b.roundRTTs++
	b.cycleMin = min(b.cycleMin, s.rtt)
	if b.probeLow == 0 || s.rtt < b.probeLow {
		b.probeLow = s.rtt
	}
	if b.minRTT == 0 || s.rtt <= b.nearRTT() {
		b.lowSeen = s.now
	}
	if b.half[1] == 0 || s.rtt < b.half[1] {
		b.half[1] = s.rtt
	}
	if b.halfBegin == 0 {
		b.halfBegin = s.now
	} else if s.now.sub(b.halfBegin) > bbrMinRTTWindow/2 && (b.st != bbrRTT || b.lowSeen > b.halfBegin) {
		b.half[0], b.half[1] = b.half[1], s.rtt
		b.halfBegin = s.now
	}
	if b.long[1] == 0 || s.rtt < b.long[1] {
		b.long[1] = s.rtt
	}
	if b.longBegin == 0 || s.now.sub(b.longBegin) > bbrLongWindow/2 {
		b.long[0], b.long[1] = b.long[1], s.rtt
		b.longBegin = s.now
	}
	was := b.minRTT
	b.minRTT = b.half[1]
	if b.half[0] != 0 {
		b.minRTT = min(b.minRTT, b.half[0])
	}
	if float64(was) > bbrUnqueued*float64(b.nearRTT()) && b.baseSeen < bbrBaseMemory/2 {
		b.resetLossBase() // what seemed to be no queue was one
	}
	b.srtt = max(b.srtt, b.minRTT)
}

// nearRTT is the longest RTT that shows no queue. What timers and batches of ACKs do is none.
func (b *bbr) nearRTT() time.Duration { return b.minRTT + max(b.minRTT/16, bbrRTTSlack) }

// quiet reports whether there was no queue in the last round.
func (b *bbr) quiet() bool {
	return b.lastMean > 0 && b.lastMean <= (b.minRTT+max(b.minRTT/10, bbrRTTSlack)).Seconds()
}

// queued reports whether there was a queue all through the last round.
func (b *bbr) queued() bool { return b.lastMin > b.nearRTT() }

// updateCompetes is called once in a cycle. Flows like this one drain the queue now
// and then. If it stays long, there are others that fill it, and to keep it short
// would only make room for them.
func (b *bbr) updateCompetes() {
	long := min(b.long[0], b.long[1])
	if float64(b.cycleMin) > bbrCompeteQueue*float64(long+2*bbrRTTSlack) {
		b.competes++
	} else {
		b.competes = 0
	}
}

// updateProbeRTT sees to it that the path is seen without this flow's queue from
// time to time (draft-ietf-ccwg-bbr §5.3.4.3). Flows that share a bottleneck fall into step,
// because each sees the low RTT of the others' probes.
func (b *bbr) updateProbeRTT(s *ackSample, rs *rateSample) {
	if b.st != bbrRTT {
		if b.lowSeen != 0 && s.now.sub(b.lowSeen) > bbrMinRTTWindow/2 && b.fullBW {
			b.resume = b.cwnd
			b.rivalProbe()
			b.enter(s.now, bbrRTT)
			b.probeEnd, b.probeMin = 0, false
		}
		return
	}
	b.rate.appLimited(s.inflight) // what is delivered now says nothing about the bandwidth
	if b.probeEnd == 0 {
		if float64(s.inflight) <= max(bbrProbeRTT*b.bdp(b.bw()), float64(b.minWindow())) {
			b.probeEnd = s.now.add(bbrProbeRTTTime)
			b.probeLow = 0
			b.rate.roundEnd = b.rate.delivered
		}
		return
	}
	b.probeMin = b.probeMin || rs.round
	if b.probeMin && s.now >= b.probeEnd {
		b.endProbeRTT(s.now)
	}
}

func (b *bbr) endProbeRTT(now instant) {
	b.lowSeen = now
	b.rivalProbed()
	if b.probeLow > 0 {
		// With so little in flight there was no queue of this flow: that is the path now.
		b.half = [2]time.Duration{b.probeLow, b.probeLow}
		b.halfBegin = now
		b.minRTT = b.probeLow
	}
	b.cwnd = max(b.cwnd, b.resume)
	b.beginDown(now)
	b.enter(now, bbrCruise)
	b.resetLow()
}

// bbrExtra is how much more than the bandwidth explains was acknowledged at a time:
// the most of this and of the last bbrExtraRounds rounds (draft-ietf-ccwg-bbr §5.5.9).
type bbrExtra struct {
	begin  instant
	acked  float64
	most   [2]float64
	rounds int
}

func (e *bbrExtra) max() float64 { return max(e.most[0], e.most[1]) }

func (e *bbrExtra) update(s *ackSample, bw float64, rs *rateSample, cwnd int) {
	if rs.round {
		if e.rounds++; e.rounds >= bbrExtraRounds {
			e.rounds = 0
			e.most[0], e.most[1] = e.most[1], 0
		}
	}
	if math.IsInf(bw, 1) {
		return
	}
	expected := bw * s.now.sub(e.begin).Seconds()
	if e.acked <= expected {
		e.begin, e.acked, expected = s.now, 0, 0
	}
	e.acked = min(e.acked+float64(s.ackedLen), float64(cwnd))
	e.most[1] = max(e.most[1], min(e.acked-expected, bw*bbrExtraMax.Seconds()))
}
