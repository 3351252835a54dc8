package reliable

import (
	"bytes"
	"slices"

	"github.com/vstp-go/vstp/framing"
)

// Bounds of the control stream. PROTOCOL §8.8.
const (
	maxControl       = 128 << 10 // bytes: unacknowledged ones out, and kept beyond what was consumed
	maxControlPieces = 256       // of the stream, with gaps between them
	minControlBuffer = 1 << 10
)

// A doneState is what has become of HANDSHAKE_DONE.
type doneState uint8

const (
	doneNone doneState = iota
	doneDue
	doneSent
	doneKnown // acknowledged; at a client, received
)

// The control stream of a sealed association: one ordered stream of bytes in each
// direction for the protocol itself. No credit limits it, and it goes before streams and
// messages. PROTOCOL §8.8.
type controlState struct {
	out         sendBuffer
	next        int64 // first byte that was never sent
	acked, lost spanSet[int64]

	in        flatBuffer
	announced bool // EventControl is under way

	done doneState
}

// WriteControl takes all of p for the control stream, or reports false: with p more than
// 128 KiB were not acknowledged, or there is no control stream (any more).
func (a *Assoc) WriteControl(p []byte) bool {
	c := a.control
	if c == nil || a.err != nil || c.out.len()+len(p) > maxControl {
		return false
	}
	a.rested = false
	c.out.write(a.blocks(), p)
	return true
}

// ReadControl returns what of the peer's control stream has come in order and was not
// consumed, also after the end of the association. It is valid until the next call of
// ConsumeControl or Receive.
func (a *Assoc) ReadControl() []byte {
	if a.control == nil {
		return nil
	}
	a.control.announced = false
	return a.control.in.ready()
}

// ConsumeControl takes the first n bytes of ReadControl.
func (a *Assoc) ConsumeControl(n int) {
	if a.control != nil {
		a.control.in.consume(n)
	}
}

// SendHandshakeDone tells the client that its Finished has come. It is repeated as any
// chunk is, and sent once.
func (a *Assoc) SendHandshakeDone() {
	if c := a.control; c != nil && !a.c.Client && c.done == doneNone {
		c.done = doneDue
	}
}

// pending reports whether something of c is to be sent.
func (c *controlState) pending() bool {
	return c != nil && (c.next < c.out.end || len(c.lost) > 0 || c.done == doneDue)
}

// unacked reports whether the peer does not have all that was written.
func (c *controlState) unacked() bool { return c != nil && c.out.len() > 0 }

// drop forgets what is to be sent, as the association has ended.
func (c *controlState) drop() {
	c.out, c.next, c.acked, c.lost = sendBuffer{}, 0, nil, nil
}

// appendControlStream appends what of the control stream is to be sent, as much as fits.
func (a *Assoc) appendControlStream(b []byte, end int, p *sentPacket) []byte {
	c := a.control
	if c.done == doneDue && len(b) < end {
		c.done = doneSent
		b = append(b, byte(chunkHandshakeDone))
		p.add(sentItem{kind: itemDone})
		p.eliciting = true
	}
	for end-len(b) >= minChunkRoom && (c.next < c.out.end || len(c.lost) > 0) {
		from, to := c.next, c.out.end
		again := len(c.lost) > 0
		if again {
			from, to = c.lost[0].start, c.lost[0].end
		}
		room := end - len(b) - 1 - framing.VarintLen(uint64(from))
		n := min(to-from, int64(room))
		if n -= max(0, n+int64(framing.VarintLen(uint64(n)))-int64(room)); n <= 0 {
			break
		}
		to = from + n
		b = appendValues(b, chunkCrypto, uint64(from), uint64(n))
		b = c.out.appendTo(b, from, to)
		p.add(sentItem{kind: itemControl, start: from, end: to})
		p.eliciting = true
		if again {
			c.lost.remove(from, to)
			a.stats.BytesRetransmitted += uint64(n)
		} else {
			c.next = to
		}
	}
	return b
}

// controlAcked notes that the peer has a part.
func (a *Assoc) controlAcked(it *sentItem) {
	c := a.control
	if it.kind == itemDone {
		c.done = doneKnown
		return
	}
	if start := max(it.start, c.out.base); start < it.end {
		c.lost.remove(start, it.end)
		c.acked.add(start, it.end)
		if c.acked[0].start == c.out.base {
			c.out.release(a.blocks(), c.acked[0].end)
			c.acked.popFront(c.out.base)
		}
	}
}

// controlLost has a part sent again.
func (a *Assoc) controlLost(it *sentItem) {
	c := a.control
	if it.kind == itemDone {
		if c.done == doneSent {
			c.done = doneDue
		}
		return
	}
	if start := max(it.start, c.out.base); start < it.end {
		c.lost.add(start, it.end)
		for _, r := range c.acked {
			if r.start >= it.end {
				break
			}
			c.lost.remove(r.start, r.end)
		}
	}
}

// controlReceived takes a CRYPTO. What goes beyond the bound comes again: a part of a
// frame, of which the peer knows that it is there, takes room until the frame is complete.
func (a *Assoc) controlReceived(ch *chunk) error {
	c := a.control
	if c == nil {
		return protocolError("CRYPTO in an association that is not sealed")
	}
	before := len(c.in.ready())
	if !c.in.write(int64(ch.offset), ch.data) {
		return errNoRoom
	}
	if len(c.in.ready()) > before && !c.announced {
		c.announced = true
		a.event(Event{Kind: EventControl})
	}
	return nil
}

// doneReceived takes a HANDSHAKE_DONE.
func (a *Assoc) doneReceived() error {
	c := a.control
	if c == nil || !a.c.Client {
		return protocolError("HANDSHAKE_DONE that nobody may send")
	}
	if c.done != doneKnown {
		c.done = doneKnown
		a.event(Event{Kind: EventHandshakeDone})
	}
	return nil
}

// A flatBuffer puts a stream together so that what is there in order lies in one piece.
type flatBuffer struct {
	base  int64  // the first byte that was not consumed
	b     []byte // what is there in order, behind head bytes that were consumed
	head  int
	ahead []flatPiece    // what has come too early
	cost  int            // of that
	have  spanSet[int64] // what has come, from base on
}

type flatPiece struct {
	off int64
	b   []byte
}

// write puts p, which begins at off, into the buffer. It reports false, and does nothing,
// if p reaches too far, makes too many pieces, or takes too much memory.
func (f *flatBuffer) write(off int64, p []byte) bool {
	if off < f.base {
		cut := min(f.base-off, int64(len(p)))
		off, p = off+cut, p[cut:]
	}
	end := off + int64(len(p))
	if len(p) == 0 || f.have.covers(off, end) {
		return true
	}
	if end-f.base > maxControl || len(f.have) >= maxControlPieces && f.have.wouldSplit(off, end) {
		return false
	}
	if off > f.next() {
		cost := loosePieceCost + len(p)
		if f.cost+cost > 2*maxControl {
			return false
		}
		f.cost += cost
		f.have.add(off, end)
		f.ahead = append(f.ahead, flatPiece{off, bytes.Clone(p)})
		return true
	}
	f.have.add(off, end)
	f.append(off, p)
	for n := int64(-1); len(f.ahead) > 0 && n != f.next(); { // what was early is next now
		n = f.next()
		f.ahead = slices.DeleteFunc(f.ahead, func(q flatPiece) bool {
			if q.off > f.next() {
				return false
			}
			f.append(q.off, q.b)
			f.cost -= loosePieceCost + len(q.b)
			return true
		})
	}
	return true
}

// next is the first byte that is not there.
func (f *flatBuffer) next() int64 { return f.base + int64(len(f.b)-f.head) }

// append takes what is new of p, which leaves no gap.
func (f *flatBuffer) append(off int64, p []byte) {
	p = p[min(f.next()-off, int64(len(p))):]
	if need := len(f.b) - f.head + len(p); len(f.b)+len(p) > cap(f.b) && need > 0 {
		b := make([]byte, need-len(p), max(minControlBuffer, min(2*need, maxControl)))
		copy(b, f.b[f.head:])
		f.b, f.head = b, 0
	}
	f.b = append(f.b, p...)
}

// ready returns what is there in order.
func (f *flatBuffer) ready() []byte { return f.b[f.head:] }

// consume drops the first n bytes of ready.
func (f *flatBuffer) consume(n int) {
	n = min(n, len(f.ready()))
	f.base += int64(n)
	f.head += n
	f.have.popFront(f.base)
	switch {
	case len(f.have) == 0:
		*f = flatBuffer{base: f.base} // most never hold anything again
	case f.head > len(f.b)/2:
		f.b, f.head = f.b[:copy(f.b, f.b[f.head:])], 0
	}
}
