package reliable

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// Conformance vectors of packets, in docs/vectors, where README.md describes them.
//
//	go test ./docs/vectors ./reliable -run Vectors -update

var update = flag.Bool("update", false, "write the vectors")

const vectorsFile = "../docs/vectors/packets.json"

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(t []byte) (err error) {
	*h, err = hex.DecodeString(string(t))
	return err
}

// vectors is what is in the file.
type vectors struct {
	About   string         `json:"about"`
	Payload []payload      `json:"payloads"`
	Bodies  []bodyVector   `json:"bodies"`
	Packets []packetVector `json:"packets"`
	Rules   rules          `json:"rules"`
}

// A payload is that of a packet, and the chunks in it.
type payload struct {
	Name      string      `json:"name"`
	Bytes     hexBytes    `json:"bytes"`
	Result    string      `json:"result"` // "chunks" or "error"
	Chunks    []chunkJSON `json:"chunks,omitempty"`
	OtherForm bool        `json:"other_form,omitempty"` // not as this module would write it
}

// chunkJSON is a chunk: its name, and its integers and bytes by name.
type chunkJSON struct {
	Chunk  string              `json:"chunk"`
	Values map[string]any      `json:"values,omitempty"`
	Ranges [][2]uint64         `json:"ranges,omitempty"`
	Data   map[string]hexBytes `json:"data,omitempty"`
}

func chunkToJSON(c *chunk) chunkJSON {
	j := chunkJSON{Chunk: c.typ.String(), Values: map[string]any{}, Data: map[string]hexBytes{}}
	set := func(values ...any) {
		for i := 0; i < len(values); i += 2 {
			j.Values[values[i].(string)] = values[i+1]
		}
	}
	switch c.typ {
	case chunkAck:
		set("delay_us", c.value)
		for _, r := range c.ackRanges(nil) {
			j.Ranges = append(j.Ranges, [2]uint64{uint64(r.start), uint64(r.end - 1)})
		}
	case chunkResetStream:
		set("stream", c.id, "code", c.value, "final_size", c.total)
	case chunkStopSending:
		set("stream", c.id, "code", c.value)
	case chunkMaxStreamData, chunkStreamBlocked:
		set("stream", c.id, "credit", c.value)
	case chunkMaxData, chunkMaxStreams, chunkMaxMessages, chunkDataBlocked, chunkMsgBlocked:
		set("credit", c.value)
	case chunkStream:
		set("stream", c.id, "offset", c.offset, "fin", c.fin)
		j.Data["data"] = c.data
	case chunkCrypto:
		set("offset", c.offset)
		j.Data["data"] = c.data
	case chunkPathChallenge, chunkPathResponse:
		j.Data["data"] = c.data
	case chunkMove:
		set("sequence", c.value, "carrier", c.id)
	case chunkClose:
		set("code", c.value)
		j.Data["text"] = c.data
	case chunkMessage:
		j.Data["body"] = c.data
	case chunkFragment:
		set("message", c.id, "total", c.total, "offset", c.offset)
		j.Data["data"] = c.data
	case chunkParity:
		set("message", c.id, "total", c.total, "shards", c.shards, "block", c.block, "index", c.index)
		j.Data["data"] = c.data
	case chunkCancel:
		set("message", c.id, "total", c.total)
		if c.ordered {
			set("channel", c.channel, "sequence", c.sequence)
		}
	}
	return j
}

// decode fills in what the payload holds.
func (p *payload) decode() {
	p.Result, p.Chunks = "chunks", nil
	for b := []byte(p.Bytes); len(b) > 0; {
		var c chunk
		n, err := parseChunk(b, &c)
		if err != nil {
			p.Result, p.Chunks = "error", nil
			return
		}
		p.Chunks = append(p.Chunks, chunkToJSON(&c))
		b = b[n:]
	}
	if len(p.Bytes) == 0 {
		p.Result = "error"
	}
}

// A bodyVector is the body of a message.
type bodyVector struct {
	Name     string        `json:"name"`
	Bytes    hexBytes      `json:"bytes"`
	Result   string        `json:"result"` // "message" or "error"
	Ack      bool          `json:"ack,omitempty"`
	Ordered  bool          `json:"ordered,omitempty"`
	Channel  uint64        `json:"channel,omitempty"`
	Sequence uint64        `json:"sequence,omitempty"`
	Header   [][2]hexBytes `json:"header,omitempty"` // metadata
	Payload  hexBytes      `json:"payload,omitempty"`
}

func (v *bodyVector) decode(t *testing.T) {
	t.Helper()
	_, a := vectorAssocs(true, false)
	in, ordered, ch, seq, err := a.parseBody(slices.Clone([]byte(v.Bytes)))
	*v = bodyVector{Name: v.Name, Bytes: v.Bytes, Result: "error"}
	if err != nil {
		return
	}
	v.Result, v.Ack, v.Ordered, v.Channel, v.Sequence, v.Payload = "message", in.Ack, ordered, ch, seq, in.Payload
	h, err := framing.RawHeader(in.Header).AppendUser(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range h {
		v.Header = append(v.Header, [2]hexBytes{hexBytes(f.Key), hexBytes(f.Value)})
	}
}

// A packetVector is a datagram, and what an end makes of it that has received the
// packets below Next.
type packetVector struct {
	Name     string   `json:"name"`
	Checksum bool     `json:"checksum"` // it was agreed upon
	ID       hexBytes `json:"id"`       // of the receiver
	Next     int64    `json:"next"`
	Bytes    hexBytes `json:"bytes"`
	Result   string   `json:"result"` // "packet" or "dropped"
	Number   int64    `json:"number,omitempty"`
	Payload  hexBytes `json:"payload,omitempty"`
}

func (v *packetVector) open() {
	_, a := vectorAssocs(v.Checksum, false)
	a.acks.next = packetNumber(v.Next)
	pn, b, ok := a.open(v.Bytes)
	*v = packetVector{Name: v.Name, Checksum: v.Checksum, ID: a.c.LocalID[:], Next: v.Next, Bytes: v.Bytes, Result: "dropped"}
	if ok {
		v.Result, v.Number, v.Payload = "packet", int64(pn), b
	}
}

// rules are packets to a server's end, and whether they end the association.
type rules struct {
	Limits  map[string]int64 `json:"limits"` // what the server has granted
	Vectors []ruleVector     `json:"vectors"`
}

type ruleVector struct {
	Name    string     `json:"name"`
	Section string     `json:"section"`
	Service int        `json:"service"`
	Packets []hexBytes `json:"packets"` // from number 0 on
	Result  string     `json:"result"`  // "goes on", "closes" or "closed", the latter by the peer
	Code    uint64     `json:"code,omitempty"`
}

func (v *ruleVector) run(t *testing.T) {
	t.Helper()
	_, a := vectorAssocs(true, v.Service == 0)
	v.Result, v.Code = "goes on", 0
	for _, p := range v.Packets {
		a.Receive(time.Unix(1_800_000_000, 0), p)
	}
	if a.stats.PacketsDropped > 0 {
		t.Errorf("%s: dropped", v.Name)
	}
	var pe *ProtocolError
	switch err := a.Err(); {
	case err == nil:
	case errors.Is(err, ErrPeerClosed):
		v.Result = "closed"
	case errors.As(err, &pe):
		if v.Result = "closes"; pe.Remote {
			v.Result = "closed"
		}
		v.Code = uint64(pe.Code)
	default:
		t.Error(v.Name, err)
	}
}

var vectorLimits = Limits{MaxDatagram: 1472, MaxData: 1000, MaxStreamData: 600, MaxStreams: 3, MaxMessages: 1 << 20, MaxMessage: 2000, AckDelay: 5 * time.Millisecond}

func vectorAssocs(checksum, messagesOnly bool) (client, server *Assoc) {
	c, s := goldenAssocs(checksum)
	cc, sc := c.c, s.c
	for _, cfg := range []*Config{&cc, &sc} {
		cfg.Local, cfg.Peer, cfg.MessagesOnly = vectorLimits, vectorLimits, messagesOnly
	}
	now := time.Unix(1_800_000_000, 0)
	return New(now, &cc), New(now, &sc)
}

func makePayloads(t *testing.T) (ps []payload) {
	add := func(name string, b []byte, want string) {
		t.Helper()
		p := payload{Name: name, Bytes: b}
		if p.decode(); p.Result != want {
			t.Errorf("%s: %s, want %s", name, p.Result, want)
		}
		ps = append(ps, p)
	}
	for _, c := range chunkCases {
		add(c.name, unhex(c.hex), "chunks")
	}
	add("longer varints than needed", unhex("0e c0 00 00 00 00 00 00 04 80 00 00 01 40 02 68 69"), "chunks")
	ps[len(ps)-1].OtherForm = true
	add("several chunks", unhex("01 02 05 41 90 01 01 00 02 10 80 20 00 00 00 00 0a 04 02 68 69 08 00 68"), "chunks")
	add("a length of all that is left", unhex("0a 00 02 68 69"), "chunks")
	for i, p := range slices.Clone(ps[:len(chunkCases)]) {
		b := p.Bytes
		if b[0] == 0 || toTheEnd(b[0]) || len(b) < 2 {
			continue
		}
		add(chunkCases[i].name+", cut off", b[:len(b)-1], "error")
	}
	for _, b := range []byte{0x03, 0x07, 0x17, 0x18, 0x19, 0x1f, 0x22, 0x23, 0x26, 0x27, 0x2a, 0x3f, 0x40, 0x80, 0xff} {
		add(fmt.Sprintf("type %02x", b), append([]byte{b}, make([]byte, 16)...), "error")
	}
	add("nothing", nil, "error")
	add("an unknown type behind a PING", unhex("01 3f"), "error")
	const huge = "ff ff ff ff ff ff ff ff "
	for _, m := range [][2]string{
		{"ACK, first range reaches below 0", "02 05 00 00 06"},
		{"ACK, second range reaches below 0", "02 05 00 01 01 00 03"},
		{"ACK, gap reaches below 0", "02 05 00 01 05 00 00"},
		{"ACK, nothing left below the gap", "02 01 00 01 00 00 00"},
		{"ACK, gap near 2^62", "02 05 00 01 00 " + huge + "00"},
		{"ACK, length near 2^62", "02 " + huge + "00 01 00 00 " + huge},
		{"ACK, 2^62 - 1 ranges claimed", "02 05 00 " + huge + "00"},
		{"ACK, more ranges than there are", "02 3f 00 02 00 00 00"},
		{"STREAM beyond 2^62 - 1", "0e 00 " + huge + "01 68"},
		{"STREAM, length beyond the packet", "0a 00 02 68"},
		{"STREAM, length near 2^62", "0a 00 " + huge + "68"},
		{"MESSAGE, length beyond the packet", "21 02 68"},
		{"FRAGMENT beyond total", "25 07 02 01 02 61 62"},
		{"FRAGMENT beyond total, to the end", "24 07 02 02 61"},
		{"FRAGMENT, offset near 2^62", "25 07 02 " + huge + "01 61"},
		{"FRAGMENT, empty", "25 07 02 01 00"},
		{"FRAGMENT, empty, to the end", "24 07 02 01"},
		{"FRAGMENT, total 0", "25 07 00 00 00"},
		{"CLOSE, text beyond the packet", "1c 00 02 61"},
		{"CANCEL 29 without channel and sequence", "29 07 40 64"},
	} {
		add(m[0], unhex(m[1]), "error")
	}
	return ps
}

func makeBodies(t *testing.T) (vs []bodyVector) {
	add := func(name, h, want string) {
		t.Helper()
		v := bodyVector{Name: name, Bytes: unhex(h)}
		if v.decode(t); v.Result != want {
			t.Errorf("%s: %s, want %s", name, v.Result, want)
		}
		vs = append(vs, v)
	}
	add("no attributes", "00 68 69", "message")
	add("no payload", "00", "message")
	add("acknowledgement", "02 68 69", "message")
	add("ordered", "01 02 05 68 69", "message")
	add("ordered, the largest numbers", "03 43 ff ff ff ff ff ff ff ff ff 68", "message")
	add("header block", "04 08 04 02 6b 69 6e 64 61 31 68 69", "message")
	add("header block, empty", "04 00 68 69", "message")
	add("everything", "07 01 00 07 01 02 61 62 63 00 00 68 69", "message")
	add("a reserved key is ignored", "04 08 01 01 02 00 01 01 6b 76 68", "message")
	add("payload as large as MaxMessage", "00"+strings.Repeat("61", 2000), "message")
	add("payload larger than MaxMessage", "00"+strings.Repeat("61", 2001), "error")
	add("nothing", "", "error")
	for _, bit := range []string{"08", "10", "20", "40", "80"} {
		add("attribute "+bit, bit+" 68", "error")
	}
	add("ordered, without numbers", "01", "error")
	add("ordered, without sequence", "01 02", "error")
	add("ordered, sequence cut off", "01 02 40", "error")
	add("header block beyond the body", "04 08 04 02 6b", "error")
	add("header block that does not add up", "04 03 04 02 6b 68", "error")
	add("no length of the header block", "04", "error")
	return vs
}

func makePackets(t *testing.T) (vs []packetVector) {
	add := func(name string, checksum bool, next int64, b []byte, want string, number int64) {
		t.Helper()
		v := packetVector{Name: name, Checksum: checksum, Next: next, Bytes: b}
		if v.open(); v.Result != want || v.Number != number {
			t.Errorf("%s: %s %d, want %s %d", name, v.Result, v.Number, want, number)
		}
		vs = append(vs, v)
	}
	make := func(checksum bool, pn packetNumber, chunks ...byte) []byte {
		client, _ := vectorAssocs(checksum, false)
		return client.seal(append(client.appendHeader(nil, pn), chunks...), 0, pn)
	}
	ping := make(true, 0, 1)
	bare := make(false, 7, 8, 0, 'h', 'i')
	add("PING, number 0", true, 0, ping, "packet", 0)
	add("without CRC", false, 7, bare, "packet", 7)
	add("a CRC that was not agreed upon is checked", false, 0, ping, "packet", 0)
	add("a wrong CRC that was not agreed upon", false, 0, flipped(ping, 30), "dropped", 0)
	add("no CRC although agreed upon", true, 7, bare, "dropped", 0)
	for _, n := range [][2]int64{{0, 1<<31 - 1}, {1 << 32, 1<<32 + 258}, {1 << 32, 1<<32 - 1}, {1<<32 + 5, 1<<31 + 6}, {1<<33 - 1, 1 << 33}, {1<<62 - 1, 1<<62 - 1}} {
		add(fmt.Sprintf("number %d after %d", n[1], n[0]-1), true, n[0], make(true, packetNumber(n[1]), 1), "packet", n[1])
	}
	add("no chunks: a packet, whose sender breaks a rule", true, 0, make(true, 0), "packet", 0)
	for _, bit := range []byte{0x01, 0x04, 0x10, 0x20, 0x80} {
		add(fmt.Sprintf("flag %02x", bit), true, 0, resealed(ping, 4, 2|bit), "dropped", 0)
	}
	add("another type", true, 0, resealed(ping, 3, 4), "dropped", 0)
	add("VER 2", true, 0, resealed(ping, 2, 2), "dropped", 0)
	add("another connection id", true, 0, resealed(ping, 14, 0), "dropped", 0)
	add("HDR_LEN one larger", true, 0, resealed(ping, 5, 16), "dropped", 0)
	add("PAY_LEN one larger", true, 0, resealed(ping, 10, 2), "dropped", 0)
	add("PAY_LEN one smaller", true, 0, resealed(ping, 10, 0), "dropped", 0)
	add("value of the field shorter", true, 0, resealed(ping, 12, 11), "dropped", 0)
	add("another key", true, 0, resealed(ping, 13, 2), "dropped", 0)
	add("wrong CRC", true, 0, flipped(ping, 30), "dropped", 0)
	add("damaged chunk", true, 0, flipped(ping, 26), "dropped", 0)
	add("cut off", true, 0, ping[:30], "dropped", 0)
	add("a byte behind it", true, 0, append(bytes.Clone(ping), 0), "dropped", 0)
	add("header only", false, 0, make(false, 0)[:25], "dropped", 0)
	add("nothing", true, 0, nil, "dropped", 0)
	return vs
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x20
	return b
}

// resealed changes a byte, and makes the CRC right again.
func resealed(b []byte, at int, to byte) []byte {
	b = bytes.Clone(b[:len(b)-framing.TrailerLen])
	b[at] = to
	return framing.AppendTrailer(b, framing.Checksum(0, b))
}

func makeRules(t *testing.T) (vs []ruleVector) {
	_, server := vectorAssocs(true, false)
	service := 1
	add := func(name, section, want string, code uint64, payloads ...[]byte) {
		t.Helper()
		v := ruleVector{Name: name, Section: section, Service: service}
		for i, p := range payloads {
			v.Packets = append(v.Packets, forge(server, packetNumber(i), p))
		}
		if v.run(t); v.Result != want || v.Code != code {
			t.Errorf("%s: %s %d, want %s %d", name, v.Result, v.Code, want, code)
		}
		vs = append(vs, v)
	}
	good := func(name, section string, payloads ...[]byte) {
		t.Helper()
		add(name, section, "goes on", 0, payloads...)
	}
	bad := func(name, section string, payloads ...[]byte) {
		t.Helper()
		add(name, section, "closes", 1, payloads...)
	}
	data := func(id, from, n uint64, fin bool) []byte {
		return streamChunk(id, from, strings.Repeat("x", int(n)), fin, false)
	}
	frag := func(id uint64, body string) []byte {
		return fragmentChunk(id, uint64(len(body)), 0, body, false)
	}
	bad("no chunk", "7.1", nil)
	bad("a type that is not known", "7.5", []byte{0x3f})
	bad("a type that is not known, behind good chunks", "7.5", []byte{1, 0, 0, 0x3f})
	bad("a chunk that does not decode", "7.5", []byte{0x10})
	bad("CRYPTO, in an association that is not sealed", "7.5", cryptoChunk(0, "x"))
	bad("HANDSHAKE_DONE, in an association that is not sealed", "7.5", []byte{0x1e})
	bad("ACK of a packet that was never sent", "7.6", appendAck(nil, []pnRange{{1000, 1001}}, 0, 100))
	good("BLOCKED chunks are hints", "7.5", joined(appendValues(nil, chunkDataBlocked, 0), appendValues(nil, chunkStreamBlocked, 0, 0), appendValues(nil, chunkMsgBlocked, 0)))
	good("path chunks", "7.5", joined([]byte{0x1a}, make([]byte, 8), []byte{0x1b}, make([]byte, 8)))
	good("credits that get smaller mean nothing", "7.7", joined(appendValues(nil, chunkMaxData, 0), appendValues(nil, chunkMaxStreamData, 0, 0), appendValues(nil, chunkMaxStreams, 0), appendValues(nil, chunkMaxMessages, 0)))

	good("as much as the credit of a stream", "7.7", data(0, 0, 600, false))
	bad("more than the credit of a stream", "7.7", data(0, 0, 601, false))
	bad("one byte beyond the credit of a stream, the rest is missing", "7.7", data(0, 600, 1, false))
	good("as much as the credit for all streams", "7.7", data(0, 0, 600, false), data(2, 0, 400, false))
	bad("more than the credit for all streams", "7.7", data(0, 0, 600, false), data(2, 0, 401, false))
	good("repetitions do not count", "7.7", data(0, 0, 600, false), data(0, 0, 600, false), data(2, 0, 400, false), data(2, 100, 300, false))
	good("the last stream that may be opened", "7.7", data(4, 0, 1, false))
	bad("one stream too many", "7.7", data(6, 0, 1, false))
	bad("one stream too many, by RESET_STREAM", "7.7", appendValues(nil, chunkResetStream, 6, 0, 0))
	bad("a stream that the server has to open", "7.7", data(1, 0, 1, false))
	bad("MAX_STREAM_DATA for a stream that the server has to open", "7.7", appendValues(nil, chunkMaxStreamData, 1, 10))
	bad("STOP_SENDING for a stream that the server has to open", "7.7", appendValues(nil, chunkStopSending, 1, 10))
	good("FIN, again", "7.7", data(0, 0, 10, true), data(0, 5, 5, true))
	good("FIN before what it ends", "7.7", data(0, 10, 0, true), data(0, 0, 10, false))
	bad("data behind FIN", "7.7", data(0, 0, 10, true), data(0, 10, 1, false))
	bad("FIN elsewhere", "7.7", data(0, 0, 10, true), data(0, 0, 9, true))
	bad("FIN below what was sent", "7.7", data(0, 0, 10, false), data(0, 0, 9, true))
	good("RESET_STREAM", "7.7", data(0, 0, 10, false), appendValues(nil, chunkResetStream, 0, 7, 20))
	bad("RESET_STREAM below what was sent", "7.7", data(0, 0, 10, false), appendValues(nil, chunkResetStream, 0, 7, 9))
	bad("RESET_STREAM counts against the credit", "7.7", appendValues(nil, chunkResetStream, 0, 7, 601))
	bad("RESET_STREAM changes the final size", "7.7", data(0, 0, 10, true), appendValues(nil, chunkResetStream, 0, 7, 11))

	good("MESSAGE", "7.8", appendMessage(nil, true, []byte("\x00hi")))
	bad("MESSAGE without a body", "7.8", appendMessage(nil, true))
	bad("MESSAGE with an attribute that is not known", "7.8", appendMessage(nil, true, []byte("\x08hi")))
	bad("MESSAGE that is ordered", "7.8", appendMessage(nil, true, []byte("\x01\x00\x00hi")))
	bad("MESSAGE that wants an acknowledgement", "7.8", appendMessage(nil, true, []byte("\x02hi")))
	bad("MESSAGE with a header block that does not add up", "7.8", appendMessage(nil, true, []byte("\x04\x03\x04\x02khi")))
	good("a message in one fragment", "7.8", frag(0, "\x02hi"))
	good("fragments in any order, again, and cut differently", "7.8", fragmentChunk(0, 5, 3, "lo", true), fragmentChunk(0, 5, 1, "hel", true), fragmentChunk(0, 5, 0, "\x00h", true), fragmentChunk(0, 5, 0, "\x00hel", true))
	bad("a total that changes", "7.8", fragmentChunk(0, 5, 3, "lo", true), fragmentChunk(0, 6, 1, "hel", true))
	bad("a total that changes, by CANCEL", "7.8", fragmentChunk(0, 5, 3, "lo", true), appendCancel(nil, 0, 6, false, 0, 0))
	good("the largest total", "7.8", fragmentChunk(0, 2000+131072, 9, "x", true))
	add("a total that is too large", "7.8", "closes", 3, fragmentChunk(0, 2000+131072+1, 9, "x", true))
	bad("a whole message with too large a payload", "7.8", fragmentChunk(0, 2002, 0, "\x00"+strings.Repeat("x", 1000), true), fragmentChunk(0, 2002, 1001, strings.Repeat("x", 1001), true))
	bad("a whole message with an attribute that is not known", "7.8", frag(0, "\x08hi"))
	bad("a charge beyond the credit", "7.8", slices.Concat(claim(0, 8, 130000), claim(8, 1, 6273)))
	good("as much as the credit", "7.8", slices.Concat(claim(0, 8, 130000), claim(8, 1, 6272)))
	bad("a channel of 1,024", "7.8", frag(0, "\x01\x44\x00\x00hi"))
	good("a channel of 1,023", "7.8", frag(0, "\x01\x43\xff\x00hi"))
	good("order: 1 before 0", "7.8", frag(0, "\x01\x00\x01b"), frag(1, "\x01\x00\x00a"))
	bad("two messages in one place", "7.8", frag(0, "\x01\x00\x01b"), frag(1, "\x01\x00\x01a"))
	bad("two messages in one place that is over", "7.8", frag(0, "\x01\x00\x00b"), frag(1, "\x01\x00\x00a"))
	bad("a message in the place of a cancelled one", "7.8", appendCancel(nil, 0, 5, true, 0, 1), frag(1, "\x01\x00\x01a"))
	good("CANCEL of a message of which nothing came, again", "7.8", appendCancel(nil, 0, 5, false, 0, 0), appendCancel(nil, 0, 5, false, 0, 0))
	good("fragments behind CANCEL are ignored", "7.8", appendCancel(nil, 0, 5, false, 0, 0), fragmentChunk(0, 5, 3, "lo", true))
	bad("CANCEL with a channel of 1,024", "7.8", appendCancel(nil, 0, 5, true, 1024, 0))

	add("CLOSE", "7.10", "closed", 0, appendClose(nil, 0, ""))
	add("CLOSE with a code and text", "7.10", "closed", 260, appendClose(nil, 260, "größer"))
	add("CLOSE with a text that is not UTF-8", "7.10", "closed", 1, appendClose(nil, 1, "\xff"))
	add("what is behind CLOSE is not looked at", "7.10", "closed", 260, append(appendClose(nil, 260, ""), 0x3f))

	service = 0
	good("STREAM 0 is ignored where there are no streams", "7.7", data(0, 0, 2000, true))
	return vs
}

// claim begins n messages with that total.
func claim(id uint64, n int, total uint64) (b []byte) {
	for range n {
		b = append(b, fragmentChunk(id, total, total-1, "x", false)...)
		id++
	}
	return b
}

func TestVectors(t *testing.T) {
	made := vectors{
		About: "Packets of the datagram profile, PROTOCOL 7.1 to 7.10. Described in README.md.", Payload: makePayloads(t), Bodies: makeBodies(t), Packets: makePackets(t),
		Rules: rules{Limits: map[string]int64{"max_data": vectorLimits.MaxData, "max_stream_data": vectorLimits.MaxStreamData, "max_streams": vectorLimits.MaxStreams,
			"max_messages": vectorLimits.MaxMessages, "max_message": vectorLimits.MaxMessage}, Vectors: makeRules(t)},
	}
	want := made.bytes(t)
	if *update {
		if err := os.WriteFile(vectorsFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what the code makes", vectorsFile)
	}
	var file vectors
	d := json.NewDecoder(bytes.NewReader(have))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	// Once more, from nothing but what is in the file.
	for i := range file.Payload {
		file.Payload[i].decode()
	}
	for i := range file.Bodies {
		file.Bodies[i].decode(t)
	}
	for i := range file.Packets {
		file.Packets[i].open()
	}
	for i := range file.Rules.Vectors {
		file.Rules.Vectors[i].run(t)
	}
	if !bytes.Equal(file.bytes(t), have) {
		t.Error("the vectors do not say all")
	}
}

// bytes is the file, with one vector a line.
func (v *vectors) bytes(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	one := func(v any) {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		b.Truncate(b.Len() - 1)
	}
	b.WriteString("{\n\"about\": ")
	one(v.About)
	array(&b, "payloads", v.Payload, one)
	array(&b, "bodies", v.Bodies, one)
	array(&b, "packets", v.Packets, one)
	b.WriteString(",\n\"rules\": {\n\"limits\": ")
	one(v.Rules.Limits)
	array(&b, "vectors", v.Rules.Vectors, one)
	b.WriteString("\n}\n}\n")
	return b.Bytes()
}

func array[T any](b *bytes.Buffer, name string, list []T, one func(any)) {
	fmt.Fprintf(b, ",\n%q: [", name)
	for i, v := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		one(v)
	}
	b.WriteString("\n]")
}
