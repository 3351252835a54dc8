package handshake

import (
	"bytes"
	"slices"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// controlRecords returns one record of each type, and one of every type in a row.
func controlRecords(t testing.TB) (each [][]byte, all []byte) {
	t.Helper()
	h := framing.Header{{Key: "authorization", Value: "Bearer t0ken"}}
	hello, err1 := AppendControlHello(nil, h)
	welcome, err2 := AppendControlWelcome(nil, nil)
	refusal, err3 := AppendControlErr(nil, framing.CodeRefused, "no", h)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	each = [][]byte{hello, welcome, refusal, AppendControlData(nil, []byte("ticket"))}
	return each, slices.Concat(each...)
}

// TestControl: what is appended is what is parsed, §8.8.
func TestControl(t *testing.T) {
	each, all := controlRecords(t)
	var got []Control
	for b := all; len(b) > 0; {
		rec, n, err := ParseControl(b)
		if err != nil || n != len(each[len(got)]) {
			t.Fatal(n, err)
		}
		got, b = append(got, rec), b[n:]
	}
	if got[0].Type != framing.TypeHello || got[0].Header.Get("authorization") != "Bearer t0ken" ||
		got[1].Type != framing.TypeWelcome || len(got[1].Header) != 0 ||
		got[2].Type != framing.TypeErr || got[2].Err.Code != framing.CodeRefused || got[2].Err.Reason != "no" || len(got[2].Err.Header) != 1 ||
		got[3].Type != framing.TypeData || string(got[3].Data) != "ticket" {
		t.Fatalf("%+v", got)
	}
	// More bytes are needed until all are there.
	for _, b := range each {
		for i := range b {
			if _, n, err := ParseControl(b[:i]); n != 0 || err != nil {
				t.Fatalf("%x cut off at %d: %d, %v", b, i, n, err)
			}
		}
	}
	// Large ones go in several records.
	for _, size := range []int{0, 1, MaxControl - framing.FixedLen, MaxControl - framing.FixedLen + 1, 3 * MaxControl} {
		data := bytes.Repeat([]byte{5}, size)
		var have []byte
		for b := AppendControlData(nil, data); len(b) > 0; {
			rec, n, err := ParseControl(b)
			if err != nil || n == 0 || n > MaxControl || rec.Type != framing.TypeData {
				t.Fatal(n, err)
			}
			have, b = append(have, rec.Data...), b[n:]
		}
		if !bytes.Equal(have, data) {
			t.Fatalf("%d of %d bytes", len(have), size)
		}
	}
}

// TestControlToken: the reset token of a client comes where nobody else can read it.
func TestControlToken(t *testing.T) {
	h := framing.Header{f1("route", "eu-1")}
	b, err := AppendControlHelloToken(nil, h, testToken)
	if err != nil {
		t.Fatal(err)
	}
	rec, n, err := ParseControl(b)
	if n != len(b) || err != nil || !rec.HasResetToken || rec.ResetToken != testToken || !slices.Equal(rec.Header, h) {
		t.Fatalf("%d, %v, %+v", n, err, rec)
	}
	token := f1(framing.KeyResetToken, string(testToken[:]))
	for name, tt := range map[string]struct {
		typ  framing.Type
		h    framing.Header
		code framing.ErrorCode
		has  bool
	}{
		"once":             {framing.TypeHello, framing.Header{token}, 0, true},
		"behind metadata":  {framing.TypeHello, framing.Header{h[0], token}, 0, true},
		"twice":            {framing.TypeHello, framing.Header{token, token}, framing.CodeProtocol, false},
		"empty":            {framing.TypeHello, framing.Header{f1(framing.KeyResetToken, "")}, framing.CodeProtocol, false},
		"17 bytes":         {framing.TypeHello, framing.Header{f1(framing.KeyResetToken, token.Value+"x")}, framing.CodeProtocol, false},
		"ignored, WELCOME": {framing.TypeWelcome, framing.Header{token, token}, 0, false},
		"ignored, ERR":     {framing.TypeErr, framing.Header{token}, 0, false},
	} {
		raw := block(t, tt.h)
		rec, _, err := ParseControl(append(framing.AppendFixed(nil, tt.typ, 0, len(raw), 0), raw...))
		if rec.HasResetToken != tt.has {
			t.Errorf("%s: %+v", name, rec)
		}
		if tt.code != 0 {
			wantError(t, name, err, tt.code)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
