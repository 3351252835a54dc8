package reliable

import (
	"slices"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// Bits of the first byte of a message's body. PROTOCOL §7.8.
const (
	bodyOrdered = 0x01 // channel and sequence follow
	bodyAck     = 0x02 // the sender asked for an acknowledgement
	bodyHeader  = 0x04 // a header block follows, with its length before it
)

// Bounds of what this side has under way.
const (
	maxOpenMessages   = 4096    // with an id, and not settled
	maxQueuedMessages = 1 << 14 // of all, also those without an id yet
	maxUnsentUnacked  = 256     // not repaired, waiting for the window
	maxChannels       = 1024    // ordered channels: numbers below
)

// Outgoing is a message on its way. The caller fills in the exported fields and
// leaves it alone until it is settled.
type Outgoing struct {
	Header  []byte // encoded header block; may be nil
	Payload []byte // not to be changed until the message is settled

	Ack       bool          // tried as Config.Retry says, and settled when the peer has it
	Repair    bool          // repaired until it is there, even if it fits one packet
	Ordered   bool          // delivered after those sent before with this Channel; implies Repair
	Channel   uint64        // below 1024
	Redundant bool          // copies or parity go with it, see redundancy.go; implies Repair
	Priority  int8          // larger goes first
	Lifetime  time.Duration // given up after that time; 0 is never
	Moves     int           // for the caller: how often it was taken to another association

	id         uint64
	head       []byte // the body is head, Header, Payload
	headBuf    [24]byte
	sequence   uint64
	started    bool  // it has an id and its place in its channel
	waiting    bool  // in Assoc.blocked, and not settled
	fragments  bool  // repaired; otherwise it goes as one MESSAGE
	accepted   bool  // by SendMessage
	number     int64 // of those accepted
	queued     bool  // in Assoc.ready
	done       bool
	err        error
	next       int64 // first byte of the body never sent
	acked      spanSet[int64]
	lost       spanSet[int64]
	ackedBytes int64
	nth        uint8       // of the packets with all of it, see redundancy.go
	late       uint8       // copies sent since an answer should have come
	missed     bool        // the first of them was lost
	parity     *paritySend // nil without any

	expires  instant // end of Lifetime
	progress instant // last acknowledgement, or begin of an attempt
	attempts int     // failed in a row
	due      instant // when the timer looks at it
	index    int     // in Assoc.timers, -1 if not there
}

// Done reports whether the message is settled.
func (m *Outgoing) Done() bool { return m.done }

// Err tells how a settled message has fared: nil says that the peer has it, or, for
// one that is not repaired, that it was sent.
func (m *Outgoing) Err() error { return m.err }

// total is the length of the body.
func (m *Outgoing) total() int64 {
	return int64(len(m.head)) + int64(len(m.Header)) + int64(len(m.Payload))
}

// charge is what a message costs of the credit.
func charge(total int64) int64 { return total + messageOverhead }

// makeHead builds the part of the body before the header block.
func (m *Outgoing) makeHead() {
	var attr byte
	b := append(m.headBuf[:0], 0)
	if m.Ordered {
		attr |= bodyOrdered
		b = framing.AppendVarint(b, m.Channel)
		b = framing.AppendVarint(b, m.sequence)
	}
	if m.Ack {
		attr |= bodyAck
	}
	if len(m.Header) > 0 {
		attr |= bodyHeader
		b = framing.AppendVarint(b, uint64(len(m.Header)))
	}
	b[0] = attr
	m.head = b
}

// appendBody appends the bytes [start, end) of the body.
func (m *Outgoing) appendBody(b []byte, start, end int64) []byte {
	for _, part := range [...][]byte{m.head, m.Header, m.Payload} {
		n := int64(len(part))
		if start < n && end > 0 {
			b = append(b, part[max(start, 0):min(end, n)]...)
		}
		start, end = start-n, end-n
	}
	return b
}

// SendMessage begins to send m. The error is ErrMessageTooLarge, ErrChannel, ErrFull
// if too much is waiting (EventMessageRoom tells when to try again), ErrWriteClosed after
// CloseWrite of stream 0, or why the association has ended. EventMessageDone follows.
func (a *Assoc) SendMessage(now time.Time, m *Outgoing) error {
	t := a.tick(now)
	switch {
	case a.err != nil:
		return a.err
	case a.shutting:
		return ErrClosed
	case a.messagesClosed():
		return ErrWriteClosed
	case int64(len(m.Payload)) > a.c.Peer.MaxMessage || len(m.Header) > framing.MaxHeaderLen:
		return ErrMessageTooLarge
	case m.Ordered && m.Channel >= maxChannels:
		return ErrChannel
	}
	m.makeHead()
	m.fragments = m.Ack || m.Repair || m.Ordered || m.Redundant || 1+m.total() > int64(a.maxPayload())
	if a.messages >= maxQueuedMessages || !m.fragments && a.unrepaired >= maxUnsentUnacked {
		a.wantMessageRoom = true
		return ErrFull
	}
	a.messages++
	m.accepted = true
	m.number = a.accepted
	a.accepted++
	if !m.fragments {
		a.unrepaired++
	}
	m.index = -1
	if m.Redundant {
		a.askRedundancy(t)
	}
	if m.Lifetime > 0 {
		m.expires = t.add(m.Lifetime)
		a.schedule(m, m.expires)
	}
	if m.Ack && a.c.Retry.AckTimeout > 0 {
		a.schedule(m, t.add(a.patience))
	}
	if m.Ordered {
		a.line(m)
	}
	a.enqueueMessage(m)
	return nil
}

// FitsDatagram reports whether a message with a header block and a payload of these
// lengths needs no fragments at present.
func (a *Assoc) FitsDatagram(headerLen, payloadLen int) bool {
	return 2+8+headerLen+payloadLen <= a.maxPayload()
}

func (a *Assoc) enqueueMessage(m *Outgoing) {
	if !m.queued && !m.done {
		m.queued = true
		a.red.count(m, 1)
		a.ready.push(m.Priority, sender{msg: m})
		a.rested = false
	}
}

// start begins m, and those before it in its channel: their order is that of
// SendMessage, whatever their priorities. It reports false if m has to wait.
func (a *Assoc) start(t instant, m *Outgoing) bool {
	if m.Ordered {
		for a.lines[m.Channel][0] != m {
			first := a.lines[m.Channel][0]
			if !a.begin(t, first) {
				return false
			}
			a.enqueueMessage(first)
		}
	}
	return a.begin(t, m)
}

// begin gives m an id and its place in line. It reports false if there is no credit,
// or too many are open.
func (a *Assoc) begin(t instant, m *Outgoing) bool {
	if a.openMessages >= maxOpenMessages {
		a.openShort = true
		return false
	}
	if m.Ordered { // the head depends on the place
		m.sequence = a.sequences[m.Channel]
		m.makeHead()
	}
	cost := charge(m.total())
	if cost > a.msgCredit-a.msgSent {
		return false
	}
	if m.Ordered {
		a.leaveLine(m)
	}
	a.msgSent += cost
	a.fed()
	a.openMessages++
	m.id = a.nextMessage
	a.nextMessage++
	if m.Ordered {
		put(&a.sequences, m.Channel, m.sequence+1)
	}
	m.started = true
	put(&a.halfSent, m.id, m)
	m.progress = t
	if m.Ack {
		a.schedule(m, a.attemptEnds(m))
	}
	return true
}

// line puts m behind those of its channel that have not begun.
func (a *Assoc) line(m *Outgoing) {
	put(&a.lines, m.Channel, append(a.lines[m.Channel], m))
}

// put is for maps that most associations never need.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// leaveLine takes m out of those of its channel that have not begun.
func (a *Assoc) leaveLine(m *Outgoing) {
	q := a.lines[m.Channel]
	i := slices.Index(q, m)
	switch {
	case i < 0:
	case len(q) == 1:
		delete(a.lines, m.Channel)
	case i == 0:
		q[0] = nil
		a.lines[m.Channel] = q[1:]
	default:
		a.lines[m.Channel] = slices.Delete(q, i, i+1)
	}
}

// appendMessage appends a chunk of m, and reports whether it did. With nothing
// appended, m waits for credit (blocked), or for a packet with more room.
func (a *Assoc) appendMessage(b []byte, t instant, room int, m *Outgoing, p *sentPacket) (_ []byte, ok, blocked bool) {
	if m.done { // given up while it was waiting
		return b, false, false
	}
	if !m.fragments {
		return a.appendWhole(b, t, room, m, p)
	}
	if !m.started && !a.start(t, m) {
		return b, false, true
	}
	total := m.total()
	start, end := m.next, total
	again := len(m.lost) > 0
	if again {
		start, end = m.lost[0].start, m.lost[0].end
	}
	if start >= end {
		return b, false, false
	}
	head := fragmentHead(m.id, uint64(total), uint64(start))
	if m.Redundant && start == 0 && room < wholeLen(m) && a.fitsPacket(m) && a.loss.probes == 0 {
		return b, false, false // in one piece it has copies
	}
	if m.Redundant && !again {
		if m.next == 0 {
			a.layParity(m)
		}
		if m.parity != nil {
			end = a.cutShard(m, start, end, room)
		}
	}
	n, last := dataFit(room, head, int(min(end-start, int64(room))))
	if n == 0 || room < head {
		return b, false, false
	}
	end = start + int64(n)
	b = appendFragmentHead(b, m.id, uint64(total), uint64(start), n, last)
	b = m.appendBody(b, start, end)
	if m.Redundant && end-start == total {
		m.sentWhole(p)
	} else {
		p.add(sentItem{kind: itemMessage, msg: m, start: start, end: end})
	}
	if again {
		m.lost.remove(start, end)
		a.sentAgain(n)
	} else {
		m.next = end
	}
	if m.Redundant {
		a.redundantSent(t, m, n, again)
	}
	return b, true, false
}

// appendWhole appends a MESSAGE chunk.
func (a *Assoc) appendWhole(b []byte, t instant, room int, m *Outgoing, p *sentPacket) (_ []byte, ok, blocked bool) {
	n := int(m.total())
	if 1+n > a.maxPayload() {
		m.fragments = true // the path has become narrower meanwhile
		a.unrepaired--
		return a.appendMessage(b, t, room, m, p)
	}
	if 1+n > room {
		return b, false, false
	}
	_, last := dataFit(room, 1, n)
	b = appendMessage(b, last, m.head, m.Header, m.Payload)
	p.add(sentItem{kind: itemDatagram})
	a.unrepaired--
	a.settleMessage(m, nil)
	return b, true, false
}

// canSendMessage reports whether m has something to send.
func (m *Outgoing) canSend() bool {
	return !m.done && (len(m.lost) > 0 || m.next < m.total())
}

// messageAcked notes that the peer has a part of m.
func (a *Assoc) messageAcked(t instant, m *Outgoing, it *sentItem) {
	if m.done {
		return
	}
	m.progress, m.attempts = t, 0
	m.lost.remove(it.start, it.end)
	m.ackedBytes += m.acked.add(it.start, it.end)
	if m.parity != nil {
		if a.rebuiltBy(t, m, it.start, it.end); m.done {
			return
		}
	}
	if m.ackedBytes == m.total() {
		a.copyArrived(m)
		a.settleMessage(m, nil)
	}
}

// messageLost has a part of m sent again.
func (a *Assoc) messageLost(m *Outgoing, it *sentItem) {
	if m.Redundant && a.spared(m, it) || m.done {
		return
	}
	if m.parity != nil && m.acked.covers(it.start, it.end) {
		return
	}
	m.lost.add(it.start, it.end)
	for _, r := range m.acked {
		if r.start >= it.end {
			break
		}
		m.lost.remove(r.start, r.end)
	}
	if m.canSend() {
		a.enqueueMessage(m)
	}
}

// Again returns a message like m, to be sent over another association after this one was
// ended by its peer, with what is left of its lifetime, and where it stands among the
// others. ok is false if the lifetime is over, or m had another end.
func (a *Assoc) Again(now time.Time, m *Outgoing) (again *Outgoing, number int64, ok bool) {
	t := a.tick(now)
	if !m.done || !movable(m.err) {
		return nil, 0, false
	}
	again = &Outgoing{
		Header: m.Header, Payload: m.Payload,
		Ack: m.Ack, Repair: m.Repair, Ordered: m.Ordered, Channel: m.Channel, Priority: m.Priority,
		Redundant: m.Redundant,
		Moves:     m.Moves + 1,
	}
	if m.expires != 0 {
		again.Lifetime = m.expires.sub(t)
	}
	return again, m.number, m.expires == 0 || again.Lifetime > 0
}

// movable reports whether messages that the end of an association has ended may be sent
// over another one.
func movable(err error) bool { return err == ErrReset || err == ErrPeerClosed }

// settleMessage ends m and lets go of its slices, unless Again may need them.
func (a *Assoc) settleMessage(m *Outgoing, err error) {
	if m.done {
		return
	}
	if !m.fragments && err != nil {
		a.unrepaired--
	}
	m.done, m.err = true, err
	a.messages--
	a.unschedule(m)
	a.unblock(m)
	switch {
	case m.started && err != nil && a.err == nil:
		delete(a.halfSent, m.id)
		a.cancels = append(a.cancels, &cancelled{
			id: m.id, total: uint64(m.total()), ordered: m.Ordered, channel: m.Channel, sequence: m.sequence, queued: true,
		})
	case m.started:
		delete(a.halfSent, m.id)
		a.closeMessage()
	case m.Ordered:
		a.leaveLine(m)
	}
	if err == nil {
		a.stats.MessagesSent++
	}
	m.acked, m.lost, m.head, m.parity = nil, nil, nil, nil
	if !movable(err) {
		m.Header, m.Payload = nil, nil
	}
	a.messagesLess()
	a.event(Event{Kind: EventMessageDone, Message: m})
	if a.wantMessageRoom && a.messages < maxQueuedMessages/2 && a.unrepaired < maxUnsentUnacked/2 {
		a.wantMessageRoom = false
		a.event(Event{Kind: EventMessageRoom})
	}
}

// CancelMessage gives m up, unless it is settled already. Its slices are free
// afterwards. The peer may have received it all the same.
func (a *Assoc) CancelMessage(now time.Time, m *Outgoing) {
	a.tick(now)
	if m.accepted {
		a.settleMessage(m, ErrCanceled)
	}
}

// A cancelled message has been given up after it had begun. It counts as open until
// the peer knows. PROTOCOL §7.8.
type cancelled struct {
	id, total         uint64
	ordered           bool
	channel, sequence uint64
	queued            bool // in Assoc.cancels
	acked             bool
}

// cancelAcked notes that the peer has a CANCEL.
func (a *Assoc) cancelAcked(c *cancelled) {
	if !c.acked {
		c.acked = true
		a.closeMessage()
	}
}

// cancelLost has a CANCEL sent again.
func (a *Assoc) cancelLost(c *cancelled) {
	if !c.acked && !c.queued {
		c.queued = true
		a.cancels = append(a.cancels, c)
	}
}

// closeMessage makes room for another open message.
func (a *Assoc) closeMessage() {
	a.openMessages--
	if a.openShort {
		a.unblockMessages()
	}
	a.messagesLess()
}

// block has m wait for credit, or until fewer messages are open.
func (a *Assoc) block(m *Outgoing) {
	m.waiting = true
	a.blockedMessages++
	a.blocked.push(m.Priority, sender{msg: m})
}

// unblock notes that m waits no more.
func (a *Assoc) unblock(m *Outgoing) {
	if m.waiting {
		m.waiting = false
		a.blockedMessages--
	}
}

// unblockMessages begins those in Assoc.blocked that now can.
func (a *Assoc) unblockMessages() {
	a.openShort = false
	for _, l := range a.blocked.levels {
		i, kept := l.head, l.head
		for ; i < len(l.q) && !a.openShort; i++ {
			m := l.q[i].msg
			if !m.done && !m.started && !a.start(a.now, m) {
				l.q[kept] = l.q[i]
				kept++
				continue
			}
			a.unblock(m)
			a.enqueueMessage(m)
		}
		// Those that go on waiting move up to the ones that were not looked at.
		n := kept - l.head
		copy(l.q[i-n:i], l.q[l.head:kept])
		clear(l.q[l.head : i-n])
		if l.head = i - n; l.head == len(l.q) {
			l.q, l.head = l.q[:0], 0
		}
	}
}
