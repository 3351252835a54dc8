package framing

import (
	"bytes"
	"encoding/binary"
)

// Parse decodes the frame at the start of b. The frame's Header and Payload are views
// of b, which also bound what an append can reach; n is the length of the frame with
// its trailer. Parse does not allocate.
//
// maxFrame is the largest whole frame accepted, trailer included; if zero or less,
// DefaultMaxFrame. The checks come in this order:
//
//   - [ErrMagic], [ErrVersion], [ErrType], each as soon as its byte is there
//   - [ErrFrameTooLarge], as soon as the lengths are there
//   - [ErrIncomplete], if b ends inside the frame
//   - [ErrChecksum], if there is a trailer: so a damaged frame is told from
//   - [ErrHeader], a block that its sender has got wrong
//
// The header block must add up by itself: the crate lets a value run on into the
// payload, vstp does not.
//
// With TrailerSniff and FlagCRC unset, what follows the payload decides: the CRC, the
// start of another frame, or [ErrChecksum] for anything else. While b ends before
// that can be told, Parse returns [ErrIncomplete]; at the end of the input, where
// nothing can follow, TrailerByFlag decodes such a frame.
func Parse(b []byte, maxFrame int, t Trailer) (f Frame, n int, err error) {
	if maxFrame <= 0 {
		maxFrame = DefaultMaxFrame
	}
	fx, err := ParseFixed(b)
	if err != nil {
		return Frame{}, 0, err
	}
	trailer := t.has(fx.Flags)
	whole := fx.WireLen(trailer)
	if whole > int64(maxFrame) {
		return Frame{}, 0, ErrFrameTooLarge
	}
	if whole > int64(len(b)) {
		return Frame{}, 0, ErrIncomplete
	}
	n = int(whole)
	switch {
	case trailer:
		if !checksumOK(b[:n]) {
			return Frame{}, 0, ErrChecksum
		}
	case t == TrailerSniff:
		if trailer, err = sniffTrailer(b, n); err != nil {
			return Frame{}, 0, err
		}
		if trailer {
			n += TrailerLen
			if n > maxFrame {
				return Frame{}, 0, ErrFrameTooLarge
			}
		}
	}
	f = view(b, fx)
	if err := f.Header.Validate(); err != nil {
		return Frame{}, 0, err
	}
	return f, n, nil
}

// ParseDatagram decodes a datagram, which is exactly one frame. The frame's Header and
// Payload are views of b. It reports whether the frame has a trailer: with FlagCRC set
// it must, and without it four bytes after the payload are one, which only crate peers
// send. Nothing needs to be known about the peer.
//
// The errors are those of [Parse], without ErrFrameTooLarge, as the datagram is already
// here. [ErrIncomplete] speaks of a datagram that was cut off, [ErrTrailing] of one that
// goes on after its frame. Four bytes after the payload that are not the CRC give
// [ErrChecksum]: a frame of a crate peer that was damaged on its way.
//
// Where only the length shows the trailer, PAY_LEN damaged to be four more hides it; that
// is for the carrier's own checksum to find.
func ParseDatagram(b []byte) (f Frame, trailer bool, err error) {
	fx, err := ParseFixed(b)
	if err != nil {
		return Frame{}, false, err
	}
	trailer = fx.Flags.Has(FlagCRC)
	extra := int64(len(b)) - fx.WireLen(trailer)
	if extra < 0 {
		return Frame{}, false, ErrIncomplete
	}
	if !trailer && extra == TrailerLen {
		trailer, extra = true, 0
	}
	if extra > 0 {
		return Frame{}, false, ErrTrailing
	}
	if trailer && !checksumOK(b) {
		return Frame{}, false, ErrChecksum
	}
	f = view(b, fx)
	if err := f.Header.Validate(); err != nil {
		return Frame{}, false, err
	}
	return f, trailer, nil
}

// view cuts b, which holds the whole frame, at the lengths of fx.
func view(b []byte, fx Fixed) Frame {
	h := FixedLen + fx.HeaderLen
	p := h + int(fx.PayloadLen)
	return Frame{fx.Type, fx.Flags, RawHeader(b[FixedLen:h:h]), b[h:p:p]}
}

// checksumOK reports whether the last bytes of b are the CRC of all others.
func checksumOK(b []byte) bool {
	n := len(b) - TrailerLen
	return Checksum(0, b[:n]) == binary.BigEndian.Uint32(b[n:])
}

// sniffTrailer reports whether a trailer follows b[:n]. A CRC that looks like the
// start of a frame is taken for a CRC: a frame follows at once by chance once in 2^32.
func sniffTrailer(b []byte, n int) (bool, error) {
	var crc [TrailerLen]byte
	binary.BigEndian.PutUint32(crc[:], Checksum(0, b[:n]))
	rest := b[n:min(n+TrailerLen, len(b))]
	if bytes.HasPrefix(crc[:], rest) {
		if len(rest) < TrailerLen {
			return false, ErrIncomplete
		}
		return true, nil
	}
	if parseShort(rest) == ErrIncomplete {
		return false, nil // magic, version and type, as far as they are there
	}
	return false, ErrChecksum
}
