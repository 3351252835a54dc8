package auto

import (
	"math"
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// failureState judges whether the active carrier is dead.
type failureState struct {
	failing bool
	verdict Reason
	since   time.Time // of failing or verdict

	answers    int       // of the standby since then
	alive      time.Time // its Alive before
	errors     int       // in a row
	errorSince time.Time
	lastErrors uint64
	lastSent   uint64
	seen       bool

	large      bool // LargeLost has come up on this stay
	largeOld   bool // no input since the move: LargeLost may be of the stay before
	largeAfter time.Time

	unanswered unansweredState
}

// unansweredState counts packets that have had time for their answers.
type unansweredState struct {
	begin  time.Time // of the silence
	base   uint64    // Sent when it began
	counts [4]uint64 // Sent later, as seen at times
	times  [4]time.Time
	n      int
	lastOK uint64 // Sent at the last input
	haveOK bool
}

// observe looks at the next input.
func (f *failureState) observe(d *Decider, v *view) {
	in := v.active
	f.observeErrors(d, in)
	f.observeLarge(d, in)
	f.unanswered.observe(d.now, in)
	if !f.failing {
		f.answers = 0
	} else if v.s.alive.After(f.alive) {
		f.answers++
	}
	f.alive = v.s.alive
	failing := in.Silence >= pto(in) || in.Timeouts > 0 || f.errors > 0
	verdict := f.judge(d, v)
	if (failing || verdict != ReasonNone) && !f.failing && f.verdict == ReasonNone {
		f.since = d.now
	}
	f.failing, f.verdict = failing, verdict
}

func (f *failureState) observeErrors(d *Decider, in *CarrierInput) {
	if f.seen {
		n := grown(in.SendErrors, f.lastErrors)
		switch {
		case n > 0:
			if f.errors == 0 {
				f.errorSince = d.now
			}
			f.errors = int(min(uint64(f.errors)+n, math.MaxInt32))
		case grown(in.Sent, f.lastSent) > 0:
			f.errors = 0
		}
	}
	f.seen, f.lastErrors, f.lastSent = true, in.SendErrors, in.Sent
}

// observeLarge believes LargeLost when it comes up, and when it still is there after a
// while: at the move it may be what was known before.
func (f *failureState) observeLarge(d *Decider, in *CarrierInput) {
	switch {
	case !in.LargeLost || d.active != reliable.Datagrams:
		f.large, f.largeAfter, f.largeOld = false, time.Time{}, false
	case f.largeOld:
		f.largeAfter, f.largeOld = d.now.Add(d.cfg.MinDwellTime), false
	case f.largeAfter.IsZero() || !d.now.Before(f.largeAfter):
		f.large = true
	}
}

// judge returns why the active carrier is dead, if it is.
func (f *failureState) judge(d *Decider, v *view) Reason {
	in, threshold := v.active, d.cfg.ConsecutiveFailuresThreshold
	switch {
	case in.Gone:
		return ReasonReset
	case f.errors >= threshold && d.now.Sub(f.errorSince) >= pto(in):
		return ReasonSendErrors
	case f.large:
		return ReasonLargeLost
	}
	if in.Silence < minSilence {
		return ReasonNone
	}
	silent := in.Silence >= times(pto(in), threshold) && (d.active == reliable.ByteStream || f.unanswered.ripe(d.now, pto(in)) >= unlucky(threshold, v.a))
	if !silent && in.Timeouts < threshold {
		return ReasonNone
	}
	if d.active == reliable.Datagrams {
		return ReasonSilence
	}
	need := stalledSilence
	if d.answers(v) && f.answers >= d.cfg.ProbeAttempts {
		need = stalledProven
	}
	if in.Silence < max(need, times(pto(in), threshold)) {
		return ReasonNone
	}
	return ReasonStalled
}

// times is d n times, without overflow.
func times(d time.Duration, n int) time.Duration {
	if d > 0 && int64(n) > math.MaxInt64/int64(d) {
		return math.MaxInt64
	}
	return d * time.Duration(n)
}

// unlucky is the number of packets that do not all stay without answer by chance. Each
// needs two passages.
func unlucky(threshold int, h *healthState) uint64 {
	n, w := min(threshold, maxUnanswered), h.slow
	if w.sent < enoughPackets {
		return uint64(n)
	}
	p := min(0.99, 2*w.lost/w.sent)
	for all := math.Pow(p, float64(n)); all > badLuck && n < maxUnanswered; all *= p {
		n++
	}
	return uint64(n)
}

func (u *unansweredState) observe(now time.Time, in *CarrierInput) {
	begin := now.Add(-in.Silence)
	switch {
	case in.Silence <= 0:
		*u = unansweredState{lastOK: in.Sent, haveOK: true}
		return
	case u.begin.IsZero() || begin.Sub(u.begin) > time.Millisecond:
		// Some of those sent since the last look are from before the silence.
		n := uint64(1)
		if u.haveOK {
			n = max(n, grown(in.Sent, u.lastOK)/2)
		}
		*u = unansweredState{begin: begin, base: in.Sent - min(in.Sent, n), lastOK: in.Sent, haveOK: true}
		u.counts[0], u.times[0], u.n = in.Sent, begin, 1
		return
	}
	u.lastOK = in.Sent
	if in.Sent == u.counts[u.n-1] {
		return
	}
	if u.n == len(u.counts) {
		copy(u.counts[:], u.counts[1:])
		copy(u.times[:], u.times[1:])
		u.n--
	}
	u.counts[u.n], u.times[u.n] = in.Sent, now
	u.n++
}

// ripe is the number of packets sent in the silence that are older than most of a PTO.
func (u *unansweredState) ripe(now time.Time, pto time.Duration) uint64 {
	for i := u.n - 1; i >= 0; i-- {
		if now.Sub(u.times[i]) >= pto/4*3 {
			return grown(u.counts[i], u.base)
		}
	}
	return 0
}

// suspect prepares for a verdict.
func (d *Decider) suspect(v *view, dec *Decision) {
	in := v.active
	switch again := 2 * pto(in); {
	case v.usable || in.Silence >= again || in.Timeouts > 1 || d.failed.errors > 1:
		d.probe(dec, d.probeEvery(v, 1))
	case in.Silence >= 0: // a new connection costs more than a probe
		dec.at(d.now.Add(again - in.Silence))
	}
	for _, at := range [...]time.Duration{times(pto(in), d.cfg.ConsecutiveFailuresThreshold), minSilence, stalledProven, stalledSilence} {
		if in.Silence < at {
			dec.at(d.now.Add(at - in.Silence))
		}
	}
}

// escape leaves a dead carrier, if that can be.
func (d *Decider) escape(v *view, dec *Decision) {
	dec.Renew = d.failed.verdict == ReasonStalled && v.standby.ProbesLost >= d.cfg.ProbeAttempts
	if !v.usable {
		d.probe(dec, d.cfg.ProbeTimeout) // until one is attached
		return
	}
	gone := v.active.Gone
	if c := d.cooled(); d.now.Before(c) && !gone {
		dec.at(c)
		d.probe(dec, d.probeEvery(v, 1))
		return
	}
	if wait := d.failed.grace(v); d.answers(v) && !gone && d.now.Before(wait) {
		dec.at(wait)
		return
	}
	// One that is gone need not be better than one that does not answer: it may be back soon.
	if d.answers(v) || gone && v.standby.ProbesLost == 0 {
		d.move(dec, d.failed.verdict)
		return
	}
	d.probe(dec, d.probeEvery(v, 1))
}

// long reports whether the trouble has lasted for as long as a standby has to answer.
func (f *failureState) long(d *Decider) bool {
	return d.now.Sub(f.since) >= d.cfg.ProbeTimeout
}

// grace is the end of the time that the active carrier has when the standby answers for
// the first time: if the path of both has paused, both come back at once.
func (f *failureState) grace(v *view) time.Time {
	if f.answers != 1 {
		return time.Time{}
	}
	return v.s.alive.Add(min(v.standby.ProbeRTT/2, maxGrace))
}
