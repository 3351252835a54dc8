package handshake

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// FuzzParseHello: what is taken of a frame with crypto is what is in it, and made again
// it says the same.
func FuzzParseHello(f *testing.F) {
	addDatagramSeeds(f, func(b []byte) { f.Add(b, true) })
	f.Fuzz(func(t *testing.T, b []byte, good bool) {
		if good {
			b = reseal(b)
		}
		before := bytes.Clone(b)
		h, err := ParseHello(b)
		w, ok := ParseCryptoWelcome(b)
		_, retry := ParseRetry(b, clientID)
		if !bytes.Equal(b, before) {
			t.Fatal("written to")
		}
		if n := err == nil; n && ok || ok && retry || n && retry {
			t.Fatal("several things at once")
		}
		if err == nil && !h.Crypto && (h.Data != nil || h.HasHave || h.Offset != 0) {
			t.Fatalf("%+v", h)
		}
		if err == nil && h.Crypto {
			if len(b) < MaxHandshakeDatagram || h.part != (part{}) || h.Offset+uint64(len(h.Data)) > framing.MaxVarint || !h.HasHave && h.InitialHave+h.HandshakeHave > 0 {
				t.Fatalf("%+v", h)
			}
			if max(h.Offset, h.InitialHave, h.HandshakeHave) >= maxCryptoNumber || len(h.Data) > CryptoRoom(len(h.Cookie)) {
				return
			}
			again, err := ParseHello(AppendCryptoHello(nil, &CryptoFrame{SourceID: h.SourceID, Cookie: h.Cookie, Offset: h.Offset, Data: h.Data,
				HasHave: h.HasHave, InitialHave: h.InitialHave, HandshakeHave: h.HandshakeHave}))
			if err != nil || !reflect.DeepEqual(again, h) {
				t.Fatalf("%+v, %v\nof %+v", again, err, h)
			}
		}
		if ok && w.Offset < maxCryptoNumber && len(w.Data) <= CryptoRoom(0) {
			if again, ok := ParseCryptoWelcome(AppendCryptoWelcome(nil, &w)); !ok || !reflect.DeepEqual(again, w) {
				t.Fatalf("%+v\nof %+v", again, w)
			}
		}
	})
}

// FuzzSealedParams: what is taken lies within the limits, what is not has an error that
// can be told, and what is sent again says the same.
func FuzzSealedParams(f *testing.F) {
	c, _ := AppendClientParams(nil, &sealedClient)
	s, _ := AppendServerParams(nil, &sealedServer)
	for _, b := range [][]byte{c, s, block(f, clientFields), block(f, serverFields), nil} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, server := range []bool{false, true} {
			parse, add := ParseClientParams, AppendClientParams
			if server {
				parse, add = ParseServerParams, AppendServerParams
			}
			p, err := parse(b)
			if err != nil {
				var he *Error
				if !errors.As(err, &he) || he.Code == framing.CodeInternal || p != nil {
					t.Fatal(err)
				}
				continue
			}
			if len(p.Versions) == 0 || len(p.Versions) > MaxVersions || server && len(p.Versions) != 1 || p.MaxDatagram < MinMaxDatagram || p.MaxDatagram > MaxMaxDatagram ||
				p.AckDelay < 0 || p.AckDelay > MaxAckDelay || p.Idle < 0 || p.MaxMessage < 0 || p.Checksum || p.Header != nil || p.MaxFrame != DefaultMaxFrame {
				t.Fatalf("%+v", p)
			}
			if p.MaxMessage == 0 || p.AckDelay == 0 {
				continue // which means the default when sent
			}
			again, err := add(nil, p)
			if err != nil {
				t.Fatal(err)
			}
			q, err := parse(again)
			if err != nil || !reflect.DeepEqual(p, q) {
				t.Fatalf("%+v, %v\nof %+v", q, err, p)
			}
			if server {
				_, err = Negotiate(&sealedClient, p, true)
			} else {
				_, err = Negotiate(p, &sealedServer, false)
			}
			var he *Error
			if err != nil && (!errors.As(err, &he) || he.Code == framing.CodeInternal) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzControl: records come off one after the other, in pieces as in one, until the end
// or an error that can be told.
func FuzzControl(f *testing.F) {
	each, all := controlRecords(f)
	token, _ := AppendControlHelloToken(nil, nil, testToken)
	for _, b := range append(each, all, token) {
		f.Add(b, uint16(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		part, partN, partErr := ParseControl(b[:min(len(b), int(cut))])
		rec, n, err := ParseControl(b)
		if partErr != nil && err == nil || partN > 0 && (n != partN || !reflect.DeepEqual(part, rec)) {
			t.Fatalf("%d, %v; of a part %d, %v", n, err, partN, partErr)
		}
		for ; err == nil && n > 0; rec, n, err = ParseControl(b) {
			if n > MaxControl || n > len(b) || rec.Header.HasReserved() || len(rec.Header) > MaxFields || (rec.Err != nil) != (rec.Type == framing.TypeErr) {
				t.Fatalf("%d, %+v", n, rec)
			}
			var again []byte
			var e error
			switch rec.Type {
			case framing.TypeHello:
				if again, e = AppendControlHello(nil, rec.Header); rec.HasResetToken {
					again, e = AppendControlHelloToken(nil, rec.Header, rec.ResetToken)
				}
			case framing.TypeWelcome:
				again, e = AppendControlWelcome(nil, rec.Header)
			case framing.TypeErr:
				if len(rec.Err.Header) == MaxFields {
					break // no room for the code
				}
				if again, e = AppendControlErr(nil, rec.Err.Code, rec.Err.Reason, rec.Err.Header); errors.Is(e, framing.ErrHeaderTooLarge) {
					again, e = nil, nil // a code of several bytes
				}
			default:
				again = AppendControlData(nil, rec.Data)
			}
			if e != nil {
				t.Fatal(e)
			}
			if again != nil {
				q, _, err := ParseControl(again)
				if rec.Type == framing.TypeData && len(rec.Data) == 0 {
					break
				}
				if err != nil || !reflect.DeepEqual(q, rec) {
					t.Fatalf("%+v, %v\nof %+v", q, err, rec)
				}
			}
			b = b[n:]
		}
		var he *Error
		if err != nil && (!errors.As(err, &he) || he.Code == framing.CodeInternal || n != 0) {
			t.Fatal(n, err)
		}
	})
}
