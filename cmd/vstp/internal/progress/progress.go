// Package progress shows on a terminal how far a transfer has come.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// IsTerminal reports whether w is a terminal, where a bar makes sense.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A Bar is a progress bar of bytes, with rate and time left. A nil *Bar does nothing.
// It is not safe for concurrent use.
type Bar struct {
	bar *progressbar.ProgressBar
}

// New returns a bar that draws on w, for total bytes.
func New(w io.Writer, total int64) *Bar {
	return &Bar{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionSetWidth(20),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)}
}

// Describe names what is moving now. The name may come from a peer.
func (b *Bar) Describe(name string) {
	if b != nil {
		b.bar.Describe(Shorten(Safe(name), 24))
	}
}

// Add counts n more bytes.
func (b *Bar) Add(n int) {
	if b != nil {
		b.bar.Add(n)
	}
}

// Skip takes n bytes off the total: they need not move.
func (b *Bar) Skip(n int64) {
	if b != nil {
		b.bar.ChangeMax64(max(b.bar.GetMax64()-n, 0))
	}
}

// Clear removes the bar from the screen, for other output.
func (b *Bar) Clear() {
	if b != nil {
		b.bar.Clear()
	}
}

// Safe replaces what could move the cursor or change colours.
func Safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

// Shorten cuts the start of a name that is longer than n runes: the end tells more.
func Shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return "..." + string(r[len(r)-n+3:])
}

// Bytes words a number of bytes.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/(1<<10), 0
	for f >= 999.5 && i < len(units)-1 {
		f, i = f/(1<<10), i+1
	}
	return fmt.Sprintf("%.3g %ciB", f, units[i])
}

// Rate words bytes per time.
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return Bytes(int64(float64(n)/d.Seconds())) + "/s"
}

// Sparkline draws values as a row of bars of eight heights, the largest one full. Long
// series are drawn with the mean of neighbours, in at most width bars.
func Sparkline(values []float64, width int) string {
	if n := len(values); n > width {
		mean := make([]float64, width)
		for i := range mean {
			from, to := i*n/width, (i+1)*n/width
			for _, v := range values[from:to] {
				mean[i] += v / float64(to-from)
			}
		}
		values = mean
	}
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range values {
		i := 0
		if top > 0 && v > 0 {
			i = min(int(v/top*float64(len(bars))), len(bars)-1)
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}
