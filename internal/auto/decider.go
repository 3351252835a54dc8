package auto

import (
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// A Decider decides for one session. It is not safe for concurrent use.
type Decider struct {
	cfg     Config
	now     time.Time // of the last call; never goes back
	started bool

	carriers [2]healthState
	active   reliable.Carrier
	since    time.Time // on the active carrier
	lastMove time.Time // that nobody asked for; zero never
	hold     time.Time // a forced move is left alone until then
	pinSet   bool      // SetPin was called and not obeyed yet

	// The last decision to move, until it is done.
	pending       bool
	pendingTo     reliable.Carrier
	pendingReason Reason

	lastProbe time.Time
	failed    failureState
	trial     trialState

	candidate      Reason // why the standby would be better
	candidateSince time.Time
}

// New returns a Decider.
func New(cfg Config) *Decider {
	return &Decider{cfg: cfg.WithDefaults()}
}

// Decide says what is to be done.
func (d *Decider) Decide(in Input) Decision {
	if in.Active > reliable.ByteStream {
		return Decision{}
	}
	d.advance(in.Now)
	if !d.started {
		d.started, d.active, d.since = true, in.Active, d.now
	}
	if in.Active != d.active {
		d.moved(in.Active, false)
	}
	v := view{
		active: &in.Carriers[d.active], standby: &in.Carriers[1-d.active],
		a: &d.carriers[d.active], s: &d.carriers[1-d.active],
	}
	v.usable = v.standby.Attached && !v.standby.Gone
	v.a.observe(d.now, v.active, true, v.s.rtt)
	v.s.observe(d.now, v.standby, false, 0)
	d.failed.observe(d, &v)
	d.trial.observe(d, &v)

	var dec Decision
	switch {
	case d.cfg.Pinned:
		d.obeyPin(&v, &dec)
	case d.failed.verdict != ReasonNone:
		d.escape(&v, &dec)
	case d.failed.failing:
		d.suspect(&v, &dec)
	case !d.cfg.Follower:
		d.choose(&v, &dec)
	}
	d.finish(&in, &v, &dec)
	return dec
}

// view is one input, seen from the active carrier.
type view struct {
	active, standby *CarrierInput
	a, s            *healthState
	usable          bool // the standby can be moved to
}

func (d *Decider) advance(now time.Time) {
	if now.After(d.now) {
		d.now = now
	}
}

// finish completes a decision.
func (d *Decider) finish(in *Input, v *view, dec *Decision) {
	d.pending = dec.Move
	if dec.Move {
		dec.Probe = false
		d.pendingTo, d.pendingReason = dec.To, dec.Reason
		dec.at(d.now.Add(d.cfg.ProbeTimeout))
	}
	if dec.Probe {
		d.lastProbe = d.now
	}
	// The next PTO without an answer, as long as there may be one.
	if p, silence := pto(v.active), v.active.Silence; silence > 0 || v.a.fast.sent > 1 && d.now.Sub(v.a.alive) < quiet {
		if silence < p {
			p -= max(silence, 0)
		}
		// What has been silent for long is not looked at all the time: a server may have
		// many such sessions, all at once.
		dec.at(d.now.Add(max(p, minInterval, silence/8)))
	}
	if !dec.Next.IsZero() && !dec.Next.After(in.Now) {
		dec.Next = in.Now.Add(time.Millisecond)
	}
}

// at asks for another decision at t or before.
func (dec *Decision) at(t time.Time) {
	if dec.Next.IsZero() || t.Before(dec.Next) {
		dec.Next = t
	}
}

func (d *Decider) move(dec *Decision, why Reason) {
	dec.Move, dec.To, dec.Reason = true, 1-d.active, why
}

// probe asks for a probe of the standby, every now and then.
func (d *Decider) probe(dec *Decision, every time.Duration) {
	due := d.lastProbe.Add(every)
	if d.lastProbe.IsZero() || !d.now.Before(due) {
		dec.Probe = true
		due = d.now.Add(every)
	}
	dec.at(due)
}

// probeEvery is the time between two probes of the standby: its round trip while it
// answers, longer and longer, to most, when it does not.
func (d *Decider) probeEvery(v *view, doublings int) time.Duration {
	if n := v.standby.ProbesLost; n > 0 {
		return d.cfg.ProbeTimeout << min(n-1, doublings)
	}
	rtt := v.standby.ProbeRTT
	if rtt <= 0 {
		rtt = unknownRTT * time.Millisecond
	}
	return max(rtt, minInterval)
}

// answers reports whether the standby is alive as far as can be known.
func (d *Decider) answers(v *view) bool {
	if !v.usable || v.s.alive.IsZero() || v.standby.ProbesLost > 0 {
		return false
	}
	return d.recent(v) || v.active.Silence > 0 && v.s.alive.After(d.now.Add(-v.active.Silence))
}

func (d *Decider) recent(v *view) bool {
	return d.now.Sub(v.s.alive) <= max(3*v.standby.ProbeRTT, d.cfg.ProbeTimeout)
}

// cooled is when the next move that nobody asked for may be.
func (d *Decider) cooled() time.Time {
	if d.lastMove.IsZero() {
		return time.Time{}
	}
	return d.lastMove.Add(d.cfg.SwitchCooldown)
}

// obeyPin moves a pinned session to its pin, and nowhere else.
func (d *Decider) obeyPin(v *view, dec *Decision) {
	if d.active == d.cfg.Pin {
		d.pinSet = false
		return
	}
	if !v.usable {
		d.probe(dec, max(d.cfg.ProbeTimeout, d.probeEvery(v, 3)))
		return
	}
	if c := d.cooled(); !d.pinSet && d.now.Before(c) && !v.active.Gone {
		dec.at(c)
		return
	}
	if d.answers(v) || v.active.Gone && d.failed.long(d) {
		d.move(dec, ReasonPinned)
		return
	}
	d.probe(dec, d.probeEvery(v, 3))
}

// Moved tells of a move: an own one, one of the peer, or one that was forced, that is
// asked for by the application. A move that Moved is not told of is seen by the next Decide and
// taken for the peer's.
func (d *Decider) Moved(now time.Time, to reliable.Carrier, forced bool) {
	d.advance(now)
	if to > reliable.ByteStream || d.started && to == d.active {
		return
	}
	if !d.started {
		d.started, d.active = true, 1-to
	}
	d.moved(to, forced)
}

func (d *Decider) moved(to reliable.Carrier, forced bool) {
	left := &d.carriers[d.active]
	if left.rtt > 0 {
		left.rtt = left.trip(d.now, true) // the queue of the session goes with it
	}
	reason := ReasonPeer
	switch {
	case forced:
		reason = ReasonForced
		d.hold = d.now.Add(forcedDwells * d.cfg.MinDwellTime)
	case d.pending && d.pendingTo == to:
		reason = d.pendingReason
	}
	if !forced {
		d.lastMove = d.now
		d.hold = time.Time{}
	}
	d.trial.moved(d, reason)
	switch reason {
	case ReasonPreferred, ReasonPinned, ReasonForced, ReasonRate: // a trial ends with its own verdict
	default:
		left.fail(d.now, d.now.Sub(d.since))
	}
	d.pending = false
	d.active, d.since = to, d.now
	d.candidate = ReasonNone
	d.failed = failureState{largeOld: true}
	d.lastProbe = time.Time{}
	for i := range d.carriers {
		h := &d.carriers[i]
		h.streak, h.fast, h.slow = 0, lossWindow{}, lossWindow{}
		h.limited, h.busy, h.inflow, h.busyAt = time.Time{}, 0, 0, d.now
		h.last.Timeouts, h.last.ProbesLost = 0, 0
	}
}

// SetPin pins the session to c, or ends that.
func (d *Decider) SetPin(pinned bool, c reliable.Carrier) {
	d.cfg.Pinned, d.cfg.Pin, d.pinSet = pinned, c, pinned
}

// Scores returns the score of each carrier in milliseconds, for logs. Smaller is better.
func (d *Decider) Scores(now time.Time) [2]float64 {
	now = later(now, d.now)
	var scores [2]float64
	for i := range scores {
		h := d.carriers[i]
		if h.seen {
			h.advance(now)
		}
		scores[i] = d.partsOf(now, &h, i == int(d.active)).sum()
	}
	return scores
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func pto(in *CarrierInput) time.Duration {
	if in.PTO <= 0 {
		return unknownPTO
	}
	return in.PTO
}
