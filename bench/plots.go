package main

import (
	"fmt"
	"path"
	"strings"
)

// plots returns what the report shows as pictures, of what was measured.
func (res *result) plots(dir string) (ps []plot) {
	bars := func(file, id, key, title, unit string, scale float64, log bool) {
		g := res.group(id)
		if g == nil {
			return
		}
		if some := g.bars(key, scale); len(some) > 0 {
			ps = append(ps, barPlot(file, title, unit, []barGroup{{bars: some}}, log))
		}
	}
	bars("bulk.svg", "bulk-65536", "mbps", "Bulk over loopback, Writes of 64 KiB", "MB/s, more is better; lines from the slowest to the fastest round", 1, false)
	bars("bulk-cpu.svg", "bulk-65536", "cpu.both", "CPU time of bulk over loopback, both processes", "seconds for 10⁹ bytes, less is better", 1, true)
	bars("bulk-memory.svg", "bulk-65536", "server.rss", "Memory of the sender of bulk", "peak RSS in MiB beyond the idle process, less is better", 1, true)
	bars("rr-64.svg", "rr-64", "p50", "Round trips of 64 B over loopback", "p50 in microseconds, less is better", 1, true)
	bars("message.svg", "message-100000000", "ms", "Messages of 100 MB over loopback", "milliseconds until the sender knows that it is there, less is better", 1, true)
	bars("idle.svg", "idle", "server.heap", "Memory of an idle connection", "KiB of the server's heap, less is better", 1, true)
	if p, ok := res.linksPlot(); ok {
		ps = append(ps, p)
	}
	for _, g := range res.Groups {
		switch g.Spec.Test {
		case "link-messages":
			ps = append(ps, g.latencyPlot())
		case "link-start":
			ps = append(ps, g.startPlot())
		}
	}
	for i := range ps {
		ps[i].path = path.Join(dir, ps[i].file)
	}
	return ps
}

// isOurs reports whether a contender is this module's.
func isOurs(name string) bool { return strings.HasPrefix(name, "vstp") }

func (g *group) bars(key string, scale float64) (bs []bar) {
	for _, r := range g.Rows {
		x, ok := r.Median[key]
		if !ok || r.Error != "" {
			continue
		}
		lo, hi := spread(r, key, scale)
		bs = append(bs, bar{label: r.Contender, value: x * scale, lo: lo, hi: hi, ours: isOurs(r.Contender)})
	}
	return bs
}

// linksPlot shows the goodput over all links, as a share of the rate.
func (res *result) linksPlot() (plot, bool) {
	var groups []barGroup
	for _, g := range res.Groups {
		if g.Spec.Test != "link" || g.Link.Rate == 0 || len(g.Rows) == 0 || len(g.Rows[0].Flows) > 1 {
			continue
		}
		groups = append(groups, barGroup{heading: g.Link.Text, bars: g.bars("mbit", 100*1e6/8/g.Link.Rate)})
	}
	if len(groups) == 0 {
		return plot{}, false
	}
	return barPlot("links.svg", "Goodput over emulated links", "percent of the rate, more is better", groups, false), true
}

// fileName is the group's ID without what a file name should not have.
func (g *group) fileName() string {
	return strings.NewReplacer("%", "", "=", "", ",", "-", ".", "-", "/", "-").Replace(g.ID) + ".svg"
}

// latencyPlot shows which share of messages took longer than how long.
func (g *group) latencyPlot() plot {
	var lines []series
	for _, r := range g.Rows {
		if r.Error != "" || len(r.Median) == 0 {
			continue
		}
		s := series{name: r.Contender}
		for _, q := range latencyQuantiles {
			if x, ok := r.Median[quantileKey(q)]; ok && q < 1 {
				s.xs, s.ys = append(s.xs, x/1e3), append(s.ys, 100*(1-q))
			}
		}
		lines = append(lines, s)
	}
	return linePlot(linePlotSpec{
		file: g.fileName(), title: g.title(), logX: true, logY: true,
		x: "milliseconds, logarithmic", y: "percent of messages that take longer, logarithmic; lower and further left is better",
		summary: func(s series) string {
			text := "is not measured"
			for i, y := range s.ys {
				if y <= 1.001 {
					return fmt.Sprintf("has 1 %% over %s ms", figure(s.xs[i]))
				}
			}
			return text
		},
	}, lines)
}

// startPlot shows the goodput over time.
func (g *group) startPlot() plot {
	var lines []series
	for _, r := range g.Rows {
		if r.Error != "" || len(r.Median) == 0 {
			continue
		}
		s := series{name: r.Contender}
		for i := range startBins {
			s.xs = append(s.xs, (float64(i)+0.5)*g.Spec.Duration.Seconds()/startBins)
			s.ys = append(s.ys, r.Median[startKey(i)])
		}
		lines = append(lines, s)
	}
	return linePlot(linePlotSpec{
		file: g.fileName(), title: g.title(), x: "seconds since the first byte", y: "Mbit/s",
		summary: func(s series) string {
			var half float64
			for _, y := range s.ys[:len(s.ys)/2] {
				half += y / float64(len(s.ys)/2)
			}
			return fmt.Sprintf("has %s Mbit/s on average in the first half of %s s", figure(half), figure(g.Spec.Duration.Seconds()))
		},
	}, lines)
}
