package tlsvstp

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
)

// ResetKey derives from the private key of the first certificate of c a key for
// stateless resets, which a server that was started anew with the same certificate
// has again. HKDF keeps the two apart: who knows the one learns nothing of the other.
// It returns nil if there is no certificate whose private key is in memory.
// PROTOCOL §8.10.
func ResetKey(c *tls.Config) *[32]byte {
	if c == nil || len(c.Certificates) == 0 {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.Certificates[0].PrivateKey)
	if err != nil {
		return nil // a signer outside of this process
	}
	key, err := hkdf.Key(sha256.New, der, nil, "vstp/1 stateless reset", 32)
	if err != nil {
		return nil
	}
	return (*[32]byte)(key)
}
