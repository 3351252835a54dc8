package reliable

import "time"

// An association is starved when it has something to send for which the peer grants no
// credit. If nothing is in flight either, nobody would notice that the peer has gone or
// was started anew: so it asks for a sign of life, at first after the probe timeout, then
// less and less often, whether the peer answers or not. PROTOCOL §7.7.

// starved reports whether streams or messages wait for credit, and nothing else does.
func (a *Assoc) starved() bool {
	if !a.ready.empty() {
		return false
	}
	if a.blockedMessages > 0 {
		return true
	}
	for _, s := range a.streams {
		if !s.reset && s.next < s.out.end {
			return true
		}
	}
	return false
}

// askAt returns when a starved association asks, or 0.
func (a *Assoc) askAt() instant {
	if a.eliciting > 0 || a.pingDue || a.c.Early || !a.starved() {
		return 0
	}
	pto := a.rtt.pto(a.c.Peer.AckDelay)
	return max(a.loss.lastEliciting, a.lastReceived).add(min(pto<<min(a.asked, 16), max(maxPTO, pto)))
}

// ask has a PING sent.
func (a *Assoc) ask() {
	a.asked++
	a.pingDue = true
}

// fed notes that there was credit: the next time is another one.
func (a *Assoc) fed() { a.asked = 0 }

// silence is how long the peer has owed an answer.
func (a *Assoc) silence(t instant) time.Duration {
	if a.eliciting == 0 {
		return 0
	}
	return t.sub(max(a.owedSince, a.lastReceived))
}

// maxPatience is for ever.
const maxPatience = 100 * 365 * 24 * time.Hour

// patience is how long all attempts take together.
func (r *Retry) patience() (d time.Duration) {
	if r.AckTimeout > maxPatience {
		return maxPatience
	}
	delay := min(r.Delay, r.MaxDelay)
	for n := 0; ; n++ {
		d += r.AckTimeout
		switch left := r.MaxRetries - n; {
		case left <= 0:
			return min(d, maxPatience)
		case delay > maxPatience, d > maxPatience, int64(left) > int64(maxPatience/max(1, r.AckTimeout+delay)):
			return maxPatience
		case delay == 0, delay == r.MaxDelay:
			return min(d+time.Duration(left)*(r.AckTimeout+delay), maxPatience)
		}
		d += delay
		delay = min(2*delay, r.MaxDelay)
	}
}
