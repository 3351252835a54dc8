package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// All parts of the suites can be measured.
func TestSuites(t *testing.T) {
	for name := range suites {
		o, err := parseFlags([]string{"-suite", name})
		if err != nil {
			t.Fatal(err)
		}
		steps, err := o.steps()
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, step := range steps {
			for _, g := range step.linkGroups() {
				ids = append(ids, g.ID)
			}
			if len(step.links) > 0 {
				continue
			}
			for _, test := range step.tests {
				for _, g := range step.groups(test) {
					if len(g.Rows) == 0 {
						t.Errorf("%s: nobody takes part in %s", name, g.ID)
					}
					ids = append(ids, g.ID)
				}
			}
		}
		// What an interrupted run has measured is known by its ID.
		slices.Sort(ids)
		if n := len(ids); len(slices.Compact(ids)) != n {
			t.Errorf("%s: two tables have the same name", name)
		}
	}
	if _, err := parseFlags([]string{"-suite", "half"}); err == nil {
		t.Error("an unknown suite is run")
	}
}

// A whole suite, which is interrupted and goes on.
func TestRunSuite(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	report := filepath.Join(t.TempDir(), "RESULTS.md")
	args := []string{"-suite", "tiny", "-quiet", "-spin=false", "-out", report}
	stdout := os.Stdout
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stdout = null
	defer func() { os.Stdout = stdout }()
	o, err := parseFlags(args)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := c.runSuite(stopped, args); !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted suite: %v", err)
	}
	if err := c.runSuite(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	o.resume = true
	if err := c.runSuite(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	wants := []string{"# Results", "Made of:", "## Goals", "| bulk 64 KiB, rudp, x quic |", "## Bulk, Writes of 64 KiB", "of a run before", "](results/bulk.svg)"}
	if canLink() == nil && !strings.Contains(text, "operation not permitted") {
		wants = append(wants, "](results/link-start-20mbit-4ms.svg)", "](results/link-messages-20mbit-4ms.svg)")
	}
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("the report has no %q", want)
		}
	}
	for _, link := range strings.Split(text, "](")[1:] {
		file, _, _ := strings.Cut(link, ")")
		if !strings.HasSuffix(file, ".svg") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(filepath.Dir(report), file))
		if err != nil {
			t.Error(err)
			continue
		}
		checkSVG(t, file, string(b))
	}
	o.resume, o.suite = true, "quick"
	if err := c.runSuite(stopped, args); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("figures of another suite are taken over: %v", err)
	}
}

// checkSVG checks that a picture is well-formed and says what it shows.
func checkSVG(t *testing.T, name, text string) {
	t.Helper()
	found := make(map[string]bool)
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e, ok := token.(xml.StartElement); ok {
			found[e.Name.Local] = true
		}
	}
	for _, e := range []string{"svg", "title", "desc", "text"} {
		if !found[e] {
			t.Errorf("%s has no %s", name, e)
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
		t.Errorf("%s: a place is no number", name)
	}
}

func TestPlots(t *testing.T) {
	bars := []bar{{"a<b", 10, 5, 20, true}, {"zero", 0, 0, 0, false}, {"wide", 12345, 12000, 13000, false}}
	for _, log := range []bool{false, true} {
		p := barPlot("x.svg", `"T" & t`, "MB/s", []barGroup{{"one", bars}, {"two", nil}}, log)
		checkSVG(t, "bars", p.svg)
		if !strings.Contains(p.alt, "a<b 10") || !strings.Contains(p.svg, "a&lt;b") {
			t.Errorf("in words: %s", p.alt)
		}
	}
	checkSVG(t, "nothing", barPlot("x.svg", "t", "u", nil, true).svg)
	lines := []series{{"one", []float64{1, 10, 100}, []float64{100, 10, 0.1}}, {"none", nil, nil}}
	p := linePlot(linePlotSpec{title: "t", logX: true, logY: true, summary: func(series) string { return "is short" }}, lines)
	checkSVG(t, "lines", p.svg)
	if p.alt != "t: one is short; none is short." {
		t.Errorf("in words: %s", p.alt)
	}
	for _, c := range []struct {
		a    axis
		want int // ticks at least
	}{{newAxis([]float64{7}, false), 4}, {newAxis([]float64{1, 900}, true), 3}, {newAxis([]float64{5, 6}, true), 2}, {newAxis(nil, false), 0}} {
		if n := len(c.a.ticks()); n < c.want || n > 12 {
			t.Errorf("%+v has ticks at %v", c.a, c.a.ticks())
		}
	}
	for x, want := range map[float64]string{1234.5: "1234", 12.34: "12.3", 1.2345: "1.234", 0.5: "0.5", 2: "2", 0: "0"} {
		if got := figure(x); got != want {
			t.Errorf("figure(%v) = %s, want %s", x, got, want)
		}
	}
}
