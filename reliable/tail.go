package reliable

import "encoding/binary"

// A tail is the data of a packet's last chunk, if that is a STREAM which fills the packet:
// it is not copied behind its head, but sealed right from the send buffer.
type tail struct {
	chunks int    // where the chunks of the packet in hand begin
	block  []byte // of the send buffer, up to the end of the data
	n      int    // bytes of data; 0 if there is no tail
}

const (
	minTail     = 512 // smaller ones are not worth it
	maxTailHead = 64  // bytes of chunks before the data
)

// packetBegins says where the chunks of the next packet begin.
func (p *blockPool) packetBegins(chunks int) {
	if p != nil {
		p.tail = tail{chunks: chunks}
	}
}

// behind returns how long the tail of the packet in hand is.
func (p *blockPool) behind() int {
	if p == nil {
		return 0
	}
	return p.tail.n
}

// leaveTail makes [start, end) of a send buffer the tail of the packet in hand, of which b is
// all that is before. It reports false, and does nothing, where a copy is to be made: the
// chunks are sealed as one piece of memory, so the others are put before the data for that
// time. Nobody else may be looking at the block then.
func (a *Assoc) leaveTail(b []byte, s *sendBuffer, start, end int64) bool {
	if !a.sealed() || end-start < minTail || a.pool == nil || a.pool.pins > 0 {
		return false
	}
	bl := &s.blocks[s.find(start)]
	from, to := int(start-bl.off), int(end-bl.off)
	l := &a.pool.tail
	if head := len(b) - l.chunks; to > len(bl.b) || head > min(from, maxTailHead) {
		return false
	}
	l.block, l.n = bl.b[:to], to-from
	return true
}

// sealTail is seal for a packet with a tail.
func (a *Assoc) sealTail(b []byte, start int, pn packetNumber) []byte {
	chunks, block, n := a.pool.tail.chunks, a.pool.tail.block, a.pool.tail.n
	a.pool.tail = tail{}
	binary.BigEndian.PutUint32(b[start+7:], uint32(len(b)-chunks+n+a.trailer))
	var kept [maxTailHead]byte
	p := block[len(block)-n-(len(b)-chunks):]
	head := kept[:copy(kept[:len(b)-chunks], p)]
	copy(p, b[chunks:])
	b = a.c.Protection.SealFrom(b[:chunks], start, p, uint64(pn))
	copy(p, head)
	return b
}
