package reliable

import (
	"time"
)

// Loss detection by packet and time threshold, RFC 9002 §6, both of which grow when
// packets turn out to have been only late.
const (
	packetThreshold    = 3       // §6.1.1
	maxPacketThreshold = 1 << 10 // after much reordering
	reorderDivisor     = 8       // time threshold: RTT + RTT/8, §6.1.2
	maxReorderEighths  = 16      // up to RTT + 2 RTT
	reorderMemory      = 16      // round trips without reordering until both shrink again
	lateMemory         = 64      // lost packets of which a late arrival is noticed
	probesPerPTO       = 2       // §6.2.4
	persistentPTOs     = 3       // §7.6.1
)

// lossState is what the sender knows of packets on their way.
type lossState struct {
	sent     sentPackets
	inflight int // bytes that count for congestion control

	largestAcked  packetNumber // -1 before the first
	lastEliciting instant      // when the last packet was sent that wants an answer
	lossTime      instant      // when the time threshold declares the next loss
	ptoCount      int
	probes        int // packets that may go out in spite of window and pacer

	threshold  packetNumber // of packets
	eighths    int          // of the RTT, for the time threshold
	reorderedA instant      // when reordering was seen last

	*lossWork // nil at rest
}

// lossWork is what only a sender needs of which something is on its way.
type lossWork struct {
	late     []sentPacket // lost ones, up to lateMemory, in a ring
	lateNext int

	acked, lost []ackedPacket // reused from ACK to ACK
	sample      ackSample     // too
	ranges      []pnRange

	again  []repetition // in the order of their times
	second bool         // of them, a copy is in Assoc.ready
}

// work makes sure that there is a lossWork.
func (l *lossState) work() {
	if l.lossWork == nil {
		l.lossWork = new(lossWork)
	}
}

// forgetLate forgets the lost packets.
func (l *lossState) forgetLate() {
	if l.lossWork != nil {
		l.late, l.lateNext = nil, 0
		l.again, l.second = nil, false
	}
}

func (l *lossState) init() {
	l.sent.init()
	l.largestAcked = -1
	l.threshold = packetThreshold
	l.eighths = 1
}

// timeThreshold is how long after a later packet's arrival one counts as lost.
func (l *lossState) timeThreshold(r *rttState) time.Duration {
	d := max(r.smoothed, r.latest)
	return max(d+d*time.Duration(l.eighths)/reorderDivisor, timerGranularity)
}

// ackReceived works through an ACK. It returns an error if the ACK is a lie.
func (a *Assoc) ackReceived(t instant, c *chunk) error {
	l := &a.loss
	if packetNumber(c.largest) >= l.sent.next {
		return protocolError("ACK for a packet that was never sent") // R4
	}
	l.work()
	l.ranges = c.ackRanges(l.ranges[:0])
	delay := min(time.Duration(min(c.value, uint64(maxAckDelay/time.Microsecond)))*time.Microsecond, a.c.Peer.AckDelay)
	s := l.begin(t)
	largest := packetNumber(c.largest)
	var newest *sentPacket
	elicited := false
	// Both lists rise: those in flight, and the ranges from the last one on.
	i := len(l.ranges) - 1
	prev := packetNumber(-1)
	for pn := l.sent.head; pn >= 0 && pn <= largest; {
		p := l.sent.at(pn)
		next := p.next
		for i >= 0 && l.ranges[i].end <= pn {
			i--
		}
		if i < 0 || pn < l.ranges[i].start {
			prev, pn = pn, next
			continue
		}
		l.sent.unlink(prev, p)
		a.settle(t, p, s)
		elicited = elicited || p.eliciting
		newest = p
		pn = next
	}
	if a.skippedAcked() {
		return protocolError("ACK for a packet number that was left out")
	}
	a.checkLate(t)
	if a.moves != nil && len(a.moves.moved) > 0 {
		a.movedAcked(t)
	}
	if newest == nil {
		return nil
	}
	if a.c.Protection != nil && newest.carrier == Datagrams {
		a.c.Protection.Acked(uint64(newest.pn))
	}
	if newest.pn == largest && elicited && newest.carrier == a.via {
		a.rtt.sample(t.sub(newest.sent), delay)
		s.rtt = a.rtt.latest
	}
	if a.moves != nil { // others may have overtaken it on the other carrier
		largest = newest.pn
	}
	l.largestAcked = max(l.largestAcked, largest)
	if a.on == Datagrams {
		a.detectLost(t, s)
	} else {
		a.overtaken(t, newest.pn, s)
	}
	if a.moves != nil {
		a.moves.progress = t
	}
	l.ptoCount = 0
	l.probes = 0
	if t.sub(l.reorderedA) > reorderMemory*a.rtt.smoothed && (l.threshold > packetThreshold || l.eighths > 1) {
		l.threshold = max(packetThreshold, l.threshold/2)
		l.eighths = max(1, l.eighths/2)
		l.reorderedA = t
	}
	a.finish(t, s)
	a.cc.acked(s)
	a.paceAnew()
	l.sent.trim()
	return nil
}

// paceAnew tells the pacer what the controller thinks now.
func (a *Assoc) paceAnew() {
	a.pacer.setRate(a.cc.pacingRate())
	a.pacer.setBurst(a.mtu.current, a.cc.window())
}

// begin returns an empty sample.
func (l *lossState) begin(t instant) *ackSample {
	l.work()
	l.acked, l.lost = l.acked[:0], l.lost[:0]
	l.sample = ackSample{now: t, prior: l.inflight}
	return &l.sample
}

// finish completes a sample.
func (a *Assoc) finish(t instant, s *ackSample) {
	l := &a.loss
	s.acked, s.lost = l.acked, l.lost
	s.inflight = l.inflight
	s.srtt, s.minRTT = a.rtt.smoothed, a.rtt.min
}

// settle takes a packet that was acknowledged out of the books.
func (a *Assoc) settle(t instant, p *sentPacket, s *ackSample) {
	l := &a.loss
	if p.eliciting {
		l.inflight -= int(p.size)
		l.acked = append(l.acked, ackedPacket{p.ratePacket, int(p.size)})
		s.ackedLen += int(p.size)
		a.mtu.acked(t, int(p.size))
		a.red.packetSettled(p.pn, false)
		a.eliciting--
		if a.moves != nil {
			a.moves.acked(a, t, p.carrier, int(p.size))
		}
	}
	a.itemsAcked(t, p)
}

// itemsAcked tells those who sent it that the content of p has arrived.
func (a *Assoc) itemsAcked(t instant, p *sentPacket) {
	for i := range p.items[:p.nitems] {
		a.itemAcked(t, p, &p.items[i])
	}
	for i := range p.more {
		a.itemAcked(t, p, &p.more[i])
	}
}

// skippedAcked reports whether the ranges in hand hold a number that was left out.
func (a *Assoc) skippedAcked() bool {
	l := &a.loss
	pn := a.skipped
	p := l.sent.get(pn)
	if p == nil || p.state != packetSkipped {
		return false
	}
	for _, r := range l.ranges {
		if r.start <= pn && pn < r.end {
			return true
		}
	}
	return false
}

// detectLost declares packets lost. RFC 9002 §6.1.
func (a *Assoc) detectLost(t instant, s *ackSample) {
	l := &a.loss
	l.lossTime = 0
	wait := l.timeThreshold(&a.rtt)
	prev := packetNumber(-1)
	for pn := l.sent.head; pn >= 0 && pn < l.largestAcked; {
		p := l.sent.at(pn)
		next := p.next
		due := p.sent.add(wait)
		if t < due && l.largestAcked < pn+l.threshold {
			if l.lossTime == 0 || due < l.lossTime {
				l.lossTime = due
			}
			prev, pn = pn, next
			continue
		}
		l.sent.unlink(prev, p)
		a.packetLost(t, p, s)
		pn = next
	}
}

// packetLost takes a lost packet out of the books and has its content sent again.
func (a *Assoc) packetLost(t instant, p *sentPacket, s *ackSample) {
	l := &a.loss
	if p.eliciting {
		l.inflight -= int(p.size)
		l.lost = append(l.lost, ackedPacket{p.ratePacket, int(p.size)})
		s.lostLen += int(p.size)
		a.stats.PacketsLost++
		a.mtu.lost(a, t, int(p.size))
		a.red.packetSettled(p.pn, true)
		a.eliciting--
		if a.moves != nil {
			a.moves.uses[p.carrier].lost++
		}
	}
	a.requeue(t, p)
	if len(l.late) < lateMemory {
		l.late = append(l.late, sentPacket{})
		l.lateNext = len(l.late) - 1
	}
	late := &l.late[l.lateNext]
	more := append(late.more[:0], p.more...)
	*late = *p
	late.more = more
	l.lateNext = (l.lateNext + 1) % lateMemory
}

// forgetOld bounds the records of packets that are never settled, as they hold
// nothing but an ACK: one that is in flight since long before them counts as lost,
// although the peer acknowledges nothing.
func (a *Assoc) forgetOld(t instant) {
	l := &a.loss
	if head := l.sent.head; head >= 0 && l.sent.next-head > maxAckRecords+8*packetNumber(a.eliciting) {
		s := l.begin(t)
		p := l.sent.at(head)
		l.sent.unlink(-1, p)
		a.packetLost(t, p, s)
		if s.lostLen > 0 {
			a.finish(t, s)
			a.cc.lost(s)
		}
	}
	l.sent.trim()
}

// requeue has the content of p sent again.
func (a *Assoc) requeue(t instant, p *sentPacket) {
	for i := range p.items[:p.nitems] {
		a.itemLost(t, &p.items[i])
	}
	for i := range p.more {
		a.itemLost(t, &p.more[i])
	}
}

// checkLate finds packets among the ranges in hand that were declared lost and were
// only late: the thresholds were too small for this path.
func (a *Assoc) checkLate(t instant) {
	l := &a.loss
	top := l.ranges[0].end
	for i := range l.late {
		p := &l.late[i]
		if p.size == 0 || p.pn >= top || p.pn < l.ranges[len(l.ranges)-1].start {
			continue
		}
		for _, r := range l.ranges {
			if p.pn >= r.end {
				break
			}
			if p.pn < r.start {
				continue
			}
			a.stats.PacketsLate++
			a.red.packetLate()
			l.reorderedA = t
			l.threshold = min(max(l.threshold, l.largestAcked-p.pn+1), maxPacketThreshold)
			l.eighths = min(l.eighths+1, maxReorderEighths)
			a.itemsAcked(t, p)
			if p.eliciting {
				a.cc.spurious(t, int(p.size))
			}
			*p = sentPacket{more: p.more[:0]}
			break
		}
	}
}

// lossTimeout returns when lossDue has something to do, or 0.
func (a *Assoc) lossTimeout() instant {
	l := &a.loss
	if l.lossTime != 0 {
		return l.lossTime
	}
	if l.sent.head < 0 || l.lastEliciting == 0 || a.eliciting == 0 || a.c.Early { // RFC 9002 §6.2.1
		return 0
	}
	from := l.lastEliciting
	if a.on == ByteStream { // what is acknowledged says that the rest is on its way
		from = max(from, a.moves.progress)
	}
	return from.add(a.ptoPeriod())
}

// ptoPeriod is the probe timeout with its backoff.
func (a *Assoc) ptoPeriod() time.Duration {
	pto := a.rtt.pto(a.c.Peer.AckDelay)
	d := pto << min(a.loss.ptoCount, 16)
	return min(d, max(maxPTO, pto))
}

// lossDue runs when lossTimeout has come.
func (a *Assoc) lossDue(t instant) {
	l := &a.loss
	if l.lossTime != 0 {
		s := l.begin(t)
		a.detectLost(t, s)
		if s.lostLen > 0 {
			a.finish(t, s)
			a.cc.lost(s)
		}
		l.sent.trim()
		return
	}
	l.ptoCount++
	a.unheard++
	a.stats.ProbeTimeouts++
	a.pingDue = true    // what the probe is without content of its own
	l.lastEliciting = t // the period begins anew even if nothing can be sent
	if a.on == ByteStream {
		l.probes = 1
		return // it repeats by itself
	}
	l.probes = probesPerPTO
	a.mtu.timeout(a, t)
	// What was sent first and what was sent last goes out again: the first holds up
	// the peer's application, the last is what is lost at a tail (R7).
	if p := l.sent.get(l.sent.head); p != nil {
		a.requeue(t, p)
	}
	if p := l.sent.get(l.sent.tail); p != nil && l.sent.tail != l.sent.head {
		a.requeue(t, p)
	}
	if l.ptoCount == persistentPTOs {
		a.cc.persistentCongestion(t)
	}
}
