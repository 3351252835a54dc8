package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

var errInterrupted = errors.New("interrupted")

// hints pair what may be found in an error with what may help.
var hints = []struct {
	is   func(error) bool
	hint string
}{
	{isErr(vstp.ErrTLSRequired), "the other side speaks TLS: add --tls"},
	{isErr(vstp.ErrNotTLS), "the other side speaks no TLS: is that the right address? Without --tls everything is readable on the way"},
	{hasText("tls: either ServerName or InsecureSkipVerify must be specified in the tls.Config"),
		"the address says no name to check the certificate for: --server-name NAME"},
	{isErr(tlsvstp.ErrALPN), "that is a TLS server for something else"},
	{asErr[x509.UnknownAuthorityError], "name the authority's certificate with --ca FILE; --insecure skips the check, for tests"},
	{asErr[x509.HostnameError], "--server-name NAME says which name the certificate is for"},
	{isExpired, "make a new certificate, with \"vstp cert --force\" for instance; or is the clock wrong?"},
	{isAlert("tls: certificate required"), "the server wants a client certificate: --cert FILE --key FILE"},
	{isAlert("tls: unknown certificate authority"), "the other side does not know the authority of the certificate: --ca there"},
	{isAlert("tls: expired certificate"), "the other side says that our certificate has expired: a new one, with \"vstp cert\" for instance"},
	{isAlert("tls: bad certificate"), "the other side does not accept the certificate: --cert, --key"},
	{isErr(vstp.ErrHandshakeTimeout), "is it a vstp server that listens there?"},
	{isErr(vstp.ErrIdleTimeout), "the peer has gone silent"},
	{isHangUp, "the other side hung up at once: does it want --tls, or is it no vstp server?"},
	{isErr(syscall.ECONNREFUSED), "is a vstp server running there?"},
	{isErr(io.ErrUnexpectedEOF), "the connection broke"},
	{isErr(syscall.EADDRINUSE), "another program listens there"},
	{asErr[net.UnknownNetworkError], "the networks of this version are in the help of --network"},
	{isErr(os.ErrDeadlineExceeded), "--timeout sets how long to wait"},
	{isErr(context.DeadlineExceeded), "--timeout sets how long to wait"},
}

func isErr(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func asErr[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

func isExpired(err error) bool {
	var e x509.CertificateInvalidError
	return errors.As(err, &e) && e.Reason == x509.Expired
}

// isHangUp reports whether the carrier ended in the middle of the handshake.
func isHangUp(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && errors.Is(err, io.ErrUnexpectedEOF)
}

// isAlert looks for what the TLS of the peer had to say. On streams such an error has
// nothing but its text.
func isAlert(text string) func(error) bool {
	return func(err error) bool {
		var pe *vstp.ProtocolError
		if errors.As(err, &pe) {
			return pe.Remote && pe.Code == vstp.CodeAlert && pe.Reason == text
		}
		return hasText(text)(err)
	}
}

// hasText looks for an error that has nothing but its text, as many of crypto/tls.
func hasText(text string) func(error) bool {
	var has func(err error) bool
	has = func(err error) bool {
		switch e := err.(type) {
		case nil:
			return false
		case interface{ Unwrap() []error }: // what is wrong on each carrier
			return slices.ContainsFunc(e.Unwrap(), has)
		}
		return err.Error() == text || has(errors.Unwrap(err))
	}
	return has
}

// explain words err for the one line that the user gets, with advice if there is any.
func explain(err error) string {
	msg := errorText(err)
	for _, h := range hints {
		if h.is(err) {
			return msg + " (" + h.hint + ")"
		}
	}
	return msg
}

// errorText is err's text without what only programmers need.
func errorText(err error) string {
	var refused *vstp.RefusedError
	if errors.As(err, &refused) {
		if refused.Reason == "" {
			return "the server refused the connection"
		}
		return "the server refused the connection: " + refused.Reason
	}
	var remote *vstp.ProtocolError
	if errors.As(err, &remote) && remote.Remote && remote.Code >= vstp.CodeApplication && remote.Reason != "" {
		return "the other side gave up: " + remote.Reason
	}
	text := err.Error()
	for _, pkg := range [...]string{"vstp: ", "tlsvstp: ", "framing: "} {
		text = strings.ReplaceAll(strings.TrimPrefix(text, pkg), ": "+pkg, ": ")
	}
	return text
}
