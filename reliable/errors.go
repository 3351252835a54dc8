package reliable

import (
	"errors"

	"github.com/vstp-go/vstp/framing"
)

// Errors of calls.
var (
	ErrClosed          = errors.New("reliable: association closed")
	ErrPeerClosed      = errors.New("reliable: closed by the peer")
	ErrWriteClosed     = errors.New("reliable: stream closed for writing")
	ErrTruncated       = errors.New("reliable: the peer ended before the end of the stream")
	ErrStreamReset     = errors.New("reliable: stream reset by the peer")
	ErrIdleTimeout     = errors.New("reliable: idle timeout")
	ErrReset           = errors.New("reliable: the peer does not know the association any more")
	ErrMessageTooLarge = errors.New("reliable: message too large")
	ErrFull            = errors.New("reliable: too much is waiting to be sent")
	ErrNoAck           = errors.New("reliable: no acknowledgement after all retries")
	ErrExpired         = errors.New("reliable: lifetime of the message is over")
	ErrCanceled        = errors.New("reliable: message canceled")
	ErrChannel         = errors.New("reliable: channel out of range")
	ErrStreams         = errors.New("reliable: the peer allows no more streams")
	ErrNoStream        = errors.New("reliable: no such stream")
	ErrKeysUsedUp      = errors.New("reliable: the keys are used up")
)

// A ProtocolError has ended an association: the peer has broken a rule, or says
// that this side did (Remote), or ended it with a code of its application.
type ProtocolError struct {
	Remote bool
	Code   framing.ErrorCode
	Reason string
}

// Error implements error.
func (e *ProtocolError) Error() string {
	s := "reliable: "
	if e.Remote {
		s += "peer reports: "
	}
	s += e.Code.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Is compares Remote and Code.
func (e *ProtocolError) Is(target error) bool {
	t, ok := target.(*ProtocolError)
	return ok && t.Remote == e.Remote && t.Code == e.Code
}

func protocolError(reason string) error {
	return &ProtocolError{Code: framing.CodeProtocol, Reason: reason}
}

func tooLarge(reason string) error {
	return &ProtocolError{Code: framing.CodeTooLarge, Reason: reason}
}

// errNoRoom makes the receiver drop a packet unacknowledged: it comes again.
var errNoRoom = errors.New("reliable: no room")
