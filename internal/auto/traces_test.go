package auto

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTraces plays testdata/traces. Traps A2, A3, A4.
func TestTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/traces/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			tr, err := parseTrace(string(text))
			require.NoError(t, err)
			w := newWorld(tr)
			require.NoError(t, w.run())
			for _, m := range w.moves {
				t.Log(m.at, m.to, m.reason)
			}
			t.Log(w.calls, "decisions")
			tr.compare(t, w.moves)

			if tr.until > 10*time.Minute {
				return
			}
			again := newWorld(tr)
			require.NoError(t, again.run())
			require.Equal(t, w.moves, again.moves, "same inputs, same outputs")
		})
	}
}

func (tr *trace) compare(t *testing.T, moves []simMove) {
	t.Helper()
	if tr.least >= 0 {
		require.GreaterOrEqual(t, len(moves), tr.least)
	}
	if tr.most >= 0 {
		require.LessOrEqual(t, len(moves), tr.most)
		return
	}
	require.Len(t, moves, len(tr.wants))
	for i, w := range tr.wants {
		m := moves[i]
		if m.at < w.from || m.at > w.to || m.to != w.carrier || m.reason.String() != w.reason {
			t.Errorf("move %d: at %v to %v for %v, want %v..%v %v %s", i, m.at, m.to, m.reason, w.from, w.to, w.carrier, w.reason)
		}
	}
}

// FuzzTrace plays any trace and checks what holds for every decision.
func FuzzTrace(f *testing.F) {
	files, err := filepath.Glob("testdata/traces/*.txt")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		tr, err := parseTrace(text)
		if err != nil || len(tr.steps) > 100 {
			return
		}
		tr.until = min(tr.until, 30*time.Second)
		w := newWorld(tr)
		if err := w.run(); err != nil {
			t.Fatal(err)
		}
	})
}
