package reliable

import (
	"math"
	"time"
)

const (
	bbrRivalLoss    = 0.0015 // share of packets lost in vain from which on giving way is pointless
	bbrRivalMost    = 0.014  // of one cycle, so that what happened once is soon forgotten
	bbrRivalMemory  = 0.8    // what a cycle leaves of those before
	bbrRivalRounds  = 3      // after congestion, at least, that show whether somebody gave way
	bbrRivalJudged  = 8      // and at most
	bbrRivalMoved   = 0.5    // share of the queue that is left if somebody did
	bbrRivalWindow  = 2.25   // instead of bbrWindow
	bbrRivalHold    = 1.8    // what losses leave of the window, in products,
	bbrRivalFull    = 0.95   // or that share of what fits into path and queue, if it is less
	bbrRivalRate    = 1.25   // times what was delivered in the last round: more was not this flow's
	bbrRivalPatient = 25     // cycles until it is tried anew whether the rival is still there

	bbrRivalKept  = 0.4 // share of the queue that is there in ProbeRTT still if others keep it
	bbrRivalQueue = 1.1 // products: a longer queue is none of such a rival, which has two in flight
	bbrRivalSure  = 2   // so often it may be gone then before that counts no more
)

// bbrRival tells whether others at the bottleneck give way when packets are lost, as
// this flow and CUBIC do: then the queue is much shorter soon after. The first version
// of BBR does not, and whoever gives way to it is left with little. Beside such a
// rival this flow holds about what it has.
//
// Losses alone do not tell: with four flows of this kind at a short queue, those that
// were hit give way while others do not, and each takes the others for rivals. Then all
// hold, and the shares stay as unequal as they are. What tells is ProbeRTT. Flows of
// this kind have it at one time (draft-ietf-ccwg-bbr §5.3.4.3), and the queue goes away.
// The first version has its own only when it has seen no low RTT for 10 s, and that low
// RTT sets the clock of this flow anew: the two never meet.
type bbrRival struct {
	vainLost, vainSent float64 // packets that were lost and the queue did not become shorter, and all
	cycleSent          float64 // packets of this cycle
	judgedLost         float64 // packets lost since the congestion that is being judged
	judgedRound        int64   // when that was
	judgedQueue        float64 // queue then, in seconds
	leastMean          float64 // smallest mean RTT of a round since then, in seconds

	kept       int     // above 0: others kept the queue in one of the last ProbeRTT
	probeQueue float64 // queue before ProbeRTT, in seconds
	cycled     bool    // there was a cycle
	holding    int     // cycles since a rival was found; 0 if there is none
}

// holds reports whether there is a rival that does not give way.
func (r *bbrRival) holds() bool { return r.holding > 0 }

// rivalRound is called at the end of each round, before its losses are judged.
func (b *bbr) rivalRound() {
	b.cycleSent += (b.roundAcked + b.roundLost) / float64(b.mtu)
	if n := b.rate.rounds - b.judgedRound; n > 0 && n <= bbrRivalJudged && b.lastMean > 0 {
		b.leastMean = min(b.leastMean, b.lastMean)
	}
}

// rivalCongestion is called for each round with congestion.
func (b *bbr) rivalCongestion() {
	if b.judgedLost == 0 {
		b.judgedRound = b.rate.rounds
		b.judgedQueue = b.lastMean - b.minRTT.Seconds()
		b.leastMean = math.Inf(1)
	}
	b.judgedLost += b.roundLost / float64(b.mtu)
}

// rivalCycle is called once in a cycle.
func (b *bbr) rivalCycle() {
	if b.judgedLost > 0 && b.rate.rounds >= b.judgedRound+bbrRivalRounds {
		left := b.leastMean - b.minRTT.Seconds()
		if b.judgedQueue > bbrRTTSlack.Seconds() && !math.IsInf(left, 1) && left > bbrRivalMoved*b.judgedQueue {
			b.vainLost += min(b.judgedLost, bbrRivalMost*b.cycleSent)
		}
		b.judgedLost = 0
	}
	b.vainSent += b.cycleSent
	b.cycleSent = 0
	b.vainLost *= bbrRivalMemory
	b.vainSent *= bbrRivalMemory
	b.judgeRival()
}

// judgeRival decides whether there is a rival: one that keeps the queue in ProbeRTT, and
// before which this flow has given way in vain.
func (b *bbr) judgeRival() {
	b.cycled = true
	vain := b.vainLost > bbrRivalLoss*b.vainSent
	switch {
	case b.holding > 0:
		if b.holding++; !vain || b.holding > bbrRivalPatient {
			b.holding = 0
		}
	case vain && b.kept > 0:
		b.holding = 1
	}
}

// rivalProbe is called when ProbeRTT begins.
func (b *bbr) rivalProbe() { b.probeQueue = b.lastMean - b.longRTT().Seconds() }

// rivalProbed is called when ProbeRTT is over. A flow with a large share takes much of
// the queue with it, so that once without a queue is no proof that there is no rival.
func (b *bbr) rivalProbed() {
	switch {
	case b.probeLow == 0 || b.probeQueue < bbrRTTSlack.Seconds():
	case b.probeQueue > bbrRivalQueue*b.longRTT().Seconds():
	case (b.probeLow - b.longRTT()).Seconds() > bbrRivalKept*b.probeQueue:
		b.kept = bbrRivalSure
	case b.kept > 0:
		b.kept--
	default:
		b.holding = 0
	}
}

// longRTT is the smallest RTT of bbrLongWindow: minRTT may be one with the queue of a
// rival.
func (b *bbr) longRTT() time.Duration {
	if b.long[0] == 0 {
		return b.long[1]
	}
	return min(b.long[0], b.long[1])
}

// hold is congestion beside a rival. What the flow was able to deliver just now is not
// given up.
func (b *bbr) hold(s *ackSample, at float64) {
	bw := min(b.bw(), bbrRivalRate*b.bwRound)
	hold := bbrRivalHold
	if b.lastMean > 0 {
		hold = max(min(hold, bbrRivalFull*b.lastMean/b.minRTT.Seconds()), 1)
	}
	floor := max(hold*b.bdp(bw), b.budget(), float64(b.minWindow()))
	b.inflightHi = max(min(at, b.inflightHi), floor/(1-bbrHeadroom))
	if b.st == bbrUp {
		if b.roundsIn() >= 2 {
			b.beginDown(s.now)
		}
		return
	}
	if !b.afterUp {
		b.inflightLo = max(bbrBeta*min(b.inflightLo, float64(b.cwnd)), floor)
		b.bwLo = max(bw, bbrBeta*b.bw())
	}
}
