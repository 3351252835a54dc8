package framing

import "errors"

// What can be wrong with a frame. Every decoder of this package returns one of
// these, or wraps it; compare with [errors.Is].
var (
	ErrMagic          = errors.New("framing: wrong magic bytes")
	ErrVersion        = errors.New("framing: unsupported version")
	ErrType           = errors.New("framing: unknown frame type")
	ErrHeader         = errors.New("framing: header block does not add up")
	ErrChecksum       = errors.New("framing: CRC mismatch")
	ErrFrameTooLarge  = errors.New("framing: frame too large")
	ErrHeaderTooLarge = errors.New("framing: header block too large")
	ErrKeyTooLong     = errors.New("framing: header key too long")
	ErrValueTooLong   = errors.New("framing: header value too long")

	// ErrIncomplete says that the input ends inside a frame: more bytes are needed.
	ErrIncomplete = errors.New("framing: incomplete frame")

	// ErrTrailing says that a datagram holds more than its one frame.
	ErrTrailing = errors.New("framing: bytes after the frame")
)
