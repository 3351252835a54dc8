package framing

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"
)

const (
	// smallBuffer is what a Reader has while nothing much arrives, inside itself.
	// It holds a whole small request, and costs an idle connection little. It is
	// a prime, so that frames of one size do not end where it ends: then there
	// would be no telling whether more is to come.
	smallBuffer = 509

	// largeBuffer is what it borrows while more arrives than smallBuffer takes:
	// room for the largest header block in one piece, and for many small frames.
	largeBuffer = 68 << 10

	// directRead is the size from which payload is read past the buffer, straight
	// into the caller's slice.
	directRead = 4 << 10

	// growStep is what a payload may claim before its bytes are there; from there
	// on its buffer doubles with what has arrived.
	growStep = 64 << 10

	// maxEmptyReads bounds how often the source may return neither bytes nor an
	// error, one after the other. A net.Pipe does, once for each empty Write.
	maxEmptyReads = 100
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
// made again. It is not safe for concurrent use, and must not be copied.
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

	frame   Fixed  // the current frame
	inFrame bool   // something of it has not been read yet, from src or buf
	sum     bool   // it has a CRC, or may have
	sniff   bool   // it may have one: what follows tells
	crc     uint32 // over what was read of it, if sum
	left    int64  // payload bytes not yet read from src or buf

	body     []byte             // payload that had to be kept; if sum, to be used once !inFrame
	bodyR    int                // body[bodyR:] is not yet returned by Read
	borrowed bool               // body is a view of buf
	lent     *[largeBuffer]byte // body is in it, or nil
}

// NewReader returns a Reader of frames with at most maxFrame bytes each, trailer
// included; zero or less means DefaultMaxFrame. If r also has the methods CanReadv
// and Readv(a, b []byte) (int, error), which reads into two slices, large payloads
// cost one call of it each. An error that r returns together with bytes it has to
// return again.
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
func (fr *Reader) Buffered() []byte { return fr.buf[fr.r:fr.w:fr.w] }

// AtBoundary reports whether the last frame was read completely and nothing of
// the next one.
func (fr *Reader) AtBoundary() bool { return !fr.inFrame && fr.r == fr.w }

// Next reads up to the end of the next frame's header block, and returns the fixed
// header and a view of the block, valid until the next call of a method. What
// Read or Payload left of the frame before is skipped, but its CRC is checked.
// At the end of the stream between two frames the error is io.EOF, inside one
// io.ErrUnexpectedEOF; others are those of [Parse], each as early, save ErrHeader:
// the block is not yet covered by a checked CRC, nor validated in itself, see
// [RawHeader.Validate].
func (fr *Reader) Next() (Fixed, RawHeader, error) {
	fr.resetBody()
	if fr.inFrame {
		if err := fr.skip(); err != nil {
			return Fixed{}, nil, err
		}
	}
	f, err := ParseFixed(fr.buf[fr.r:fr.w])
	for err == ErrIncomplete {
		if err := fr.fill(); err != nil {
			if fr.r < fr.w {
				err = midFrame(err)
			}
			return Fixed{}, nil, err
		}
		f, err = ParseFixed(fr.buf[fr.r:fr.w])
	}
	if err != nil {
		return Fixed{}, nil, err
	}
	trailer := fr.trailer.has(f.Flags)
	if f.WireLen(trailer) > fr.maxFrame {
		return f, nil, ErrFrameTooLarge
	}
	n := FixedLen + f.HeaderLen
	for fr.w-fr.r < n {
		if err := fr.fill(); err != nil {
			return f, nil, midFrame(err)
		}
	}
	block := fr.buf[fr.r : fr.r+n : fr.r+n]
	fr.r += n
	fr.frame = f
	fr.left = f.PayloadLen
	fr.sniff = fr.trailer == TrailerSniff && !trailer
	fr.sum = trailer || fr.sniff
	fr.inFrame = fr.sum || fr.left > 0
	if fr.sum {
		fr.crc = Checksum(0, block)
	}
	return f, RawHeader(block[FixedLen:]), nil
}

// skip reads the rest of the current frame.
func (fr *Reader) skip() error {
	for fr.left > 0 {
		if fr.r == fr.w {
			if err := fr.fill(); err != nil {
				return midFrame(err)
			}
		}
		fr.take(int(min(fr.left, int64(fr.w-fr.r))))
	}
	if !fr.inFrame {
		return nil
	}
	_, err := fr.finish(0)
	return err
}

// Read reads payload bytes of the current frame. Of a frame with a CRC it returns
// none before all of the frame has arrived and its CRC was found right: if p has
// room for all of the payload, this is done in p itself. Of a frame without, it
// returns what there is. At the end of the payload the error is io.EOF.
func (fr *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if fr.inFrame && len(fr.body) == 0 {
		if !fr.sum {
			n, err := fr.payload(p)
			fr.settle()
			return n, err
		}
		if 0 < fr.left && fr.left <= int64(len(p)) {
			return fr.readDirect(p[:fr.left])
		}
	}
	if fr.inFrame && fr.sum {
		if _, err := fr.Payload(); err != nil {
			return 0, err
		}
	}
	if len(fr.body) == 0 {
		return 0, io.EOF
	}
	n := copy(p, fr.body[fr.bodyR:])
	if fr.bodyR += n; fr.bodyR == len(fr.body) {
		fr.resetBody()
		fr.settle()
	}
	return n, nil
}

// readDirect reads a whole payload with a CRC into p, which has just its length.
func (fr *Reader) readDirect(p []byte) (int, error) {
	got := 0
	for got < len(p) {
		n, err := fr.payload(p[got:])
		if err != nil {
			fr.body = append(fr.body, p[:got]...) // p is the caller's again
			return 0, err
		}
		got += n
	}
	if _, err := fr.finish(0); err != nil {
		fr.body = append(fr.body, p...)
		return 0, err
	}
	fr.settle()
	return got, nil
}

// Payload reads the whole payload, checks the CRC if the frame has one, and
// returns a view of what Read has not returned of it, valid until the next call
// of a method. It may be called again. Memory is taken as bytes arrive, not by the
// length that the frame claims.
func (fr *Reader) Payload() ([]byte, error) {
	if fr.inFrame && len(fr.body) == 0 {
		// A small payload has room in buf.
		for fr.left < directRead && int64(fr.w-fr.r) < fr.left {
			if err := fr.fill(); err != nil {
				return nil, midFrame(err)
			}
		}
		if fr.left <= int64(fr.w-fr.r) {
			p, err := fr.finish(int(fr.left))
			if err != nil {
				return nil, err
			}
			fr.body, fr.borrowed = p, true
		}
	}
	for fr.left > 0 {
		if len(fr.body) == cap(fr.body) {
			fr.growBody()
		}
		n, err := fr.payload(fr.body[len(fr.body):cap(fr.body)])
		fr.body = fr.body[:len(fr.body)+n]
		if err != nil {
			return nil, err
		}
	}
	if fr.inFrame {
		if _, err := fr.finish(0); err != nil {
			return nil, err
		}
	}
	return fr.body[fr.bodyR:len(fr.body):len(fr.body)], nil
}

// Detach returns what Payload has just returned as memory of the caller's own. The
// Reader has no more of the payload then.
func (fr *Reader) Detach() []byte {
	if fr.inFrame {
		return nil // Payload has failed
	}
	b := fr.body[fr.bodyR:]
	if fr.borrowed || fr.lent != nil {
		b = append([]byte(nil), b...)
	}
	fr.resetBody()
	fr.settle()
	return b
}

// growBody makes room for more payload: what is claimed up to growStep, from there on
// as much again as has arrived. What is not beyond growStep is lent.
func (fr *Reader) growBody() {
	have := int64(len(fr.body))
	if have == 0 && fr.left <= growStep {
		fr.lent = largePool.Get().(*[largeBuffer]byte)
		fr.body = fr.lent[:0:fr.left]
		return
	}
	b := make([]byte, have, min(have+fr.left, max(growStep, 2*have)))
	copy(b, fr.body)
	fr.body = b
}

// resetBody empties body and gives its memory back.
func (fr *Reader) resetBody() {
	if fr.lent != nil {
		largePool.Put(fr.lent)
		fr.lent = nil
	}
	fr.body, fr.bodyR, fr.borrowed = nil, 0, false
}

// settle gives the large buffer back if all that was read has been used: the next
// call of a method may be long in coming.
func (fr *Reader) settle() {
	if fr.r == fr.w && !fr.inFrame && fr.large != nil {
		fr.rebuffer()
	}
}

// payload reads payload bytes into p, from the buffer or past it. Either n > 0 or
// there is an error.
func (fr *Reader) payload(p []byte) (n int, err error) {
	if int64(len(p)) > fr.left {
		p = p[:fr.left]
	}
	if fr.r == fr.w {
		// The end of a large payload is read as the rest, lest what follows it
		// comes by way of the buffer.
		tail := fr.vec != nil && int64(len(p)) == fr.left && fr.frame.PayloadLen >= directRead
		if len(p) >= directRead || tail {
			return fr.readPast(p)
		}
		if err := fr.fill(); err != nil {
			return 0, midFrame(err)
		}
	}
	n = copy(p, fr.buf[fr.r:fr.w])
	fr.take(n)
	return n, nil
}

// readPast reads from the source straight into p, and with the same call, if the
// source can, the trailer and the next frame's fixed header into the buffer, which
// is empty.
func (fr *Reader) readPast(p []byte) (n int, err error) {
	fr.filled = false
	fr.rebuffer()
	var ahead []byte
	if fr.vec != nil && int64(len(p)) == fr.left && fr.vec.CanReadv() {
		ahead = fr.buf[:FixedLen]
		if fr.sum {
			ahead = fr.buf[:TrailerLen+FixedLen]
		}
	}
	n, err = fr.read(p, ahead)
	if err != nil {
		return 0, midFrame(err)
	}
	if n > len(p) {
		fr.w = n - len(p)
		n = len(p)
	}
	fr.took(p[:n])
	return n, nil
}

// take takes n payload bytes from buf.
func (fr *Reader) take(n int) {
	fr.took(fr.buf[fr.r : fr.r+n])
	fr.r += n
}

// took notes that p, the next bytes of the payload, has been read.
func (fr *Reader) took(p []byte) {
	if fr.sum {
		fr.crc = Checksum(fr.crc, p)
	}
	fr.left -= int64(len(p))
	fr.inFrame = fr.sum || fr.left > 0
}

// finish ends the current frame: it reads the trailer and checks it. The last n
// bytes of the payload may still be in buf, all of them there; they are taken too, if
// all is right, and returned as a view.
func (fr *Reader) finish(n int) ([]byte, error) {
	trailer := 0
	if fr.sum {
		var err error
		if trailer, err = fr.checkTrailer(n); err != nil {
			return nil, err
		}
	}
	p := fr.buf[fr.r : fr.r+n : fr.r+n]
	fr.r += n + trailer
	fr.left = 0
	fr.inFrame = false
	return p, nil
}

// checkTrailer reads the trailer, behind n payload bytes in buf, checks it, and
// returns its length: 0 if it turns out that there is none. PROTOCOL §6.2.
func (fr *Reader) checkTrailer(n int) (int, error) {
	crc := fr.crc
	if n > 0 {
		crc = Checksum(crc, fr.buf[fr.r:fr.r+n])
	}
	for {
		got := fr.buf[fr.r+n : min(fr.r+n+TrailerLen, fr.w)]
		if len(got) == TrailerLen && binary.BigEndian.Uint32(got) == crc {
			if fr.sniff && fr.frame.WireLen(true) > fr.maxFrame {
				return 0, ErrFrameTooLarge
			}
			fr.sniffed(TrailerAlways)
			return TrailerLen, nil
		}
		match := bytes.HasPrefix(AppendTrailer(nil, crc), got)
		switch {
		case match: // as far as it is there
		case fr.sniff && parseShort(got) == ErrIncomplete: // the next frame, as far
			fr.sniffed(TrailerByFlag)
			return 0, nil
		case fr.sniff || len(got) == TrailerLen:
			return 0, ErrChecksum
		}
		err := fr.fill()
		if err == io.EOF && fr.sniff {
			fr.sniffed(TrailerByFlag)
			return 0, nil
		}
		if err != nil {
			return 0, midFrame(err)
		}
	}
}

// sniffed notes what the peer does, if that was open.
func (fr *Reader) sniffed(t Trailer) {
	if fr.sniff && fr.trailer == TrailerSniff {
		fr.trailer = t
	}
}

// fill reads from the source once, into the buffer. What is unread stays in one piece,
// and after as many calls as it takes there is room for all that is asked for: a whole
// header block, or a payload and its trailer where the header before them was, too.
func (fr *Reader) fill() error {
	if fr.r == fr.w {
		fr.rebuffer()
	}
	switch {
	case fr.large == nil && fr.filled:
		fr.large = largePool.Get().(*[largeBuffer]byte)
		fr.w = copy(fr.large[:], fr.buf[fr.r:fr.w])
		fr.r = 0
		fr.buf = fr.large[:]
	case fr.w == len(fr.buf):
		fr.w = copy(fr.buf, fr.buf[fr.r:fr.w])
		fr.r = 0
	}
	m, err := fr.read(fr.buf[fr.w:], nil)
	fr.w += m
	fr.filled = fr.w == len(fr.buf)
	return err
}

// rebuffer starts anew with an empty buffer: the small one, unless the last read has
// filled the large one in the midst of a frame, so that an idle Reader keeps none.
func (fr *Reader) rebuffer() {
	fr.r, fr.w = 0, 0
	fr.filled = fr.filled && fr.inFrame
	if fr.large != nil && !fr.filled {
		largePool.Put(fr.large)
		fr.large = nil
		fr.buf = fr.small[:]
	}
}

// read reads from the source once, into p and then into ahead, if there is one.
// Either n > 0 or there is an error.
func (fr *Reader) read(p, ahead []byte) (n int, err error) {
	for range maxEmptyReads {
		if ahead != nil {
			n, err = fr.vec.Readv(p, ahead)
		} else {
			n, err = fr.src.Read(p)
		}
		if n > 0 {
			fr.received += uint64(n)
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// midFrame is err, but the end of the stream is unexpected.
func midFrame(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
