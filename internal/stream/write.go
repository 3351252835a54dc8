package stream

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
)

// keepHead is the size up to which the buffer for frame headers is kept.
const keepHead = 1 << 10

// holdWrite announces that o, which has taken wtok, is going to write the carrier.
func (s *Session) holdWrite(o *op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.expired(o); err != nil {
		return err
	}
	if s.werr != nil && !o.closing {
		return s.werr
	}
	s.wheld = o
	s.armWrite(o.until())
	return nil
}

// releaseWrite gives wtok back, or passes it to a goroutine that sends what has
// been queued meanwhile.
func (s *Session) releaseWrite() {
	for {
		s.mu.Lock()
		s.wheld = nil
		pending := s.canFlush() && (s.ctl.pending() || s.car.Pending())
		s.mu.Unlock()
		if pending {
			go s.flusher()
			return
		}
		<-s.wtok
		// Something queued since then found the token taken.
		s.mu.Lock()
		pending = s.canFlush() && (s.ctl.pending() || s.car.Sealed())
		s.mu.Unlock()
		if !pending {
			return
		}
		select {
		case s.wtok <- struct{}{}:
		default:
			return // the new holder will see it
		}
	}
}

// canFlush reports whether what is queued can still be sent by the flusher: a
// session that is ending sends the rest in endWriting. Session.mu is held.
func (s *Session) canFlush() bool { return !s.closed && softEnd(s.werr) }

// softEnd reports whether err, a werr, ends data only: answers still go out.
func softEnd(err error) bool {
	return err == nil || err == session.ErrWriteClosed || err == session.ErrPeerClosed
}

// kick makes queued control frames leave soon. It never blocks.
func (s *Session) kick() {
	select {
	case s.wtok <- struct{}{}:
		go s.flusher()
	default: // the holder sees them when it gives the token back
	}
}

// flusher has wtok. It sends queued control frames and what a deadline has cut off,
// for as long as that takes.
func (s *Session) flusher() {
	for s.holdFlush() {
		err := s.writeControl(true)
		if err == nil {
			err = s.car.Flush()
		}
		if err != nil && !isTimeout(err) {
			s.writeFailed(err)
		}
		if err == nil {
			break // releaseWrite looks for more
		}
	}
	s.releaseWrite()
}

// holdFlush is holdWrite for the flusher. It reports whether to go on.
func (s *Session) holdFlush() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.canFlush() {
		return false
	}
	s.wheld = &s.flushOp
	s.armWrite(time.Time{})
	return true
}

// writeFailed makes a carrier's write error final.
func (s *Session) writeFailed(err error) error {
	if isClosed(err) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.werr != nil && !s.closed {
			return s.werr
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.werr == nil {
		s.werr = err
	}
	s.ctl = control{} // nobody will get it
	return err
}

// withWrite calls f with wtok held and queued control frames sent. A timeout of
// the carrier that is not o's own makes it try again.
func (s *Session) withWrite(o *op, f func() error) error {
	if _, err := s.acquire(s.wtok, o, nil); err != nil {
		return err
	}
	defer s.releaseWrite()
	for {
		if err := s.holdWrite(o); err != nil {
			return err
		}
		err := s.writeControl(false)
		if err == nil {
			err = f()
		}
		if err == nil || !isTimeout(err) {
			return err
		}
	}
}

// Write sends bytes of our stream, as net.Conn: when the write deadline passes, n
// bytes of p have been accepted and will be sent, the others not.
func (s *Session) Write(p []byte) (n int, err error) {
	o := &s.writeOp
	if err := s.ready(o); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, s.checkWrite(o)
	}
	if _, err := s.acquire(s.stok, o, nil); err != nil {
		return 0, err
	}
	for {
		var k int
		k, err = s.writeSome(o, p)
		n += k
		p = p[k:]
		if err != nil || len(p) == 0 {
			break
		}
	}
	<-s.stok
	s.stats.bytesOut.Add(uint64(n))
	return n, err
}

// checkWrite returns the error of a write of nothing, which waits for nothing.
func (s *Session) checkWrite(o *op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.expired(o); err != nil {
		return err
	}
	return s.werr
}

// writeSome sends the first bytes of p in a frame. Between two of them messages
// have their turn.
func (s *Session) writeSome(o *op, p []byte) (int, error) {
	if _, err := s.acquire(s.wtok, o, nil); err != nil {
		return 0, err
	}
	p = p[:min(len(p), maxDataPayload)]
	for {
		err := s.holdWrite(o)
		if err == nil {
			if err = s.writeStream(p); err != nil && isTimeout(err) {
				continue // whose? holdWrite knows
			}
		}
		s.releaseWrite()
		if err != nil {
			return 0, err
		}
		return len(p), nil
	}
}

// writeStream sends one DATA frame of the byte stream, and before it what has been queued.
func (s *Session) writeStream(p []byte) error {
	if err := s.writeControl(false); err != nil {
		return err
	}
	return s.writeFrame(framing.TypeData, 0, append(s.head[:0], emptyFixed[:]...), p)
}

var emptyFixed [framing.FixedLen]byte

// writeFrame sends a frame. head has room for the fixed header, then the header
// block; it becomes s.head. After an error that is no timeout nothing can be sent
// any more; after a timeout nothing of the frame was.
func (s *Session) writeFrame(t framing.Type, flags framing.Flags, head, payload []byte) error {
	if t == framing.TypeData && s.result.Compression != 0 {
		if z := s.com.compress(payload); z != nil {
			payload = z
			flags |= framing.FlagComp
		}
	}
	var tail []byte
	if s.sum && !s.result.Legacy {
		flags |= framing.FlagCRC
	}
	framing.AppendFixed(head[:0], t, flags, len(head)-framing.FixedLen, int64(len(payload)))
	n := len(head)
	if s.sum {
		crc := framing.Checksum(framing.Checksum(0, head), payload)
		head = framing.AppendTrailer(head, crc)
		tail = head[n:]
	}
	if cap(head) <= keepHead {
		s.head = head[:0]
	}
	err := s.car.WriteFrame(head[:n], payload, tail)
	if err != nil {
		if isTimeout(err) {
			return err
		}
		return s.writeFailed(err)
	}
	s.stats.framesOut.Add(1)
	s.stats.wireOut.Add(uint64(len(head) + len(payload)))
	return nil
}

// CloseWrite ends our stream. What was accepted before leaves before, what the
// peer sends still arrives. It does not block once the handshake is finished.
func (s *Session) CloseWrite() error {
	if err := s.ready(&op{}); err != nil {
		return err
	}
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return errClosed
	case s.werr == session.ErrWriteClosed, s.werr == session.ErrPeerClosed:
		s.mu.Unlock()
		return nil
	case s.werr != nil:
		err := s.werr
		s.mu.Unlock()
		return err
	}
	s.werr = session.ErrWriteClosed
	s.ctl.bye = true
	s.mu.Unlock()
	s.kick()
	return nil
}

// ReadFrom copies r into our stream until its end. It implements io.ReaderFrom. A
// file goes out by sendfile where the carrier is a plaintext socket and no CRC or
// compression was agreed upon.
func (s *Session) ReadFrom(r io.Reader) (n int64, err error) {
	if err := s.ready(&s.writeOp); err != nil {
		return 0, err
	}
	if f, limit, ok := regularFile(r); ok && s.canSendfile() {
		n, err = s.sendFile(f, limit)
		if lr, ok := r.(*io.LimitedReader); ok {
			lr.N -= n
		}
		if err != nil {
			return n, err
		}
		// What has been appended meanwhile, or the end.
	}
	m, err := s.copyFrom(r)
	return n + m, err
}

func (s *Session) canSendfile() bool {
	return !s.sum && s.result.Compression == 0 && s.car.CanSendfile()
}

// copyFrom is ReadFrom with a buffer.
func (s *Session) copyFrom(r io.Reader) (n int64, err error) {
	b := copyBuffers.Get().(*[maxDataPayload]byte)
	defer copyBuffers.Put(b)
	return session.Copy(s, r, b[:])
}

// A file is an *os.File, or what io.Copy makes of one: an *os.File without WriteTo.
type file interface {
	fs.File
	io.Seeker
	syscall.Conn
}

// regularFile returns the file behind r and how much of it to send, if its size is known.
func regularFile(r io.Reader) (f file, limit int64, ok bool) {
	limit = -1
	if lr, is := r.(*io.LimitedReader); is {
		r, limit = lr.R, lr.N
	}
	f, ok = r.(file)
	if !ok {
		return nil, 0, false
	}
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return nil, 0, false
	}
	pos, err := f.Seek(0, io.SeekCurrent)
	if err != nil || pos >= fi.Size() {
		return nil, 0, false
	}
	if rest := fi.Size() - pos; limit < 0 || rest < limit {
		limit = rest
	}
	return f, limit, limit > 0
}

// errFileShrank ends a session: a frame was announced that cannot be completed.
var errFileShrank = errors.New("vstp: file became shorter while it was sent")

// sendFile sends n bytes of f.
func (s *Session) sendFile(f file, n int64) (sent int64, err error) {
	o := &s.writeOp
	for sent < n {
		size := min(n-sent, maxFileFrame, s.result.PeerMaxFrame-framing.FixedLen)
		err := s.withWrite(o, func() error {
			pos, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return &session.CopyError{Err: err}
			}
			head := framing.AppendFixed(s.head[:0], framing.TypeData, 0, 0, size)
			begun, k, err := s.car.ReadFromN(head, f, size)
			if begun && err == nil && k < size {
				err = errFileShrank
			}
			if begun && isTimeout(err) {
				if err = s.oweFile(f, pos+k, size-k); err == nil {
					k = size
				}
			}
			if err == nil {
				sent += k
				s.stats.framesOut.Add(1)
				s.stats.bytesOut.Add(uint64(k))
				s.stats.wireOut.Add(uint64(k) + framing.FixedLen)
				return nil
			}
			if isTimeout(err) {
				return err
			}
			s.car.Break(err)
			return s.writeFailed(err)
		})
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// oweFile reads the rest of a frame that a deadline has cut, which begins at off,
// into memory. How far the file was read when the deadline passed is not known.
func (s *Session) oweFile(f file, off, n int64) error {
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(f, b); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errFileShrank
		}
		return err
	}
	s.car.Owe(b)
	return nil
}
