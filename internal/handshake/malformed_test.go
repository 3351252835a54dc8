package handshake

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// f1 is a field of the protocol.
func f1(key, value string) framing.Field { return framing.Field{Key: key, Value: value} }

var (
	versions1 = f1(framing.KeyVersions, "\x01")
	session   = f1(framing.KeySessionID, "0123456789abcdef")
)

// badValues is wrong in HELLO and WELCOME alike, beside a good version.
var badValues = []struct {
	name string
	code framing.ErrorCode
	h    framing.Header
}{
	{"max frame empty", framing.CodeProtocol, framing.Header{f1(framing.KeyMaxFrame, "")}},
	{"max frame cut off", framing.CodeProtocol, framing.Header{f1(framing.KeyMaxFrame, "\x80\x10\x00")}},
	{"max frame and more", framing.CodeProtocol, framing.Header{f1(framing.KeyMaxFrame, "\x80\x10\x00\x00\x00")}},
	{"max frame one too small", framing.CodeProtocol, framing.Header{varints(framing.KeyMaxFrame, MinMaxFrame-1)}},
	{"max frame 0", framing.CodeProtocol, framing.Header{varints(framing.KeyMaxFrame, 0)}},
	{"max frame twice", framing.CodeProtocol, framing.Header{varints(framing.KeyMaxFrame, 1<<20), varints(framing.KeyMaxFrame, 1<<20)}},
	{"max message empty", framing.CodeProtocol, framing.Header{f1(framing.KeyMaxMessage, "")}},
	{"max message of two varints", framing.CodeProtocol, framing.Header{varints(framing.KeyMaxMessage, 1, 2)}},
	{"max message twice", framing.CodeProtocol, framing.Header{varints(framing.KeyMaxMessage, 1), varints(framing.KeyMaxMessage, 1)}},
	{"checksum empty", framing.CodeProtocol, framing.Header{f1(framing.KeyChecksum, "")}},
	{"checksum 2", framing.CodeProtocol, framing.Header{f1(framing.KeyChecksum, "\x02")}},
	{"checksum of two bytes", framing.CodeProtocol, framing.Header{f1(framing.KeyChecksum, "\x01\x01")}},
	{"checksum twice", framing.CodeProtocol, framing.Header{f1(framing.KeyChecksum, "\x01"), f1(framing.KeyChecksum, "\x01")}},
	{"compress twice", framing.CodeProtocol, framing.Header{f1(framing.KeyCompress, "\x01"), f1(framing.KeyCompress, "\x01")}},
	{"compress twice, first empty", framing.CodeProtocol, framing.Header{f1(framing.KeyCompress, ""), f1(framing.KeyCompress, "\x01")}},
	{"idle empty", framing.CodeProtocol, framing.Header{f1(framing.KeyIdle, "")}},
	{"idle cut off", framing.CodeProtocol, framing.Header{f1(framing.KeyIdle, "\x40")}},
	{"idle too long", framing.CodeProtocol, framing.Header{varints(framing.KeyIdle, MaxIdle+1)}},
	{"idle the largest varint", framing.CodeProtocol, framing.Header{varints(framing.KeyIdle, framing.MaxVarint)}},
	{"idle three times", framing.CodeProtocol, framing.Header{varints(framing.KeyIdle, 1), varints(framing.KeyIdle, 1), varints(framing.KeyIdle, 1)}},
	{"versions twice", framing.CodeProtocol, framing.Header{versions1}},
	{"too many fields", framing.CodeTooLarge, make(framing.Header, MaxFields)},
}

// TestMalformedHello has a code for each HELLO that §4.1 and §4.3 do not allow.
func TestMalformedHello(t *testing.T) {
	check := func(name string, code framing.ErrorCode, f framing.Frame) {
		t.Helper()
		s := NewServer(Params{Compression: []byte{CompressZstd}})
		h, err := s.Receive(f)
		wantError(t, name, err, code)
		if h != nil {
			t.Errorf("%s: a Hello beside the error", name)
		}
		// The machine is over.
		if _, _, err := s.AppendWelcome(nil, goldenID, nil); err == nil {
			t.Errorf("%s: WELCOME all the same", name)
		}
		_, err = s.Receive(f)
		wantError(t, name+", again", err, framing.CodeUnexpected)
	}
	for _, b := range badValues {
		check(b.name, b.code, handshakeFrame(t, framing.TypeHello, append(framing.Header{versions1}, b.h...)))
	}
	for _, b := range []struct {
		name  string
		code  framing.ErrorCode
		value string
	}{
		{"no version", framing.CodeProtocol, ""},
		{"version 0", framing.CodeProtocol, "\x00"},
		{"version 1, then 0", framing.CodeProtocol, "\x01\x00"},
		{"version cut off", framing.CodeProtocol, "\x01\x40"},
		{"33 versions", framing.CodeProtocol, strings.Repeat("\x01", MaxVersions+1)},
		{"no common version", framing.CodeVersion, "\x02\x03"},
	} {
		check(b.name, b.code, handshakeFrame(t, framing.TypeHello, framing.Header{f1(framing.KeyVersions, b.value)}))
	}

	check("versions twice, the second unknown", framing.CodeProtocol,
		handshakeFrame(t, framing.TypeHello, framing.Header{versions1, varints(framing.KeyVersions, 2)}))

	good := handshakeFrame(t, framing.TypeHello, framing.Header{versions1})
	for flags := range 256 {
		if f := good; flags != int(framing.FlagCRC) {
			f.Flags = framing.Flags(flags)
			check("flags "+f.Flags.String(), framing.CodeProtocol, f)
		}
	}
	f := good
	f.Payload = []byte{0}
	check("payload", framing.CodeProtocol, f)

	// "a block that does not add up fails with code 5", §2.4, before all else.
	for n := range good.Header {
		if n > 0 {
			f := good
			f.Header = good.Header[:n]
			check("block cut off", framing.CodeHeader, f)
		}
	}
	f.Header = append(bytes.Clone(good.Header), 1, 255, 'k')
	check("block runs over", framing.CodeHeader, f)
	f.Header = framing.RawHeader("\x01\x02kv")
	check("crate HELLO, block runs over", framing.CodeHeader, f)
	check("crate HELLO, too many fields", framing.CodeTooLarge,
		framing.Frame{Type: framing.TypeHello, Header: block(t, make(framing.Header, MaxFields+1))})
}

// TestVersionFirst: "It checks nothing else in HELLO before that", §4.3.
func TestVersionFirst(t *testing.T) {
	for _, b := range badValues[:len(badValues)-2] {
		f := handshakeFrame(t, framing.TypeHello, append(framing.Header{f1(framing.KeyVersions, "\x02")}, b.h...))
		f.Flags, f.Payload = 0xff, []byte("of another version")
		_, err := NewServer(Params{}).Receive(f)
		wantError(t, b.name, err, framing.CodeVersion)
	}
}

// TestMalformedWelcome is the same for the client.
func TestMalformedWelcome(t *testing.T) {
	check := func(name string, code framing.ErrorCode, p Params, f framing.Frame) {
		t.Helper()
		c := NewClient(p)
		if _, err := c.AppendHello(nil); err != nil {
			t.Fatal(err)
		}
		r, err := c.Receive(f)
		wantError(t, name, err, code)
		if r.Version != 0 || r.PeerHeader != nil {
			t.Errorf("%s: a Result beside the error: %+v", name, r)
		}
		_, err = c.Receive(f)
		wantError(t, name+", again", err, framing.CodeUnexpected)
	}
	zstd := Params{Compression: []byte{CompressZstd}}
	for _, b := range badValues {
		check(b.name, b.code, zstd, handshakeFrame(t, framing.TypeWelcome, append(framing.Header{versions1, session}, b.h...)))
	}
	for _, b := range []struct {
		name string
		code framing.ErrorCode
		p    Params
		h    framing.Header
	}{
		{"empty", framing.CodeProtocol, zstd, nil},
		{"no versions", framing.CodeProtocol, zstd, framing.Header{session}},
		{"versions empty", framing.CodeProtocol, zstd, framing.Header{f1(framing.KeyVersions, ""), session}},
		{"version 0", framing.CodeProtocol, zstd, framing.Header{varints(framing.KeyVersions, 0), session}},
		{"two versions", framing.CodeProtocol, zstd, framing.Header{varints(framing.KeyVersions, 1, 1), session}},
		{"version cut off", framing.CodeProtocol, zstd, framing.Header{f1(framing.KeyVersions, "\x40"), session}},
		{"a version not offered", framing.CodeVersion, zstd, framing.Header{varints(framing.KeyVersions, 2), session}},
		{"no session id", framing.CodeProtocol, zstd, framing.Header{versions1}},
		{"session id of 15 bytes", framing.CodeProtocol, zstd, framing.Header{versions1, f1(framing.KeySessionID, "0123456789abcde")}},
		{"session id of 17 bytes", framing.CodeProtocol, zstd, framing.Header{versions1, f1(framing.KeySessionID, "0123456789abcdefg")}},
		{"session id twice", framing.CodeProtocol, zstd, framing.Header{versions1, session, session}},
		{"checksum refused", framing.CodeProtocol, Params{Checksum: true}, framing.Header{versions1, session, f1(framing.KeyChecksum, "\x00")}},
		{"compress empty", framing.CodeProtocol, zstd, framing.Header{versions1, session, f1(framing.KeyCompress, "")}},
		{"compress 0", framing.CodeProtocol, zstd, framing.Header{versions1, session, f1(framing.KeyCompress, "\x00")}},
		{"compress of two", framing.CodeProtocol, zstd, framing.Header{versions1, session, f1(framing.KeyCompress, "\x01\x01")}},
		{"compress not offered", framing.CodeProtocol, Params{}, framing.Header{versions1, session, f1(framing.KeyCompress, "\x01")}},
	} {
		check(b.name, b.code, b.p, handshakeFrame(t, framing.TypeWelcome, b.h))
	}
	good := handshakeFrame(t, framing.TypeWelcome, framing.Header{versions1, session})
	for flags := range 256 {
		if f := good; flags != int(framing.FlagCRC) {
			f.Flags = framing.Flags(flags)
			check("flags "+f.Flags.String(), framing.CodeProtocol, zstd, f)
		}
	}
	f := good
	f.Payload = []byte("x")
	check("payload", framing.CodeProtocol, zstd, f)
	f = good
	f.Header = good.Header[:len(good.Header)-1]
	check("block cut off", framing.CodeHeader, zstd, f)
}

// TestBadParams: what the caller cannot send is said, with nothing appended.
func TestBadParams(t *testing.T) {
	many := make([]uint64, MaxVersions+1)
	for i := range many {
		many[i] = uint64(i + 1)
	}
	for name, p := range map[string]Params{
		"too many versions":     {Versions: many},
		"version 0":             {Versions: []uint64{1, 0}},
		"version no varint":     {Versions: []uint64{1, 1 << 62}},
		"small MaxFrame":        {MaxFrame: MinMaxFrame - 1},
		"negative MaxFrame":     {MaxFrame: -1},
		"MaxFrame no varint":    {MaxFrame: 1 << 62},
		"negative MaxMessage":   {MaxMessage: -1},
		"MaxMessage no varint":  {MaxMessage: 1 << 62},
		"too many algorithms":   {Compression: bytes.Repeat([]byte{1}, 256)},
		"algorithm 0":           {Compression: []byte{0}},
		"reserved key":          {Header: framing.Header{{Key: "\x1fx", Value: ""}}},
		"key of the protocol":   {Header: framing.Header{session}},
		"long key":              {Header: framing.Header{{Key: strings.Repeat("k", 256)}}},
		"long value":            {Header: framing.Header{{Key: "k", Value: strings.Repeat("v", 256)}}},
		"too many fields":       {Header: make(framing.Header, MaxFields)},
		"metadata above 65,535": {Header: slices.Repeat(framing.Header{framing.Field{Key: "k", Value: strings.Repeat("v", 255)}}, 255)},
	} {
		b, err := NewClient(p).AppendHello([]byte("kept"))
		wantError(t, name, err, framing.CodeInternal)
		if string(b) != "kept" {
			t.Errorf("%s: AppendHello returned %q", name, b)
		}
		s := NewServer(p)
		if _, err = s.Receive(handshakeFrame(t, framing.TypeHello, framing.Header{versions1})); err == nil {
			b, _, err = s.AppendWelcome([]byte("kept"), goldenID, nil)
		}
		wantError(t, name, err, framing.CodeInternal)
		if string(b) != "kept" {
			t.Errorf("%s: AppendWelcome returned %q", name, b)
		}
	}
}

// handshakeFrame is a HELLO or WELCOME with these fields and nothing wrong else.
func handshakeFrame(t testing.TB, typ framing.Type, h framing.Header) framing.Frame {
	t.Helper()
	return framing.Frame{Type: typ, Flags: framing.FlagCRC, Header: block(t, h)}
}

// wantError fails t if err is not an *Error with this code.
func wantError(t testing.TB, name string, err error, code framing.ErrorCode) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: error %v, want code %v", name, err, code)
	}
}
