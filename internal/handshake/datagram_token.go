package handshake

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math"
	"time"
)

// Sizes and times of a token. PROTOCOL §7.3.
const (
	MaxToken      = MaxCookie // bytes in KeyToken: a HELLO has it where a cookie would be
	TokenLen      = TokenIDLen + tokenBody + tokenTag
	TokenIDLen    = 12
	TokenLifetime = 24 * 60 * 60 * time.Second

	tokenBody = 8 + 4
	tokenTag  = 16
)

// A TokenKey makes tokens, and knows them again: AES-256-GCM with a key of one server.
// Nobody else can make any, nor tell what is in one, and which connections belong
// together by that. It may be used concurrently.
type TokenKey struct{ aead cipher.AEAD }

// NewTokenKey returns a TokenKey of bytes from a cryptographic source.
func NewTokenKey(key [32]byte) TokenKey {
	b, err := aes.NewCipher(key[:])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return TokenKey{a}
}

// A Token is what its maker notes in it.
type Token struct {
	ID     [TokenIDLen]byte // random: no two have the same
	Issued time.Duration    // since a time of the maker's choice
	RTT    time.Duration    // in microseconds, 0 if it was not known
}

// Append appends the token for a client with that IP address.
func (k *TokenKey) Append(b []byte, t *Token, ip []byte) []byte {
	var body [tokenBody]byte
	binary.BigEndian.PutUint64(body[:], uint64(t.Issued))
	binary.BigEndian.PutUint32(body[8:], uint32(min(max(t.RTT/time.Microsecond, 0), math.MaxUint32)))
	b = append(b, t.ID[:]...)
	return k.aead.Seal(b, t.ID[:], body[:], ip)
}

// Open returns what was noted in a token, if it was made for that IP address, and less
// than TokenLifetime ago.
func (k *TokenKey) Open(now time.Duration, ip, token []byte) (t Token, ok bool) {
	if len(token) != TokenLen {
		return t, false
	}
	t.ID = [TokenIDLen]byte(token)
	var room [tokenBody]byte
	body, err := k.aead.Open(room[:0], t.ID[:], token[TokenIDLen:], ip)
	if err != nil {
		return Token{}, false
	}
	t.Issued = time.Duration(binary.BigEndian.Uint64(body))
	t.RTT = time.Duration(binary.BigEndian.Uint32(body[8:])) * time.Microsecond
	if t.Issued > now || now-t.Issued >= TokenLifetime {
		return Token{}, false
	}
	return t, true
}
