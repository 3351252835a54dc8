package framing

import "io"

// maxKeptBuffer is the largest buffer a Writer holds on to between frames: 64 KiB of
// payload with a few headers. More would stay with a connection that sent one large
// frame and then nothing.
const maxKeptBuffer = 64<<10 + 1<<10

// A Writer writes frames to an [io.Writer], one Write call for each frame, so that a
// frame is never interleaved with what others write. It is not safe for concurrent use.
type Writer struct {
	w   io.Writer
	t   Trailer
	buf []byte // encoded frame, reused
	err error  // of the first write that failed
}

// NewWriter returns a Writer to w that ends frames as t says.
func NewWriter(w io.Writer, t Trailer) *Writer { return &Writer{w: w, t: t} }

// WriteFrame encodes f and writes it. It blocks while the underlying Write does, and
// keeps neither f.Header nor f.Payload.
//
// An error of [AppendFrame] leaves the Writer as it was: nothing was written. An error
// of the underlying Write, or [io.ErrShortWrite] for a write that was short without
// one, comes back from every later call too, as the peer may have part of a frame.
func (w *Writer) WriteFrame(f Frame) error {
	if w.err != nil {
		return w.err
	}
	b, err := AppendFrame(w.buf[:0], f, w.t)
	if err != nil {
		return err
	}
	n, err := w.w.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	w.err = err
	if w.buf = b; len(b) > maxKeptBuffer || err != nil {
		w.buf = nil
	}
	return err
}
