package stream

import (
	"errors"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

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
