package reliable

import (
	"slices"
	"time"
)

// The path of an association may change, PROTOCOL §7.13. Addresses are unknown here:
// who knows them finds out by Received that a packet from another one is to be taken
// seriously, has a PATH_CHALLENGE sent there by AppendChallenge, waits for
// EventPathResponse, and calls PathChanged.

// Received says what Receive has made of a datagram.
type Received struct {
	Opened bool // it is a packet of the association that has not come before
	Latest bool // and its number is the largest so far
	Taken  bool // and what is in it counts
}

// ReceiveElsewhere is Receive for a datagram from an address that is not the peer's. With
// Protection there is no difference. Without it, the datagram may be anybody's who has
// seen one: what is in it counts only if it has the answer to a challenge.
func (a *Assoc) ReceiveElsewhere(now time.Time, datagram []byte) Received {
	if a.c.Protection != nil {
		return a.Receive(now, datagram)
	}
	t := a.tick(now)
	a.via = Datagrams
	pn, chunks, ok := a.open(datagram)
	if !ok || a.acks.duplicate(pn) || a.refused.contains(pn) {
		return Received{}
	}
	wellFormed, answers := a.lookFor(chunks)
	switch {
	case !wellFormed:
		return Received{}
	case answers:
		return a.Receive(now, datagram)
	case a.life != stateOpen:
		a.receiveClosed(t, chunks, false)
	}
	return Received{Opened: true, Latest: pn >= a.acks.next}
}

// lookFor looks for the answer to a challenge.
func (a *Assoc) lookFor(chunks []byte) (wellFormed, answers bool) {
	var c chunk
	for wellFormed = len(chunks) > 0; len(chunks) > 0; {
		n, err := parseChunk(chunks, &c)
		if err != nil {
			return false, false
		}
		chunks = chunks[n:]
		answers = answers || c.typ == chunkPathResponse && slices.Contains(a.challenges, [8]byte(c.data))
	}
	return wellFormed, answers
}

// maxChallenges bounds the challenges that wait for a response. The oldest one gives way.
const maxChallenges = 4

// A challenged path is to answer with its data.
type challenged [][8]byte

// add notes a challenge.
func (c *challenged) add(data [8]byte) {
	if len(*c) == maxChallenges {
		*c = append((*c)[:0], (*c)[1:]...)
	}
	*c = append(*c, data)
}

// take reports whether data is the answer to one of them, once.
func (c *challenged) take(data [8]byte) bool {
	for i, d := range *c {
		if d == data {
			*c = append((*c)[:i], (*c)[i+1:]...)
			return true
		}
	}
	return false
}

// AppendChallenge appends a packet with a PATH_CHALLENGE, filled up to size, to b. It
// is not repeated, and counts for nothing. If size is too small for it, or the
// association has ended, b is returned as it is. EventPathResponse is the answer.
func (a *Assoc) AppendChallenge(now time.Time, b []byte, data [8]byte, size int) []byte {
	t := a.tick(now)
	if a.life != stateOpen || a.c.Early {
		return b
	}
	was := a.on
	if a.moves != nil {
		a.turn(Datagrams)
		defer a.turn(was)
	}
	if size < a.overhead()+1+len(data) {
		return b
	}
	a.challenges.add(data)
	if a.moves != nil {
		a.moves.asked(t, data)
	}
	return a.appendPathPacket(t, b, chunkPathChallenge, [][8]byte{data}, min(size, a.mtu.current))
}

// appendPathResponses appends a packet with nothing but the responses that are due.
// The window does not hold it up, as what is in flight may be lost just because they
// are missing; and it does not count as in flight, so that a peer that never
// acknowledges anything cannot make this side keep much by its challenges (trap S3).
func (a *Assoc) appendPathResponses(t instant, b []byte) []byte {
	b = a.appendPathPacket(t, b, chunkPathResponse, a.pathResponses, 0)
	a.pathResponses = a.pathResponses[:0]
	return b
}

// responses are those that go where the packet in hand came from.
func (a *Assoc) responses() *[][8]byte {
	if a.via != a.on {
		return &a.moves.elsewhere
	}
	return &a.pathResponses
}

// pathResponseReceived takes a PATH_RESPONSE.
func (a *Assoc) pathResponseReceived(t instant, c *chunk) {
	asked := &a.challenges
	if a.via == ByteStream {
		asked = &a.moves.challenges
	}
	if data := [8]byte(c.data); asked.take(data) {
		a.event(Event{Kind: EventPathResponse, Data: data, Carrier: a.via, RTT: a.answered(t, data)})
	}
}

// PathChanged says that packets go another way from now on. What is in flight counts
// as lost, which says nothing about congestion. Unless the peer's host is the same as
// before, so that only its port is another one, nothing is known of the new path but
// its RTT, if that is not 0. RFC 9000 §9.4.
func (a *Assoc) PathChanged(now time.Time, rtt time.Duration, sameHost bool) {
	t := a.tick(now)
	if a.life != stateOpen {
		return
	}
	if a.on == ByteStream {
		a.datagramsElsewhere(rtt, sameHost)
		return
	}
	a.dropInFlight(t, nil)
	l := &a.loss
	l.ptoCount, l.probes, l.lossTime = 0, 0, 0
	l.forgetLate()
	a.mtu.probing, a.mtu.tries = 0, 0
	a.unheard = 0
	a.challenges = nil
	if !sameHost {
		a.newPath(t, rtt)
	}
	// The peer is to learn of it at once, and what it has got no ACK for has arrived.
	a.pingDue = true
	if a.acks.next > 0 {
		a.acks.waiting = max(a.acks.waiting, 1)
		a.acks.immediate = true
	}
}

// dropInFlight has everything that is in flight sent again.
// What moves drop is remembered by them: it may have arrived.
func (a *Assoc) dropInFlight(t instant, m *moveState) {
	l := &a.loss
	a.mtu.probing = 0 // of a probe it says nothing about the size
	for l.sent.head >= 0 {
		p := l.sent.at(l.sent.head)
		l.sent.unlink(-1, p)
		if p.eliciting {
			l.inflight -= int(p.size)
			a.eliciting--
		}
		if m != nil && m.rests && m.keep(t, p) {
			m.moved[len(m.moved)-1].state = packetResting
			continue
		}
		a.dropped(t, p)
		if m != nil {
			m.keep(t, p)
		}
	}
	l.sent.trim()
}

// dropped has what was in a packet sent again that is not waited for.
func (a *Assoc) dropped(t instant, p *sentPacket) {
	if p.eliciting {
		a.stats.PacketsLost++
	}
	if m := a.moves; m != nil {
		m.owes(p)
	}
	a.requeue(t, p)
}

// newPath forgets what was known of the path.
func (a *Assoc) newPath(t instant, rtt time.Duration) {
	a.rtt = rttState{}
	a.rtt.init(a.c.RTT)
	if rtt > 0 {
		a.rtt.sample(rtt, 0)
	}
	a.loss.threshold, a.loss.eighths = packetThreshold, 1
	a.mtu = mtuState{limit: a.mtu.limit, current: BaseMTU, raise: mtuFirstRaise}
	a.newController()
	a.pacer.init(t)
	a.paceAnew()
}

// newController begins with congestion control.
func (a *Assoc) newController() {
	if a.c.Controller == CUBIC {
		a.cc = newCUBIC()
	} else {
		a.cc = newBBR(a.rand())
	}
	a.cc.mtuChanged(a.mtu.current)
}

// ProbeTimeout returns how long an answer takes at most, as far as is known.
func (a *Assoc) ProbeTimeout() time.Duration { return a.rtt.pto(a.c.Peer.AckDelay) }

// Unheard returns how many probe timeouts there were in a row since the last packet
// from the peer, and for how long it has owed an answer: the way to it, or back, may be
// gone.
func (a *Assoc) Unheard(now time.Time) (timeouts int, silence time.Duration) {
	return a.unheard, a.silence(a.tick(now))
}

// A client to which much came, and then nothing, may have got another address without
// knowing it. Its peer cannot know where it is until it says something, and if it only
// receives, it has no reason to: so it asks once whether that was all.
const (
	lullAfter   = 16 // packets
	lullSilence = time.Second
	lullPTOs    = 3
)

// lullAt returns when a client asks, or 0.
func (a *Assoc) lullAt() instant {
	if !a.c.Client || a.heard < lullAfter || a.eliciting > 0 || a.pingDue {
		return 0
	}
	return a.lastReceived.add(max(lullSilence, lullPTOs*a.rtt.pto(a.c.Peer.AckDelay)))
}
