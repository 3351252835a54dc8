package reliable

import (
	"encoding/binary"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// On the byte stream, bytes of stream 0 can be read to where Read would copy them, past
// the association, as long as they are the next ones and it holds none.

// StreamData looks at the beginning of a frame, and returns where in it the bytes of
// stream 0 begin and how many there are, if there is nothing else in it, and the first of
// them is at offset want. Otherwise, or if too much of the frame is missing, n is 0. It is a
// guess about a frame that nobody has checked yet.
func StreamData(frame []byte, want int64) (at, n int) {
	if len(frame) <= packetHeaderLen {
		return 0, 0
	}
	size := uint64(binary.BigEndian.Uint32(frame[7:]))
	c, head, ok := parseStreamHead(frame[packetHeaderLen:], size)
	if !ok || size > MaxFrame || c.id != 0 || c.fin || c.offset != uint64(want) {
		return 0, 0
	}
	return packetHeaderLen + head, int(size) - head
}

// parseStreamHead parses what is in front of the data of a STREAM chunk that is all of
// the chunks in a packet, of size bytes.
func parseStreamHead(b []byte, size uint64) (c chunk, head int, ok bool) {
	t := chunkType(b[0])
	if t < chunkStream || t > chunkStream|streamFin|streamLen|streamOff {
		return c, 0, false
	}
	r := chunkReader{b: b[1:], ok: true}
	c.typ = chunkStream
	c.fin = t&streamFin != 0
	c.id = r.varint()
	if t&streamOff != 0 {
		c.offset = r.varint()
	}
	n := uint64(0)
	if t&streamLen != 0 {
		n = r.varint()
	}
	head = len(b) - len(r.b)
	if !r.ok || uint64(head) > size || t&streamLen != 0 && n != size-uint64(head) {
		return c, 0, false
	}
	return c, head, c.offset+size-uint64(head) <= framing.MaxVarint
}

// NextRead returns the offset of the next byte that Read returns of stream 0.
func (a *Assoc) NextRead() int64 {
	if s := a.streams[0]; s != nil {
		return s.in.read
	}
	return -1
}

// ReceiveFrameData is ReceiveFrame for a frame in three pieces, of which StreamData has
// found data to be the bytes of stream 0. If it reports true, they count as read: nothing
// has come before the frame that has changed what the next bytes are. Otherwise they are
// treated as any others.
func (a *Assoc) ReceiveFrameData(now time.Time, head, data, trailer []byte) (got Received, read bool) {
	t := a.tick(now)
	m := a.moves
	size := len(head) + len(data) + len(trailer)
	a.stats.PacketsReceived++
	a.stats.BytesReceived += uint64(size)
	if m == nil || size > MaxFrame || a.c.Early || !a.checkPieces(head, data, trailer) {
		a.stats.PacketsDropped++
		return Received{}, false
	}
	pn := decodeNumber(a.acks.next, binary.BigEndian.Uint32(head[packetHeaderLen-4:]))
	_, n, ok := parseStreamHead(head[packetHeaderLen:], uint64(len(head)-packetHeaderLen+len(data)))
	if pn < 0 || !ok || n != len(head)-packetHeaderLen {
		a.stats.PacketsDropped++
		return Received{}, false
	}
	a.via = ByteStream
	m.head, m.data, m.read = head[packetHeaderLen:], data, false
	got = a.packetIn(t, pn, nil, false, size)
	got.Opened = true
	m.head, m.data = nil, nil
	return got, m.read
}

// checkPieces is what openPlain checks.
func (a *Assoc) checkPieces(head, data, trailer []byte) bool {
	if len(head) <= packetHeaderLen || !a.ours(head) ||
		uint64(binary.BigEndian.Uint32(head[7:])) != uint64(len(head)-packetHeaderLen+len(data)) {
		return false
	}
	if !framing.Flags(head[4]).Has(framing.FlagCRC) {
		return len(trailer) == 0 && !a.checked()
	}
	return len(trailer) == framing.TrailerLen &&
		framing.Checksum(framing.Checksum(0, head), data) == binary.BigEndian.Uint32(trailer)
}

// dataReceived is chunksReceived for ReceiveFrameData.
func (a *Assoc) dataReceived(t instant) (eliciting, urgent bool, err error) {
	m := a.moves
	c, _, _ := parseStreamHead(m.head, uint64(len(m.head)+len(m.data)))
	c.data = m.data
	a.rested = false
	return true, false, a.chunkReceived(t, &c)
}

// readPast counts c, the data of ReceiveFrameData, as read if it can. It reports whether it
// has.
func (a *Assoc) readPast(t instant, s *stream, c *chunk) bool {
	m := a.moves
	if m == nil || m.data == nil || c.fin || s.id != 0 || int64(c.offset) != s.in.read || len(s.in.have) > 0 ||
		len(c.data) == 0 || s.final >= 0 {
		return false
	}
	end := int64(c.offset) + int64(len(c.data))
	s.in.read = end
	s.in.highest = max(s.in.highest, end)
	a.commit(s, end, false)
	a.streamConsumed(t, s, int64(len(c.data)))
	m.read = true
	return true
}
