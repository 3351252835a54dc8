package reliable

import "bytes"

// blockLen is the size of a full block. Both buffers are made of blocks, so that
// memory follows what is in them, and growing copies nothing.
const (
	blockLen      = 32 << 10
	minBlockLen   = 1 << 10
	maxFreeBlocks = 512 // of full size that an association keeps for later: a window of both directions

	// A send buffer that holds much is made of large blocks, of which few packets have
	// parts of two.
	largeBlockLen = 8 * blockLen
	largeFrom     = 4 * largeBlockLen

	// A receive buffer that holds little is made of small blocks: most associations
	// never hold more than a request.
	smallBlockLen  = 2 << 10
	maxSmallBlocks = 8
)

// A blockPool keeps blocks of full size, and one small one.
type blockPool struct {
	free  [][]byte
	large [][]byte
	small []byte
	tail  tail
	over  bool // nothing is to be kept any more

	// While somebody looks at blocks (FrameVector), those that are put wait in limbo.
	pins  int
	limbo [][]byte
}

// blocks returns what keeps blocks.
func (a *Assoc) blocks() *blockPool {
	if a.pool == nil {
		a.pool = new(blockPool)
	}
	return a.pool
}

// maxLimbo is how many blocks wait in limbo; the others are left to the garbage collector.
const maxLimbo = 32

// unpin ends one of the pins.
func (p *blockPool) unpin() {
	if p.pins--; p.pins > 0 {
		return
	}
	for i, b := range p.limbo {
		p.put(b)
		p.limbo[i] = nil
	}
	p.limbo = p.limbo[:0]
}

// forget drops what is kept.
func (p *blockPool) forget() { *p = blockPool{pins: p.pins, over: p.over} }

// sized returns a block of n bytes, which is one of both sizes.
func (p *blockPool) sized(n int) []byte {
	if n == blockLen {
		return p.get()
	}
	if b := p.small; b != nil {
		p.small = nil
		return b
	}
	return make([]byte, smallBlockLen)
}

func (p *blockPool) get() []byte {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free[n-1] = nil
		p.free = p.free[:n-1]
		return b
	}
	return make([]byte, blockLen)
}

// getLarge returns a block of largeBlockLen.
func (p *blockPool) getLarge() []byte {
	if n := len(p.large); n > 0 {
		b := p.large[n-1]
		p.large[n-1] = nil
		p.large = p.large[:n-1]
		return b
	}
	return make([]byte, largeBlockLen)
}

// room is how many blocks more are kept.
func (p *blockPool) room() int {
	return maxFreeBlocks - len(p.free) - len(p.large)*(largeBlockLen/blockLen)
}

func (p *blockPool) put(b []byte) {
	switch {
	case p.over:
	case p.pins > 0:
		if len(p.limbo) < maxLimbo {
			p.limbo = append(p.limbo, b)
		}
	case cap(b) == blockLen && p.room() > 0:
		p.free = append(p.free, b[:blockLen])
	case cap(b) == largeBlockLen && p.room() > 0:
		p.large = append(p.large, b[:largeBlockLen])
	case cap(b) == smallBlockLen:
		p.small = b[:smallBlockLen]
	}
}

// A sendBlock holds bytes from off on.
type sendBlock struct {
	off int64
	b   []byte
}

// A sendBuffer holds what was written and is not yet known to have arrived.
type sendBuffer struct {
	blocks []sendBlock
	base   int64 // first byte held
	end    int64 // of what was written
}

// len returns how many bytes are held.
func (s *sendBuffer) len() int { return int(s.end - s.base) }

// write appends p.
func (s *sendBuffer) write(pool *blockPool, p []byte) {
	for len(p) > 0 {
		if n := len(s.blocks); n > 0 {
			last := &s.blocks[n-1]
			if room := min(cap(last.b)-len(last.b), len(p)); room > 0 {
				last.b = append(last.b, p[:room]...)
				s.end += int64(room)
				p = p[room:]
				continue
			}
		}
		var b []byte
		if s.len() >= largeFrom {
			b = pool.getLarge()[:0]
		} else if len(s.blocks) > 0 || len(p) >= blockLen/2 {
			b = pool.get()[:0]
		} else {
			n := minBlockLen
			for n < len(p) {
				n *= 2
			}
			b = make([]byte, 0, n)
		}
		s.blocks = append(s.blocks, sendBlock{s.end, b})
	}
}

// find returns the index of the block that holds the byte at off.
func (s *sendBuffer) find(off int64) int {
	i, j := 0, len(s.blocks)-1
	for i < j { // the last block that begins at or before off
		m := (i + j + 1) / 2
		if s.blocks[m].off <= off {
			i = m
		} else {
			j = m - 1
		}
	}
	return i
}

// part returns what bl has of [start, end), from start on.
func (bl *sendBlock) part(start, end int64) []byte {
	from := int(start - bl.off)
	to := min(int(end-bl.off), len(bl.b))
	return bl.b[from:to:to]
}

// appendTo appends [start, end), which is held, to b.
func (s *sendBuffer) appendTo(b []byte, start, end int64) []byte {
	for i := s.find(start); start < end; i++ {
		p := s.blocks[i].part(start, end)
		b = append(b, p...)
		start += int64(len(p))
	}
	return b
}

// release drops what lies below off.
func (s *sendBuffer) release(pool *blockPool, off int64) {
	if off <= s.base {
		return
	}
	s.base = off
	i := 0
	for i < len(s.blocks) && s.blocks[i].off+int64(len(s.blocks[i].b)) <= off {
		if i == len(s.blocks)-1 && cap(s.blocks[i].b)-len(s.blocks[i].b) > 0 && cap(s.blocks[i].b) <= 2*minBlockLen {
			break // goes on being filled
		}
		pool.put(s.blocks[i].b)
		i++
	}
	if i > 0 {
		n := copy(s.blocks, s.blocks[i:])
		clear(s.blocks[n:])
		s.blocks = s.blocks[:n]
	}
	if n := len(s.blocks); n == 1 && s.base == s.end && pool != nil && pool.pins == 0 && cap(s.blocks[0].b) <= 2*minBlockLen {
		s.blocks[0] = sendBlock{s.end, s.blocks[0].b[:0]}
	}
}

// A loose keeps bytes by themselves for which a block would be too large: a peer that
// leaves gaps on purpose would have a whole one kept for each byte. Keys are where blocks
// begin.
type loose map[int64]*looseBlock

type looseBlock struct {
	pieces []loosePiece
	cost   int
}

type loosePiece struct {
	at int
	b  []byte
}

// A block is made when what lies in it takes looseShare of its memory anyway; of a piece
// that is loosePieceCost more than its bytes.
const (
	looseShare     = 4
	loosePieceCost = 64
)

// keep takes p, which lies at a place in the block of that size. It reports false, and
// does nothing, if a block is to be made for it.
func (l *loose) keep(block int64, at int, p []byte, size int) bool {
	lb := (*l)[block]
	cost := loosePieceCost + len(p)
	if lb != nil {
		cost += lb.cost
	}
	if cost*looseShare > size {
		return false
	}
	if lb == nil {
		if *l == nil {
			*l = make(loose)
		}
		lb = new(looseBlock)
		(*l)[block] = lb
	}
	lb.cost = cost
	lb.pieces = append(lb.pieces, loosePiece{at, bytes.Clone(p)})
	return true
}

// moveTo moves what was kept of a block to b, which begins with it.
func (l loose) moveTo(block int64, b []byte) {
	if lb := l[block]; lb != nil {
		for _, p := range lb.pieces {
			copy(b[p.at:], p.b)
		}
		delete(l, block)
	}
}

// A recvBuffer puts a stream together. Bytes lie in blocks of equal size behind
// each other, those that nothing has come for, or little, are nil.
type recvBuffer struct {
	blocks  [][]byte
	loose   loose
	size    int64          // of each block
	busy    bool           // has held more than small blocks take, since the last rest
	off     int64          // offset of blocks[0]
	read    int64          // of the next byte for the application
	have    spanSet[int64] // what has come, from read on
	highest int64          // end of what has come
}

// ready returns how many bytes can be read.
func (r *recvBuffer) ready() int {
	if len(r.have) == 0 || r.have[0].start > r.read {
		return 0
	}
	return int(r.have[0].end - r.read)
}

// write puts p, which begins at off, into the buffer. It reports false if it would
// take more gaps than are allowed; nothing has happened then.
func (r *recvBuffer) write(pool *blockPool, off int64, p []byte) bool {
	if off < r.read {
		cut := min(r.read-off, int64(len(p)))
		off, p = off+cut, p[cut:]
	}
	end := off + int64(len(p))
	if len(p) == 0 || r.have.covers(off, end) {
		return true
	}
	if len(r.have) >= maxOutOfOrder && r.have.wouldSplit(off, end) {
		return false
	}
	if len(r.have) == 0 && len(r.blocks) == 0 {
		r.off = r.read
		r.size = smallBlockLen
		if r.busy {
			r.size = blockLen
		}
	}
	if r.size == smallBlockLen && end-r.off > smallBlockLen*maxSmallBlocks {
		r.enlarge(pool)
	}
	r.have.add(off, end)
	r.highest = max(r.highest, end)
	for len(p) > 0 {
		i, at := int((off-r.off)/r.size), int((off-r.off)%r.size)
		for i >= len(r.blocks) {
			r.blocks = append(r.blocks, nil)
		}
		n := min(len(p), int(r.size)-at)
		start := off - int64(at)
		switch {
		case r.blocks[i] != nil:
			copy(r.blocks[i][at:], p[:n])
		case r.size == blockLen && start > r.read && !r.dense(off) && r.loose.keep(start, at, p[:n], blockLen):
		default:
			r.blocks[i] = pool.sized(int(r.size))
			r.loose.moveTo(start, r.blocks[i])
			copy(r.blocks[i][at:], p[:n])
		}
		off, p = off+int64(n), p[n:]
	}
	return true
}

// dense reports whether what has come around off lies so close that blocks for it cost at
// most three times as much: behind all that can be read, or in a long run. Blocks are made
// at once then, as in any transfer in order.
func (r *recvBuffer) dense(off int64) bool {
	s := r.have[r.have.find(off+1)]
	return s.start <= r.read || s.end-s.start >= blockLen
}

// enlarge moves what is in small blocks to one of full size.
func (r *recvBuffer) enlarge(pool *blockPool) {
	r.size, r.busy = blockLen, true
	if len(r.blocks) == 0 {
		return
	}
	big := pool.get()
	for i, b := range r.blocks {
		copy(big[i*smallBlockLen:], b)
		pool.put(b)
		r.blocks[i] = nil
	}
	r.blocks = append(r.blocks[:0], big)
}

// peek returns the next bytes, as many as lie in one piece. They are valid until
// the next call of a method other than peek.
func (r *recvBuffer) peek() []byte {
	n := r.ready()
	if n == 0 {
		return nil
	}
	if r.blocks[0] == nil {
		r.blocks[0] = make([]byte, r.size)
		r.loose.moveTo(r.off, r.blocks[0])
	}
	at := int(r.read - r.off)
	return r.blocks[0][at:min(at+n, int(r.size))]
}

// skip drops the next n bytes, which peek has shown.
func (r *recvBuffer) skip(pool *blockPool, n int) {
	r.read += int64(n)
	r.have.popFront(r.read)
	if len(r.have) == 0 { // empty: begin at the start of a block again
		r.drop(pool)
		return
	}
	if r.read-r.off >= r.size {
		pool.put(r.blocks[0])
		m := copy(r.blocks, r.blocks[1:])
		r.blocks[m] = nil
		r.blocks = r.blocks[:m]
		r.off += r.size
	}
}

// drop gives all blocks back.
func (r *recvBuffer) drop(pool *blockPool) {
	for i, b := range r.blocks {
		if b != nil {
			pool.put(b)
		}
		r.blocks[i] = nil
	}
	r.blocks = r.blocks[:0]
	r.loose = nil
	r.have = r.have[:0]
	r.off = r.read
}
