package main

import "container/heap"

// A packet is on its way.
type packet struct {
	due   int64
	order uint64 // of packets that are due at once
	data  []byte
}

// A flight is what is on its way in one direction: packets that keep their order in a
// queue, those that may be overtaken in a heap beside it.
type flight struct {
	queue  packetRing
	strays strays
	pushed uint64
}

func (f *flight) push(p packet, stray bool) {
	p.order = f.pushed
	f.pushed++
	if stray {
		heap.Push(&f.strays, p)
		return
	}
	f.queue.push(p)
}

// first returns the packet that is due next, or nil.
func (f *flight) first() *packet {
	p := f.queue.first()
	if len(f.strays) > 0 && (p == nil || before(&f.strays[0], p)) {
		return &f.strays[0]
	}
	return p
}

// drop takes the first away.
func (f *flight) drop() {
	if p := f.first(); len(f.strays) > 0 && p == &f.strays[0] {
		heap.Pop(&f.strays)
		return
	}
	f.queue.drop()
}

func before(a, b *packet) bool {
	return a.due < b.due || a.due == b.due && a.order < b.order
}

// strays is a heap of packets by when they are due.
type strays []packet

func (s strays) Len() int           { return len(s) }
func (s strays) Less(i, j int) bool { return before(&s[i], &s[j]) }
func (s strays) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *strays) Push(p any)        { *s = append(*s, p.(packet)) }

func (s *strays) Pop() any {
	last := len(*s) - 1
	p := (*s)[last]
	(*s)[last] = packet{}
	*s = (*s)[:last]
	return p
}

// A packetRing is a queue that grows as needed.
type packetRing struct {
	packets []packet // as many as a power of two, or none
	head, n int
}

func (r *packetRing) first() *packet {
	if r.n == 0 {
		return nil
	}
	return &r.packets[r.head]
}

func (r *packetRing) push(p packet) {
	if r.n == len(r.packets) {
		bigger := make([]packet, max(1024, 2*len(r.packets)))
		for i := range r.n {
			bigger[i] = r.packets[(r.head+i)&(len(r.packets)-1)]
		}
		r.packets, r.head = bigger, 0
	}
	r.packets[(r.head+r.n)&(len(r.packets)-1)] = p
	r.n++
}

func (r *packetRing) drop() {
	r.packets[r.head] = packet{}
	r.head = (r.head + 1) & (len(r.packets) - 1)
	r.n--
}
