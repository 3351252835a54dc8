package reliable

import (
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// An association with Config.Moves has two carriers. Packets take one of them, in both
// directions the same but while it changes. Packet numbers are common to both, and an
// ACK counts wherever it comes. PROTOCOL §7.14.
const (
	rememberPath = 30 * time.Second // how long what was known of the datagrams' path is good for (trap G4)
	maxMoved     = 1 << 12          // packets that a move has dropped of which a late ACK counts
	movedMemory  = 10 * time.Second // for so long

	// What was left on a byte stream is waited for, after the last of it has arrived.
	minRest = 50 * time.Millisecond
	maxRest = time.Second

	// behindMemory is how long frames still count as on their way after the last one.
	behindMemory = 2 * time.Second

	followEvery = time.Millisecond // moves of the peer, in the long run
	followBurst = 100              // of them that are followed at once
)

// moveState is what an association with two carriers knows.
type moveState struct {
	attached [carriers]bool
	uses     [carriers]carrierUse
	control  streamControl

	seq      uint64  // of the MOVE that counts
	to       Carrier // where it goes
	due      bool    // it is this side's, and is to be sent
	late     bool    // it is the peer's, and waits for followAt
	followed instant // when the moves that were followed would be over, one each followEvery

	head, data []byte       // of ReceiveFrameData, or nil
	read       bool         // it was counted as read
	vec        *FrameVector // that the packet in hand is for, or nil
	elsewhere  [][8]byte    // responses for the carrier that is not active
	challenges challenged   // on the byte stream
	questions  [maxChallenges]question
	question   int

	closeOn   Carrier
	largeLost bool
	progress  instant // when something was acknowledged last
	owed      int     // bytes that moves have dropped, and that were not sent again

	moved      []sentPacket // what moves have dropped, by number; of size 0 if it has arrived
	movedUntil instant      // when it is forgotten

	// What is left on a byte stream that works arrives, as long as it lasts, and need
	// not be sent again.
	rests     bool          // what is dropped now
	resting   bool          // there are such packets among moved
	restUntil instant       // they are waited for, unless one of them arrives
	restFor   time.Duration // and then for so long
}

// carrierUse is what is known of one carrier.
type carrierUse struct {
	sent, acked, lost uint64
	meter             meter
	received          instant
	next              packetNumber // largest that came on it + 1

	// While it is not active.
	rtt   rttState
	rttAt instant // when it was right
	left  instant // 0 if what follows means nothing
	hint  time.Duration
	cc    controller
	pacer pacer
	mtu   mtuState

	threshold packetNumber
	eighths   int
}

// A question is a PATH_CHALLENGE under way.
type question struct {
	data [8]byte
	at   instant
}

// makeMoves is the part of New for two carriers.
func (a *Assoc) makeMoves() {
	m := new(moveState)
	a.moves = m
	m.attached[a.on] = true
	m.to = a.on
	m.control.size = minStreamWindow
	m.uses[Datagrams].mtu = a.mtu
	if a.on == ByteStream {
		a.cc = &m.control
		a.mtu = m.control.frames()
	}
}

// Active returns the carrier that packets take.
func (a *Assoc) Active() Carrier { return a.on }

// usable reports whether packets may take c.
func (a *Assoc) usable(c Carrier) bool {
	return a.moves.attached[c] && (c != Datagrams || a.c.Protection == nil || a.c.Protection.Err() == nil)
}

// SetAttached says whether a carrier is there. What was in flight on the active one when
// it goes, is sent again on the next. A byte stream that is attached while one is there
// takes its place. It means nothing without Config.Moves.
func (a *Assoc) SetAttached(now time.Time, c Carrier, up bool) {
	t := a.tick(now)
	m := a.moves
	if m == nil || c >= carriers {
		return
	}
	was := m.attached[c]
	m.attached[c] = up
	if c == ByteStream {
		a.restOver(t)
	}
	if c == ByteStream && (!was || !up) {
		m.challenges, m.elsewhere = nil, a.responsesLost(c)
	}
	switch {
	case a.life != stateOpen:
	case c == a.on:
		if was && (!up || c == ByteStream) {
			a.dropCarrier(t)
		}
		if up && (!was || c == ByteStream) {
			a.arrive()
		}
	case up:
		a.follow(t)
	}
}

// responsesLost returns what is left for the carrier that is not active when c is gone.
func (a *Assoc) responsesLost(c Carrier) [][8]byte {
	if c == a.on {
		a.pathResponses = nil
		return a.moves.elsewhere
	}
	return nil
}

// Move has packets take another carrier from now on, and tells the peer. It does nothing
// if they do already, or if that carrier is not attached.
func (a *Assoc) Move(now time.Time, to Carrier) {
	t := a.tick(now)
	m := a.moves
	if m == nil || !a.c.Moves || a.life != stateOpen || a.c.Early || to >= carriers || to == a.on ||
		!a.usable(to) || m.seq == framing.MaxVarint {
		return
	}
	m.seq++
	m.to, m.due, m.late = to, true, false
	a.stats.Moves++
	a.moveTo(t, to, false)
}

// moveReceived takes a MOVE. It is followed when the packet is done with.
func (a *Assoc) moveReceived(c *chunk) error {
	m := a.moves
	if m == nil || !a.c.Moves {
		return protocolError("MOVE of an association that does not move")
	}
	if c.id >= uint64(carriers) {
		return protocolError("MOVE to an unknown carrier")
	}
	to := Carrier(c.id)
	if c.value < m.seq || c.value == 0 || c.value == m.seq && (to == m.to || a.c.Client) {
		return nil // known, or the client's counts
	}
	m.seq, m.to, m.due = c.value, to, false
	return nil
}

// followAt returns when a move of the peer may be followed, or 0.
func (a *Assoc) followAt() instant {
	m := a.moves
	if m == nil || m.to == a.on || !a.usable(m.to) {
		return 0
	}
	return max(1, m.followed.add(-(followBurst-1)*followEvery))
}

// follow goes where the peer has gone, if it may.
func (a *Assoc) follow(t instant) {
	m := a.moves
	at := a.followAt()
	if at == 0 {
		return
	}
	if t < at {
		if !m.late {
			m.late = true
			a.stats.MovesLate++
		}
		return
	}
	m.followed = max(m.followed, t).add(followEvery)
	m.late = false
	a.stats.MovesFollowed++
	a.moveTo(t, m.to, true)
}

// moveTo changes the carrier.
func (a *Assoc) moveTo(t instant, c Carrier, byPeer bool) {
	dead := a.loss.ptoCount >= persistentPTOs
	m := a.moves
	if m.rests = a.on == ByteStream && m.attached[ByteStream] && a.unheard == 0; m.rests {
		m.resting = true
		m.restFor = min(max(a.rtt.pto(a.c.Peer.AckDelay), minRest), maxRest)
		m.restUntil = t.add(m.restFor)
	}
	a.dropCarrier(t)
	m.rests = false
	a.leave(t)
	if dead { // congestion control has met nothing that it could control
		a.moves.uses[a.on].left = 0
	}
	guess := a.rtt.min
	a.turn(c)
	a.takeUp(t, guess)
	a.arrive()
	a.event(Event{Kind: EventMoved, Carrier: c, ByPeer: byPeer})
}

// dropCarrier has what is in flight sent again, and forgets how the carrier did.
func (a *Assoc) dropCarrier(t instant) {
	a.dropInFlight(t, a.moves)
	l := &a.loss
	l.ptoCount, l.probes, l.lossTime = 0, 0, 0
	l.forgetLate()
	a.mtu.probing, a.mtu.tries = 0, 0
	a.unheard = 0
	a.nextSend = 0
}

// arrive has the first packet on a carrier sent at once. It tells the peer where this
// side is, and what has come: the last ACK may be lost with the carrier.
func (a *Assoc) arrive() {
	a.pingDue = true
	a.loss.probes = 1
	if a.acks.next > 0 {
		a.acks.waiting = max(a.acks.waiting, 1)
		a.acks.immediate = true
	}
}

// leave remembers what is known of the carrier.
func (a *Assoc) leave(t instant) {
	u := &a.moves.uses[a.on]
	u.rtt, u.rttAt, u.left, u.hint = a.rtt, t, t, 0
	if a.on == Datagrams {
		u.cc, u.pacer, u.mtu = a.cc, a.pacer, a.mtu
		u.threshold, u.eighths = a.loss.threshold, a.loss.eighths
	}
}

// takeUp goes on with what was known of the carrier. What is old is of no use: then it
// is a new path, of which nothing is known but its RTT, if there was a challenge on it.
func (a *Assoc) takeUp(t instant, guess time.Duration) {
	m := a.moves
	u := &m.uses[a.on]
	fresh := u.left != 0 && t.sub(u.left) <= rememberPath
	known := u.rtt.sampled && (a.on == ByteStream || u.rttAt != 0 && t.sub(u.rttAt) <= rememberPath)
	rtt, hint := u.rtt, u.hint
	switch {
	case a.on == ByteStream:
		a.cc, a.mtu = &m.control, m.control.frames()
		a.pacer.init(t)
		a.loss.threshold, a.loss.eighths = packetThreshold, 1
	case fresh && u.cc != nil:
		a.cc, a.pacer, a.mtu = u.cc, u.pacer, u.mtu
		a.pacer.until = 0
		a.loss.threshold, a.loss.eighths = u.threshold, u.eighths
	case u.cc == nil && u.hint == 0: // the size to begin with is known
		a.mtu = u.mtu
		a.loss.threshold, a.loss.eighths = packetThreshold, 1
		a.newController()
		a.pacer.init(t)
	default:
		a.mtu = u.mtu
		a.newPath(t, 0)
		m.largeLost = false
	}
	u.cc, u.left, u.hint = nil, 0, 0
	switch {
	case known:
		a.rtt = rtt
	case hint > 0:
		a.rtt = rttState{}
		a.rtt.sample(hint, 0)
	default:
		a.rtt = rttState{}
		a.rtt.init(a.c.RTT)
		if guess > 0 {
			a.rtt.init(guess)
		}
	}
	a.paceAnew()
}

// datagramsElsewhere is PathChanged while packets take the byte stream.
func (a *Assoc) datagramsElsewhere(rtt time.Duration, sameHost bool) {
	a.challenges = nil
	if u := &a.moves.uses[Datagrams]; !sameHost {
		if u.cc == nil {
			u.cc = &a.moves.control // it was used: nothing is known of its size
		}
		u.left, u.rtt, u.rttAt, u.hint = 0, rttState{}, 0, rtt
		u.mtu = mtuState{limit: u.mtu.limit, current: BaseMTU, raise: mtuFirstRaise}
		a.moves.largeLost = false
	}
}

// datagramMTU returns what is known of the size of datagrams.
func (a *Assoc) datagramMTU() *mtuState {
	if a.on == Datagrams || a.moves == nil {
		return &a.mtu
	}
	return &a.moves.uses[Datagrams].mtu
}

// closeCarrier returns the carrier that CLOSE takes. It is not ok if there is none.
func (a *Assoc) closeCarrier() (c Carrier, ok bool) {
	m := a.moves
	if m == nil {
		return Datagrams, true
	}
	if c = m.closeOn; !m.attached[c] {
		c = other(c)
	}
	return c, m.attached[c]
}

// closeElsewhere has the next CLOSE take the other carrier: this one may be dead.
func (a *Assoc) closeElsewhere() {
	if m := a.moves; m != nil && m.attached[other(m.closeOn)] {
		m.closeOn = other(m.closeOn)
	}
}

func other(c Carrier) Carrier { return 1 - c }

// sent counts a packet.
func (m *moveState) sent(t instant, c Carrier, first bool) {
	u := &m.uses[c]
	u.sent++
	if first {
		u.meter.begin(t)
	}
}

// acked counts a packet of that many bytes.
func (m *moveState) acked(a *Assoc, t instant, c Carrier, size int) {
	u := &m.uses[c]
	u.acked++
	if u.meter.add(t, size, a.rtt.smoothed) && c == ByteStream && a.rtt.sampled {
		m.control.delivers(u.meter.rate, a.rtt.min)
		a.mtu = m.control.frames()
	}
}

// keep remembers a packet that a move has dropped, if there is room.
func (m *moveState) keep(t instant, p *sentPacket) bool {
	if len(m.moved) == maxMoved || !p.eliciting {
		return false
	}
	m.moved = append(m.moved, *p)
	p.more = nil
	m.movedUntil = t.add(movedMemory)
	return true
}

// owes counts what of a packet will be sent again.
func (m *moveState) owes(p *sentPacket) {
	for i := range p.items[:p.nitems] {
		m.owed += p.items[i].moved()
	}
	for i := range p.more {
		m.owed += p.more[i].moved()
	}
}

// restOver has what was left on the byte stream sent again.
func (a *Assoc) restOver(t instant) {
	m := a.moves
	if !m.resting {
		return
	}
	m.resting = false
	for i := range m.moved {
		if p := &m.moved[i]; p.state == packetResting {
			p.state = packetSettled
			a.dropped(t, p)
		}
	}
}

// restDue calls restOver when it is time.
func (a *Assoc) restDue(t instant) {
	if at := a.moves.restTimeout(); at != 0 && t >= at {
		a.restOver(t)
	}
}

// restTimeout returns when restDue has something to do, or 0.
func (m *moveState) restTimeout() instant {
	if m == nil || !m.resting {
		return 0
	}
	return m.restUntil
}

// moved is how many bytes of streams and messages are in an item.
func (it *sentItem) moved() int {
	if it.kind == itemStream || it.kind == itemMessage {
		return int(it.end - it.start)
	}
	return 0
}

// movedAcked finds packets among the ranges in hand that a move has dropped: what was in
// them need not be sent again, if that has not been done yet.
func (a *Assoc) movedAcked(t instant) {
	m := a.moves
	for _, r := range a.loss.ranges {
		if r.start > m.moved[len(m.moved)-1].pn {
			continue
		}
		if r.end <= m.moved[0].pn {
			break
		}
		i, _ := slices.BinarySearchFunc(m.moved, r.start, func(p sentPacket, pn packetNumber) int { return int(p.pn - pn) })
		for ; i < len(m.moved) && m.moved[i].pn < r.end; i++ {
			if p := &m.moved[i]; p.size > 0 {
				if p.state == packetResting {
					m.restUntil = t.add(m.restFor)
				}
				a.movedPacketAcked(t, p)
			}
		}
	}
	for len(m.moved) > 0 && m.moved[0].size == 0 {
		m.moved = m.moved[1:]
	}
	if len(m.moved) == 0 || t >= m.movedUntil {
		a.restOver(t)
		m.forget()
	}
}

func (a *Assoc) movedPacketAcked(t instant, p *sentPacket) {
	m := a.moves
	m.uses[p.carrier].acked++
	one := func(it *sentItem) {
		if p.state == packetResting || it.kind != itemPing && it.kind != itemProbe { // otherwise the answer to the next one counts
			if p.state != packetResting {
				m.owed = max(0, m.owed-it.moved())
			}
			a.itemAcked(t, p, it)
		}
	}
	for i := range p.items[:p.nitems] {
		one(&p.items[i])
	}
	for i := range p.more {
		one(&p.more[i])
	}
	*p = sentPacket{pn: p.pn}
}

// forget gives back what only a move needs.
func (m *moveState) forget() { m.moved, m.owed = nil, 0 }

// sentAgain counts bytes of a stream or message that are sent again.
func (a *Assoc) sentAgain(n int) {
	a.stats.BytesRetransmitted += uint64(n)
	if m := a.moves; m != nil && m.owed > 0 {
		k := min(n, m.owed)
		m.owed -= k
		a.stats.BytesMoved += uint64(k)
	}
}

// asked notes when a challenge was sent.
func (m *moveState) asked(t instant, data [8]byte) {
	m.questions[m.question] = question{data, t}
	m.question = (m.question + 1) % maxChallenges
}

// answered returns how long the answer took, if that is known. For a carrier that is not
// active it is all that is known.
func (a *Assoc) answered(t instant, data [8]byte) time.Duration {
	m := a.moves
	if m == nil {
		return 0
	}
	for i, q := range m.questions {
		if q.at != 0 && q.data == data {
			m.questions[i] = question{}
			d := t.sub(q.at)
			if u := &m.uses[a.via]; a.via != a.on {
				u.rtt.sample(d, 0)
				u.rttAt = t
			}
			return max(d, 1)
		}
	}
	return 0
}

// overtaken finds packets that the peer has refused: on a byte stream it has had all that
// was sent before the newest one it acknowledges.
func (a *Assoc) overtaken(t instant, newest packetNumber, s *ackSample) {
	l := &a.loss
	for pn := l.sent.head; pn >= 0 && pn < newest; {
		p := l.sent.at(pn)
		next := p.next
		l.sent.unlink(-1, p)
		a.packetLost(t, p, s)
		pn = next
	}
}
