package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Plots are SVG, written by hand: bars with their spread and lines are all that the report
// needs, and a library that can do more would bring colors that cannot follow the reader's
// light or dark page. Each has a title and, as a description, all its figures in words.

// A plot is a file beside the report.
type plot struct {
	file, path, title, alt, svg string
}

// A bar is one contender's figure. The spread is not drawn if lo is hi.
type bar struct {
	label         string
	value, lo, hi float64
	ours          bool
}

// A barGroup is bars under a heading, which may be empty.
type barGroup struct {
	heading string
	bars    []bar
}

const (
	plotWidth  = 760
	plotLabel  = 170 // for the names at the left
	plotFigure = 110 // for the figures at the right
	barHeight  = 14
	barPitch   = 20
)

// Text and grid follow the page; the colors of the contenders are readable on both.
const plotStyle = `<style>
text{font:12px system-ui,sans-serif;fill:#24292f}
.t{font-size:15px;font-weight:600}.h{font-weight:600}.f{fill:#57606a}
.g{stroke:#d0d7de;stroke-width:1}.s{stroke:#24292f;stroke-width:1.5}
.p{fill:#8c959f}.o{fill:#1f6feb}.l{fill:none;stroke-width:1.8}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#9198a1}.g{stroke:#3d444d}.s{stroke:#e6edf3}.p{fill:#6e7681}.o{fill:#4493f8}}
</style>`

// lineColors are told apart on light and dark, and by who sees no red and green.
var lineColors = []string{"#1f6feb", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8250df", "#6e7781"}

// svg puts a drawing into its frame. Title and description are for who cannot see it.
func svg(title, description string, height int, body string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="t d" width="%d" height="%d" viewBox="0 0 %d %d">`+
		"\n<title id=\"t\">%s</title>\n<desc id=\"d\">%s</desc>\n%s\n%s</svg>\n",
		plotWidth, height, plotWidth, height, html.EscapeString(title), html.EscapeString(description), plotStyle, body)
}

func svgText(b *strings.Builder, x, y float64, class, anchor, text string) {
	fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">%s</text>\n", x, y, class, anchor, html.EscapeString(text))
}

func svgLine(b *strings.Builder, class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(b, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1, y1, x2, y2)
}

// An axis maps values to a place from 0 to 1.
type axis struct {
	from, to float64
	log      bool
}

// newAxis returns an axis for all values; a logarithmic one begins at a power of ten.
func newAxis(values []float64, log bool) axis {
	a := axis{log: log}
	for _, x := range values {
		if log && x <= 0 {
			continue
		}
		a.to = max(a.to, x)
		if log && (a.from == 0 || x < a.from) {
			a.from = x
		}
	}
	if log && a.to > 0 {
		a.from = math.Pow(10, math.Floor(math.Log10(a.from)))
		if a.from >= a.to {
			a.to = 10 * a.from
		}
	}
	return a
}

func (a axis) at(x float64) float64 {
	if a.to <= a.from {
		return 0
	}
	if a.log {
		if x <= a.from {
			return 0
		}
		return min(1, math.Log(x/a.from)/math.Log(a.to/a.from))
	}
	return max(0, min(1, (x-a.from)/(a.to-a.from)))
}

// ticks returns round values on the axis.
func (a axis) ticks() (xs []float64) {
	if a.to <= a.from {
		return nil
	}
	if a.log {
		for x := a.from; x <= a.to*1.0001; x *= 10 {
			xs = append(xs, x)
			if a.to/a.from < 200 {
				for _, m := range []float64{2, 5} {
					if x*m <= a.to {
						xs = append(xs, x*m)
					}
				}
			}
		}
		return xs
	}
	power := math.Pow(10, math.Floor(math.Log10(a.to-a.from)))
	step := power
	for _, m := range []float64{0.5, 0.2} {
		if (a.to-a.from)/(power*m) <= 8 {
			step = power * m
		}
	}
	for i := 0; ; i++ {
		x := a.from + float64(i)*step
		if x > a.to*1.0001 {
			return xs
		}
		xs = append(xs, x)
	}
}

// figure is a number with three significant digits.
func figure(x float64) string {
	switch {
	case math.Abs(x) >= 100:
		return fmt.Sprintf("%.0f", x)
	case math.Abs(x) >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", x), "0"), ".")
}

// barPlot draws bars from left to right.
func barPlot(file, title, unit string, groups []barGroup, log bool) plot {
	var all []float64
	for _, g := range groups {
		for _, x := range g.bars {
			all = append(all, x.value, x.hi)
		}
	}
	a := newAxis(all, log)
	at := func(x float64) float64 { return plotLabel + a.at(x)*(plotWidth-plotLabel-plotFigure) }
	var b, words strings.Builder
	y := 48.0
	for _, g := range groups {
		if g.heading != "" {
			y += 6
			svgText(&b, 8, y+barHeight-3, "h", "start", g.heading)
			fmt.Fprintf(&words, "%s: ", g.heading)
			y += barPitch
		}
		for i, x := range g.bars {
			class := "p"
			if x.ours {
				class = "o"
			}
			svgText(&b, plotLabel-8, y+barHeight-3, "", "end", x.label)
			fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class, plotLabel, y, max(1, at(x.value)-plotLabel), barHeight)
			end := at(x.value)
			if x.hi > x.lo {
				svgLine(&b, "s", at(x.lo), y+barHeight/2, at(x.hi), y+barHeight/2)
				for _, e := range []float64{x.lo, x.hi} {
					svgLine(&b, "s", at(e), y+3, at(e), y+barHeight-3)
				}
				end = max(end, at(x.hi))
			}
			svgText(&b, end+6, y+barHeight-3, "f", "start", figure(x.value))
			if i > 0 {
				words.WriteString(", ")
			}
			fmt.Fprintf(&words, "%s %s", x.label, figure(x.value))
			y += barPitch
		}
		words.WriteString(". ")
	}
	var grid strings.Builder
	for _, x := range a.ticks() {
		svgLine(&grid, "g", at(x), 42, at(x), y+2)
		svgText(&grid, at(x), y+18, "f", "middle", figure(x))
	}
	svgText(&grid, 8, 20, "t", "start", title)
	note := unit
	if log {
		note += ", logarithmic"
	}
	svgText(&grid, 8, 36, "f", "start", note)
	alt := fmt.Sprintf("%s, %s. %s", title, unit, strings.TrimSpace(words.String()))
	return plot{file: file, title: title, alt: alt, svg: svg(title, alt, int(y)+30, grid.String()+b.String())}
}

// A series is a line.
type series struct {
	name   string
	xs, ys []float64
}

// A linePlotSpec says how lines are drawn.
type linePlotSpec struct {
	file, title, x, y string
	logX, logY        bool
	summary           func(s series) string // in words
}

const plotHeight = 360

// linePlot draws lines, with their names at the right.
func linePlot(s linePlotSpec, lines []series) plot {
	var xs, ys []float64
	for _, l := range lines {
		xs, ys = append(xs, l.xs...), append(ys, l.ys...)
	}
	ax, ay := newAxis(xs, s.logX), newAxis(ys, s.logY)
	const left, right, top, bottom = 56, plotWidth - plotLabel, 52, plotHeight - 44
	x := func(v float64) float64 { return left + ax.at(v)*(right-left) }
	y := func(v float64) float64 { return bottom - ay.at(v)*(bottom-top) }
	var b, words strings.Builder
	for _, v := range ax.ticks() {
		svgLine(&b, "g", x(v), top, x(v), bottom)
		svgText(&b, x(v), bottom+16, "f", "middle", figure(v))
	}
	for _, v := range ay.ticks() {
		svgLine(&b, "g", left, y(v), right, y(v))
		svgText(&b, left-6, y(v)+4, "f", "end", figure(v))
	}
	svgText(&b, 8, 20, "t", "start", s.title)
	svgText(&b, 8, 38, "f", "start", s.y)
	svgText(&b, right, bottom+34, "f", "end", s.x)
	for i, l := range lines {
		color := lineColors[i%len(lineColors)]
		var points []string
		for j := range l.xs {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(l.xs[j]), y(l.ys[j])))
		}
		dash := ""
		if i >= len(lineColors)/2 {
			dash = ` stroke-dasharray="6 3"`
		}
		fmt.Fprintf(&b, "<polyline class=\"l\" stroke=\"%s\"%s points=\"%s\"/>\n", color, dash, strings.Join(points, " "))
		ly := float64(top + 8 + i*18)
		fmt.Fprintf(&b, "<line stroke=\"%s\" stroke-width=\"3\"%s x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", color, dash, right+10, ly, right+34, ly)
		svgText(&b, right+40, ly+4, "", "start", l.name)
		if i > 0 {
			words.WriteString("; ")
		}
		words.WriteString(l.name + " " + s.summary(l))
	}
	alt := s.title + ": " + words.String() + "."
	return plot{file: s.file, title: s.title, alt: alt, svg: svg(s.title, alt, plotHeight, b.String())}
}

// spread returns the smallest and the largest of a row's rounds.
func spread(r *row, key string, unit float64) (lo, hi float64) {
	var xs []float64
	for _, v := range r.Rounds {
		if x, ok := v[key]; ok {
			xs = append(xs, x*unit)
		}
	}
	if len(xs) == 0 {
		return 0, 0
	}
	slices.Sort(xs)
	if len(xs) >= manyRounds {
		return xs[len(xs)/4], xs[len(xs)-1-len(xs)/4]
	}
	return xs[0], xs[len(xs)-1]
}
