package reliable

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

const maxVar = framing.MaxVarint

// A chunkCase is one chunk, its bytes, and what makes them.
type chunkCase struct {
	name  string
	hex   string // spaces mean nothing
	want  chunk
	bytes []byte // by the code; nil where there is no maker
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// streamChunk is a STREAM as the association makes it.
func streamChunk(id, offset uint64, data string, fin, last bool) []byte {
	return append(appendStreamHead(nil, id, offset, len(data), fin, last), data...)
}

func fragmentChunk(id, total, offset uint64, data string, last bool) []byte {
	return append(appendFragmentHead(nil, id, total, offset, len(data), last), data...)
}

var chunkCases = []chunkCase{
	{"padding", "00", chunk{typ: chunkPadding}, nil},
	{"a run of padding", "00 00 00 00", chunk{typ: chunkPadding}, nil},
	{"ping", "01", chunk{typ: chunkPing}, appendValues(nil, chunkPing)},

	{"ack of packet 0", "02 00 00 00 00", chunk{typ: chunkAck, data: []byte{0}},
		appendAck(nil, []pnRange{{0, 1}}, 0, 100)},
	{"ack of one range", "02 41 00 19 00 3f", chunk{typ: chunkAck, largest: 256, value: 25, data: []byte{0x3f}},
		appendAck(nil, []pnRange{{193, 257}}, 25, 100)},
	{"ack of three ranges", "02 0a 40 64 02 01 00 02 01 00",
		chunk{typ: chunkAck, largest: 10, value: 100, ranges: 2, data: []byte{1, 0, 2, 1, 0}},
		appendAck(nil, []pnRange{{2, 3}, {5, 8}, {9, 11}}, 100, 100)},
	{"ack of the largest numbers", "02 ff ff ff ff ff ff ff ff 00 01 00 00 ff ff ff ff ff ff ff fd",
		chunk{typ: chunkAck, largest: maxVar, ranges: 1, data: unhex("00 00 ff ff ff ff ff ff ff fd")},
		appendAck(nil, []pnRange{{0, maxVar - 1}, {maxVar, maxVar + 1}}, 0, 100)},

	{"reset stream", "04 04 07 40 64", chunk{typ: chunkResetStream, id: 4, value: 7, total: 100},
		appendValues(nil, chunkResetStream, 4, 7, 100)},
	{"stop sending", "05 04 41 01", chunk{typ: chunkStopSending, id: 4, value: 257}, appendValues(nil, chunkStopSending, 4, 257)},

	{"crypto", "06 44 00 02 68 69", chunk{typ: chunkCrypto, offset: 1024, data: []byte("hi")}, append(appendValues(nil, chunkCrypto, 1024, 2), "hi"...)},
	{"crypto without data", "06 00 00", chunk{typ: chunkCrypto, data: []byte{}}, appendValues(nil, chunkCrypto, 0, 0)},
	{"crypto to the last byte there can be", "06 ff ff ff ff ff ff ff fe 01 68",
		chunk{typ: chunkCrypto, offset: maxVar - 1, data: []byte("h")}, append(appendValues(nil, chunkCrypto, maxVar-1, 1), 'h')},
	{"move", "1d 05 01", chunk{typ: chunkMove, value: 5, id: 1}, appendValues(nil, chunkMove, 5, 1)},
	{"handshake done", "1e", chunk{typ: chunkHandshakeDone}, appendValues(nil, chunkHandshakeDone)},

	{"stream to the end", "08 00 68 69", chunk{typ: chunkStream, data: []byte("hi")}, streamChunk(0, 0, "hi", false, true)},
	{"stream, fin", "09 00", chunk{typ: chunkStream, data: []byte{}, fin: true}, streamChunk(0, 0, "", true, true)},
	{"stream, length", "0a 04 02 68 69", chunk{typ: chunkStream, id: 4, data: []byte("hi")}, streamChunk(4, 0, "hi", false, false)},
	{"stream, length, fin", "0b 04 00", chunk{typ: chunkStream, id: 4, data: []byte{}, fin: true}, streamChunk(4, 0, "", true, false)},
	{"stream, offset", "0c 00 44 00 68", chunk{typ: chunkStream, offset: 1024, data: []byte("h")}, streamChunk(0, 1024, "h", false, true)},
	{"stream, offset, fin", "0d 00 44 00 68", chunk{typ: chunkStream, offset: 1024, data: []byte("h"), fin: true}, streamChunk(0, 1024, "h", true, true)},
	{"stream, offset, length", "0e 00 01 01 68", chunk{typ: chunkStream, offset: 1, data: []byte("h")}, streamChunk(0, 1, "h", false, false)},
	{"stream, all", "0f 03 01 01 68", chunk{typ: chunkStream, id: 3, offset: 1, data: []byte("h"), fin: true}, streamChunk(3, 1, "h", true, false)},
	{"stream to the last byte there can be", "0e 00 ff ff ff ff ff ff ff fe 01 68",
		chunk{typ: chunkStream, offset: maxVar - 1, data: []byte("h")}, streamChunk(0, maxVar-1, "h", false, false)},

	{"max data", "10 80 10 00 00", chunk{typ: chunkMaxData, value: 1 << 20}, appendValues(nil, chunkMaxData, 1<<20)},
	{"max stream data", "11 02 80 10 00 00", chunk{typ: chunkMaxStreamData, id: 2, value: 1 << 20}, appendValues(nil, chunkMaxStreamData, 2, 1<<20)},
	{"max streams", "12 40 40", chunk{typ: chunkMaxStreams, value: 64}, appendValues(nil, chunkMaxStreams, 64)},
	{"max messages", "13 3f", chunk{typ: chunkMaxMessages, value: 63}, appendValues(nil, chunkMaxMessages, 63)},
	{"data blocked", "14 00", chunk{typ: chunkDataBlocked}, appendValues(nil, chunkDataBlocked, 0)},
	{"stream blocked", "15 01 02", chunk{typ: chunkStreamBlocked, id: 1, value: 2}, appendValues(nil, chunkStreamBlocked, 1, 2)},
	{"messages blocked", "16 02", chunk{typ: chunkMsgBlocked, value: 2}, appendValues(nil, chunkMsgBlocked, 2)},

	{"path challenge", "1a 01 02 03 04 05 06 07 08", chunk{typ: chunkPathChallenge, data: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, nil},
	{"path response", "1b 01 02 03 04 05 06 07 08", chunk{typ: chunkPathResponse, data: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, nil},
	{"close", "1c 00 00", chunk{typ: chunkClose, data: []byte{}}, appendClose(nil, 0, "")},
	{"close with a reason", "1c 41 04 03 62 61 64", chunk{typ: chunkClose, value: 260, data: []byte("bad")}, appendClose(nil, 260, "bad")},

	{"message to the end", "20 00 68 69", chunk{typ: chunkMessage, data: []byte("\x00hi")}, appendMessage(nil, true, []byte{0}, []byte("hi"))},
	{"message, length", "21 03 00 68 69", chunk{typ: chunkMessage, data: []byte("\x00hi")}, appendMessage(nil, false, []byte{0}, []byte("hi"))},
	{"empty message", "21 00", chunk{typ: chunkMessage, data: []byte{}}, appendMessage(nil, false)},
	{"fragment to the end", "24 07 80 01 11 70 44 00 61", chunk{typ: chunkFragment, id: 7, total: 70000, offset: 1024, data: []byte("a")},
		fragmentChunk(7, 70000, 1024, "a", true)},
	{"fragment, length", "25 07 02 01 01 61", chunk{typ: chunkFragment, id: 7, total: 2, offset: 1, data: []byte("a")},
		fragmentChunk(7, 2, 1, "a", false)},
	{"parity to the end", "2c 07 80 01 11 70 20 02 01 61", chunk{typ: chunkParity, id: 7, total: 70000, shards: 32, block: 2, index: 1, data: []byte("a")}, nil},
	{"parity, length", "2d 07 44 00 05 00 3f 02 61 62", chunk{typ: chunkParity, id: 7, total: 1024, shards: 5, index: 63, data: []byte("ab")},
		append(appendParityHead(nil, 7, 1024, 5, 0, 63, 2), "ab"...)},
	{"cancel", "28 07 40 64", chunk{typ: chunkCancel, id: 7, total: 100}, appendCancel(nil, 7, 100, false, 1, 2)},
	{"cancel with a place in line", "29 07 40 64 01 02", chunk{typ: chunkCancel, id: 7, total: 100, ordered: true, channel: 1, sequence: 2},
		appendCancel(nil, 7, 100, true, 1, 2)},
}

// toTheEnd reports whether the chunk has no length, so that it takes what follows.
func toTheEnd(t byte) bool {
	return t >= 0x08 && t <= 0x0f && t&streamLen == 0 || t == 0x20 || t == 0x24 || t == 0x2c
}

// TestChunkBytes: the formats of PROTOCOL §7.5, both ways.
func TestChunkBytes(t *testing.T) {
	for _, tt := range chunkCases {
		want := unhex(tt.hex)
		if tt.bytes != nil && !bytes.Equal(tt.bytes, want) {
			t.Errorf("%s: made %x, want %x", tt.name, tt.bytes, want)
		}
		// Whatever follows is not looked at, unless the chunk has no length.
		for _, rest := range []string{"", "\x01", "\xff\xff"} {
			if rest != "" && (toTheEnd(want[0]) || want[0] == 0 && rest[0] == 0) {
				continue
			}
			c := chunk{id: 99, data: []byte("old")}
			n, err := parseChunk(append(slices.Clone(want), rest...), &c)
			if err != nil || n != len(want) || !reflect.DeepEqual(c, tt.want) {
				t.Errorf("%s: %d, %v, %+v\nwant %d, %+v", tt.name, n, err, c, len(want), tt.want)
			}
		}
		// Every prefix is an error, or a shorter chunk that has no length.
		for i := 1; i < len(want); i++ {
			var c chunk
			if n, err := parseChunk(want[:i], &c); (err == nil) != (toTheEnd(want[0]) && prefixOK(tt, i) || want[0] == 0) || err == nil && n != i {
				t.Errorf("%s, first %d bytes: %d, %v", tt.name, i, n, err)
			}
		}
	}
}

// prefixOK reports whether only data is missing of the first i bytes.
func prefixOK(tt chunkCase, i int) bool {
	head := len(strings.ReplaceAll(tt.hex, " ", ""))/2 - len(tt.want.data)
	if tt.want.typ == chunkFragment || tt.want.typ == chunkParity {
		head++ // one byte of data must be there
	}
	return i >= head
}

// TestChunkTypes: "a type that is not in the table is an error", §7.5.
func TestChunkTypes(t *testing.T) {
	known := map[chunkType]bool{}
	for _, tt := range chunkCases {
		known[chunkType(unhex(tt.hex)[0])] = true
	}
	for i := range 256 {
		var c chunk
		_, err := parseChunk(append([]byte{byte(i)}, make([]byte, 64)...), &c)
		if !known[chunkType(i)] && err == nil {
			t.Errorf("%#x is parsed as %v", i, c.typ)
		}
		if name := chunkType(i).String(); known[chunkType(i)] == strings.HasPrefix(name, "chunkType(") {
			t.Errorf("%#x is called %s", i, name)
		}
	}
}

// TestChunkMalformed: sizes and numbers that a peer may claim (traps R3, F3).
func TestChunkMalformed(t *testing.T) {
	const huge = "ff ff ff ff ff ff ff ff "
	for name, s := range map[string]string{
		"ack: first range reaches below 0":             "02 05 00 00 06",
		"ack: first range reaches far below 0":         "02 05 00 00 " + huge,
		"ack: second range reaches below 0":            "02 05 00 01 01 00 03",
		"ack: gap reaches below 0":                     "02 05 00 01 05 00 00",
		"ack: gap of exactly 0 left":                   "02 01 00 01 00 00 00",
		"ack: gap near 2^62":                           "02 05 00 01 00 " + huge + "00",
		"ack: length near 2^62":                        "02 " + huge + "00 01 00 00 " + huge,
		"ack: gap and length near 2^62":                "02 " + huge + "00 01 00 " + huge + huge,
		"ack: 2^32 pairs claimed":                      "02 05 00 c0 00 00 01 00 00 00 00 00",
		"ack: 2^62 - 1 pairs claimed":                  "02 05 00 " + huge + "00",
		"ack: more pairs than there are":               "02 3f 00 02 00 00 00",
		"stream: beyond the last byte":                 "0e 00 " + huge + "01 68",
		"stream: length beyond the packet":             "0a 00 02 68",
		"stream: length near 2^62":                     "0a 00 " + huge + "68",
		"message: length beyond the packet":            "21 02 68",
		"fragment: beyond total":                       "25 07 02 01 02 61 62",
		"fragment: beyond total, to the end":           "24 07 02 02 61",
		"fragment: offset near 2^62":                   "25 07 02 " + huge + "01 61",
		"fragment: empty":                              "25 07 02 01 00",
		"fragment: total 0":                            "25 07 00 00 00",
		"close: reason beyond the packet":              "1c 00 02 61",
		"path challenge of seven bytes":                "1a 01 02 03 04 05 06 07",
		"cancel with a place in line, without the two": "29 07 40 64",
	} {
		var c chunk
		if n, err := parseChunk(unhex(s), &c); err != errChunk || n != 0 {
			t.Errorf("%s: %d, %v, %+v", name, n, err, c)
		}
	}
}

// TestChunkLongVarints: "receivers MUST accept longer ones", PROTOCOL §1.
func TestChunkLongVarints(t *testing.T) {
	var c chunk
	n, err := parseChunk(unhex("0e c0 00 00 00 00 00 00 04 80 00 00 01 40 02 68 69"), &c)
	if err != nil || n != 17 || c.id != 4 || c.offset != 1 || string(c.data) != "hi" {
		t.Fatalf("%d, %v, %+v", n, err, c)
	}
}

// TestAckRoundTrip: random sets of ranges, and what fits of them.
func TestAckRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		var rs []pnRange
		at := packetNumber(rng.Int64N(1 << rng.IntN(56)))
		for range 1 + rng.IntN(maxAckRanges+20) {
			start := at + 1 + packetNumber(rng.Int64N(1<<rng.IntN(30)))
			end := start + 1 + packetNumber(rng.Int64N(1<<rng.IntN(30)))
			rs = append(rs, pnRange{start, end})
			at = end
		}
		room := rng.IntN(1500)
		delay := uint64(rng.Int64N(1 << rng.IntN(62)))
		b := appendAck([]byte("kept"), rs, delay, room)[4:]
		if len(b) > room {
			t.Fatalf("%d bytes in room for %d", len(b), room)
		}
		if len(b) == 0 {
			if room >= ackLen(1) {
				t.Fatalf("nothing fits into %d", room)
			}
			continue
		}
		var c chunk
		n, err := parseChunk(append(b, 0xff), &c)
		if err != nil || n != len(b) || c.value != delay || c.ranges > maxAckRanges {
			t.Fatalf("%x: %d, %v, %+v", b, n, err, c)
		}
		got := c.ackRanges(nil)
		slices.Reverse(got)
		if len(got) != int(c.ranges)+1 || !slices.Equal(got, rs[len(rs)-len(got):]) {
			t.Fatalf("%v\nbecomes %v", rs, got)
		}
		if left := room - len(b); len(got) < len(rs) && len(got) <= maxAckRanges && left >= 2*framing.MaxVarintLen {
			t.Fatalf("%d of %d ranges, and %d bytes are left", len(got), len(rs), left)
		}
		if len(b) > ackLen(len(got)) {
			t.Fatalf("%d bytes for %d ranges", len(b), len(got))
		}
	}
}

// TestDataFit: what is said to fit does, with the chunk's head and length, and a
// chunk without a length really ends the packet.
func TestDataFit(t *testing.T) {
	for _, head := range []int{2, 3, 10, 25} {
		for room := head + 1; room < 400; room++ {
			for n := range 420 {
				fit, last := dataFit(room, head, n)
				used := head + fit
				if !last {
					used += framing.VarintLen(uint64(fit))
				}
				switch {
				case fit < 0 || fit > n || used > room:
					t.Fatalf("dataFit(%d, %d, %d) = %d, %v: takes %d", room, head, n, fit, last, used)
				case fit < n && used != room:
					t.Fatalf("dataFit(%d, %d, %d) = %d, %v: leaves %d", room, head, n, fit, last, room-used)
				case fit < n && !last:
					t.Fatalf("dataFit(%d, %d, %d) = %d, %v: the rest has no room here", room, head, n, fit, last)
				case last && fit == n && room-used > framing.VarintLen(uint64(n)):
					t.Fatalf("dataFit(%d, %d, %d) = %d, %v: wastes %d", room, head, n, fit, last, room-used)
				}
			}
		}
	}
	// Without room for the head nothing fits.
	for room := range 5 {
		if fit, last := dataFit(room, 5, 10); fit != 0 || !last {
			t.Fatalf("dataFit(%d, 5, 10) = %d, %v", room, fit, last)
		}
	}
}

// TestHeadLengths: what is planned with is what is written.
func TestHeadLengths(t *testing.T) {
	values := []uint64{0, 1, 63, 64, 16383, 16384, 1<<30 - 1, 1 << 30, maxVar}
	for _, id := range values {
		for _, offset := range values {
			if got, want := len(appendStreamHead(nil, id, offset, 9, true, true)), streamHead(id, offset); got != want {
				t.Errorf("STREAM %d at %d: %d bytes, planned %d", id, offset, got, want)
			}
			if got, want := len(appendStreamHead(nil, id, offset, 100, false, false)), streamHead(id, offset)+2; got != want {
				t.Errorf("STREAM %d at %d: %d bytes, planned %d", id, offset, got, want)
			}
			for _, total := range values {
				if got, want := len(appendFragmentHead(nil, id, total, offset, 9, true)), fragmentHead(id, total, offset); got != want {
					t.Errorf("FRAGMENT %d at %d: %d bytes, planned %d", id, offset, got, want)
				}
			}
		}
	}
}

// TestChunkAllocs: no chunk costs memory to read or to make.
func TestChunkAllocs(t *testing.T) {
	var packets [][]byte
	for _, tt := range chunkCases {
		packets = append(packets, unhex(tt.hex))
	}
	rs := []pnRange{{2, 3}, {5, 8}, {9, 11}}
	back := make([]pnRange, 0, 8)
	buf := make([]byte, 0, 1500)
	body := [][]byte{{0}, []byte("hello")}
	var c chunk
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range packets {
			if _, err := parseChunk(p, &c); err != nil {
				t.Fatal(err)
			}
			if c.typ == chunkAck {
				back = c.ackRanges(back[:0])
			}
		}
		b := appendAck(buf, rs, 100, 100)
		b = appendStreamHead(b, 4, 1024, 100, false, false)
		b = appendFragmentHead(b, 4, 1<<20, 1024, 100, false)
		b = appendMessage(b, false, body...)
		b = appendCancel(b, 1, 2, true, 3, 4)
		_ = appendClose(b, 1, "reason")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// encode makes the bytes of a parsed chunk again, with a length where there may be one.
func encode(c *chunk) []byte {
	switch c.typ {
	case chunkPadding:
		return []byte{0}
	case chunkAck:
		rs := c.ackRanges(nil)
		slices.Reverse(rs)
		return appendAck(nil, rs, c.value, 1<<20)
	case chunkResetStream:
		return appendValues(nil, c.typ, c.id, c.value, c.total)
	case chunkStopSending, chunkMaxStreamData, chunkStreamBlocked:
		return appendValues(nil, c.typ, c.id, c.value)
	case chunkStream:
		return streamChunk(c.id, c.offset, string(c.data), c.fin, false)
	case chunkPathChallenge, chunkPathResponse:
		return append([]byte{byte(c.typ)}, c.data...)
	case chunkClose:
		return appendClose(nil, c.value, string(c.data))
	case chunkMessage:
		return appendMessage(nil, false, c.data)
	case chunkFragment:
		return fragmentChunk(c.id, c.total, c.offset, string(c.data), false)
	case chunkParity:
		return append(appendParityHead(nil, c.id, c.total, c.shards, c.block, c.index, len(c.data)), c.data...)
	case chunkCancel:
		return appendCancel(nil, c.id, c.total, c.ordered, c.channel, c.sequence)
	case chunkCrypto:
		return append(appendValues(nil, c.typ, c.offset, uint64(len(c.data))), c.data...)
	case chunkMove:
		return appendValues(nil, c.typ, c.value, c.id)
	case chunkPing, chunkHandshakeDone:
		return appendValues(nil, c.typ)
	}
	return appendValues(nil, c.typ, c.value)
}

// FuzzChunk: whatever comes, parsing goes on by at least one byte or fails; an ACK
// has rising, disjoint ranges within what a packet number can be; and what was
// parsed is the same again after it was made and parsed once more (trap S5).
func FuzzChunk(f *testing.F) {
	var all []byte
	for _, tt := range chunkCases {
		b := unhex(tt.hex)
		f.Add(b)
		if !toTheEnd(b[0]) {
			all = append(all, b...)
		}
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			var c, again chunk
			n, err := parseChunk(b, &c)
			if err != nil {
				return
			}
			if n < 1 || n > len(b) {
				t.Fatalf("%d of %d bytes", n, len(b))
			}
			if c.typ == chunkAck {
				checkAck(t, &c, n)
			}
			if len(c.data) > n || cap(c.data) > len(c.data) && c.typ != chunkAck {
				t.Fatalf("data of %d, capacity %d, chunk of %d", len(c.data), cap(c.data), n)
			}
			b = b[n:]
			if c.typ == chunkAck && c.ranges > maxAckRanges {
				continue // not made like this
			}
			e := encode(&c)
			m, err := parseChunk(e, &again)
			if err != nil || m != len(e) {
				t.Fatalf("%+v becomes %x: %d, %v", c, e, m, err)
			}
			if c.typ == chunkAck { // varints may have got shorter
				c.data, again.data = nil, nil
			}
			if len(c.data) == 0 && len(again.data) == 0 {
				c.data, again.data = nil, nil
			}
			if !reflect.DeepEqual(c, again) {
				t.Fatalf("%+v\nbecomes %+v", c, again)
			}
		}
	})
}

func checkAck(t *testing.T, c *chunk, n int) {
	rs := c.ackRanges(nil)
	if len(rs) != int(c.ranges)+1 || len(rs) > n {
		t.Fatalf("%d ranges in %d bytes, %d announced", len(rs), n, c.ranges)
	}
	end := packetNumber(c.largest) + 1
	if rs[0].end != end {
		t.Fatalf("%v do not begin at %d", rs, c.largest)
	}
	for i, r := range rs {
		if r.start < 0 || r.start >= r.end || i > 0 && r.end >= rs[i-1].start {
			t.Fatalf("%v", rs)
		}
	}
}
