package reliable

import (
	"math"
	"time"
)

const (
	bbrFullGrowth = 1.25 // a round of Startup in which the bandwidth grows less found the end,
	bbrFullRounds = 3    // if so many do

	bbrEarlyShare = 4    // see early: of a round trip
	bbrEarlyLoss  = 0.10 // a short buffer, or a policer, loses more than that

	// Or a queue of that share of the RTT that stays.
	bbrFullQueue   = 0.5
	bbrFullSamples = 8
	bbrFullLeast   = 2 * bbrRTTSlack

	bbrProbeWait   = 400 * time.Millisecond // between probes for more bandwidth, and up to
	bbrProbeRandom = 600 * time.Millisecond // that much more by chance, so that flows do not stay in step
	bbrProbeRounds = 2                      // at least
	bbrDownRounds  = 3                      // what is left of the queue then is not this flow's

	// A probe goes beyond the model by bbrStep / cbrt(product in packets), within
	// bounds: a flow with a small share takes larger steps than one with a large
	// share, so that they come together.
	bbrStep     = 1.8
	bbrStepMin  = 0.08
	bbrStepMax  = 0.5
	bbrUpGrowth = 0.3 // share of the step that the bandwidth must grow by for Up to go on
	bbrUpRounds = 4

	bbrJumpRounds = 3   // rounds of Up in which the bandwidth grew
	bbrJumpGrowth = 1.5 // by so much in all: the path has become faster, Startup finds out how much
)

// bbrCycle is where in the cycle the flow is.
type bbrCycle struct {
	fullBW    bool    // Startup has found the bandwidth
	full      float64 // bandwidth at the last growth
	fullCount int     // rounds without

	fullBefore  bool    // and not for the first time
	highSince   instant // since when all RTTs have shown a long queue; 0: the last did not
	highSamples int

	entered    instant // this state
	enterRound int64
	probeBegin instant // when the wait for the next probe began
	probeRound int64
	wait       time.Duration
	upBW       float64 // bandwidth when Up began
	upLast     float64 // in the last round of it
	step       float64 // how far Up goes beyond the model
	shared     bool    // the queue did not go away in this cycle
	afterUp    bool    // in Down: what is acknowledged was sent in Up
	advance    bool    // in Down: a cycle of the filter has yet to begin
}

func (b *bbr) enter(now instant, st bbrState) {
	b.st = st
	b.entered = now
	b.enterRound = b.rate.rounds
}

// roundsIn returns how many round trips began in this state.
func (b *bbr) roundsIn() int64 { return b.rate.rounds - b.enterRound }

// restarted is called when the first packet goes out after nothing was in flight.
func (b *bbr) restarted(now instant) {
	b.extra.begin, b.extra.acked = now, 0
	if b.st == bbrRTT && b.probeEnd != 0 && now >= b.probeEnd {
		b.endProbeRTT(now)
	}
	if b.st == bbrRTT || now.sub(b.lowSeen) > bbrMinRTTWindow/2 {
		b.lowSeen = now // nothing in flight is as good as a probe
	}
}

func (b *bbr) updateCycle(s *ackSample, rs *rateSample) {
	switch b.st {
	case bbrStartup:
		b.updateStartup(s, rs)
	case bbrDrain:
		if float64(s.inflight) <= b.bdp(b.bw())+b.budget()/2 || b.roundsIn() > 5 {
			b.beginDown(s.now)
			b.advance = false
			b.enter(s.now, bbrCruise)
		}
	case bbrDown:
		b.updateDown(s, rs)
	case bbrCruise:
		b.updateCruise(s)
	case bbrRefill:
		if b.roundsIn() > 1 {
			b.enter(s.now, bbrUp)
			b.upBW, b.upLast = b.bwRound, b.bwRound
			b.step = bbrStep / math.Cbrt(max(b.bdp(b.maxBW())/float64(b.mtu), 1))
			b.step = min(max(b.step, bbrStepMin), bbrStepMax)
		}
	case bbrUp:
		b.updateUp(s, rs)
	}
}

func (b *bbr) updateStartup(s *ackSample, rs *rateSample) {
	if rs.round && !rs.appLimited {
		if b.maxBW() >= b.full*bbrFullGrowth {
			b.full, b.fullCount = b.maxBW(), 0
		} else if b.fullCount++; b.fullCount >= bbrFullRounds {
			b.fullBW = true
		}
	}
	if b.fullBW = b.fullBW || b.queueStays(s); b.fullBW {
		b.fullBefore = true
		b.enter(s.now, bbrDrain)
	}
}

// queueStays reports whether the RTTs of half a round trip have been that much longer
// than the smallest: then it is this flow's queue, and what arrived meanwhile did so at
// the rate of the path. To wait for more rounds would only make the queue longer.
func (b *bbr) queueStays(s *ackSample) bool {
	if s.rtt <= 0 {
		return false
	}
	if s.rtt < b.minRTT+max(time.Duration(bbrFullQueue*float64(b.minRTT)), bbrFullLeast) {
		b.highSince, b.highSamples = 0, 0
		return false
	}
	if b.highSince == 0 {
		b.highSince = s.now
	}
	b.highSamples++
	return b.highSamples >= bbrFullSamples && s.now.sub(b.highSince) >= max(b.minRTT/2, 2*bbrFullLeast) && b.maxBW() > 0
}

// startupLoss ends Startup when it overruns the path. at is what was in flight.
func (b *bbr) startupLoss(at float64) {
	if b.maxBW() == 0 {
		return
	}
	b.fullBW = true
	b.inflightHi = max(b.bdp(b.maxBW()), min(at, b.inflightHi), float64(b.minWindow()))
}

func (b *bbr) beginDown(now instant) {
	b.enter(now, bbrDown)
	b.resetLow()
	b.afterUp, b.advance = true, true
	b.cycleMin = b.srtt
	b.probeBegin, b.probeRound = now, b.rate.rounds
	b.wait = bbrProbeWait + time.Duration(b.random()*float64(bbrProbeRandom))
}

func (b *bbr) updateDown(s *ackSample, rs *rateSample) {
	if rs.round && b.roundsIn() >= 2 {
		b.afterUp = false
	}
	if b.advance && rs.round && b.roundsIn() >= 1 {
		b.advance = false
		if !rs.appLimited {
			b.advanceBW()
		}
	}
	if b.timeToProbe(s.now) {
		b.beginRefill(s.now)
		return
	}
	drained := float64(s.inflight) <= min(b.bdp(b.maxBW()), b.inflightHi*(1-bbrHeadroom))
	if b.roundsIn() >= 1 && (drained || b.holds()) || b.roundsIn() >= bbrDownRounds {
		b.enter(s.now, bbrCruise)
	}
}

func (b *bbr) updateCruise(s *ackSample) {
	if b.roundsIn() >= 2 && b.afterUp {
		b.afterUp = false
		if !b.cycled { // what Startup has lost says nothing of what comes
			b.queueLost, b.queueSent = 0, 0
		}
	}
	if b.timeToProbe(s.now) {
		b.beginRefill(s.now)
	}
}

func (b *bbr) timeToProbe(now instant) bool {
	return now.sub(b.probeBegin) >= b.wait && b.rate.rounds-b.probeRound >= bbrProbeRounds
}

func (b *bbr) beginRefill(now instant) {
	b.afterUp = false
	b.shared = b.cycleMin > b.nearRTT()
	b.updateCompetes()
	b.rivalCycle()
	b.resetLow()
	b.advance = false
	b.advanceBW()
	b.enter(now, bbrRefill)
}

// updateUp goes on while the bandwidth grows, and until the path is so full that it
// would have shown that it can do more.
func (b *bbr) updateUp(s *ackSample, rs *rateSample) {
	if !rs.round {
		return
	}
	raised := false
	if b.inflightHi < (1+2*b.step)*b.bdp(b.maxBW()) && float64(rs.inflight) > 0.9*b.inflightHi {
		b.inflightHi *= 1 + b.step/2 // no congestion with that much: it was too low
		raised = true
	}
	if b.roundsIn() < 2 || raised && b.roundsIn() < bbrUpRounds {
		return
	}
	grew := b.bwRound > b.upLast*(1+bbrUpGrowth*b.step)
	b.upLast = b.bwRound
	if grew && !rs.appLimited {
		if b.roundsIn() >= bbrJumpRounds && b.maxBW() > b.upBW*bbrJumpGrowth {
			b.fullBW, b.full, b.fullCount = false, b.maxBW(), 0
			b.inflightHi = max(b.inflightHi, 4*b.bdp(b.maxBW()))
			b.enter(s.now, bbrStartup)
		}
		return
	}
	b.beginDown(s.now)
}
