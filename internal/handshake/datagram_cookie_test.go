package handshake

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"
)

// TestCookieBytes: what a cookie is made of, §7.3. It is the affair of its maker
// alone; here it is pinned so that it does not change unseen.
func TestCookieBytes(t *testing.T) {
	b := testKey.Append([]byte("kept"), testNow, testAddr, clientID)[4:]
	mac := hmac.New(sha256.New, testKey[:])
	stamp, _ := hex.DecodeString("18fae27693b40000") // 1,800,000,000 s in nanoseconds
	mac.Write(append(append(bytes.Clone(stamp), clientID[:]...), testAddr...))
	if want := append(stamp, mac.Sum(nil)[:16]...); !bytes.Equal(b, want) || len(b) != CookieLen {
		t.Fatalf("%x, want %x", b, want)
	}
}

// TestCookieCheck: for one address, one id, one key and 30 s.
func TestCookieCheck(t *testing.T) {
	cookie := testKey.Append(nil, testNow, testAddr, clientID)
	for name, tt := range map[string]struct {
		key  CookieKey
		now  time.Time
		addr string
		id   ConnID
		want bool
	}{
		"at once":         {testKey, testNow, string(testAddr), clientID, true},
		"just in time":    {testKey, testNow.Add(CookieLifetime - 1), string(testAddr), clientID, true},
		"too late":        {testKey, testNow.Add(CookieLifetime), string(testAddr), clientID, false},
		"much too late":   {testKey, testNow.Add(200 * 365 * 24 * time.Hour), string(testAddr), clientID, false},
		"clock set back":  {testKey, testNow.Add(-1), string(testAddr), clientID, false},
		"another address": {testKey, testNow, "192.0.2.7:6970", clientID, false},
		"no address":      {testKey, testNow, "", clientID, false},
		"another id":      {testKey, testNow, string(testAddr), serverID, false},
		"another key":     {CookieKey{3, 2, 1}, testNow, string(testAddr), clientID, false},
	} {
		if got := tt.key.Check(tt.now, []byte(tt.addr), tt.id, cookie); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for i := range cookie {
		for bit := range 8 {
			c := bytes.Clone(cookie)
			c[i] ^= 1 << bit
			if testKey.Check(testNow.Add(time.Second), testAddr, clientID, c) {
				t.Errorf("bit %d of byte %d changed", bit, i)
			}
		}
		if testKey.Check(testNow, testAddr, clientID, cookie[:i]) {
			t.Errorf("cut off at %d", i)
		}
	}
	if testKey.Check(testNow, testAddr, clientID, append(cookie, 0)) {
		t.Error("one byte more")
	}
}

// TestPlausibleCookie: nobody with a good cookie is taken for one without, and one that
// is too old is seen without the key.
func TestPlausibleCookie(t *testing.T) {
	var k CookieKey
	now := time.Unix(1e9, 0)
	for _, sealed := range []bool{false, true} {
		hello := func(cookie []byte) []byte {
			if sealed {
				return AppendCryptoHello(nil, &CryptoFrame{SourceID: clientID, Cookie: cookie, Data: []byte("x")})
			}
			c, err := NewDatagramClient(DatagramParams{SourceID: clientID})
			if err != nil {
				t.Fatal(err)
			}
			c.cookie = cookie
			return c.AppendHello(nil)[0]
		}
		cookie := k.Append(nil, now, []byte("address"), clientID)
		for _, c := range []struct {
			age  time.Duration
			want bool
		}{{0, true}, {CookieLifetime - 1, true}, {CookieLifetime, false}, {-1, false}} {
			if got := PlausibleCookie(now.Add(c.age), hello(cookie)); got != c.want {
				t.Errorf("after %v: %v", c.age, got)
			}
		}
		b := hello(nil)
		for n := range len(b) {
			if PlausibleCookie(now, b[:n]) {
				t.Fatalf("%d bytes without a cookie", n)
			}
		}
		if PlausibleCookie(now, hello(cookie[:CookieLen-1])) {
			t.Error("a cookie of another length")
		}
	}
}
