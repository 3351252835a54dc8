package tlsvstp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// A sealed packet, PROTOCOL §8.4:
//
//	 0  56 54 01
//	 3  TYPE
//	 4  FLAGS; the key phase is masked
//	 5  HDR_LEN, PAY_LEN, connection id
//	22  lowest 32 bits of the packet number, masked
//	26  chunks, encrypted, and the tag
const (
	// HeaderLen is the length of what stands in front of the chunks of a sealed packet.
	HeaderLen = 26

	typeOffset   = 3
	flagsOffset  = 4
	fieldOffset  = 13
	numberOffset = 22

	phaseBit  = 0x80
	tagLen    = 16
	sampleLen = 16
	nonceLen  = 12

	maxNumber = 1<<62 - 1
)

// How many packets one key may seal, and how many may fail to open in a
// connection. RFC 9001 §6.6; there is no limit that matters for what
// ChaCha20-Poly1305 seals.
const (
	gcmSealLimit    = 1 << 23
	gcmOpenLimit    = 1 << 52
	chachaSealLimit = 1 << 62
	chachaOpenLimit = 1 << 36
)

// ErrOpen says that a packet is not authentic, or too short, or of a key phase
// that cannot be. Which of them it is must not be seen from outside (RFC 9001 §9.5).
var ErrOpen = errors.New("tlsvstp: the packet does not open")

// Keys protect packets of one direction with one TLS secret, as RFC 9001 §5 says.
// They are used by one goroutine at a time, also if they only open: nonces and
// masks are made in place, so that no packet allocates.
//
// Keys remember no packet. To seal two with one number is a mistake that gives the
// key away, and a packet that opens once opens again: to find replays is left to
// the caller.
type Keys struct {
	suite   *suite
	traffic [sha512.Size384]byte   // the secret, of suite.hashLen bytes
	key, hp [chacha20.KeySize]byte // what comes of it, of suite.keyLen bytes
	iv      [nonceLen]byte
	nonce   [nonceLen]byte

	// Made of key and hp; nil at rest.
	aead cipher.AEAD
	mask headerMask
}

// headerMask makes the masks of header protection, RFC 9001 §5.4. It stays the
// same over key updates.
type headerMask interface {
	mask(sample []byte) [5]byte
}

type suite struct {
	id                   uint16
	hash                 func() hash.Hash
	hashLen, keyLen      int
	sealLimit, openLimit uint64
	newAEAD              func(key []byte) (cipher.AEAD, error)
	newMask              func(key []byte) (headerMask, error)
}

var allSuites = [...]suite{
	{tls.TLS_AES_128_GCM_SHA256, sha256.New, sha256.Size, 16, gcmSealLimit, gcmOpenLimit, newGCM, newAESMask},
	{tls.TLS_AES_256_GCM_SHA384, sha512.New384, sha512.Size384, 32, gcmSealLimit, gcmOpenLimit, newGCM, newAESMask},
	{tls.TLS_CHACHA20_POLY1305_SHA256, sha256.New, sha256.Size, chacha20poly1305.KeySize, chachaSealLimit, chachaOpenLimit,
		chacha20poly1305.New, newChaChaMask},
}

func suiteOf(id uint16) *suite {
	for i := range allSuites {
		if allSuites[i].id == id {
			return &allSuites[i]
		}
	}
	return nil
}

// NewKeys makes the keys of a secret of crypto/tls, for one of the cipher suites of
// TLS 1.3. The secret is copied.
func NewKeys(suite uint16, secret []byte) (*Keys, error) {
	s := suiteOf(suite)
	if s == nil {
		return nil, fmt.Errorf("tlsvstp: no packet protection for the cipher suite %s", tls.CipherSuiteName(suite))
	}
	if len(secret) != s.hashLen {
		return nil, fmt.Errorf("tlsvstp: a secret of %d bytes, want %d", len(secret), s.hashLen)
	}
	k, mac := newKeys(s, secret)
	copy(k.hp[:], s.expand(mac, "quic hp", s.keyLen))
	k.wake(nil)
	return k, nil
}

// newKeys makes keys at rest that still need the one of header protection. It also
// returns what more is derived from the secret with.
func newKeys(s *suite, secret []byte) (*Keys, hash.Hash) {
	mac := hmac.New(s.hash, secret)
	k := &Keys{suite: s}
	copy(k.traffic[:], secret)
	copy(k.key[:], s.expand(mac, "quic key", s.keyLen))
	copy(k.iv[:], s.expand(mac, "quic iv", nonceLen))
	return k, mac
}

// secret is what the keys are made of.
func (k *Keys) secret() []byte { return k.traffic[:k.suite.hashLen] }

// rest gives up what takes most of the memory: an AEAD and a mask are some 1,300 bytes.
func (k *Keys) rest() {
	if k != nil {
		k.aead, k.mask = nil, nil
	}
}

// wake makes what rest has given up; the mask is that of other, which has the same, if it is
// not nil.
func (k *Keys) wake(other *Keys) {
	var err error
	if k.aead == nil {
		k.aead, err = k.suite.newAEAD(k.key[:k.suite.keyLen])
	}
	if k.mask == nil && other != nil {
		k.mask = other.mask
	}
	if k.mask == nil && err == nil {
		k.mask, err = k.suite.newMask(k.hp[:k.suite.keyLen])
	}
	if err != nil {
		panic("BUG: tlsvstp: " + err.Error()) // lengths are fixed
	}
}

// expand is HKDF-Expand-Label of RFC 8446 §7.1, with an empty context, and mac an HMAC
// with the secret for its key. It gives no more than one hash, so that HKDF-Expand (RFC
// 5869 §2.3) is one HMAC. The package crypto/hkdf would begin with the secret anew for
// every label, and that is most of what keys cost.
func (s *suite) expand(mac hash.Hash, label string, n int) []byte {
	info := make([]byte, 0, 32)
	info = append(info, byte(n>>8), byte(n), byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, 0, 1)
	mac.Reset()
	mac.Write(info)
	return mac.Sum(make([]byte, 0, s.hashLen))[:n]
}

// Next returns the keys that follow in a key update, RFC 9001 §6.1. Those for
// header protection stay. k can be used on.
func (k *Keys) Next() *Keys {
	next, _ := newKeys(k.suite, k.suite.expand(hmac.New(k.suite.hash, k.secret()), "quic ku", k.suite.hashLen))
	next.hp = k.hp
	next.wake(k)
	return next
}

// Overhead returns how many bytes sealing adds.
func (k *Keys) Overhead() int { return tagLen }

// number makes the nonce of a packet, RFC 9001 §5.3.
func (k *Keys) number(pn uint64) []byte {
	k.nonce = k.iv
	low := k.nonce[nonceLen-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^pn)
	return k.nonce[:]
}

// Seal encrypts plaintext, appends it and the tag to dst, and returns the result.
// The header is authenticated. As with [cipher.AEAD], plaintext[:0] may be dst.
func (k *Keys) Seal(dst, header, plaintext []byte, pn uint64) []byte {
	return k.aead.Seal(dst, k.number(pn), plaintext, header)
}

// Open is the reverse of Seal; its only error is ErrOpen. As with [cipher.AEAD],
// ciphertext[:0] may be dst, and is overwritten even if it fails.
func (k *Keys) Open(dst, header, ciphertext []byte, pn uint64) ([]byte, error) {
	out, err := k.aead.Open(dst, k.number(pn), ciphertext, header)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}

// Mask returns the mask of header protection for a sample of 16 bytes.
func (k *Keys) Mask(sample []byte) [5]byte { return k.mask.mask(sample) }

// SealPacket seals the packet b[start:], a header of HeaderLen bytes with the final
// PAY_LEN and the phase bit, and the chunks behind it: it writes the number into
// the header, encrypts in place, appends the tag, and masks the header. Nothing is
// allocated if b has room for the tag.
func (k *Keys) SealPacket(b []byte, start int, pn uint64) []byte {
	return k.sealPacket(b[:start+HeaderLen], start, b[start+HeaderLen:], pn)
}

// sealPacket is SealPacket with chunks that may lie elsewhere.
func (k *Keys) sealPacket(b []byte, start int, chunks []byte, pn uint64) []byte {
	head := b[start : start+HeaderLen]
	binary.BigEndian.PutUint32(head[numberOffset:], uint32(pn))
	b = k.Seal(b, head, chunks, pn)
	k.toggle(b[start:])
	return b
}

// OpenPacket opens a packet in place that has no key phases: of the handshake, or
// 0-RTT. next is one more than the largest number that was received. The chunks
// are a part of p, which is spoilt if the error, ErrOpen, is not nil.
func (k *Keys) OpenPacket(p []byte, next uint64) (pn uint64, chunks []byte, err error) {
	if len(p) < HeaderLen+tagLen {
		return 0, nil, ErrOpen
	}
	k.toggle(p)
	pn = packetNumber(p, next)
	chunks, err = k.openBody(p, pn)
	if err != nil || p[flagsOffset]&phaseBit != 0 {
		return 0, nil, ErrOpen
	}
	return pn, chunks, nil
}

// openBody opens a packet whose header has been unmasked.
func (k *Keys) openBody(p []byte, pn uint64) ([]byte, error) {
	return k.Open(p[HeaderLen:HeaderLen], p[:HeaderLen], p[HeaderLen:], pn)
}

// toggle masks or unmasks the header of a whole packet.
func (k *Keys) toggle(p []byte) {
	m := k.mask.mask(p[HeaderLen : HeaderLen+sampleLen])
	p[flagsOffset] ^= m[0] & phaseBit
	for i, b := range m[1:] {
		p[numberOffset+i] ^= b
	}
}

// packetNumber completes the number in an unmasked header to the one nearest to
// next: RFC 9000, Appendix A.3, with 32 bits.
func packetNumber(p []byte, next uint64) uint64 {
	const window = 1 << 32
	low := uint64(binary.BigEndian.Uint32(p[numberOffset:]))
	pn := next&^(window-1) | low
	switch {
	case pn+window/2 <= next && pn < maxNumber+1-window:
		return pn + window
	case pn > next+window/2 && pn >= window:
		return pn - window
	}
	return pn
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// aesMask is RFC 9001 §5.4.3.
type aesMask struct {
	block cipher.Block
	out   [aes.BlockSize]byte // here, for what an interface is given escapes
}

func newAESMask(key []byte) (headerMask, error) {
	block, err := aes.NewCipher(key)
	return &aesMask{block: block}, err
}

func (m *aesMask) mask(sample []byte) [5]byte {
	m.block.Encrypt(m.out[:], sample)
	return [5]byte(m.out[:])
}

// chachaMask is RFC 9001 §5.4.4.
type chachaMask struct {
	key [chacha20.KeySize]byte
}

func newChaChaMask(key []byte) (headerMask, error) {
	return &chachaMask{[chacha20.KeySize]byte(key)}, nil
}

func (m *chachaMask) mask(sample []byte) (out [5]byte) {
	c, err := chacha20.NewUnauthenticatedCipher(m.key[:], sample[4:sampleLen])
	if err != nil {
		panic("BUG: tlsvstp: " + err.Error()) // lengths are fixed
	}
	c.SetCounter(binary.LittleEndian.Uint32(sample))
	c.XORKeyStream(out[:], out[:])
	return out
}
