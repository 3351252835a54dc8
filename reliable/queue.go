package reliable

import "slices"

// A sender has data to send: a stream or a message.
type sender struct {
	stream *stream
	msg    *Outgoing
}

// A level is the senders of one priority, in turn.
type level struct {
	prio int8
	q    []sender
	head int
}

// A sendQueue hands out senders by priority, and within one priority in turn, so
// that large ones do not hold small ones up.
type sendQueue struct{ levels []*level } // highest first; level 0 is never removed

func (s *sendQueue) push(prio int8, x sender) {
	i := 0
	for i < len(s.levels) && s.levels[i].prio > prio {
		i++
	}
	if i == len(s.levels) || s.levels[i].prio != prio {
		s.levels = slices.Insert(s.levels, i, &level{prio: prio})
	}
	s.levels[i].add(x)
}

// add puts x behind the others.
func (l *level) add(x sender) {
	if l.head > 32 && 2*l.head > len(l.q) {
		n := copy(l.q, l.q[l.head:])
		clear(l.q[n:])
		l.q, l.head = l.q[:n], 0
	}
	l.q = append(l.q, x)
}

// front returns the sender whose turn it is. There is none if the level is nil.
func (s *sendQueue) front() (sender, *level) {
	for _, l := range s.levels {
		if l.head < len(l.q) {
			return l.q[l.head], l
		}
	}
	return sender{}, nil
}

func (s *sendQueue) empty() bool {
	_, l := s.front()
	return l == nil
}

// len returns how many senders wait.
func (s *sendQueue) len() (n int) {
	for _, l := range s.levels {
		n += len(l.q) - l.head
	}
	return n
}

// pop removes the front of l.
func (l *level) pop() {
	l.q[l.head] = sender{}
	l.head++
	if l.head == len(l.q) {
		l.q, l.head = l.q[:0], 0
	}
}

// rotate puts the front of l behind the others.
func (l *level) rotate() {
	if len(l.q)-l.head > 1 {
		x := l.q[l.head]
		l.pop()
		l.add(x)
	}
}
