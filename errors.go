package vstp

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// Errors that callers compare with [errors.Is]. The methods of a Conn return
// them inside a *net.OpError.
var (
	// ErrMessageTooLarge is returned at once by SendMessage for a message that is
	// larger than what the peer accepts.
	ErrMessageTooLarge = session.ErrMessageTooLarge

	// ErrReservedKey is returned for metadata with a key that is reserved to the protocol.
	ErrReservedKey = session.ErrReservedKey

	// ErrPeerClosed is returned by Write and SendMessage after the peer has closed
	// the connection: nobody will read what is sent.
	ErrPeerClosed = session.ErrPeerClosed

	// ErrWriteClosed is returned by Write and SendMessage after CloseWrite.
	ErrWriteClosed = session.ErrWriteClosed

	// ErrIdleTimeout ends a connection whose peer was silent for too long. It is a
	// net.Error with Timeout() true, and not os.ErrDeadlineExceeded.
	ErrIdleTimeout = session.ErrIdleTimeout

	// ErrHandshakeTimeout ends a handshake that took too long. Timeout() is true.
	ErrHandshakeTimeout = session.ErrHandshakeTimeout

	// ErrAckTimeout is returned by SendMessage when no ACK came in time, on
	// datagrams after all retries. The message may have been delivered. Timeout() is
	// true.
	ErrAckTimeout = session.ErrAckTimeout

	// ErrExpired is returned by SendMessage when Message.Lifetime has ended before
	// the message was sent, or on datagrams acknowledged. Timeout() is true.
	ErrExpired = session.ErrExpired

	// ErrReset ends a connection on datagrams that the peer does not know any more:
	// it was restarted, or has given this side up.
	ErrReset = session.ErrReset

	// ErrKeysUsedUp ends a connection on datagrams with TLS whose keys have protected
	// as much as is safe, or that got too much that they do not open. RFC 9001 §6.6.
	ErrKeysUsedUp = session.ErrKeysUsedUp

	// ErrTLSRequired tells that the other side speaks TLS and this one does not.
	ErrTLSRequired = session.ErrTLSRequired

	// ErrNotTLS tells that this side speaks TLS and the other one does not.
	ErrNotTLS = session.ErrNotTLS

	// ErrNoCarrier is returned by Conn.Move of a server for a carrier that its client is
	// not on: it is the client that attaches them.
	ErrNoCarrier = session.ErrNoCarrier

	// ErrNotSupported is returned for what the peer's profile cannot do, such as
	// Ping towards the crate.
	ErrNotSupported = session.ErrNotSupported

	// ErrUnsent is returned by Close when the carrier did not take within
	// Config.Linger what Write had accepted.
	ErrUnsent = session.ErrUnsent
)

// An ErrorCode is the number in an ERR frame. PROTOCOL §5.8.
type ErrorCode = framing.ErrorCode

// The codes of the protocol. Codes from CodeApplication on belong to applications.
const (
	CodeProtocol    = framing.CodeProtocol    // a rule of the protocol was broken
	CodeVersion     = framing.CodeVersion     // no common version
	CodeTooLarge    = framing.CodeTooLarge    // a frame or a message is larger than agreed
	CodeChecksum    = framing.CodeChecksum    // a CRC did not match
	CodeHeader      = framing.CodeHeader      // a header block does not add up
	CodeUnexpected  = framing.CodeUnexpected  // a frame that may not come at this point
	CodeRefused     = framing.CodeRefused     // the server does not want this client
	CodeTimeout     = framing.CodeTimeout     // the handshake took too long, or the peer was silent
	CodeOverload    = framing.CodeOverload    // too many connections
	CodeCompression = framing.CodeCompression // a payload cannot be decompressed
	CodeInternal    = framing.CodeInternal    // the sender's own fault
	CodeTLS         = framing.CodeTLS         // one side speaks TLS and the other does not
	CodeAlert       = framing.CodeAlert       // on datagrams: TLS has given up, the reason says why
	CodeAttach      = framing.CodeAttach      // on "auto": TCP may not be attached to the connection

	CodeApplication = framing.CodeApplication
)

// A ProtocolError ended a connection: this side found the peer breaking the
// protocol, or (Remote) the peer sent ERR.
type ProtocolError struct {
	Remote bool      // the peer said so
	Code   ErrorCode // what is wrong
	Reason string    // for people; may be empty
	Err    error     // what a decoder found, or nil
}

// Error implements error.
func (e *ProtocolError) Error() string {
	who := "vstp: "
	if e.Remote {
		who = "vstp: peer reports: "
	}
	s := who + e.Code.String()
	switch {
	case e.Reason != "":
		s += ": " + fmt.Sprintf("%.256q", e.Reason)
	case e.Err != nil:
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns e.Err.
func (e *ProtocolError) Unwrap() error { return e.Err }

// Is reports whether target is a *ProtocolError with the same Remote and Code.
func (e *ProtocolError) Is(target error) bool {
	t, ok := target.(*ProtocolError)
	return ok && t.Remote == e.Remote && t.Code == e.Code
}

// A RefusedError is a server's answer to a client it does not want. A
// VerifyHello hook returns one to choose what the client is told; Dial and
// Handshake return it on the client's side.
type RefusedError struct {
	Reason string // for people; at most 1,024 bytes travel
	Header Header // travels too; nil is fine
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return "vstp: refused by the server"
	}
	return "vstp: refused by the server: " + fmt.Sprintf("%.256q", e.Reason)
}

// publicError gives an error of the packages below its public type.
func publicError(err error) error {
	var local *handshake.Error
	var remote *handshake.RemoteError
	var inner *net.OpError
	switch {
	case errors.As(err, &local):
		return &ProtocolError{Code: local.Code, Reason: local.Reason, Err: local.Err}
	case errors.As(err, &remote):
		if remote.Code == CodeRefused {
			return &RefusedError{Reason: remote.Reason, Header: remote.Header}
		}
		return &ProtocolError{Remote: true, Code: remote.Code, Reason: remote.Reason}
	case errors.As(err, &inner):
		return inner.Err // the carrier's own wrapping
	}
	return err
}

// opError is what the methods of a Conn return for err: nil and io.EOF as they
// are, anything else in one *net.OpError.
func (c *Conn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if ce, ok := err.(*session.CopyError); ok {
		return ce.Err
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.laddr, Addr: c.raddr, Err: publicError(err)}
}
