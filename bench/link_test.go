package main

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseLink(t *testing.T) {
	l, err := parseLink("100mbit,40ms,loss=1%,queue=1bdp")
	if err != nil {
		t.Fatal(err)
	}
	if l.Rate != 12.5e6 || l.RTT != 40*time.Millisecond || l.Delay != 20*time.Millisecond || l.Loss != 0.01 || l.Queue != 500_000 {
		t.Errorf("%+v", l)
	}
	for text, queue := range map[string]int{
		"10mbit,100ms": 125_000, "queue=64kb,1gbit": 64_000, "500kbit,1s,queue=0.5bdp": 31_250, "8mbit,2ms,queue=3000b": 3000,
	} {
		if l, err := parseLink(text); err != nil || l.Queue != queue {
			t.Errorf("%s: %+v, %v; want a queue of %d", text, l, err, queue)
		}
	}
	for _, text := range []string{
		"", "fast", "100", "100mb,1ms", "-1mbit", "-1ms", "loss=1", "loss=101%", "loss=-1%", "queue=1", "queue=xbdp", "delay=1ms",
		"burst=8", "loss=2%,burst=0.5", "loss=95%,burst=8", "loss=1%,burst=8%", "reorder=101%", "jitter=-1ms", "jitter=fast", "unordered",
	} {
		if l, err := parseLink(text); err == nil {
			t.Errorf("%q: %+v, want an error", text, l)
		}
	}
}

func TestParseLinkNoUDP(t *testing.T) {
	if l, err := parseLink("noudp,10mbit,100ms"); err != nil || !l.NoUDP || l.Queue != 125_000 {
		t.Errorf("%+v, %v", l, err)
	}
}

// Each time without a byte counts where it ends.
func TestThirds(t *testing.T) {
	start := time.Now()
	x := &thirds{of: 3 * time.Second}
	for _, ms := range []int{0, 500, 900, 1700, 1800, 2400} {
		x.add(start.Add(time.Duration(ms)*time.Millisecond), 125_000)
	}
	v := x.values()
	for key, want := range map[string]float64{
		"gap.0": 500, "gap.1": 800, "gap.2": 600, "mbit.0": 3, "mbit.1": 2, "mbit.2": 1, "total": 750_000,
	} {
		if math.Abs(v[key]-want) > 1e-6 {
			t.Errorf("%s is %v, want %v", key, v[key], want)
		}
	}
}

// runLinks runs what args say once, has check look at the figures of each contender, and
// returns all.
func runLinks(t *testing.T, args []string, check func(g *group, r *row)) []*group {
	t.Helper()
	if err := canLink(); err != nil {
		t.Skip(err)
	}
	// The race detector makes each process wait for a second at its end.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	o, err := parseFlags(append(args, "-quiet", "-spin=false", "-rounds", "1"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	groups := o.linkGroups()
	for _, g := range groups {
		if err := c.runGroup(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		for _, r := range g.Rows {
			switch {
			case strings.HasPrefix(r.Error, "unavailable: "):
			case strings.Contains(r.Error, "operation not permitted"):
				t.Skip(r.Error) // root, and yet without the rights
			case r.Error != "":
				t.Errorf("%s, %s: %s", g.ID, r.Contender, r.Error)
			default:
				check(g, r)
			}
		}
		g.table().write(new(strings.Builder))
	}
	return groups
}

// What moves between carriers is measured over a link that loses UDP.
func TestRunLinkCarriers(t *testing.T) {
	for _, args := range [][]string{
		{"-tests", "moves", "-only", "vstp-auto,vstp-auto-tls", "-seconds", "4.5"},
		{"-link", "20mbit,10ms", "-link-tests", "dials,idle", "-only", "vstp-auto", "-seconds", "0.2"},
		{"-link", "20mbit,10ms,noudp", "-link-tests", "dials", "-only", "vstp,vstp-auto", "-seconds", "0.2"},
	} {
		runLinks(t, args, func(g *group, r *row) {
			switch m := r.Median; {
			case g.Spec.Test == "link-moves" && (m["moves"] < 1 || m["mbit.1"] == 0):
				t.Errorf("%s: %v", r.Contender, m)
			case g.Spec.Test == "link-dials" && m["new.dial"] < 10:
				t.Errorf("%s: dials %v over a link of 10 ms", r.Contender, m)
			}
		})
	}
	if _, err := parseFlags([]string{"-tests", "moves,bulk"}); err == nil {
		t.Error("moves is measured beside another test")
	}
}

func TestFlows(t *testing.T) {
	names := func(args ...string) string {
		t.Helper()
		o, err := parseFlags(append([]string{"-link", "10mbit,10ms"}, args...))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, g := range o.linkGroups() {
			for _, r := range g.Rows {
				names = append(names, r.Contender)
			}
		}
		return strings.Join(names, " ")
	}
	if got, want := names("-link-tests", "messages"), strings.Join(linkContenders(), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := names(); strings.Contains(got, "sctp-messages") || !strings.Contains(got, "sctp ") {
		t.Errorf("bulk transfers of %s", got)
	}
	if got, want := names("-flows", "quic+kcp,tcp-bbr+tcp-bbr+quic"), "quic+kcp tcp-bbr+tcp-bbr+quic"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := names("-flows", "quic+kcp", "-only", "kcp,tcp-cubic"), "kcp tcp-cubic quic+kcp"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	o, err := parseFlags([]string{"-link", "all"})
	if err != nil || len(o.links) != len(reportLinks) || o.duration != 10*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestJain(t *testing.T) {
	for _, c := range []struct {
		xs   []float64
		want float64
	}{{[]float64{5, 5, 5}, 1}, {[]float64{7, 0}, 0.5}, {[]float64{3, 1}, 0.8}, {[]float64{0, 0}, 0}, {nil, 0}} {
		if got := jain(c.xs); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("jain(%v) = %v, want %v", c.xs, got, c.want)
		}
	}
}

// A packet takes its time on the link, the next waits for it, and what does not fit into
// the queue is dropped.
func TestShaper(t *testing.T) {
	const ms = int64(time.Millisecond)
	// A packet of 1000 bytes takes 1 ms.
	s := newShaper(impairment{Rate: 1e6, Delay: 10 * time.Millisecond, Queue: 2500}, 1, 0)
	for i, c := range []struct {
		now, due int64
		ok       bool
	}{
		{0, 11 * ms, true},
		{0, 12 * ms, true},
		{0, 0, false}, // 2000 bytes wait
		{ms / 2, 13 * ms, true},
		{ms / 2, 0, false},
		{10 * ms, 21 * ms, true},
	} {
		if due, _, ok := s.enter(c.now, 1000); due != c.due || ok != c.ok {
			t.Errorf("packet %d: %v, %v; want %v, %v", i, due, ok, c.due, c.ok)
		}
	}
	c := s.stats()
	if c.Packets != 6 || c.Dropped != 2 || c.MaxQueue != 2500 || c.MaxWait != 3*time.Millisecond/2 {
		t.Errorf("%+v", c)
	}
	// 2 ms drain for half a millisecond; 2.5 ms drain to nothing.
	want := (2*0.5 - 0.5*0.5/2 + 2.5*2.5/2) / 10
	if got := c.MeanWait.Seconds() * 1e3; math.Abs(got-want) > 1e-3 {
		t.Errorf("mean wait %v ms, want %v", got, want)
	}
}

func TestShaperLoss(t *testing.T) {
	fate := func(seed, direction uint64) (lost int, bits string) {
		s := newShaper(impairment{Loss: 0.05, Delay: time.Second}, seed, direction)
		for i := range 10_000 {
			due, _, ok := s.enter(int64(i), 100)
			switch {
			case !ok:
				lost++
				bits += "0"
			case due != int64(i)+int64(time.Second):
				t.Fatalf("packet %d arrives at %d", i, due)
			default:
				bits += "1"
			}
		}
		return lost, bits
	}
	n, a := fate(1, 0)
	if n < 400 || n > 600 {
		t.Errorf("%d of 10000 lost at 5 %%", n)
	}
	if _, b := fate(1, 0); a != b {
		t.Error("the same seed does not lose the same packets")
	}
	if _, b := fate(1, 1); a == b {
		t.Error("both directions lose the same packets")
	}
	if _, b := fate(2, 0); a == b {
		t.Error("two seeds lose the same packets")
	}
}

// A whole run over a link, alone and together, leaves figures and nothing else.
func TestRunLink(t *testing.T) {
	groups := runLinks(t, []string{
		"-seconds", "0.5", "-link", "20mbit,10ms,loss=1%", "-only", strings.Join(linkContenders(), ","),
		"-flows", "tcp-cubic+quic", "-stagger", "100ms", "-link-tests", "bulk,rr,messages",
	}, func(g *group, r *row) {
		switch m := r.Median; {
		case g.Spec.Test == "link-rr" && (m["p50"] < 10e3 || m["p99"] < m["p50"]):
			t.Errorf("%s: round trips %v over a link of 10 ms", r.Contender, m)
		case g.Spec.Test == "link-messages" && (m["p50"] < 5e3 || m["p99"] < m["p50"]):
			t.Errorf("%s: messages %v over a link of 2 x 5 ms", r.Contender, m)
		case g.Spec.Test != "link":
		case m["mbit"] <= 0 || m["mbit"] > 20.5:
			t.Errorf("%s: %v Mbit/s over a link of 20", r.Contender, m["mbit"])
		case m["sent"] < 1 || m["queue.max"] < m["queue.mean"]:
			t.Errorf("%s: %v", r.Contender, m)
		}
	})
	res := newResult(nil)
	res.Groups = groups
	if text := res.markdown(); !strings.Contains(text, "| tcp-cubic+quic |") || !strings.Contains(text, "Link 20mbit") {
		t.Error("the report has no table of the link")
	}
	if devices, err := os.ReadFile("/proc/net/dev"); err == nil && strings.Contains(string(devices), "bench0") {
		t.Error("the link's device is in the namespace of the system")
	}
}
