package handshake

import (
	"github.com/vstp-go/vstp/framing"
)

// A CryptoFrame is a HELLO or WELCOME that carries bytes of the Initial level of TLS,
// which are not secret. PROTOCOL §8.5.
type CryptoFrame struct {
	SourceID ConnID // of the sender
	ClientID ConnID // WELCOME: of the client
	Cookie   []byte // HELLO: nil if there is none

	Offset uint64 // where Data belongs in the sender's Initial level
	Data   []byte // what was parsed is a view of the datagram

	// HELLO: how much of the server's levels has come, without a gap.
	HasHave       bool
	InitialHave   uint64
	HandshakeHave uint64
}

// Room for numbers below 2^30: no level grows to that.
const (
	maxCryptoNumber  = 1 << 30
	helloCryptoLen   = 3 + 4 + 2 + 4 + 4
	welcomeCryptoLen = 3 + 4 + 2
	cryptoAround     = framing.FixedLen + framing.TrailerLen + 3 + len(ConnID{}) +
		max(helloCryptoLen, 3+len(ConnID{})+welcomeCryptoLen)
)

// CryptoRoom returns how many bytes of TLS a HELLO holds that has a cookie of so many
// bytes; none, and a WELCOME, if that is 0.
func CryptoRoom(cookieLen int) int {
	if cookieLen > 0 {
		cookieLen += 3
	}
	return MaxHandshakeDatagram - cryptoAround - cookieLen
}

// AppendCryptoHello appends a HELLO with crypto, of exactly MaxHandshakeDatagram bytes.
// The data must be no more than [CryptoRoom] says, and numbers below 2^30.
func AppendCryptoHello(b []byte, f *CryptoFrame) []byte {
	if len(f.Data) > CryptoRoom(len(f.Cookie)) || len(f.Cookie) > MaxCookie {
		panic("BUG: too much for a HELLO")
	}
	h := appendID(make([]byte, 0, 128), framing.KeySourceID, f.SourceID)
	if len(f.Cookie) > 0 {
		h = append(h, 1, byte(len(f.Cookie)), framing.KeyCookie[0])
		h = append(h, f.Cookie...)
	}
	h = f.appendCrypto(h)
	payload := make([]byte, MaxHandshakeDatagram-framing.FixedLen-framing.TrailerLen-len(h))
	copy(payload, f.Data) // what is behind is padding
	return appendRaw(b, framing.TypeHello, h, payload)
}

// AppendCryptoWelcome appends a WELCOME with crypto, of at most MaxHandshakeDatagram
// bytes. The data must be no more than CryptoRoom(0), and the offset below 2^30.
func AppendCryptoWelcome(b []byte, f *CryptoFrame) []byte {
	if len(f.Data) > CryptoRoom(0) {
		panic("BUG: too much for a WELCOME")
	}
	h := appendID(make([]byte, 0, 64), framing.KeyPacket, f.ClientID)
	h = appendID(h, framing.KeySourceID, f.SourceID)
	own := CryptoFrame{Offset: f.Offset, Data: f.Data}
	return appendRaw(b, framing.TypeWelcome, own.appendCrypto(h), f.Data)
}

// appendCrypto appends the field that says where the data belongs.
func (f *CryptoFrame) appendCrypto(h []byte) []byte {
	if max(f.Offset, f.InitialHave, f.HandshakeHave) >= maxCryptoNumber {
		panic("BUG: a level of TLS that large")
	}
	at := len(h) + 1
	h = append(h, 1, 0, framing.KeyCrypto[0])
	h = framing.AppendVarint(h, f.Offset)
	h = framing.AppendVarint(h, uint64(len(f.Data)))
	if f.HasHave {
		h = framing.AppendVarint(h, f.InitialHave)
		h = framing.AppendVarint(h, f.HandshakeHave)
	}
	h[at] = byte(len(h) - at - 2)
	return h
}

// parseCrypto decodes the value of the field crypto, and cuts the data out of the
// payload.
func (f *CryptoFrame) parseCrypto(v, payload []byte) bool {
	var list [4]uint64
	n := 0
	for ; len(v) > 0; n++ {
		var l int
		if n == len(list) {
			return false
		}
		if list[n], l = framing.ConsumeVarint(v); l < 0 {
			return false
		}
		v = v[l:]
	}
	offset, length := list[0], list[1]
	if n != 2 && n != 4 || length > uint64(len(payload)) || offset > framing.MaxVarint-length {
		return false
	}
	f.Offset, f.Data = offset, payload[:length:length]
	f.HasHave, f.InitialHave, f.HandshakeHave = n == 4, list[2], list[3]
	return true
}

// ParseCryptoWelcome decodes a WELCOME with crypto. It does not allocate. What it does
// not take is another WELCOME, or malformed: it is to be dropped.
func ParseCryptoWelcome(datagram []byte) (f CryptoFrame, ok bool) {
	fr, ok := parseHandshake(datagram)
	if !ok || fr.Type != framing.TypeWelcome {
		return f, false
	}
	client, h, ok := cutID(fr.Header, framing.KeyPacket)
	if !ok {
		return f, false
	}
	source, h, ok := cutID(h, framing.KeySourceID)
	if !ok {
		return f, false
	}
	v, h, ok := cutField(h, framing.KeyCrypto)
	if !ok || len(h) > 0 || !f.parseCrypto(v, fr.Payload) || f.HasHave {
		return CryptoFrame{}, false
	}
	f.ClientID, f.SourceID = client, source
	return f, true
}

// ParseRetry decodes the WELCOME that [AppendRetry] makes for that client, where there
// is no [DatagramClient]. The cookie is a view of the datagram. PROTOCOL §7.3.
func ParseRetry(datagram []byte, client ConnID) (cookie []byte, ok bool) {
	f, ok := parseHandshake(datagram)
	if !ok || f.Type != framing.TypeWelcome {
		return nil, false
	}
	id, h, ok := cutID(f.Header, framing.KeyPacket)
	if !ok || id != client {
		return nil, false
	}
	cookie, _, ok = cutField(h, framing.KeyCookie)
	if !ok || len(cookie) == 0 || len(cookie) > MaxCookie {
		return nil, false
	}
	return cookie, true
}

// ParseRefusal decodes the ERR that [AppendRefusal] makes for that client. PROTOCOL §7.4.
func ParseRefusal(datagram []byte, client ConnID) (*RemoteError, bool) {
	f, ok := parseHandshake(datagram)
	if !ok || f.Type != framing.TypeErr {
		return nil, false
	}
	id, _, ok := cutID(f.Header, framing.KeyPacket)
	if !ok || id != client {
		return nil, false
	}
	return ParseErr(f), true
}

// ResetLen is the length of the frame that [AppendReset] makes. Only a larger packet is
// answered with it.
const ResetLen = UnknownIDLen + 3 + ResetTokenLen

// ResetTokenLen is the length of a reset token.
const ResetTokenLen = 16

// AppendReset appends the ERR that answers a sealed packet with an id that is not known,
// with the proof that this end has given that id. PROTOCOL §8.10.
func AppendReset(b []byte, id ConnID, token [ResetTokenLen]byte) []byte {
	h := appendID(make([]byte, 0, 48), framing.KeyPacket, id)
	h = append(h, 1, 1, framing.KeyCode[0], byte(framing.CodeUnknownID))
	h = append(h, 1, ResetTokenLen, framing.KeyResetToken[0])
	return appendRaw(b, framing.TypeErr, append(h, token[:]...), nil)
}
