package framing

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of Reader compare it with a model, Parse in a loop, over streams that
// arrive in pieces of any size with errors between them, read by any mixture of calls.

// A picker makes the choices of a test: it returns a number below n, n > 0. 0 must be
// a choice that comes to an end.
type picker func(n int) int

// bytePicker picks by the bytes of b, and 0 after its end.
func bytePicker(b []byte) picker {
	return func(n int) int {
		v := 0
		for m := n - 1; m > 0 && len(b) > 0; m >>= 8 {
			v = v<<8 | int(b[0])
			b = b[1:]
		}
		return v % n
	}
}

// errPassing is what a source returns now and then: it can go on after it.
var errPassing = fmt.Errorf("read test: %w", os.ErrDeadlineExceeded)

func isPassing(err error) bool { return err == errPassing || err == io.ErrNoProgress }

// A pieceSource is an io.Reader of data in pieces.
type pieceSource struct {
	data  []byte
	pos   int
	pick  picker
	calls int
	ended bool // io.EOF was returned
}

func (s *pieceSource) Read(p []byte) (int, error) { return s.read(p, nil) }

func (s *pieceSource) read(a, b []byte) (n int, err error) {
	s.calls++
	most := min(len(a)+len(b), len(s.data)-s.pos)
	n = most
	switch s.pick(10) {
	case 1, 2:
		n = min(1, most)
	case 3:
		n = min(s.pick(20), most)
	case 4, 5:
		n = s.pick(most + 1)
	case 6:
		return 0, errPassing
	case 7:
		n, err = s.pick(most+1), errPassing
	case 8:
		return 0, nil
	case 9:
		if s.pos+n == len(s.data) {
			err = io.EOF // together with the last bytes
		}
	}
	m := copy(a, s.data[s.pos:s.pos+n])
	copy(b, s.data[s.pos+m:s.pos+n])
	s.pos += n
	if n == 0 && s.pos == len(s.data) && err == nil {
		err = io.EOF
	}
	s.ended = s.ended || err == io.EOF
	return n, err
}

// A pieceVector can read into two slices, most of the time.
type pieceVector struct{ *pieceSource }

func (s pieceVector) CanReadv() bool { return s.pick(4) != 3 }

func (s pieceVector) Readv(a, b []byte) (int, error) { return s.read(a, b) }

// A modelFrame is a frame that must be found in a stream.
type modelFrame struct {
	fixed      Fixed
	block      []byte
	payload    []byte
	start, end int
	gate       int // none of payload may be seen before that many bytes of the stream were read
}

// A model is what must be found in a stream.
type model struct {
	data    []byte
	frames  []modelFrame
	err     error       // at the end
	broken  *modelFrame // the frame with err, if its header block is whole: payload as far as it goes
	trailer Trailer     // at the end
}

// newModel parses data with Parse in a loop.
func newModel(data []byte, maxFrame int, t Trailer) model {
	if maxFrame <= 0 {
		maxFrame = DefaultMaxFrame
	}
	m := model{data: data, trailer: t}
	for at := 0; ; {
		if at == len(data) {
			m.err = io.EOF
			return m
		}
		b := data[at:]
		fx, _ := ParseFixed(b)
		whole := int(fx.WireLen(m.trailer.has(fx.Flags)))
		sniff := m.trailer == TrailerSniff && !fx.Flags.Has(FlagCRC)
		_, n, err := Parse(b, maxFrame, m.trailer)
		switch {
		case err == ErrHeader: // not the Reader's affair
			n = whole
			if sniff {
				if has, _ := sniffTrailer(b, n); has {
					n += TrailerLen
				}
			}
		case err == ErrIncomplete && sniff && len(b) >= FixedLen && whole <= len(b):
			n = whole // "the carrier ends: the flag decides"
		case err == ErrIncomplete:
			err = io.ErrUnexpectedEOF
			fallthrough
		case err != nil:
			m.err = err
			if m.err != ErrFrameTooLarge || sniff && whole <= maxFrame {
				m.setBroken(at, fx)
			}
			return m
		}
		h := at + FixedLen + fx.HeaderLen
		f := modelFrame{
			fixed:   fx,
			block:   data[at+FixedLen : h],
			payload: data[h : h+int(fx.PayloadLen)],
			start:   at,
			end:     at + n,
		}
		switch {
		case n > FixedLen+fx.HeaderLen+int(fx.PayloadLen):
			f.gate = f.end
		case sniff:
			f.gate = f.end + 1 // or the end of the stream
		}
		if sniff {
			m.trailer = TrailerByFlag
			if f.gate == f.end {
				m.trailer = TrailerAlways
			}
		}
		m.frames = append(m.frames, f)
		at += n
	}
}

func (m *model) setBroken(at int, fx Fixed) {
	h := at + FixedLen + fx.HeaderLen
	if fx.Type == 0 || h > len(m.data) {
		return
	}
	f := &modelFrame{fixed: fx, block: m.data[at+FixedLen : h], start: at, end: len(m.data) + 1}
	if m.trailer == TrailerByFlag && !fx.Flags.Has(FlagCRC) {
		f.payload = m.data[h:]
	} else {
		f.gate = len(m.data) + 1 // never
	}
	m.broken = f
}

// A readerTest reads a stream and compares it with its model.
type readerTest struct {
	t    testing.TB
	pick picker
	src  *pieceSource
	rd   *Reader
	want model
	buf  []byte // scratch, as large as the stream and more

	maxCalls int // of src, lest there is no end

	own []ownPayload
}

// An ownPayload is one that was detached.
type ownPayload struct{ got, want []byte }

func newReaderTest(t testing.TB, data []byte, maxFrame int, tr Trailer, vector bool, pick picker) *readerTest {
	rt := &readerTest{
		t:    t,
		pick: pick,
		src:  &pieceSource{data: data, pick: pick},
		want: newModel(data, maxFrame, tr),
		buf:  make([]byte, len(data)+100),

		maxCalls: 1000 + 100*len(data),
	}
	var src io.Reader = rt.src
	if vector {
		src = pieceVector{rt.src}
	}
	rt.rd = NewReader(src, maxFrame, tr)
	return rt
}

func (rt *readerTest) fatalf(format string, args ...any) {
	rt.t.Helper()
	rt.t.Fatalf("after %d of %d bytes: %s", rt.src.pos, len(rt.src.data), fmt.Sprintf(format, args...))
}

// run reads the whole stream.
func (rt *readerTest) run() {
	rt.t.Helper()
	for i := 0; ; i++ {
		w := rt.want.broken
		if i < len(rt.want.frames) {
			w = &rt.want.frames[i]
		}
		err := rt.frame(w, i < len(rt.want.frames))
		if err == nil {
			continue
		}
		if i < len(rt.want.frames) || err != rt.want.err {
			rt.fatalf("frame %d of %d: got error %v, want %v", i, len(rt.want.frames), err, rt.want.err)
		}
		break
	}
	if _, _, err := rt.next(); err != rt.want.err {
		rt.fatalf("once more: got error %v, want %v", err, rt.want.err)
	}
	if rt.want.err == io.EOF && rt.rd.Trailer() != rt.want.trailer {
		rt.fatalf("the peer's trailers are found to be %v, want %v", rt.rd.Trailer(), rt.want.trailer)
	}
	for _, o := range rt.own {
		if !bytes.Equal(o.got, o.want) {
			rt.fatalf("a detached payload has changed")
		}
	}
}

// check checks what always holds.
func (rt *readerTest) check() {
	rd, src := rt.rd, rt.src
	if rd.Received() != uint64(src.pos) {
		rt.fatalf("Received: got %d", rd.Received())
	}
	if b := rd.Buffered(); !bytes.HasSuffix(src.data[:src.pos], b) {
		rt.fatalf("Buffered: not what was read last")
	}
	if most := max(growStep, 2*src.pos); cap(rd.body) > most {
		rt.fatalf("body has room for %d", cap(rd.body))
	}
	if src.calls > rt.maxCalls {
		rt.fatalf("too many calls")
	}
}

func (rt *readerTest) next() (f Fixed, h RawHeader, err error) {
	for range 10000 {
		f, h, err = rt.rd.Next()
		rt.check()
		if !isPassing(err) {
			return f, h, err
		}
	}
	rt.fatalf("no end of %v", err)
	return
}

// frame reads the next frame, or part of it. If w is nil, there is none.
func (rt *readerTest) frame(w *modelFrame, whole bool) error {
	f, h, err := rt.next()
	switch {
	case err != nil:
		return err
	case w == nil:
		rt.fatalf("a frame that should not be there: %v", f)
	case f != w.fixed:
		rt.fatalf("got frame %v, want %v", f, w.fixed)
	case !bytes.Equal(h, w.block) || cap(h) != len(h):
		rt.fatalf("wrong header block, or with more room than it needs")
	}
	rest := w.payload
	for {
		var p []byte
		err = nil
		done := false
		switch rt.pick(8) {
		case 0, 1, 2:
			room := rt.buf[:rt.readSize(len(rest))]
			n := 0
			if n, err = rt.rd.Read(room); n > 0 && err != nil {
				rt.fatalf("Read: %d bytes and %v", n, err)
			}
			p = room[:n]
			if done = err == io.EOF; done {
				err = nil
			}
			if n == 0 && err == nil && !done && len(room) > 0 {
				rt.fatalf("Read: neither bytes nor error")
			}
		case 3, 4:
			p, err = rt.rd.Payload()
			done = err == nil
			if cap(p) != len(p) {
				rt.fatalf("Payload: %d bytes with room for %d", len(p), cap(p))
			}
			if done && !whole {
				rt.fatalf("Payload of a broken frame: %d bytes", len(p))
			}
			if done && rt.pick(2) == 1 {
				rt.checkPayload(w, whole, p, rest)
				p = rt.rd.Detach()
				rt.own = append(rt.own, ownPayload{p, rest})
				rest = nil
				if again, err := rt.rd.Payload(); len(again) > 0 || err != nil {
					rt.fatalf("Payload after Detach: %d bytes, %v", len(again), err)
				}
				continue
			}
			if done && rt.pick(2) == 1 {
				rt.checkPayload(w, whole, p, rest)
				continue // go on with Read, or with Payload again
			}
		case 5:
			if b := rt.rd.Detach(); len(b) > 0 && w.gate > rt.src.pos && !rt.src.ended {
				rt.fatalf("Detach: bytes before the end of the frame")
			} else if len(b) > 0 {
				if !bytes.Equal(b, rest) {
					rt.fatalf("Detach: not the payload")
				}
				rt.own = append(rt.own, ownPayload{b, rest})
				rest = nil
			}
		case 6:
			if n, err := rt.rd.Read(nil); n != 0 || err != nil {
				rt.fatalf("empty Read: got %d, %v", n, err)
			}
		case 7:
			return nil // skip the rest
		}
		rt.check()
		switch {
		case isPassing(err):
			if len(p) > 0 {
				rt.fatalf("%d bytes and %v", len(p), err)
			}
			continue
		case err != nil:
			return err
		}
		if len(p) > 0 || done {
			rt.checkPayload(w, whole, p, rest)
		}
		if !done {
			rest = rest[len(p):]
			continue
		}
		if !whole || len(p) != len(rest) {
			rt.fatalf("the payload ends %d bytes early", len(rest)-len(p))
		}
		if got, want := rt.rd.AtBoundary(), rt.src.pos == w.end; got != want {
			rt.fatalf("at %d, frame ends at %d: AtBoundary is %v", rt.src.pos, w.end, got)
		}
		return nil
	}
}

// checkPayload checks that p is the beginning of rest, and may be seen.
func (rt *readerTest) checkPayload(w *modelFrame, whole bool, p, rest []byte) {
	rt.t.Helper()
	if !bytes.HasPrefix(rest, p) {
		rt.fatalf("wrong payload: %d bytes with %d to come", len(p), len(rest))
	}
	if len(p) > 0 && rt.src.pos < w.gate && !(whole && rt.src.ended) {
		rt.fatalf("%d bytes of payload before byte %d of the stream", len(p), w.gate)
	}
}

// readSize picks the size of a Read with rest bytes to come.
func (rt *readerTest) readSize(rest int) int {
	switch rt.pick(6) {
	case 1:
		return 1
	case 2:
		return 1 + rt.pick(20)
	case 3:
		return max(1, rest)
	case 4:
		return 1 + rt.pick(rest+1)
	case 5:
		return max(1, rest-1)
	}
	return len(rt.buf) // larger than anything
}

// mustFrame encodes a frame.
func mustFrame(t testing.TB, b []byte, f Frame, tr Trailer) []byte {
	t.Helper()
	b, err := AppendFrame(b, f, tr)
	require.NoError(t, err)
	return b
}
