package auto

import "time"

// trialState compares rates.
type trialState struct {
	best    float64 // bytes/s of the session; fades
	bestAt  time.Time
	limited time.Time // since when the active carrier is limited; zero if it is not

	slow      time.Time // since when it is slower than it was
	throttled time.Time // since when it is slow and shows why

	on    bool // the active carrier is on trial
	since time.Time
	rate  float64 // of the carrier before
	lost  bool    // the trial: go back

	fails int
	until time.Time // no further trial before
}

// observe looks at the next input.
func (t *trialState) observe(d *Decider, v *view) {
	now := d.now
	t.best *= halved(max(0, now.Sub(t.bestAt)), bestHalfLife)
	t.bestAt = now
	if !v.a.isBusy() {
		t.limited, t.slow, t.throttled = time.Time{}, time.Time{}, time.Time{}
		if t.on && now.Sub(t.since) >= trialEnd {
			t.end(d, false)
		}
		return
	}
	since(&t.limited, now, true)
	rate := v.a.rate
	if rate == 0 || v.a.rateSampled.Before(d.since) {
		return
	}
	since(&t.slow, now, rate < slowShare*t.best)
	long := v.standby.ProbeRTT > 0 && v.a.rtt > 2*v.s.rtt+20 && d.recent(v)
	since(&t.throttled, now, rate < throttledRate && (v.a.slow.share() >= throttledLoss || long))
	if t.on {
		t.compare(d, v, rate)
	}
	if !t.on {
		t.best = max(t.best, rate)
	}
}

// since keeps the time since when a condition holds.
func since(t *time.Time, now time.Time, holds bool) {
	if !holds {
		*t = time.Time{}
	} else if t.IsZero() {
		*t = now
	}
}

// compare ends a trial when the carrier on trial has shown what it can.
func (t *trialState) compare(d *Decider, v *view, rate float64) {
	if t.lost || d.now.Sub(t.limited) < d.cfg.MinDwellTime {
		return
	}
	switch {
	case rate < trialWorse*t.rate:
		t.lost = true
		v.a.penalty += ratePenalty
	case rate > trialBetter*t.rate:
		v.s.penalty += ratePenalty
		v.s.fail(d.now, 0)
		t.end(d, true)
	default:
		t.end(d, false)
	}
	t.best = max(rate, t.rate) // what can be had now
}

func (t *trialState) end(d *Decider, helped bool) {
	t.on, t.lost = false, false
	if helped {
		t.fails = 0
		return
	}
	t.until = d.now.Add(doubled(trialWait, t.fails, maxTrialWait))
	t.fails++
}

// wanted reports whether to move for the rate: for a trial, or back from one.
func (t *trialState) wanted(d *Decider, v *view) bool {
	if t.on {
		return t.lost
	}
	slow := !t.slow.IsZero() && d.now.Sub(t.slow) >= slowFor ||
		!t.throttled.IsZero() && d.now.Sub(t.throttled) >= throttledFor
	known := v.s.rate > knownFaster*v.a.rate && d.now.Sub(v.s.rateSampled) <= rateKnownFor
	return slow && (known || !d.now.Before(t.until))
}

// moved begins or ends a trial. It runs before the active carrier changes.
func (t *trialState) moved(d *Decider, why Reason) {
	began := why == ReasonRate && !t.on
	if t.on {
		t.end(d, false)
	}
	t.limited, t.slow, t.throttled = time.Time{}, time.Time{}, time.Time{}
	if began {
		t.on, t.lost, t.since, t.rate = true, false, d.now, d.carriers[d.active].rate
	}
}
