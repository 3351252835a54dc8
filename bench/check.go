package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// The check is for each change: it compares what costs the same on a busy machine as on an
// idle one, CPU time beside that of raw TCP in the same second, allocations and memory, with
// bounds that are kept in a file.

//go:embed bounds.json
var defaultBounds []byte

// A bound is the most that something may cost.
type bound struct {
	Name string  `json:"name"`
	Most float64 `json:"most"`
}

func parseBounds(b []byte) ([]bound, error) {
	var bounds []bound
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&bounds); err != nil {
		return nil, fmt.Errorf("bounds: %w", err)
	}
	seen := make(map[string]bool)
	for _, x := range bounds {
		if seen[x.Name] {
			return nil, fmt.Errorf("bounds: %q is there twice", x.Name)
		}
		seen[x.Name] = true
	}
	return bounds, nil
}

// checkAttempts is how often something is measured that costs too much: other programs may
// have disturbed it, a real regression shows each time.
const checkAttempts = 3

// A checkPart measures several things at once, by the names of their bounds.
type checkPart struct {
	name    string
	measure func(ctx context.Context) (values, error)
}

// A checked is a bound and the best that was measured for it.
type checked struct {
	bound
	unbounded bool // it was measured, and nothing is known of it
	got       float64
	attempts  int
}

func (x *checked) verdict() string {
	switch {
	case x.unbounded:
		return "**no bound**"
	case x.attempts == 0:
		return "**not measured**"
	case x.got > x.Most:
		return "**too much**"
	}
	return "ok"
}

// errBeyond is the result of a check that has found something.
var errBeyond = errors.New("the check has found something")

// check measures all parts, and again those with something beyond its bound. It fails, with
// errBeyond, if that stays so, if a bound was not measured, and if something has no bound.
func check(ctx context.Context, bounds []bound, parts []checkPart) ([]*checked, error) {
	var all []*checked
	byName := make(map[string]*checked)
	add := func(x *checked) *checked {
		all, byName[x.Name] = append(all, x), x
		return x
	}
	for _, b := range bounds {
		add(&checked{bound: b})
	}
	for _, part := range parts {
		for attempt := 1; attempt <= checkAttempts; attempt++ {
			v, err := part.measure(ctx)
			if err != nil {
				return all, fmt.Errorf("%s: %w", part.name, err)
			}
			again := false
			for _, name := range slices.Sorted(maps.Keys(v)) {
				x := byName[name]
				if x == nil {
					x = add(&checked{bound: bound{Name: name}, unbounded: true})
				}
				if x.attempts == 0 || v[name] < x.got {
					x.got = v[name]
				}
				x.attempts = attempt
				again = again || !x.unbounded && x.got > x.Most
			}
			if !again {
				break
			}
		}
	}
	for _, x := range all {
		if x.verdict() != "ok" {
			return all, errBeyond
		}
	}
	return all, nil
}

// runCheck prints what costs how much, and fails if it is too much.
func (c *controller) runCheck(ctx context.Context) error {
	text := defaultBounds
	if c.options.boundsFile != "" {
		var err error
		if text, err = os.ReadFile(c.options.boundsFile); err != nil {
			return err
		}
	}
	bounds, err := parseBounds(text)
	if err != nil {
		return err
	}
	start := time.Now()
	all, err := check(ctx, bounds, c.checkParts())
	t := table{head: []string{"", "at most", "measured", "times", ""}}
	for _, x := range all {
		t.add(x.Name, figure(x.Most), figure(x.got), fmt.Sprint(x.attempts), x.verdict())
	}
	var b strings.Builder
	t.write(&b)
	fmt.Printf("%s\n%.0f s, load average %.1f\n", b.String(), time.Since(start).Seconds(), loadAverage())
	return err
}

// How much is measured, if no flag says otherwise.
const checkSeconds = 0.3

var checkCounts = map[string]int{"fine": 40, "idle": 4000, "allocs": 2000}

// Of the check, what is compared with what.
var (
	checkCPU = []struct{ name, base string }{
		{"vstp-nocrc", "tcp"}, {"vstp", "tcp"}, {"vstp-tls", "tls"}, {"vstp-rudp", "tcp"}, {"vstp-rudp-tls", "tls"}, {"vstp-auto", "tcp"},
	}
	checkAllocs = []string{"vstp", "vstp-tls", "vstp-rudp", "vstp-rudp-tls", "vstp-auto"}
	checkIdle   = []string{"tcp", "vstp", "vstp-rudp", "vstp-rudp-tls"}
)

func (c *controller) checkParts() []checkPart {
	return []checkPart{
		{"CPU time", c.checkCPUTime},
		{"allocations", c.checkAllocations},
		{"idle connections", c.checkIdleMemory},
	}
}

// checkCPUTime measures all in turns of some ten milliseconds.
func (c *controller) checkCPUTime(ctx context.Context) (values, error) {
	o := *c.options
	o.only = []string{"tcp", "tls"}
	for _, x := range checkCPU {
		o.only = append(o.only, x.name)
	}
	g := o.group(spec{Test: "fine-bulk", Size: bulkBuffer, Count: o.fine, Duration: o.duration}, o.fine)
	if err := c.runGroup(ctx, g); err != nil {
		return nil, err
	}
	v := make(values)
	for _, x := range checkCPU {
		r := ratioOf(g.row(x.name), g.row(x.base), "cpu.both")
		if !r.OK {
			return nil, fmt.Errorf("%s: %s", x.name, g.row(x.name).Error)
		}
		v[fmt.Sprintf("CPU time of bulk, %s, x %s", x.name, x.base)] = r.Median
	}
	return v, nil
}

// checkAllocations measures those of round trips, and of one Write after the other.
func (c *controller) checkAllocations(ctx context.Context) (values, error) {
	v := make(values)
	for _, name := range checkAllocs {
		m, err := c.runCell(ctx, spec{Test: "allocs", Size: 64, Count: c.options.allocs, Duration: c.options.duration, Addresses: 1}, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		v["allocations of a round trip of 64 B at one end, "+name] = max(m["mallocs"], m["server.mallocs"])
		if m, err = c.runCell(ctx, spec{Test: "bulk", Size: bulkBuffer, Duration: c.options.duration, Addresses: 1}, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		v["allocations of a Write of 64 KiB, "+name] = m["server.mallocs"]
		v["allocations of its Reads, "+name] = m["mallocs"] * bulkBuffer / m["read"]
	}
	return v, nil
}

func (c *controller) checkIdleMemory(ctx context.Context) (values, error) {
	v, memory := make(values), make(values)
	for _, name := range checkIdle {
		m, err := c.runCell(ctx, spec{Test: "idle", Size: 1, Count: c.options.idle, Addresses: 4}, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		memory[name] = m["server.heap"] + m["server.stack"]
		if name == "tcp" {
			continue
		}
		what := "idle connection, KiB, " + name
		if name == "vstp" {
			what += " beyond tcp"
			memory[name] -= memory["tcp"]
		} else {
			v["goroutines of an idle connection, "+name] = m["server.goroutines"]
			v["timers of idle connections, % of a core, "+name] = m["server.timers"]
		}
		v[what] = memory[name]
	}
	return v, nil
}
