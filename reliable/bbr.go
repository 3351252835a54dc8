package reliable

import (
	"math"
	"time"
)

// What BBR's pacing and window are, in terms of the model (draft-ietf-ccwg-bbr §2.4).
const (
	bbrStartupPacing = 2.773
	bbrStartupWindow = 2.0
	bbrDrainPacing   = 0.5
	bbrDownPacing    = 0.8
	bbrWindow        = 1.5
	bbrCompeteWindow = 2.5 // instead of bbrWindow beside flows that keep a long queue
	bbrProbeRTT      = 0.5

	// Packets. RFC 9002 §7.2 has 10, with which what a page or a call has takes two rounds
	// more; quic-go begins with 32 too. They do not go at once: bbrFirstBurst do, as many as
	// before, and the others at such a rate that the first window takes bbrFirstSpread.
	bbrFirstWindow = 32
	bbrFirstBurst  = 16
	bbrFirstSpread = 10 * time.Millisecond
	bbrEarlyGrowth = 3 // of a window in a round without a queue; else it is 2
	bbrMinWindow   = 4
	maxWindow      = 1 << 30 // of any controller: more packets than that are never tracked
)

type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrDown
	bbrCruise
	bbrRefill
	bbrUp
	bbrRTT
)

var bbrNames = [...]string{"startup", "drain", "down", "cruise", "refill", "up", "probe rtt"}

// bbr is a model-based controller in the line of BBR (draft-ietf-ccwg-bbr): it
// measures the path's bandwidth and its round-trip time without a queue, and sends
// at the former, with about their product in flight.
//
// It differs from the draft in what it makes of losses. The draft takes more than
// 2 % in a round for congestion; here a round counts as congested if it lost far
// more than the path loses anyhow, with a queue to be seen in the RTT, or if it lost
// very much. See bbr_loss.go.
//
//	Startup --> Drain --> Down --> Cruise --> Refill --> Up --+
//	   ^                   ^                              |   |
//	   |                   +------------------------------+   |
//	   +--------------- the path has become much faster ------+
//
// ProbeRTT comes between any two when no low RTT was seen for long.
type bbr struct {
	rate rateState
	mtu  int
	st   bbrState
	rand uint64
	cwnd int
	sent int // bytes, until there is a round trip

	bbrBandwidth
	bbrDelay
	bbrLoss
	bbrRival
	bbrCycle

	extra bbrExtra
}

func newBBR(seed uint64) controller {
	b := &bbr{rand: seed}
	b.bwLo = math.Inf(1)
	b.inflightLo = math.Inf(1)
	b.inflightHi = math.Inf(1)
	b.resetLossBase()
	return b
}

// random returns a number in [0, 1) (splitmix64).
func (b *bbr) random() float64 {
	b.rand += 0x9e3779b97f4a7c15
	z := b.rand
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

func (b *bbr) mtuChanged(mtu int) {
	if b.mtu == 0 {
		b.cwnd = bbrFirstWindow * mtu
	}
	b.mtu = mtu
	b.cwnd = max(b.cwnd, b.minWindow())
}

func (b *bbr) minWindow() int { return bbrMinWindow * b.mtu }

func (b *bbr) packetSent(now instant, p *ratePacket, size, inflight int) {
	if inflight <= 0 {
		b.restarted(now)
	}
	if b.minRTT == 0 {
		b.sent += size
	}
	b.rate.packetSent(now, p, size, inflight)
}

func (b *bbr) appLimited(inflight int) { b.rate.appLimited(inflight) }

func (b *bbr) acked(s *ackSample) {
	rs := b.rate.acked(s)
	b.updateLoss(s, &rs)
	b.updateBandwidth(s, &rs)
	b.extra.update(s, b.bw(), &rs, b.cwnd)
	b.updateRTT(s)
	b.updateCycle(s, &rs)
	b.updateProbeRTT(s, &rs)
	b.setWindow(s)
}

func (b *bbr) lost(s *ackSample) {
	rs := b.rate.acked(s)
	b.updateLoss(s, &rs)
}

// persistentCongestion leaves the least in flight and measures anew: it may be
// another path that comes back. The window doubles with each round from then on.
func (b *bbr) persistentCongestion(now instant) {
	b.cwnd = b.minWindow()
	b.anew = now
	b.bbrBandwidth = bbrBandwidth{}
	b.resetLow()
	b.inflightHi = math.Inf(1)
	b.forgetRound()
	b.queueLost, b.queueSent = 0, 0
	b.bbrRival = bbrRival{}
	b.extra = bbrExtra{begin: now}
	b.fullBW, b.full, b.fullCount = false, 0, 0
	b.lowSeen = now
	b.enter(now, bbrStartup)
}

func (b *bbr) spurious(_ instant, n int) { b.roundLost = max(b.roundLost-float64(n), 0) }

// bw is the bandwidth to send at.
func (b *bbr) bw() float64 { return min(b.maxBW(), b.bwLo) }

// bdp is what the path holds at that bandwidth without a queue.
func (b *bbr) bdp(bw float64) float64 { return bw * b.minRTT.Seconds() }

// budget is what must be in flight beyond the product so that late timers, bursts and
// ACKs in batches leave no gaps.
func (b *bbr) budget() float64 {
	return max(b.bw()*pacerSlack.Seconds(), float64(3*b.mtu)) + b.extra.max()
}

func (b *bbr) pacingGain() float64 {
	switch b.st {
	case bbrStartup:
		return bbrStartupPacing
	case bbrDrain:
		return bbrDrainPacing
	case bbrDown:
		return bbrDownPacing
	case bbrUp:
		return 1 + b.step
	}
	return 1
}

func (b *bbr) windowGain() float64 {
	switch b.st {
	case bbrStartup:
		return bbrStartupWindow
	case bbrUp:
		return b.plainWindow() + b.step
	case bbrRTT:
		return bbrProbeRTT
	}
	return b.plainWindow()
}

// early reports whether Startup has not come near the end of the path. Its windows go
// out in half a round: if there is no queue then, the path holds two of them, and with
// three there will be no more in flight than with two where the first makes a queue.
func (b *bbr) early(now instant) bool {
	return b.st == bbrStartup && !b.fullBefore && now.sub(b.lowSeen) <= b.srtt/bbrEarlyShare &&
		b.roundLost <= bbrEarlyLoss*b.roundAcked+float64(b.mtu)
}

func (b *bbr) plainWindow() float64 {
	if b.competes >= bbrCompeteCycles {
		return bbrCompeteWindow
	}
	if b.holds() {
		return bbrRivalWindow
	}
	return bbrWindow
}

// setWindow lets the window go to what the model wants. It grows by no more than
// what was acknowledged.
func (b *bbr) setWindow(s *ackSample) {
	if b.minRTT == 0 || b.maxBW() == 0 {
		b.cwnd += s.ackedLen
		return
	}
	early := b.early(s.now)
	gain := b.windowGain()
	if early {
		gain = bbrEarlyGrowth
	}
	target := gain * b.bdp(b.bw())
	if b.st != bbrRTT {
		target += b.budget()
	}
	grown := float64(b.cwnd) + float64(s.ackedLen)
	if early && s.rtt > 0 && s.rtt <= b.nearRTT() && float64(b.cwnd) < target {
		grown += (bbrEarlyGrowth - 2) * float64(s.ackedLen)
	}
	if b.fullBW || b.st != bbrStartup {
		grown = min(grown, target)
	} else if float64(b.cwnd) >= target && b.rate.delivered >= int64(bbrFirstWindow*b.mtu) {
		grown = float64(b.cwnd) // Startup never shrinks it
	}
	grown = min(grown, b.bound())
	b.cwnd = int(min(max(grown, float64(b.minWindow())), maxWindow))
}

// bound is what congestion has taught (draft-ietf-ccwg-bbr §5.6.4.5).
func (b *bbr) bound() float64 {
	switch b.st {
	case bbrStartup, bbrDrain, bbrRefill, bbrUp:
		return b.inflightHi
	case bbrRTT:
		return math.Inf(1)
	}
	return min(b.inflightHi*(1-bbrHeadroom), b.inflightLo)
}

func (b *bbr) window() int { return b.cwnd }

func (b *bbr) pacingRate() float64 {
	bw := b.bw()
	if bw == 0 || math.IsInf(bw, 1) {
		if b.minRTT == 0 {
			return b.firstRate()
		}
		return bbrStartupPacing * float64(b.cwnd) / b.minRTT.Seconds()
	}
	rate := b.pacingGain() * bw
	if b.st == bbrStartup {
		// A window in half a round, so that it doubles in each. The first samples may
		// come from one packet.
		rate = max(rate, 2*float64(b.cwnd)/b.srtt.Seconds())
	} else {
		rate *= b.repair()
	}
	// So much that the least window passes in a round.
	return max(rate, float64(b.minWindow())/max(b.srtt, time.Millisecond).Seconds()/4)
}

// firstRate is the rate before there is a round trip: none until so much has gone out that
// what the pacer lets go at once makes a first burst of it.
func (b *bbr) firstRate() float64 {
	if b.sent < (bbrFirstBurst-pacerBurst)*b.mtu {
		return 0
	}
	return float64(bbrFirstWindow*b.mtu) / bbrFirstSpread.Seconds()
}

func (b *bbr) bandwidth() float64 { return b.maxBW() }
func (b *bbr) state() string      { return bbrNames[b.st] }
