package auto

import (
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// parts are the parts of a score in ms.
type parts struct{ trip, timeouts, errors, loss, rate float64 }

func (p parts) sum() float64 { return p.trip + p.timeouts + p.errors + p.loss + p.rate }

func (d *Decider) partsOf(now time.Time, h *healthState, active bool) parts {
	return parts{
		trip:     h.trip(now, active),
		timeouts: h.timeouts * milliseconds(d.cfg.AckTimeoutPenalty),
		errors:   h.errors * milliseconds(d.cfg.IOErrorPenalty),
		loss:     h.lossMS,
		rate:     h.penalty,
	}
}

// worst names the part by which p is worst in comparison with o.
func (p parts) worst(o parts, active reliable.Carrier) Reason {
	silence := ReasonSilence
	if active == reliable.ByteStream {
		silence = ReasonStalled
	}
	why, most := ReasonRoundTrip, p.trip-o.trip
	for _, c := range [...]struct {
		diff float64
		why  Reason
	}{
		{p.loss - o.loss, ReasonLoss}, {p.timeouts - o.timeouts, silence},
		{p.errors - o.errors, ReasonSendErrors}, {p.rate - o.rate, ReasonRate},
	} {
		if c.diff > most {
			why, most = c.why, c.diff
		}
	}
	return why
}

// better returns why the standby would be better than the active carrier, which lives.
func (d *Decider) better(v *view) Reason {
	if !v.usable || v.s.rtt == 0 {
		return ReasonNone
	}
	if d.trial.wanted(d, v) {
		return ReasonRate
	}
	a, s, leave := d.partsOf(d.now, v.a, true), d.partsOf(d.now, v.s, false), d.leaving(v)
	margin := milliseconds(d.cfg.MinScoreMargin)
	if sum := leave.sum(); sum-s.sum() > margin+leaveShare*sum {
		return leave.worst(s, d.active)
	}
	if d.cfg.Prefer != d.active && !d.trial.on {
		// Both stand in the same queue.
		a.trip = max(a.trip, v.a.rtt)
		if d.outdated(v) {
			s.trip = min(s.trip, a.trip) // probes are to tell
		}
		if sum := a.sum(); s.sum() <= sum+margin+returnShare*sum {
			return ReasonPreferred
		}
	}
	return ReasonNone
}

// outdated reports whether the round trip of the standby is from too long ago to stay away
// from it. A session that is not in use can wait for the next keep-alive of the standby.
func (d *Decider) outdated(v *view) bool {
	return d.now.Sub(v.s.sampled) > rttOutdated && d.now.Sub(v.a.alive) < quiet
}

// leaving are the parts of the active carrier's score that count for leaving it.
func (d *Decider) leaving(v *view) parts {
	p, enough := d.partsOf(d.now, v.a, true), float64(d.cfg.ConsecutiveFailuresThreshold)
	// A few of these are had by every carrier.
	if v.a.timeouts < enough {
		p.timeouts = 0
	}
	if v.a.errors < enough {
		p.errors = 0
	}
	return p
}

// bad reports whether any other carrier may well be better.
func (d *Decider) bad(v *view) bool {
	p := d.leaving(v)
	return p.sum()-p.trip > milliseconds(d.cfg.MinScoreMargin)+leaveShare*p.sum() || d.trial.wanted(d, v)
}

// choose compares two carriers of which the active one lives.
func (d *Decider) choose(v *view, dec *Decision) {
	defer d.watch(v, dec)
	if !v.usable && d.bad(v) {
		d.probe(dec, absentEvery)
	}
	why := d.better(v)
	if why == ReasonNone {
		d.candidate = ReasonNone
		return
	}
	if (why == ReasonPreferred) != (d.candidate == ReasonPreferred) || d.candidate == ReasonNone {
		d.candidateSince, v.s.streak = d.now, 0
	}
	d.candidate = why
	start := later(d.since.Add(d.cfg.MinDwellTime), d.cooled())
	start = later(start, d.hold)
	if back := why == ReasonRate && d.trial.on; !back { // what was before the trial is known
		start = later(start, v.s.waitUntil)
		if why != ReasonPreferred {
			start = later(start, d.candidateSince.Add(sustain))
		}
	}
	if soon := start.Add(-d.cfg.ProbeTimeout); d.now.Before(soon) {
		dec.at(soon)
		return
	}
	if !d.now.Before(start) && v.s.streak >= d.cfg.ProbeAttempts && v.standby.ProbesLost == 0 && d.recent(v) {
		d.move(dec, why)
		return
	}
	if d.now.Before(start) {
		dec.at(start)
		if v.s.streak >= d.cfg.ProbeAttempts && d.recent(v) {
			return
		}
	}
	d.probe(dec, d.probeEvery(v, 5))
}

// watch asks to be asked again as long as fading may change something.
func (d *Decider) watch(v *view, dec *Decision) {
	if v.usable && d.active != d.cfg.Prefer {
		dec.at(d.now.Add(5 * time.Second))
	}
	if v.active.Limited || v.a.isBusy() {
		dec.at(d.now.Add(rttSampleEvery))
	}
}
