package reliable

import "time"

// ackState remembers what was received, and decides when to acknowledge.
// PROTOCOL §7.6.
type ackState struct {
	received    spanSet[packetNumber]
	floor       packetNumber // all below counts as received
	next        packetNumber // largest received + 1
	largestTime instant

	waiting   int     // packets that want an acknowledgement
	immediate bool    // which should go out now
	by        instant // or at this time
	maxDelay  time.Duration
	bytes     int // in frames that wait

	every int     // packets that wait at most
	count int     // came in this round trip
	since instant // when it began

	again   instant       // when the last ACK is repeated if nothing comes
	pause   time.Duration // until then
	repeats int           // that are left
}

// How many packets wait for an acknowledgement: two (RFC 9000 §13.2.2), or more where
// that many come in a round trip that there are still acksPerRTT of them. Those that
// wait for more than two do so for no longer than batchDelay, should the peer's window
// be smaller than what came before makes believe. If nothing comes any more where many did,
// the last ACKs may have been lost and the peer's window be full of what they were about: for
// a round trip the last one is repeated, acksPerRTT times.
const (
	ackEvery    = 2
	maxAckEvery = 64
	acksPerRTT  = 8
	batchDelay  = time.Millisecond
	ackBytes    = minStreamWindow / 4 // of frames that wait at most: an ACK costs a write
)

// adapt counts a packet, and sets every once in a round trip.
func (s *ackState) adapt(now instant, rtt time.Duration) {
	s.count++
	d := now.sub(s.since)
	if s.since != 0 && d < rtt {
		return
	}
	n := s.count
	if d > 2*rtt { // there was a pause: what came before it says nothing
		n = int(float64(n) * float64(rtt) / float64(d))
	}
	s.every = max(ackEvery, min(n/acksPerRTT, maxAckEvery))
	s.count, s.since = 0, now
}

// duplicate reports whether pn came before, or is so old that nobody knows.
func (s *ackState) duplicate(pn packetNumber) bool {
	return pn < s.floor || pn < s.next && s.received.contains(pn)
}

// packetReceived notes a packet whose chunks were all taken. An rtt of 0 is not known.
func (s *ackState) packetReceived(now instant, pn packetNumber, eliciting, urgent bool, rtt time.Duration) {
	inOrder := pn == s.next
	s.note(now, pn)
	if !eliciting {
		return
	}
	s.waiting++
	if rtt > 0 {
		s.adapt(now, rtt)
	}
	s.delay(now, !inOrder || urgent || s.waiting >= max(s.every, ackEvery))
	s.again, s.repeats, s.pause = 0, 0, rtt/acksPerRTT
	if s.every > ackEvery && s.pause >= batchDelay {
		s.repeats = acksPerRTT
	}
}

// frameReceived is packetReceived for one from a byte stream, where an ACK is not what
// the peer waits for: it is to let go of what it keeps.
func (s *ackState) frameReceived(now instant, pn packetNumber, eliciting, urgent bool, size int) {
	s.note(now, pn)
	if !eliciting {
		return
	}
	s.waiting++
	s.again, s.repeats = 0, 0
	s.bytes += size
	s.delay(now, urgent || s.bytes >= ackBytes)
}

// note notes that pn has come.
func (s *ackState) note(now instant, pn packetNumber) {
	s.received.add(pn, pn+1)
	if pn >= s.next {
		s.next = pn + 1
		s.largestTime = now
	}
	if len(s.received) > maxAckRanges {
		s.floor = s.received[0].end
		s.received.popFront(s.floor)
	}
}

// delay sets when one more packet is acknowledged.
func (s *ackState) delay(now instant, immediate bool) {
	if immediate {
		s.immediate = true
	}
	if s.by == 0 {
		s.by = now.add(s.maxDelay)
	}
	if s.waiting == ackEvery {
		s.by = min(s.by, now.add(batchDelay))
	}
}

// due reports whether an acknowledgement has to go out now, or once more.
func (s *ackState) due(now instant) bool {
	return s.waiting > 0 && (s.immediate || now >= s.by) || s.again != 0 && now >= s.again
}

// timeout returns when one will be due, or 0.
func (s *ackState) timeout() instant {
	switch {
	case s.waiting == 0:
		return s.again
	case s.immediate:
		return 1
	}
	return s.by
}

// append appends an ACK that fits into room, and returns the number below which
// everything may be forgotten once the peer has this ACK.
func (s *ackState) append(b []byte, now instant, room int) ([]byte, packetNumber) {
	if len(s.received) == 0 {
		return b, 0
	}
	delay := uint64(max(0, now.sub(s.largestTime)) / time.Microsecond)
	n := len(b)
	b = appendAck(b, s.received, delay, room)
	if len(b) == n {
		return b, 0
	}
	s.waiting, s.immediate, s.by, s.bytes, s.again = 0, false, 0, 0, 0
	if s.repeats > 0 {
		s.repeats--
		s.again = now.add(s.pause)
	}
	return b, s.next
}

// forget drops what the peer knows to be received. RFC 9000 §13.2.4. The range that
// holds the largest number stays, as every ACK begins with it.
func (s *ackState) forget(below packetNumber) {
	if n := len(s.received); n > 0 {
		below = min(below, s.received[n-1].start)
	}
	if below > s.floor {
		s.floor = below
		s.received.popFront(below)
	}
}
