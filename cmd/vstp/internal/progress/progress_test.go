package progress

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWords(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB",
		1023 << 10: "0.999 MiB", 123 << 20: "123 MiB", 5 << 30: "5 GiB", 1<<63 - 1: "8 EiB",
	} {
		require.Equal(t, want, Bytes(n))
	}
	require.Equal(t, "2 MiB/s", Rate(1<<20, time.Second/2))
	require.Equal(t, "-", Rate(1, 0))
	require.Equal(t, "...efgh", Shorten("abcdefgh", 7))
	require.Equal(t, "abc", Shorten("abc", 7))
	require.Equal(t, "a?[2Jb?", Safe("a\x1b[2Jb\u202e"))
}

func TestBar(t *testing.T) {
	var out bytes.Buffer
	require.False(t, IsTerminal(&out))
	b := New(&out, 100)
	b.Describe("evil\x1b[2J")
	b.Add(30)
	b.Skip(20)
	b.Add(50)
	b.Clear()
	require.Equal(t, "evil?[2J", b.bar.State().Description)
	require.EqualValues(t, 80, b.bar.State().CurrentNum)
	require.EqualValues(t, 80, b.bar.GetMax64())

	var none *Bar
	none.Describe("x")
	none.Add(1)
	none.Skip(1)
	none.Clear()
}

func TestSparkline(t *testing.T) {
	require.Equal(t, "▁▅█", Sparkline([]float64{0, 5, 10}, 10))
	require.Equal(t, "▃█", Sparkline([]float64{1, 3, 8, 8}, 2))
	require.Equal(t, "▁▁", Sparkline([]float64{0, 0}, 2))
	require.Empty(t, Sparkline(nil, 10))
}
