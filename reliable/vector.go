package reliable

import (
	"encoding/binary"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// minView is the length from which bytes of a stream are not copied into a frame: below, a
// copy costs less than one more piece.
const minView = 1 << 10

// A FrameVector has frames for the byte stream, in pieces: what is made for them lies in
// memory of its own, and the bytes of streams are views of what the association keeps in
// case it has to send them again. Until [Assoc.Written] these stay as they are, whatever
// the peer acknowledges meanwhile.
type FrameVector struct {
	made  []byte // memory of the caller
	cuts  []cut
	views int        // bytes in cuts
	ext   int        // those of them in the frame that is being made
	first int        // cut of that frame
	pins  *blockPool // of the views, nil if there are none
}

// A cut is a view and where it goes: before made[at].
type cut struct {
	at   int
	view []byte
}

// Init gives v memory, for all but the bytes of streams, and empties it.
func (v *FrameVector) Init(b []byte) { v.made, v.views = b[:0], 0 }

// Len returns how many bytes there are in all.
func (v *FrameVector) Len() int { return len(v.made) + v.views }

// Append appends a frame made elsewhere.
func (v *FrameVector) Append(frame []byte) { v.made = append(v.made, frame...) }

// Pieces appends everything in v to bufs, in order.
func (v *FrameVector) Pieces(bufs [][]byte) [][]byte {
	from := 0
	for _, c := range v.cuts {
		if c.at > from {
			bufs = append(bufs, v.made[from:c.at])
			from = c.at
		}
		bufs = append(bufs, c.view)
	}
	if from < len(v.made) {
		bufs = append(bufs, v.made[from:])
	}
	return bufs
}

// AppendFrames appends the next packet for the byte stream to v, as [Assoc.AppendFrame], and
// reports whether there was one.
func (a *Assoc) AppendFrames(now time.Time, v *FrameVector) bool {
	t := a.tick(now)
	m := a.moves
	if m == nil {
		return false
	}
	n := len(v.made)
	v.ext, v.first = 0, len(v.cuts)
	m.vec = v
	v.made = a.appendMoving(t, v.made, ByteStream)
	m.vec = nil
	if len(v.made) == n { // nothing, or nothing that could be sealed
		v.cuts = v.cuts[:v.first]
		return false
	}
	v.views += v.ext
	if v.ext > 0 && v.pins == nil {
		v.pins = a.blocks()
		v.pins.pins++
	}
	return true
}

// Written empties v: nothing of it is going to be looked at any more.
func (a *Assoc) Written(v *FrameVector) {
	clear(v.cuts)
	v.cuts = v.cuts[:0]
	v.made, v.views = nil, 0
	if v.pins != nil {
		v.pins.unpin()
		v.pins = nil
	}
}

// vector returns the FrameVector that the packet in hand is made for, or nil.
func (a *Assoc) vector() *FrameVector {
	if a.moves == nil {
		return nil
	}
	return a.moves.vec
}

// ext returns how many bytes of the packet in hand are views.
func (a *Assoc) ext() int {
	if v := a.vector(); v != nil {
		return v.ext
	}
	return 0
}

// appendBytes appends [start, end) of what s holds to b, or a view of them to the vector.
func (a *Assoc) appendBytes(b []byte, s *sendBuffer, start, end int64) []byte {
	v := a.vector()
	if v == nil || end-start < minView {
		return s.appendTo(b, start, end)
	}
	for i := s.find(start); start < end; i++ {
		p := s.blocks[i].part(start, end)
		v.cuts = append(v.cuts, cut{len(b), p})
		v.ext += len(p)
		start += int64(len(p))
	}
	return b
}

// sealVector is seal for a packet of which v has views.
func (a *Assoc) sealVector(b []byte, start int, v *FrameVector) []byte {
	binary.BigEndian.PutUint32(b[start+7:], uint32(len(b)-start-packetHeaderLen+v.ext))
	if !a.checked() {
		return b
	}
	crc := uint32(0)
	for _, c := range v.cuts[v.first:] {
		crc = framing.Checksum(framing.Checksum(crc, b[start:c.at]), c.view)
		start = c.at
	}
	return framing.AppendTrailer(b, framing.Checksum(crc, b[start:]))
}
