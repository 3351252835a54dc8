package endpoint

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
)

// graceTurn is how long nobody needs to read the socket after a call that did so has
// returned: the application usually comes back at once, and waking another goroutine
// in between costs more than all else in a short exchange. An acknowledgement may
// take five times as long.
//
// While calls come back again and again for a packet or two, the grace grows up to
// maxGrace: a timer that is due before the kernel's next tick makes each wait for a
// packet program the clock, which on a virtual machine costs as much as the exchange.
const (
	graceTurn = time.Millisecond
	maxGrace  = 16 * time.Millisecond

	// A grace in which calls came back steadyTurns times, for at most smallTurn reads
	// of one datagram each, is followed by a longer one.
	steadyTurns = 8
	smallTurn   = 2
)

// A readRole says who reads the socket. That is a goroutine in the background, or,
// while no other call waits for something, the one call that does: then a packet wakes
// the goroutine that wants it, and no other one before.
//
// Its lock comes after all others.
type readRole struct {
	possible bool         // the socket's Read can be interrupted
	blocked  atomic.Int32 // calls that wait for somebody else to read

	mu          sync.Mutex
	held        bool
	reading     bool // the holder is in the socket's Read
	interrupted bool // and was told to return
	dead        bool // the socket has failed
	parked      bool // the background goroutine waits for resume
	resume      chan struct{}
	timer       *time.Timer // ends the grace
	armed       bool
	turns       uint64 // how often a call has held it
	turnsArmed  uint64
	grace       time.Duration // how long the next one is
	busy        bool          // a turn since turnsArmed had much to read
	misses      int           // graces in a row in which nobody came back
	skip        int           // graces that are not granted because of that
}

// maxMisses bounds how many graces are left out, as a power of two.
const maxMisses = 6

func (o *readRole) init(sock *udpio.Conn) {
	o.possible = sock.CanInterrupt()
	o.resume = make(chan struct{}, 1)
	o.grace = graceTurn
}

// take gets the role for a call, and reports whether it did.
func (o *readRole) take() bool {
	if !o.possible {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held || o.dead {
		return false
	}
	o.held = true
	o.turns++
	o.misses = 0
	return true
}

// grant reports whether somebody is likely to come back soon. mu is held.
func (o *readRole) grant() bool {
	if o.skip > 0 {
		o.skip--
		return false
	}
	return true
}

// release gives it back. Somebody else takes it at once if calls wait for that,
// otherwise after a grace.
func (o *readRole) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = false
	if o.dead || o.blocked.Load() > 0 || !o.grant() {
		o.wakeUp()
		return
	}
	o.arm()
}

// rush notes that there was much to read in a turn: the next grace has to be short.
func (o *readRole) rush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy, o.grace = true, graceTurn
}

// arm begins a grace. mu is held.
func (o *readRole) arm() {
	if o.armed {
		return
	}
	o.armed = true
	o.turnsArmed, o.busy = o.turns, false
	if o.timer == nil {
		o.timer = time.AfterFunc(o.grace, o.graceOver)
	} else {
		o.timer.Reset(o.grace)
	}
}

// graceOver has the background goroutine read, unless calls have done so meanwhile.
func (o *readRole) graceOver() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.armed = false
	if !o.busy && o.turns-o.turnsArmed >= steadyTurns {
		o.grace = min(2*o.grace, maxGrace)
	}
	switch {
	case o.held || o.dead:
	case o.turns != o.turnsArmed:
		o.arm()
	default:
		o.grace = graceTurn
		o.misses = min(o.misses+1, maxMisses)
		o.skip = 1 << o.misses
		o.wakeUp()
	}
}

// wakeUp ends the rest of the background goroutine. mu is held.
func (o *readRole) wakeUp() {
	if o.parked {
		o.parked = false
		o.resume <- struct{}{}
	}
}

// needed has the background goroutine read if nobody does.
func (o *readRole) needed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.held {
		o.wakeUp()
	}
}

// takeBackground gets the role for the background goroutine, waiting until calls have
// no use for it.
func (o *readRole) takeBackground(rest bool) {
	for {
		o.mu.Lock()
		if !o.held && (o.dead || !rest || !o.grant()) {
			o.held = true
			o.mu.Unlock()
			return
		}
		rest = false
		o.parked = true
		if !o.held {
			o.arm()
		}
		o.mu.Unlock()
		<-o.resume
	}
}

// releaseBackground gives it back for a moment in which calls can take it.
func (o *readRole) releaseBackground() {
	o.mu.Lock()
	o.held = false
	o.mu.Unlock()
}

// begin and end are around the socket's Read of the holder. begin reports false if
// the holder's call w was woken meanwhile.
func (o *readRole) begin(w *waiter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w != nil && w.woken {
		return false
	}
	o.reading = true
	return true
}

func (o *readRole) end(sock *udpio.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reading = false
	if o.interrupted {
		o.interrupted = false
		sock.Resume()
	}
}

// wake ends the turn of w, which holds the role.
func (o *readRole) wake(sock *udpio.Conn, w *waiter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.woken = true
	if o.reading && !o.interrupted {
		o.interrupted = true
		sock.Interrupt()
	}
}

// fail notes that the socket is of no use any more.
func (o *readRole) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	o.wakeUp()
	if o.timer != nil {
		o.timer.Stop()
	}
}

// serve reads the socket for the waiter w, with the role held, until w is woken.
func (l *lane) serve(w *waiter) {
	reads, busy := 0, false
	for l.role.begin(w) {
		n, err := l.sock.Read(l.packets)
		l.role.end(l.sock)
		if err == udpio.ErrInterrupted {
			continue
		}
		if err != nil {
			l.role.fail() // the background goroutine finds the same, and ends everything
			break
		}
		reads++
		busy = busy || n > 1 || l.packets[0].SegSize > 0 || reads > smallTurn
		l.take(n)
	}
	if busy {
		l.role.rush()
	}
	l.role.release()
}

// take works through what the socket has given.
func (l *lane) take(n int) {
	r := &l.reader
	r.now = time.Now()
	r.behind = n == len(l.packets)
	for i := range l.packets[:n] {
		r.packet(&l.packets[i])
		l.packets[i].Data = nil // a socket that rests must not keep a buffer from the collector
	}
	r.finish()
}
