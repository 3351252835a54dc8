package tlsvstp

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// secretLen is the length of what SessionSecret and AttachBinding return.
const secretLen = 32

// SessionSecret returns the secret of a session that began on the TLS connection with
// that state: with it a client proves, on another carrier, that it is the one of that
// session. PROTOCOL §8.11.
func SessionSecret(cs *tls.ConnectionState) ([]byte, error) {
	return export(cs, "EXPORTER-vstp session", secretLen)
}

// AttachBinding returns what ties such a proof to the TLS connection over which it goes.
// PROTOCOL §8.11.
func AttachBinding(cs *tls.ConnectionState) ([]byte, error) {
	return export(cs, "EXPORTER-vstp attach", secretLen)
}

// SessionProtection returns the protection of the datagrams of a session that began on
// the TLS connection over a byte stream with that state. PROTOCOL §8.11.
func SessionProtection(cs *tls.ConnectionState, client bool) (*Protection, error) {
	s := suiteOf(cs.CipherSuite)
	if s == nil {
		return nil, fmt.Errorf("tlsvstp: no packet protection for the cipher suite %s", tls.CipherSuiteName(cs.CipherSuite))
	}
	var keys [2]*Keys
	for i, label := range [...]string{"EXPORTER-vstp datagrams client", "EXPORTER-vstp datagrams server"} {
		secret, err := export(cs, label, s.hashLen)
		if err != nil {
			return nil, err
		}
		if keys[i], err = NewKeys(cs.CipherSuite, secret); err != nil {
			return nil, err
		}
	}
	write, read := keys[0], keys[1]
	if !client {
		write, read = read, write
	}
	p := NewProtection()
	p.SetWrite(write)
	p.SetRead(read)
	return p, nil
}

// export exports keying material, RFC 8446 §7.5.
func export(cs *tls.ConnectionState, label string, n int) ([]byte, error) {
	if err := VerifyState(*cs); err != nil {
		return nil, err
	}
	if !cs.HandshakeComplete {
		return nil, errors.New("tlsvstp: the TLS handshake is not over")
	}
	b, err := cs.ExportKeyingMaterial(label, nil, n)
	if err != nil {
		return nil, fmt.Errorf("tlsvstp: %w", err)
	}
	return b, nil
}
