package vectors

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/crate"
)

// sendVector is a message, and the datagrams that it is sent in.
type sendVector struct {
	Name      string     `json:"name"`
	Section   string     `json:"section"`
	Before    int        `json:"before"` // messages like it that were sent before: they count the ids up
	Message   message    `json:"message"`
	Result    string     `json:"result"`
	Datagrams []hexBytes `json:"datagrams,omitempty"`
}

type message struct {
	Header  header   `json:"header"`
	Payload hexBytes `json:"payload"`
	ReqAck  bool     `json:"req_ack"`
}

func (v *sendVector) send() {
	var s crate.Sender
	v.Result, v.Datagrams = "refused", nil
	for range v.Before + 1 {
		p, err := s.Encode(v.Message.Header.header(), v.Message.Payload, v.Message.ReqAck)
		if err != nil {
			return
		}
		v.Result, v.Datagrams = "sent", nil
		for _, d := range p.Datagrams {
			v.Datagrams = append(v.Datagrams, d)
		}
	}
}

// receiveVector is what comes to a receiver that knows nothing yet, one after the other.
type receiveVector struct {
	Name    string      `json:"name"`
	Section string      `json:"section"`
	Steps   []crateStep `json:"steps"`
}

// A crateStep is a datagram, and what becomes of it.
type crateStep struct {
	From      int      `json:"from,omitempty"` // which peer: 0, 1
	At        int64    `json:"at_ms"`
	In        hexBytes `json:"in"`
	Result    string   `json:"result"`
	Delivered *message `json:"delivered,omitempty"`
	Answer    hexBytes `json:"answer,omitempty"`
	Acked     *uint64  `json:"acked,omitempty"` // the msg-id of ours that the peer has
}

var peers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6969"), netip.MustParseAddrPort("192.0.2.2:6969")}

func (v *receiveVector) run() {
	r := crate.NewReceiver(crate.Config{})
	begin := time.Unix(1_800_000_000, 0)
	for i := range v.Steps {
		s := &v.Steps[i]
		now := begin.Add(time.Duration(s.At) * time.Millisecond)
		r.Advance(now)
		res := r.Receive(now, peers[s.From], s.In, 1<<20)
		*s = crateStep{From: s.From, At: s.At, In: s.In, Answer: bytes.Clone(res.Reply)}
		if res.Acked {
			s.Acked = &res.ID
		}
		if m := res.Message; m != nil {
			s.Delivered = &message{toJSON(m.Header), m.Payload, m.ReqAck}
		}
		switch {
		case res.Message != nil:
			s.Result = "delivered"
		case res.Acked:
			s.Result = "acked"
		case res.Reply != nil:
			s.Result = "answered"
		case res.Drop != crate.DropNone:
			s.Result = "dropped"
		default:
			s.Result = "kept"
		}
	}
}

func sendVectors(t *testing.T) []sendVector {
	var vs []sendVector
	add := func(name, section string, before int, h framing.Header, payload []byte, reqAck bool, want int) {
		t.Helper()
		v := sendVector{Name: name, Section: section, Before: before, Message: message{toJSON(h), payload, reqAck}}
		v.send()
		if len(v.Datagrams) != want || (v.Result == "sent") != (want > 0) {
			t.Errorf("%s: %s, %d datagrams, want %d", name, v.Result, len(v.Datagrams), want)
		}
		vs = append(vs, v)
	}
	json := framing.Header{{Key: "content-type", Value: "application/json"}}
	add("hi", "6.3", 0, nil, []byte("hi"), false, 1)
	add("empty", "6.3", 0, nil, nil, false, 1)
	add("metadata", "6.3", 0, json, []byte("{}"), false, 1)
	add("asks for an ACK", "6.8", 0, json, []byte("{}"), true, 1)
	add("the twelfth that asks for an ACK", "6.8", 11, nil, []byte("hi"), true, 1)
	add("as much as fits", "6.7", 0, nil, pattern(1185), false, 1)
	add("one byte more than fits", "6.7", 0, nil, pattern(1186), false, 2)
	add("as much as fits beside msg-id", "6.7", 0, nil, pattern(1176), true, 1)
	add("one byte more than fits beside msg-id", "6.7", 0, nil, pattern(1177), true, 2)
	add("fragments with metadata and msg-id", "6.7", 0, json, pattern(4000), true, 4)
	add("the third in fragments", "6.7", 2, nil, pattern(2000), false, 2)
	most := crate.MaxPayload(nil, false)
	add("255 fragments", "6.7", 0, nil, pattern(most), false, 255)
	add("more than 255 fragments", "6.7", 0, nil, pattern(most+1), false, 0)
	for _, k := range []string{"frag-id", "frag-index", "frag-total"} {
		add("metadata with "+k, "6.8", 0, framing.Header{{Key: k, Value: "1"}}, nil, false, 0)
	}
	add("metadata with msg-id, asks for an ACK", "6.8", 0, framing.Header{{Key: "msg-id", Value: "1"}}, nil, true, 0)
	add("metadata with msg-id", "6.8", 0, framing.Header{{Key: "msg-id", Value: "1"}}, nil, false, 1)
	return vs
}

// crateDatagram makes a datagram as the crate does.
func crateDatagram(t *testing.T, typ framing.Type, flags framing.Flags, payload string, kv ...string) []byte {
	t.Helper()
	var h framing.Header
	for i := 0; i < len(kv); i += 2 {
		h.Add(kv[i], kv[i+1])
	}
	return raw(typ, flags, block(t, h), []byte(payload), true)
}

func receiveVectors(t *testing.T) []receiveVector {
	var vs []receiveVector
	add := func(name, section string, in [][]byte, want ...string) {
		t.Helper()
		v := receiveVector{Name: name, Section: section}
		for _, b := range in {
			v.Steps = append(v.Steps, crateStep{In: b})
		}
		check(t, &v, want)
		vs = append(vs, v)
	}
	list := func(b ...[]byte) [][]byte { return b }
	data := func(flags framing.Flags, payload string, kv ...string) []byte {
		return crateDatagram(t, framing.TypeData, flags, payload, kv...)
	}
	const ask, frag = framing.FlagReqAck, framing.FlagFrag
	part := func(flags framing.Flags, payload, id, index, total string, kv ...string) []byte {
		return data(flags|frag, payload, append(slices.Clip(kv), "frag-id", id, "frag-index", index, "frag-total", total)...)
	}
	hi := data(0, "hi")
	add("DATA, twice: no ids, so two messages", "6.6", list(hi, hi), "delivered", "delivered")
	add("DATA, empty, with metadata", "6.6", list(data(0, "", "k", "v", "k", "w", "", "")), "delivered")
	add("DATA with the CRC flag", "6.5", list(data(crc, "hi")), "delivered")
	add("DATA with an unknown flag: REQ_ACK does not count", "6.6", list(data(ask|0x80, "hi", "msg-id", "1")), "delivered")
	add("DATA with COMP: payload as it is", "6.4", list(data(framing.FlagComp, "hi")), "delivered")
	add("REQ_ACK and msg-id, sent again", "6.6", list(data(ask, "hi", "k", "v", "msg-id", "42"), data(ask, "hi", "k", "v", "msg-id", "42")), "delivered", "answered")
	add("the same msg-id with another content: a client that was started anew", "6.6", list(data(ask, "hi", "msg-id", "1"), data(ask, "ho", "msg-id", "1")), "delivered", "delivered")
	add("REQ_ACK without msg-id", "6.6", list(data(ask, "hi")), "delivered")
	add("msg-id without REQ_ACK", "6.6", list(data(0, "hi", "msg-id", "7")), "delivered")
	for _, id := range []string{"", "-1", "+1", " 1", "1 ", "0x1", "a", "18446744073709551616", "000000000000000000001"} {
		add("msg-id "+strconv.Quote(id)+" is metadata", "6.6", list(data(ask, "hi", "msg-id", id)), "delivered")
	}
	add("msg-id with zeros in front: answered digit by digit", "6.6", list(data(ask, "hi", "msg-id", "007")), "delivered")
	add("msg-id of 64 bits", "6.6", list(data(ask, "hi", "msg-id", "18446744073709551615")), "delivered")
	add("the probe of easy", "6.6", list(crateDatagram(t, framing.TypePing, ask, "", "msg-id", "9", "x-auto-probe", "1")), "answered")
	add("PING", "6.6", list(crateDatagram(t, framing.TypePing, 0, "")), "answered")
	add("PING with REQ_ACK and no msg-id", "6.6", list(crateDatagram(t, framing.TypePing, ask, "")), "answered")
	add("ACK", "6.6", list(crateDatagram(t, framing.TypeAck, 0, "", "msg-id", "1")), "acked")
	add("ACK without msg-id", "6.6", list(crateDatagram(t, framing.TypeAck, 0, "")), "dropped")
	add("ACK with a msg-id that is none", "6.6", list(crateDatagram(t, framing.TypeAck, 0, "", "msg-id", "x")), "dropped")
	for _, typ := range []framing.Type{framing.TypeHello, framing.TypeWelcome, framing.TypePong, framing.TypeBye, framing.TypeErr} {
		add(typ.String()+" is never answered", "6.6", list(crateDatagram(t, typ, 0, "")), "dropped")
		add(typ.String()+" with REQ_ACK and msg-id is never answered", "6.6", list(crateDatagram(t, typ, ask, "", "msg-id", "1")), "dropped")
	}
	add("an answer of easy is data", "6.6", list(data(0, "Invalid data: EOF while parsing a value at line 1 column 0")), "delivered")

	add("two fragments", "6.7", list(part(0, "aaaa", "5", "0", "2"), part(0, "bbbb", "5", "1", "2")), "kept", "delivered")
	add("three fragments, 2 0 1, with metadata", "6.7", list(part(0, "cccc", "5", "2", "3", "x", "y"), part(0, "aaaa", "5", "0", "3", "x", "y"), part(0, "bbbb", "5", "1", "3", "x", "y")), "kept", "kept", "delivered")
	add("a fragment twice", "6.7", list(part(0, "aaaa", "5", "0", "2"), part(0, "aaaa", "5", "0", "2"), part(0, "bbbb", "5", "1", "2")), "kept", "dropped", "delivered")
	add("fragments that ask for an ACK, and again", "6.7", list(part(ask, "aaaa", "5", "0", "2", "msg-id", "77"), part(ask, "bbbb", "5", "1", "2", "msg-id", "77"),
		part(ask, "aaaa", "5", "0", "2", "msg-id", "77"), part(ask, "bbbb", "5", "1", "2", "msg-id", "77")), "kept", "delivered", "kept", "answered")
	add("another content in one place: the next message", "6.7", list(part(0, "aaaa", "5", "0", "2"), part(0, "AAAA", "5", "0", "2"), part(0, "BBBB", "5", "1", "2")), "kept", "kept", "delivered")
	add("another total: the next message", "6.7", list(part(0, "aaaa", "5", "0", "2"), part(0, "bbbb", "5", "1", "3"), part(0, "aaaa", "5", "0", "3"), part(0, "cccc", "5", "2", "3")), "kept", "kept", "kept", "delivered")
	add("another id: another message", "6.7", list(part(0, "aaaa", "5", "0", "2"), part(0, "dddd", "6", "1", "2"), part(0, "bbbb", "5", "1", "2"), part(0, "cccc", "6", "0", "2")), "kept", "kept", "delivered", "delivered")
	add("FRAG without fields: a whole message", "6.7", list(data(frag, "hi")), "delivered")
	add("total of 1: a whole message", "6.7", list(part(0, "hi", "5", "0", "1")), "delivered")
	add("fields without FRAG: metadata", "6.7", list(data(0, "hi", "frag-id", "5", "frag-index", "0", "frag-total", "2")), "delivered")
	for _, f := range [][3]string{{"5", "2", "2"}, {"5", "0", "256"}, {"256", "0", "2"}, {"5", "0", "0"}, {"5", "-1", "2"}, {"x", "0", "2"}, {"5", "", "2"}} {
		add("fragment with id "+f[0]+", index "+f[1]+", total "+f[2], "6.7", list(part(0, "aaaa", f[0], f[1], f[2])), "dropped")
	}
	add("fragment without frag-total", "6.7", list(data(frag, "aaaa", "frag-id", "5", "frag-index", "0")), "dropped")
	add("an empty fragment", "6.7", list(part(0, "", "5", "0", "2")), "dropped")

	p2000, p1186 := string(pattern(2000)), string(pattern(1186))
	add("copies: the whole message, twice", "6.7", list(part(0, p1186, "1", "0", "2"), part(0, p1186, "1", "1", "2")), "delivered", "dropped")
	add("copies, the last one first", "6.7", list(part(0, p2000, "1", "1", "2"), part(0, p2000, "1", "0", "2")), "delivered", "dropped")
	add("copies, one index again: the next message", "6.7", list(part(0, p2000, "1", "0", "2"), part(0, p2000, "1", "1", "2"), part(0, p2000, "1", "0", "2")), "delivered", "dropped", "delivered")
	add("copies that ask for an ACK", "6.7", list(part(ask, p2000, "1", "0", "2", "msg-id", "1"), part(ask, p2000, "1", "1", "2", "msg-id", "1")), "delivered", "dropped")
	add("size and total do not fit: a fragment", "6.7", list(part(0, p2000, "1", "0", "3")), "kept")

	add("nothing", "6.5", list(nil), "dropped")
	add("without a trailer", "6.5", list(raw(framing.TypeData, 0, nil, []byte("hi"), false)), "dropped")
	add("a wrong trailer", "6.5", list(flip(hi, len(hi)-1)), "dropped")
	add("a byte too much", "6.5", list(append(bytes.Clone(hi), 0)), "dropped")
	add("cut off", "6.5", list(hi[:len(hi)-1]), "dropped")
	add("a header block that does not add up", "6.5", list(raw(framing.TypeData, 0, []byte{1, 2, 'k'}, []byte("vv"), true)), "dropped")

	ask1 := data(ask, "hi", "msg-id", "1")
	timed := receiveVector{Name: "the same message from two peers, and 16 s later", Section: "6.6",
		Steps: []crateStep{{In: ask1}, {In: ask1, From: 1}, {In: ask1, At: 14_000}, {In: ask1, At: 30_000}}}
	check(t, &timed, []string{"delivered", "delivered", "answered", "delivered"})
	late := receiveVector{Name: "a fragment 6 s later: the first one is forgotten", Section: "6.9",
		Steps: []crateStep{{In: part(0, "aaaa", "5", "0", "2")}, {In: part(0, "bbbb", "5", "1", "2"), At: 6000}}}
	check(t, &late, []string{"kept", "kept"})
	mixed := receiveVector{Name: "fragments of two peers with one id", Section: "6.7",
		Steps: []crateStep{{In: part(0, "aaaa", "5", "0", "2")}, {In: part(0, "bbbb", "5", "1", "2"), From: 1}, {In: part(0, "bbbb", "5", "1", "2")}}}
	check(t, &mixed, []string{"kept", "kept", "delivered"})
	return append(vs, timed, late, mixed)
}

func check(t *testing.T, v *receiveVector, want []string) {
	t.Helper()
	v.run()
	var got []string
	for _, s := range v.Steps {
		got = append(got, s.Result)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", v.Name, got, want)
	}
}

func TestCrateVectors(t *testing.T) {
	checkFile(t, "crate-datagrams.json", "Datagrams of the crate profile, PROTOCOL 6.5 to 6.9. Described in README.md.",
		listOf("send", sendVectors(t)), listOf("receive", receiveVectors(t)))
	var file struct {
		About   string
		Send    []sendVector
		Receive []receiveVector
	}
	readFile(t, "crate-datagrams.json", &file)
	for _, want := range file.Send {
		got := want
		got.send()
		same(t, want.Name, want, got)
		// Whoever receives these has the message.
		r := receiveVector{}
		for _, d := range want.Datagrams {
			r.Steps = append(r.Steps, crateStep{In: d})
		}
		if r.run(); len(r.Steps) > 0 {
			m := want.Message
			m.Header = slices.Clone(m.Header)
			if !m.ReqAck { // without, the id is no metadata and is lost
				m.Header = slices.DeleteFunc(m.Header, func(f [2]hexBytes) bool { return string(f[0]) == framing.LegacyKeyMsgID })
			}
			same(t, want.Name+", received", &m, r.Steps[len(r.Steps)-1].Delivered)
		}
	}
	for _, want := range file.Receive {
		got := want
		got.Steps = slices.Clone(want.Steps)
		got.run()
		same(t, want.Name, want, got)
	}
}
