package stream

import (
	"errors"

	"github.com/klauspost/compress/zstd"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

const (
	// minCompress is the payload size below which compression is not tried.
	minCompress = 128

	// zstdWindow is the window of what we send: a payload is seldom larger.
	zstdWindow = 128 << 10

	// maxZstdWindow is the largest window accepted. PROTOCOL §5.5.
	maxZstdWindow = 8 << 20
)

// A compressor belongs to the holder of wtok. It has memory once it was used.
type compressor struct {
	enc *zstd.Encoder
	buf []byte
}

// compress returns p compressed, valid until the next call, or nil if that is not
// smaller.
func (c *compressor) compress(p []byte) []byte {
	if len(p) < minCompress {
		return nil
	}
	if c.enc == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow),
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
		if err != nil {
			panic("BUG: zstd: " + err.Error())
		}
		c.enc = enc
	}
	c.buf = c.enc.EncodeAll(p, c.buf[:0])
	if len(c.buf) >= len(p) {
		return nil
	}
	return c.buf
}

// A decompressor belongs to the holder of rtok.
type decompressor struct {
	dec *zstd.Decoder
	buf []byte
}

var errBadCompression = &handshake.Error{Code: framing.CodeCompression, Reason: "payload cannot be decompressed"}
var errBomb = &handshake.Error{Code: framing.CodeTooLarge, Reason: "decompressed payload"}

// decompress returns the content of the zstd frame p, of at most limit bytes,
// valid until the next call. The buffer grows with what has really come out; a
// size that the frame claims is believed as far as it can be true.
func (d *decompressor) decompress(p []byte, limit int) ([]byte, error) {
	if len(p) == 0 {
		return p[:0:0], nil
	}
	claim, err := claimedSize(p, limit)
	if err != nil {
		return nil, err
	}
	if d.dec == nil {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecodeAllCapLimit(true), zstd.IgnoreChecksum(false))
		if err != nil {
			panic("BUG: zstd: " + err.Error())
		}
		d.dec = dec
	}
	size := min(max(maxDataPayload, claim, cap(d.buf)), limit)
	for {
		if cap(d.buf) < size {
			d.buf = make([]byte, 0, size)
		}
		b, err := d.dec.DecodeAll(p, d.buf[:0:size])
		switch {
		case err == nil:
			if cap(d.buf) > growLimit {
				d.buf = nil
			}
			return b, nil
		case !errors.Is(err, zstd.ErrDecoderSizeExceeded) || size >= limit:
			if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
				return nil, errBomb
			}
			return nil, errBadCompression
		}
		size = min(2*size, limit)
	}
}

// A zstd block has at most maxZstdBlock bytes in it, and takes minZstdBlock if they
// are all the same. RFC 8878 §3.1.1.2.
const (
	maxZstdBlock = 128 << 10
	minZstdBlock = 4
)

// claimedSize returns the content size in the header of the zstd frame p, 0 if there
// is none. It is an error if it is above limit, or more than can be in p.
func claimedSize(p []byte, limit int) (int, error) {
	var h zstd.Header
	switch err := h.Decode(p); {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return 0, errBomb
	case err != nil:
		return 0, errBadCompression
	case !h.HasFCS:
		return 0, nil
	case h.FrameContentSize > uint64(limit):
		return 0, errBomb
	case h.FrameContentSize/maxZstdBlock > uint64(len(p)/minZstdBlock):
		return 0, errBadCompression
	}
	return int(h.FrameContentSize), nil
}

// growLimit is the size above which a decompression buffer is not kept.
const growLimit = 256 << 10
