// Package session is what sessions over byte streams and sessions over datagrams
// have in common: the errors they return, the messages they carry, what they count.
// The root package makes all of it its own.
package session

import (
	"errors"

	"github.com/vstp-go/vstp/framing"
)

// What a session returns, beside os.ErrDeadlineExceeded, net.ErrClosed, io.EOF,
// io.ErrUnexpectedEOF, errors of the carrier, *handshake.Error for what the peer
// did wrong and *handshake.RemoteError for what it says of us.
var (
	ErrMessageTooLarge = errors.New("vstp: message too large")
	ErrReservedKey     = errors.New("vstp: header key below 0x20 is reserved")
	ErrPeerClosed      = errors.New("vstp: connection closed by peer")
	ErrWriteClosed     = errors.New("vstp: write side closed")
	ErrTLSRequired     = errors.New("vstp: the peer speaks TLS, this side is configured without")
	ErrNotTLS          = errors.New("vstp: this side is configured for TLS, the peer does not speak it")
	ErrNotSupported    = errors.New("vstp: not supported by the peer")
	ErrUnsent          = errors.New("vstp: closed with unsent data after the linger time")
	ErrKeysUsedUp      = errors.New("vstp: the keys of TLS are used up")
	ErrNoCarrier       = errors.New("vstp: no connection on that carrier")
	ErrReset           = errors.New("vstp: connection reset: the peer does not know it any more")

	ErrIdleTimeout      error = &timeoutError{"vstp: idle timeout"}
	ErrHandshakeTimeout error = &timeoutError{"vstp: handshake timeout"}
	ErrAckTimeout       error = &timeoutError{"vstp: no acknowledgement in time"}
	ErrExpired          error = &timeoutError{"vstp: message given up at the end of its lifetime"}
)

// A timeoutError is a net.Error with Timeout true, and not os.ErrDeadlineExceeded:
// no deadline of the caller's has passed.
type timeoutError struct{ s string }

func (e *timeoutError) Error() string   { return e.s }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }

// A Refusal returned by a Verify hook chooses what the client is told.
type Refusal struct {
	Reason string
	Header framing.Header
}

// Error implements error.
func (e *Refusal) Error() string { return "refused: " + e.Reason }

// An UnprovenError is what anybody on the path may have said: TLS was configured, and
// there were no keys yet.
type UnprovenError struct{ Err error }

// Error implements error.
func (e *UnprovenError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *UnprovenError) Unwrap() error { return e.Err }

// A CopyError is an error of the other end of a copy, of the reader that ReadFrom was
// given or the writer that WriteTo was. It is none of the session's.
type CopyError struct{ Err error }

// Error implements error.
func (e *CopyError) Error() string { return e.Err.Error() }
