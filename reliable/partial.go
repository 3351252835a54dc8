package reliable

// bodyShare is how many times what has come the body of a message may be. The memory of
// the first blocks is on top of it for a while.
const bodyShare = 4

// A partial is a message of which not everything has come.
//
// Memory follows what has come, not what total claims: bytes lie in blocks until a
// quarter of all is there. Then there is a body, to which they move bit by bit, a block
// or two for each fragment, so that no fragment of a large message holds up everybody
// else on the socket; and nearly all of it is copied once.
type partial struct {
	total  int64
	have   spanSet[int64]
	got    int64
	body   []byte      // total bytes, once a quarter has come
	blocks [][]byte    // until they have moved to body
	moved  int         // of blocks
	loose  loose       // what lies in none of them
	parity *parityRecv // nil before any has come
}

// needsBlocks reports whether write may need a pool for n bytes: not if they are enough for a body.
func (m *partial) needsBlocks(n int64) bool {
	return m.blocks != nil || m.body == nil && bodyShare*n < m.total
}

// write puts p at off. It reports false if that makes too many gaps.
func (m *partial) write(pool *blockPool, off int64, p []byte) bool {
	end := off + int64(len(p))
	if len(m.have) >= maxOutOfOrder && m.have.wouldSplit(off, end) {
		return false
	}
	fresh := m.have.add(off, end)
	if fresh == 0 {
		return true
	}
	m.got += fresh
	if m.body == nil && bodyShare*m.got >= m.total {
		m.body = make([]byte, m.total)
		for start := range m.loose {
			m.loose.moveTo(start, m.body[start:])
		}
	}
	for len(p) > 0 {
		i, at := int(off/blockLen), int(off%blockLen)
		n := min(len(p), blockLen-at)
		if b := m.block(pool, i, off, p[:n]); b != nil {
			copy(b[at:], p[:n])
		}
		off, p = off+int64(n), p[n:]
	}
	if m.body != nil && m.blocks != nil {
		m.move(pool, 1+2*int(fresh)/blockLen)
	}
	return true
}

// block returns where the bytes of block i lie, or nil if it has kept p in another way.
func (m *partial) block(pool *blockPool, i int, off int64, p []byte) []byte {
	if i < len(m.blocks) && m.blocks[i] != nil {
		return m.blocks[i]
	}
	start := int64(i) * blockLen
	size := int(min(blockLen, m.total-start))
	if m.body != nil {
		return m.body[start:][:size]
	}
	for i >= len(m.blocks) {
		m.blocks = append(m.blocks, nil)
	}
	// In a long run blocks are made at once.
	if s := m.have[m.have.find(off+1)]; s.end-s.start < blockLen && m.loose.keep(start, int(off-start), p, size) {
		return nil
	}
	var b []byte
	if size == blockLen {
		b = pool.get()
	} else {
		b = make([]byte, size)
	}
	m.loose.moveTo(start, b)
	m.blocks[i] = b
	return b
}

// move moves the next blocks to the body, n of them, or all if the message is whole.
func (m *partial) move(pool *blockPool, n int) {
	for ; m.moved < len(m.blocks) && (n > 0 || m.got == m.total); m.moved++ {
		if b := m.blocks[m.moved]; b != nil {
			copy(m.body[m.moved*blockLen:], b)
			m.blocks[m.moved] = nil
			pool.put(b)
			n--
		}
	}
	if m.moved == len(m.blocks) {
		m.blocks = nil
	}
}

// drop gives the blocks back.
func (m *partial) drop(pool *blockPool) {
	for _, b := range m.blocks {
		if b != nil {
			pool.put(b)
		}
	}
	m.blocks = nil
}
