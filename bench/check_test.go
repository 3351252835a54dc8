package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A figure beyond its bound fails the check, unless it is within it when measured again.
func TestCheck(t *testing.T) {
	bounds, err := parseBounds([]byte(`[{"name": "a", "most": 1}, {"name": "b", "most": 2}]`))
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	for _, c := range []struct {
		what     string
		a, b     []float64 // of one attempt after the other
		attempts int
		verdicts string
		err      error
	}{
		{"within", []float64{1}, []float64{1.9}, 1, "ok ok", nil},
		{"noise", []float64{5, 0.9}, []float64{2, 2}, 2, "ok ok", nil},
		{"noise in both, at other times", []float64{5, 0.9, 0.9}, []float64{1, 9, 9}, 2, "ok ok", nil},
		{"worse", []float64{1.1, 1.2, 1.3, 0.1}, []float64{1, 1, 1, 1}, 3, "**too much** ok", errBeyond},
		{"failure", nil, nil, 0, "**not measured** **not measured**", boom},
	} {
		n := 0
		part := checkPart{"part", func(context.Context) (values, error) {
			if n == len(c.a) {
				return nil, boom
			}
			n++
			return values{"a": c.a[n-1], "b": c.b[n-1]}, nil
		}}
		all, err := check(t.Context(), bounds, []checkPart{part})
		if !errors.Is(err, c.err) || n != c.attempts {
			t.Errorf("%s: %v after %d attempts", c.what, err, n)
		}
		if got := all[0].verdict() + " " + all[1].verdict(); got != c.verdicts {
			t.Errorf("%s: %s", c.what, got)
		}
	}
	// What is not compared at all is found too.
	one := checkPart{"one", func(context.Context) (values, error) { return values{"a": 0, "c": 0}, nil }}
	all, err := check(t.Context(), bounds, []checkPart{one})
	if !errors.Is(err, errBeyond) || len(all) != 3 || all[1].verdict() != "**not measured**" || all[2].verdict() != "**no bound**" {
		t.Errorf("%v, %v", all, err)
	}
	for _, text := range []string{"", "{}", `[{"name": "a", "least": 1}]`, `[{"name": "a"}, {"name": "a"}]`} {
		if _, err := parseBounds([]byte(text)); err == nil {
			t.Errorf("bounds %q are taken", text)
		}
	}
}

// The check measures what bounds.json has, and fails where a bound is less than what it finds.
func TestRunCheck(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	stdout := os.Stdout
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stdout = null
	defer func() { os.Stdout = stdout }()
	// The figures of so little are worth nothing, so bounds that hold and that do not.
	for _, c := range []struct {
		idle string
		err  error
	}{{"1e9", nil}, {"-1e9", errBeyond}} {
		var b strings.Builder
		bounds, err := parseBounds(defaultBounds)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range bounds {
			most := "1e9"
			if strings.HasPrefix(x.Name, "idle") {
				most = c.idle
			}
			b.WriteString([]string{"[", ","}[min(i, 1)] + `{"name": "` + x.Name + `", "most": ` + most + "}")
		}
		file := filepath.Join(t.TempDir(), "bounds.json")
		if err := os.WriteFile(file, []byte(b.String()+"]"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run([]string{"-check", "-bounds", file, "-quiet", "-seconds", "0.02", "-fine", "2", "-idle", "20", "-allocs", "50"}); !errors.Is(err, c.err) {
			t.Errorf("bounds of %s for idle connections: %v", c.idle, err)
		}
	}
}
