package main

import (
	"fmt"
	"math"
	"strings"
)

// links are the goals over emulated links.
func (g *goals) links() {
	for _, l := range reportLinks {
		group := g.res.group("link-" + l.text)
		if group == nil {
			continue
		}
		if mbit, ok := g.res.value(group.ID, "vstp-rudp", "mbit"); ok {
			x := mbit * 1e6 / 8 / group.Link.Rate
			g.row("link "+l.text+", rudp, of the rate", fmt.Sprintf(">= %.2f", l.mark), fmt.Sprintf("%.3f", x), x >= l.mark)
		}
	}
	for _, group := range g.res.Groups {
		switch group.Spec.Test {
		case "link":
			g.shares(group)
		case "link-messages":
			g.smallMessages(group)
		case "link-short":
			g.short(group)
		}
	}
}

// shares are those of flows on one link: equal among this module's, and something for each
// beside others.
func (g *goals) shares(group *group) {
	const least, most = 0.25, 0.75
	for _, r := range group.Rows {
		if len(r.Flows) < 2 || len(r.Median) == 0 {
			continue
		}
		what := group.Link.Text + ", " + r.Contender
		if group.Spec.Delay > 0 {
			what += fmt.Sprintf(", each %v later", group.Spec.Delay)
		}
		ours := 0
		var rate float64
		for i, name := range r.Flows {
			if isOurs(name) {
				ours++
				rate += r.Median[fmt.Sprintf("mbit.%d", i)]
			}
		}
		switch {
		case ours == len(r.Flows):
			x := r.Median["jain"]
			g.row(what+", Jain's index", ">= 0.95", fmt.Sprintf("%.3f", x), x >= 0.95)
		case ours > 0 && r.Median["mbit"] > 0:
			x := rate / r.Median["mbit"]
			g.row(what+", share of ours", fmt.Sprintf("%.2f to %.2f", least, most), fmt.Sprintf("%.2f", x), x >= least && x <= most)
		}
	}
}

// best returns the smallest value among the others.
func (group *group) best(key string) (name string, x float64) {
	x = math.Inf(1)
	for _, r := range group.Rows {
		if y, ok := r.Median[key]; ok && r.Error == "" && !isOurs(r.Contender) && y < x {
			name, x = r.Contender, y
		}
	}
	return name, x
}

// smallMessages shall be the soonest, with redundancy if it is among those measured.
func (g *goals) smallMessages(group *group) {
	for _, name := range []string{"vstp-rudp-red", "vstp-rudp-messages", "vstp-rudp"} {
		x, ok := g.res.value(group.ID, name, "p99")
		peer, best := group.best("p99")
		if !ok || peer == "" {
			continue
		}
		g.row(fmt.Sprintf("link %s, p99 of messages of %s, %s", group.Link.Text, size(linkMessage), name),
			fmt.Sprintf("< %.1f ms (%s)", best/1e3, peer), fmt.Sprintf("%.1f ms", x/1e3), x < best)
		return
	}
}

// shortSlack is by how much a short transfer may be later than the best of the others: what
// two runs of the same differ by.
const shortSlack = 1.02

func (g *goals) short(group *group) {
	for _, kind := range []struct{ key, what string }{{"new", "on a new connection"}, {"dialed", "on a new connection without its dial"}, {"idle", "on an idle connection"}} {
		var marks, got []string
		worst := 0.0
		for _, size := range shortSizes {
			x, ok := g.res.value(group.ID, "vstp-rudp", shortKey(kind.key, size))
			peer, best := group.best(shortKey(kind.key, size))
			if !ok || peer == "" {
				continue
			}
			marks = append(marks, fmt.Sprintf("%.0f (%s)", best, peer))
			got = append(got, fmt.Sprintf("%.0f", x))
			worst = max(worst, x/best)
		}
		if len(got) > 0 {
			g.row(fmt.Sprintf("link %s, ms for 10 KB, 100 KB, 1 MB %s, rudp", group.Link.Text, kind.what),
				"<= "+strings.Join(marks, ", "), strings.Join(got, ", "), worst <= shortSlack)
		}
	}
}
