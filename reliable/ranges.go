package reliable

import "slices"

// A span is the numbers from start up to, and without, end.
type span[T ~uint64 | ~int64] struct{ start, end T }

type pnRange = span[packetNumber]

// A spanSet is a set of numbers as spans in rising order, of which no two touch.
type spanSet[T ~uint64 | ~int64] []span[T]

// find returns the index of the first span that ends at or after x.
func (s spanSet[T]) find(x T) int {
	// Most of what happens, happens at the end.
	if n := len(s); n == 0 || s[n-1].end < x {
		return n
	}
	i, j := 0, len(s)-1
	for i < j {
		m := (i + j) / 2
		if s[m].end < x {
			i = m + 1
		} else {
			j = m
		}
	}
	return i
}

// add puts [start, end) into the set, and returns how many numbers are new.
func (s *spanSet[T]) add(start, end T) (fresh T) {
	if start >= end {
		return 0
	}
	i := s.find(start)
	if i == len(*s) || (*s)[i].start > end {
		*s = slices.Insert(*s, i, span[T]{start, end})
		return end - start
	}
	fresh = end - start
	merged := span[T]{start, end}
	j := i
	for ; j < len(*s) && (*s)[j].start <= end; j++ {
		o := (*s)[j]
		if lo, hi := max(start, o.start), min(end, o.end); lo < hi {
			fresh -= hi - lo
		}
		merged.start, merged.end = min(merged.start, o.start), max(merged.end, o.end)
	}
	(*s)[i] = merged
	if j > i+1 {
		*s = slices.Delete(*s, i+1, j)
	}
	return fresh
}

// remove takes [start, end) out of the set.
func (s *spanSet[T]) remove(start, end T) {
	if start >= end {
		return
	}
	for i := s.find(start + 1); i < len(*s) && (*s)[i].start < end; {
		o := (*s)[i]
		switch {
		case o.start < start && o.end > end:
			(*s)[i].end = start
			*s = slices.Insert(*s, i+1, span[T]{end, o.end})
			return
		case o.start < start:
			(*s)[i].end = start
			i++
		case o.end > end:
			(*s)[i].start = end
			return
		default:
			*s = slices.Delete(*s, i, i+1)
		}
	}
}

// contains reports whether x is in the set.
func (s spanSet[T]) contains(x T) bool {
	i := s.find(x + 1)
	return i < len(s) && s[i].start <= x
}

// covers reports whether all of [start, end) is in the set.
func (s spanSet[T]) covers(start, end T) bool {
	i := s.find(start + 1)
	return start >= end || i < len(s) && s[i].start <= start && s[i].end >= end
}

// wouldSplit reports whether adding [start, end) makes a span of its own.
func (s spanSet[T]) wouldSplit(start, end T) bool {
	i := s.find(start)
	return i == len(s) || s[i].start > end
}

// popFront removes the spans below x, and what of one reaches below it.
func (s *spanSet[T]) popFront(x T) {
	i := 0
	for i < len(*s) && (*s)[i].end <= x {
		i++
	}
	if i > 0 {
		*s = slices.Delete(*s, 0, i)
	}
	if len(*s) > 0 && (*s)[0].start < x {
		(*s)[0].start = x
	}
}
