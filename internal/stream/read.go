package stream

import (
	"io"
	"sync"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
)

// A byteQueue holds bytes in order. Its zero value is empty.
type byteQueue struct {
	b []byte
	r int
}

func (q *byteQueue) len() int { return len(q.b) - q.r }

// room returns n bytes of space behind the queue, to be claimed by grow.
func (q *byteQueue) room(n int) []byte {
	if q.r > 0 && len(q.b)+n > cap(q.b) {
		q.b = q.b[:copy(q.b, q.b[q.r:])]
		q.r = 0
	}
	if len(q.b)+n > cap(q.b) {
		b := make([]byte, len(q.b), max(len(q.b)+n, 2*cap(q.b)))
		copy(b, q.b)
		q.b = b
	}
	return q.b[len(q.b) : len(q.b)+n]
}

func (q *byteQueue) grow(n int) { q.b = q.b[:len(q.b)+n] }

// read moves bytes to p. An emptied queue has no memory.
func (q *byteQueue) read(p []byte) int {
	n := copy(p, q.b[q.r:])
	q.r += n
	if q.r == len(q.b) {
		*q = byteQueue{}
	}
	return n
}

// Read reads bytes of the peer's stream, as net.Conn.
func (s *Session) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, s.check(&s.readOp)
	}
	n, err := s.readWith(p)
	s.stats.bytesIn.Add(uint64(n))
	return n, err
}

// check returns the error of a call that has nothing to wait for.
func (s *Session) check(o *op) error {
	if err := s.ready(o); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expired(o)
}

// readWith is Read; with an empty p it returns 0, nil as soon as a Read would
// find bytes.
func (s *Session) readWith(p []byte) (int, error) {
	o := &s.readOp
	if err := s.ready(o); err != nil {
		return 0, err
	}
	var ev <-chan struct{}
	for {
		if err := s.acquireRead(); err != nil {
			return 0, err
		}
		n, err := 0, s.holdRead(o)
		if err != nil {
			s.releaseRead()
			return 0, err
		}
		n, err = s.readStream(p)
		s.releaseRead()
		switch {
		case err == nil:
			return n, nil
		case err == errStalled && ev != nil:
			if _, err := s.acquire(nil, o, ev); err != nil {
				return 0, err
			}
			ev = nil
		case err == errStalled:
			// Try once more with the event at hand, lest it is missed.
			s.mu.Lock()
			ev = s.event()
			s.mu.Unlock()
		case isTimeout(err): // whose? holdRead knows
		default:
			return 0, err
		}
	}
}

// readStream returns stream bytes, receiving until there are some.
func (s *Session) readStream(p []byte) (int, error) {
	for {
		if s.result.Legacy {
			s.takeLegacy()
		}
		if s.sbuf.len() > 0 {
			return s.readBuffered(p), nil
		}
		if s.readEnded.Load() {
			return 0, s.readError()
		}
		switch s.cur.kind {
		case kindNone:
			if s.peerBye {
				return 0, io.EOF
			}
			if err := s.next(); err != nil {
				return 0, err
			}
		case kindStream:
			if len(p) == 0 {
				if s.cur.left > 0 {
					return 0, nil
				}
				if err := s.bufferStream(); err != nil { // empty frame
					return 0, err
				}
				continue
			}
			n, err := s.readCurrent(p)
			if n > 0 || err != nil {
				return n, err
			}
		default:
			if err := s.process(); err != nil {
				return 0, err
			}
		}
	}
}

// readBuffered returns bytes that others have received for Read.
func (s *Session) readBuffered(p []byte) int {
	n := s.sbuf.read(p)
	s.mu.Lock()
	s.buffered = s.sbuf.len() > 0
	s.changed() // there is room again
	s.mu.Unlock()
	return n
}

// readCurrent reads payload of the current stream frame. At its end it returns 0
// and a nil error.
func (s *Session) readCurrent(p []byte) (int, error) {
	if s.cur.flags.Has(framing.FlagComp) {
		return s.readCompressed(p)
	}
	n, err := s.rd.Read(p)
	s.cur.left -= int64(n)
	if err == io.EOF {
		s.cur = current{}
		return 0, nil
	}
	if err != nil {
		return n, s.receiveFailed(err)
	}
	return n, nil
}

func (s *Session) readCompressed(p []byte) (int, error) {
	if s.cur.plain == nil {
		b, err := s.payload()
		if err != nil {
			return 0, s.receiveFailed(err)
		}
		s.cur.plain = b
	}
	n := copy(p, s.cur.plain)
	s.cur.plain = s.cur.plain[n:]
	if n == 0 {
		s.cur = current{}
	}
	return n, nil
}

// bufferStream moves a piece of the current stream frame to sbuf, for Read.
func (s *Session) bufferStream() error {
	free := maxBufferedStream - s.sbuf.len()
	if free <= 0 {
		if s.cur.left > 0 {
			return errStalled
		}
		_, err := s.readCurrent(make([]byte, 1)) // nothing but the end of the frame
		return err
	}
	n, err := s.readCurrent(s.sbuf.room(min(free, maxDataPayload)))
	s.sbuf.grow(n)
	if n > 0 {
		s.mu.Lock()
		s.buffered = true
		s.changed()
		s.mu.Unlock()
	}
	return err
}

// takeLegacy moves a message that was queued while somebody else was reading to
// sbuf: towards a crate peer the payloads of messages are the byte stream.
func (s *Session) takeLegacy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.sbuf.len() == 0 && len(s.msgs) > 0 {
		m := s.popMessage()
		s.sbuf.grow(copy(s.sbuf.room(len(m.Payload)), m.Payload))
		s.buffered = s.sbuf.len() > 0
	}
}

// copyBuffers are what WriteTo and ReadFrom move data with: a header's room and
// one full frame.
var copyBuffers = sync.Pool{New: func() any { return new([maxDataPayload]byte) }}

// WriteTo writes the peer's stream to w until its end. It implements io.WriterTo: a
// buffer is only in use while there is something to copy.
func (s *Session) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if _, err := s.readWith(nil); err != nil {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		m, err := s.copyOnce(w)
		n += int64(m)
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
	}
}

// copyOnce reads once and writes what it got.
func (s *Session) copyOnce(w io.Writer) (int, error) {
	b := copyBuffers.Get().(*[maxDataPayload]byte)
	defer copyBuffers.Put(b)
	m, err := s.Read(b[:])
	if m == 0 {
		return 0, err
	}
	k, werr := w.Write(b[:m])
	switch {
	case werr != nil:
		err = &session.CopyError{Err: werr}
	case k != m:
		err = &session.CopyError{Err: io.ErrShortWrite}
	}
	return k, err
}
