// Package relay copies between two connections in both directions.
package relay

import (
	"io"
	"sync"
)

// A Conn can end its own direction and leave the other one open.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// A Side is one of two connections.
type Side struct {
	Conn

	// Abort ends the connection so that the peer sees that something went wrong: by
	// a reset, or an error with a reason. If nil, Close is called.
	Abort func(err error)
}

func (s Side) abort(err error) {
	if s.Abort != nil {
		s.Abort(err)
		return
	}
	s.Close()
}

// Run copies from a to b and from b to a until both have ended, and closes both.
// An end of a is passed on as an end to b alone, the other direction goes on; an
// error ends everything at once, visibly on the other side, for half a stream must
// not look like a whole one. It returns the first error, and the bytes copied.
func Run(a, b Side) (aToB, bToA int64, err error) {
	var once sync.Once
	fail := func(e error) {
		once.Do(func() {
			err = e
			a.abort(e)
			b.abort(e)
		})
	}
	var wg sync.WaitGroup
	pass := func(dst, src Side, n *int64) {
		var err error
		if *n, err = io.Copy(dst.Conn, src.Conn); err == nil {
			err = dst.CloseWrite()
		}
		if err != nil {
			fail(err)
		}
	}
	wg.Go(func() { pass(b, a, &aToB) })
	pass(a, b, &bToA)
	wg.Wait()
	if err == nil {
		err = a.Close()
		if berr := b.Close(); err == nil {
			err = berr
		}
	}
	return aToB, bToA, err
}
