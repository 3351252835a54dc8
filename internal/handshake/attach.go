package handshake

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/vstp-go/vstp/framing"
)

// Carriers is a set of those that a session may use. PROTOCOL §7.14.
type Carriers uint8

// The carriers. Their numbers on the wire are those of the bits.
const (
	CarrierDatagrams Carriers = 1 << iota
	CarrierByteStream

	BothCarriers = CarrierDatagrams | CarrierByteStream
)

// ProofLen is the length of the proofs of an attach.
const ProofLen = 16

// An Attach is what a client says who brings a byte stream to a session that is there
// already. PROTOCOL §7.14.
type Attach struct {
	ServerID ConnID         // the server's connection id of the session
	N        uint64         // larger with every attempt, so that no proof works twice
	Proof    [ProofLen]byte // that the client is that of the session
}

// An AttachRequest is what a client needs for an attempt to attach.
type AttachRequest struct {
	K        []byte // the secret of the session
	ServerID ConnID
	ClientID ConnID
	N        uint64
}

// PlainSecret returns the secret of a session without TLS. It keeps out who has not
// seen the handshake, and nobody else.
func PlainSecret(clientID, serverID ConnID, sessionID [16]byte) []byte {
	h := sha256.New()
	h.Write([]byte("vstp session"))
	h.Write(clientID[:])
	h.Write(serverID[:])
	h.Write(sessionID[:])
	return h.Sum(nil)
}

// AttachProof returns the proof that one end of the session with secret k gives in the
// attempt n. The binding is that of the new TLS connection, and empty without TLS.
func AttachProof(k []byte, server bool, serverID, clientID ConnID, n uint64, binding []byte) [ProofLen]byte {
	label := "vstp attach client"
	if server {
		label = "vstp attach server"
	}
	m := hmac.New(sha256.New, k)
	m.Write([]byte(label))
	m.Write(serverID[:])
	m.Write(clientID[:])
	m.Write(binary.BigEndian.AppendUint64(nil, n))
	m.Write(binding)
	return [ProofLen]byte(m.Sum(nil))
}

// AppendAttachHello appends the HELLO that attaches a byte stream.
func AppendAttachHello(b []byte, a *Attach) []byte {
	h := append(make([]byte, 0, 48), 1, 1, framing.KeyVersions[0], Version1, 1, attachLen, framing.KeyAttach[0])
	h = append(h, a.ServerID[:]...)
	h = binary.BigEndian.AppendUint64(h, a.N)
	return appendRaw(b, framing.TypeHello, append(h, a.Proof[:]...), nil)
}

// AppendAttachWelcome appends the WELCOME that accepts it.
func AppendAttachWelcome(b []byte, proof [ProofLen]byte) []byte {
	h := append(make([]byte, 0, 32), 1, 1, framing.KeyVersions[0], Version1, 1, ProofLen, framing.KeyAttach[0])
	return appendRaw(b, framing.TypeWelcome, append(h, proof[:]...), nil)
}

const attachLen = 8 + 8 + ProofLen
