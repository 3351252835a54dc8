package handshake

import (
	"slices"

	"github.com/vstp-go/vstp/framing"
)

// maxPieces bounds what is kept of one block that arrives in parts. A sender that
// fills its datagrams needs 60 for the largest block.
const maxPieces = 256

// cut makes the datagrams of a HELLO or WELCOME: one, or parts if the header block
// is too large. The fields in route stand in front of each part. PROTOCOL §7.3.
func cut(to [][]byte, t framing.Type, route, block []byte) [][]byte {
	const around = framing.FixedLen + framing.TrailerLen
	if around+len(route)+len(block) <= MaxHandshakeDatagram {
		return append(to, appendRaw(nil, t, slices.Concat(route, block), nil))
	}
	total := len(block)
	for offset := 0; offset < total; {
		h := slices.Clip(route)
		h = append(h, 1, byte(framing.VarintLen(uint64(total))+framing.VarintLen(uint64(offset))), framing.KeyPart[0])
		h = framing.AppendVarint(h, uint64(total))
		h = framing.AppendVarint(h, uint64(offset))
		n := min(total-offset, MaxHandshakeDatagram-around-len(h))
		to = append(to, appendRaw(nil, t, h, block[offset:offset+n]))
		offset += n
	}
	return to
}

// A part says where the payload of a frame lies in a larger block.
type part struct{ total, offset int }

// cutPart takes KeyPart off the start of h. A frame without is no part, and its
// total is 0. What a part says is checked against the payload.
func cutPart(h framing.RawHeader, payload []byte) (p part, rest framing.RawHeader, ok bool) {
	v, rest, found := cutField(h, framing.KeyPart)
	if !found {
		return part{}, h, len(payload) == 0
	}
	total, n := framing.ConsumeVarint(v)
	if n < 0 {
		return part{}, h, false
	}
	offset, whole := wholeVarint(v[n:])
	if !whole || total > framing.MaxHeaderLen || offset >= total || len(payload) == 0 || uint64(len(payload)) > total-offset {
		return part{}, h, false
	}
	return part{int(total), int(offset)}, rest, true
}

// A piece is what is there of a block from an offset on.
type piece struct {
	offset int
	data   []byte
}

// An assembly puts parts together. It keeps what has arrived, and never makes room
// for what a part claims.
type assembly struct {
	total  int
	have   int
	pieces []piece // in order, disjoint
}

// add copies what is new of a part, and reports whether the block is complete.
// Where two parts overlap the first one counts. A part of a block with another
// total is ignored.
func (a *assembly) add(p part, data []byte) bool {
	if a.total == 0 {
		a.total = p.total
	}
	if p.total != a.total {
		return false
	}
	offset := p.offset
	for i := 0; len(data) > 0 && len(a.pieces) < maxPieces; i++ {
		free := len(data) // up to the next piece
		if i < len(a.pieces) {
			free = min(free, max(0, a.pieces[i].offset-offset))
		}
		if free > 0 {
			a.pieces = slices.Insert(a.pieces, i, piece{offset, slices.Clone(data[:free])})
			a.have += free
			offset, data = offset+free, data[free:]
			continue
		}
		if end := a.pieces[i].offset + len(a.pieces[i].data); end > offset {
			n := min(end-offset, len(data))
			offset, data = offset+n, data[n:]
		}
	}
	return a.have == a.total
}

// block returns the complete block, and forgets it.
func (a *assembly) block() []byte {
	b := make([]byte, 0, a.have)
	for _, p := range a.pieces {
		b = append(b, p.data...)
	}
	*a = assembly{}
	return b
}
