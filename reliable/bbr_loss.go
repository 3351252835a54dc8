package reliable

import "math"

const (
	bbrBeta        = 0.7
	bbrHeadroom    = 0.15
	bbrHiBeta      = 0.75
	bbrQueueMemory = 1000
	bbrLossExcess  = 0.005 // loss beyond the usual that is congestion, if there is a queue
	bbrLossHard    = 0.20  // loss that is congestion in any case
	bbrLossSpread  = 6     // ACKs in a round that told of losses; with fewer, it takes two rounds with bbrLossHard
	bbrSigmas      = 3     // so sure that it is more than the usual

	bbrRepairMax = 0.06 // loss that more is sent for

	bbrBurstMax = 10 // packets lost together, at most, that are usual

	bbrBasePackets = 50 // what is known of the usual loss at first: 1 % of so many packets
	bbrBaseMemory  = 2000
)

// bbrLoss tells losses by congestion from others, and holds what congestion has
// taught: the bounds of the model.
//
// Packets lost at random are lost whatever the RTT. So the loss of rounds in which
// there was no queue is what the path loses anyhow; a round with a queue that loses
// significantly more is congested. A policer or a very short buffer shows no queue:
// there it takes bbrLossHard. That is no escape: the bandwidth is measured from what
// arrives, so a steady loss by overload is at most what probing causes.
type bbrLoss struct {
	bwLo       float64 // bandwidth until the next probe
	inflightLo float64 // bytes in flight until the next probe
	inflightHi float64 // bytes in flight that are not too much in the long run

	anew                  instant // packets sent until then do not count: persistent congestion
	roundLost, roundAcked float64 // bytes in this round
	queueLost, queueSent  float64 // packets in rounds with a queue, since the last congestion
	lostInflight          float64 // sum over lost packets of what was in flight, weighted by size
	hardRounds            int     // rounds in a row with more than bbrLossHard
	roundBursts           float64 // ACKs that told of losses
	base, baseSeen        float64 // packets lost, and sent, in rounds without a queue
	baseBursts            float64 // ACKs that told of these losses
}

func (b *bbr) resetLossBase() {
	b.base, b.baseSeen = 0.01*bbrBasePackets, bbrBasePackets
	b.baseBursts = b.base
}

func (b *bbrLoss) forgetRound() {
	b.roundLost, b.roundAcked, b.roundBursts, b.lostInflight = 0, 0, 0, 0
}

// resetLow forgets what holds until the next probe.
func (b *bbrLoss) resetLow() {
	b.bwLo = math.Inf(1)
	b.inflightLo = math.Inf(1)
}

func (b *bbr) updateLoss(s *ackSample, rs *rateSample) {
	b.roundAcked += float64(s.ackedLen)
	before := b.roundLost
	for i := range s.lost {
		p := &s.lost[i]
		if p.sent <= b.anew {
			continue // that they are lost is known already
		}
		b.roundLost += float64(p.size)
		b.lostInflight += float64(p.size) * float64(p.inflight)
	}
	if b.roundLost > before {
		b.roundBursts++
	}
	if !rs.round {
		return
	}
	b.lastMin, b.roundMin = b.roundMin, 0
	b.lastMean = 0
	if b.roundRTTs > 0 {
		b.lastMean = b.roundSum / float64(b.roundRTTs)
	}
	b.roundSum, b.roundRTTs = 0, 0
	b.rivalRound()
	if b.congested() {
		b.congestion(s, rs)
	} else if b.quiet() && b.st != bbrUp && !b.afterUp {
		b.learnLoss()
	}
	b.forgetRound()
}

// congested reports whether the round that is over, or the last rounds with a queue
// together, lost more than they should.
func (b *bbr) congested() bool {
	n := (b.roundAcked + b.roundLost) / float64(b.mtu)
	lost := b.roundLost / float64(b.mtu)
	if b.queued() {
		if b.queueSent > bbrQueueMemory {
			b.queueLost *= bbrQueueMemory / b.queueSent
			b.queueSent = bbrQueueMemory
		}
		b.queueLost += lost
		b.queueSent += n
		if lost > 0 && b.queueLost > b.usualLoss(b.queueSent)+bbrLossExcess*b.queueSent {
			return true
		}
	}
	if lost <= bbrLossHard*n || lost <= b.usualLoss(n) {
		b.hardRounds = 0
		return false
	}
	// Chance may bring a burst, but not many, nor one after the other.
	b.hardRounds++
	return b.hardRounds > 1 || b.roundBursts >= bbrLossSpread
}

// usualLoss returns how many of n packets may be lost without a reason.
func (b *bbr) usualLoss(n float64) float64 {
	p := min(b.base/b.baseSeen, 0.5)
	burst := max(b.base/b.baseBursts, 1)
	return p*n + bbrSigmas*math.Sqrt(n*p*(1-p)*(2*burst-1)) + burst
}

// repair returns how much more must be sent so that the bandwidth arrives in spite of
// the usual losses. It does not make up for all of them: what is in truth
// overload must not keep itself up.
func (b *bbr) repair() float64 {
	return 1 / (1 - 0.9*min(b.base/b.baseSeen, bbrRepairMax))
}

// learnLoss takes the round into account for what the path loses anyhow. An outage
// is not that.
func (b *bbr) learnLoss() {
	n := (b.roundAcked + b.roundLost) / float64(b.mtu)
	b.base += min(b.roundLost/float64(b.mtu), max(bbrLossHard*n, bbrBurstMax))
	b.baseBursts += b.roundBursts
	b.baseSeen += n
	if b.baseSeen > bbrBaseMemory {
		b.base *= bbrBaseMemory / b.baseSeen
		b.baseBursts *= bbrBaseMemory / b.baseSeen
		b.baseSeen = bbrBaseMemory
	}
	if least := 0.001 * b.baseSeen; b.base < least {
		b.base, b.baseBursts = least, max(b.baseBursts, least)
	}
	b.baseBursts = max(b.baseBursts, b.base/bbrBurstMax)
}

// congestion lowers the bounds (draft-ietf-ccwg-bbr §5.5.10).
func (b *bbr) congestion(s *ackSample, rs *rateSample) {
	if rs.appLimited && b.rate.limitedUntil != 0 {
		return // it was not what this side sends that was too much: there is less than fits
	}
	b.rivalCongestion()
	b.queueLost, b.queueSent = 0, 0
	at := b.lostInflight / b.roundLost
	floor := max(bbrBeta*min(b.bdp(b.bw()), float64(b.cwnd)), b.budget(), float64(b.minWindow()))
	switch b.st {
	case bbrStartup:
		b.startupLoss(at)
		return
	case bbrRTT, bbrDrain, bbrRefill:
		return
	}
	if b.holds() {
		b.hold(s, at)
		return
	}
	if b.st == bbrUp {
		b.probeLoss(at, floor)
		b.beginDown(s.now)
		return
	}
	if b.afterUp {
		// The losses of the probe that has ended.
		b.probeLoss(at, floor)
		return
	}
	b.inflightHi = max(floor, min(b.inflightHi, at)*bbrBeta)
	b.bwLo = max(b.bwRound, bbrBeta*b.bw())
	b.inflightLo = max(bbrBeta*min(b.inflightLo, float64(b.cwnd)), b.budget(), float64(b.minWindow()))
}

func (b *bbr) probeLoss(at, floor float64) {
	at = min(b.inflightHi, at)
	if b.shared {
		at *= bbrHiBeta
	}
	b.inflightHi = max(at, floor)
}
