package reliable

import "time"

// What is lost of that which was sent again costs a second round trip, or a probe timeout:
// in a sparse flow one loss in twenty is that. There, a packet with something in it that
// was lost goes twice, with a pause between. It costs as many packets as are lost. Messages
// that ask for redundancy have their own copies.
const (
	maxRepetitions = 8 // that wait for their time
	repeatShare    = 4 // part of the window that a sparse flow has in flight at most
)

// A repetition waits for its time.
type repetition struct {
	pn  packetNumber
	due instant
}

// pauseBetween is how long a copy waits, so that what has taken the packet before is over.
func pauseBetween(rtt time.Duration) time.Duration {
	return min(max(rtt/10, minSpacing), maxSpacing)
}

// repeatedSent notes that p has something in it that was lost.
func (a *Assoc) repeatedSent(t instant, p *sentPacket) {
	l := &a.loss
	l.work()
	if l.second { // this is the copy
		l.second = !a.ready.empty()
		return
	}
	if a.on == Datagrams && l.ptoCount <= 1 && a.sparse() && len(l.again) < maxRepetitions && a.repeats(p) {
		l.again = append(l.again, repetition{p.pn, t.add(pauseBetween(a.rtt.smoothed))})
	}
}

// sparse reports whether nothing waits to be sent, and little is on its way.
func (a *Assoc) sparse() bool {
	return a.ready.empty() && a.loss.inflight <= a.cc.window()/repeatShare
}

// repeats reports whether p has something that goes twice.
func (a *Assoc) repeats(p *sentPacket) bool {
	for i := range p.items[:p.nitems] {
		if a.repeatable(&p.items[i]) {
			return true
		}
	}
	for i := range p.more {
		if a.repeatable(&p.more[i]) {
			return true
		}
	}
	return false
}

func (a *Assoc) repeatable(it *sentItem) bool {
	return it.kind == itemStream || it.kind == itemMessage && !(it.msg.Redundant && a.red != nil)
}

// repeatAt returns when the next copy is due, or 0.
func (a *Assoc) repeatAt() instant {
	if l := &a.loss; l.lossWork != nil && len(l.again) > 0 {
		return l.again[0].due
	}
	return 0
}

// repeatDue queues the copies that are due and still of use.
func (a *Assoc) repeatDue(t instant) {
	l := &a.loss
	for at := a.repeatAt(); at != 0 && t >= at; at = a.repeatAt() {
		p := l.sent.get(l.again[0].pn)
		l.again = append(l.again[:0], l.again[1:]...)
		if p == nil || p.state != packetSent || p.carrier != a.on || !a.ready.empty() && !l.second || a.loss.inflight > a.cc.window()/repeatShare {
			continue
		}
		for i := range p.items[:p.nitems] {
			a.repeat(t, &p.items[i])
		}
		for i := range p.more {
			a.repeat(t, &p.more[i])
		}
		l.second = !a.ready.empty()
	}
}

func (a *Assoc) repeat(t instant, it *sentItem) {
	if a.repeatable(it) {
		a.itemLost(t, it)
	}
}
