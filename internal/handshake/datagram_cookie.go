package handshake

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// Sizes and times of a cookie. PROTOCOL §7.3.
const (
	CookieLen      = cookieStamp + cookieMAC
	CookieLifetime = 30 * time.Second

	cookieStamp = 8
	cookieMAC   = 16
)

// A CookieKey makes cookies, and knows them again. Its bytes come from a
// cryptographic source and are those of one socket. It may be used concurrently.
type CookieKey [32]byte

// Append appends the cookie for a client with that address and connection id.
func (k *CookieKey) Append(b []byte, now time.Time, addr []byte, id ConnID) []byte {
	n := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
	mac := k.mac(b[n:], addr, id)
	return append(b, mac[:cookieMAC]...)
}

// Check reports whether the cookie was made for that client, and less than
// CookieLifetime ago. A clock that was set back makes it fail, and the client gets
// another one.
func (k *CookieKey) Check(now time.Time, addr []byte, id ConnID, cookie []byte) bool {
	if len(cookie) != CookieLen {
		return false
	}
	stamp, want := cookie[:cookieStamp], cookie[cookieStamp:]
	// The age first: that most of what is made up is too old costs nothing to see.
	if !young(now, stamp) {
		return false
	}
	mac := k.mac(stamp, addr, id)
	return hmac.Equal(mac[:cookieMAC], want)
}

func young(now time.Time, stamp []byte) bool {
	age := now.UnixNano() - int64(binary.BigEndian.Uint64(stamp))
	return age >= 0 && age < int64(CookieLifetime)
}

// PlausibleCookie reports whether a HELLO, of which nothing is checked yet, seems to have
// a cookie that is young enough to be good. It is for those who have not the time to
// find out.
func PlausibleCookie(now time.Time, hello []byte) bool {
	const valueAt = idEnd + 3
	return len(hello) >= valueAt+CookieLen && hello[idEnd] == 1 && hello[idEnd+1] == CookieLen && hello[idEnd+2] == framing.KeyCookie[0] &&
		young(now, hello[valueAt:])
}

func (k *CookieKey) mac(stamp, addr []byte, id ConnID) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, k[:])
	h.Write(stamp)
	h.Write(id[:])
	h.Write(addr) // last, as only it has no fixed length
	h.Sum(sum[:0])
	return sum
}
