package reliable

import "time"

// minChunkRoom is the room below which a packet counts as full: a chunk without a
// length may end up to three bytes before the end of its packet.
const minChunkRoom = 16

// AppendDatagram appends one datagram to b if there is something to send and
// congestion control and pacing allow it. Otherwise it returns b as it is: then the
// next one is due after Receive, Advance at Timeout, or a call that sends.
func (a *Assoc) AppendDatagram(now time.Time, b []byte) []byte {
	t := a.tick(now)
	if a.moves != nil {
		return a.appendMoving(t, b, Datagrams)
	}
	if a.life != stateDone && !a.checkKeys(t) {
		return b
	}
	if a.life != stateOpen {
		return a.appendClosePacket(t, b)
	}
	if a.shutting {
		a.checkShutdown(t)
		if a.life != stateOpen {
			return a.appendClosePacket(t, b)
		}
	}
	return a.appendPacket(t, b)
}

// appendPacket appends a packet for the active carrier.
func (a *Assoc) appendPacket(t instant, b []byte) []byte {
	a.nextSend = 0
	copies := a.redundancyDue(t)
	waiting := a.controlDue() || !a.ready.empty() || copies
	data := waiting && a.mayBeSent(t)
	if copies && !data && a.nextSend == 0 {
		a.red.held = true
	}
	if !data && len(a.pathResponses) > 0 {
		return a.appendPathResponses(t, b)
	}
	if !data && !a.acks.due(t) {
		if !waiting && a.loss.inflight < a.cc.window() {
			a.cc.appLimited(a.loss.inflight)
		}
		return b
	}
	if data {
		if size := a.mtu.want(t); size > 0 && a.loss.probes == 0 && !a.c.Early {
			return a.appendProbe(t, b, size)
		}
	}
	a.maybeSkip()
	p := a.loss.sent.push()
	start := len(b)
	b = a.appendHeader(b, p.pn)
	head := len(b)
	a.pool.packetBegins(head)
	size := a.mtu.current
	if a.loss.probes > 0 { // what the path has become too narrow for would be lost again
		size = min(size, BaseMTU)
		if a.moves != nil && a.on == Datagrams && a.loss.probes == 1 {
			size = min(size, smallDatagram) // do any pass?
		}
	}
	end := start + size - a.trailer
	ackOnly := !data
	b = a.appendAcks(b, t, end, ackOnly, p)
	repeated := a.stats.BytesRetransmitted
	if data {
		b = a.appendControl(b, end, p)
		if a.control.pending() {
			b = a.appendControlStream(b, end, p)
		}
		n := len(b)
		b = a.appendRedundancy(b, t, end, p)
		b = a.appendData(b, t, end, p)
		if len(b) == n && p.eliciting && a.on == Datagrams {
			b = a.pad(b, start)
		}
	}
	if len(b) == head {
		a.loss.sent.unpush()
		a.giveUpDue(t) // for which there was no room
		return b[:start]
	}
	if b = a.seal(b, start, p.pn); len(b) == start { // there are no keys
		a.giveUpDue(t)
		a.requeue(t, p)
		a.loss.sent.unpush()
		return b
	}
	a.packetSent(t, p, len(b)-start+a.ext())
	if a.stats.BytesRetransmitted != repeated {
		a.stats.PacketsRetransmitted++
		a.repeatedSent(t, p)
	}
	if p.nitems > 1 || p.nitems == 1 && p.items[0].kind != itemAck {
		a.rested = false
	}
	a.restOn()
	return b
}

// minPingPacket is the size of packets that ask for an answer, at least: larger than
// the ERR of a peer that does not know the association any more, which answers larger
// packets only. PROTOCOL §7.4, §8.10.
const (
	minPingPacket = 31
	minSealedPing = 50
)

// pad fills the packet that begins at b[start:] up, behind chunks that have an end.
func (a *Assoc) pad(b []byte, start int) []byte {
	size := minPingPacket
	if a.c.Protection != nil {
		size = minSealedPing
	}
	for len(b)-start+a.trailer < size {
		b = append(b, byte(chunkPadding))
	}
	return b
}

// mayBeSent reports whether window and pacer let a packet out. If only the pacer
// does not, nextSend says when it will.
func (a *Assoc) mayBeSent(t instant) bool {
	l := &a.loss
	if l.probes > 0 {
		return true
	}
	if l.inflight >= a.cc.window() || l.sent.next-l.sent.base >= maxTrackedPackets {
		return false
	}
	a.nextSend = a.pacer.next(t, a.mtu.current)
	if a.nextSend <= t {
		a.nextSend = 0
	}
	return a.nextSend == 0
}

// maybeSkip leaves a packet number out now and then: who acknowledges it,
// acknowledges what was not received (trap R4).
func (a *Assoc) maybeSkip() {
	s := &a.loss.sent
	if s.next < a.nextSkip {
		return
	}
	p := s.push()
	p.state = packetSkipped
	a.skipped = p.pn
	a.nextSkip = s.next + 500 + packetNumber(a.rand()%2000)
}

// packetSent puts a packet into the books.
func (a *Assoc) packetSent(t instant, p *sentPacket, size int) {
	p.size = int32(size)
	p.sent = t
	p.carrier = a.on
	a.stats.PacketsSent++
	a.stats.BytesSent += uint64(size)
	l := &a.loss
	if !p.eliciting { // nobody will tell what becomes of it
		a.forgetOld(t)
		return
	}
	if a.eliciting == 0 {
		a.idleFrom = max(a.idleFrom, min(t, a.lastReceived.add(a.c.IdleTimeout/2)))
		a.owedSince = t
	}
	if a.moves != nil {
		a.moves.sent(t, a.on, a.eliciting == 0)
	}
	a.eliciting++
	a.red.packetSent(t, size)
	a.cc.packetSent(t, &p.ratePacket, size, l.inflight)
	l.inflight += size
	l.lastEliciting = t
	l.sent.link(p)
	a.paceAnew()
	a.pacer.packetSent(t, size)
	if l.probes > 0 {
		l.probes--
	}
	if size >= a.mtu.current-minChunkRoom {
		a.mtu.full++
	}
}

// appendAcks appends an ACK if the peer waits for one.
func (a *Assoc) appendAcks(b []byte, t instant, end int, ackOnly bool, p *sentPacket) []byte {
	if a.acks.waiting == 0 && !a.acks.due(t) {
		return b
	}
	room := end - len(b)
	if !ackOnly {
		room /= 2
	}
	b, known := a.acks.append(b, t, room)
	if m := a.moves; m != nil { // what is behind, on the carrier that the peer uses, still comes
		known = min(known, m.uses[m.to].next)
		if u := &m.uses[ByteStream]; m.attached[ByteStream] && t.sub(u.received) < behindMemory {
			known = min(known, u.next) // and what it has left there
		}
	}
	if known > 0 {
		p.add(sentItem{kind: itemAck, end: int64(known)})
	}
	// A side that only receives never learns which of its ACKs have arrived, unless it
	// asks for it now and then (RFC 9000 §13.2.4), and may not change its keys before it
	// has learnt of one.
	ask := len(a.acks.received) >= pruneRanges || a.sealed() && p.pn-a.loss.largestAcked > maxUnasked
	if ackOnly && ask && t.sub(a.lastAckPing) > a.rtt.smoothed && len(b) < end {
		a.lastAckPing = t
		b = append(b, byte(chunkPing))
		p.eliciting = true
	}
	return b
}

// controlDue reports whether a control chunk is waiting.
func (a *Assoc) controlDue() bool {
	return a.pingDue || a.moves != nil && a.moves.due || a.maxDataDue || a.maxMessagesDue || a.maxStreamsDue || a.dataBlockedDue ||
		a.control.pending() || len(a.attention) > 0 || len(a.cancels) > 0 || len(a.pathResponses) > 0
}

// maxControlLen bounds the length of one control chunk.
const maxControlLen = 1 + 4*8

// appendControl appends the control chunks that are due, as many as fit.
func (a *Assoc) appendControl(b []byte, end int, p *sentPacket) []byte {
	put := func(t chunkType, it sentItem, vs ...uint64) {
		b = appendValues(b, t, vs...)
		p.eliciting = true
		if it.kind != 0 {
			p.add(it)
		}
	}
	fits := func() bool { return end-len(b) >= maxControlLen }
	if m := a.moves; m != nil && m.due && fits() {
		m.due = false
		put(chunkMove, sentItem{kind: itemMove, end: int64(m.seq)}, m.seq, uint64(m.to))
	}
	if a.pingDue && fits() {
		if a.pingAsked {
			put(chunkPing, sentItem{kind: itemPing})
		} else {
			put(chunkPing, sentItem{})
		}
		a.pingDue, a.pingAsked = false, false
	}
	if a.maxDataDue && fits() {
		a.maxDataDue = false
		put(chunkMaxData, sentItem{kind: itemMaxData}, uint64(a.granted))
	}
	if a.maxMessagesDue && fits() {
		a.maxMessagesDue = false
		put(chunkMaxMessages, sentItem{kind: itemMaxMsgs}, uint64(a.msgGranted))
	}
	if a.maxStreamsDue && fits() {
		a.maxStreamsDue = false
		put(chunkMaxStreams, sentItem{kind: itemMaxStreams}, a.maxPeerStreams)
	}
	if a.dataBlockedDue && fits() {
		a.dataBlockedDue = false
		put(chunkDataBlocked, sentItem{kind: itemDataBlocked}, uint64(a.blockedAt))
	}
	n := 0
	for ; n < len(a.attention) && end-len(b) >= 4*maxControlLen; n++ {
		s := a.attention[n]
		s.attn = false
		if s.grantDue {
			s.grantDue = false
			put(chunkMaxStreamData, sentItem{kind: itemMaxStream, stream: s}, uint64(s.id), uint64(s.granted))
		}
		if s.blockedDue {
			s.blockedDue = false
			put(chunkStreamBlocked, sentItem{kind: itemBlocked, stream: s}, uint64(s.id), uint64(s.blockedAt))
		}
		if s.resetDue {
			s.resetDue = false
			put(chunkResetStream, sentItem{kind: itemReset, stream: s}, uint64(s.id), s.resetCode, uint64(s.next))
		}
		if s.stopDue {
			s.stopDue = false
			put(chunkStopSending, sentItem{kind: itemStop, stream: s}, uint64(s.id), 0)
		}
	}
	a.attention = append(a.attention[:0], a.attention[n:]...)
	n = 0
	for ; n < len(a.cancels) && fits(); n++ {
		c := a.cancels[n]
		c.queued = false
		b = appendCancel(b, c.id, c.total, c.ordered, c.channel, c.sequence)
		p.eliciting = true
		p.add(sentItem{kind: itemCancel, cancel: c})
	}
	a.cancels = append(a.cancels[:0], a.cancels[n:]...)
	n = 0
	for ; n < len(a.pathResponses) && fits(); n++ {
		b = append(append(b, byte(chunkPathResponse)), a.pathResponses[n][:]...)
		p.eliciting = true
	}
	a.pathResponses = append(a.pathResponses[:0], a.pathResponses[n:]...)
	return b
}

// appendData fills the packet with what streams and messages have to send, a chunk
// of each in turn.
func (a *Assoc) appendData(b []byte, t instant, end int, p *sentPacket) []byte {
	for {
		room := end - len(b) - a.pool.behind() - a.ext()
		x, l := a.ready.front()
		if l == nil || room < minChunkRoom {
			break
		}
		var ok, blocked, more bool
		if x.stream != nil {
			b, ok = a.appendStream(b, room, x.stream, p)
			if more = a.canSend(x.stream); !more {
				x.stream.queued = false
			}
		} else {
			b, ok, blocked = a.appendMessage(b, t, room, x.msg, p)
			if more = !blocked && x.msg.canSend(); !more {
				x.msg.queued = false
				a.red.count(x.msg, -1)
			}
			if blocked {
				a.block(x.msg)
			}
		}
		p.eliciting = p.eliciting || ok
		switch {
		case !more:
			l.pop()
		case ok:
			l.rotate()
		default:
			return b // it waits for a packet with more room
		}
	}
	return b
}

// appendProbe appends a packet that is nothing but large.
func (a *Assoc) appendProbe(t instant, b []byte, size int) []byte {
	p := a.loss.sent.push()
	start := len(b)
	b = a.appendHeader(b, p.pn)
	b = append(b, byte(chunkPing))
	for n := size - a.trailer - (len(b) - start); n > 0; n-- {
		b = append(b, byte(chunkPadding))
	}
	b = a.seal(b, start, p.pn)
	a.mtu.probing = size
	p.size, p.sent = int32(len(b)-start), t
	p.add(sentItem{kind: itemProbe, end: int64(size)})
	a.rested = false
	a.loss.sent.link(p)
	a.stats.PacketsSent++
	a.stats.BytesSent += uint64(size)
	return b
}

// appendPathPacket appends a packet that nobody asks after.
func (a *Assoc) appendPathPacket(t instant, b []byte, typ chunkType, data [][8]byte, size int) []byte {
	p := a.loss.sent.push()
	start := len(b)
	b = a.appendHeader(b, p.pn)
	for _, d := range data {
		b = append(append(b, byte(typ)), d[:]...)
	}
	for n := size - a.trailer - (len(b) - start); n > 0; n-- {
		b = append(b, byte(chunkPadding))
	}
	if b = a.seal(b, start, p.pn); len(b) == start {
		a.loss.sent.unpush()
		return b
	}
	a.packetSent(t, p, len(b)-start)
	a.restOn()
	return b
}

// Timeout returns when Advance must be called next, also if nothing happens until
// then. Zero is never.
func (a *Assoc) Timeout() time.Time {
	var at instant
	first := func(t instant) {
		if t != 0 && (at == 0 || t < at) {
			at = t
		}
	}
	switch a.life {
	case stateDone:
		return time.Time{}
	case stateClosing, stateDraining:
		if a.closeDue {
			first(a.now)
		}
		first(a.closeAt)
		first(a.doneAt)
	default:
		if a.moves == nil || a.moves.attached[a.on] {
			first(a.acks.timeout())
		}
		first(a.followAt())
		first(a.moves.restTimeout())
		first(a.lossTimeout())
		first(a.nextSend)
		first(a.redundancyAt())
		first(a.repeatAt())
		first(a.restAt())
		first(a.askAt())
		first(a.lullAt())
		first(a.dropOldAt)
		if a.c.KeepAlive > 0 && !a.pingDue && !a.c.Early {
			first(max(a.lastReceived, a.lastKeepAlive).add(a.c.KeepAlive))
		}
		if a.c.IdleTimeout > 0 && !a.c.Early { // the handshake has a timeout of its own
			first(a.idleFrom.add(a.c.IdleTimeout))
		}
		if len(a.timers) > 0 {
			first(a.timers[0].due)
		}
	}
	if at == 0 {
		return time.Time{}
	}
	return a.epoch.Add(time.Duration(at))
}

// Advance runs what is due. AppendDatagram has to be called after.
func (a *Assoc) Advance(now time.Time) {
	t := a.tick(now)
	if a.life != stateOpen {
		a.advanceClosed(t)
		return
	}
	if d := a.c.IdleTimeout; d > 0 && !a.c.Early && t >= a.idleFrom.add(d) {
		a.end(t, ErrIdleTimeout)
		return
	}
	if at := a.lossTimeout(); at != 0 && t >= at {
		a.lossDue(t)
	}
	a.repeatDue(t)
	if a.moves != nil {
		a.follow(t)
		a.restDue(t)
	}
	a.messagesDue(t)
	a.dropOldKeys(t)
	if d := a.c.KeepAlive; d > 0 && !a.c.Early && t >= max(a.lastReceived, a.lastKeepAlive).add(d) {
		a.lastKeepAlive = t
		a.pingDue = true
	}
	if at := a.askAt(); at != 0 && t >= at {
		a.ask()
	}
	if at := a.lullAt(); at != 0 && t >= at {
		a.heard = 0
		a.pingDue = true
	}
	if at := a.restAt(); at != 0 && t >= at {
		a.rest()
	}
}

// restAfter is how long nothing comes from the peer until memory is given back.
const restAfter = time.Second

// restAt returns when rest has something to do, or 0.
func (a *Assoc) restAt() instant {
	if a.rested || a.eliciting > 0 || !a.ready.empty() || a.moves.restTimeout() != 0 {
		return 0
	}
	return max(a.lastReceived, a.disturbed).add(restAfter)
}

// rest gives memory back that only a busy association needs.
func (a *Assoc) rest() {
	a.rested = true
	a.loss.release()
	if a.pool != nil && a.pool.pins > 0 {
		a.pool.forget()
	} else {
		a.pool = nil
	}
	for _, s := range a.streams {
		s.rest()
	}
	a.red.release()
	a.coders = nil
	if a.moves != nil {
		a.moves.forget()
	}
	if c := a.control; c != nil {
		c.rest()
	}
	if len(a.events) == a.eventHead {
		a.events, a.eventHead = nil, 0
	}
	if a.inboxHead == len(a.inbox) {
		a.inbox, a.inboxHead = nil, 0
	}
	a.ready.rest()
	a.blocked.rest()
	a.attention = dropEmpty(a.attention)
	a.cancels = dropEmpty(a.cancels)
	a.timers = dropEmpty(a.timers)
	a.pathResponses = dropEmpty(a.pathResponses)
	a.challenges = dropEmpty(a.challenges)
	a.refused = dropEmpty(a.refused)
	a.restKeys()
}
