package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/benchproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/hist"
	"github.com/vstp-go/vstp/cmd/vstp/internal/progress"
)

// A benchRun is one test on all its connections.
type benchRun struct {
	test  benchproto.Test
	echo  bool // of messages: there is no stream
	conns []*vstp.Conn
	out   io.Writer // for the lines of each second; nil for none

	up, down, trips atomic.Int64

	mu        sync.Mutex
	upTotal   flow
	downTotal flow
	rtt       hist.Histogram
	serverCPU time.Duration
	err       error
	intervals []interval
}

// A flow is one direction, all connections together.
type flow struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"` // of the connection that took longest
	BitRate float64 `json:"bits_per_second"`
}

func (f *flow) add(n int64, d time.Duration) {
	f.Bytes += n
	f.Seconds = max(f.Seconds, d.Seconds())
	if f.Seconds > 0 {
		f.BitRate = float64(f.Bytes) * 8 / f.Seconds
	}
}

// An interval is what happened in a second, as seen here.
type interval struct {
	Start     float64 `json:"start"`
	End       float64 `json:"end"`
	Sent      int64   `json:"sent_bytes,omitempty"`
	Received  int64   `json:"received_bytes,omitempty"`
	RoundTrip int64   `json:"round_trips,omitempty"`
}

// benchReport is the output of --json. Times are in seconds.
type benchReport struct {
	Address    string     `json:"address"`
	Network    string     `json:"network"`
	Carrier    string     `json:"carrier"` // of the first connection at the end
	Checksum   bool       `json:"checksum"`
	Mode       string     `json:"mode"`
	Parallel   int        `json:"parallel"`
	Size       int        `json:"size"`
	Dial       float64    `json:"dial_seconds"`
	Elapsed    float64    `json:"elapsed_seconds"`
	Upload     *flow      `json:"upload,omitempty"`
	Download   *flow      `json:"download,omitempty"`
	RoundTrips *tripStats `json:"round_trips,omitempty"`
	CPU        float64    `json:"cpu_seconds"`
	ServerCPU  float64    `json:"server_cpu_seconds,omitempty"` // not told by an echo of messages
	Path       *pathStats `json:"path,omitempty"`               // all connections together
	Intervals  []interval `json:"intervals"`

	echo bool
}

type tripStats struct {
	Count     uint64  `json:"count"`
	PerSecond float64 `json:"per_second,omitempty"`
	Min       float64 `json:"min_seconds"`
	Mean      float64 `json:"mean_seconds"`
	P50       float64 `json:"p50_seconds"`
	P90       float64 `json:"p90_seconds"`
	P99       float64 `json:"p99_seconds"`
	Max       float64 `json:"max_seconds"`
}

// runTest runs one test and prints what came out.
func (f *benchFlags) runTest(ctx context.Context, addr string, test benchproto.Test, out, stderr io.Writer) error {
	config, err := f.client(stderr)
	if err != nil {
		return err
	}
	config.MaxMessageSize = benchproto.MaxControl
	r := &benchRun{test: test, echo: f.isMessages()}
	if r.echo {
		config.MaxMessageSize = benchproto.MaxSize
	}
	defer func() {
		for _, c := range r.conns {
			c.Close()
		}
	}()
	start := time.Now()
	for range f.parallel {
		c, err := f.dialBench(ctx, config, addr)
		if err != nil {
			return err
		}
		r.conns = append(r.conns, c)
	}
	rep := &benchReport{
		Address: addr, Mode: string(test.Mode), Parallel: f.parallel, Size: test.Size, echo: r.echo,
		Dial: time.Since(start).Seconds() / float64(f.parallel),
	}
	state := r.conns[0].ConnectionState()
	rep.Network = networkOf(state)
	rep.Checksum = state.Checksum
	if !f.json {
		fmt.Fprintf(out, "connected by %s in %s\n", describe(r.conns[0]), ms(time.Duration(rep.Dial*float64(time.Second))))
		if t := tlsOf(r.conns[len(r.conns)-1]).line(); t != "" && !f.quiet {
			fmt.Fprintln(out, oneLine(t))
		}
		if !f.quiet {
			r.out = out
		}
	}
	cpu := cpuTime()
	start = time.Now()
	if err := r.run(ctx); err != nil {
		return err
	}
	elapsed := time.Since(start)
	rep.Elapsed, rep.CPU, rep.ServerCPU = elapsed.Seconds(), (cpuTime() - cpu).Seconds(), r.serverCPU.Seconds()
	r.report(rep)
	rep.Path = pathOf(r.conns...)
	rep.Carrier = r.conns[0].ConnectionState().Carrier // it may have moved
	if f.json {
		return printJSON(out, rep)
	}
	rep.print(out)
	return nil
}

// run does the test on all connections at once.
func (r *benchRun) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		for _, c := range r.conns {
			c.Close()
		}
	})
	defer stop()
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(done) })
	var wg sync.WaitGroup
	for _, c := range r.conns {
		wg.Go(func() {
			if err := r.one(ctx, c); err != nil {
				r.mu.Lock()
				if r.err == nil {
					r.err = err
				}
				r.mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(done)
	watch.Wait()
	if ctx.Err() != nil {
		return errInterrupted
	}
	return r.err
}

// one does the test on one connection.
func (r *benchRun) one(ctx context.Context, c *vstp.Conn) error {
	if r.echo {
		return r.oneMessages(ctx, c)
	}
	if err := benchproto.Start(ctx, c, r.test); err != nil {
		return err
	}
	var downErr error
	var wg sync.WaitGroup
	if r.test.Mode.Receives() {
		wg.Go(func() { downErr = r.receive(c) })
	}
	var rtt hist.Histogram
	var err error
	switch {
	case r.test.Mode.Sends():
		err = benchproto.Send(ctx, c, r.test, func(n int) { r.up.Add(int64(n)) })
	case r.test.Mode == benchproto.RR:
		err = benchproto.RoundTrips(ctx, c, r.test, func(d time.Duration) { rtt.Add(d); r.trips.Add(1) })
	}
	if err == nil {
		err = c.CloseWrite()
	}
	wg.Wait()
	if err := errors.Join(err, downErr); err != nil {
		return err
	}
	if !r.test.Mode.Receives() {
		if _, err := io.Copy(io.Discard, c); err != nil {
			return err
		}
	}
	res, err := benchproto.Finish(ctx, c)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.upTotal.add(res.Bytes, res.Elapsed)
	r.rtt.Merge(&rtt)
	r.serverCPU = max(r.serverCPU, res.CPU)
	return nil
}

func (r *benchRun) receive(c *vstp.Conn) error {
	n, d, err := benchproto.Receive(c, func(n int) { r.down.Add(int64(n)) })
	r.mu.Lock()
	r.downTotal.add(n, d)
	r.mu.Unlock()
	return err
}

// watch records, and prints, what moves in each second.
func (r *benchRun) watch(done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	start := time.Now()
	var last interval
	var up, down, trips int64
	for {
		final := false
		select {
		case <-tick.C:
		case <-done:
			final = true
		}
		u, d, n := r.up.Load(), r.down.Load(), r.trips.Load()
		now := interval{last.End, time.Since(start).Seconds(), u - up, d - down, n - trips}
		up, down, trips = u, d, n
		if final && now.End-now.Start < 0.1 {
			return // what is left of the last second says little
		}
		r.intervals = append(r.intervals, now)
		if r.out != nil {
			fmt.Fprintln(r.out, now.line(r.test.Mode))
		}
		last = now
		if final {
			return
		}
	}
}

func (i interval) line(mode benchproto.Mode) string {
	s := fmt.Sprintf("%5.1f-%5.1f s", i.Start, i.End)
	d := i.End - i.Start
	if mode.Sends() {
		s += fmt.Sprintf("  up %10s %10s", progress.Bytes(i.Sent), bitRate(float64(i.Sent)*8/d))
	}
	if mode.Receives() {
		s += fmt.Sprintf("  down %10s %10s", progress.Bytes(i.Received), bitRate(float64(i.Received)*8/d))
	}
	if mode == benchproto.RR {
		s += fmt.Sprintf("  %10.0f round trips/s", float64(i.RoundTrip)/d)
	}
	return s
}

// bitRate words bits per second.
func bitRate(r float64) string {
	for _, u := range []string{"bit/s", "kbit/s", "Mbit/s"} {
		if r < 999.5 {
			return fmt.Sprintf("%.3g %s", r, u)
		}
		r /= 1000
	}
	return fmt.Sprintf("%.3g Gbit/s", r)
}

// report fills in what was measured.
func (r *benchRun) report(rep *benchReport) {
	rep.Intervals = r.intervals
	if r.test.Mode.Sends() {
		rep.Upload = &r.upTotal
	}
	if r.test.Mode.Receives() {
		rep.Download = &r.downTotal
	}
	if r.test.Mode == benchproto.RR {
		rep.RoundTrips = newTripStats(&r.rtt)
		rep.RoundTrips.PerSecond = float64(r.rtt.Count()) / rep.Elapsed
	}
}

func newTripStats(h *hist.Histogram) *tripStats {
	return &tripStats{
		Count: h.Count(),
		Min:   h.Min().Seconds(), Mean: h.Mean().Seconds(), Max: h.Max().Seconds(),
		P50: h.Quantile(0.5).Seconds(), P90: h.Quantile(0.9).Seconds(), P99: h.Quantile(0.99).Seconds(),
	}
}

// plotWidth is the most bars that a plot has.
const plotWidth = 60

// plot draws a line for what has moved in each second, if there is a course to see.
func (rep *benchReport) plot(out io.Writer) {
	if len(rep.Intervals) < 3 {
		return
	}
	for _, row := range []struct {
		name string
		of   func(interval) int64
	}{
		{"sent", func(i interval) int64 { return i.Sent }},
		{"received", func(i interval) int64 { return i.Received }},
		{"round trips", func(i interval) int64 { return i.RoundTrip }},
	} {
		var v []float64
		low, high := math.Inf(1), 0.0
		for _, i := range rep.Intervals {
			r := float64(row.of(i)) / (i.End - i.Start)
			v = append(v, r)
			low, high = min(low, r), max(high, r)
		}
		if high == 0 {
			continue
		}
		word := func(r float64) string { return bitRate(8 * r) }
		if row.name == "round trips" {
			word = func(r float64) string { return fmt.Sprintf("%.0f/s", r) }
		}
		fmt.Fprintf(out, "%s: %s  %s to %s\n", row.name, progress.Sparkline(v, plotWidth), word(low), word(high))
	}
}

// print writes the report for people.
func (rep *benchReport) print(out io.Writer) {
	rep.plot(out)
	for _, f := range []struct {
		name string
		*flow
	}{{"upload", rep.Upload}, {"download", rep.Download}} {
		if f.flow != nil {
			fmt.Fprintf(out, "%s: %s in %.2f s, %s\n", f.name, progress.Bytes(f.Bytes), f.Seconds, bitRate(f.BitRate))
		}
	}
	if t := rep.RoundTrips; t != nil {
		sec := func(s float64) string { return ms(time.Duration(s * float64(time.Second))) }
		fmt.Fprintf(out, "%d round trips of %d bytes, %.0f/s\nmin/avg/max = %s/%s/%s, p50/p90/p99 = %s/%s/%s\n",
			t.Count, rep.Size, t.PerSecond, sec(t.Min), sec(t.Mean), sec(t.Max), sec(t.P50), sec(t.P90), sec(t.P99))
	}
	rep.Path.print(out)
	fmt.Fprintf(out, "CPU: %.2f s here", rep.CPU)
	if !rep.echo {
		fmt.Fprintf(out, ", %.2f s there", rep.ServerCPU)
	}
	fmt.Fprintln(out)
}
