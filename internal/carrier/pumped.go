package carrier

import (
	"net"
	"os"
	"sync"
	"time"
)

// pumped is a net.Conn whose Write survives a deadline although that of the
// connection below does not, as crypto/tls: a goroutine writes without one, and
// Write only waits for it. A Write that the deadline overtakes has been accepted;
// the next one waits for it first. The goroutine lives as long as a Write does.
type pumped struct {
	net.Conn

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed and renewed by SetWriteDeadline
	busy     chan struct{} // closed when the Write under way ends; nil if there is none
	err      error         // of the last one; final
}

func newPumped(conn net.Conn) *pumped {
	return &pumped{Conn: conn, changed: make(chan struct{})}
}

// Write takes all of b or, with an error, nothing.
func (p *pumped) Write(b []byte) (int, error) {
	b2 := append([]byte(nil), b...) // Write must not keep b
	err := p.run(func() error {
		_, err := p.Conn.Write(b2)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// run waits for what is under way, begins f, and waits for it until the deadline. A
// timeout says that f was not begun.
func (p *pumped) run(f func() error) error {
	if err := p.wait(); err != nil {
		return err
	}
	busy := make(chan struct{})
	p.mu.Lock()
	p.busy = busy
	p.mu.Unlock()
	go func() {
		err := f()
		p.mu.Lock()
		p.err = err
		p.busy = nil
		p.mu.Unlock()
		close(busy)
	}()
	if err := p.wait(); err != nil && !isTimeout(err) {
		return err
	}
	return nil
}

// wait waits until no Write is under way, or for the deadline.
func (p *pumped) wait() error {
	for {
		p.mu.Lock()
		busy, changed, deadline, err := p.busy, p.changed, p.deadline, p.err
		p.mu.Unlock()
		if err != nil {
			return err
		}
		var expired <-chan time.Time
		if !deadline.IsZero() {
			d := time.Until(deadline)
			if d <= 0 {
				return os.ErrDeadlineExceeded
			}
			t := time.NewTimer(d)
			defer t.Stop()
			expired = t.C
		}
		if busy == nil {
			return nil
		}
		select {
		case <-busy:
		case <-changed:
		case <-expired:
		}
	}
}

// SetWriteDeadline applies to a Write that is blocked too.
func (p *pumped) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// SetDeadline sets both deadlines.
func (p *pumped) SetDeadline(t time.Time) error {
	p.SetWriteDeadline(t)
	return p.Conn.SetReadDeadline(t)
}

// CloseWrite passes on, where the connection below has it. It does not wait beyond
// the deadline for a peer that takes nothing.
func (p *pumped) CloseWrite() error {
	cw, ok := p.Conn.(interface{ CloseWrite() error })
	if !ok {
		return net.ErrClosed
	}
	if err := p.run(cw.CloseWrite); err != nil {
		return err
	}
	return p.wait()
}

// Close closes the socket below: crypto/tls would wait up to five seconds until the
// peer takes its alert (golang.org/issue/31224), which CloseWrite has sent if the end
// is an orderly one.
func (p *pumped) Close() error {
	if nc, ok := p.Conn.(interface{ NetConn() net.Conn }); ok {
		return nc.NetConn().Close()
	}
	return p.Conn.Close()
}
