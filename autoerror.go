package vstp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
	"github.com/vstp-go/vstp/tlsvstp"
)

// A carriersError is why a dial of "auto" has failed on both carriers.
type carriersError struct{ udp, tcp error }

// joinCarriers makes one error of those of both carriers, either of which may be nil.
func joinCarriers(udp, tcp error) error {
	switch {
	case udp == nil:
		return tcp
	case tcp == nil:
		return udp
	}
	return &carriersError{udp, tcp}
}

// Error implements error.
func (e *carriersError) Error() string {
	if e.udp.Error() == e.tcp.Error() {
		return "on udp and tcp: " + e.udp.Error()
	}
	return "on udp: " + e.udp.Error() + "; on tcp: " + e.tcp.Error()
}

// Unwrap returns both reasons.
func (e *carriersError) Unwrap() []error { return []error{e.udp, e.tcp} }

// Timeout reports whether there was no answer on either.
func (e *carriersError) Timeout() bool { return isTimeout(e.udp) && isTimeout(e.tcp) }

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// noStreams is what a socket for messages says to who dials a byte stream.
const noStreams = "nobody accepts streams"

// isFinal reports whether err says something about the server, or what the server thinks
// of this client, that the other carrier would only repeat.
func isFinal(err error) bool {
	var unproven *session.UnprovenError
	if errors.As(err, &unproven) {
		return false // TLS on the other carrier tells
	}
	var remote *handshake.RemoteError
	if errors.As(err, &remote) {
		return remote.Reason != noStreams // but somebody else may do so on TCP
	}
	for _, e := range [...]error{session.ErrTLSRequired, session.ErrNotTLS, tlsvstp.ErrALPN} {
		if errors.Is(err, e) {
			return true
		}
	}
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" // an alert of the server's TLS
}
