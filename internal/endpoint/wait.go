package endpoint

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A waitq holds the calls that are blocked for one reason. The mutex that is given
// to wait guards it. Whoever changes what they wait for wakes all of them, and each
// looks again: there is hardly ever more than one.
type waitq struct {
	head *waiter
	free *waiter // one, so that waiting costs no allocation
}

type waiter struct {
	ch     chan struct{} // one element: it was woken
	next   *waiter
	queued bool

	needs  *lane   // whose socket somebody else has to read for it
	reads  *lane   // whose socket it reads itself
	stream *bearer // that it reads itself
	all    bool    // needs is all lanes of the endpoint
	woken  bool    // and is to stop doing so; readRole.mu guards it
}

// wake ends the waits of all.
func (q *waitq) wake() {
	for w := q.head; w != nil; {
		next := w.next
		w.next, w.queued = nil, false
		w.unblock()
		if w.stream != nil {
			w.stream.interrupt()
		}
		if l := w.reads; l != nil {
			l.role.wake(l.sock, w)
		} else {
			w.ch <- struct{}{}
		}
		w = next
	}
	q.head = nil
}

// unblock notes that w has no need of a reader any more.
func (w *waiter) unblock() {
	if w.needs != nil {
		w.needs.unneed(w.all)
		w.needs = nil
	}
}

// wait returns, with mu held as before, when q was woken or done is closed.
func (q *waitq) wait(mu *sync.Mutex, done <-chan struct{}) { q.waitFor(mu, done, nil, false) }

// waitFor is wait; if l is not nil, somebody has to read its socket meanwhile, or those of
// all lanes.
func (q *waitq) waitFor(mu *sync.Mutex, done <-chan struct{}, l *lane, all bool) {
	w := q.free
	q.free = nil
	if w == nil {
		w = &waiter{ch: make(chan struct{}, 1)}
	}
	w.next, w.queued = q.head, true
	q.head = w
	if w.needs, w.all = l, all; l != nil {
		l.need(all)
	}
	mu.Unlock()
	if done == nil {
		<-w.ch
	} else {
		select {
		case <-w.ch:
		case <-done:
		}
	}
	mu.Lock()
	w.unblock()
	if w.queued {
		q.remove(w)
	} else {
		select {
		case <-w.ch: // woken and done at once
		default:
		}
	}
	q.free = w
}

// waitOrRead is wait for calls that wait for what comes on l: if nobody needs the socket
// otherwise, it reads the socket itself.
func (q *waitq) waitOrRead(mu *sync.Mutex, done <-chan struct{}, l *lane) {
	if done != nil || !l.role.take() {
		q.waitFor(mu, done, l, false)
		return
	}
	w := q.free
	q.free = nil
	if w == nil {
		w = &waiter{ch: make(chan struct{}, 1)}
	}
	w.next, w.queued = q.head, true
	w.reads, w.woken = l, false
	q.head = w
	mu.Unlock()
	l.serve(w)
	mu.Lock()
	if w.queued {
		q.remove(w)
	}
	w.reads = nil
	q.free = w
}

func (q *waitq) remove(w *waiter) {
	for p := &q.head; *p != nil; p = &(*p).next {
		if *p == w {
			*p = w.next
			break
		}
	}
	w.next, w.queued = nil, false
}

// A deadline is that of SetReadDeadline or SetWriteDeadline. Its own lock orders
// those who set it; who asks for it needs none.
type deadline struct {
	at    atomic.Int64 // nanoseconds since epoch; 0 is none
	epoch time.Time
	wake  func() // wakes who is blocked, so that they look at it; holds no lock of theirs

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

func (d *deadline) init(epoch time.Time, wake func()) { d.epoch, d.wake = epoch, wake }

// set changes the deadline.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	if t.IsZero() {
		d.at.Store(0)
		return // whoever waits waits on
	}
	at := int64(t.Sub(d.epoch))
	if at == 0 {
		at = 1
	}
	d.at.Store(at)
	left := time.Duration(at) - time.Since(d.epoch)
	switch {
	case at < 0 || left <= 0:
		d.wake()
	case d.ended: // nobody waits any more
	case d.timer == nil:
		d.timer = time.AfterFunc(left, d.wake)
	default:
		d.timer.Reset(left)
	}
}

// end stops the timer for good.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.timer != nil {
		d.timer.Stop()
	}
}

// passed reports whether the deadline is over.
func (d *deadline) passed() bool {
	at := d.at.Load()
	return at != 0 && (at < 0 || int64(time.Since(d.epoch)) >= at)
}

// over returns why a call with ctx, which may be nil, and d has to end now, or nil.
func over(ctx context.Context, d *deadline) error {
	if ctx != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d != nil && d.passed() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// doneOf returns ctx.Done, nil for a nil ctx.
func doneOf(ctx context.Context) <-chan struct{} {
	if ctx == nil {
		return nil
	}
	return ctx.Done()
}
