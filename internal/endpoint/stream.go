package endpoint

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/session"
)

// copySize is how much ReadFrom and WriteTo move at a time.
const copySize = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// Read reads bytes of the peer's stream, as net.Conn; in a session without a stream
// it reads one message, and what of it does not fit p is lost.
func (s *Session) Read(p []byte) (int, error) {
	if !s.stream {
		return s.readMessage(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.readable(); err != nil {
			return 0, err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if n, err := s.readSome(p); n > 0 || err != nil {
			return n, err
		}
		if n := s.readOrWait(&s.readers, p); n > 0 {
			return n, nil
		}
	}
}

// readable returns why nothing can be read whatever is there, or nil.
func (s *Session) readable() error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.rdl.passed():
		return os.ErrDeadlineExceeded
	case s.eng == nil:
		return s.ended // a Session without an engine is given to nobody before
	}
	return nil
}

// readSome takes what is there. It returns 0 and nil if that is nothing yet.
func (s *Session) readSome(p []byte) (int, error) {
	now := time.Now()
	n, err := s.eng.Read(now, 0, p)
	if n > 0 {
		s.stats.bytesIn += uint64(n)
		s.flushCredit(now)
		return n, nil
	}
	if err == nil {
		err = s.ended
	}
	if err != nil && err != io.EOF {
		if s.ended != nil {
			err = s.ended
		}
		if err = translate(err); err == session.ErrPeerClosed {
			err = io.ErrUnexpectedEOF // it has ended, and not its stream
		}
	}
	return 0, err
}

// WriteTo writes the peer's stream to w until its end. It implements io.WriterTo: a
// buffer is only in use while there is something to copy.
func (s *Session) WriteTo(w io.Writer) (n int64, err error) {
	if !s.stream {
		return s.writeMessagesTo(w)
	}
	for {
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

// copyOnce reads once, waiting if there is nothing, and writes what it got.
func (s *Session) copyOnce(w io.Writer) (int, error) {
	for {
		b := copyBuffers.Get().(*[copySize]byte)
		s.mu.Lock()
		err := s.readable()
		m := 0
		if err == nil {
			m, err = s.readSome(b[:])
		}
		if m == 0 && err == nil {
			m = s.readOrWait(&s.readers, b[:])
		}
		if m == 0 {
			copyBuffers.Put(b)
			s.mu.Unlock()
			if err != nil {
				return 0, err
			}
			continue
		}
		s.mu.Unlock()
		k, werr := w.Write(b[:m])
		copyBuffers.Put(b)
		switch {
		case werr != nil:
			err = &session.CopyError{Err: werr}
		case k != m:
			err = &session.CopyError{Err: io.ErrShortWrite}
		}
		return k, err
	}
}

// Write sends bytes of our stream, as net.Conn: when the write deadline passes, n
// bytes of p have been accepted and will be sent, the others not. In a session
// without a stream it sends one message.
func (s *Session) Write(p []byte) (n int, err error) {
	if !s.stream {
		return s.writeMessage(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.writable(); err != nil {
			return 0, err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if !s.writing {
			break
		}
		s.writers.wait(&s.mu, nil)
	}
	s.writing = true
	n, err = s.writeAll(p)
	s.writing = false
	s.writers.wake()
	s.stats.bytesOut += uint64(n)
	return n, err
}

// writeAll is Write for who has its turn. Session.mu is held, and is released while
// something is sent or waited for.
func (s *Session) writeAll(p []byte) (n int, err error) {
	for {
		now := time.Now()
		k, err := s.eng.Write(now, 0, p[n:])
		n += k
		if k > 0 {
			s.flush(now)
		}
		if n == len(p) {
			return n, nil
		}
		if err != nil {
			if s.ended != nil {
				err = s.writeError()
			}
			return n, translate(err)
		}
		if err := s.writable(); err != nil {
			return n, err
		}
		if k == 0 {
			s.readOrWait(&s.writers, nil)
			if err := s.writable(); err != nil {
				return n, err
			}
		}
	}
}

// writable returns why nothing can be written, or nil.
func (s *Session) writable() error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.wdl.passed():
		return os.ErrDeadlineExceeded
	case s.ended != nil:
		return s.writeError()
	case s.wclosed:
		return session.ErrWriteClosed
	}
	return nil
}

// writeError is what a writer is told about the end.
func (s *Session) writeError() error {
	if s.ended == io.EOF {
		return session.ErrPeerClosed
	}
	return s.ended
}

// ReadFrom copies r into our stream until its end. It implements io.ReaderFrom.
func (s *Session) ReadFrom(r io.Reader) (n int64, err error) {
	b := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(b)
	return session.Copy(s, r, b[:])
}

// CloseWrite ends our stream and messages. What was accepted before arrives before, what
// the peer sends still arrives. It does not block.
func (s *Session) CloseWrite() error {
	if !s.stream {
		return session.ErrNotSupported
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.wclosed:
		return nil
	case s.ended != nil:
		if err := s.writeError(); err != session.ErrPeerClosed {
			return err
		}
		return nil
	}
	s.wclosed = true
	err := s.eng.CloseWrite(0)
	s.writers.wake()
	s.room.wake()
	s.flush(time.Now())
	return translate(err)
}
