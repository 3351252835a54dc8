package vstp

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vstp-go/vstp/internal/stream"
)

// A streamSource takes connections from a net.Listener and runs their handshakes.
type streamSource struct {
	inner   net.Listener
	network string
	config  *stream.Config
	limit   int // of connections that are not yet in ready
	log     *slog.Logger

	// finish, if not nil, makes of a connection that has finished its handshake the one
	// for accept; nil is none.
	finish func(c *Conn) (*Conn, error)

	ready  chan *Conn    // handshake finished, not yet accepted
	done   chan struct{} // closed by close
	failed chan struct{} // closed when the socket accepts no more; err says why
	err    error

	mu         sync.Mutex
	room       sync.Cond  // below limit again, or closed
	halfOpen   *list.List // of *Conn in their handshake, oldest first
	delivering int        // finished, waiting for room in ready
	closed     bool
	handshakes sync.WaitGroup
}

func newStreamSource(inner net.Listener, network string, config *Config, sc *stream.Config) *streamSource {
	l := makeStreamSource(inner, network, config, sc)
	go l.acceptLoop()
	return l
}

// makeStreamSource returns a streamSource whose acceptLoop has yet to be started.
func makeStreamSource(inner net.Listener, network string, config *Config, sc *stream.Config) *streamSource {
	l := &streamSource{
		inner:    inner,
		network:  network,
		config:   sc,
		limit:    config.maxHandshakes(),
		log:      config.logger(),
		ready:    make(chan *Conn, config.acceptBacklog()),
		done:     make(chan struct{}),
		failed:   make(chan struct{}),
		halfOpen: list.New(),
	}
	l.room.L = &l.mu
	return l
}

// Backoff after an error of the socket that may pass, such as no file descriptors.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// acceptLoop takes connections from the socket until it fails for good.
func (l *streamSource) acceptLoop() {
	defer close(l.failed)
	delay := minAcceptDelay
	for {
		conn, err := l.inner.Accept()
		if err == nil {
			delay = minAcceptDelay
			l.begin(conn)
			continue
		}
		te, ok := err.(interface{ Temporary() bool })
		if !ok || !te.Temporary() || l.isClosed() {
			l.err = err
			return
		}
		l.log.Warn("vstp: accept failed, trying again", "addr", l.inner.Addr(), "err", err, "delay", delay)
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-l.done:
			t.Stop()
		}
		delay = min(2*delay, maxAcceptDelay)
	}
}

func (l *streamSource) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// begin starts the handshake of conn. At the limit, the oldest unfinished one makes
// room: an honest client needs a round trip or two, so what is old is likely
// stalled. If all are finished and wait for Accept, begin waits too, and with it the
// kernel's backlog.
func (l *streamSource) begin(conn net.Conn) {
	c := newConn(stream.New(conn, l.config), l.network)
	l.mu.Lock()
	for !l.closed && l.halfOpen.Len()+l.delivering >= l.limit {
		oldest := l.halfOpen.Front()
		if oldest == nil {
			l.room.Wait()
			continue
		}
		old := l.halfOpen.Remove(oldest).(*Conn)
		l.log.Warn("vstp: too many unfinished handshakes, gave up the oldest", "remote", old.raddr)
		go old.s.Close()
	}
	if l.closed {
		l.mu.Unlock()
		conn.Close()
		return
	}
	e := l.halfOpen.PushBack(c)
	l.handshakes.Add(1)
	l.mu.Unlock()
	go l.handshake(c, e)
}

// handshake runs c's handshake and hands c to accept.
func (l *streamSource) handshake(c *Conn, e *list.Element) {
	defer l.handshakes.Done()
	err := c.s.Handshake(context.Background())
	done := c
	if err == nil && l.finish != nil {
		done, err = l.finish(c)
	}
	l.mu.Lock()
	l.halfOpen.Remove(e) // no effect if it has been removed
	if err != nil || done == nil || l.closed {
		l.room.Signal()
		l.mu.Unlock()
		if done != nil && err == nil {
			turnAway(done)
		}
		if err != nil {
			c.s.Close()
			l.log.Info("vstp: handshake failed", "remote", c.raddr, "err", publicError(err))
		}
		return
	}
	l.delivering++
	l.mu.Unlock()
	l.deliver(done)
	l.mu.Lock()
	l.delivering--
	l.room.Signal()
	l.mu.Unlock()
}

// deliver hands c to accept, or closes it.
func (l *streamSource) deliver(c *Conn) {
	select {
	case l.ready <- c:
	case <-l.done:
		turnAway(c)
	}
	if l.isClosed() {
		l.drain() // Close may have drained before c came
	}
}

// drain closes what nobody will accept.
func (l *streamSource) drain() {
	for {
		select {
		case c := <-l.ready:
			turnAway(c)
		default:
			return
		}
	}
}

// turnAway closes a connection that nobody will accept. Who listens does not wait for it.
func turnAway(c *Conn) {
	if _, ok := c.s.(*stream.Session); ok {
		c.s.Close() // which has nothing to wait for
		return
	}
	go c.s.Close()
}

func (l *streamSource) accept(ctx context.Context) (*Conn, error) {
	if l.isClosed() {
		return nil, net.ErrClosed
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.failed:
	}
	select {
	case c := <-l.ready: // those that came before the failure
		return c, nil
	default:
		return nil, l.err
	}
}

func (l *streamSource) close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.done)
	l.room.Broadcast()
	half := l.halfOpen.Len() > 0
	l.mu.Unlock()
	switch {
	case half && l.finish != nil:
		time.AfterFunc(welcomeGrace, l.giveUp)
	case half:
		l.giveUp()
	}
	err := l.inner.Close()
	<-l.failed
	l.drain()
	return err
}

// welcomeGrace is how long unfinished handshakes may go on after close where clients would
// come back on another connection: who was just welcomed has to be told.
const welcomeGrace = 50 * time.Millisecond

// giveUp ends all unfinished handshakes.
func (l *streamSource) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.halfOpen.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*Conn).s; s.(*stream.Session).Auto() == nil { // or finish has it, which turns it away
			go s.Close()
		}
	}
}

func (l *streamSource) addr() net.Addr { return l.inner.Addr() }
