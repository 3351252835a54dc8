package crate

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// A fragment is what the three fields of a datagram with FRAG say.
type fragment struct {
	id, index uint8
	total     int
}

// What parseFragment finds.
type fragState uint8

const (
	fragNone fragState = iota // none of the fields
	fragGood
	fragBad
)

// parseFragment reads the fields of a fragment. One that is missing, no number, above
// 255 or in contradiction to another makes it bad: the crate would take each such
// fragment for a message of its own, and give its application pieces for wholes.
func parseFragment(h framing.RawHeader) (f fragment, s fragState) {
	id, okID := h.Lookup(framing.LegacyKeyFragID)
	index, okIndex := h.Lookup(framing.LegacyKeyFragIndex)
	total, okTotal := h.Lookup(framing.LegacyKeyFragTotal)
	if !okID && !okIndex && !okTotal {
		return fragment{}, fragNone
	}
	var ns [3]uint8
	for i, text := range [][]byte{id, index, total} {
		n, err := strconv.ParseUint(string(text), 10, 8)
		if err != nil {
			return fragment{}, fragBad
		}
		ns[i] = uint8(n)
	}
	if ns[1] >= ns[2] {
		return fragment{}, fragBad
	}
	return fragment{ns[0], ns[1], int(ns[2])}, fragGood
}

// isCopy reports whether a fragment is one of total copies of a whole message: the
// crate counts how many datagrams of 1,200 bytes would hold the message and sends it
// that often. A header block of n bytes, without the fields of fragments, and a payload
// tell. Datagrams of at most 1,200 bytes never look so. PROTOCOL §6.7.
func isCopy(total, n, payload int) bool {
	whole := frameLen + n + payload
	return total > 1 && (whole+MaxDatagram-1)/MaxDatagram == total
}

// appendWithoutFrags appends a header block without the fields of fragments.
func appendWithoutFrags(b []byte, h framing.RawHeader) []byte {
	for k, v := range h.All() {
		if !isFragKey(k) {
			b = append(b, byte(len(k)), byte(len(v)))
			b = append(append(b, k...), v...)
		}
	}
	return b
}

// A partial is a message under way: pieces of it, or the copy that was delivered, of
// which more copies will come. Ids have 8 bits and the crate does not even advance
// them, so what has come before under the same id is told apart by its content.
type partial struct {
	total  int
	have   [4]uint64 // a bit for each index
	count  int       // of those
	last   uint8     // index that came last
	copies bool
	order  int // counts the partials of a source
	cost   int // what it is charged

	began, progress time.Time

	// Of copies.
	sum  uint32
	size int // payload; of pieces too

	// Of pieces.
	header []byte // without the fields of fragments; nil as long as no piece had any
	reqAck bool
	pieces []piece
	fresh  bool // one of them is not in marks

	// Pieces of the message before, under the same id: a late duplicate of one must
	// not get into the next message.
	marks []mark
	done  time.Time // when that was complete
}

type mark struct {
	index uint8
	sum   uint32
}

type piece struct {
	mark
	data []byte
}

// end returns when p is given up if nothing more comes.
func (p *partial) end() time.Time {
	a, b := p.began.Add(partialLife), p.progress.Add(partialProgress)
	if a.Before(b) {
		return a
	}
	return b
}

func (p *partial) has(i uint8) bool { return p.have[i/64]&(1<<(i%64)) != 0 }

func (p *partial) set(i uint8) {
	p.have[i/64] |= 1 << (i % 64)
	p.count++
	p.last = i
}

// begin makes a partial of src, in place of any with that id. It is nil if there is no
// memory for it.
func (s *sources) begin(now time.Time, src *source, id uint8, total int) *partial {
	if src.partials[id] != nil {
		s.dropPartial(src, id)
	}
	if len(src.partials) >= maxPartials {
		s.dropOldestPartial(src, nil)
	}
	if !s.room(src, partialCost, nil) {
		return nil
	}
	if src.partials == nil {
		src.partials = make(map[uint8]*partial)
	}
	src.begun++
	p := &partial{total: total, order: src.begun, began: now, progress: now}
	src.partials[id] = p
	s.recharge(src, p)
	s.due(p.end())
	return p
}

// recharge counts p of src for what it is now.
func (s *sources) recharge(src *source, p *partial) {
	n := partialCost + len(p.header) + len(p.pieces)*pieceCost + len(p.marks)*markCost
	if !p.copies {
		n += p.size
	}
	s.charge(src, n-p.cost)
	p.cost = n
}

func (s *sources) dropPartial(src *source, id uint8) {
	if p := src.partials[id]; p != nil {
		delete(src.partials, id)
		s.charge(src, -p.cost)
	}
}

// dropOldestPartial drops the partial that was begun first, but for keep. It reports
// whether there was one.
func (s *sources) dropOldestPartial(src *source, keep *partial) bool {
	victim, found := uint8(0), false
	for id, p := range src.partials {
		if p != keep && (!found || p.order < src.partials[victim].order) {
			victim, found = id, true
		}
	}
	if found {
		s.dropPartial(src, victim)
	}
	return found
}

// receiveCopy takes a datagram that holds a whole message and says that it is one of
// several. The first is delivered. The others are swallowed, and not acknowledged one
// by one. An index that comes again, but at once, begins the next round.
func (r *Receiver) receiveCopy(from netip.AddrPort, f fragment, c candidate, room int64) Result {
	src := r.peers.get(r.now, from)
	if src == nil {
		return Result{Drop: DropFull}
	}
	sum, size := c.sum(), len(c.payload[0])
	p := src.partials[f.id]
	if p != nil && p.copies && p.total == f.total && p.sum == sum && p.size == size && r.now.Before(p.end()) {
		switch {
		case !p.has(f.index):
			p.set(f.index)
			p.progress = r.now
			return Result{Drop: DropDuplicate}
		case p.last == f.index: // duplicated on its way
			return Result{Drop: DropDuplicate}
		}
	}
	if p = r.peers.begin(r.now, src, f.id, f.total); p == nil {
		return Result{Drop: DropFull}
	}
	p.copies, p.sum, p.size = true, sum, size
	p.set(f.index)
	res := r.deliver(from, c, room)
	switch {
	case res.Message != nil && !res.Message.ReqAck:
		r.peers.completed(src)
	case res.Message == nil && res.Reply == nil:
		r.peers.dropPartial(src, f.id) // the next copy may find room
	}
	return res
}

// receiveSlice takes a piece of a message.
func (r *Receiver) receiveSlice(from netip.AddrPort, f fragment, c candidate, room int64) Result {
	src := r.peers.get(r.now, from)
	if src == nil {
		return Result{Drop: DropFull}
	}
	p := src.partials[f.id]
	if p == nil || !p.takes(r.now, f, c.header) {
		if p = r.peers.begin(r.now, src, f.id, f.total); p == nil {
			return Result{Drop: DropFull}
		}
	}
	data := c.payload[0]
	m := mark{f.index, framing.Checksum(0, data)}
	if p.has(f.index) {
		if p.same(m, data) {
			return Result{Drop: DropDuplicate}
		}
		r.peers.again(r.now, src, p) // other content: the next message has begun
	}
	if !p.fresh && !slices.Contains(p.marks, m) {
		// What was there may be a late duplicate of the message before. A sender goes
		// through a message in order: only what is in front of a new piece can be of
		// the same message and alike in both.
		p.fresh = true
		r.peers.dropBehind(src, p, f.index)
	}
	if int64(p.size+len(data)) > r.cfg.MaxMessage {
		r.peers.dropPartial(src, f.id)
		return Result{Drop: DropTooLarge}
	}
	if p.count+1 == p.total {
		return r.complete(from, src, f.id, p, piece{m, data}, c, room)
	}
	if !r.peers.room(src, pieceCost+len(data)+len(c.header), p) {
		return Result{Drop: DropFull}
	}
	p.add(piece{m, bytes.Clone(data)}, c)
	p.progress = r.now
	r.peers.recharge(src, p)
	return Result{}
}

// takes reports whether a piece may belong to p, going by all but its content.
func (p *partial) takes(now time.Time, f fragment, header []byte) bool {
	switch {
	case p.copies, p.total != f.total, !now.Before(p.end()):
		return false
	case p.header != nil && len(header) > 0 && p.count > 0:
		return bytes.Equal(p.header, header)
	}
	return true
}

// same reports whether p has that very piece.
func (p *partial) same(m mark, data []byte) bool {
	i := slices.IndexFunc(p.pieces, func(q piece) bool { return q.mark == m })
	return i >= 0 && bytes.Equal(p.pieces[i].data, data)
}

func (p *partial) add(q piece, c candidate) {
	p.set(q.index)
	p.size += len(q.data)
	p.pieces = append(p.pieces, q)
	p.reqAck = p.reqAck || c.reqAck
	if p.header == nil && len(c.header) > 0 {
		p.header = bytes.Clone(c.header)
	}
}

// complete delivers p with the last piece, which is borrowed. Where the application has
// no room that piece counts as lost, so that a sender that repeats itself gets through.
func (r *Receiver) complete(from netip.AddrPort, src *source, id uint8, p *partial, last piece, c candidate, room int64) Result {
	before := *p
	p.add(last, c)
	p.progress = r.now
	if !p.fresh && r.now.Sub(p.done) < repeatLife {
		// Each piece of the message before came once more, and nothing else: it was
		// duplicated on its way.
		if !p.isAcked() {
			r.peers.again(r.now, src, p)
			return Result{Drop: DropDuplicate}
		}
	}
	slices.SortFunc(p.pieces, func(a, b piece) int { return cmp.Compare(a.index, b.index) })
	whole := candidate{header: p.header, reqAck: p.reqAck}
	for _, q := range p.pieces {
		whole.payload = append(whole.payload, q.data)
	}
	res := r.deliver(from, whole, room)
	if res.Drop == DropFull || res.Drop == DropTooLarge {
		before.pieces = slices.DeleteFunc(p.pieces, func(q piece) bool { return q.mark == last.mark })
		*p = before
		return res
	}
	if src.partials[id] == p { // remembering it may have needed the memory
		r.peers.again(r.now, src, p)
		p.done = r.now
	}
	if res.Message != nil && !res.Message.ReqAck {
		r.peers.completed(src)
	}
	return res
}

// repeatLife is for how long a message that comes again, all of it and with the same
// frag-id, counts as a duplicate, if it has no msg-id to tell.
const repeatLife = time.Second

// isAcked reports whether the message has an id of its own, which tells repetitions.
func (p *partial) isAcked() bool {
	_, _, ok := messageID(p.header)
	return ok && p.reqAck
}

// again makes p ready for the next message with its frag-id, and notes the pieces of
// the one that was there.
func (s *sources) again(now time.Time, src *source, p *partial) {
	marks := make([]mark, len(p.pieces))
	for i, q := range p.pieces {
		marks[i] = q.mark
	}
	src.begun++
	*p = partial{
		total: p.total, order: src.begun, cost: p.cost,
		began: now, progress: now, marks: marks, done: p.done,
	}
	s.recharge(src, p)
	s.due(p.end())
}

const markCost = 8

// dropBehind drops the pieces of p behind index.
func (s *sources) dropBehind(src *source, p *partial, index uint8) {
	p.pieces = slices.DeleteFunc(p.pieces, func(q piece) bool {
		if q.index < index {
			return false
		}
		p.size -= len(q.data)
		p.have[q.index/64] &^= 1 << (q.index % 64)
		p.count--
		return true
	})
	if p.count == 0 {
		p.header, p.reqAck = nil, false
	}
	s.recharge(src, p)
}
