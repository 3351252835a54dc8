package reliable

import (
	"errors"
	"strconv"

	"github.com/vstp-go/vstp/framing"
)

// A chunkType is the first byte of a chunk. PROTOCOL §7.5.
type chunkType byte

// The chunks. Integers in them are varints.
const (
	chunkPadding       chunkType = 0x00 // nothing; one byte
	chunkPing          chunkType = 0x01 // nothing; makes the receiver acknowledge at once
	chunkAck           chunkType = 0x02 // largest, delay, count, first, { gap, length }*
	chunkResetStream   chunkType = 0x04 // stream, code, final size
	chunkStopSending   chunkType = 0x05 // stream, code
	chunkCrypto        chunkType = 0x06 // offset, length, data of the control stream
	chunkStream        chunkType = 0x08 // to 0x0f: stream, [offset], [length], data
	chunkMaxData       chunkType = 0x10 // credit for all streams together
	chunkMaxStreamData chunkType = 0x11 // stream, credit
	chunkMaxStreams    chunkType = 0x12 // number of streams
	chunkMaxMessages   chunkType = 0x13 // credit for messages
	chunkDataBlocked   chunkType = 0x14 // the credit that is used up
	chunkStreamBlocked chunkType = 0x15 // stream, the credit that is used up
	chunkMsgBlocked    chunkType = 0x16 // the credit that is used up
	chunkPathChallenge chunkType = 0x1a // 8 bytes
	chunkPathResponse  chunkType = 0x1b // 8 bytes
	chunkClose         chunkType = 0x1c // code, length, reason
	chunkMove          chunkType = 0x1d // sequence, carrier
	chunkHandshakeDone chunkType = 0x1e // nothing
	chunkMessage       chunkType = 0x20 // to 0x21: [length], body
	chunkFragment      chunkType = 0x24 // to 0x25: message, total, offset, [length], data
	chunkCancel        chunkType = 0x28 // to 0x29: message, total, [channel, sequence]
	chunkParity        chunkType = 0x2c // to 0x2d: message, total, shards, block, index, [length], data
)

// Bits in the type of a chunk.
const (
	streamFin    = 0x01 // the data ends the stream
	streamLen    = 0x02 // there is a length; without, the data ends with the packet
	streamOff    = 0x04 // there is an offset; without, it is 0
	messageLen   = 0x01 // as streamLen, for messages and fragments
	cancelInLine = 0x01 // the message had a place in an ordered channel
)

// base returns t without the bits that say what else is in the chunk.
func (t chunkType) base() chunkType {
	switch {
	case t >= 0x08 && t <= 0x0f:
		return chunkStream
	case t == 0x21, t == 0x25, t == 0x29, t == 0x2d:
		return t &^ 1
	}
	return t
}

var chunkNames = map[chunkType]string{
	chunkPadding: "PADDING", chunkPing: "PING", chunkAck: "ACK", chunkResetStream: "RESET_STREAM",
	chunkStopSending: "STOP_SENDING", chunkStream: "STREAM", chunkMaxData: "MAX_DATA",
	chunkMaxStreamData: "MAX_STREAM_DATA", chunkMaxStreams: "MAX_STREAMS", chunkMaxMessages: "MAX_MESSAGES",
	chunkDataBlocked: "DATA_BLOCKED", chunkStreamBlocked: "STREAM_BLOCKED", chunkMsgBlocked: "MESSAGES_BLOCKED",
	chunkPathChallenge: "PATH_CHALLENGE", chunkPathResponse: "PATH_RESPONSE", chunkClose: "CLOSE",
	chunkCrypto: "CRYPTO", chunkHandshakeDone: "HANDSHAKE_DONE", chunkMove: "MOVE",
	chunkMessage: "MESSAGE", chunkFragment: "FRAGMENT", chunkCancel: "CANCEL", chunkParity: "PARITY",
}

// String returns the name that PROTOCOL §7.5 uses.
func (t chunkType) String() string {
	if s, ok := chunkNames[t.base()]; ok {
		return s
	}
	return "chunkType(0x" + strconv.FormatUint(uint64(t), 16) + ")"
}

// A chunk is one decoded chunk. Which fields mean something depends on typ. The
// slices are views of the packet.
type chunk struct {
	typ chunkType // without the bits

	id     uint64 // stream, message; MOVE: carrier
	offset uint64 // of data
	total  uint64 // FRAGMENT, CANCEL, PARITY: length of the message's body; RESET_STREAM: final size
	value  uint64 // credit; code; MOVE: sequence; ACK: the delay in microseconds
	data   []byte // data, body, reason, the 8 bytes of a path chunk; ACK: its ranges, see ackRanges
	fin    bool   // STREAM

	ordered           bool // CANCEL: channel and sequence are there
	channel, sequence uint64

	shards, block, index uint64 // PARITY

	largest uint64 // ACK: the largest packet number
	ranges  uint64 // ACK: how many pairs data has after the first range
}

// errChunk is returned for a chunk that cannot be decoded.
var errChunk = errors.New("reliable: malformed chunk")

// A chunkReader takes varints off a packet. After the first failure all is zero.
type chunkReader struct {
	b  []byte
	ok bool
}

func (r *chunkReader) varint() uint64 {
	v, n := framing.ConsumeVarint(r.b)
	if n < 0 {
		r.ok, r.b = false, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *chunkReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.ok, r.b = false, nil
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

// data returns what a length says, or all that is left.
func (r *chunkReader) data(hasLen bool) []byte {
	if hasLen {
		return r.bytes(r.varint())
	}
	return r.bytes(uint64(len(r.b)))
}

// parseChunk decodes the chunk at the start of b, which is not empty, into c, and
// returns its length. Runs of padding count as one chunk. Unknown types are an
// error: they have no length. PROTOCOL §7.5.
func parseChunk(b []byte, c *chunk) (int, error) {
	*c = chunk{}
	t := chunkType(b[0])
	c.typ = t.base()
	r := chunkReader{b: b[1:], ok: true}
	switch c.typ {
	case chunkPadding:
		for len(r.b) > 0 && r.b[0] == 0 {
			r.b = r.b[1:]
		}
	case chunkPing, chunkHandshakeDone:
	case chunkAck:
		parseAck(&r, c)
	case chunkResetStream:
		c.id, c.value, c.total = r.varint(), r.varint(), r.varint()
	case chunkStopSending, chunkMaxStreamData, chunkStreamBlocked:
		c.id, c.value = r.varint(), r.varint()
	case chunkStream:
		c.id = r.varint()
		if t&streamOff != 0 {
			c.offset = r.varint()
		}
		c.data = r.data(t&streamLen != 0)
		c.fin = t&streamFin != 0
		r.ok = r.ok && c.offset+uint64(len(c.data)) <= framing.MaxVarint
	case chunkCrypto:
		c.offset = r.varint()
		c.data = r.data(true)
		r.ok = r.ok && c.offset+uint64(len(c.data)) <= framing.MaxVarint
	case chunkMaxData, chunkMaxStreams, chunkMaxMessages, chunkDataBlocked, chunkMsgBlocked:
		c.value = r.varint()
	case chunkMove:
		c.value, c.id = r.varint(), r.varint()
	case chunkPathChallenge, chunkPathResponse:
		c.data = r.bytes(8)
	case chunkClose:
		c.value = r.varint()
		c.data = r.data(true)
	case chunkMessage:
		c.data = r.data(t&messageLen != 0)
	case chunkFragment:
		c.id, c.total, c.offset = r.varint(), r.varint(), r.varint()
		c.data = r.data(t&messageLen != 0)
		r.ok = r.ok && len(c.data) > 0 && c.offset+uint64(len(c.data)) <= c.total
	case chunkParity:
		c.id, c.total = r.varint(), r.varint()
		c.shards, c.block, c.index = r.varint(), r.varint(), r.varint()
		c.data = r.data(t&messageLen != 0)
		r.ok = r.ok && len(c.data) > 0
	case chunkCancel:
		c.id, c.total = r.varint(), r.varint()
		if c.ordered = t&cancelInLine != 0; c.ordered {
			c.channel, c.sequence = r.varint(), r.varint()
		}
	default:
		return 0, errChunk
	}
	if !r.ok {
		return 0, errChunk
	}
	return len(b) - len(r.b), nil
}

// parseAck finds where an ACK ends, and checks that its ranges do not reach below 0.
func parseAck(r *chunkReader, c *chunk) {
	c.largest, c.value, c.ranges = r.varint(), r.varint(), r.varint()
	if c.ranges > uint64(len(r.b))/2 { // two bytes a pair at least
		r.ok = false
		return
	}
	start := r.b
	low := c.largest
	if n := r.varint(); n <= low {
		low -= n
	} else {
		r.ok = false
	}
	for range c.ranges {
		gap, n := r.varint(), r.varint()
		if !r.ok || gap+2 > low || n > low-gap-2 {
			r.ok = false
			return
		}
		low -= gap + 2 + n
	}
	if r.ok {
		c.data = start[:len(start)-len(r.b)]
	}
}

// ackRanges appends the ranges of an ACK to rs, largest first.
func (c *chunk) ackRanges(rs []pnRange) []pnRange {
	r := chunkReader{b: c.data, ok: true}
	high := packetNumber(c.largest)
	low := high - packetNumber(r.varint())
	rs = append(rs, pnRange{low, high + 1})
	for range c.ranges {
		high = low - packetNumber(r.varint()) - 2
		low = high - packetNumber(r.varint())
		rs = append(rs, pnRange{low, high + 1})
	}
	return rs
}

// ackLen bounds the length of an ACK with n ranges.
func ackLen(n int) int { return 1 + 3*framing.MaxVarintLen + 2*n*framing.MaxVarintLen }

// appendAck appends an ACK for rs, which is not empty and in rising order, with as
// many ranges as fit into room, the largest first. It appends nothing if not even
// one fits.
func appendAck(b []byte, rs []pnRange, delay uint64, room int) []byte {
	last := len(rs) - 1
	largest := uint64(rs[last].end - 1)
	first := uint64(rs[last].end-1) - uint64(rs[last].start)
	used := 1 + framing.VarintLen(largest) + framing.VarintLen(delay) + 2 + framing.VarintLen(first)
	if used > room {
		return b
	}
	n := 0
	low := rs[last].start
	for i := last - 1; i >= 0; i-- {
		gap, length := uint64(low-rs[i].end-1), uint64(rs[i].end-1-rs[i].start)
		used += framing.VarintLen(gap) + framing.VarintLen(length)
		if used > room || n == maxAckRanges {
			break
		}
		low = rs[i].start
		n++
	}
	b = append(b, byte(chunkAck))
	b = framing.AppendVarint(b, largest)
	b = framing.AppendVarint(b, delay)
	b = framing.AppendVarint(b, uint64(n))
	b = framing.AppendVarint(b, first)
	low = rs[last].start
	for i := last - 1; i >= last-n; i-- {
		b = framing.AppendVarint(b, uint64(low-rs[i].end-1))
		b = framing.AppendVarint(b, uint64(rs[i].end-1-rs[i].start))
		low = rs[i].start
	}
	return b
}

// appendValues appends a chunk that has only integers.
func appendValues(b []byte, t chunkType, vs ...uint64) []byte {
	b = append(b, byte(t))
	for _, v := range vs {
		b = framing.AppendVarint(b, v)
	}
	return b
}

// appendClose appends a CLOSE.
func appendClose(b []byte, code uint64, reason string) []byte {
	b = appendValues(b, chunkClose, code, uint64(len(reason)))
	return append(b, reason...)
}

// appendCancel appends a CANCEL.
func appendCancel(b []byte, id, total uint64, ordered bool, channel, sequence uint64) []byte {
	if ordered {
		return appendValues(b, chunkCancel|cancelInLine, id, total, channel, sequence)
	}
	return appendValues(b, chunkCancel, id, total)
}

// dataFit returns how much of n bytes of data fit into room behind head bytes, and
// whether the chunk ends the packet, so that it needs no length.
func dataFit(room, head, n int) (fit int, last bool) {
	if head+n >= room {
		return max(0, room-head), true
	}
	if head+framing.VarintLen(uint64(n))+n > room {
		return n, true // no room for a length, and so none for another chunk
	}
	return n, false
}

// streamHead returns the length of a STREAM before its length field.
func streamHead(id, offset uint64) int {
	n := 1 + framing.VarintLen(id)
	if offset > 0 {
		n += framing.VarintLen(offset)
	}
	return n
}

// appendStreamHead appends a STREAM up to its data.
func appendStreamHead(b []byte, id, offset uint64, n int, fin, last bool) []byte {
	t := chunkStream
	if fin {
		t |= streamFin
	}
	if offset > 0 {
		t |= streamOff
	}
	if !last {
		t |= streamLen
	}
	b = appendValues(b, t, id)
	if offset > 0 {
		b = framing.AppendVarint(b, offset)
	}
	if !last {
		b = framing.AppendVarint(b, uint64(n))
	}
	return b
}

// fragmentHead returns the length of a FRAGMENT before its length field.
func fragmentHead(id, total, offset uint64) int {
	return 1 + framing.VarintLen(id) + framing.VarintLen(total) + framing.VarintLen(offset)
}

// appendFragmentHead appends a FRAGMENT up to its data.
func appendFragmentHead(b []byte, id, total, offset uint64, n int, last bool) []byte {
	if last {
		return appendValues(b, chunkFragment, id, total, offset)
	}
	return appendValues(b, chunkFragment|messageLen, id, total, offset, uint64(n))
}

// parityHead returns the length of a PARITY before its length field.
func parityHead(id, total, shards, block, index uint64) int {
	n := 1
	for _, v := range [...]uint64{id, total, shards, block, index} {
		n += framing.VarintLen(v)
	}
	return n
}

// appendParityHead appends a PARITY up to its data.
func appendParityHead(b []byte, id, total, shards, block, index uint64, n int) []byte {
	return appendValues(b, chunkParity|messageLen, id, total, shards, block, index, uint64(n))
}

// appendMessage appends a whole MESSAGE with the body in parts.
func appendMessage(b []byte, last bool, body ...[]byte) []byte {
	if last {
		b = append(b, byte(chunkMessage))
	} else {
		n := 0
		for _, p := range body {
			n += len(p)
		}
		b = appendValues(b, chunkMessage|messageLen, uint64(n))
	}
	for _, p := range body {
		b = append(b, p...)
	}
	return b
}
