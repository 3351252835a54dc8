package auto

import (
	"math"
	"time"
)

// healthState is what is remembered about one carrier.
type healthState struct {
	seen  bool
	last  CarrierInput // the input before this one
	at    time.Time    // up to when counts have faded
	alive time.Time    // newest Alive

	rtt     float64 // ms, average; 0 unknown
	floor   float64 // ms, without own queues; 0 unknown
	sampled time.Time

	timeouts, errors float64
	fast, slow       lossWindow
	lossMS           float64
	penalty          float64

	streak int // probes answered in a row

	busy        float64   // share of the time lately in which the carrier was limited
	busyAt      time.Time // up to when
	inflow      float64   // bytes received lately, fading like busy
	limited     time.Time // when it was busy last, or the peer was
	rate        float64   // bytes/s when limited, average; 0 unknown
	rateSampled time.Time

	fails     int
	waitUntil time.Time // not moved to before this without need
}

type lossWindow struct{ sent, lost float64 }

// share is the part that is surely lost.
func (w lossWindow) share() float64 {
	if w.sent < 1 {
		return 0
	}
	return min(1, max(0, w.lost-2*math.Sqrt(w.lost+1))/w.sent)
}

func (w *lossWindow) fade(f float64) { w.sent, w.lost = w.sent*f, w.lost*f }

func (w *lossWindow) add(sent, lost float64) { w.sent, w.lost = w.sent+sent, w.lost+lost }

// halved is what is left of 1 after d.
func halved(d, halfLife time.Duration) float64 {
	return math.Exp2(-float64(d) / float64(halfLife))
}

// advance lets counts fade.
func (h *healthState) advance(now time.Time) {
	d := now.Sub(h.at)
	if d <= 0 {
		return
	}
	h.at = now
	h.timeouts *= halved(d, timeoutHalfLife)
	h.errors *= halved(d, errorHalfLife)
	h.fast.fade(halved(d, fastLossHalfLife))
	h.slow.fade(halved(d, slowLossHalfLife))
	h.lossMS *= halved(d, idleLossHalfLife)
	h.penalty *= halved(d, penaltyHalfLife)
}

// observe takes the next input. other is the round trip of the other carrier in ms, 0 if unknown.
func (h *healthState) observe(now time.Time, in *CarrierInput, active bool, other float64) {
	if !h.seen {
		h.seen, h.at, h.last = true, now, *in
		h.last.Timeouts, h.last.ProbesLost, h.last.Alive = 0, 0, time.Time{}
	}
	h.advance(now)
	heard := in.Alive.After(h.alive)
	if heard {
		h.alive = in.Alive
		if h.alive.After(now) {
			h.alive = now
		}
	}
	h.errors += float64(grown(in.SendErrors, h.last.SendErrors))
	if active {
		h.observeActive(now, in, heard, other)
	} else {
		h.observeStandby(now, in, heard)
	}
	h.last = *in
}

func (h *healthState) observeActive(now time.Time, in *CarrierInput, heard bool, other float64) {
	// The first in a row is what the loss of a tail looks like.
	if n := in.Timeouts - max(h.last.Timeouts, 1); n > 0 {
		h.timeouts += float64(n)
	}
	sent, lost := float64(grown(in.Sent, h.last.Sent)), float64(grown(in.Lost, h.last.Lost))
	h.fast.add(sent, lost)
	h.slow.add(sent, lost)
	loss := max(0, lossScore*(min(h.fast.share(), h.slow.share())-tolerableLoss))
	if h.fast.sent < enoughPackets {
		loss = max(loss, h.lossMS) // what was known before
	}
	h.lossMS = loss

	h.observeBusy(now, in.Limited, float64(grown(in.Received, h.last.Received)))
	if rtt := milliseconds(in.RTT); rtt > 0 && heard && now.Sub(h.sampled) >= between(in.RTT, minInterval, rttSampleEvery) {
		h.sample(now, rtt)
		if !h.ownQueue(now) {
			h.floor = h.rtt
		} else {
			h.floor = least(h.floor, rtt, other)
		}
	}
	if (in.Limited || h.isBusy()) && in.Rate > 0 && in.Rate <= maxRate && now.Sub(h.rateSampled) >= rttSampleEvery {
		if h.rate == 0 || now.Sub(h.rateSampled) > quiet {
			h.rate = in.Rate
		}
		h.rate += rttWeight * (in.Rate - h.rate)
		h.rateSampled = now
	}
}

// observeBusy takes an input that says of an instant whether the carrier is limited: a
// session that sends now and then is for some of them, one that sends all it can is not for all.
// Of the peer is known how many bytes have come.
func (h *healthState) observeBusy(now time.Time, limited bool, received float64) {
	f := halved(max(0, now.Sub(h.busyAt)), busyHalfLife)
	h.busyAt = now
	h.busy *= f
	if limited {
		h.busy += 1 - f
	}
	h.inflow = h.inflow*f + received
	perTrip := h.inflow * math.Ln2 / milliseconds(busyHalfLife) * h.rtt
	if h.isBusy() || perTrip >= ownInflow {
		h.limited = now
	}
}

func (h *healthState) isBusy() bool { return h.busy > 0.5 }

func (h *healthState) observeStandby(now time.Time, in *CarrierInput, heard bool) {
	if n := in.ProbesLost - h.last.ProbesLost; n > 0 {
		h.timeouts += float64(n)
	}
	if in.ProbesLost > 0 || !in.Attached || in.Gone {
		h.streak = 0
	}
	if heard && in.ProbesLost == 0 {
		h.streak = min(h.streak+1, math.MaxInt32)
		if rtt := milliseconds(in.ProbeRTT); rtt > 0 {
			h.sample(now, rtt)
			h.floor = rtt
		}
	}
}

func (h *healthState) sample(now time.Time, rtt float64) {
	if h.rtt == 0 {
		h.rtt = rtt
	}
	weight := rttWeight
	if now.Sub(h.sampled) > rttOutdated {
		weight = outdatedWeight
	}
	h.rtt += weight * (rtt - h.rtt)
	h.sampled = now
}

// ownQueue reports whether packets may stand behind the session's own ones.
func (h *healthState) ownQueue(now time.Time) bool {
	return !h.limited.IsZero() && now.Sub(h.limited) <= limitedLatch
}

// trip is the round trip in ms as it counts in a score.
func (h *healthState) trip(now time.Time, active bool) float64 {
	switch {
	case h.rtt == 0:
		return unknownRTT
	case !active:
		return h.rtt
	case now.Sub(h.sampled) > quiet && h.floor > 0:
		return min(h.rtt, h.floor)
	case h.ownQueue(now) && h.floor > 0:
		queue := float64(ownQueue)
		if h.rate > 0 { // on a slow path it is some packets
			queue = max(queue, 1000*ownPackets/h.rate)
		}
		return min(h.rtt, h.floor+max(0, h.rtt-3*h.floor-queue))
	}
	return h.rtt
}

// fail notes that the carrier is left because of its failure.
func (h *healthState) fail(now time.Time, on time.Duration) {
	if on >= healthyAfter {
		h.fails = 0
	}
	h.waitUntil = now.Add(doubled(failedWait, h.fails, maxFailedWait))
	h.fails++
}

func doubled(d time.Duration, n int, most time.Duration) time.Duration {
	return min(d<<min(n, 16), most)
}

// grown is how much a cumulative count has grown. A smaller one is of a new connection.
func grown(v, last uint64) uint64 {
	if v < last {
		return 0
	}
	return v - last
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func between(v, low, high time.Duration) time.Duration { return min(max(v, low), high) }

// least is the least of those that are known.
func least(a, b, c float64) float64 {
	for _, v := range [...]float64{b, c} {
		if v > 0 && (a == 0 || v < a) {
			a = v
		}
	}
	return a
}
