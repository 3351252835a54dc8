package reliable

import "time"

// Redundancy: what of a message that asks for it is sent without knowing whether it is
// needed, so that a loss costs no round trip. A message that fits a packet has copies in
// later packets, FRAGMENTs as after a loss; a larger one has parity (parity.go). All of it
// is given up rather than that it waits: for the window, or for its share of it.
const (
	maxCopies     = 3
	lateCopies    = maxCopies // index of those sent because there is no answer
	againCopies   = lateCopies + 1
	copyFailure   = 1e-3 // share of messages of which all copies may be lost, as far as the budget allows
	regularShare  = 0.9  // of the budget, for copies sent before there could be an answer
	maxLate       = 16   // copies sent after that
	burstyFrom    = 2.0  // mean length of bursts of losses from which they count as such
	minLossSample = 100  // packets, below which the share of losses is taken for that of so many
	lossMemory    = 1024 // packets, after which what was counted counts half

	minSpacing = time.Millisecond // between copies
	maxSpacing = 3 * time.Millisecond
	copySlack  = time.Millisecond // a copy goes so much earlier if a packet goes anyway

	// Shares of the window in a round trip that redundancy takes at most: where losses
	// are known and where not. While something else waits, it is one of what is sent.
	knownShare   = 4
	unknownShare = 16
	busyShare    = 64

	maxEarned = 1 << 20 // of the budget that is kept for later
	copyCost  = 48      // what a packet costs the path beside its content, about
)

// A redundancy is what an association needs for messages that ask for it. There is
// none before the first one.
type redundancy struct {
	// What was lost of the packets so far, the older ones counting less.
	settled, lost, bursts float64
	lastLost              packetNumber
	lastSent              instant
	interval              time.Duration // between packets, smoothed

	most   int     // copies that the budget allows for each message
	earned float64 // bytes that Config.Redundancy allows
	share  float64 // bytes that the path's share allows
	since  instant // when share was reckoned
	busy   float64 // bytes that may go in front of what waits

	copies [againCopies + 1]dueQueue // first copies, second ones, ...
	parity []dueParity
	held   bool // by the window: nothing is due
	queued int  // messages in Assoc.ready that ask for it
}

// A dueCopy is a copy that waits for its time.
type dueCopy struct {
	msg *Outgoing
	due instant
}

// A dueQueue has the next copy first.
type dueQueue struct {
	q    []dueCopy
	head int
}

func (d *dueQueue) push(x dueCopy) { d.q = append(d.q, x) }

func (d *dueQueue) front() *dueCopy {
	if d.head == len(d.q) {
		return nil
	}
	return &d.q[d.head]
}

func (d *dueQueue) pop() {
	d.q[d.head] = dueCopy{}
	d.head++
	switch {
	case d.head == len(d.q):
		d.q, d.head = d.q[:0], 0
	case d.head > 32 && 2*d.head > len(d.q):
		n := copy(d.q, d.q[d.head:])
		clear(d.q[n:])
		d.q, d.head = d.q[:n], 0
	}
}

// askRedundancy notes a message that asks for redundancy.
func (a *Assoc) askRedundancy(t instant) {
	if a.red == nil && a.c.Redundancy > 0 {
		a.red = &redundancy{lastLost: -10, share: 2 * BaseMTU, since: t, most: int(min(max(a.c.Redundancy*regularShare, 1), maxCopies))}
		if s := &a.stats; s.PacketsLost > s.PacketsLate {
			n, lost := float64(s.PacketsSent), float64(s.PacketsLost-s.PacketsLate)
			scale := min(1, lossMemory/2/n)
			a.red.settled, a.red.lost, a.red.bursts = n*scale, lost*scale, lost*scale
		}
	}
}

// packetSettled counts a packet that was acknowledged or lost.
func (r *redundancy) packetSettled(pn packetNumber, lost bool) {
	if r == nil {
		return
	}
	r.settled++
	if lost {
		r.lost++
		if pn > r.lastLost+2 { // one between may have been an ACK, or a number left out
			r.bursts++
		}
		r.lastLost = pn
	}
	if r.settled > lossMemory {
		r.settled /= 2
		r.lost /= 2
		r.bursts /= 2
	}
}

// packetLate takes a loss back: the packet has come after all.
func (r *redundancy) packetLate() {
	if r != nil {
		r.lost = max(0, r.lost-1)
		r.bursts = max(0, r.bursts-1)
	}
}

// packetSent notes when packets go.
func (r *redundancy) packetSent(t instant, size int) {
	if r == nil {
		return
	}
	if r.lastSent != 0 {
		r.interval += (min(t.sub(r.lastSent), time.Second) - r.interval) / 8
	}
	r.lastSent = t
	r.busy = min(r.busy+float64(size)/busyShare, 4*BaseMTU)
}

// lossRate returns the share of packets that is lost, 0 if none was.
func (r *redundancy) lossRate() float64 {
	if r.lost < 0.5 { // of what was long ago
		return 0
	}
	return min(r.lost/max(r.settled, minLossSample), 1)
}

// burst returns how many packets are lost in a row, on average.
func (r *redundancy) burst() float64 {
	if r.bursts < 0.5 {
		return 1
	}
	return max(1, r.lost/r.bursts)
}

// wanted returns how many copies a message should have.
func (r *redundancy) wanted() int {
	p := r.lossRate()
	n := 1
	for all := p * p; all > copyFailure && n < maxCopies; n++ {
		all *= p
	}
	if r.burst() >= burstyFrom {
		n++
	}
	return min(n, r.most)
}

// spacing returns how long after a message its copy i goes, from 0: late enough that
// what has taken the one before is over, early enough to be of use. Where losses come in
// bursts, the last copy waits for the end of a long one, unless it came no earlier then
// than what is sent again.
func (r *redundancy) spacing(i int, rtt time.Duration) time.Duration {
	d := time.Duration(i+1) * pauseBetween(rtt)
	if b := r.burst(); b >= burstyFrom && i > 0 && i == r.wanted()-1 {
		d = max(d, min(time.Duration(2*b*float64(r.interval)), rtt*3/4))
	}
	return d
}

// refill earns the path's share since it was reckoned last.
func (a *Assoc) refillShare(t instant) {
	r := a.red
	part := float64(a.cc.window()) / unknownShare
	if r.lossRate() > 0 {
		part = float64(a.cc.window()) / knownShare
	}
	r.share += part * t.sub(r.since).Seconds() / max(a.rtt.smoothed, time.Millisecond).Seconds()
	r.share = min(r.share, max(part, 2*BaseMTU))
	r.since = t
}

// othersWait reports whether something waits to be sent that has not asked for
// redundancy.
func (a *Assoc) othersWait() bool { return a.ready.len() > a.red.queued }

// affords reports whether n redundant bytes may go now.
func (a *Assoc) affords(t instant, n int) bool {
	r := a.red
	if float64(n) > r.earned {
		return false
	}
	if a.othersWait() {
		return float64(n+copyCost) <= r.busy
	}
	a.refillShare(t)
	return float64(n+copyCost) <= r.share
}

// spend takes n redundant bytes from what may be sent.
func (a *Assoc) spend(n int) {
	r := a.red
	r.earned -= float64(n)
	r.share -= float64(n + copyCost)
	if a.othersWait() {
		r.busy -= float64(n + copyCost)
	}
	a.stats.RedundantSent += uint64(n)
}

// redundantSent notes that n bytes of m were sent, again or for the first time. When all
// of it has been, its redundancy follows.
func (a *Assoc) redundantSent(t instant, m *Outgoing, n int, again bool) {
	r := a.red
	if r == nil {
		return
	}
	if again {
		m.missed = false // it was not spared that
	} else {
		r.earned = min(r.earned+float64(n)*a.c.Redundancy, maxEarned)
		if m.parity != nil {
			a.parityFor(t, m)
		}
	}
	if a.on == Datagrams && m.nth > 0 && len(m.lost) == 0 {
		r.copies[0].push(dueCopy{m, t.add(r.spacing(0, a.rtt.smoothed))})
	}
}

// fitsPacket reports whether one packet has room for all of m.
func (a *Assoc) fitsPacket(m *Outgoing) bool {
	return wholeLen(m) <= a.maxPayload()
}

// wholeLen is the length of the FRAGMENT with all of m.
func wholeLen(m *Outgoing) int {
	n := int(min(m.total(), MaxMTU))
	return fragmentHead(m.id, uint64(m.total()), 0) + 2 + n
}

// redundancyAt returns when the next copy is due, or 0.
func (a *Assoc) redundancyAt() instant {
	if a.red == nil || a.on != Datagrams || a.moves != nil && !a.moves.attached[Datagrams] {
		return 0
	}
	if a.red.held {
		return 0 // until there is an acknowledgement
	}
	var at instant
	if len(a.red.parity) > 0 {
		at = a.red.parity[0].due
	}
	for i := range a.red.copies {
		if c := a.red.copies[i].front(); c != nil && (at == 0 || c.due < at) {
			at = c.due
		}
	}
	if at != 0 {
		at = max(at, a.nextSend)
	}
	return at
}

// redundancyDue reports whether something should go now, in a packet of its own if there
// is no other. What cannot, or need not, is given up.
func (a *Assoc) redundancyDue(t instant) bool {
	if a.red == nil {
		return false
	}
	a.red.held = false
	due := a.nextParity(t, t) != nil
	for i := range a.red.copies {
		due = a.nextCopy(t, t, i) != nil || due
	}
	return due
}

// giveUpDue drops what is due: there was no packet for it.
func (a *Assoc) giveUpDue(t instant) {
	if a.red == nil {
		return
	}
	for a.nextParity(t, t) != nil {
		a.red.popParity()
	}
	for i := range a.red.copies {
		for a.nextCopy(t, t, i) != nil {
			a.red.copies[i].pop()
		}
	}
}

// patienceOfCopies is how late redundancy is of use.
func (a *Assoc) patienceOfCopies() time.Duration {
	return max(a.rtt.smoothed/2, 2*maxSpacing)
}

// nextCopy returns the first copy i that is due by the given time and of use, and that
// there is a budget for. Others it drops.
func (a *Assoc) nextCopy(t, by instant, i int) *Outgoing {
	q := &a.red.copies[i]
	for {
		c := q.front()
		if c == nil || c.due > by {
			return nil
		}
		m := c.msg
		if !m.done && m.started && t.sub(c.due) <= a.patienceOfCopies() && len(m.lost) == 0 && m.next == m.total() && a.on == Datagrams &&
			a.fitsPacket(m) && a.affords(t, int(m.total())) {
			return m
		}
		q.pop()
	}
}

// appendRedundancy appends what is due, or soon will be, as much as fits.
func (a *Assoc) appendRedundancy(b []byte, t instant, end int, p *sentPacket) []byte {
	if a.red == nil {
		return b
	}
	b = a.appendParity(b, t, end, p)
	for i := range a.red.copies {
		for {
			m := a.nextCopy(t, t.add(copySlack), i)
			if m == nil || wholeLen(m) > end-len(b) {
				break
			}
			a.red.copies[i].pop()
			total := m.total()
			b = appendFragmentHead(b, m.id, uint64(total), 0, int(total), false)
			b = m.appendBody(b, 0, total)
			m.sentWhole(p)
			p.eliciting = true
			a.spend(int(total))
			a.followUp(t, m, i)
		}
	}
	return b
}

// followUp has the copy after copy i sent in its time.
func (a *Assoc) followUp(t instant, m *Outgoing, i int) {
	r := a.red
	switch {
	case i < lateCopies && i+1 < r.wanted():
		d := r.spacing(i+1, a.rtt.smoothed) - r.spacing(i, a.rtt.smoothed)
		r.copies[i+1].push(dueCopy{m, t.add(max(d, minSpacing))})
	case i < lateCopies:
		d := a.rtt.pto(a.c.Peer.AckDelay) - r.spacing(i, a.rtt.smoothed)
		m.late = 0
		r.copies[lateCopies].push(dueCopy{m, t.add(max(d, minSpacing))})
	case m.late < maxLate:
		m.late++
		r.copies[againCopies].push(dueCopy{m, t.add(max(a.rtt.smoothed/8, maxSpacing))})
	}
}

// sentWhole notes that all of m is in p.
func (m *Outgoing) sentWhole(p *sentPacket) {
	if m.nth++; m.nth == 0 {
		m.nth = 1
	}
	p.add(sentItem{kind: itemMessage, nth: m.nth, msg: m, end: m.total()})
}

// spared reports whether m need not be sent again although a packet with all of it was
// lost: it has arrived, or a later one is on its way, or was lost too and is noticed
// itself.
func (a *Assoc) spared(m *Outgoing, it *sentItem) bool {
	if it.nth == 0 || it.nth == m.nth {
		return false
	}
	switch {
	case it.nth > 1: // only a copy
	case !m.done:
		m.missed = true
	case m.err == nil:
		a.stats.RedundantRepaired++
	}
	return true
}

// copyArrived counts a loss that a copy has made good.
func (a *Assoc) copyArrived(m *Outgoing) {
	if m.missed {
		m.missed = false
		a.stats.RedundantRepaired++
	}
}

// startOver forgets the copies that wait, and what is in Assoc.ready.
func (r *redundancy) startOver() {
	if r != nil {
		r.release()
		r.queued = 0
	}
}

// release gives memory back.
func (r *redundancy) release() {
	if r != nil {
		r.copies, r.parity = [againCopies + 1]dueQueue{}, nil
	}
}

// count notes that m has come into Assoc.ready, or has left it.
func (r *redundancy) count(m *Outgoing, n int) {
	if r != nil && m.Redundant {
		r.queued += n
	}
}
