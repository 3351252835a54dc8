package handshake

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

func testTokenKey() TokenKey { return NewTokenKey([32]byte(testKey)) }

var testTokenID = [TokenIDLen]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func makeToken(k TokenKey, issued, rtt time.Duration, ip string) []byte {
	return k.Append(nil, &Token{ID: testTokenID, Issued: issued, RTT: rtt}, []byte(ip))
}

// What is in a token, by PROTOCOL §7.3.
func TestTokenFormat(t *testing.T) {
	got := makeToken(testTokenKey(), time.Hour, 40*time.Millisecond, "addr")
	block, _ := aes.NewCipher(testKey[:])
	gcm, _ := cipher.NewGCM(block)
	body := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(time.Hour)), 40_000)
	want := gcm.Seal(bytes.Clone(testTokenID[:]), testTokenID[:], body, []byte("addr"))
	if !bytes.Equal(got, want) || len(got) != TokenLen || len(got) > MaxToken || TokenLen == CookieLen {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestTokenOpen(t *testing.T) {
	const ip, issued = "\xc0\x00\x02\x07", time.Hour
	key := testTokenKey()
	token := makeToken(key, issued, 40*time.Millisecond, ip)
	for name, c := range map[string]struct {
		key  TokenKey
		now  time.Duration
		ip   string
		good bool
	}{
		"at once":         {key, issued, ip, true},
		"just in time":    {key, issued + TokenLifetime - 1, ip, true},
		"too late":        {key, issued + TokenLifetime, ip, false},
		"too early":       {key, issued - 1, ip, false},
		"another address": {key, issued, "\xc0\x00\x02\x08", false},
		"another key":     {NewTokenKey([32]byte{1}), issued, ip, false},
	} {
		got, ok := c.key.Open(c.now, []byte(c.ip), token)
		if ok != c.good || ok && (got != Token{ID: testTokenID, Issued: issued, RTT: 40 * time.Millisecond}) || !ok && got != (Token{}) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	for i := range token {
		b := bytes.Clone(token)
		b[i] ^= 1
		if _, ok := key.Open(issued, []byte(ip), b); ok {
			t.Errorf("good with another byte %d", i)
		}
		if _, ok := key.Open(issued, []byte(ip), token[:i]); ok {
			t.Errorf("%d bytes are good", i)
		}
	}
}

// A client has its token in all parts of its first HELLO, of 96 bytes at least, and not any
// more when it has a cookie.
func TestTokenHello(t *testing.T) {
	token := makeToken(testTokenKey(), 0, 0, "addr")
	for _, size := range []int{0, 5000} {
		p := goldenClient
		p.Header = bigHeader(size)
		c := newDatagramClient(t, p)
		c.SetToken(token)
		var s DatagramServer
		hellos := c.AppendHello(nil)
		done := false
		for _, b := range hellos {
			h, err := ParseHello(b)
			if err != nil || !bytes.Equal(h.Cookie, token) || len(b) < MinHello {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			o, err := s.Receive(&h)
			if err != nil {
				t.Fatal(err)
			}
			done = o == Done
		}
		if !done || size > 0 && len(hellos) < 5 {
			t.Errorf("%d parts, done: %v", len(hellos), done)
		}
		if o, err := c.Receive(AppendRetry(nil, clientID, goldenCookie())); o != Again || err != nil {
			t.Fatal(o, err)
		}
		if h, err := ParseHello(c.AppendHello(nil)[0]); err != nil || !bytes.Equal(h.Cookie, goldenCookie()) {
			t.Errorf("%x, %v", h.Cookie, err)
		}
	}
	c := newDatagramClient(t, goldenClient)
	c.SetToken(make([]byte, MaxToken+1))
	if h, _ := ParseHello(c.AppendHello(nil)[0]); h.Cookie != nil {
		t.Error("a token that is too long")
	}
}

// What the server gives arrives; what is no token is as none.
func TestTokenWelcome(t *testing.T) {
	for n, want := range map[int]bool{0: false, 1: true, MaxToken: true, MaxToken + 1: false} {
		token := bytes.Repeat([]byte{7}, n)
		c := newDatagramClient(t, goldenClient)
		var s DatagramServer
		h, _ := ParseHello(c.AppendHello(nil)[0])
		if _, err := s.Receive(&h); err != nil {
			t.Fatal(err)
		}
		p := goldenServer
		p.Token = token
		if _, err := s.Welcome(p, goldenID, nil); err != nil {
			t.Fatal(err)
		}
		answer := s.Answer()[0]
		if o, err := c.Receive(answer); o != Done || err != nil {
			t.Fatal(o, err)
		}
		clear(answer) // nothing of it is kept
		if got := c.Result().Token; want != bytes.Equal(got, token) && n > 0 || !want && got != nil {
			t.Errorf("%d bytes: %x", n, got)
		}
		own := framing.Header{{Key: framing.KeyToken, Value: string(token)}}
		b, err := appendControl(nil, framing.TypeWelcome, own, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		rec, _, err := ParseControl(b)
		if err != nil || (rec.Token != nil) != want || want && !bytes.Equal(rec.Token, token) {
			t.Errorf("control stream, %d bytes: %x, %v", n, rec.Token, err)
		}
	}
}

// FuzzToken: whatever a client sends for a token, what opens is what was made.
func FuzzToken(f *testing.F) {
	key := testTokenKey()
	f.Add(makeToken(key, time.Hour, 40*time.Millisecond, "addr"), []byte("addr"), int64(time.Hour))
	f.Add(makeToken(key, -1, -1, ""), []byte{}, int64(0))
	f.Add([]byte{}, []byte{}, int64(-1))
	f.Fuzz(func(t *testing.T, token, ip []byte, now int64) {
		before := bytes.Clone(token)
		got, ok := key.Open(time.Duration(now), ip, token)
		if !bytes.Equal(before, token) {
			t.Fatal("changed")
		}
		if !ok {
			return
		}
		if age := time.Duration(now) - got.Issued; age < 0 || age >= TokenLifetime {
			t.Fatalf("%v old", age)
		}
		if again := key.Append(nil, &got, ip); !bytes.Equal(again, token) {
			t.Fatalf("%x, made again %x", token, again)
		}
	})
}
