package vectors

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/memconn"
)

// A ruleVector is frames that a client sends behind HELLO and WELCOME, and what the
// server makes of them.
type ruleVector struct {
	Name     string     `json:"name"`
	Section  string     `json:"section"`
	Frames   []hexBytes `json:"frames"`
	Result   string     `json:"result"`
	Code     uint64     `json:"code,omitempty"`
	Stream   hexBytes   `json:"stream,omitempty"`
	End      bool       `json:"end,omitempty"`
	Messages []message  `json:"messages,omitempty"`
	Acks     []uint64   `json:"acks,omitempty"`
}

// limits are the server's: of its frames, and of its messages.
const (
	ruleMaxFrame   = 131086
	ruleMaxMessage = 2000
)

// marker is in the PING that the test sends last: whoever answers it goes on.
const marker = "are you there?"

func (v *ruleVector) run(t *testing.T) {
	t.Helper()
	*v = ruleVector{Name: v.Name, Section: v.Section, Frames: v.Frames}
	synctest.Test(t, func(t *testing.T) {
		carrier, peer := memconn.Pipe(0)
		c := vstp.Server(carrier, &vstp.Config{Checksum: vstp.ChecksumOn, MaxFrameSize: ruleMaxFrame, MaxMessageSize: ruleMaxMessage})
		ctx := context.Background()
		read := make(chan struct{}, 2)
		go func() {
			defer func() { read <- struct{}{} }()
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				v.Stream = append(v.Stream, b[:n]...)
				if err == nil {
					continue
				}
				if v.End = err == io.EOF; v.End {
					c.Ping(ctx) // somebody has to read on
				}
				return
			}
		}()
		go func() {
			defer func() { read <- struct{}{} }()
			for {
				m, err := c.ReceiveMessage(ctx)
				if err != nil {
					return
				}
				v.Messages = append(v.Messages, message{toJSON(m.Header), m.Payload, m.RequireAck})
			}
		}()
		r := framing.NewReader(peer, 0, framing.TrailerByFlag)
		peer.Write(hello(t, one))
		if f, _, err := r.Next(); err != nil || f.Type != framing.TypeWelcome {
			t.Fatal(v.Name, f, err)
		}
		all := []byte{}
		for _, f := range v.Frames {
			all = append(all, f...)
		}
		all = append(all, raw(framing.TypePing, crc, block(t, fields{field(framing.KeyPing, marker)}), nil, true)...)
		go peer.Write(all)
		peer.SetReadDeadline(time.Now().Add(time.Second))
		for v.Result == "" {
			f, h, err := r.Next()
			if err != nil {
				v.Result = "closes"
				break
			}
			id, _ := h.Lookup(framing.KeyMessage)
			ping, _ := h.Lookup(framing.KeyPing)
			code, _ := h.Lookup(framing.KeyCode)
			switch f.Type {
			case framing.TypeErr:
				v.Result = "fails"
				v.Code, _ = framing.ConsumeVarint(code)
			case framing.TypeAck:
				n, _ := framing.ConsumeVarint(id)
				v.Acks = append(v.Acks, n)
			case framing.TypePong:
				if string(ping) == marker {
					v.Result = "goes on"
				}
			}
		}
		synctest.Wait() // what has come is delivered
		peer.Close()
		<-read
		<-read
		c.Close()
		time.Sleep(time.Minute)
	})
}

func ruleVectors(t *testing.T) []ruleVector {
	var vs []ruleVector
	add := func(name, section, want string, code uint64, fs ...[]byte) {
		t.Helper()
		v := ruleVector{Name: name, Section: section}
		for _, f := range fs {
			v.Frames = append(v.Frames, f)
		}
		v.run(t)
		if v.Result != want || v.Code != code {
			t.Errorf("%s: %s %d, want %s %d", name, v.Result, v.Code, want, code)
		}
		vs = append(vs, v)
	}
	good := func(name, section string, fs ...[]byte) { t.Helper(); add(name, section, "goes on", 0, fs...) }
	bad := func(name, section string, code uint64, fs ...[]byte) {
		t.Helper()
		add(name, section, "fails", code, fs...)
	}
	of := func(typ framing.Type, flags framing.Flags, payload string, fs ...framing.Field) []byte {
		return raw(typ, crc|flags, block(t, fs), []byte(payload), true)
	}
	data := func(flags framing.Flags, payload string, fs ...framing.Field) []byte {
		return of(framing.TypeData, flags, payload, fs...)
	}
	id := func(list ...uint64) framing.Field { return varints(framing.KeyMessage, list...) }
	cancel := func(n uint64) framing.Field { return varints(framing.KeyCancel, n) }
	k := field("k", "v")
	const ask, frag, comp = framing.FlagReqAck, framing.FlagFrag, framing.FlagComp
	big := strings.Repeat("x", ruleMaxMessage)

	good("byte stream", "5.1", data(0, "he"), data(0, ""), data(0, "llo"))
	good("byte stream with fields, which are ignored", "5.1", data(0, "a", k), data(0, "b", field("\x1f", ""), id(7)), data(0, "c", k, cancel(1)))
	good("messages; ids may be left out", "5.2", data(0, "a", id(0)), data(ask, "b", id(5), k, k), data(0, "", id(1<<62-1)))
	good("messages and byte stream", "5.2", data(0, "1"), data(0, "a", id(0)), data(0, "2"))
	good("a message of MaxMessage bytes", "5.2", data(0, big, id(0)))
	good("reserved keys are no metadata", "3", data(0, "a", id(0), field("\x05", "x"), k, field("\x1f\x00", "y")))
	bad("a message of more", "5.2", 3, data(0, big+"x", id(0)))
	bad("an id again", "5.2", 1, data(0, "a", id(3)), data(0, "b", id(3)))
	bad("an id that is lower", "5.2", 1, data(0, "a", id(3)), data(0, "b", id(2)))
	bad("an id of no bytes", "5.2", 1, data(0, "a", id()))
	bad("an id that is cut off", "5.2", 1, data(0, "a", field(framing.KeyMessage, "\x40")))
	bad("three varints without FRAG", "5.2", 1, data(0, "a", id(0, 1, 0)))

	good("fragments", "5.3", data(ask|frag, "ab", id(0, 5, 0), k), data(frag, "cd", id(0, 5, 2)), data(frag, "e", id(0, 5, 4)))
	good("everything between fragments", "5.3", data(frag, "ab", id(0, 3, 0)), data(0, "stream"), data(ask, "whole", id(1)), of(framing.TypePing, 0, ""), data(frag, "c", id(0, 3, 2)))
	good("metadata on a later fragment is ignored", "5.3", data(frag, "ab", id(0, 3, 0), k), data(frag, "c", id(0, 3, 2), field("x", "y")))
	good("a message in one fragment", "5.3", data(frag, "abc", id(0, 3, 0)))
	good("cancel, and the next message", "5.3", data(frag, "ab", id(0, 3, 0)), data(0, "", cancel(0)), data(frag, "abc", id(1, 3, 0)))
	good("cancel of what is not open", "5.3", data(0, "", cancel(9)))
	bad("a fragment of what was cancelled", "5.3", 1, data(frag, "ab", id(0, 3, 0)), data(0, "", cancel(0)), data(frag, "c", id(0, 3, 2)))
	bad("a total above MaxMessage", "5.3", 3, data(frag, "ab", id(0, ruleMaxMessage+1, 0)))
	bad("a total near 2^62", "5.3", 3, data(frag, "ab", id(0, 1<<62-1, 0)))
	bad("two varints with FRAG", "5.3", 1, data(frag, "ab", id(0, 2)))
	bad("four varints with FRAG", "5.3", 1, data(frag, "ab", id(0, 2, 0, 0)))
	bad("a message begun while another one is open", "5.3", 1, data(frag, "ab", id(0, 3, 0)), data(frag, "ab", id(1, 3, 0)))
	bad("a fragment of a message that is not open", "5.3", 1, data(frag, "ab", id(0, 4, 2)))
	bad("a gap", "5.3", 1, data(frag, "ab", id(0, 5, 0)), data(frag, "c", id(0, 5, 3)))
	bad("an overlap", "5.3", 1, data(frag, "ab", id(0, 5, 0)), data(frag, "b", id(0, 5, 1)))
	bad("a total that changes", "5.3", 1, data(frag, "ab", id(0, 5, 0)), data(frag, "c", id(0, 6, 2)))
	bad("an empty fragment", "5.3", 1, data(frag, "", id(0, 5, 0)))
	bad("beyond the total", "5.3", 1, data(frag, "abc", id(0, 2, 0)))
	bad("REQ_ACK on a later fragment", "5.3", 1, data(frag, "ab", id(0, 3, 0)), data(ask|frag, "c", id(0, 3, 2)))
	bad("cancel with a payload", "5.3", 1, data(0, "x", cancel(0)))
	bad("cancel with FRAG", "5", 1, data(frag, "", cancel(0)))
	bad("cancel with REQ_ACK", "5", 1, data(ask, "", cancel(0)))
	bad("FRAG without message", "5", 1, data(frag, "x"))
	bad("REQ_ACK without message", "5", 1, data(ask, "x"))
	bad("REQ_ACK with message not in front", "5", 1, data(ask, "x", k, id(0)))

	good("ACK that nobody waits for", "5.4", of(framing.TypeAck, 0, "", id(9)))
	bad("ACK without message", "5.4", 1, of(framing.TypeAck, 0, ""))
	bad("ACK with two varints", "5.4", 1, of(framing.TypeAck, 0, "", id(1, 2)))
	bad("COMP where nothing was negotiated", "5.5", 10, data(comp, "x"))
	good("PING, also with 16 bytes, and PONG that nobody waits for", "5.6", of(framing.TypePing, 0, ""), of(framing.TypePing, 0, "", field(framing.KeyPing, "0123456789abcdef")), of(framing.TypePong, 0, "", field(framing.KeyPing, "x")))
	good("payload of PING, PONG and ACK is ignored", "2.6", of(framing.TypePing, 0, "x"), of(framing.TypePong, 0, "x"), of(framing.TypeAck, 0, "x", id(1)))
	bad("PING with 17 bytes", "5.6", 1, of(framing.TypePing, 0, "", field(framing.KeyPing, "0123456789abcdefg")))
	for _, typ := range []framing.Type{framing.TypePing, framing.TypePong, framing.TypeBye, framing.TypeAck} {
		for _, fl := range []framing.Flags{ask, frag, comp} {
			bad(typ.String()+" with "+fl.String(), "2.3", 1, of(typ, fl, "", id(0)))
		}
	}
	for _, fl := range []framing.Flags{0x04, 0x08, 0x40, 0x80} {
		bad("DATA with flag "+fl.String(), "2.3", 1, data(fl, "x"))
	}
	bad("no CRC although it is on", "4.3", 1, raw(framing.TypeData, 0, nil, []byte("x"), false))
	bad("wrong CRC: nothing of the frame is delivered", "2.5", 4, data(0, "a"), flip(data(0, "b"), 15))
	bad("header block that does not add up", "2.4", 5, raw(framing.TypeData, crc, []byte("\x01\x09kv"), []byte("x"), true))
	bad("header block that does not add up, in PING", "2.4", 5, raw(framing.TypePing, crc, []byte("\x01"), nil, true))
	bad("unknown type", "2.2", 6, of(9, 0, ""))
	bad("VER 2", "5.8", 2, []byte("VT\x02\x03\x02\x00\x00\x00\x00\x00\x00"))
	bad("no magic", "5.8", 1, []byte("GET / HTTP/1.1\r\n"))
	bad("a frame of more than MaxFrame claimed", "2.6", 3, []byte("VT\x01\x03\x02\x00\x00\x00\x02\x00\x00"))
	bad("HELLO again", "4.5", 6, hello(t, one))
	bad("WELCOME", "4.5", 6, welcome(t, one, session))

	good("BYE, and PING behind it", "5.7", data(0, "a"), data(0, "m", id(0)), of(framing.TypeBye, 0, ""))
	good("BYE in an open message, which is forgotten", "5.7", data(frag, "ab", id(0, 3, 0)), of(framing.TypeBye, 0, ""))
	bad("DATA behind BYE", "5.7", 6, of(framing.TypeBye, 0, ""), data(0, "x"))
	bad("cancel behind BYE", "5.7", 6, data(frag, "ab", id(0, 3, 0)), of(framing.TypeBye, 0, ""), data(0, "", cancel(0)))
	for _, e := range [][]byte{of(framing.TypeErr, 0, "why", varints(framing.KeyCode, 260)), of(framing.TypeErr, 0, "")} {
		add("ERR is never answered", "5.8", "closes", 0, data(0, "a"), e)
	}
	return vs
}

func TestStreamRuleVectors(t *testing.T) {
	checkFile(t, "stream.json", "Frames behind HELLO and WELCOME, PROTOCOL 5. Described in README.md.", listOf("vectors", ruleVectors(t)))
	var file struct {
		About   string
		Vectors []ruleVector
	}
	readFile(t, "stream.json", &file)
	for _, want := range file.Vectors {
		got := want
		got.Frames = slices.Clone(want.Frames)
		got.run(t)
		same(t, want.Name, want, got)
	}
}
