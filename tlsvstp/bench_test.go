package tlsvstp

import (
	"bytes"
	"crypto/tls"
	"testing"
)

var benchSuites = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}

// BenchmarkNewKeys is what each secret costs; a handshake has four, and the two that
// follow the last ones.
func BenchmarkNewKeys(b *testing.B) {
	for _, id := range benchSuites {
		secret := bytes.Repeat([]byte{7}, suiteOf(id).hashLen)
		b.Run(tls.CipherSuiteName(id), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewKeys(id, secret); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	k, err := NewKeys(tls.TLS_AES_128_GCM_SHA256, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		k.Next()
	}
}
