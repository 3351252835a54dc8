package fileproto

import (
	"hash"
	"io"
	"os"
	"sync"
	"time"
)

const (
	minChunk = 256 << 10
	maxChunk = 4 << 20

	// chunkTime is what a chunk should take: long enough to be worth a call, short
	// enough for progress to be seen and a stall to be noticed.
	chunkTime = 100 * time.Millisecond

	hashBuffer = 256 << 10
)

// sendContent sends the bytes of f from off on, n of them, and adds them to h. The
// file position must be off. It copies in chunks with io.Copy, so that a connection
// that can take a file's pages without copying them does, while another goroutine
// hashes the same bytes, which are in the page cache by then.
//
// If the file changes meanwhile, what is hashed may not be what is sent. The
// receiver then finds the digest wrong, as it should.
func (p peer) sendContent(f *os.File, off, n int64, h hash.Hash, tick func(int)) error {
	if n <= minChunk {
		return p.sendSmall(f, n, h, tick)
	}
	end := off + n
	sums := startHasher(h, f, off)
	defer sums.wait()
	for chunk := int64(minChunk); off < end; {
		chunk = min(chunk, end-off)
		sums.upTo(off + chunk)
		start := time.Now()
		p.SetWriteDeadline(start.Add(p.stall))
		got, err := io.Copy(p.Conn, io.LimitReader(f, chunk))
		tick(int(got))
		if err != nil {
			return err
		}
		if got < chunk {
			return p.fail(errChanged)
		}
		off += got
		chunk = nextChunk(chunk, time.Since(start))
	}
	p.SetWriteDeadline(time.Time{})
	if err := sums.wait(); err != nil {
		return p.fail(err)
	}
	return nil
}

// nextChunk returns the size after a chunk that took d.
func nextChunk(chunk int64, d time.Duration) int64 {
	switch {
	case d < chunkTime/2:
		return min(2*chunk, maxChunk)
	case d > 2*chunkTime:
		return max(chunk/2, minChunk)
	}
	return max(chunk, minChunk)
}

func (p peer) sendSmall(f *os.File, n int64, h hash.Hash, tick func(int)) error {
	if n == 0 {
		return nil
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(f, buf); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errChanged
		}
		return p.fail(err)
	}
	h.Write(buf)
	p.SetWriteDeadline(time.Now().Add(p.stall))
	defer p.SetWriteDeadline(time.Time{})
	_, err := p.Write(buf)
	tick(len(buf))
	return err
}

// A hasher hashes a file in a goroutine, as far as it is told.
type hasher struct {
	ends  chan int64
	close func() // closes ends, once
	done  chan struct{}
	err   error // valid when done is closed
}

func startHasher(h hash.Hash, f *os.File, pos int64) *hasher {
	s := &hasher{ends: make(chan int64, 2), done: make(chan struct{})}
	s.close = sync.OnceFunc(func() { close(s.ends) })
	go func() {
		defer close(s.done)
		buf := make([]byte, hashBuffer)
		for end := range s.ends {
			if s.err != nil {
				continue
			}
			// The section hides every method that io.CopyBuffer would prefer to buf.
			n, err := io.CopyBuffer(h, onlyReader{io.NewSectionReader(f, pos, end-pos)}, buf)
			if pos += n; err == nil && pos < end {
				err = errChanged
			}
			s.err = err
		}
	}()
	return s
}

type onlyReader struct{ io.Reader }

// upTo lets the hasher go on to end. It waits when the hasher is far behind.
func (s *hasher) upTo(end int64) { s.ends <- end }

// wait returns when everything is hashed. It may be called again.
func (s *hasher) wait() error {
	s.close()
	<-s.done
	return s.err
}

// receiveContent appends n bytes from the peer to f, at its position, and to h. A
// goroutine of its own hashes, so that hashing and writing share two processors.
func (p peer) receiveContent(f io.Writer, n int64, h hash.Hash, tick func(int)) error {
	defer p.SetReadDeadline(time.Time{})
	if n <= minChunk {
		return p.receiveInto(f, n, tick, make([]byte, min(n, 64<<10)), func(b []byte) []byte { h.Write(b); return b[:cap(b)] })
	}
	const buffers = 4
	free, full, done := make(chan []byte, buffers), make(chan []byte, buffers), make(chan struct{})
	for range buffers - 1 {
		free <- make([]byte, hashBuffer)
	}
	go func() {
		defer close(done)
		for b := range full {
			h.Write(b)
			free <- b[:cap(b)]
		}
	}()
	err := p.receiveInto(f, n, tick, make([]byte, hashBuffer), func(b []byte) []byte {
		full <- b
		return <-free
	})
	close(full)
	<-done
	return err
}

// receiveInto reads n bytes and writes them to f. After each write it gives its
// buffer to pass, cut to what is in it, and goes on with the one it gets for it.
func (p peer) receiveInto(f io.Writer, n int64, tick func(int), buf []byte, pass func([]byte) []byte) error {
	for n > 0 {
		p.SetReadDeadline(time.Now().Add(p.stall))
		got, err := p.Read(buf[:min(n, int64(len(buf)))])
		if got > 0 {
			if _, werr := f.Write(buf[:got]); werr != nil {
				return &localError{werr}
			}
			n -= int64(got)
			tick(got)
			buf = pass(buf[:got])
		}
		if err != nil && n > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// A localError is this side's own trouble, with a disk for instance, in the middle
// of content.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// discard reads n bytes of content that nobody wants.
func (p peer) discard(n int64) error {
	buf := make([]byte, min(n, 32<<10))
	return p.receiveInto(io.Discard, n, func(int) {}, buf, func(b []byte) []byte { return b[:cap(b)] })
}
