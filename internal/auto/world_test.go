package auto

import (
	"fmt"
	"time"

	"github.com/vstp-go/vstp/reliable"
)

const (
	tick     = 5 * time.Millisecond
	packet   = 1200
	ackDelay = 5 * time.Millisecond
	warmth   = 15 * time.Second // the standby is probed so often anyway
)

var epoch = time.Unix(1_000_000_000, 0)

// world plays the engine and the network of a trace. A Decider is called at events and
// when it wanted to be, so that a Next that is too late shows.
type world struct {
	tr        *trace
	d         *Decider
	cfg       Config
	now       time.Time
	active    reliable.Carrier
	c         [2]simCarrier
	full      bool
	pingpong  bool
	perSecond float64
	random    uint64

	next     time.Time
	event    bool
	nextWarm time.Time
	moves    []simMove
	lastAuto time.Time
	calls    int
}

type simMove struct {
	at     time.Duration
	to     reliable.Carrier
	reason Reason
}

// simCarrier is a carrier as it is, and what the engine knows of it.
type simCarrier struct {
	in            CarrierInput
	up            bool
	large, errors bool
	rtt           time.Duration
	loss, rate    float64

	due       float64     // packets to send, with what is left of the last tick
	answers   []time.Time // of the peer, under way
	owed      time.Time   // since when an answer is owed; zero none is
	probeAt   time.Time   // answer to a standby probe; zero if none is under way
	probeLost time.Time   // when it is given up
	probeSent time.Time
}

func newWorld(tr *trace) *world {
	w := &world{tr: tr, d: New(tr.cfg), cfg: tr.cfg.WithDefaults(), now: epoch, active: tr.start, random: 1, perSecond: 100, next: epoch}
	for i := range w.c {
		c := &w.c[i]
		c.up, c.rtt, c.rate = true, 40*time.Millisecond, 1e7
		c.in.Attached, c.in.Alive = true, epoch
	}
	return w
}

// run plays the whole trace and checks what always holds.
func (w *world) run() error {
	steps := w.tr.steps
	for end := epoch.Add(w.tr.until); w.now.Before(end); w.now = w.now.Add(tick) {
		for len(steps) > 0 && !epoch.Add(steps[0].at).After(w.now) {
			if err := w.do(steps[0]); err != nil {
				return err
			}
			w.event = true
			steps = steps[1:]
		}
		w.engine(&w.c[w.active])
		w.warm(&w.c[1-w.active])
		w.probing(&w.c[1-w.active])
		if w.event || !w.next.IsZero() && !w.now.Before(w.next) {
			if err := w.decide(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) chance(p float64) bool {
	w.random = w.random*6364136223846793005 + 1442695040888963407
	return float64(w.random>>11)/(1<<53) < p
}

// engine is the session on its active carrier during a tick.
func (w *world) engine(c *simCarrier) {
	in := &c.in
	in.RTT, in.PTO = c.rtt, c.rtt+4*time.Millisecond+ackDelay
	for len(c.answers) > 0 && !c.answers[0].After(w.now) {
		c.answers = c.answers[1:]
		in.Alive, in.Timeouts, c.owed = w.now, 0, time.Time{}
		if len(c.answers) > 0 {
			c.owed = w.now
		}
	}
	switch {
	case w.full:
		if n := c.rate / packet * tick.Seconds(); c.owed.IsZero() || w.now.Sub(c.owed) < in.PTO {
			c.due += min(n, 10)
		}
	case w.pingpong:
		if c.owed.IsZero() {
			c.due = 1
		}
	case w.now.Sub(c.owed) < in.PTO || c.owed.IsZero():
		c.due += w.perSecond * tick.Seconds()
	}
	if c == &w.c[reliable.ByteStream] && c.up && !c.in.Gone && !c.owed.IsZero() && len(c.answers) == 0 {
		c.answers = append(c.answers, w.now.Add(c.rtt)) // TCP sends it again
	}
	in.Silence = 0
	if !c.owed.IsZero() {
		in.Silence = w.now.Sub(c.owed)
		if in.Silence >= in.PTO*(1<<min(in.Timeouts+1, 20)-1) {
			in.Timeouts++
			c.due += 2
			w.event = true
		}
	}
	for ; c.due >= 1; c.due-- {
		w.send(c)
	}
	in.Limited, in.Rate = w.full, 0
	if w.full && c.up {
		in.Rate = c.rate
	}
	if c.large && w.full && c.in.Sent > 100 {
		in.LargeLost = true
	}
}

func (w *world) send(c *simCarrier) {
	c.in.Sent++
	if c.errors {
		c.in.SendErrors++
		w.event = true
	}
	if c.owed.IsZero() {
		c.owed = w.now
		w.event = true
	}
	if !c.up || c.in.Gone || c.errors {
		return
	}
	if w.chance(c.loss) {
		if c == &w.c[reliable.Datagrams] {
			c.in.Lost++ // detected at once, which is not far off
		}
		return
	}
	if at := w.now.Add(c.rtt); len(c.answers) == 0 || at.After(c.answers[len(c.answers)-1]) {
		c.answers = append(c.answers, at)
	}
}

// warm is the keep-alive of the standby.
func (w *world) warm(c *simCarrier) {
	if w.now.Before(w.nextWarm) {
		return
	}
	w.nextWarm = w.now.Add(warmth)
	w.probe(c)
}

func (w *world) probe(c *simCarrier) {
	if !c.in.Attached || c.in.Gone || !c.probeSent.IsZero() {
		return
	}
	c.probeSent = w.now
	c.probeLost = w.now.Add(w.cfg.ProbeTimeout)
	rtt, lost := c.rtt, w.chance(1-(1-c.loss)*(1-c.loss))
	if lost && c == &w.c[reliable.ByteStream] {
		rtt, lost = rtt+200*time.Millisecond, false // TCP sends it again
	}
	if c.up && !lost {
		c.probeAt = w.now.Add(rtt)
	}
}

func (w *world) probing(c *simCarrier) {
	switch {
	case c.probeSent.IsZero():
		return
	case !c.up && !c.probeAt.IsZero():
		c.probeAt = time.Time{}
	case !c.probeAt.IsZero() && !w.now.Before(c.probeAt):
		c.in.Alive, c.in.ProbesLost, c.in.ProbeRTT = w.now, 0, c.probeAt.Sub(c.probeSent)
	case !w.now.Before(c.probeLost):
		c.in.ProbesLost++
	default:
		return
	}
	if !w.now.Before(c.probeLost) || c.in.Alive.Equal(w.now) {
		c.probeSent, c.probeAt = time.Time{}, time.Time{}
		w.event = true
	}
}

func (w *world) decide() error {
	w.calls++
	w.event = false
	in := Input{Now: w.now, Active: w.active, Carriers: [2]CarrierInput{w.c[0].in, w.c[1].in}}
	dec := w.d.Decide(in)
	w.next = dec.Next
	if err := w.check(&in, dec); err != nil {
		return fmt.Errorf("at %v: %w", w.now.Sub(epoch), err)
	}
	if dec.Probe {
		w.probe(&w.c[1-w.active])
	}
	if dec.Move {
		w.moved(dec.To, dec.Reason)
	}
	return nil
}

// check looks at what holds for every decision.
func (w *world) check(in *Input, dec Decision) error {
	if !dec.Next.IsZero() && !dec.Next.After(in.Now) {
		return fmt.Errorf("Next is %v ago", in.Now.Sub(dec.Next))
	}
	if !dec.Move {
		return nil
	}
	to, from := in.Carriers[dec.To&1], in.Carriers[in.Active]
	switch {
	case dec.To == in.Active:
		return fmt.Errorf("moves to where it is")
	case !to.Attached || to.Gone:
		return fmt.Errorf("moves to %v, which cannot be used", dec.To)
	case dec.Reason == ReasonNone || dec.Reason >= ReasonForced:
		return fmt.Errorf("moves because of %v", dec.Reason)
	case dec.Reason == ReasonPinned && dec.To != w.d.cfg.Pin, w.d.cfg.Pinned && dec.To != w.d.cfg.Pin:
		return fmt.Errorf("leaves its pin")
	}
	if !from.Gone && dec.Reason != ReasonPinned && !w.lastAuto.IsZero() && in.Now.Sub(w.lastAuto) < w.cfg.SwitchCooldown {
		return fmt.Errorf("moves %v after the last move", in.Now.Sub(w.lastAuto))
	}
	return nil
}

// moved is what the engine does at a move.
func (w *world) moved(to reliable.Carrier, why Reason) {
	if to == w.active {
		return
	}
	w.moves = append(w.moves, simMove{w.now.Sub(epoch), to, why})
	w.d.Moved(w.now, to, why == ReasonForced)
	if why != ReasonForced && why != ReasonPeer {
		w.lastAuto = w.now
	}
	for i := range w.c {
		c := &w.c[i]
		c.answers, c.owed, c.in.Timeouts, c.in.Silence = nil, time.Time{}, 0, 0
		c.due, c.in.LargeLost, c.in.Limited, c.in.Rate = 0, false, false, 0
		c.probeSent, c.probeAt = time.Time{}, time.Time{}
	}
	w.active = to
	w.c[to].due = 2 // PING and ACK
	w.c[1-to].in.ProbesLost = 0
	w.nextWarm = w.now.Add(warmth)
	w.event = true
}
