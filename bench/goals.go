package main

import (
	"fmt"
	"math"
	"strings"
)

// goals are the marks that this module wants to reach, beside what the run shows. What was
// not measured has no row.
type goals struct {
	res   *result
	table table
	met   int
}

// row adds a goal.
func (g *goals) row(what, mark, got string, met bool) {
	verdict := "**missed**"
	if met {
		verdict = "met"
		g.met++
	}
	g.table.add(what, mark, got, verdict)
}

func (g *goals) atLeast(what string, r ratio, mark float64) {
	if r.OK {
		g.row(what, fmt.Sprintf(">= %.2f", mark), r.String(), r.Median >= mark)
	}
}

func (g *goals) atMost(what string, r ratio, mark float64) {
	if r.OK {
		g.row(what, fmt.Sprintf("<= %.2f", mark), r.String(), r.Median <= mark)
	}
}

// value adds a goal that is no ratio.
func (g *goals) value(what, unit string, x float64, ok bool, most float64) {
	if ok {
		g.row(what, fmt.Sprintf("<= %g%s", most, unit), fmt.Sprintf("%.3g%s", x, unit), x <= most)
	}
}

func (res *result) goals(b *strings.Builder) {
	g := &goals{res: res, table: table{head: []string{"goal", "mark", "measured", ""}}}
	g.bulk()
	g.roundTrips()
	g.messages()
	g.links()
	g.connections()
	if n := len(g.table.rows); n > 0 {
		fmt.Fprintf(b, "\n## Goals\n\n%d of %d met.\n\n", g.met, n)
		g.table.write(b)
		res.noise(b)
	}
}

// noise writes how far tcp was from itself: what is no further from its mark says nothing.
func (res *result) noise(b *strings.Builder) {
	bulk, rr := res.sharpest("bulk-65536", "tcp-again", "tcp", "mbps"), res.sharpest("rr-64", "tcp-again", "tcp", "p50")
	if bulk.OK && rr.OK {
		fmt.Fprintf(b, "\nThe noise of this run: tcp beside tcp is %s in bulk and %s in round trips of 64 B.\n", bulk, rr)
	}
}

func (g *goals) bulk() {
	for _, c := range []struct {
		what, name, base string
		mark             float64
	}{
		{"rudp", "vstp-rudp", "quic", 7},
		{"rudp", "vstp-rudp", "tcp", 0.33},
		{"rudp with TLS", "vstp-rudp-tls", "quic", 4},
		{"rudp with TLS", "vstp-rudp-tls", "tls", 0.6},
		{"tcp, CRC off", "vstp-nocrc", "tcp", 0.97},
		{"tcp, CRC on", "vstp", "tcp", 0.90},
		{"tcp with TLS", "vstp-tls", "tls", 0.97},
	} {
		r := g.res.sharpest("bulk-65536", c.name, c.base, "mbps")
		g.atLeast(fmt.Sprintf("bulk 64 KiB, %s, x %s", c.what, c.base), r, c.mark)
	}
}

func (g *goals) roundTrips() {
	for _, c := range []struct {
		id, what, name, base string
		mark                 float64
	}{
		{"rr-64", "64 B, tcp", "vstp", "tcp", 1.05},
		{"rr-64", "64 B, udp messages", "vstp-udp", "udp", 1.15},
		{"rr-64", "64 B, rudp", "vstp-rudp", "udp", 1.35},
		{"rr-65536", "64 KiB, rudp", "vstp-rudp", "tcp", 3},
	} {
		r := g.res.sharpest(c.id, c.name, c.base, "p50")
		g.atMost(fmt.Sprintf("round trip of %s, p50, x %s", c.what, c.base), r, c.mark)
	}
	for _, name := range []string{"vstp", "vstp-nocrc", "vstp-tls"} {
		x, ok := g.res.value("allocs-64", name, "mallocs")
		y, _ := g.res.value("allocs-64", name, "server.mallocs")
		limit := 0.0
		if name == "vstp-tls" {
			// crypto/tls allocates in Read, vstp cannot do without that.
			limit, ok = g.res.value("allocs-64", "tls", "mallocs")
		}
		if ok {
			g.row("allocations for a Write and a Read of 64 B, "+name, fmt.Sprintf("%.0f", limit), fmt.Sprintf("%.2f and %.2f", x, y), max(x, y) < limit+0.05)
		}
	}
}

func (g *goals) messages() {
	for _, group := range g.res.Groups {
		if group.Spec.Test != "message" {
			continue
		}
		what := "acknowledged message of " + size(group.Spec.Size) + " over UDP, "
		g.atMost(what+"time x tcp", g.res.ratio(group.ID, "vstp-udp", "tcp", "ms"), 2.5)
		live, ok := g.res.value(group.ID, "vstp-udp", "server.live")
		rss, known := g.res.value(group.ID, "vstp-udp", "server.rss.first")
		if known {
			live = max(live, rss)
		}
		g.value(what+"memory of the receiver x the message", "", math.Round(live*100)/100, ok, 1.3)
	}
}

// connections are about dials, handshakes and connections that nobody uses.
func (g *goals) connections() {
	for _, id := range []string{"handshakes-full", "handshakes-resumed"} {
		g.atMost(id+", rudp, CPU x tls", g.res.ratio(id, "vstp-rudp-tls", "tls", "cpu.both"), 1.2)
	}
	for _, id := range []string{"idle", "idle-reader"} {
		group := g.res.group(id)
		if group == nil {
			continue
		}
		for _, name := range []string{"vstp", "vstp-tls", "vstp-unix"} {
			x, ok := group.beyondBase(group.row(name), "server.")
			g.value(id+" connection, "+name+", beyond the bare socket", " KiB", x, ok, 6)
		}
		r := group.row("vstp-rudp")
		if r == nil || len(r.Median) == 0 || id != "idle" {
			continue
		}
		m := r.Median
		g.value("idle connection, rudp, heap and stack at the server", " KiB", m["server.heap"]+m["server.stack"], true, 8)
		g.value("idle connection, rudp, goroutines for each at the server", "", m["server.goroutines"], true, 0.01)
		if x, ok := m["server.timers"]; ok {
			g.value(fmt.Sprintf("%.0f idle connections, rudp, timers at the server", m["conns"]), " % of a core", x, true, 1)
		}
	}
}

// claims writes what the README of the original crate says beside what this
// run shows for this module.
func (res *result) claims(b *strings.Builder) {
	ours := []string{"vstp", "vstp-nocrc", "vstp-tls"}
	t := &table{head: []string{"claim of the original crate", "its figure"}}
	for _, name := range ours {
		t.head = append(t.head, "measured for "+name)
	}
	claim := func(what, figure, id, base, key string) {
		cells := []string{what, figure}
		some := false
		for _, name := range ours {
			r := res.sharpest(id, name, base, key)
			some = some || r.OK
			cells = append(cells, r.String())
		}
		if some {
			t.add(cells...)
		}
	}
	claim("throughput, x HTTP/2 (TLS)", "20", "bulk-65536", "http2", "mbps")
	claim("throughput, x gRPC", "12.5", "bulk-65536", "grpc", "mbps")
	claim("throughput, x raw TCP", "0.83", "bulk-65536", "tcp", "mbps")
	claim("latency, x HTTP/2, a request each", "0.05", "rr-64", "http2", "p50")
	claim("latency, x HTTP/2, one open stream", "0.05", "rr-64", "http2-stream", "p50")
	claim("latency, x gRPC, a unary call each", "0.067", "rr-64", "grpc", "p50")
	claim("latency, x gRPC, one open stream", "0.067", "rr-64", "grpc-stream", "p50")
	claim("latency, x raw TCP", "2", "rr-64", "tcp", "p50")
	if len(t.rows) > 0 {
		b.WriteString("\n## Claims of the original crate\n\nThroughput: 64 KiB Writes. Latency: p50 of 64 B round trips.\n\n")
		t.write(b)
	}
}
