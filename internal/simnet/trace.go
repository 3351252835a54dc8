package simnet

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// traceBytes is how much of a packet a trace shows.
const traceBytes = 32

// trace holds the last packets sent, in a ring.
type trace struct {
	lines []traceLine
	count int // all that were ever added
}

type traceLine struct {
	at       int64
	src, dst netip.AddrPort
	number   int
	size     int
	fate     Fate
	due      int64
	start    [traceBytes]byte
}

// add takes down a packet before it is changed.
func (t *trace) add(now int64, p *packet, number int, fate Fate) {
	l := &t.lines[t.count%len(t.lines)]
	*l = traceLine{at: now, src: p.src, dst: p.dst, number: number, size: len(p.buf), fate: fate, due: p.due}
	copy(l.start[:], p.buf)
	t.count++
}

// traced returns the trace, one packet a line: when it was sent, the way, its number
// there and size, what became of it, how long it takes, and how it begins.
func (n *Net) traced() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out strings.Builder
	t := n.trace
	for i := max(0, t.count-len(t.lines)); i < t.count; i++ {
		l := &t.lines[i%len(t.lines)]
		took := ""
		if l.fate.Arrives() {
			took = fmt.Sprintf(" +%v", time.Duration(l.due-l.at))
		}
		fmt.Fprintf(&out, "%v %v>%v #%d, %d bytes, %v%s: %x\n",
			time.Duration(l.at), l.src, l.dst, l.number, l.size, l.fate, took, l.start[:min(l.size, traceBytes)])
	}
	return out.String()
}

// expire ends a test that took longer than Options.Limit.
func (n *Net) expire(t testing.TB, limit time.Duration) {
	t.Errorf("simnet: the test goes on after %v; goroutines:\n%s", limit, stacks())
	n.Close()
}

// stacks returns the stacks of all goroutines, of those in this bubble if in one.
func stacks() string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	head, _, _ := strings.Cut(all[0], "\n") // of the caller: "goroutine 7 [running, synctest bubble 3]:"
	if _, bubble, ok := strings.Cut(head, ", synctest "); ok {
		all = slices.DeleteFunc(all, func(s string) bool {
			head, _, _ := strings.Cut(s, "\n")
			return !strings.Contains(head, bubble)
		})
	}
	return strings.Join(all, "\n\n")
}
