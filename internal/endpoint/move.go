package endpoint

import (
	"errors"
	"slices"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// A message whose SendMessage has returned belongs to its address, not to the association
// that was there: when the peer does not know that any more, because it was started anew,
// or has ended it, the message goes on over the next one. The peer before may have had it,
// and its acknowledgement was lost; the same peer will hardly get it twice.

// maxMoves is how often a message goes on: it may be the one that the peer does not
// survive.
const maxMoves = 3

// A leftOver is a message of an association that has ended.
type leftOver struct {
	waiting
	number int64
}

// leftOver takes a message that nobody waits for when it is settled. Session.mu is held.
func (s *Session) leftOver(out *reliable.Outgoing) {
	if err := out.Err(); err == nil || errors.Is(err, reliable.ErrExpired) || errors.Is(err, reliable.ErrCanceled) {
		return
	}
	now := time.Now()
	again, number, ok := s.eng.Again(now, out)
	if !ok || again.Moves > maxMoves || s.closed {
		s.ep.stats.lost.Add(1)
		return
	}
	w := waiting{out: again}
	if again.Lifetime > 0 {
		w.end = now.Add(again.Lifetime)
	}
	s.left = append(s.left, leftOver{w, number})
}

// moveOn sends what is left over. Session.mu is held.
func (s *Session) moveOn() {
	left := s.left
	s.left = nil
	if len(left) == 0 {
		return
	}
	slices.SortFunc(left, func(a, b leftOver) int { return int(a.number - b.number) })
	queue := make([]waiting, len(left))
	for i, l := range left {
		queue[i] = l.waiting
	}
	go s.ep.moveTo(s.remote, queue) // the lock of another session is needed
}

// moveTo sends messages that another association to that address has left over. What has
// waited for the handshake of this one comes after them, so that those in order stay so.
func (e *Endpoint) moveTo(to udpio.Addr, queue []waiting) {
	s, err := e.sharedSession(to)
	if err != nil {
		e.stats.lost.Add(uint64(len(queue)))
		return
	}
	s.mu.Lock()
	now := time.Now()
	switch d := s.dial; {
	case d != nil:
		d.queue = append(queue, d.queue...)
		for _, w := range queue {
			d.queued += len(w.out.Header) + len(w.out.Payload)
		}
	case s.eng != nil && !s.closed && s.ended == nil:
		s.sendQueued(now, queue)
		s.flush(now)
	default:
		e.stats.lost.Add(uint64(len(queue)))
	}
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		e.remove(s)
	}
}
