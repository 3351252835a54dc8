package tlsvstp

import (
	"crypto"
	"crypto/tls"
	"io"
	"testing"
)

type hardware struct{}

func (hardware) Public() crypto.PublicKey                                  { return nil }
func (hardware) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }

func TestResetKey(t *testing.T) {
	one, err := SelfSigned(DevOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := SelfSigned(DevOptions{Ed25519: true})
	if err != nil {
		t.Fatal(err)
	}
	key := func(c tls.Certificate) *[32]byte { return ResetKey(&tls.Config{Certificates: []tls.Certificate{c}}) }
	a, b := key(one.Certificate), key(one.Certificate)
	if a == nil || *a != *b {
		t.Error("two keys of one certificate")
	}
	if c := key(other.Certificate); c == nil || *c == *a {
		t.Error("one key of two certificates")
	}
	if ResetKey(nil) != nil || ResetKey(&tls.Config{}) != nil || key(tls.Certificate{PrivateKey: hardware{}}) != nil {
		t.Error("a key from nothing")
	}
}
