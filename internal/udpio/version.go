package udpio

import (
	"cmp"
	"strconv"
	"strings"
)

// A version of a kernel: the first three numbers.
type version [3]int

// parseVersion reads "6.1.0-13-amd64". What it does not understand is 0.
func parseVersion(s string) version {
	var v version
	for i := range v {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(s)
		}
		v[i], _ = strconv.Atoi(s[:end])
		if end == len(s) || s[end] != '.' {
			break
		}
		s = s[end+1:]
	}
	return v
}

func (v version) less(w version) bool {
	for i := range v {
		if c := cmp.Compare(v[i], w[i]); c != 0 {
			return c < 0
		}
	}
	return false
}

// gsoWorks reports whether a kernel's UDP_SEGMENT can be trusted: not before 5.0, and
// not from 7.0 to 7.1.4, where it corrupts a last segment as long as the others, trap U4.
func gsoWorks(v version) bool {
	corrupts := !v.less(version{7, 0, 0}) && v.less(version{7, 1, 5})
	return !v.less(version{5, 0, 0}) && !corrupts
}

// groWorks reports whether a kernel's UDP_GRO can be trusted, trap U4.
func groWorks(v version) bool { return !v.less(version{5, 12, 0}) }
