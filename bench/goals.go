package main

import (
	"fmt"
	"strings"
)

// goals writes what this module wants to reach beside what the run shows.
func (res *result) goals(b *strings.Builder) {
	t := &table{head: []string{"goal", "at least, or at most", "wanted", "measured", ""}}
	check := func(what, mark, want, got string, ok, reached bool) {
		if !ok {
			return
		}
		verdict := "reached"
		if !reached {
			verdict = "missed"
		}
		t.add(what, mark, want, got, verdict)
	}
	atLeast := func(what, id, name, base string, mark, want float64) {
		r := res.sharpest(id, name, base, "mbps")
		check(what, fmt.Sprintf(">= %.2f", mark), fmt.Sprintf("%.2f", want), r.String(), r.OK, r.Median >= mark)
	}
	atLeast("bulk 64 KiB, CRC off, x tcp", "bulk-65536", "vstp-nocrc", "tcp", 0.95, 0.98)
	atLeast("bulk 64 KiB, CRC on, x tcp", "bulk-65536", "vstp", "tcp", 0.85, 0.92)
	atLeast("bulk 64 KiB, TLS, x tls", "bulk-65536", "vstp-tls", "tls", 0.97, 1.0)
	atLeast("bulk 64 KiB, rudp, x quic-go", "bulk-65536", "vstp-rudp", "quic", 3, 10)
	atLeast("bulk 64 KiB, rudp, x tcp", "bulk-65536", "vstp-rudp", "tcp", 0.5, 0.5)
	atMost := func(what, id, name, base, key string, mark, want float64) {
		r := res.sharpest(id, name, base, key)
		check(what, fmt.Sprintf("<= %.2f", mark), fmt.Sprintf("%.2f", want), r.String(), r.OK, r.Median <= mark)
	}
	atMost("round trip of 64 B, p50, udp messages, x udp", "rr-64", "vstp-udp", "udp", "p50", 1.25, 1.1)
	atMost("round trip of 64 B, p50, rudp, x udp", "rr-64", "vstp-rudp", "udp", "p50", 1.5, 1.25)
	res.messageGoals(check)
	res.linkGoals(check)
	for _, id := range []string{"dials-1", "dials-8"} {
		r := res.ratio(id, "vstp-rudp", "tcp", "rate")
		check(id+", rudp, x tcp", ">= 1.00", "1.50", r.String(), r.OK, r.Median >= 1)
	}
	res.sealedGoals(check)
	for _, name := range []string{"vstp", "vstp-nocrc"} {
		r := res.sharpest("rr-64", name, "tcp", "p50")
		check("round trip of 64 B, p50, "+name+", x tcp", "<= 1.10", "1.05", r.String(), r.OK, r.Median <= 1.10)
	}
	for _, name := range []string{"vstp", "vstp-nocrc", "vstp-tls"} {
		x, ok := res.value("allocs-64", name, "mallocs")
		y, _ := res.value("allocs-64", name, "server.mallocs")
		mark, limit := "0", 0.0
		if name == "vstp-tls" {
			// crypto/tls allocates in Read, vstp cannot do without that.
			if limit, ok = res.value("allocs-64", "tls", "mallocs"); !ok {
				continue
			}
			mark = fmt.Sprintf("%.0f, as tls", limit)
		}
		check("allocations for a Write and a Read of 64 B, "+name, mark, mark,
			fmt.Sprintf("%.2f and %.2f", x, y), ok, max(x, y) < limit+0.05)
	}
	for _, id := range []string{"idle", "idle-reader"} {
		g := res.group(id)
		if g == nil {
			continue
		}
		for _, name := range []string{"vstp", "vstp-tls", "vstp-unix"} {
			x, ok := g.beyondBase(g.row(name), "server.")
			check(id+" connection, "+name+", KiB beyond the bare socket", "<= 6", "2", fmt.Sprintf("%+.2f", x), ok, x <= 6)
		}
		if r := g.row("vstp-rudp"); r != nil && len(r.Median) > 0 {
			x := r.Median["server.heap"] + r.Median["server.stack"]
			check(id+" connection, vstp-rudp, KiB in all", "<= 16", "8", fmt.Sprintf("%.2f", x), true, x <= 16)
		}
	}
	if len(t.rows) > 0 {
		b.WriteString("\n## Goals\n\n")
		t.write(b)
	}
}

// linkGoals compares with the rate, and with what is left of it after headers and loss.
func (res *result) linkGoals(check func(what, mark, want, got string, ok, reached bool)) {
	for _, l := range reportLinks {
		g := res.group("link-" + l.text)
		if g == nil {
			continue
		}
		mbit, ok := res.value(g.ID, "vstp-rudp", "mbit")
		x := mbit * 1e6 / 8 / g.Link.Rate
		check("link "+l.text+", rudp, of the rate", fmt.Sprintf(">= %.2f", l.mark), fmt.Sprintf("%.2f", 0.98*g.Link.goodput()/g.Link.Rate),
			fmt.Sprintf("%.3f", x), ok, x >= l.mark)
	}
}

// sealedGoals compares datagrams with TLS to those without, and to what has TLS too.
func (res *result) sealedGoals(check func(what, mark, want, got string, ok, reached bool)) {
	for _, c := range []struct {
		base       string
		mark, want float64
	}{{"vstp-rudp", 0.65, 0.75}, {"quic", 4, 6}, {"tls", 0.5, 1}} {
		r := res.sharpest("bulk-65536", "vstp-rudp-tls", c.base, "mbps")
		check("bulk 64 KiB, rudp with TLS, x "+c.base, fmt.Sprintf(">= %.2f", c.mark), fmt.Sprintf("%.2f", c.want), r.String(), r.OK, r.Median >= c.mark)
	}
	for _, id := range []string{"handshakes-full", "handshakes-resumed"} {
		r := res.ratio(id, "vstp-rudp-tls", "tls", "cpu.both")
		check(id+", rudp, CPU x tls", "<= 1.20", "1.00", r.String(), r.OK, r.Median <= 1.2)
		r = res.ratio(id, "vstp-rudp-tls", "tls", "rate")
		check(id+", rudp, a second, x tls", ">= 0.95", "1.00", r.String(), r.OK, r.Median >= 0.95)
	}
}

// messageGoals compares a message over UDP with the stream over UDP, as which it shall
// not take much longer, and with TCP.
func (res *result) messageGoals(check func(what, mark, want, got string, ok, reached bool)) {
	bulk, measured := res.value("bulk-65536", "vstp-rudp", "mbps")
	for _, g := range res.Groups {
		if g.Spec.Test != "message" {
			continue
		}
		what := "acknowledged message of " + size(g.Spec.Size) + " over UDP, "
		if ms, ok := res.value(g.ID, "vstp-udp", "ms"); ok && measured {
			x := ms * 1e3 / (float64(g.Spec.Size) / bulk)
			check(what+"x the time of rudp bulk", "<= 1.50", "1.00", fmt.Sprintf("%.2f", x), true, x <= 1.5)
		}
		r := res.ratio(g.ID, "vstp-udp", "tcp", "ms")
		check(what+"x the time of tcp", "<= 2.00", "2.00", r.String(), r.OK, r.Median <= 2)
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
