package main

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// How soon a link is used: the time of short transfers on new and on idle connections, and
// the time until a transfer has the rate of the link.

// shortSizes are what is transferred, in bytes.
var shortSizes = []int{10_000, 100_000, 1_000_000}

const (
	shortRequest = 8 // the size that is asked for
	shortIdle    = 1 * time.Second
	shortWarmup  = 1000 // bytes that an idle connection has carried
	shortRepeats = 2    // at least, whatever the time

	startWindow = 4 // round trips that shall have the rate
	startShare  = 0.9
	startEarly  = 20 // round trips, of which the table has how much came
)

// serveShort sends as many bytes as each request asks for.
func serveShort(s stream) {
	defer s.Close()
	buf := make([]byte, bulkBuffer)
	fillPattern(buf)
	var request [shortRequest]byte
	for {
		if _, err := io.ReadFull(s, request[:]); err != nil {
			return
		}
		left := binary.BigEndian.Uint64(request[:])
		if left > maxMessage {
			return
		}
		for left > 0 {
			n, err := s.Write(buf[:min(left, bulkBuffer)])
			if err != nil {
				return
			}
			left -= uint64(n)
		}
	}
}

// shortTransfer asks for n bytes and reads them.
func shortTransfer(s stream, n int) error {
	var request [shortRequest]byte
	binary.BigEndian.PutUint64(request[:], uint64(n))
	if _, err := s.Write(request[:]); err != nil {
		return err
	}
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.LimitReader(s, int64(n))}, make([]byte, bulkBuffer))
	if err == nil && got != int64(n) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// A shortClient makes transfers and keeps their times in milliseconds.
type shortClient struct {
	spec      *spec
	contender *contender
	env       *env
	times     map[string][]float64
	total     float64
	closing   sync.WaitGroup
}

// clientLinkShort makes transfers on new connections, and on others that were idle in the
// meantime.
func clientLinkShort(s *spec, c *contender, e *env) (values, error) {
	x := &shortClient{spec: s, contender: c, env: e, times: make(map[string][]float64)}
	done := make(chan error, 1)
	go func() { done <- x.run() }()
	select {
	case err := <-done:
		if err != nil {
			return nil, err
		}
	case <-time.After(s.Duration + 2*linkPatience):
		return nil, errors.New("a short transfer does not end")
	}
	v := values{"total": x.total}
	for key, times := range x.times {
		v[key], v["n"] = median(times), max(v["n"], float64(len(times)))
	}
	return v, nil
}

func (x *shortClient) run() error {
	// So many that the last has not to wait for long, nor the time to be up for ever.
	idle := make([]stream, len(shortSizes)*max(shortRepeats, int(x.spec.Duration/(2*time.Second))))
	var opened sync.WaitGroup
	errs := make([]error, len(idle))
	for i := range idle {
		opened.Go(func() {
			var err error
			if idle[i], err = x.contender.dial(x.env, x.spec.Addrs[0]); err == nil {
				err = shortTransfer(idle[i], shortWarmup)
			}
			errs[i] = err
		})
	}
	opened.Wait()
	if err := cmp.Or(errs...); err != nil {
		return fmt.Errorf("idle connections: %w", err)
	}
	start := time.Now()
	for n := 0; n < shortRepeats || time.Since(start) < x.spec.Duration*6/10; n++ {
		for _, size := range shortSizes {
			if err := x.onNew(size); err != nil {
				return fmt.Errorf("transfer %d of %d bytes: %w", n, size, err)
			}
		}
	}
	time.Sleep(shortIdle - time.Since(start))
	for i, s := range idle {
		if i >= len(shortSizes)*shortRepeats && time.Since(start) > x.spec.Duration {
			break
		}
		size := shortSizes[i%len(shortSizes)]
		before := time.Now()
		if err := shortTransfer(s, size); err != nil {
			return fmt.Errorf("transfer of %d bytes on an idle connection: %w", size, err)
		}
		x.note("idle", size, time.Since(before))
		x.total += float64(size)
	}
	for _, s := range idle {
		x.closing.Go(func() { s.Close() })
	}
	x.closing.Wait()
	return nil
}

func (x *shortClient) onNew(size int) error {
	before := time.Now()
	s, err := x.contender.dial(x.env, x.spec.Addrs[0])
	if err != nil {
		return err
	}
	// That takes a while where something was lost, and nobody waits for it.
	defer x.closing.Go(func() { s.Close() })
	dialed := time.Now()
	if err := shortTransfer(s, size); err != nil {
		return err
	}
	x.note("new", size, time.Since(before))
	x.note("dialed", size, time.Since(dialed))
	x.total += float64(size)
	return nil
}

func (x *shortClient) note(kind string, size int, d time.Duration) {
	key := shortKey(kind, size)
	x.times[key] = append(x.times[key], d.Seconds()*1e3)
}

func shortKey(kind string, size int) string { return fmt.Sprintf("%s.%d", kind, size) }

// An arrival is how many bytes had come in all at a time since the first.
type arrival struct {
	at    time.Duration
	total int64
}

// clientLinkStart reads for the time of the measurement and finds out when the transfer had
// the rate of the link.
func clientLinkStart(s *spec, c *contender, e *env) (values, any, error) {
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, nil, err
	}
	var arrivals []arrival
	read := func() error {
		buf := make([]byte, bulkBuffer)
		var first time.Time
		var total int64
		for {
			n, err := st.Read(buf)
			if n > 0 {
				if first.IsZero() {
					first = time.Now()
				}
				total += int64(n)
				at := time.Since(first)
				arrivals = append(arrivals, arrival{at, total})
				if at > s.Duration {
					return nil
				}
			}
			if err != nil {
				return fmt.Errorf("read after %d bytes: %w", total, err)
			}
		}
	}
	done := make(chan error, 1)
	go func() { done <- read() }()
	select {
	case err := <-done:
		if err != nil {
			return nil, nil, err
		}
	case <-time.After(s.Duration + linkPatience):
		return nil, nil, errors.New("nothing comes any more")
	}
	rtt := max(s.RTT, time.Millisecond)
	v := values{"total": float64(arrivals[len(arrivals)-1].total)}
	at, reached := rateReached(arrivals, startWindow*rtt, startShare*s.Goodput, s.Duration)
	v["start"] = at.Seconds() / rtt.Seconds()
	if reached {
		v["reached"] = 1
	}
	early := min(startEarly*rtt, s.Duration)
	v["early"] = float64(arrivedBy(arrivals, early)) / (s.Goodput * early.Seconds())
	for i := range startBins {
		width := s.Duration / startBins
		n := arrivedBy(arrivals, time.Duration(i+1)*width) - arrivedBy(arrivals, time.Duration(i)*width)
		v[startKey(i)] = float64(n) * 8 / 1e6 / width.Seconds()
	}
	return v, st, nil
}

// startBins is how many pieces of the time the plot has.
const startBins = 60

func startKey(bin int) string { return fmt.Sprintf("bin.%d", bin) }

// rateReached returns from when on, for the time of a window, the rate was reached. If it
// never was, it returns the whole time.
func rateReached(arrivals []arrival, window time.Duration, rate float64, whole time.Duration) (time.Duration, bool) {
	end := 0
	var before int64 // what had come before arrivals[i]
	for i, a := range arrivals {
		if a.at+window > whole {
			break
		}
		for end < len(arrivals) && arrivals[end].at <= a.at+window {
			end++
		}
		if float64(arrivals[end-1].total-before) >= rate*window.Seconds() {
			return a.at, true
		}
		before = arrivals[i].total
	}
	return whole, false
}

// arrivedBy returns how many bytes had come at a time.
func arrivedBy(arrivals []arrival, at time.Duration) (total int64) {
	for _, a := range arrivals {
		if a.at > at {
			break
		}
		total = a.total
	}
	return total
}

func (g *group) linkShortCells(r *row) []string {
	var cells []string
	for _, size := range shortSizes {
		for _, kind := range []string{"new", "dialed", "idle"} {
			cells = append(cells, fmt.Sprintf("%.0f", r.Median[shortKey(kind, size)]))
		}
	}
	return append(cells, fmt.Sprintf("%.0f", r.Median["n"]), fmt.Sprintf("%.2f", r.Median["late"]), fmt.Sprintf("%.0f", r.Median["overruns"]))
}

func shortHead() []string {
	head := []string{""}
	for _, size := range shortSizes {
		kb := fmt.Sprintf("%d KB", size/1000)
		head = append(head, kb+", new, ms", "without the dial", "idle")
	}
	return append(head, "transfers each", "late %", "overruns")
}

func (g *group) linkStartCells(r *row) []string {
	m := r.Median
	start := fmt.Sprintf("%.1f", m["start"]) + rounds(r, "start", 1)
	if m["reached"] < 0.5 {
		start = "not within " + strings.TrimPrefix(start, " ")
	}
	return []string{
		start, fmt.Sprintf("%.0f", m["start"]*g.Link.RTT.Seconds()*1e3), fmt.Sprintf("%.2f", m["early"]) + rounds(r, "early", 1),
		fmt.Sprintf("%.2f", m["queue.max"]), fmt.Sprintf("%.1f", m["dropped"]), fmt.Sprintf("%.2f", m["late"]), fmt.Sprintf("%.0f", m["overruns"]),
	}
}
