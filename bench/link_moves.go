package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/vstp-go/vstp"
)

// Tests over a link for what moves between carriers: a transfer in the middle of which the
// link stops to carry UDP, dials, and a connection that is idle.

// movesLink is the link of -tests moves.
const movesLink = "100mbit,40ms"

// setMoves makes -tests moves, which is measured alone, the test over a link that it is.
func (o *options) setMoves() error {
	if !slices.Contains(o.tests, "moves") {
		return nil
	}
	if len(o.tests) > 1 {
		return errors.New("-tests moves is measured over a link, and alone")
	}
	o.linkTests = []string{"link-moves"}
	if len(o.links) == 0 {
		return o.addLink(movesLink)
	}
	return nil
}

// loseUDP lets the link carry no UDP in the second of three thirds of the measurement,
// which begins when the first bytes of a transfer have come.
func (l *link) loseUDP(ctx context.Context, d time.Duration) {
	wait := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	for ctx.Err() == nil {
		if toClient, _ := l.counts(); toClient.DeliveredBytes > 16<<10 {
			break
		}
		wait(time.Millisecond)
	}
	wait(d / 3)
	l.blockUDP(true)
	wait(d / 3)
	l.blockUDP(false)
}

// A thirds is what came in each third of a transfer.
type thirds struct {
	mu    sync.Mutex
	of    time.Duration // all three
	first time.Time     // when the first byte came
	last  time.Time
	bytes [3]float64
	gaps  [3]time.Duration // the longest time without a byte that ended in it
}

// third returns in which one a time is.
func (x *thirds) third(now time.Time) int {
	return min(int(3*now.Sub(x.first)/max(x.of, 1)), 2)
}

func (x *thirds) add(now time.Time, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.first.IsZero() {
		x.first, x.last = now, now
	}
	i := x.third(now)
	// The beginning is slow start.
	if now.Sub(x.first) > x.of/12 {
		x.gaps[i] = max(x.gaps[i], now.Sub(x.last))
	}
	x.last = now
	x.bytes[i] += float64(n)
}

func (x *thirds) values() values {
	x.mu.Lock()
	defer x.mu.Unlock()
	end := x.first.Add(x.of)
	x.gaps[2] = max(x.gaps[2], end.Sub(x.last)) // not over yet
	v := values{"total": x.bytes[0] + x.bytes[1] + x.bytes[2]}
	for i := range 3 {
		v[fmt.Sprintf("gap.%d", i)] = x.gaps[i].Seconds() * 1e3
		v[fmt.Sprintf("mbit.%d", i)] = x.bytes[i] * 8 / 1e6 / (x.of.Seconds() / 3)
	}
	return v
}

// clientLinkMoves reads for the time of the measurement.
func clientLinkMoves(s *spec, c *contender, e *env) (values, any, error) {
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, nil, err
	}
	x := &thirds{of: s.Duration}
	first, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		var once sync.Once
		buf := make([]byte, bulkBuffer)
		for {
			n, err := st.Read(buf)
			if n > 0 {
				x.add(time.Now(), n)
				once.Do(func() { close(first) })
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	for _, step := range []struct {
		done <-chan struct{}
		time time.Duration
	}{{first, linkPatience}, {nil, s.Duration}} {
		select {
		case <-step.done:
		case err := <-failed:
			return nil, nil, err
		case <-time.After(step.time):
			if step.done != nil {
				return nil, nil, errors.New("not a byte came")
			}
		}
	}
	v := x.values()
	if conn, ok := st.(*vstp.Conn); ok {
		v["moves"] = float64(conn.Stats().Moves)
	}
	return v, st, nil
}

// clientLinkDials takes the time of dials, and until the first answer has come, with nothing
// known about the server and then, for contenders that remember, with what the dial before
// has found out.
func clientLinkDials(s *spec, c *contender, e *env) (values, error) {
	v := values{}
	var total float64
	for _, kind := range []string{"new", "known"} {
		var dials, answers []float64
		e.memory = nil
		if kind == "known" {
			if !c.has("moves") {
				break
			}
			e.memory = new(vstp.CarrierMemory)
		}
		for start := time.Now(); time.Since(start) < s.Duration/2 || len(dials) < 3; {
			dialed, answered, err := dialOnce(s, c, e)
			if err != nil {
				return nil, fmt.Errorf("dial %d: %w", len(dials), err)
			}
			dials, answers = append(dials, dialed.Seconds()*1e3), append(answers, answered.Seconds()*1e3)
			total += float64(s.Size)
		}
		if kind == "known" {
			dials, answers = dials[1:], answers[1:]
		}
		v[kind+".dial"], v[kind+".answer"] = median(dials), median(answers)
		v[kind+".max"] = slices.Max(answers)
		v["n"] += float64(len(dials))
	}
	v["total"] = total
	return v, nil
}

func dialOnce(s *spec, c *contender, e *env) (dialed, answered time.Duration, err error) {
	start := time.Now()
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return 0, 0, err
	}
	defer st.Close()
	dialed = time.Since(start)
	buf := make([]byte, s.Size)
	if _, err = st.Write(buf); err == nil {
		_, err = io.ReadFull(st, buf)
	}
	return dialed, time.Since(start), err
}

// clientLinkIdle opens a connection, uses it once and holds it.
func clientLinkIdle(s *spec, c *contender, e *env) (values, any, error) {
	st, err := idleDial(c, e, s.Addrs[0])
	return values{"total": idleExchange}, st, err
}

// idleSettles is how long an idle connection has to say what is left to say.
const idleSettles = 3 * time.Second

// idleTraffic counts what the connections on the link send while nobody uses them, in
// bytes of IP packets a minute.
func (l *link) idleTraffic(ctx context.Context, d time.Duration) (values, error) {
	var counts [2][2]linkCounts
	for i, d := range []time.Duration{idleSettles, d} {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(d):
		}
		counts[i][0], counts[i][1] = l.counts()
	}
	v := values{"total": idleExchange}
	for i, key := range []string{"down", "up"} {
		a, b := counts[0][i], counts[1][i]
		v["minute."+key] = float64(b.Bytes-a.Bytes) / d.Minutes()
		v["packets."+key] = float64(b.Packets-a.Packets) / d.Minutes()
	}
	return v, nil
}

var linkCarrierHeads = map[string][]string{
	"link-moves": {"", "ms without a byte when UDP is lost", "when it is back", "before", "Mbit/s before", "without UDP", "with UDP again", "moves", "late %", "overruns"},
	"link-dials": {"", "dial ms", "answer ms", "slowest", "remembered: dial ms", "answer ms", "slowest", "dials", "late %", "overruns"},
	"link-idle":  {"", "bytes a minute, to the server", "to the client", "packets a minute, to the server", "to the client"},
	"link-short": shortHead(),
	"link-start": {"", "round trips until it has the rate", "ms", "of the link in 20 round trips", "queue max", "dropped %", "late %", "overruns"},
}

func (g *group) linkCarrierCells(r *row) []string {
	f := func(format, key string) string {
		x, ok := r.Median[key]
		if !ok {
			return "–"
		}
		return fmt.Sprintf(format, x)
	}
	switch g.Spec.Test {
	case "link-short":
		return g.linkShortCells(r)
	case "link-start":
		return g.linkStartCells(r)
	case "link-moves":
		return []string{
			f("%.0f", "gap.1") + rounds(r, "gap.1", 1), f("%.0f", "gap.2") + rounds(r, "gap.2", 1), f("%.0f", "gap.0"),
			f("%.1f", "mbit.0"), f("%.1f", "mbit.1"), f("%.1f", "mbit.2"), f("%.0f", "moves"), f("%.2f", "late"), f("%.0f", "overruns"),
		}
	case "link-dials":
		return []string{
			f("%.1f", "new.dial"), f("%.1f", "new.answer"), f("%.1f", "new.max"),
			f("%.1f", "known.dial"), f("%.1f", "known.answer"), f("%.1f", "known.max"), f("%.0f", "n"), f("%.2f", "late"), f("%.0f", "overruns"),
		}
	}
	return []string{f("%.0f", "minute.up"), f("%.0f", "minute.down"), f("%.1f", "packets.up"), f("%.1f", "packets.down")}
}

var linkCarrierTitles = map[string]string{
	"link-moves": "UDP is lost in the middle of a transfer, link ",
	"link-dials": "Dials, link ",
	"link-idle":  "An idle connection, link ",
	"link-short": "Short transfers, link ",
	"link-start": "Start of a transfer, link ",
}

var linkCarrierExplanations = map[string]string{
	"link-moves": "One direction, from the server to the client. In the second third of the time the link carries no UDP. " +
		"The longest time in which the client read nothing, which ended after UDP was lost, and after it was back. In brackets the rounds.",
	"link-dials": "One at a time, to the return of Dial, and to the answer of 64 B to a request. Remembered: with what an earlier dial has found out about the server.",
	"link-idle":  "Bytes of IP packets of one connection that nobody uses, beginning some seconds after it was used.",
	"link-short": "Milliseconds, medians, from the request to the last byte of the answer: on a new connection with its dial and from the request on, " +
		"and on a connection that was idle for a second or more after 1 KB.",
	"link-start": fmt.Sprintf("From the first byte that came to when the next %d round trips have %.0f %% of what the link can carry (its rate without headers and losses). "+
		"In brackets the rounds. The share of that which came in the first %d round trips.", startWindow, 100*startShare, startEarly),
}
