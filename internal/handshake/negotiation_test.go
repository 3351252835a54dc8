package handshake

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// run carries out a handshake and returns what each side made of it.
func run(t testing.TB, client, server Params) (cr, sr Result, h *Hello, err error) {
	t.Helper()
	c, s := NewClient(client), NewServer(server)
	b, err := c.AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = s.Receive(parse(t, b)); err != nil {
		return
	}
	b, sr, err = s.AppendWelcome(nil, goldenID, nil)
	if err != nil {
		return
	}
	cr, err = c.Receive(parse(t, b))
	return
}

// TestNegotiation is §4.3, rule by rule.
func TestNegotiation(t *testing.T) {
	const z, other, third = CompressZstd, 7, 200
	tests := []struct {
		name   string
		c, s   Params
		want   Result // as both see it, but for limits and metadata
		failed framing.ErrorCode
	}{
		{name: "defaults", c: Params{}, s: Params{}, want: Result{Version: 1}},

		// "The server chooses the first one of the client's list that it knows itself."
		{name: "version of two", c: Params{Versions: []uint64{3, 2, 1}}, s: Params{Versions: []uint64{1, 2}}, want: Result{Version: 2}},
		{name: "client's order", c: Params{Versions: []uint64{1, 2}}, s: Params{Versions: []uint64{2, 1}}, want: Result{Version: 1}},
		{name: "large version", c: Params{Versions: []uint64{framing.MaxVarint}}, s: Params{Versions: []uint64{framing.MaxVarint}}, want: Result{Version: framing.MaxVarint}},
		{name: "a version twice", c: Params{Versions: []uint64{9, 9, 1, 1}}, s: Params{}, want: Result{Version: 1}},
		{name: "no version", c: Params{Versions: []uint64{2}}, s: Params{}, failed: framing.CodeVersion},

		// "On if either end asks for it."
		{name: "CRC, client", c: Params{Checksum: true}, s: Params{}, want: Result{Version: 1, Checksum: true}},
		{name: "CRC, server", c: Params{}, s: Params{Checksum: true}, want: Result{Version: 1, Checksum: true}},
		{name: "CRC, both", c: Params{Checksum: true}, s: Params{Checksum: true}, want: Result{Version: 1, Checksum: true}},

		// "the first one of the client's list that it knows itself [...], or none"
		{name: "zstd", c: Params{Compression: []byte{z}}, s: Params{Compression: []byte{z}}, want: Result{Version: 1, Compression: z}},
		{name: "zstd, client only", c: Params{Compression: []byte{z}}, s: Params{}, want: Result{Version: 1}},
		{name: "zstd, server only", c: Params{}, s: Params{Compression: []byte{z}}, want: Result{Version: 1}},
		{name: "nothing common", c: Params{Compression: []byte{other}}, s: Params{Compression: []byte{z}}, want: Result{Version: 1}},
		{name: "client's order of algorithms", c: Params{Compression: []byte{third, other, z}}, s: Params{Compression: []byte{z, other}}, want: Result{Version: 1, Compression: other}},

		// "The smaller of the two values that are not 0 counts"
		{name: "idle, client", c: Params{Idle: time.Second}, s: Params{}, want: Result{Version: 1, Idle: time.Second}},
		{name: "idle, server", c: Params{}, s: Params{Idle: time.Second}, want: Result{Version: 1, Idle: time.Second}},
		{name: "idle, client less", c: Params{Idle: time.Second}, s: Params{Idle: time.Minute}, want: Result{Version: 1, Idle: time.Second}},
		{name: "idle, server less", c: Params{Idle: time.Minute}, s: Params{Idle: time.Second}, want: Result{Version: 1, Idle: time.Second}},
		{name: "idle, negative", c: Params{Idle: -1}, s: Params{Idle: -time.Hour}, want: Result{Version: 1}},
		{name: "idle, rounded up", c: Params{Idle: 1}, s: Params{Idle: 1500 * time.Microsecond}, want: Result{Version: 1, Idle: time.Millisecond}},
		{name: "idle, one and a half", c: Params{Idle: 1500 * time.Microsecond}, s: Params{}, want: Result{Version: 1, Idle: 2 * time.Millisecond}},
		{name: "idle, the longest", c: Params{Idle: math.MaxInt64}, s: Params{}, want: Result{Version: 1, Idle: MaxIdle * time.Millisecond}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cr, sr, _, err := run(t, tt.c, tt.s)
			if tt.failed != 0 {
				wantError(t, tt.name, err, tt.failed)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tt.want.SessionID = goldenID
			tt.want.PeerMaxFrame, tt.want.PeerMaxMessage = DefaultMaxFrame, DefaultMaxMessage
			if !reflect.DeepEqual(cr, tt.want) {
				t.Errorf("client %+v\nwant   %+v", cr, tt.want)
			}
			if !reflect.DeepEqual(sr, tt.want) {
				t.Errorf("server %+v\nwant   %+v", sr, tt.want)
			}
		})
	}
}

// TestLimits: "Each end's value binds the other one's sending. They are not combined."
func TestLimits(t *testing.T) {
	for _, v := range []int64{MinMaxFrame, DefaultMaxFrame, 1<<30 - 1, 1 << 30, framing.MaxVarint} {
		cr, sr, h, err := run(t, Params{MaxFrame: v, MaxMessage: 1}, Params{MaxMessage: v})
		if err != nil {
			t.Fatal(err)
		}
		if cr.PeerMaxFrame != DefaultMaxFrame || cr.PeerMaxMessage != v {
			t.Errorf("client: frame %d, message %d", cr.PeerMaxFrame, cr.PeerMaxMessage)
		}
		if sr.PeerMaxFrame != v || sr.PeerMaxMessage != 1 || h.MaxFrame != v || h.MaxMessage != 1 {
			t.Errorf("server: frame %d, message %d, hello %+v", sr.PeerMaxFrame, sr.PeerMaxMessage, h)
		}
	}
	if MinMaxFrame != 131086 {
		t.Error("MinMaxFrame is not that of §2.6")
	}
}

// TestMostMetadata: HELLO and WELCOME take "at most 1,024 fields", §4, and so many.
func TestMostMetadata(t *testing.T) {
	cr, sr, h, err := run(t, Params{Checksum: true, Header: make(framing.Header, MaxFields-1)},
		Params{Header: make(framing.Header, MaxFields-2)})
	if err != nil || len(cr.PeerHeader) != MaxFields-2 || len(sr.PeerHeader) != MaxFields-1 || len(h.Header) != MaxFields-1 {
		t.Fatalf("%d, %d and %d fields, %v", len(cr.PeerHeader), len(sr.PeerHeader), len(h.Header), err)
	}
}

// TestZeroMaxMessage: a peer may accept empty messages only; absence is not 0.
func TestZeroMaxMessage(t *testing.T) {
	h, err := NewServer(Params{}).Receive(handshakeFrame(t, framing.TypeHello, framing.Header{versions1, varints(framing.KeyMaxMessage, 0)}))
	if err != nil || h.MaxMessage != 0 {
		t.Fatalf("%+v, %v", h, err)
	}
}

// TestHelloFields: everything the client said is in the Hello, as §4.1 has it.
func TestHelloFields(t *testing.T) {
	_, _, h, err := run(t, fullClient, fullServer)
	if err != nil {
		t.Fatal(err)
	}
	want := fullClient
	want.Versions = []uint64{1}
	if !reflect.DeepEqual(h.Params, want) || h.Legacy {
		t.Fatalf("%+v\nwant %+v", h.Params, want)
	}
}

// TestTolerance is what a receiver accepts beside what our sender makes: another
// order, long varints, keys of later versions, keys without meaning there.
func TestTolerance(t *testing.T) {
	h := framing.Header{
		{Key: "a", Value: "1"},
		f1(framing.KeyIdle, "\xc0\x00\x00\x00\x00\x00\x00\x05"), // 5 in eight bytes
		{Key: "", Value: "empty key"},
		{Key: "\x17", Value: "later"},
		{Key: "\x17", Value: "later"},
		{Key: "\x00", Value: ""},
		{Key: "\x10\x10", Value: "long"},
		f1(framing.KeyMessage, ""),
		f1(framing.KeyCode, "\x01"),
		f1(framing.KeyChecksum, "\x00"),
		f1(framing.KeyCompress, "\x00\x09\x01\x01"), // 0 is no algorithm, 9 not known
		{Key: "a", Value: "2"},
		f1(framing.KeyVersions, "\x40\x07\xc0\x00\x00\x00\x00\x00\x00\x01"),
	}
	hello := append(slices.Clone(h), f1(framing.KeySessionID, "no meaning"), f1(framing.KeySessionID, "in HELLO"))
	s := NewServer(Params{Versions: []uint64{1}, Compression: []byte{CompressZstd}})
	got, err := s.Receive(handshakeFrame(t, framing.TypeHello, hello))
	if err != nil {
		t.Fatal(err)
	}
	user := framing.Header{{Key: "a", Value: "1"}, {Key: "", Value: "empty key"}, {Key: "a", Value: "2"}}
	if !slices.Equal(got.Header, user) || got.Idle != 5*time.Millisecond || got.Checksum || !slices.Equal(got.Versions, []uint64{7, 1}) {
		t.Fatalf("%+v", got)
	}
	_, r, err := s.AppendWelcome(nil, goldenID, nil)
	if err != nil || r.Version != 1 || r.Compression != CompressZstd {
		t.Fatalf("%+v, %v", r, err)
	}

	h[10].Value, h[12].Value = "\x01", "\x40\x01"
	c := NewClient(Params{Compression: []byte{CompressZstd}, Idle: time.Hour})
	if _, err := c.AppendHello(nil); err != nil {
		t.Fatal(err)
	}
	r, err = c.Receive(handshakeFrame(t, framing.TypeWelcome, append(h, session)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.PeerHeader, user) || r.Idle != 5*time.Millisecond || string(r.SessionID[:]) != session.Value {
		t.Fatalf("%+v", r)
	}
}

// TestNothingKept: frames are views of a buffer that the caller uses again.
func TestNothingKept(t *testing.T) {
	b := hello(t, fullClient)
	s := NewServer(fullServer)
	h, err := s.Receive(parse(t, b))
	if err != nil {
		t.Fatal(err)
	}
	overwrite(b)
	if !slices.Equal(h.Header, fullClient.Header) || !bytes.Equal(h.Compression, fullClient.Compression) {
		t.Fatalf("%+v", h)
	}
	c := NewClient(fullClient)
	if _, err := c.AppendHello(nil); err != nil {
		t.Fatal(err)
	}
	if b, _, err = s.AppendWelcome(nil, goldenID, nil); err != nil {
		t.Fatal(err)
	}
	r, err := c.Receive(parse(t, b))
	if err != nil {
		t.Fatal(err)
	}
	overwrite(b)
	if !slices.Equal(r.PeerHeader, fullServer.Header) || r.SessionID != goldenID {
		t.Fatalf("%+v", r)
	}
	if b, err = AppendErr(nil, 7, "reason", fullServer.Header); err != nil {
		t.Fatal(err)
	}
	e := ParseErr(parse(t, b))
	overwrite(b)
	if e.Reason != "reason" || !slices.Equal(e.Header, fullServer.Header) {
		t.Fatalf("%+v", e)
	}
}

func overwrite(b []byte) {
	for i := range b {
		b[i] = 0xdd
	}
}

// TestParamsUntouched: slices of the caller are read, never written, and one
// Params serves any number of machines.
func TestParamsUntouched(t *testing.T) {
	spare := make(framing.Header, 1, 8)
	spare[0] = framing.Field{Key: "k", Value: "v"}
	p := Params{Header: spare, Compression: append(make([]byte, 0, 8), CompressZstd)}
	first := hello(t, p)
	welcome(t, p, p)
	if !bytes.Equal(hello(t, p), first) {
		t.Fatal("another HELLO from the same Params")
	}
	for i, f := range spare[:cap(spare)] {
		if i > 0 && f != (framing.Field{}) {
			t.Fatalf("field %d of the caller's slice is %q", i, f)
		}
	}
}
