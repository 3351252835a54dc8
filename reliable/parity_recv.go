package reliable

import "bytes"

// A parityRecv is the parity of a message that has come for blocks that are not whole.
// Of each block it has fewer shards than are missing, so all of it is less than the
// message, for which there is credit.
type parityRecv struct {
	layout
	blocks map[int64][]parityShard
}

type parityShard struct {
	index int
	data  []byte
}

// parityReceived takes a PARITY. PROTOCOL §7.8.
func (a *Assoc) parityReceived(c *chunk) error {
	if !a.c.Local.Parity {
		return protocolError("PARITY that was not asked for")
	}
	size := uint64(len(c.data))
	switch {
	case c.total > uint64(a.c.Local.MaxMessage)+maxMessageHead:
		return tooLarge("message")
	case c.shards < 2 || c.shards > MaxShards || c.index >= MaxShards || size == 0:
		return protocolError("malformed parity")
	case size*(c.shards-1) >= c.total || c.block > c.total/(c.shards*size) || (c.block*c.shards+1)*size >= c.total:
		return protocolError("parity outside of its message") // a block has two shards at least
	}
	if a.messagesDone.contains(c.id) {
		return nil
	}
	m, err := a.partialOf(c)
	if err != nil {
		return err
	}
	l := layout{total: m.total, size: int64(size), shards: int(c.shards)}
	if m.parity == nil {
		m.parity = &parityRecv{layout: l, blocks: make(map[int64][]parityShard)}
	}
	if m.parity.layout != l {
		return protocolError("shards of a message have changed")
	}
	block := int64(c.block)
	if start, end, _ := l.block(block); m.have.covers(start, end) {
		return nil
	}
	for _, s := range m.parity.blocks[block] {
		if s.index == int(c.index) {
			return nil
		}
	}
	m.parity.blocks[block] = append(m.parity.blocks[block], parityShard{int(c.index), bytes.Clone(c.data)})
	if err := a.rebuild(m, block); err != nil {
		return err
	}
	return a.finishMessage(c.id, m)
}

// rebuildAround rebuilds the blocks with [start, end), which has just come.
func (a *Assoc) rebuildAround(m *partial, start, end int64) error {
	if len(m.parity.blocks) == 0 {
		return nil
	}
	for b := start / m.parity.blockBytes(); b*m.parity.blockBytes() < end; b++ {
		if err := a.rebuild(m, b); err != nil {
			return err
		}
	}
	return nil
}

// rebuild makes what is missing of a block from its parity, if there is enough of it.
func (a *Assoc) rebuild(m *partial, block int64) error {
	l, parity := &m.parity.layout, m.parity.blocks[block]
	start, end, k := l.block(block)
	missing := k - l.present(block, m.have)
	if missing == 0 {
		delete(m.parity.blocks, block)
		return nil
	}
	if len(parity) < missing {
		return nil
	}
	delete(m.parity.blocks, block)
	top := 0
	for _, s := range parity {
		top = max(top, s.index+1)
	}
	shards := make([][]byte, k+top)
	for _, s := range parity {
		shards[k+s.index] = s.data
	}
	for i := range k {
		if from, to := l.shard(start, i); m.have.covers(from, to) {
			shards[i] = make([]byte, l.size)
			m.read(shards[i][:to-from], from)
		}
	}
	gone := make([]bool, k)
	for i := range k {
		gone[i] = shards[i] == nil
	}
	if err := a.coders.get(k, top).ReconstructData(shards); err != nil {
		return protocolError("parity that does not add up")
	}
	for i := range k {
		if !gone[i] {
			continue
		}
		from, to := l.shard(start, i)
		if err := a.fillIn(m, from, shards[i][:to-from]); err != nil {
			return err
		}
		for _, b := range shards[i][to-from:] {
			if b != 0 {
				return errContradiction
			}
		}
		a.stats.ShardsRebuilt++
	}
	if !m.have.covers(start, end) {
		panic("BUG: a block was not rebuilt")
	}
	return nil
}

// errContradiction says that parity was made of other bytes than came. Which of them are
// wrong cannot be known.
var errContradiction = protocolError("parity that contradicts its message")

// fillIn writes a shard that was rebuilt. What has come of it already must be the same.
func (a *Assoc) fillIn(m *partial, from int64, p []byte) error {
	end := from + int64(len(p))
	at := from
	have := make([]byte, 0, len(p))
	for i := m.have.find(from + 1); i < len(m.have) && m.have[i].start < end; i++ {
		s, e := max(m.have[i].start, from), min(m.have[i].end, end)
		have = have[:e-s]
		m.read(have, s)
		if !bytes.Equal(have, p[s-from:e-from]) {
			return errContradiction
		}
		at = max(at, e)
	}
	pool := a.pool
	if m.needsBlocks(int64(len(p))) {
		pool = a.blocks()
	}
	if !m.write(pool, from, p) {
		panic("BUG: a gap is one too many when it is filled")
	}
	return nil
}

// read copies the bytes from off on, which have come, to p.
func (m *partial) read(p []byte, off int64) {
	for len(p) > 0 {
		i, at := int(off/blockLen), int(off%blockLen)
		n := min(len(p), blockLen-at)
		switch {
		case i < len(m.blocks) && m.blocks[i] != nil:
			copy(p[:n], m.blocks[i][at:])
		case m.body != nil:
			copy(p[:n], m.body[off:])
		default:
			m.loose.read(p[:n], off-int64(at), at)
		}
		off, p = off+int64(n), p[n:]
	}
}

// read copies to p what was kept of a block from at on, which is there.
func (l loose) read(p []byte, block int64, at int) {
	lb := l[block]
	if lb == nil {
		return
	}
	for _, s := range lb.pieces {
		from, to := max(s.at, at), min(s.at+len(s.b), at+len(p))
		if from < to {
			copy(p[from-at:to-at], s.b[from-s.at:])
		}
	}
}
