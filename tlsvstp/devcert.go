package tlsvstp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// DefaultValidity is how long development certificates are valid if nothing else
// is said.
const DefaultValidity = 90 * 24 * time.Hour

// clockSkew is how far a peer's clock may be behind ours.
const clockSkew = 5 * time.Minute

// DevOptions says what SelfSigned makes. The zero value is for localhost.
type DevOptions struct {
	// Hosts are the host names and IP addresses that the certificate is for; a
	// name may begin with "*." . If empty: localhost, 127.0.0.1 and ::1.
	Hosts []string

	// NotBefore is when validity begins. If zero, a few minutes ago, for peers
	// whose clock is behind.
	NotBefore time.Time

	// ValidFor is how long the certificates are valid. If zero, DefaultValidity.
	ValidFor time.Duration

	// Ed25519 chooses that kind of key instead of ECDSA with P-256, which is
	// what most software understands.
	Ed25519 bool
}

// A DevCert is a development certificate with the authority that signed it.
type DevCert struct {
	// Certificate is the leaf with its private key. Servers and clients may use it.
	Certificate tls.Certificate

	// Pool holds the authority alone: what the other side needs as RootCAs, or a
	// server as ClientCAs.
	Pool *x509.CertPool

	// The same in PEM: authority, leaf, and the leaf's private key (PKCS #8).
	CAPEM, CertPEM, KeyPEM []byte

	ca    *x509.Certificate
	caKey crypto.Signer
}

// SelfSigned makes a new certification authority and a certificate signed by it.
// The authority's key is in the DevCert only and never written to a file.
func SelfSigned(opts DevOptions) (*DevCert, error) {
	notBefore, notAfter, err := opts.validity()
	if err != nil {
		return nil, err
	}
	key, err := newKey(opts.Ed25519)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "vstp development authority " + serial.Text(16)[:8]},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("tlsvstp: signing the authority: %w", err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return issue(ca, key, opts)
}

// Issue makes another certificate of the same authority, for instance for a
// client. It fails on a DevCert that was not made by SelfSigned or Issue.
func (d *DevCert) Issue(opts DevOptions) (*DevCert, error) {
	if d.ca == nil || d.caKey == nil {
		return nil, errors.New("tlsvstp: this DevCert has no authority to sign with")
	}
	return issue(d.ca, d.caKey, opts)
}

func issue(ca *x509.Certificate, caKey crypto.Signer, opts DevOptions) (*DevCert, error) {
	names, ips, err := opts.hosts()
	if err != nil {
		return nil, err
	}
	notBefore, notAfter, err := opts.validity()
	if err != nil {
		return nil, err
	}
	key, err := newKey(opts.Ed25519)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "vstp development certificate"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:              names,
		IPAddresses:           ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("tlsvstp: signing the certificate: %w", err)
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("tlsvstp: encoding the key: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &DevCert{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		Pool:        pool,
		CAPEM:       pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: ca.Raw}),
		CertPEM:     pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}),
		KeyPEM:      pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: keyDER}),
		ca:          ca,
		caKey:       caKey,
	}, nil
}

// validity returns the bounds of the certificate's life.
func (o DevOptions) validity() (notBefore, notAfter time.Time, err error) {
	validFor := o.ValidFor
	if validFor == 0 {
		validFor = DefaultValidity
	}
	if validFor < 0 {
		return notBefore, notAfter, errors.New("tlsvstp: negative validity")
	}
	notBefore, start := o.NotBefore, o.NotBefore
	if notBefore.IsZero() {
		start = time.Now()
		notBefore = start.Add(-clockSkew)
	}
	return notBefore, start.Add(validFor), nil
}

// hosts sorts Hosts into names and addresses.
func (o DevOptions) hosts() (names []string, ips []net.IP, err error) {
	if len(o.Hosts) == 0 {
		return []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}, nil
	}
	for _, h := range o.Hosts {
		if ip := net.ParseIP(strings.Trim(h, "[]")); ip != nil {
			ips = append(ips, ip)
			continue
		}
		if !validHost(h) {
			return nil, nil, fmt.Errorf("tlsvstp: %q is neither a host name nor an IP address", h)
		}
		names = append(names, strings.TrimSuffix(h, "."))
	}
	return names, ips, nil
}

// validHost reports whether h can stand in a certificate: letters, digits,
// hyphens and underscores between dots, after a "*." perhaps.
func validHost(h string) bool {
	h = strings.TrimSuffix(strings.TrimPrefix(h, "*."), ".")
	if h == "" || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
				continue
			}
			return false
		}
	}
	return true
}

func newKey(useEd25519 bool) (crypto.Signer, error) {
	if useEd25519 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// newSerial returns a positive random number of 127 bits, the top one set so that
// its text has a fixed length.
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}
