package reliable

import (
	"math"

	"github.com/klauspost/reedsolomon"

	"github.com/vstp-go/vstp/framing"
)

// Parity of messages that do not fit a packet. The body is cut into shards of one size,
// the shards into blocks; parity is made of a block, Reed-Solomon, and any so many
// shards of a block as it has data shards are all of it. PROTOCOL §7.8.
const (
	MaxShards   = 64 // data shards of a block, and parity shards; PROTOCOL §7.8
	blockShards = 32 // data shards of a block at most, as this side makes them: few, so that what is missing comes soon
	paritySlack = 24 // room beside a shard that is left in a packet, for an ACK
	paritySigma = 2.5
	maxCoders   = 16 // matrices that are kept
)

// A layout is how a message is cut: shards of size bytes, so many in a block.
type layout struct {
	total, size int64
	shards      int
}

// blockBytes is how many bytes a block has, but for the last one.
func (l *layout) blockBytes() int64 { return l.size * int64(l.shards) }

// block returns the bytes of a block, and how many data shards it has.
func (l *layout) block(i int64) (start, end int64, shards int) {
	start = i * l.blockBytes()
	end = min(start+l.blockBytes(), l.total)
	return start, end, int((end - start + l.size - 1) / l.size)
}

// shard returns the bytes of shard i of a block that begins at start.
func (l *layout) shard(start int64, i int) (from, to int64) {
	from = start + int64(i)*l.size
	return from, min(from+l.size, l.total)
}

// present returns how many shards of a block have all of their bytes in have.
func (l *layout) present(block int64, have spanSet[int64]) (n int) {
	start, _, shards := l.block(block)
	for i := range shards {
		if from, to := l.shard(start, i); have.covers(from, to) {
			n++
		}
	}
	return n
}

// A paritySend is what the sender of a message knows of its parity.
type paritySend struct {
	layout
	arrived map[int64]int // parity shards that the peer has, by block
}

// A dueParity is a parity shard that waits to be sent.
type dueParity struct {
	msg          *Outgoing
	block, index int64
	data         []byte
	due          instant
}

// A coders is the matrices in use, by numbers of data and parity shards.
type coders map[[2]int]reedsolomon.Encoder

// get returns the matrix for so many shards, both numbers within MaxShards. It works in
// the calling goroutine alone.
func (c *coders) get(data, parity int) reedsolomon.Encoder {
	key := [2]int{data, parity}
	if e := (*c)[key]; e != nil {
		return e
	}
	e, err := reedsolomon.New(data, parity, reedsolomon.WithCauchyMatrix(), reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	if *c == nil || len(*c) >= maxCoders {
		*c = make(coders)
	}
	(*c)[key] = e
	return e
}

// wantedParity returns how many parity shards a block of so many should have: so many
// that hardly ever more are lost, as far as the budget allows.
func (r *redundancy) wantedParity(shards int) int {
	p, burst := r.lossRate(), r.burst()
	n := 1
	for ; n < shards; n++ {
		lost := float64(shards+n) * p
		if lost+paritySigma*math.Sqrt(lost*(1-p)*(2*burst-1)) <= float64(n) {
			break
		}
	}
	return n
}

// layParity decides how a message that is about to be sent is cut, if it is to have
// parity.
func (a *Assoc) layParity(m *Outgoing) {
	if a.red == nil || !a.c.Peer.Parity || a.on != Datagrams || a.fitsPacket(m) {
		return
	}
	total := m.total()
	// The head of a PARITY is the longer one, unless the offset is long.
	head := max(parityHead(m.id, uint64(total), MaxShards, uint64(total), MaxShards), fragmentHead(m.id, uint64(total), uint64(total)))
	most := int64(a.maxPayload() - head - 2 - paritySlack)
	count := (total + most - 1) / most
	blocks := (count + blockShards - 1) / blockShards
	l := layout{total: total, size: (total + count - 1) / count, shards: int((count + blocks - 1) / blocks)}
	if l.shards >= 2 && int64(l.shards-1)*l.size < total {
		m.parity = &paritySend{layout: l}
	}
}

// cutShard returns where a fragment of m that begins at start is to end: it shall have no
// more than one shard, so that a lost packet costs no more. It returns start if that would
// better wait for a packet with more room.
func (a *Assoc) cutShard(m *Outgoing, start, end int64, room int) int64 {
	end = min(end, (start/m.parity.size+1)*m.parity.size)
	need := fragmentHead(m.id, uint64(m.parity.total), uint64(start)) + 2 + int(end-start)
	if room < need && room < a.maxPayload()/2 && a.loss.probes == 0 {
		return start
	}
	return end
}

// parityFor makes the parity of the block that ends where m was sent to, if one does.
func (a *Assoc) parityFor(t instant, m *Outgoing) {
	l := &m.parity.layout
	if a.on != Datagrams || m.next < l.total && m.next%l.blockBytes() != 0 {
		return
	}
	block := (m.next - 1) / l.blockBytes()
	start, _, k := l.block(block)
	if k < 2 {
		return
	}
	r := a.red
	n := r.wantedParity(k)
	n = min(n, int(r.earned/float64(l.size)))
	if n == 0 {
		return
	}
	shards := make([][]byte, k+n)
	for i := range k {
		shards[i] = m.shardBytes(l.shard(start, i))
	}
	made := make([]byte, int64(n)*l.size)
	for i := range n {
		shards[k+i] = made[int64(i)*l.size:][:l.size:l.size]
	}
	if err := a.coders.get(k, n).Encode(shards); err != nil {
		panic("BUG: " + err.Error())
	}
	due := t.add(r.spacing(0, a.rtt.smoothed))
	for i := range n {
		r.parity = append(r.parity, dueParity{m, block, int64(i), shards[k+i], due})
	}
}

// shardBytes returns the bytes [from, to) of the body, filled up with zeros: a view of the
// payload if they all lie there.
func (m *Outgoing) shardBytes(from, to int64) []byte {
	size := m.parity.size
	if before := m.total() - int64(len(m.Payload)); from >= before && to-from == size {
		return m.Payload[from-before : to-before : to-before]
	}
	b := make([]byte, size)
	m.appendBody(b[:0], from, to)
	return b
}

// nextParity returns the first parity shard that is due by the given time and of use, and
// that there is a budget for. Others it drops.
func (a *Assoc) nextParity(t, by instant) *dueParity {
	r := a.red
	for len(r.parity) > 0 {
		d := &r.parity[0]
		if d.due > by {
			return nil
		}
		if m := d.msg; !m.done && m.started && m.parity != nil && a.on == Datagrams && t.sub(d.due) <= a.patienceOfCopies() &&
			!m.parityDone(d.block) && a.affords(t, len(d.data)) {
			return d
		}
		r.popParity()
	}
	return nil
}

func (r *redundancy) popParity() {
	r.parity[0] = dueParity{}
	if r.parity = r.parity[1:]; len(r.parity) == 0 {
		r.parity = nil
	}
}

// parityDone reports whether the peer has all of a block.
func (m *Outgoing) parityDone(block int64) bool {
	start, end, _ := m.parity.block(block)
	return m.acked.covers(start, end)
}

// appendParity appends the parity that is due, as much as fits.
func (a *Assoc) appendParity(b []byte, t instant, end int, p *sentPacket) []byte {
	for d := a.nextParity(t, t); d != nil; d = a.nextParity(t, t) {
		m, n := d.msg, len(d.data)
		l := &m.parity.layout
		head := parityHead(m.id, uint64(l.total), uint64(l.shards), uint64(d.block), uint64(d.index))
		if head+framing.VarintLen(uint64(n))+n > end-len(b) {
			if head+framing.VarintLen(uint64(n))+n > a.maxPayload() { // the path has become narrower
				a.red.popParity()
				continue
			}
			break
		}
		b = appendParityHead(b, m.id, uint64(l.total), uint64(l.shards), uint64(d.block), uint64(d.index), n)
		b = append(b, d.data...)
		p.add(sentItem{kind: itemParity, msg: m, start: d.block})
		p.eliciting = true
		a.spend(n)
		a.red.popParity()
	}
	return b
}

// parityAcked notes that the peer has a parity shard of m.
func (a *Assoc) parityAcked(t instant, m *Outgoing, block int64) {
	if m.done || m.parity == nil {
		return
	}
	if m.parity.arrived == nil {
		m.parity.arrived = make(map[int64]int)
	}
	m.parity.arrived[block]++
	a.rebuilt(t, m, block)
}

// rebuilt finds out whether the peer, with the parity it has, has all of a block.
func (a *Assoc) rebuilt(t instant, m *Outgoing, block int64) {
	start, end, shards := m.parity.block(block)
	arrived := m.parity.arrived[block]
	if arrived == 0 || m.parity.present(block, m.acked)+arrived < shards {
		return
	}
	delete(m.parity.arrived, block)
	a.stats.RedundantRepaired += uint64(shards - m.parity.present(block, m.acked))
	m.progress, m.attempts = t, 0
	m.lost.remove(start, end)
	m.ackedBytes += m.acked.add(start, end)
	if m.ackedBytes == m.total() {
		a.settleMessage(m, nil)
	}
}

// rebuiltBy is rebuilt after [start, end) was acknowledged.
func (a *Assoc) rebuiltBy(t instant, m *Outgoing, start, end int64) {
	if len(m.parity.arrived) == 0 {
		return
	}
	for b := start / m.parity.blockBytes(); !m.done && b*m.parity.blockBytes() < end; b++ {
		a.rebuilt(t, m, b)
	}
}
