// Package hist keeps the distribution of durations in little memory.
package hist

import (
	"math/bits"
	"time"
)

const (
	subBits = 6 // 64 buckets for each power of two: within 1.6 % of the truth
	sub     = 1 << subBits
)

// A Histogram counts durations. The zero value is empty. It is not safe for
// concurrent use.
type Histogram struct {
	buckets  [(64 - subBits + 1) * sub]uint64
	n        uint64
	sum      time.Duration
	min, max time.Duration
}

// Add counts d; a negative one, from a clock that was set back, counts as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.buckets[index(uint64(d))]++
	if h.n == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.n++
	h.sum += d
}

// Merge counts everything that o has counted.
func (h *Histogram) Merge(o *Histogram) {
	if o.n == 0 {
		return
	}
	for i, n := range &o.buckets {
		h.buckets[i] += n
	}
	if h.n == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.n += o.n
	h.sum += o.sum
}

// Count returns how many durations were added.
func (h *Histogram) Count() uint64 { return h.n }

// Min returns the shortest duration. Like Max and Mean it is exact, and zero if
// nothing was added.
func (h *Histogram) Min() time.Duration { return h.min }

// Max returns the longest duration.
func (h *Histogram) Max() time.Duration { return h.max }

// Mean returns the arithmetic mean.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.sum / time.Duration(h.n)
}

// Quantile returns a duration that a share q of all are not longer than, such as
// 0.99, too long by 1.6 % at most.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q*float64(h.n) + 0.5)
	rank = min(max(rank, 1), h.n)
	for i, n := range &h.buckets {
		if n >= rank {
			return min(max(upper(i), h.min), h.max)
		}
		rank -= n
	}
	return h.max
}

// index returns the bucket of v: v itself below sub, from there on the power of two
// and the subBits bits after the leading one.
func index(v uint64) int {
	if v < sub {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)<<subBits | int(v>>shift&(sub-1))
}

// upper returns the largest value of a bucket.
func upper(i int) time.Duration {
	if i < sub {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	return time.Duration((uint64(sub|i&(sub-1))+1)<<shift - 1)
}
