package reliable

import (
	"encoding/hex"
	"strconv"
)

// Bounds on what AppendChunksText shows, so that its output is not much longer than a
// packet, whatever is in it.
const (
	maxTextChunks = 256
	maxTextRanges = 32
	maxTextData   = 32 // bytes
)

// AppendChunksText appends the chunks of a packet, as they are in its payload, to b: a
// line for each, for people to read. What a peer may have chosen is quoted or in
// hexadecimal, so it is safe for a terminal. What does not decode is said, and ends
// it. The form may change.
func AppendChunksText(b, chunks []byte) []byte {
	var c chunk
	for i := 0; len(chunks) > 0; i++ {
		if i == maxTextChunks {
			b = append(b, "  ... and "...)
			b = strconv.AppendInt(b, int64(len(chunks)), 10)
			return append(b, " bytes more\n"...)
		}
		n, err := parseChunk(chunks, &c)
		if err != nil {
			b = append(b, "  malformed chunk: "...)
			b = appendDataText(b, chunks)
			return append(b, '\n')
		}
		b = append(b, "  "...)
		b = c.appendText(b, n)
		b = append(b, '\n')
		chunks = chunks[n:]
	}
	return b
}

// appendText appends c, which has n bytes on the wire, as a line without its end.
func (c *chunk) appendText(b []byte, n int) []byte {
	num := func(name string, v uint64) {
		b = append(b, ' ')
		b = append(b, name...)
		b = append(b, '=')
		b = strconv.AppendUint(b, v, 10)
	}
	data := func() {
		num("length", uint64(len(c.data)))
		if len(c.data) > 0 {
			b = append(b, ' ')
			b = appendDataText(b, c.data)
		}
	}
	b = append(b, c.typ.String()...)
	switch c.typ {
	case chunkPadding:
		num("length", uint64(n))
	case chunkAck:
		num("delay", c.value)
		b = append(b, "us"...)
		b = c.appendRangesText(b)
	case chunkResetStream:
		num("stream", c.id)
		num("code", c.value)
		num("final-size", c.total)
	case chunkStopSending:
		num("stream", c.id)
		num("code", c.value)
	case chunkMaxStreamData, chunkStreamBlocked:
		num("stream", c.id)
		num("credit", c.value)
	case chunkStream:
		num("stream", c.id)
		num("offset", c.offset)
		if c.fin {
			b = append(b, " fin"...)
		}
		data()
	case chunkCrypto:
		num("offset", c.offset)
		data()
	case chunkMaxData, chunkMaxStreams, chunkMaxMessages, chunkDataBlocked, chunkMsgBlocked:
		num("credit", c.value)
	case chunkMove:
		num("sequence", c.value)
		b = append(b, " carrier="...)
		if c.id < uint64(carriers) {
			b = append(b, Carrier(c.id).String()...)
		} else {
			b = strconv.AppendUint(b, c.id, 10)
		}
	case chunkClose:
		num("code", c.value)
		data()
	case chunkPathChallenge, chunkPathResponse, chunkMessage:
		data()
	case chunkFragment:
		num("message", c.id)
		num("total", c.total)
		num("offset", c.offset)
		data()
	case chunkParity:
		num("message", c.id)
		num("total", c.total)
		num("shards", c.shards)
		num("block", c.block)
		num("index", c.index)
		data()
	case chunkCancel:
		num("message", c.id)
		num("total", c.total)
		if c.ordered {
			num("channel", c.channel)
			num("sequence", c.sequence)
		}
	}
	return b
}

// appendRangesText appends the packet numbers that an ACK has, largest first.
func (c *chunk) appendRangesText(b []byte) []byte {
	r := chunkReader{b: c.data, ok: true}
	high := c.largest
	low := high - r.varint()
	for i := uint64(0); ; i++ {
		b = append(b, ' ')
		if low != high {
			b = strconv.AppendUint(b, low, 10)
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, high, 10)
		switch {
		case i == c.ranges:
			return b
		case i+1 == maxTextRanges:
			b = append(b, " and "...)
			b = strconv.AppendUint(b, c.ranges-i, 10)
			return append(b, " more"...)
		}
		high = low - r.varint() - 2
		low = high - r.varint()
	}
}

// appendDataText appends the first bytes of p, quoted if they are printable ASCII.
func appendDataText(b, p []byte) []byte {
	start := p[:min(len(p), maxTextData)]
	printable := true
	for _, c := range start {
		printable = printable && c >= 0x20 && c < 0x7f
	}
	if printable {
		b = strconv.AppendQuote(b, string(start))
	} else {
		b = hex.AppendEncode(b, start)
	}
	if len(p) > len(start) {
		b = append(b, "..."...)
	}
	return b
}
