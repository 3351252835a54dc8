package interop_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vstp-go/vstp"
)

// A cell is one message of the matrix.
type cell struct {
	d    direction
	tr   transport
	size int // index in sizes
	set  int // index in fieldSets
}

func (c cell) String() string {
	return fmt.Sprintf("%v, %v, %s bytes, fields %s", c.d, c.tr, sizes[c.size].name, fieldSets[c.set].name)
}

// n returns the length of the payload.
func (c cell) n() int {
	if n := sizes[c.size].n; n != wholeFrame {
		return n
	}
	return maxFrame - frameLen - wireFields(c.d, c.tr, fieldSets[c.set].h).EncodedLen()
}

// exists reports whether the cell can be tried: easy has no way to send nothing, or fields
// with an answer.
func (c cell) exists() bool {
	sends := c.d != toClient && c.d != toServer
	if c.d == fromServer || c.d == aloneFromServer {
		return !c.tr.isEasy() || c.n() > 0 && c.set == 0
	}
	return !c.tr.isEasy() || !sends || c.n() > 0
}

// isInMatrix reports whether there is such a cell: 8 MiB are for TCP.
func (c cell) isInMatrix() bool {
	return c.tr.isStream() || c.tr == overAuto || sizes[c.size].n != wholeFrame && sizes[c.size].n <= 1_000_000
}

// outcomes is what became of each cell.
var outcomes struct {
	sync.Mutex
	m map[cell]state
}

var seeds, markerIDs atomic.Uint32

// TestMatrix sends every message of the matrix, between vstp and the crate and between
// the crate and itself, and compares what becomes of it with what is expected. The
// matrix is in README.md.
func TestMatrix(t *testing.T) {
	need(t)
	outcomes.m = make(map[cell]state)
	t.Run("lanes", func(t *testing.T) {
		for d := fromClient; d <= aloneFromServer; d++ {
			for tr := range transports {
				t.Run(fmt.Sprintf("%v/%v", d, tr), func(t *testing.T) {
					t.Parallel()
					runLane(t, d, tr)
				})
			}
		}
	})
	if t.Failed() {
		return // the matrix is not what is expected, as was said
	}
	checkReadme(t)
}

// runLane tries all messages of one direction and transport.
func runLane(t *testing.T, d direction, tr transport) {
	ls := newLinks(t, d, tr)
	for s := range sizes {
		for f := range fieldSets {
			c := cell{d, tr, s, f}
			if !c.isInMatrix() {
				continue
			}
			want, why := expected(d, tr, c.n(), fieldSets[f].h)
			st, said := lost, "not tried"
			if c.exists() {
				var broken bool
				if st, said, broken = runCell(ls, c, want); broken {
					ls = newLinks(t, d, tr)
				}
			}
			if st != want {
				t.Errorf("%v: %v, want %v (%v): %s", c, st, want, why, said)
			}
			outcomes.Lock()
			outcomes.m[c] = st
			outcomes.Unlock()
		}
	}
}

// runCell tries one message. Datagrams can be lost: if nothing came of one that should
// have, it is tried again.
func runCell(ls []*link, c cell, want state) (st state, said string, broken bool) {
	for range 3 {
		said = ""
		states := make([]state, len(ls))
		refused := false
		for i, l := range ls {
			m := message{n: c.n(), seed: seeds.Add(1), h: fieldSets[c.set].h}
			r := l.try(m, newMarker(1_000_001+int(markerIDs.Add(1))))
			states[i] = l.judge(c, m, r)
			said += fmt.Sprintf("[%v]", r)
			broken = broken || r.end
			// easy throws the error of its answer away.
			refused = refused || i == 0 && len(r.came) == 0 && (r.err != nil || c.n() > maxUDP && c.d != toServer)
		}
		st = states[0]
		if len(states) > 1 { // auto: the second transport has all, the first one too or its sender knows
			if refused {
				st = states[1]
			}
			st = min(st, states[1])
		}
		if st == want || broken || want == lost || c.tr.isStream() {
			break
		}
	}
	return st, said, broken
}

// judge compares what came with what was sent.
func (l *link) judge(c cell, m message, r result) state {
	if r.err != nil || len(r.came) != 1 || r.came[0].note != "" {
		return lost
	}
	g, p := r.came[0], m.payload(l.asJSON)
	if g.n != len(p) || g.fnv != sum(p) {
		return lost
	}
	if sameFields(g.h, m.h) || c.tr.isEasy() && sameFields(g.h, withContentType(m.h)) {
		return whole
	}
	return payloadOnly
}

func sameFields(a, b vstp.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func atoi(t testing.TB, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
