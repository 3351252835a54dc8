package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// idleRest is how long connections have been idle when their memory is read: what they give back
// when they rest, they have given back by then.
const idleRest = 1500 * time.Millisecond

// runClient runs the client's side of a test. What it returns as hold must be
// kept alive until the server has measured too.
func runClient(s *spec, c *contender, e *env) (v values, hold any, err error) {
	switch s.Test {
	case "bulk":
		v, err = clientBulk(s, c, e)
	case "rr":
		v, err = clientRoundTrips(s, c, e)
	case "allocs":
		v, err = clientAllocs(s, c, e)
	case "message":
		v, err = clientMessages(s, c, e)
	case "link":
		return clientLink(s, c, e)
	case "link-messages":
		return clientLinkMessages(s, c, e)
	case "link-moves":
		return clientLinkMoves(s, c, e)
	case "link-idle":
		return clientLinkIdle(s, c, e)
	case "link-dials":
		v, err = clientLinkDials(s, c, e)
	case "link-short":
		v, err = clientLinkShort(s, c, e)
	case "link-start":
		return clientLinkStart(s, c, e)
	case "link-rr":
		v, err = clientLinkRoundTrips(s, c, e)
	case "dials", "handshakes":
		v, err = clientDials(s, c, e)
	case "flood":
		v, err = floodClient(s, c, e)
	case "idle":
		return clientIdle(s, c, e)
	default:
		err = fmt.Errorf("unknown test %q", s.Test)
	}
	return v, nil, err
}

// bulkBuffer is what the receiver of a bulk test reads with.
const bulkBuffer = 64 << 10

// clientBulk reads what the server writes, to the end. Its window opens when
// the stream has been read for the time of the warm-up.
func clientBulk(s *spec, c *contender, e *env) (values, error) {
	var memory footprint
	memory.start()
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, err
	}
	buf := make([]byte, bulkBuffer)
	prof := newProfile(s)
	var (
		total, window int64
		reads         int64
		m             meter
		u             usage
		first         time.Time
		phase         int // 0 before the window, 1 in it, 2 behind it
	)
	for {
		n, err := st.Read(buf)
		total += int64(n)
		switch phase {
		case 0:
			if first.IsZero() {
				first = time.Now()
			}
			if time.Since(first) >= s.warmup() {
				phase = 1
				prof.start()
				m = startMeter()
			}
		case 1:
			window += int64(n)
			reads++
			if err != nil || reads&15 == 0 && time.Since(m.at) >= s.Duration {
				phase = 2
				u = m.stop()
				prof.stop()
				memory.stop()
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read after %d bytes: %w", total, err)
		}
	}
	if phase != 2 {
		return nil, fmt.Errorf("the stream ended after %d bytes, before the measurement did", total)
	}
	if err := st.Close(); err != nil && !isClosed(err) {
		return nil, fmt.Errorf("close: %w", err)
	}
	v := memory.values()
	v["total"] = float64(total)
	v["mbps"] = float64(window) / 1e6 / u.wall.Seconds()
	v["cpu"] = u.cpu.Seconds() / (float64(window) / 1e9)
	v["mallocs"] = float64(u.mallocs) / float64(reads)
	v["read"] = float64(window) / float64(reads)
	return v, nil
}

// fillPattern writes bytes that are neither all equal nor compressible at a glance.
func fillPattern(p []byte) {
	x := uint32(2463534242)
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x)
	}
}

// maxSamples bounds the memory for round trips. Beyond it the test ends early.
const maxSamples = 4 << 20

func clientRoundTrips(s *spec, c *contender, e *env) (values, error) {
	x, err := c.open(e, s.Addrs[0])
	if err != nil {
		return nil, err
	}
	defer x.Close()
	req, resp := make([]byte, s.Size), make([]byte, s.Size)
	fillPattern(req)
	for start := time.Now(); time.Since(start) < s.warmup(); {
		if err := x.Exchange(req, resp); err != nil {
			return nil, err
		}
		if !bytes.Equal(req, resp) {
			return nil, errors.New("the answer is not the request")
		}
	}
	samples := make([]uint32, 0, maxSamples)
	prof := newProfile(s)
	prof.start()
	m := startMeter()
	for last := m.at; ; {
		if err := x.Exchange(req, resp); err != nil {
			return nil, err
		}
		now := time.Now()
		samples = append(samples, uint32(min(now.Sub(last), 1<<32-1)))
		last = now
		if now.Sub(m.at) >= s.Duration || len(samples) == maxSamples {
			break
		}
	}
	u := m.stop()
	prof.stop()
	n := float64(len(samples))
	slices.Sort(samples)
	return values{
		"p50":     percentile(samples, 0.50),
		"p90":     percentile(samples, 0.90),
		"p99":     percentile(samples, 0.99),
		"p999":    percentile(samples, 0.999),
		"max":     percentile(samples, 1),
		"rate":    n / u.wall.Seconds(),
		"cpu":     u.cpu.Seconds() * 1e6 / n,
		"mallocs": float64(u.mallocs) / n,
	}, nil
}

// percentile returns the q quantile of sorted nanoseconds, in microseconds.
func percentile(sorted []uint32, q float64) float64 {
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i]) / 1e3
}

// allocWarmup is how many exchanges come before those that are counted.
const allocWarmup = 200

// clientAllocs makes a fixed number of round trips over one stream, so that
// both ends can divide their allocations by it.
func clientAllocs(s *spec, c *contender, e *env) (values, error) {
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, err
	}
	defer st.Close()
	x := &streamExchanger{st}
	req, resp := make([]byte, s.Size), make([]byte, s.Size)
	exchange := func(n int) error {
		for range n {
			if err := x.Exchange(req, resp); err != nil {
				return err
			}
		}
		return nil
	}
	if err := exchange(allocWarmup); err != nil {
		return nil, err
	}
	m := startMeter()
	if err := exchange(s.Count); err != nil {
		return nil, err
	}
	u := m.stop()
	return values{
		"mallocs": float64(u.mallocs) / float64(s.Count),
		"bytes":   float64(u.bytes) / float64(s.Count),
	}, nil
}

// clientDials opens connections, each for one exchange, one after the other in
// each of s.Parallel goroutines.
func clientDials(s *spec, c *contender, e *env) (values, error) {
	var (
		count    atomic.Int64
		resumed  atomic.Int64
		failure  atomic.Pointer[error]
		wg       sync.WaitGroup
		deadline time.Time
		prof     = newProfile(s)
	)
	dial := func(i int) error {
		x, err := c.open(e, s.Addrs[i%len(s.Addrs)])
		if err != nil {
			return fmt.Errorf("dial: %w", err)
		}
		var req, resp [1]byte
		if err := x.Exchange(req[:], resp[:]); err != nil {
			x.Close()
			return fmt.Errorf("exchange: %w", err)
		}
		if s.Test == "handshakes" && didResume(x) {
			resumed.Add(1)
		}
		return x.Close()
	}
	for i := range 20 {
		if err := dial(i); err != nil {
			return nil, err
		}
	}
	resumed.Store(0)
	prof.start()
	m := startMeter()
	deadline = m.at.Add(s.Duration)
	for g := range s.Parallel {
		wg.Go(func() {
			// At least one, however late this begins.
			for i := g; (i == g || time.Now().Before(deadline)) && failure.Load() == nil; i++ {
				if err := dial(i); err != nil {
					failure.CompareAndSwap(nil, &err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	u := m.stop()
	prof.stop()
	if err := failure.Load(); err != nil {
		return nil, fmt.Errorf("after %d dials: %w", count.Load(), *err)
	}
	n := float64(count.Load())
	if s.Test == "handshakes" && s.Resume != (resumed.Load() > 0) {
		return nil, fmt.Errorf("%d of %.0f handshakes were resumed", resumed.Load(), n)
	}
	return values{
		"rate":    n / u.wall.Seconds(),
		"cpu":     u.cpu.Seconds() * 1e6 / n,
		"mallocs": float64(u.mallocs) / n,
		"resumed": float64(resumed.Load()) / n,
	}, nil
}

// clientIdle opens s.Count connections, uses each once and keeps them.
func clientIdle(s *spec, c *contender, e *env) (values, any, error) {
	start := readMemory()
	held := make([]stream, s.Count)
	var (
		next    atomic.Int64
		failure atomic.Pointer[error]
		wg      sync.WaitGroup
	)
	for range 16 {
		wg.Go(func() {
			for failure.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= s.Count {
					return
				}
				st, err := idleDial(c, e, s.Addrs[i%len(s.Addrs)])
				if err != nil {
					failure.CompareAndSwap(nil, &err)
					return
				}
				held[i] = st
			}
		})
	}
	wg.Wait()
	if err := failure.Load(); err != nil {
		return nil, nil, *err
	}
	if s.Reader {
		for _, st := range held {
			go blockInRead(st)
		}
	}
	time.Sleep(idleRest)
	v := readMemory().perConn(start, s.Count)
	heapProfile(s)
	return v, held, nil
}

func idleDial(c *contender, e *env, addr string) (stream, error) {
	st, err := c.dial(e, addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	buf := idleBuffers.Get().(*[idleExchange]byte)
	defer idleBuffers.Put(buf)
	x := streamExchanger{st}
	if err := x.Exchange(buf[:], buf[:]); err != nil {
		return nil, fmt.Errorf("exchange: %w", err)
	}
	return st, nil
}
