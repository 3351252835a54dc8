package vectors

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// params is what one end brings to a handshake, or what a HELLO or WELCOME says of it,
// defaults filled in.
type params struct {
	Versions   []uint64 `json:"versions"`
	MaxFrame   int64    `json:"max_frame,omitempty"`
	MaxMessage int64    `json:"max_message"`
	Checksum   bool     `json:"checksum"`
	Compress   hexBytes `json:"compress,omitempty"`
	IdleMillis int64    `json:"idle_ms"`
	Header     header   `json:"header"`

	Datagram *datagramParams `json:"datagram,omitempty"`
}

func (p *params) params() handshake.Params {
	return handshake.Params{Versions: p.Versions, MaxFrame: p.MaxFrame, MaxMessage: p.MaxMessage, Checksum: p.Checksum,
		Compression: p.Compress, Idle: time.Duration(p.IdleMillis) * time.Millisecond, Header: p.Header.header()}
}

// defaults fills in what is not said.
func (p *params) defaults() {
	p.MaxFrame = cmp.Or(p.MaxFrame, handshake.DefaultMaxFrame)
	p.MaxMessage = cmp.Or(p.MaxMessage, handshake.DefaultMaxMessage)
	if p.Header == nil {
		p.Header = header{}
	}
}

func paramsOf(p *handshake.Params) *params {
	return &params{Versions: p.Versions, MaxFrame: p.MaxFrame, MaxMessage: p.MaxMessage, Checksum: p.Checksum,
		Compress: p.Compression, IdleMillis: p.Idle.Milliseconds(), Header: toJSON(p.Header)}
}

// agreed is what an end knows when the handshake is over.
type agreed struct {
	Version        uint64   `json:"version"`
	SessionID      hexBytes `json:"session_id"`
	PeerMaxFrame   int64    `json:"peer_max_frame,omitempty"`
	PeerMaxMessage int64    `json:"peer_max_message"`
	Checksum       bool     `json:"checksum"`
	Compress       int      `json:"compress,omitempty"`
	IdleMillis     int64    `json:"idle_ms"`
	PeerHeader     header   `json:"peer_header"`

	Datagram *datagramAgreed `json:"datagram,omitempty"`
}

func agreedOf(r *handshake.Result) *agreed {
	return &agreed{Version: r.Version, SessionID: r.SessionID[:], PeerMaxFrame: r.PeerMaxFrame, PeerMaxMessage: r.PeerMaxMessage,
		Checksum: r.Checksum, Compress: int(r.Compression), IdleMillis: r.Idle.Milliseconds(), PeerHeader: toJSON(r.PeerHeader)}
}

// streamVector is the first frame that an end receives, and what it makes of it.
type streamVector struct {
	Name    string   `json:"name"`
	Section string   `json:"section"`
	Role    string   `json:"role"` // of the receiver
	Self    *params  `json:"self"`
	Sent    hexBytes `json:"sent,omitempty"` // client: its HELLO
	Bytes   hexBytes `json:"bytes"`
	Result  string   `json:"result"`
	Code    uint64   `json:"code,omitempty"`   // error: to fail with; refused: that of ERR
	Reason  string   `json:"reason,omitempty"` // refused
	Header  header   `json:"header,omitempty"` // refused
	Peer    *params  `json:"peer,omitempty"`   // server: what HELLO says
	Agreed  *agreed  `json:"agreed,omitempty"`
	Answer  hexBytes `json:"answer,omitempty"` // server: its WELCOME
}

var sessionID = [16]byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}

// run fills in what comes of it.
func (v *streamVector) run(t *testing.T) {
	t.Helper()
	f, n, err := framing.Parse(v.Bytes, 0, framing.TrailerSniff)
	if err != nil || n != len(v.Bytes) {
		t.Fatal(v.Name, err)
	}
	if v.Role == "server" {
		s := handshake.NewServer(v.Self.params())
		hello, err := s.Receive(f)
		if v.failed(t, err) {
			return
		}
		answer, r, err := s.AppendWelcome(nil, sessionID, nil)
		if err != nil {
			t.Fatal(v.Name, err)
		}
		if v.Result = "accepted"; hello.Legacy {
			v.Result = "crate"
			if f.Type == framing.TypeHello {
				v.Header = toJSON(hello.Header)
			}
			return
		}
		v.Peer, v.Agreed, v.Answer = paramsOf(&hello.Params), agreedOf(&r), answer
		return
	}
	c := handshake.NewClient(v.Self.params())
	if v.Sent, err = c.AppendHello(nil); err != nil {
		t.Fatal(v.Name, err)
	}
	r, err := c.Receive(f)
	if !v.failed(t, err) {
		v.Result, v.Agreed = "accepted", agreedOf(&r)
	}
}

func (v *streamVector) failed(t *testing.T, err error) bool {
	var local *handshake.Error
	var remote *handshake.RemoteError
	switch {
	case errors.As(err, &remote):
		v.Result, v.Code, v.Reason, v.Header = "refused", uint64(remote.Code), remote.Reason, toJSON(remote.Header)
	case errors.As(err, &local):
		v.Result, v.Code = "error", uint64(local.Code)
	case err != nil:
		t.Fatal(v.Name, err)
	}
	return err != nil
}

// hello and welcome make such a frame of fields that need not be right.
func hello(t *testing.T, fields ...framing.Field) []byte {
	t.Helper()
	return raw(framing.TypeHello, crc, block(t, fields), nil, true)
}

func welcome(t *testing.T, fields ...framing.Field) []byte {
	t.Helper()
	return raw(framing.TypeWelcome, crc, block(t, fields), nil, true)
}

type fields = []framing.Field

func field(key, value string) framing.Field { return framing.Field{Key: key, Value: value} }

// one and session are the fields without which there is no WELCOME.
var (
	one     = field(framing.KeyVersions, "\x01")
	session = field(framing.KeySessionID, string(sessionID[:]))
)

func fieldsN(n int, first ...framing.Field) fields {
	for len(first) < n {
		first = append(first, field("k", ""))
	}
	return first
}

// valueErrors are values of keys that HELLO and WELCOME share, and that are wrong.
var valueErrors = []struct {
	name  string
	field framing.Field
}{
	{"max frame of 131,085", varints(framing.KeyMaxFrame, 131085)},
	{"max frame of no bytes", field(framing.KeyMaxFrame, "")},
	{"max frame cut off", field(framing.KeyMaxFrame, "\x80\x20\x00")},
	{"max frame of two varints", varints(framing.KeyMaxFrame, 1<<20, 1)},
	{"max message of no bytes", field(framing.KeyMaxMessage, "")},
	{"max message with a byte behind it", field(framing.KeyMaxMessage, "\x80\x20\x00\x00\x00")},
	{"checksum of no bytes", field(framing.KeyChecksum, "")},
	{"checksum 02", field(framing.KeyChecksum, "\x02")},
	{"checksum of two bytes", field(framing.KeyChecksum, "\x01\x01")},
	{"idle of 2^43", varints(framing.KeyIdle, 1<<43)},
	{"idle of no bytes", field(framing.KeyIdle, "")},
	{"idle of two varints", varints(framing.KeyIdle, 1, 1)},
}

// keyed are keys of HELLO and WELCOME with good values, to be repeated.
var keyed = fields{varints(framing.KeyMaxFrame, 1<<20), varints(framing.KeyMaxMessage, 1), field(framing.KeyChecksum, "\x01"), varints(framing.KeyIdle, 1000)}

var keyNames = map[string]string{framing.KeyMaxFrame: "max frame", framing.KeyMaxMessage: "max message", framing.KeyChecksum: "checksum", framing.KeyIdle: "idle"}

func streamVectors(t *testing.T) []streamVector {
	var vs []streamVector
	plain := func() *params { return paramsOf(&handshake.Params{Versions: []uint64{1}, Checksum: true}) }
	add := func(role, name, section string, self *params, b []byte, want string, code uint64) {
		t.Helper()
		if self == nil {
			self = plain()
		}
		self.defaults()
		v := streamVector{Name: name, Section: section, Role: role, Self: self, Bytes: b}
		v.run(t)
		if v.Result != want || v.Code != code {
			t.Errorf("%s, %s: %s %d, want %s %d", role, name, v.Result, v.Code, want, code)
		}
		vs = append(vs, v)
	}
	server := func(name, section string, self *params, b []byte, want string, code uint64) {
		t.Helper()
		add("server", name, section, self, b, want, code)
	}
	client := func(name, section string, self *params, b []byte, want string, code uint64) {
		t.Helper()
		add("client", name, section, self, b, want, code)
	}
	user := fields{{Key: "authorization", Value: "Bearer t0ken"}, {Key: "route", Value: "eu-1"}}
	rich := &params{Versions: []uint64{1}, MaxFrame: 4 << 20, MaxMessage: 1 << 30, Compress: hexBytes{1}, IdleMillis: 20000, Header: toJSON(framing.Header{{Key: "node", Value: "a7"}})}
	no := &params{Versions: []uint64{1}, Header: header{}}
	all := append(fields{one, varints(framing.KeyMaxFrame, 1<<20), varints(framing.KeyMaxMessage, 16<<20), field(framing.KeyChecksum, "\x00"),
		field(framing.KeyCompress, "\x01"), varints(framing.KeyIdle, 30000)}, user...)

	server("HELLO with versions only", "4.1", nil, hello(t, one), "accepted", 0)
	server("HELLO with every key", "4.1", nil, hello(t, all...), "accepted", 0)
	server("HELLO with every key, to a server that wants as much", "4.3", rich, hello(t, all...), "accepted", 0)
	server("HELLO with the keys last, the metadata first", "4", rich, hello(t, append(user[:2:2], all[:6]...)...), "accepted", 0)
	server("the client asks for the CRC, the server does not", "4.3", no, hello(t, one, field(framing.KeyChecksum, "\x01")), "accepted", 0)
	server("the server asks for the CRC, the client does not", "4.3", nil, hello(t, one, field(framing.KeyChecksum, "\x00")), "accepted", 0)
	server("neither asks for the CRC", "4.3", no, hello(t, one, field(framing.KeyChecksum, "\x00")), "accepted", 0)
	server("several versions, of which one is known", "4.3", nil, hello(t, varints(framing.KeyVersions, 77777, 3, 1)), "accepted", 0)
	server("two known versions: the client's order counts", "4.3", &params{Versions: []uint64{1, 2}, Checksum: true}, hello(t, varints(framing.KeyVersions, 2, 1)), "accepted", 0)
	server("32 versions", "4.1", nil, hello(t, varints(framing.KeyVersions, append(make32(31, 2), 1)...)), "accepted", 0)
	server("a version in the longest form", "1", nil, hello(t, field(framing.KeyVersions, "\xc0\x00\x00\x00\x00\x00\x00\x01")), "accepted", 0)
	server("max frame of 131,086", "4.1", nil, hello(t, one, varints(framing.KeyMaxFrame, 131086)), "accepted", 0)
	server("max frame of 2^62 - 1", "4.1", nil, hello(t, one, varints(framing.KeyMaxFrame, 1<<62-1)), "accepted", 0)
	server("max message of 0", "4.1", nil, hello(t, one, varints(framing.KeyMaxMessage, 0)), "accepted", 0)
	server("idle of 0 is none: the server's counts", "4.3", rich, hello(t, one, varints(framing.KeyIdle, 0)), "accepted", 0)
	server("idle of 2^43 - 1", "4.1", nil, hello(t, one, varints(framing.KeyIdle, 1<<43-1)), "accepted", 0)
	server("compression not known", "4.3", rich, hello(t, one, field(framing.KeyCompress, "\x09\x02")), "accepted", 0)
	server("compression known, but not best", "4.3", rich, hello(t, one, field(framing.KeyCompress, "\x09\x01")), "accepted", 0)
	server("compression with 0, which is none", "4.3", rich, hello(t, one, field(framing.KeyCompress, "\x00\x01")), "accepted", 0)
	server("compression of no bytes", "4.1", rich, hello(t, one, field(framing.KeyCompress, "")), "accepted", 0)
	server("unknown reserved keys, a session id, keys of datagrams", "3", nil, hello(t, one, session, field("\x1f", "x"), field("\x1f", "y"), field("\x10\x00", "z"),
		field(framing.KeySourceID, "12345678"), field(framing.KeyService, "\x07"), field("\x00", "")), "accepted", 0)
	server("an empty key is metadata", "3", nil, hello(t, one, field("", "v"), field(" ", "space")), "accepted", 0)
	server("1,024 fields", "4", nil, hello(t, fieldsN(1024, one)...), "accepted", 0)

	server("1,025 fields", "4", nil, hello(t, fieldsN(1025, one)...), "error", 3)
	server("no common version", "4.3", nil, hello(t, varints(framing.KeyVersions, 2, 3)), "error", 2)
	server("no common version, and all else wrong: code 2 comes first", "4.3", nil, raw(framing.TypeHello, crc|framing.FlagFrag,
		block(t, fields{varints(framing.KeyVersions, 2), field(framing.KeyChecksum, "?"), field(framing.KeyIdle, "")}), []byte("x"), true), "error", 2)
	server("versions of no bytes", "4.1", nil, hello(t, field(framing.KeyVersions, "")), "error", 1)
	server("version 0", "4.1", nil, hello(t, varints(framing.KeyVersions, 1, 0)), "error", 1)
	server("33 versions", "4.1", nil, hello(t, varints(framing.KeyVersions, append(make32(32, 2), 1)...)), "error", 1)
	server("versions cut off", "4.3", nil, hello(t, field(framing.KeyVersions, "\x01\x40")), "error", 1)
	server("versions twice", "4.3", nil, hello(t, one, one), "error", 1)
	for _, e := range valueErrors {
		server(e.name, "4.3", nil, hello(t, one, e.field), "error", 1)
	}
	for _, k := range append(keyed, field(framing.KeyCompress, "\x01")) {
		server(cmp.Or(keyNames[k.Key], "compress")+" twice", "4.3", nil, hello(t, one, k, k), "error", 1)
	}
	server("without the CRC flag, though with a trailer", "4", nil, raw(framing.TypeHello, 0, block(t, fields{one}), nil, true), "error", 1)
	for _, fl := range []framing.Flags{framing.FlagReqAck, framing.FlagFrag, framing.FlagComp, 0x80} {
		server("with flag "+fl.String(), "4", nil, raw(framing.TypeHello, crc|fl, block(t, fields{one}), nil, true), "error", 1)
	}
	server("with a payload", "4", nil, raw(framing.TypeHello, crc, block(t, fields{one}), []byte("x"), true), "error", 1)
	server("WELCOME first", "4.5", nil, welcome(t, one, session), "error", 6)
	server("ERR first: the carrier is closed, nothing is sent", "4.5", nil, raw(framing.TypeErr, crc, block(t, fields{varints(framing.KeyCode, 11)}), nil, true), "refused", 11)
	server("HELLO of the crate", "6.1", nil, raw(framing.TypeHello, 0, nil, nil, true), "crate", 0)
	server("HELLO without versions: metadata as it is", "6.1", nil, raw(framing.TypeHello, 0, block(t, fields{{Key: "user", Value: "x"}, {Key: "\x05", Value: "y"}}), nil, true), "crate", 0)
	for _, typ := range []framing.Type{framing.TypeData, framing.TypePing, framing.TypePong, framing.TypeBye, framing.TypeAck} {
		server(typ.String()+" first", "4.5", nil, raw(typ, 0, nil, nil, true), "crate", 0)
	}

	client("WELCOME, minimal", "4.2", nil, welcome(t, one, session), "accepted", 0)
	offer := &params{Versions: []uint64{1}, MaxFrame: 1 << 20, MaxMessage: 16 << 20, Compress: hexBytes{1}, IdleMillis: 30000, Header: toJSON(user)}
	client("WELCOME with every key", "4.2", offer, welcome(t, one, session, varints(framing.KeyMaxFrame, 4<<20), varints(framing.KeyMaxMessage, 1<<30),
		field(framing.KeyChecksum, "\x00"), field(framing.KeyCompress, "\x01"), varints(framing.KeyIdle, 20000), field("node", "a7")), "accepted", 0)
	client("the server wants the CRC", "4.3", offer, welcome(t, one, session, field(framing.KeyChecksum, "\x01")), "accepted", 0)
	client("the second of two versions", "4.3", &params{Versions: []uint64{2, 1}, Checksum: true}, welcome(t, one, session), "accepted", 0)
	client("unknown reserved keys", "3", nil, welcome(t, one, session, field("\x1f", ""), field("\x07", "x")), "accepted", 0)
	client("1,024 fields", "4", nil, welcome(t, fieldsN(1024, one, session)...), "accepted", 0)
	client("1,025 fields", "4", nil, welcome(t, fieldsN(1025, one, session)...), "error", 3)
	client("no version", "4.2", nil, welcome(t, session), "error", 1)
	client("two versions", "4.2", nil, welcome(t, varints(framing.KeyVersions, 1, 1), session), "error", 1)
	client("a version that was not offered", "5.8", nil, welcome(t, varints(framing.KeyVersions, 2), session), "error", 2)
	client("no session id", "4.2", nil, welcome(t, one), "error", 1)
	client("session id of 15 bytes", "4.2", nil, welcome(t, one, field(framing.KeySessionID, "123456789012345")), "error", 1)
	client("session id twice", "4.3", nil, welcome(t, one, session, session), "error", 1)
	client("checksum off although the client asked for it", "4.3", nil, welcome(t, one, session, field(framing.KeyChecksum, "\x00")), "error", 1)
	client("compression that was not offered", "4.3", nil, welcome(t, one, session, field(framing.KeyCompress, "\x01")), "error", 1)
	client("two compressions", "4.3", offer, welcome(t, one, session, field(framing.KeyCompress, "\x01\x01")), "error", 1)
	client("compression 0", "4.3", offer, welcome(t, one, session, field(framing.KeyCompress, "\x00")), "error", 1)
	for _, e := range valueErrors {
		client(e.name, "4.3", nil, welcome(t, one, session, e.field), "error", 1)
	}
	for _, k := range keyed {
		client(keyNames[k.Key]+" twice", "4.3", nil, welcome(t, one, session, k, k), "error", 1)
	}
	client("without the CRC flag", "4", nil, raw(framing.TypeWelcome, 0, block(t, fields{one, session}), nil, true), "error", 1)
	client("with flag FRAG", "4", nil, raw(framing.TypeWelcome, crc|framing.FlagFrag, block(t, fields{one, session}), nil, true), "error", 1)
	client("with a payload", "4", nil, raw(framing.TypeWelcome, crc, block(t, fields{one, session}), []byte("x"), true), "error", 1)
	for _, typ := range []framing.Type{framing.TypeHello, framing.TypeData, framing.TypePing, framing.TypePong, framing.TypeBye, framing.TypeAck} {
		client(typ.String()+" in place of WELCOME", "4.5", nil, raw(typ, crc, nil, nil, true), "error", 6)
	}
	refusal := func(name, section string, code uint64, text string, fs ...framing.Field) {
		t.Helper()
		client(name, section, nil, raw(framing.TypeErr, crc, block(t, fs), []byte(text), true), "refused", code)
	}
	refusal("refusal with text and metadata", "4.4", 7, "unknown token", varints(framing.KeyCode, 7), field("retry-after", "30"))
	refusal("refusal, no common version", "4.4", 2, "", varints(framing.KeyCode, 2))
	refusal("refusal, overload", "4.4", 9, "", varints(framing.KeyCode, 9))
	refusal("a code of the application", "5.8", 1<<62-1, "", varints(framing.KeyCode, 1<<62-1))
	refusal("an unknown code", "5.8", 200, "", varints(framing.KeyCode, 200))
	refusal("ERR without a code", "5.8", 0, "why")
	refusal("a code that is no varint", "5.8", 0, "why", field(framing.KeyCode, "\x40"))
	refusal("a code with a byte behind it", "5.8", 0, "why", field(framing.KeyCode, "\x07\x00"))
	refusal("a text that is not UTF-8", "5.8", 7, "a\xffb", varints(framing.KeyCode, 7))
	refusal("a text of 1,025 bytes", "5.8", 7, strings.Repeat("x", 1025), varints(framing.KeyCode, 7))
	refusal("metadata of 1,025 fields is dropped", "5.8", 7, "", fieldsN(1025, varints(framing.KeyCode, 7))...)
	client("ERR with other flags", "5.8", nil, raw(framing.TypeErr, 0x33, block(t, fields{varints(framing.KeyCode, 7)}), nil, true), "refused", 7)
	return vs
}

// make32 returns n versions from first on.
func make32(n int, first uint64) (list []uint64) {
	for i := range n {
		list = append(list, first+uint64(i))
	}
	return list
}

func TestStreamHandshakeVectors(t *testing.T) {
	checkFile(t, "handshake-stream.json", "The first frame that an end of a stream receives, PROTOCOL 4, 5.8 and 6.1. Described in README.md.", listOf("vectors", streamVectors(t)))
	var file struct {
		About   string
		Vectors []streamVector
	}
	readFile(t, "handshake-stream.json", &file)
	for _, want := range file.Vectors {
		got := streamVector{Name: want.Name, Section: want.Section, Role: want.Role, Self: want.Self, Bytes: want.Bytes}
		got.run(t)
		same(t, want.Role+", "+want.Name, want, got)
	}
}
