package reliable

import (
	"time"

	"github.com/vstp-go/vstp/framing"
)

// Incoming is a message that has arrived whole. Its slices belong to the receiver.
type Incoming struct {
	Header  []byte // encoded header block, which adds up
	Payload []byte
	Ack     bool // the sender asked for an acknowledgement

	charge int64
}

// A channel delivers messages in the order of their sequence numbers.
type channel struct {
	next      uint64
	waiting   map[uint64]Incoming // that came early
	cancelled spanSet[uint64]     // places from next on that stay empty
}

// fragmentReceived takes a FRAGMENT. PROTOCOL §7.8.
func (a *Assoc) fragmentReceived(c *chunk) error {
	n := uint64(len(c.data))
	switch {
	case n == 0 || c.offset > c.total || n > c.total-c.offset:
		return protocolError("fragment outside of its message")
	case c.total > uint64(a.c.Local.MaxMessage)+maxMessageHead:
		return tooLarge("message")
	}
	if a.messagesDone.contains(c.id) {
		return nil // all of it came already
	}
	m, err := a.partialOf(c)
	if err != nil {
		return err
	}
	pool := a.pool
	if m.needsBlocks(int64(n)) {
		pool = a.blocks()
	}
	if !m.write(pool, int64(c.offset), c.data) {
		return errNoRoom
	}
	if m.parity != nil {
		if err := a.rebuildAround(m, int64(c.offset), int64(c.offset+n)); err != nil {
			return err
		}
	}
	return a.finishMessage(c.id, m)
}

// partialOf returns what there is of the message of a chunk, which may be its first.
func (a *Assoc) partialOf(c *chunk) (*partial, error) {
	m := a.partials[c.id]
	if m == nil {
		if len(a.partials) >= 2*maxOpenMessages {
			return nil, protocolError("too many messages begun and not ended")
		}
		if err := a.beginMessage(c.id, c.total); err != nil {
			return nil, err
		}
		m = &partial{total: int64(c.total)}
		put(&a.partials, c.id, m)
	}
	if m.total != int64(c.total) {
		return nil, protocolError("length of a message has changed")
	}
	return m, nil
}

// finishMessage delivers a message if it is whole.
func (a *Assoc) finishMessage(id uint64, m *partial) error {
	if m.got < m.total {
		return nil
	}
	delete(a.partials, id)
	if err := a.endMessage(id); err != nil {
		return err
	}
	in, ordered, ch, seq, err := a.parseBody(m.body)
	if err != nil {
		return err
	}
	in.charge = charge(m.total)
	if !ordered {
		a.deliver(in)
		return nil
	}
	return a.inLine(ch, seq, in)
}

// beginMessage checks a new id against the credit.
func (a *Assoc) beginMessage(id, total uint64) error {
	if id > framing.MaxVarint-1 {
		return protocolError("message id out of range")
	}
	cost := charge(int64(total))
	if cost > a.msgGranted-a.msgReceived {
		return protocolError("more than the credit for messages")
	}
	a.msgReceived += cost
	return nil
}

// endMessage remembers that nothing of id is to come any more.
func (a *Assoc) endMessage(id uint64) error {
	a.messagesDone.add(id, id+1)
	if len(a.messagesDone) > 2*maxOpenMessages {
		return protocolError("too many messages begun and not ended")
	}
	return nil
}

// cancelReceived takes a CANCEL.
func (a *Assoc) cancelReceived(c *chunk) error {
	if a.messagesDone.contains(c.id) {
		return nil
	}
	if c.total > uint64(a.c.Local.MaxMessage)+maxMessageHead {
		return tooLarge("message")
	}
	if m := a.partials[c.id]; m == nil {
		if err := a.beginMessage(c.id, c.total); err != nil {
			return err
		}
	} else if m.total != int64(c.total) {
		return protocolError("length of a message has changed")
	} else if m.blocks != nil {
		m.drop(a.blocks())
	}
	delete(a.partials, c.id)
	a.stats.MessagesCanceled++
	if err := a.endMessage(c.id); err != nil {
		return err
	}
	a.returnCredit(charge(int64(c.total)))
	if c.ordered {
		return a.inLine(c.channel, c.sequence, Incoming{})
	}
	return nil
}

// parseBody splits a body, of which it takes possession.
func (a *Assoc) parseBody(b []byte) (in Incoming, ordered bool, ch, seq uint64, err error) {
	if len(b) == 0 || b[0]&^(bodyOrdered|bodyAck|bodyHeader) != 0 {
		return in, false, 0, 0, protocolError("malformed message")
	}
	attr := b[0]
	r := chunkReader{b: b[1:], ok: true}
	in.Ack = attr&bodyAck != 0
	if ordered = attr&bodyOrdered != 0; ordered {
		ch, seq = r.varint(), r.varint()
	}
	if attr&bodyHeader != 0 {
		in.Header = r.bytes(r.varint())
	}
	in.Payload = r.b
	if !r.ok || len(in.Header) > framing.MaxHeaderLen || framing.RawHeader(in.Header).Validate() != nil ||
		int64(len(in.Payload)) > a.c.Local.MaxMessage {
		return in, false, 0, 0, protocolError("malformed message")
	}
	return in, ordered, ch, seq, nil
}

// messageReceived takes a MESSAGE, which nobody repairs: without room it is dropped.
func (a *Assoc) messageReceived(c *chunk) error {
	if a.deaf {
		return nil
	}
	if a.unread >= maxUnreadMessages || a.unreadBytes+len(c.data) > maxUnreadBytes {
		a.stats.MessagesDropped++
		return nil
	}
	in, ordered, _, _, err := a.parseBody(append(make([]byte, 0, len(c.data)), c.data...))
	if err != nil {
		return err
	}
	if ordered || in.Ack {
		return protocolError("a message in order that is not repaired")
	}
	a.unread++
	a.unreadBytes += len(in.Payload)
	a.deliver(in)
	return nil
}

// inLine puts a message into its place in a channel, and delivers what is next. One
// without charge only takes its place.
func (a *Assoc) inLine(id, seq uint64, in Incoming) error {
	if id >= maxChannels {
		return protocolError("channel out of range")
	}
	ch := a.channels[id]
	if ch == nil {
		ch = &channel{}
		put(&a.channels, id, ch)
	}
	if _, twice := ch.waiting[seq]; twice || seq < ch.next || ch.cancelled.contains(seq) {
		return protocolError("two messages in one place")
	}
	if in.charge == 0 {
		before := len(ch.cancelled)
		ch.cancelled.add(seq, seq+1)
		if a.places += len(ch.cancelled) - before; a.places > maxPlaces {
			return protocolError("too many places in channels")
		}
	} else {
		if ch.waiting == nil && seq != ch.next {
			ch.waiting = make(map[uint64]Incoming)
		}
		if seq != ch.next {
			ch.waiting[seq] = in
			return nil
		}
		a.deliver(in)
		ch.next++
	}
	a.advanceLine(ch)
	return nil
}

// advanceLine delivers what is next in a channel.
func (a *Assoc) advanceLine(ch *channel) {
	for {
		if len(ch.cancelled) > 0 && ch.cancelled[0].start == ch.next {
			ch.next = ch.cancelled[0].end
			ch.cancelled.popFront(ch.next)
			a.places--
			continue
		}
		in, ok := ch.waiting[ch.next]
		if !ok {
			return
		}
		delete(ch.waiting, ch.next)
		a.deliver(in)
		ch.next++
	}
}

// deliver queues a message for the application.
func (a *Assoc) deliver(in Incoming) {
	a.stats.MessagesReceived++
	if a.deaf {
		a.returnCredit(in.charge)
		return
	}
	if a.inboxHead > 32 && 2*a.inboxHead > len(a.inbox) {
		n := copy(a.inbox, a.inbox[a.inboxHead:])
		clear(a.inbox[n:])
		a.inbox, a.inboxHead = a.inbox[:n], 0
	}
	a.inbox = append(a.inbox, in)
	a.event(Event{Kind: EventMessage})
}

// ReceiveMessage returns the next message, if there is one.
func (a *Assoc) ReceiveMessage(now time.Time) (Incoming, bool) {
	a.tick(now)
	if a.inboxHead == len(a.inbox) {
		return Incoming{}, false
	}
	in := a.inbox[a.inboxHead]
	a.inbox[a.inboxHead] = Incoming{}
	a.inboxHead++
	if a.inboxHead == len(a.inbox) {
		a.inbox, a.inboxHead = a.inbox[:0], 0
	}
	a.taken(&in)
	return in, true
}

// MessagesEnded reports whether the peer has ended its messages, by CloseWrite of stream
// 0, and ReceiveMessage has returned all of them.
func (a *Assoc) MessagesEnded() bool { return a.messagesOver && !a.MessagesWaiting() }

// MessagesWaiting reports whether ReceiveMessage would return one.
func (a *Assoc) MessagesWaiting() bool { return a.inboxHead < len(a.inbox) }

// CreditDue reports whether AppendDatagram has to be called after Read or ReceiveMessage:
// there may be credit of which the peer is to be told.
func (a *Assoc) CreditDue() bool { return a.controlDue() }

// taken gives back what an unread message holds.
func (a *Assoc) taken(in *Incoming) {
	if in.charge > 0 {
		a.returnCredit(in.charge)
	} else {
		a.unread--
		a.unreadBytes -= len(in.Payload)
	}
}

// MessageWindow returns the credit for messages that goes with a largest payload: one
// such message and some more always fit.
func MessageWindow(maxMessage int64) int64 {
	return charge(maxMessage+maxMessageHead) + messageSlack
}

// returnCredit lets the peer begin new messages for n bytes. It is told in quarters
// of the window, or as soon as a largest message would not fit into what it knows of.
func (a *Assoc) returnCredit(n int64) {
	a.msgReturned += n
	window := a.c.Local.MaxMessages
	fresh := a.msgReturned + window - a.msgGranted
	if fresh >= window/4 || fresh > 0 && a.msgGranted-a.msgReceived < window-messageSlack {
		a.msgGranted += fresh
		a.maxMessagesDue = true
	}
}
