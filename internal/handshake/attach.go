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

// both reports whether a session at such a server can move.
func (c Carriers) both() bool { return c&BothCarriers == BothCarriers }

// serviceMoves is the value of KeyService of a client that would move.
const serviceMoves = "\x02"

// appendCarriers appends the field that lists c, if there is something to list.
func appendCarriers(h framing.Header, c Carriers) framing.Header {
	var list []byte
	for i := range byte(2) {
		if c&(1<<i) != 0 {
			list = append(list, i)
		}
	}
	if list == nil {
		return h
	}
	return append(h, framing.Field{Key: framing.KeyCarriers, Value: string(list)})
}

// parseCarriers decodes such a list. Carriers of a later version mean nothing.
func parseCarriers(b []byte) (c Carriers) {
	for _, i := range b {
		if i < 2 {
			c |= 1 << i
		}
	}
	return c
}

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

// errAttach is what a client or server finds wrong in the form of an attach.
func errAttach(reason string) error { return protocol("attach: " + reason) }

// isAttach reports whether h is the block of a HELLO that attaches.
func isAttach(h framing.RawHeader) bool {
	_, ok := h.Lookup(framing.KeyAttach)
	return ok
}

// ParseAttachHello decodes what [AppendAttachHello] makes. It keeps nothing of f. An
// error is an [*Error].
func ParseAttachHello(f framing.Frame) (*Attach, error) {
	versions, v, err := scanAttach(&f)
	if err != nil {
		return nil, err
	}
	if _, err := chooseVersion(versions, []uint64{Version1}); err != nil {
		return nil, err
	}
	if err := checkFrame(&f); err != nil {
		return nil, err
	}
	if len(v) != attachLen {
		return nil, errAttach("bad length")
	}
	return &Attach{ServerID: ConnID(v), N: binary.BigEndian.Uint64(v[8:]), Proof: [ProofLen]byte(v[16:])}, nil
}

// ParseAttachWelcome decodes what [AppendAttachWelcome] makes. An error is an [*Error],
// also for the WELCOME of a server that does not know what attaching is.
func ParseAttachWelcome(f framing.Frame) (proof [ProofLen]byte, err error) {
	versions, v, err := scanAttach(&f)
	switch {
	case err != nil:
		return proof, err
	case len(versions) != 1 || versions[0] != Version1:
		return proof, &Error{Code: framing.CodeVersion, Reason: "the server chose a version that was not offered"}
	}
	if err := checkFrame(&f); err != nil {
		return proof, err
	}
	if len(v) != ProofLen {
		return proof, errAttach("bad length")
	}
	return [ProofLen]byte(v), nil
}

// scanAttach picks the two values out of a frame that must have no others. A version that
// is not ours may have other rules, so the versions come first.
func scanAttach(f *framing.Frame) (versions []uint64, v []byte, err error) {
	fs, err := scan(f)
	if err != nil {
		return nil, nil, err
	}
	if versions, err = fs.versions(); err != nil {
		return nil, nil, err
	}
	for key, value := range f.Header.All() {
		switch {
		case string(key) == framing.KeyVersions:
		case string(key) == framing.KeyAttach:
			if v != nil {
				return versions, nil, errAttach("a header key is repeated")
			}
			v = value
		case len(key) == 0 || key[0] >= framing.ReservedKeys:
			return versions, nil, errAttach("metadata")
		case len(key) == 1 && key[0] >= firstKey:
			return versions, nil, errAttach("other keys")
		}
	}
	return versions, v, nil
}
