package stream

import (
	"net"
	"time"
)

// What is written and waits in the kernel, unsent, is sent twice when the session moves to
// another carrier, so it is to be little. But what is too little has been sent before whoever
// writes has woken up. The measure is what goes out in unsentTime, within bounds.
const (
	minUnsent   = 128 << 10
	maxUnsent   = 1 << 20
	unsentTime  = 500 * time.Microsecond
	unsentEvery = 10 * time.Millisecond // how often it is measured, at most
	unsentPause = 10 * unsentEvery      // after which the application was the slow one
)

// unsent follows the rate at which a byte stream takes what is written. The holder of
// Bearer.wtok owns it.
type unsent struct {
	size  int // in force; 0 is minUnsent
	bytes int // written
	since time.Time
}

// begin is called before the stream is waited for.
func (u *unsent) begin(now time.Time) {
	if d := now.Sub(u.since); d < 0 || d > unsentPause {
		u.bytes, u.since = 0, now
	}
}

// measure is called when the stream has taken all there was. It reports whether size has changed.
func (u *unsent) measure(now time.Time) bool {
	d := now.Sub(u.since)
	if d < unsentEvery {
		return false
	}
	rate := float64(u.bytes) / float64(d)
	u.bytes, u.since = 0, now
	// In powers of two, as each change is a system call.
	size := minUnsent
	for size < maxUnsent && float64(size) < rate*float64(unsentTime) {
		size *= 2
	}
	old := max(u.size, minUnsent)
	u.size = size
	return size != old
}

// measureUnsent sets how much may wait unsent in the socket.
func (b *Bearer) measureUnsent() {
	if !b.unsent.measure(time.Now()) {
		return
	}
	if tc, ok := b.car.NetConn().(*net.TCPConn); ok {
		limitUnsent(tc, b.unsent.size)
	}
}

// buffered returns how many bytes are in bufs.
func buffered(bufs net.Buffers) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}
