package fileproto

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/vstp-go/vstp"
)

// A fakeConn is one end of a connection in memory: a net.Pipe for the byte stream
// and channels for the messages, which are independent of each other as with vstp.
type fakeConn struct {
	net.Conn
	in, out chan *vstp.Message
	mine    *fakeEnd // closed by this side
	theirs  *fakeEnd
	cut     func(n int) (int, bool) // limits what Write sends, for broken connections
}

type fakeEnd struct {
	once sync.Once
	done chan struct{}
	err  error // what the other side gets, valid when done is closed
}

func (e *fakeEnd) close(err error) { e.once.Do(func() { e.err = err; close(e.done) }) }

func fakePair() (a, b *fakeConn) {
	p, q := net.Pipe()
	ab, ba := make(chan *vstp.Message, 64), make(chan *vstp.Message, 64)
	ea, eb := &fakeEnd{done: make(chan struct{})}, &fakeEnd{done: make(chan struct{})}
	return &fakeConn{Conn: p, in: ba, out: ab, mine: ea, theirs: eb},
		&fakeConn{Conn: q, in: ab, out: ba, mine: eb, theirs: ea}
}

func (c *fakeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		err = c.ended(err)
	}
	return n, err
}

func (c *fakeConn) ended(err error) error {
	select {
	case <-c.theirs.done:
		return c.theirs.err
	default:
		return err
	}
}

func (c *fakeConn) Write(p []byte) (int, error) {
	if c.cut != nil {
		n, broken := c.cut(len(p))
		if broken {
			n, _ = c.Conn.Write(p[:n])
			c.abort()
			return n, io.ErrClosedPipe
		}
	}
	n, err := c.Conn.Write(p)
	if err == io.ErrClosedPipe {
		err = vstp.ErrPeerClosed
	}
	return n, err
}

// abort ends the connection without any word, as when a process is killed.
func (c *fakeConn) abort() {
	c.mine.close(io.ErrUnexpectedEOF)
	c.theirs.close(net.ErrClosed)
	c.Conn.Close()
}

func (c *fakeConn) SendMessage(ctx context.Context, m *vstp.Message) error {
	m = &vstp.Message{Header: m.Header.Clone(), Payload: slices.Clone(m.Payload)}
	select {
	case <-c.theirs.done:
		return vstp.ErrPeerClosed
	case <-c.mine.done:
		return net.ErrClosed
	default:
	}
	select {
	case c.out <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.theirs.done:
		return vstp.ErrPeerClosed
	}
}

func (c *fakeConn) ReceiveMessage(ctx context.Context) (*vstp.Message, error) {
	select {
	case m := <-c.in:
		return m, nil
	default:
	}
	select {
	case m := <-c.in:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.mine.done:
		return nil, net.ErrClosed
	case <-c.theirs.done:
		select {
		case m := <-c.in:
			return m, nil
		default:
			return nil, c.theirs.err
		}
	}
}

func (c *fakeConn) Close() error {
	c.mine.close(io.EOF)
	return c.Conn.Close()
}

func (c *fakeConn) CloseWithError(code vstp.ErrorCode, reason string) error {
	c.mine.close(&vstp.ProtocolError{Remote: true, Code: code, Reason: reason})
	return c.Conn.Close()
}
