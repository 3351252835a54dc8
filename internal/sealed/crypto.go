package sealed

import "slices"

// Bounds on what is kept of one level. PROTOCOL §8.5.
const (
	maxAhead  = 65536 // bytes beyond what TLS has taken
	maxPieces = 256
)

// A piece is what is there of a level from an offset on.
type piece struct {
	offset uint64
	data   []byte
}

// A crypto is one level of TLS bytes, of both directions.
type crypto struct {
	out     []byte // all that TLS has given, from offset 0
	sent    uint64 // of that, what was sent once
	peerHas uint64 // of that, what the peer is known to have
	claimed uint64 // and what it seems to have said last that it has, by what is not signed

	taken  uint64  // what TLS has got
	pieces []piece // behind it: in order, disjoint
}

// add keeps what is new of data. Where two pieces overlap the first one counts; where
// there are too many, those in front. It reports whether anything was new.
func (c *crypto) add(offset uint64, data []byte) (fresh bool) {
	if end := c.taken + maxAhead; offset >= end {
		return false
	} else if uint64(len(data)) > end-offset {
		data = data[:end-offset]
	}
	if offset < c.taken {
		n := min(c.taken-offset, uint64(len(data)))
		offset, data = offset+n, data[n:]
	}
	for i := 0; len(data) > 0 && i < maxPieces; i++ {
		free := uint64(len(data)) // up to the next piece
		if i < len(c.pieces) {
			free = min(free, c.pieces[i].offset-min(offset, c.pieces[i].offset))
		}
		if free > 0 {
			if len(c.pieces) == maxPieces {
				c.pieces = c.pieces[:maxPieces-1]
			}
			c.pieces = slices.Insert(c.pieces, i, piece{offset, slices.Clone(data[:free])})
			fresh = true
			offset, data = offset+free, data[free:]
			continue
		}
		if end := c.pieces[i].offset + uint64(len(c.pieces[i].data)); end > offset {
			n := min(end-offset, uint64(len(data)))
			offset, data = offset+n, data[n:]
		}
	}
	return fresh
}

// next takes the bytes that come next, nil if they are not there.
func (c *crypto) next() []byte {
	if len(c.pieces) == 0 || c.pieces[0].offset != c.taken {
		return nil
	}
	b := c.pieces[0].data
	c.pieces = slices.Delete(c.pieces, 0, 1)
	c.taken += uint64(len(b))
	return b
}

// has is how much has come without a gap.
func (c *crypto) has() uint64 {
	end := c.taken
	for _, p := range c.pieces {
		if p.offset != end {
			break
		}
		end += uint64(len(p.data))
	}
	return end
}

// peerHasUpTo notes how much the peer says to have, and reports whether that is more
// than before.
func (c *crypto) peerHasUpTo(n uint64) bool {
	n = min(n, uint64(len(c.out)))
	if n <= c.peerHas {
		return false
	}
	c.peerHas = n
	return true
}

// claim notes how much the peer seems to have; of several claims, the least. It may not
// be the peer who says so, and counts for the next answer only.
func (c *crypto) claim(n uint64, several bool) {
	if n = min(n, uint64(len(c.out))); !several || n < c.claimed {
		c.claimed = n
	}
}
