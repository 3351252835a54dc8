package endpoint

import (
	"errors"
	"sync/atomic"

	"github.com/vstp-go/vstp/internal/udpio"
)

// A lane is one socket of an endpoint and who reads it. Most endpoints have one. Where
// there are several, they have one port, and the system chooses where a datagram goes: by
// the connection id in it, if it can be made to (Spread), otherwise by its addresses.
//
// Associations, handshakes and limits belong to the endpoint, not to a lane: what comes on
// another one than it was meant for is as good. What is gained by steering is that the
// packets of an association have one reader, who does not meet others at its lock, and
// that they stay in order.
type lane struct {
	e       *Endpoint
	index   int
	sock    *udpio.Conn
	role    readRole
	reader  reader         // whose has the role
	packets []udpio.Packet // too

	datagramsIn, bytesIn atomic.Uint64
	strays               atomic.Uint64 // runs of packets that were meant for another lane
}

func newLane(e *Endpoint, index int, sock *udpio.Conn) *lane {
	l := &lane{e: e, index: index, sock: sock}
	l.role.init(sock)
	l.reader.e, l.reader.l = e, l
	l.reader.retries.init(maxRetriesPerSecond)
	l.packets = make([]udpio.Packet, readBatch)
	return l
}

// read serves the socket until it is closed, as long as no call does. Nothing that
// comes from outside ends it. Trap S11, U1.
func (l *lane) read() {
	e := l.e
	defer func() {
		if e.reading.Add(-1) == 0 {
			close(e.done)
		}
	}()
	rest := false
	for {
		l.role.takeBackground(rest)
		l.role.begin(nil)
		n, err := l.sock.Read(l.packets)
		l.role.end(l.sock)
		if err != nil && err != udpio.ErrInterrupted {
			l.role.fail()
			e.readFailed(err)
			return
		}
		before := l.role.blocked.Load()
		l.take(n)
		// If a call has what it was waiting for, it will come again and read itself.
		rest = before > 0 && l.role.blocked.Load() == 0 && l.role.possible
		l.role.releaseBackground()
	}
}

// need notes that somebody waits for what comes on the lane, or on all of them, and has it
// be read.
func (l *lane) need(all bool) {
	for _, l := range l.group(all) {
		l.role.blocked.Add(1)
		l.role.needed()
	}
}

// unneed takes back one need.
func (l *lane) unneed(all bool) {
	for _, l := range l.group(all) {
		l.role.blocked.Add(-1)
	}
}

func (l *lane) group(all bool) []*lane {
	if all {
		return l.e.lanes
	}
	return l.e.lanes[l.index : l.index+1]
}

// steered counts a run of packets that came on another lane than the kernel was told to
// choose.
func (l *lane) steered(id [8]byte) {
	if s := l.e.spread; s != nil && s.Of(id) != l.index {
		l.strays.Add(1)
	}
}

// closeSockets closes all of them, and returns the first error.
func (e *Endpoint) closeSockets() error {
	var errs []error
	for _, l := range e.lanes {
		errs = append(errs, l.sock.Close())
	}
	return errors.Join(errs...)
}

// socketStats returns the sum of what the sockets have counted; sizes and switches are those
// of one.
func (e *Endpoint) socketStats() udpio.Stats {
	sum := e.lanes[0].sock.Stats()
	for _, l := range e.lanes[1:] {
		sum.Add(l.sock.Stats())
	}
	return sum
}
