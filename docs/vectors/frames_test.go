package vectors

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// A frame in JSON, without its trailer.
type frame struct {
	Type    uint8    `json:"type"`
	Flags   uint8    `json:"flags"`
	Header  header   `json:"header"`
	Payload hexBytes `json:"payload"`
}

// encodeVector is a frame and its bytes, which decode to that frame, or the frame alone
// if it must not be sent.
type encodeVector struct {
	Name    string   `json:"name"`
	Section string   `json:"section"`
	Rule    string   `json:"rule"`
	Frame   frame    `json:"frame"`
	Result  string   `json:"result"`
	Bytes   hexBytes `json:"bytes,omitempty"`
}

// decodeVector is what a decoder is given, and what it says.
type decodeVector struct {
	Name     string   `json:"name"`
	Section  string   `json:"section"`
	Rule     string   `json:"rule"`
	MaxFrame int      `json:"max_frame,omitempty"`
	Bytes    hexBytes `json:"bytes"`
	Result   string   `json:"result"`
	Error    string   `json:"error,omitempty"`
	Code     int      `json:"code,omitempty"`
	Frame    *frame   `json:"frame,omitempty"`
	Trailer  bool     `json:"trailer,omitempty"`
	Rest     int      `json:"rest,omitempty"`
}

var rules = map[string]framing.Trailer{"flag": framing.TrailerByFlag, "always": framing.TrailerAlways, "sniff": framing.TrailerSniff}

// frameErrors are the words of the vectors, with the codes of PROTOCOL §5.8.
var frameErrors = []struct {
	err  error
	word string
	code int
}{
	{framing.ErrMagic, "magic", 1},
	{framing.ErrVersion, "version", 2},
	{framing.ErrType, "type", 6},
	{framing.ErrFrameTooLarge, "too large", 3},
	{framing.ErrChecksum, "checksum", 4},
	{framing.ErrHeader, "header", 5},
	{framing.ErrTrailing, "trailing bytes", 0}, // datagrams only
}

func frameOf(t *testing.T, f framing.Frame) frame {
	t.Helper()
	h, err := f.Header.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return frame{uint8(f.Type), uint8(f.Flags), toJSON(h), bytes.Clone(f.Payload)}
}

// encode fills in Result and Bytes.
func (v *encodeVector) encode(t *testing.T) {
	t.Helper()
	v.Result = "refused"
	h, err := framing.AppendHeader(nil, v.Frame.Header.header())
	if err != nil {
		return
	}
	f := framing.Frame{Type: framing.Type(v.Frame.Type), Flags: framing.Flags(v.Frame.Flags), Header: h, Payload: v.Frame.Payload}
	b, err := framing.AppendFrame(nil, f, rules[v.Rule])
	if err != nil {
		return
	}
	v.Result, v.Bytes = "frame", b
}

// decode fills in what comes out.
func (v *decodeVector) decode(t *testing.T) {
	t.Helper()
	v.Result, v.Error, v.Code, v.Frame, v.Trailer, v.Rest = "", "", 0, nil, false, 0
	var f framing.Frame
	var err error
	n := len(v.Bytes)
	if v.Rule == "datagram" {
		f, v.Trailer, err = framing.ParseDatagram(v.Bytes)
	} else {
		f, n, err = framing.Parse(v.Bytes, v.MaxFrame, rules[v.Rule])
		v.Trailer = err == nil && n > framing.FixedLen+len(f.Header)+len(f.Payload)
	}
	switch {
	case err == nil:
		v.Result, v.Rest = "frame", len(v.Bytes)-n
		got := frameOf(t, f)
		v.Frame = &got
		return
	case errors.Is(err, framing.ErrIncomplete):
		v.Result = "incomplete"
		return
	}
	v.Result = "error"
	for _, e := range frameErrors {
		if errors.Is(err, e.err) {
			v.Error = e.word
			if v.Rule != "datagram" {
				v.Code = e.code
			}
			return
		}
	}
	t.Fatal(v.Name, err)
}

const crc = framing.FlagCRC

// goodFrames are frames that are sent.
func goodFrames(t *testing.T) []encodeVector {
	var vs []encodeVector
	add := func(name, section string, typ framing.Type, flags framing.Flags, h framing.Header, payload string) {
		vs = append(vs, encodeVector{Name: name, Section: section, Rule: "flag", Frame: frame{uint8(typ), uint8(flags), toJSON(h), hexBytes(payload)}})
	}
	for typ := framing.TypeHello; typ <= framing.TypeErr; typ++ {
		add(typ.String()+", empty", "2.2", typ, 0, nil, "")
		add(typ.String()+", empty, CRC", "2.5", typ, crc, nil, "")
	}
	for _, flags := range []framing.Flags{1, 2, 3, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x30, 0x31, 0x32, 0x33} {
		add(fmt.Sprintf("DATA, flags %02x", uint8(flags)), "2.3", framing.TypeData, flags, nil, "hello")
	}
	type kv = framing.Field
	add("key and value empty", "2.4", framing.TypeData, crc, framing.Header{{}}, "x")
	add("key empty", "2.4", framing.TypeData, crc, framing.Header{{Value: "v"}}, "")
	add("value empty", "2.4", framing.TypeData, crc, framing.Header{{Key: "k"}}, "")
	add("one key twice, order kept", "2.4", framing.TypeData, crc, framing.Header{kv{Key: "b", Value: "1"}, kv{Key: "a", Value: "2"}, kv{Key: "b", Value: "3"}}, "x")
	add("binary keys and values", "2.4", framing.TypeData, crc, framing.Header{kv{Key: "\xff\x00\xfe", Value: "\x00\x80\xff"}}, "\x00\xff")
	add("key and value of 255 bytes", "2.6", framing.TypeData, crc, framing.Header{kv{Key: string(bytes.Repeat([]byte{'k'}, 255)), Value: string(pattern(255))}}, "x")
	full := framing.Header{}
	for range 127 { // 127 * 512 + 511 = 65,535
		full.Add(strings.Repeat("k", 255), strings.Repeat("v", 255))
	}
	full.Add(strings.Repeat("k", 255), strings.Repeat("v", 254))
	add("header block of 65,535 bytes", "2.6", framing.TypeData, crc, full, "x")
	for _, n := range []int{1, 255, 256, 65535, 65536, 70000} {
		add(fmt.Sprintf("payload of %d bytes", n), "2.1", framing.TypeData, crc, nil, string(pattern(n)))
	}
	add("payload of 65536 bytes, no CRC", "2.1", framing.TypeData, 0, nil, string(pattern(65536)))

	// What §5 makes of them.
	add("byte stream", "5.1", framing.TypeData, crc, nil, "hello")
	add("message", "5.2", framing.TypeData, crc|1, framing.Header{varints(framing.KeyMessage, 16384), {Key: "content-type", Value: "application/json"}}, "{}")
	add("empty message", "5.2", framing.TypeData, crc, framing.Header{varints(framing.KeyMessage, 0)}, "")
	add("first fragment", "5.3", framing.TypeData, crc|0x11, framing.Header{varints(framing.KeyMessage, 100, 70000, 0), {Key: "name", Value: "x"}}, string(pattern(65536)))
	add("last fragment", "5.3", framing.TypeData, crc|0x10, framing.Header{varints(framing.KeyMessage, 100, 70000, 65536)}, string(pattern(70000)[65536:]))
	add("cancel", "5.3", framing.TypeData, crc, framing.Header{varints(framing.KeyCancel, 100)}, "")
	add("ACK of a message", "5.4", framing.TypeAck, crc, framing.Header{varints(framing.KeyMessage, 1<<62-1)}, "")
	add("PING with 16 bytes", "5.6", framing.TypePing, crc, framing.Header{{Key: framing.KeyPing, Value: "0123456789abcdef"}}, "")
	add("PONG with 16 bytes", "5.6", framing.TypePong, crc, framing.Header{{Key: framing.KeyPing, Value: "0123456789abcdef"}}, "")
	add("BYE with close", "5.7", framing.TypeBye, crc, framing.Header{{Key: framing.KeyClose}}, "")
	add("ERR", "5.8", framing.TypeErr, crc, framing.Header{varints(framing.KeyCode, 260), {Key: "k", Value: "v"}}, "größer")

	always := slices.Clone(vs)
	for _, v := range always {
		if len(v.Frame.Header) < 100 && len(v.Frame.Payload) < 1000 && v.Section < "5" {
			v.Name += ", trailer by the rule"
			v.Section = "6.2"
			v.Rule = "always"
			vs = append(vs, v)
		}
	}
	for i := range vs {
		vs[i].encode(t)
		if vs[i].Result != "frame" {
			t.Fatalf("%s cannot be sent", vs[i].Name)
		}
	}
	return vs
}

// badFrames are frames that a sender must not make.
func badFrames(t *testing.T) []encodeVector {
	tooMany := framing.Header{}
	for range 128 {
		tooMany.Add(strings.Repeat("k", 255), strings.Repeat("v", 255))
	}
	vs := []encodeVector{
		{Name: "key of 256 bytes", Section: "2.6", Frame: frame{Type: 3, Header: toJSON(framing.Header{{Key: strings.Repeat("k", 256)}})}},
		{Name: "value of 256 bytes", Section: "2.6", Frame: frame{Type: 3, Header: toJSON(framing.Header{{Value: strings.Repeat("k", 256)}})}},
		{Name: "header block of 65,536 bytes", Section: "2.6", Frame: frame{Type: 3, Header: toJSON(tooMany)}},
		{Name: "type 0", Section: "2.2", Frame: frame{Type: 0}},
		{Name: "type 9", Section: "2.2", Frame: frame{Type: 9}},
		{Name: "type 255", Section: "2.2", Frame: frame{Type: 255}},
	}
	for i := range vs {
		vs[i].Rule = "flag"
		if vs[i].Frame.Header == nil {
			vs[i].Frame.Header = header{}
		}
		vs[i].encode(t)
		if vs[i].Result != "refused" {
			t.Fatalf("%s is sent", vs[i].Name)
		}
	}
	return vs
}

// decodeVectors are what comes out of other bytes than those of good frames. Want is
// "frame", "incomplete", or the word of an error.
func decodeVectors(t *testing.T) []decodeVector {
	var vs []decodeVector
	add := func(name, section, rule string, maxFrame int, b []byte, want string) {
		t.Helper()
		v := decodeVector{Name: name, Section: section, Rule: rule, MaxFrame: maxFrame, Bytes: b}
		v.decode(t)
		if v.Result != want && v.Error != want {
			t.Errorf("%s (%s): %s %s, want %s", name, rule, v.Result, v.Error, want)
		}
		vs = append(vs, v)
	}
	kv := []byte("\x01\x01kv")
	good := raw(framing.TypeData, crc, kv, []byte("hello"), true)
	plain := raw(framing.TypeData, 0, kv, []byte("hello"), false)
	crate := raw(framing.TypeData, 0, kv, []byte("hello"), true)
	// with returns a copy with a byte changed, and the CRC made right again.
	with := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b[:len(b)-framing.TrailerLen])
		b[at] = to
		return framing.AppendTrailer(b, framing.Checksum(0, b))
	}
	for i := range good {
		add(fmt.Sprintf("cut at %d", i), "2.1", "flag", 0, good[:i], "incomplete")
	}
	for i := range crate {
		add(fmt.Sprintf("no flag, cut at %d", i), "6.2", "always", 0, crate[:i], "incomplete")
	}
	add("two frames", "2.1", "flag", 0, slices.Concat(good, plain), "frame")
	add("a frame and the start of one", "2.1", "flag", 0, slices.Concat(good, plain[:5]), "frame")
	add("junk behind a frame", "2.1", "flag", 0, slices.Concat(good, []byte("junk")), "frame")
	both := func(name, section string, b []byte, want string) {
		t.Helper()
		add(name, section, "flag", 0, b, want)
		add(name, section, "datagram", 0, b, want)
	}
	both("first byte of the magic wrong", "2.1", with(good, 0, 'W'), "magic")
	both("second byte of the magic wrong", "2.1", with(good, 1, 'U'), "magic")
	both("VER 0", "2.1", with(good, 2, 0), "version")
	both("VER 2", "2.1", with(good, 2, 2), "version")
	for _, typ := range []byte{0, 9, 0x7f, 0xff} {
		both(fmt.Sprintf("TYPE %d", typ), "2.2", with(good, 3, typ), "type")
	}
	add("wrong magic, and nothing else yet", "2.1", "flag", 0, []byte("G"), "magic")
	add("wrong VER, and nothing else yet", "2.1", "flag", 0, []byte("VT\x02"), "version")
	add("wrong TYPE, and nothing else yet", "2.2", "flag", 0, []byte("VT\x01\x00"), "type")
	for _, bit := range []byte{0x04, 0x08, 0x40, 0x80} {
		both(fmt.Sprintf("unknown flag %02x: a frame; code 1 once negotiated, no flags at all in the crate profile", bit), "2.3", with(good, 4, 2|bit), "frame")
	}
	both("CRC wrong", "2.5", flip(good, len(good)-1), "checksum")
	both("a bit of the payload flipped", "2.5", flip(good, 17), "checksum")
	both("a bit of the header block flipped", "2.5", flip(good, 13), "checksum")
	both("REQ_ACK flipped", "2.5", flip(good, 4), "checksum")
	add("CRC little-endian", "2.5", "flag", 0, slices.Concat(good[:20], []byte{good[23], good[22], good[21], good[20]}), "checksum")
	add("CRC wrong and header block broken: the CRC comes first", "2.5", "flag", 0, flip(with(good, 12, 2), 23), "checksum")
	both("value runs on into the payload", "2.4", with(good, 12, 2), "header")
	both("key runs on into the payload", "2.4", with(good, 11, 6), "header")
	both("value runs on beyond the frame", "2.4", with(good, 12, 255), "header")
	both("header block of one byte", "2.4", raw(framing.TypeData, crc, []byte{1}, nil, true), "header")
	both("header block ends inside the lengths of its second field", "2.4", raw(framing.TypeData, crc, []byte("\x01\x01kv\x00"), nil, true), "header")
	both("header block ends before the value", "2.4", raw(framing.TypeData, crc, []byte("\x01\x01k"), []byte("v"), true), "header")
	add("PAY_LEN little-endian: more than is accepted", "2.1", "flag", 0, with(with(good, 7, 5), 10, 0), "too large")
	add("HDR_LEN big-endian: not there yet", "2.1", "flag", 0, with(with(good, 5, 0), 6, 4), "incomplete")
	add("as large as is accepted", "2.6", "flag", len(good), good, "frame")
	add("one byte more than is accepted", "2.6", "flag", len(good)-1, good, "too large")
	add("one byte more than is accepted, fixed header only", "2.6", "flag", len(good)-1, good[:11], "too large")
	add("the trailer counts", "2.6", "always", len(crate)-1, crate, "too large")
	add("4 GiB - 1 claimed", "2.6", "flag", 0, []byte("VT\x01\x03\x00\xff\xff\xff\xff\xff\xff"), "too large")
	add("8 MiB claimed where 8 MiB is accepted in all", "2.6", "flag", 8<<20, []byte("VT\x01\x03\x00\x00\x00\x00\x80\x00\x00"), "too large")
	add("8 MiB - 11 claimed where 8 MiB is accepted in all", "2.6", "flag", 8<<20, []byte("VT\x01\x03\x00\x00\x00\x00\x7f\xff\xf5"), "incomplete")

	add("trailer without the flag", "6.2", "always", 0, slices.Concat(crate, []byte("VT")), "frame")
	add("trailer without the flag, wrong", "6.2", "always", 0, flip(crate, len(crate)-1), "checksum")
	add("no trailer: incomplete for ever", "6.2", "always", 0, plain, "incomplete")
	add("CRC flag set: the trailer is there once", "6.2", "always", 0, good, "frame")

	add("the CRC follows", "6.2", "sniff", 0, crate, "frame")
	add("the CRC follows, and more", "6.2", "sniff", 0, slices.Concat(crate, plain), "frame")
	add("another frame follows", "6.2", "sniff", 0, slices.Concat(plain, plain), "frame")
	add("the start of a frame follows", "6.2", "sniff", 0, slices.Concat(plain, []byte("VT\x01\x08")), "frame")
	add("three bytes of a frame follow", "6.2", "sniff", 0, slices.Concat(plain, []byte("VT\x01")), "frame")
	add("three bytes of the CRC follow", "6.2", "sniff", 0, crate[:len(crate)-1], "incomplete")
	add("nothing follows", "6.2", "sniff", 0, plain, "incomplete")
	add("no frame follows: unknown type", "6.2", "sniff", 0, slices.Concat(plain, []byte("VT\x01\x09")), "checksum")
	add("a damaged CRC follows", "6.2", "sniff", 0, flip(crate, len(crate)-1), "checksum")
	add("CRC flag set", "6.2", "sniff", 0, good, "frame")

	add("one frame", "7.1", "datagram", 0, good, "frame")
	add("without flag and trailer", "7.1", "datagram", 0, plain, "frame")
	add("without the flag, with a trailer", "6.5", "datagram", 0, crate, "frame")
	add("without the flag, with a wrong trailer", "6.5", "datagram", 0, flip(crate, len(crate)-1), "checksum")
	add("nothing", "7.1", "datagram", 0, nil, "incomplete")
	add("cut off in the payload", "7.1", "datagram", 0, good[:17], "incomplete")
	add("cut off in the trailer", "7.1", "datagram", 0, good[:len(good)-1], "incomplete")
	add("a byte behind the trailer", "7.1", "datagram", 0, append(bytes.Clone(good), 0), "trailing bytes")
	add("three bytes behind the payload", "7.1", "datagram", 0, append(bytes.Clone(plain), 0, 0, 0), "trailing bytes")
	add("two frames", "7.1", "datagram", 0, slices.Concat(good, good), "trailing bytes")
	return vs
}

// flip returns a copy with one bit changed.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestFrameVectors(t *testing.T) {
	checkFile(t, "frames.json", "Frames of VSTP, PROTOCOL 2 and 6.2. Described in README.md.",
		listOf("encode", append(goodFrames(t), badFrames(t)...)), listOf("decode", decodeVectors(t)))

	var file struct {
		About  string
		Encode []encodeVector
		Decode []decodeVector
	}
	readFile(t, "frames.json", &file)
	for _, want := range file.Encode {
		got := want
		got.Bytes = nil
		got.encode(t)
		same(t, want.Name, want, got)
		if want.Result != "frame" {
			continue
		}
		d := decodeVector{Rule: want.Rule, Bytes: want.Bytes}
		d.decode(t)
		same(t, want.Name+", decoded", want.Frame, d.Frame)
		d.Rule = "datagram"
		d.decode(t)
		same(t, want.Name+", decoded as a datagram", want.Frame, d.Frame)
	}
	for _, want := range file.Decode {
		got := want
		got.decode(t)
		same(t, want.Name, want, got)
	}
}
