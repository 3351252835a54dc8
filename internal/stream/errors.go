package stream

import (
	"errors"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// What a Session returns, beside os.ErrDeadlineExceeded, net.ErrClosed, io.EOF,
// io.ErrUnexpectedEOF, errors of the carrier, *handshake.Error for what the peer
// did wrong and *handshake.RemoteError for what it says of us. The root package
// makes them its own.
var (
	ErrMessageTooLarge = errors.New("vstp: message too large")
	ErrReservedKey     = errors.New("vstp: header key below 0x20 is reserved")
	ErrPeerClosed      = errors.New("vstp: connection closed by peer")
	ErrWriteClosed     = errors.New("vstp: write side closed")
	ErrTLSRequired     = errors.New("vstp: the peer speaks TLS, this side is configured without")
	ErrNotTLS          = errors.New("vstp: this side is configured for TLS, the peer does not speak it")
	ErrNotSupported    = errors.New("vstp: not supported by the peer")
	ErrUnsent          = errors.New("vstp: closed with unsent data after the linger time")

	ErrIdleTimeout      error = &timeoutError{"vstp: idle timeout"}
	ErrHandshakeTimeout error = &timeoutError{"vstp: handshake timeout"}
	ErrAckTimeout       error = &timeoutError{"vstp: no acknowledgement in time"}
)

// A timeoutError is a net.Error with Timeout true, and not os.ErrDeadlineExceeded:
// no deadline of the caller's has passed.
type timeoutError struct{ s string }

func (e *timeoutError) Error() string   { return e.s }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }

// A Refusal returned by Config.Verify chooses what the client is told.
type Refusal struct {
	Reason string
	Header framing.Header
}

// Error implements error.
func (e *Refusal) Error() string { return "refused: " + e.Reason }

// A CopyError is an error of the other end of a copy, of the reader that ReadFrom was
// given or the writer that WriteTo was. It is none of the session's.
type CopyError struct{ Err error }

// Error implements error.
func (e *CopyError) Error() string { return e.Err.Error() }

// errStalled is what reading returns when the next frame cannot be taken because
// the application has not taken enough of what came before.
var errStalled = errors.New("stream: waiting for the application")

// frameCodes says what the peer is told about each error of package framing.
var frameCodes = []struct {
	err  error
	code framing.ErrorCode
}{
	{framing.ErrMagic, framing.CodeProtocol},
	{framing.ErrVersion, framing.CodeVersion},
	{framing.ErrType, framing.CodeUnexpected},
	{framing.ErrHeader, framing.CodeHeader},
	{framing.ErrChecksum, framing.CodeChecksum},
	{framing.ErrFrameTooLarge, framing.CodeTooLarge},
	{framing.ErrHeaderTooLarge, framing.CodeTooLarge},
}

// violation turns an error of package framing into the one that ends a session. It
// returns any other error as it is.
func violation(err error) error {
	for _, c := range frameCodes {
		if errors.Is(err, c.err) {
			return &handshake.Error{Code: c.code, Err: err}
		}
	}
	return err
}

// protocolError is the error for a broken rule that no decoder sees.
func protocolError(code framing.ErrorCode, reason string) error {
	return &handshake.Error{Code: code, Reason: reason}
}
