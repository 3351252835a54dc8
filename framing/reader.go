package framing

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

const (
	// smallBuffer is what a Reader has while nothing much arrives, inside itself.
	// It holds a whole small request, and costs an idle connection little.
	smallBuffer = 512

	// largeBuffer is what it borrows while more arrives than smallBuffer takes:
	// room for the largest header block in one piece, and for many small frames.
	largeBuffer = 68 << 10

	// directRead is the size from which payload is read past the buffer, straight
	// into the caller's slice.
	directRead = 4 << 10

	// growStep is what a payload may claim before its bytes are there; from there
	// on its buffer doubles with what has arrived.
	growStep = 64 << 10
)

// largePool lends buffers to Readers that are busy.
var largePool = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// A vectorSource can read into two slices at once.
type vectorSource interface {
	CanReadv() bool
	Readv(a, b []byte) (int, error)
}

// A Reader reads frames from a byte stream. Use [Reader.Next] to get to the next
// frame, then either [Reader.Read] for its payload bytes or [Reader.Payload] for
// all of them at once.
//
// A Reader can go on after any error of its source that is not the end of the
// stream, such as an expired deadline: no byte is lost, and the same call may be
// made again. It is not safe for concurrent use.
type Reader struct {
	src      io.Reader
	vec      vectorSource // nil if src cannot
	maxFrame int64
	trailer  Trailer
	received uint64 // bytes read from src

	small  [smallBuffer]byte
	large  *[largeBuffer]byte // in use instead of small, or nil
	buf    []byte             // small[:] or large[:]
	r, w   int                // buf[r:w] is unread
	filled bool               // the last read filled buf: more is to be expected

	state    readerState
	frame    Fixed
	sum      bool   // a CRC is computed over this frame
	crc      uint32 // over what was read of it
	left     int64  // payload bytes not yet read from buf or src
	body     []byte // payload bytes that had to be kept
	bodyR    int    // body[bodyR:] is not yet returned by Read
	verified bool   // body, or the view in buf, is whole and its CRC is right
	view     bool   // payload is buf[viewAt:viewAt+viewLen], not body
	viewAt   int
	viewLen  int
}

type readerState uint8

const (
	stateHeader  readerState = iota // at a frame boundary, or inside the fixed header or header block
	statePayload                    // inside the payload
	stateTrailer                    // payload read, trailer not
	stateDone                       // trailer read and right; bytes may wait in body
)

// NewReader returns a Reader of frames with at most maxFrame bytes each, trailer
// included; zero means DefaultMaxFrame. If r also has the methods CanReadv and
// Readv(a, b []byte) (int, error), which reads into two slices, large payloads
// cost one call of it each.
func NewReader(r io.Reader, maxFrame int, t Trailer) *Reader {
	fr := new(Reader)
	fr.Init(r, maxFrame, t)
	return fr
}

// Init makes fr what NewReader returns.
func (fr *Reader) Init(r io.Reader, maxFrame int, t Trailer) {
	if maxFrame <= 0 {
		maxFrame = DefaultMaxFrame
	}
	*fr = Reader{src: r, maxFrame: int64(maxFrame), trailer: t}
	fr.vec, _ = r.(vectorSource)
	fr.buf = fr.small[:]
}

// Trailer returns the mode: with TrailerSniff that of NewReader until the first
// frame without FlagCRC has shown what the peer does.
func (fr *Reader) Trailer() Trailer { return fr.trailer }

// SetTrailer changes the mode for the frames that follow.
func (fr *Reader) SetTrailer(t Trailer) { fr.trailer = t }

// Received returns how many bytes were read from the source.
func (fr *Reader) Received() uint64 { return fr.received }

// Buffered returns a view of the bytes that were read from the source and not yet
// parsed, for telling what a peer speaks that does not speak this protocol.
func (fr *Reader) Buffered() []byte { return fr.buf[fr.r:fr.w] }

// AtBoundary reports whether the last frame was read completely and nothing of
// the next one.
func (fr *Reader) AtBoundary() bool {
	return (fr.state == stateHeader || fr.state == stateDone) && fr.r == fr.w
}

// Next reads up to the end of the next frame's header block, and returns the fixed
// header and a view of the block, valid until the next call of a method. What
// Read or Payload left of the frame before is skipped, but its CRC is checked.
// At the end of the stream between two frames the error is io.EOF, inside one
// io.ErrUnexpectedEOF. The block is not yet covered by a checked CRC, nor
// validated in itself: see [RawHeader.Validate].
func (fr *Reader) Next() (Fixed, RawHeader, error) {
	if fr.state != stateHeader {
		if err := fr.skip(); err != nil {
			return Fixed{}, nil, err
		}
	}
	if err := fr.need(FixedLen); err != nil {
		// What is there may already be wrong.
		if _, perr := ParseFixed(fr.buf[fr.r:fr.w]); perr != nil && !errors.Is(perr, ErrIncomplete) {
			err = perr
		}
		return Fixed{}, nil, err
	}
	f, err := ParseFixed(fr.buf[fr.r:fr.w])
	if err != nil {
		return f, nil, err
	}
	hasTrailer := fr.trailer != TrailerByFlag || f.Flags.Has(FlagCRC)
	if f.WireLen(hasTrailer) > fr.maxFrame {
		return f, nil, ErrFrameTooLarge
	}
	if err := fr.need(FixedLen + f.HeaderLen); err != nil {
		return f, nil, err
	}
	block := fr.buf[fr.r : fr.r+FixedLen+f.HeaderLen]
	fr.sum = hasTrailer
	fr.crc = 0
	if hasTrailer {
		fr.crc = Checksum(0, block)
	}
	fr.r += len(block)
	fr.frame = f
	fr.left = f.PayloadLen
	fr.state = statePayload
	fr.resetBody()
	return f, RawHeader(block[FixedLen:]), nil
}

// resetBody forgets the payload of the last frame, and its memory if it was large.
func (fr *Reader) resetBody() {
	if cap(fr.body) > growStep {
		fr.body = nil
	}
	fr.body = fr.body[:0]
	fr.bodyR = 0
	fr.verified = false
	fr.view = false
}

// skip reads the rest of the current frame.
func (fr *Reader) skip() error {
	for fr.state == statePayload && fr.left > 0 {
		if fr.r == fr.w {
			if err := fr.fill(); err != nil {
				return midFrame(err)
			}
		}
		n := int(min(fr.left, int64(fr.w-fr.r)))
		fr.consume(n)
	}
	if fr.state != stateDone {
		if err := fr.finish(); err != nil {
			return err
		}
	}
	fr.state = stateHeader
	fr.resetBody()
	if fr.body != nil && fr.r == fr.w {
		fr.body = nil // between frames, an idle Reader keeps nothing
	}
	return nil
}

// consume takes n payload bytes from buf into the CRC.
func (fr *Reader) consume(n int) {
	if fr.sum {
		fr.crc = Checksum(fr.crc, fr.buf[fr.r:fr.r+n])
	}
	fr.r += n
	fr.left -= int64(n)
}

// Read reads payload bytes of the current frame. Of a frame with a CRC it returns
// none before all of the frame has arrived and its CRC was found right: if p has
// room for all of the payload, this is done in p itself. Of a frame without, it
// returns what there is. At the end of the payload the error is io.EOF.
func (fr *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !fr.verified {
		if !fr.sum {
			return fr.readPlain(p)
		}
		if fr.state == statePayload && len(fr.body) == 0 && int64(len(p)) >= fr.left && fr.left > 0 {
			return fr.readDirect(p[:fr.left])
		}
		if _, err := fr.Payload(); err != nil {
			return 0, err
		}
	}
	var rest []byte
	if fr.view {
		rest = fr.buf[fr.viewAt+fr.bodyR : fr.viewAt+fr.viewLen]
	} else {
		rest = fr.body[fr.bodyR:]
	}
	if len(rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, rest)
	fr.bodyR += n
	return n, nil
}

// readPlain is Read for a frame without a CRC.
func (fr *Reader) readPlain(p []byte) (int, error) {
	if fr.left == 0 {
		if fr.state != stateDone {
			if err := fr.finish(); err != nil {
				return 0, err
			}
		}
		return 0, io.EOF
	}
	n, err := fr.payload(p)
	if n > 0 {
		err = nil
	}
	return n, err
}

// readDirect reads a whole payload with a CRC into p, which has just its length.
func (fr *Reader) readDirect(p []byte) (int, error) {
	got := 0
	for got < len(p) {
		n, err := fr.payload(p[got:])
		got += n
		if err != nil && got < len(p) {
			fr.body = append(fr.body[:0], p[:got]...) // p is the caller's again
			return 0, err
		}
	}
	if err := fr.finish(); err != nil {
		if !isFinal(err) {
			fr.body = append(fr.body[:0], p...)
		}
		return 0, err
	}
	fr.verified = true
	return got, nil
}

// payload reads payload bytes into p, from the buffer or past it.
func (fr *Reader) payload(p []byte) (int, error) {
	if int64(len(p)) > fr.left {
		p = p[:fr.left]
	}
	if fr.r == fr.w && len(p) >= directRead {
		return fr.readPast(p)
	}
	if fr.r == fr.w {
		if err := fr.fill(); err != nil {
			return 0, midFrame(err)
		}
	}
	n := copy(p, fr.buf[fr.r:fr.w])
	fr.consume(n)
	return n, nil
}

// readPast reads from the source straight into p, and with the same call, if the
// source can, the trailer and the next frame's fixed header into the buffer.
func (fr *Reader) readPast(p []byte) (n int, err error) {
	fr.rebuffer()
	if fr.vec != nil && int64(len(p)) == fr.left && fr.vec.CanReadv() {
		n, err = fr.vec.Readv(p, fr.buf[:TrailerLen+FixedLen])
	} else {
		n, err = fr.src.Read(p)
	}
	fr.received += uint64(n)
	fr.filled = false
	if n > len(p) {
		fr.w = n - len(p)
		n = len(p)
	}
	if fr.sum {
		fr.crc = Checksum(fr.crc, p[:n])
	}
	fr.left -= int64(n)
	switch {
	case n > 0:
		return n, nil
	case err == nil:
		err = io.ErrNoProgress
	}
	return 0, midFrame(err)
}

// Payload reads the whole payload, checks the CRC if the frame has one, and
// returns a view of it, valid until the next call of a method. It may be called
// again. Memory is taken as bytes arrive, not by the length that the frame claims.
func (fr *Reader) Payload() ([]byte, error) {
	if fr.verified {
		if fr.view {
			return fr.buf[fr.viewAt : fr.viewAt+fr.viewLen], nil
		}
		return fr.body, nil
	}
	if fr.state == statePayload && len(fr.body) == 0 && fr.left <= int64(fr.w-fr.r) {
		// All of it is in buf. finish may have to move it.
		fr.view, fr.viewAt, fr.viewLen = true, fr.r, int(fr.left)
		fr.consume(int(fr.left))
	}
	for fr.state == statePayload && fr.left > 0 {
		if len(fr.body) == cap(fr.body) {
			fr.growBody()
		}
		n, err := fr.payload(fr.body[len(fr.body):cap(fr.body)])
		fr.body = fr.body[:len(fr.body)+n]
		if err != nil {
			return nil, err
		}
	}
	if fr.state != stateDone {
		if err := fr.finish(); err != nil {
			return nil, err
		}
	}
	fr.verified = true
	return fr.Payload()
}

// Detach returns the payload that Payload has just returned as memory of the
// caller's own.
func (fr *Reader) Detach() []byte {
	if fr.view {
		return append([]byte(nil), fr.buf[fr.viewAt:fr.viewAt+fr.viewLen]...)
	}
	b := fr.body
	fr.body = nil
	fr.bodyR = 0
	return b
}

// growBody makes room for more payload: what is claimed up to growStep, from there
// on as much again as has arrived.
func (fr *Reader) growBody() {
	have := int64(len(fr.body))
	want := min(have+fr.left, max(growStep, 2*have))
	b := make([]byte, have, want)
	copy(b, fr.body)
	fr.body = b
}

// finish reads the trailer and checks it.
func (fr *Reader) finish() error {
	fr.state = stateTrailer
	if !fr.sum {
		fr.state = stateDone
		return nil
	}
	sniff := fr.trailer == TrailerSniff && !fr.frame.Flags.Has(FlagCRC)
	if err := fr.need(TrailerLen); err != nil {
		if sniff && (err == io.EOF || err == io.ErrUnexpectedEOF) && fr.isNextFrame() {
			fr.trailer = TrailerByFlag
			fr.state = stateDone
			return nil
		}
		return midFrame(err)
	}
	got := binary.BigEndian.Uint32(fr.buf[fr.r:])
	if got != fr.crc {
		if sniff && fr.isNextFrame() {
			fr.trailer = TrailerByFlag
			fr.state = stateDone
			return nil
		}
		return ErrChecksum
	}
	if sniff {
		fr.trailer = TrailerAlways
	}
	fr.r += TrailerLen
	fr.state = stateDone
	return nil
}

// isNextFrame reports whether what is buffered can be the beginning of a frame.
func (fr *Reader) isNextFrame() bool {
	_, err := ParseFixed(fr.buf[fr.r:fr.w])
	return err == nil || errors.Is(err, ErrIncomplete)
}

// need reads until n unread bytes are in the buffer. At the end of the stream the
// error is io.EOF if there are none.
func (fr *Reader) need(n int) error {
	for fr.w-fr.r < n {
		if err := fr.fillFor(n); err != nil {
			if err == io.EOF && fr.w > fr.r {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// fill reads more, into an empty buffer.
func (fr *Reader) fill() error { return fr.fillFor(1) }

// fillFor reads once, having made room for n unread bytes in all.
func (fr *Reader) fillFor(n int) error {
	if fr.view && fr.w-fr.viewAt+n > largeBuffer {
		fr.body = append(fr.body[:0], fr.buf[fr.viewAt:fr.viewAt+fr.viewLen]...)
		fr.view = false
	}
	if fr.r == fr.w && !fr.view {
		fr.rebuffer()
	}
	if fr.large == nil && (n > smallBuffer || fr.filled) {
		fr.enlarge()
	}
	if fr.r+n > len(fr.buf) || fr.w == len(fr.buf) {
		fr.compact()
	}
	m, err := fr.src.Read(fr.buf[fr.w:])
	fr.received += uint64(m)
	fr.filled = m == len(fr.buf)-fr.w
	fr.w += m
	switch {
	case m > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// rebuffer starts anew with an empty buffer: the small one, if the last read did
// not fill the large one, so that an idle Reader keeps none.
func (fr *Reader) rebuffer() {
	fr.r, fr.w = 0, 0
	if fr.large != nil && !fr.filled {
		largePool.Put(fr.large)
		fr.large = nil
		fr.buf = fr.small[:]
	}
}

// enlarge moves to a large buffer.
func (fr *Reader) enlarge() {
	fr.large = largePool.Get().(*[largeBuffer]byte)
	start := fr.r
	if fr.view {
		start = fr.viewAt
	}
	n := copy(fr.large[:], fr.buf[start:fr.w])
	fr.buf = fr.large[:]
	fr.r, fr.w, fr.viewAt = fr.r-start, n, 0
}

// compact moves what is unread, and a payload that is being viewed, to the front.
func (fr *Reader) compact() {
	start := fr.r
	if fr.view {
		start = fr.viewAt
	}
	if start == 0 && fr.large == nil {
		fr.enlarge()
		return
	}
	n := copy(fr.buf, fr.buf[start:fr.w])
	fr.r, fr.w, fr.viewAt = fr.r-start, n, 0
}

// midFrame is err, but the end of the stream is unexpected.
func midFrame(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// isFinal reports whether err is about the bytes read rather than about reading.
func isFinal(err error) bool { return errors.Is(err, ErrChecksum) }
