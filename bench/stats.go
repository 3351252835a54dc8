package main

import "slices"

// median returns the middle of xs, which it sorts, or zero without any.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	m := len(xs) / 2
	if len(xs)%2 == 1 {
		return xs[m]
	}
	return (xs[m-1] + xs[m]) / 2
}

// medians returns the median of each value over the rounds.
func medians(rounds []values) values {
	all := make(map[string][]float64)
	for _, v := range rounds {
		for k, x := range v {
			all[k] = append(all[k], x)
		}
	}
	m := make(values)
	for k, xs := range all {
		m[k] = median(xs)
	}
	return m
}

// manyRounds is from where on the extremes of a ratio give way to the middle half
// of the rounds: of many, they only show the worst disturbances.
const manyRounds = 40

// A ratio is a median over rounds, with the extremes, or with the middle half of
// many rounds. OK is false if there was no round in which both sides were measured.
type ratio struct {
	Median, Min, Max float64
	OK               bool
}

// ratioOf divides, within each round, r's value by base's.
func ratioOf(r, base *row, key string) ratio {
	if r == nil || base == nil {
		return ratio{}
	}
	var xs []float64
	for i := range min(len(r.Rounds), len(base.Rounds)) {
		x, ok1 := r.Rounds[i][key]
		y, ok2 := base.Rounds[i][key]
		if ok1 && ok2 && y != 0 {
			xs = append(xs, x/y)
		}
	}
	if len(xs) == 0 {
		return ratio{}
	}
	m := median(xs)
	lo, hi := 0, len(xs)-1
	if len(xs) >= manyRounds {
		lo, hi = len(xs)/4, len(xs)-1-len(xs)/4
	}
	return ratio{Median: m, Min: xs[lo], Max: xs[hi], OK: true}
}
