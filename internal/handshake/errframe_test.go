package handshake

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vstp-go/vstp/framing"
)

// TestErrRoundTrip: codes, texts and metadata of all sizes.
func TestErrRoundTrip(t *testing.T) {
	meta := framing.Header{{Key: "a", Value: "1"}, {Key: "a", Value: ""}, {Key: "", Value: "\x00\xff"}}
	for _, code := range []framing.ErrorCode{0, 1, 11, 63, 64, framing.CodeApplication, framing.MaxVarint} {
		for _, h := range []framing.Header{nil, meta} {
			b, err := AppendErr([]byte("kept"), code, "grün", h)
			if err != nil {
				t.Fatal(err)
			}
			f := parse(t, b[len("kept"):])
			if f.Type != framing.TypeErr || f.Flags != framing.FlagCRC || string(b[:4]) != "kept" {
				t.Fatalf("%+v", f)
			}
			if e := ParseErr(f); e.Code != code || e.Reason != "grün" || !slices.Equal(e.Header, h) {
				t.Fatalf("%+v", e)
			}
		}
	}
}

// TestErrNoCode: "the code counts as 0, which is never sent", §5.8.
func TestErrNoCode(t *testing.T) {
	b, err := AppendErr(nil, 0, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := parse(t, b).Header.Lookup(framing.KeyCode); ok {
		t.Fatalf("%x", b)
	}
}

// TestErrReason: "UTF-8, at most 1,024 bytes", cut between two characters, §5.8.
func TestErrReason(t *testing.T) {
	n := framing.MaxReasonLen
	tests := []struct{ name, in, want string }{
		{"empty", "", ""},
		{"just fits", strings.Repeat("x", n), strings.Repeat("x", n)},
		{"one too long", strings.Repeat("x", n+1), strings.Repeat("x", n)},
		{"two bytes at the edge", strings.Repeat("x", n-1) + "ü", strings.Repeat("x", n-1)},
		{"four bytes at the edge", strings.Repeat("x", n-3) + "😀", strings.Repeat("x", n-3)},
		{"four bytes fit", strings.Repeat("x", n-4) + "😀" + "y", strings.Repeat("x", n-4) + "😀"},
		{"not UTF-8", "a\xffb", "a\uFFFDb"},
		{"half a character at the end", "a\xc3", "a\uFFFD"},
		{"all wrong", strings.Repeat("\xff-", 3*n), ""},
		{"very long", strings.Repeat("ü", 1<<20), strings.Repeat("ü", n/2)},
	}
	for _, tt := range tests {
		b, err := AppendErr(nil, 1, tt.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent := string(parse(t, b).Payload)
		if len(sent) > n || !utf8.ValidString(sent) || tt.want != "" && sent != tt.want {
			t.Errorf("%s: sent %d bytes: %.20q", tt.name, len(sent), sent)
		}
		// A receiver does the same to what a peer may send.
		got := ParseErr(framing.Frame{Type: framing.TypeErr, Payload: []byte(tt.in)}).Reason
		if len(got) > n || !utf8.ValidString(got) || tt.in != "" && got == "" {
			t.Errorf("%s: received %d bytes: %.20q", tt.name, len(got), got)
		}
	}
}

// TestErrAccepted: "An ERR is accepted whatever its content looks like", §5.8.
func TestErrAccepted(t *testing.T) {
	tests := []struct {
		name string
		h    framing.RawHeader
		code framing.ErrorCode
		meta framing.Header
	}{
		{"no code", nil, 0, nil},
		{"empty code", block(t, framing.Header{f1(framing.KeyCode, "")}), 0, nil},
		{"code cut off", block(t, framing.Header{f1(framing.KeyCode, "\x40")}), 0, nil},
		{"code and more", block(t, framing.Header{f1(framing.KeyCode, "\x01\x01")}), 0, nil},
		{"code twice", block(t, framing.Header{varints(framing.KeyCode, 3), varints(framing.KeyCode, 4)}), 3, nil},
		{"unknown code", block(t, framing.Header{varints(framing.KeyCode, 99)}), 99, nil},
		{"unknown reserved keys", block(t, framing.Header{{Key: "\x1f"}, varints(framing.KeyCode, 3), {Key: "k"}}), 3, framing.Header{{Key: "k"}}},
		{"block cut off", block(t, framing.Header{varints(framing.KeyCode, 3), {Key: "k"}})[:6], 3, nil},
		{"too many fields", block(t, append(framing.Header{varints(framing.KeyCode, 3)}, make(framing.Header, MaxFields)...)), 3, nil},
	}
	for _, tt := range tests {
		for _, flags := range []framing.Flags{0, framing.FlagCRC, 0xff} {
			e := ParseErr(framing.Frame{Type: framing.TypeErr, Flags: flags, Header: tt.h})
			if e.Code != tt.code || !slices.Equal(e.Header, tt.meta) {
				t.Errorf("%s: %+v", tt.name, e)
			}
		}
	}
}

// TestErrRefused: what cannot be sent leaves the buffer as it was.
func TestErrRefused(t *testing.T) {
	for _, h := range []framing.Header{{{Key: "\x00"}}, {{Key: strings.Repeat("k", 256)}}, make(framing.Header, MaxFields)} {
		b, err := AppendErr([]byte("kept"), 1, "", h)
		wantError(t, "header", err, framing.CodeInternal)
		if string(b) != "kept" {
			t.Errorf("returned %q", b)
		}
	}
	_, err := AppendErr(nil, framing.MaxVarint+1, "", nil)
	wantError(t, "code", err, framing.CodeInternal)
}

// TestErrorText: errors name code and reason, and a peer's text is quoted.
func TestErrorText(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{&Error{Code: framing.CodeHeader, Err: framing.ErrHeader}, "handshake: malformed header: framing: header block does not add up"},
		{protocol("bad idle timeout"), "handshake: protocol violation: bad idle timeout"},
		{unexpected(framing.TypeAck), "handshake: unexpected frame: ACK"},
		{&RemoteError{Code: framing.CodeRefused}, "handshake: peer reports: refused"},
		{&RemoteError{Code: framing.CodeRefused, Reason: "a\x1b[2J\n"}, `handshake: peer reports: refused: "a\x1b[2J\n"`},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
