package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/vstp-go/vstp"
)

// tlsReport is what --json tells of TLS.
type tlsReport struct {
	Version  string    `json:"version"`
	Suite    string    `json:"cipher_suite"`
	Resumed  bool      `json:"resumed"`
	Verified bool      `json:"verified"` // the peer's certificate, now or when the session began
	Peer     string    `json:"peer,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
}

// tlsOf returns what is known of a connection's TLS, nil in plaintext.
func tlsOf(c *vstp.Conn) *tlsReport {
	st := c.ConnectionState().TLS
	if st == nil {
		return nil
	}
	r := &tlsReport{
		Version:  tls.VersionName(st.Version),
		Suite:    tls.CipherSuiteName(st.CipherSuite),
		Resumed:  st.DidResume,
		Verified: len(st.VerifiedChains) > 0,
	}
	if len(st.PeerCertificates) > 0 {
		cert := st.PeerCertificates[0]
		r.Peer, r.Expires = certNames(cert)+" ("+keyName(cert)+")", cert.NotAfter
	}
	return r
}

// line words r for people, "" if there is no TLS.
func (r *tlsReport) line() string {
	if r == nil {
		return ""
	}
	session := "new session"
	if r.Resumed {
		session = "resumed session"
	}
	s := fmt.Sprintf("%s, %s, %s, ", r.Version, strings.TrimPrefix(r.Suite, "TLS_"), session)
	if r.Peer == "" {
		return s + "peer without certificate"
	}
	s += fmt.Sprintf("certificate of %s until %s", r.Peer, r.Expires.Local().Format(time.DateOnly))
	if !r.Verified {
		s += ", NOT VERIFIED"
	}
	return s
}

// maxNames is how many names of a certificate are shown.
const maxNames = 4

// certNames lists who a certificate is for.
func certNames(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return c.Subject.String()
	case len(names) > maxNames:
		names = append(names[:maxNames:maxNames], "...")
	}
	return strings.Join(names, ", ")
}

// keyName names the kind of a certificate's key.
func keyName(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return c.PublicKeyAlgorithm.String()
}

// describeTLS names how a connection runs, and what is known of its TLS.
func describeTLS(c *vstp.Conn) string {
	s := describe(c)
	if t := tlsOf(c).line(); t != "" {
		s += "; " + t
	}
	return s
}
