package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"
)

// The fine tests keep connections of all contenders open between two processes
// and take turns in slices of some ten milliseconds. What disturbs the machine for
// longer than that disturbs all alike, so that ratios come out far sharper than
// with a process for each. Only contenders that are streams both ways take part.

const (
	fineBulk = 'b' // the server writes n bytes
	fineEcho = 'e' // the server answers n requests

	// fineWarmup is the part of a slice's bytes that comes before the clock starts.
	fineWarmup = 8

	// fineHead is a request: what, and 8 bytes of n.
	fineHead = 9
)

// slice is how long a turn shall take.
func (s *spec) slice() time.Duration { return min(40*time.Millisecond, s.Duration) }

// serveFine serves requests until the stream ends. Each ends with the CPU time that
// this process took for it, in nanoseconds.
func (srv *server) serveFine(s stream) error {
	buf := make([]byte, srv.spec.Size)
	fillPattern(buf)
	var head [fineHead]byte
	for {
		if _, err := io.ReadFull(s, head[:]); err != nil {
			if isClosed(err) {
				return s.Close()
			}
			return err
		}
		start := cpuTime()
		n := int(binary.BigEndian.Uint64(head[1:]))
		switch head[0] {
		case fineBulk:
			for ; n > 0; n -= len(buf) {
				if _, err := s.Write(buf[:min(n, len(buf))]); err != nil {
					return err
				}
			}
		case fineEcho:
			if err := echo(s, buf, n); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown request %q", head[0])
		}
		var tail [8]byte
		binary.BigEndian.PutUint64(tail[:], uint64(cpuTime()-start))
		if _, err := s.Write(tail[:]); err != nil {
			return err
		}
	}
}

// A fineClient is the client's side of one contender.
type fineClient struct {
	name    string
	s       stream
	n       int // bytes or round trips of a slice
	buf     []byte
	resp    []byte
	samples []uint32
	rounds  []values
}

// clientFine measures all contenders of the spec and returns their rounds by name.
func clientFine(s *spec, e *env) (map[string][]values, error) {
	var clients []*fineClient
	for i, name := range s.Names {
		st, err := contenderNamed(name).dial(e, s.Addrs[i])
		if err != nil {
			return nil, fmt.Errorf("%s: dial: %w", name, err)
		}
		defer st.Close()
		size := s.Size
		if s.fineRequest() == fineBulk {
			size = bulkBuffer
		}
		c := &fineClient{name: name, s: st, buf: make([]byte, size), resp: make([]byte, size)}
		fillPattern(c.buf)
		clients = append(clients, c)
	}
	for _, c := range clients {
		if err := c.calibrate(s); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for round := range s.Count {
		for i := range clients {
			c := clients[(i+round)%len(clients)]
			v, err := c.turn(s)
			if err != nil {
				return nil, fmt.Errorf("%s: round %d: %w", c.name, round, err)
			}
			c.rounds = append(c.rounds, v)
		}
	}
	all := make(map[string][]values)
	for _, c := range clients {
		all[c.name] = c.rounds
	}
	return all, nil
}

// fineRequest returns what is asked of the server.
func (s *spec) fineRequest() byte {
	if s.Test == "fine-rr" {
		return fineEcho
	}
	return fineBulk
}

// calibrate finds out how much fits into a slice.
func (c *fineClient) calibrate(s *spec) error {
	c.n = 64
	if s.fineRequest() == fineBulk {
		c.n = 1 << 20
	}
	for range 12 {
		start := time.Now()
		if _, err := c.turn(s); err != nil {
			return err
		}
		d := time.Since(start)
		if d >= s.slice()/2 {
			c.n = max(1, int(float64(c.n)*float64(s.slice())/float64(d)))
			return nil
		}
		c.n *= 2
	}
	return nil
}

func (c *fineClient) turn(s *spec) (values, error) {
	var head [fineHead]byte
	head[0] = s.fineRequest()
	binary.BigEndian.PutUint64(head[1:], uint64(c.n))
	cpu := cpuTime()
	if _, err := c.s.Write(head[:]); err != nil {
		return nil, err
	}
	var v values
	var err error
	if head[0] == fineBulk {
		v, err = c.turnBulk()
	} else {
		v, err = c.turnEcho()
	}
	if err != nil {
		return nil, err
	}
	cpu = cpuTime() - cpu
	var tail [8]byte
	if _, err := io.ReadFull(c.s, tail[:]); err != nil {
		return nil, err
	}
	// For 10^9 bytes in seconds, for a round trip in microseconds.
	unit := 1.0
	if head[0] == fineEcho {
		unit = 1e-3
	}
	v["cpu"] = float64(cpu) / float64(c.n) * unit
	v["server.cpu"] = float64(binary.BigEndian.Uint64(tail[:])) / float64(c.n) * unit
	v["cpu.both"] = v["cpu"] + v["server.cpu"]
	return v, nil
}

func (c *fineClient) turnBulk() (values, error) {
	var start time.Time
	timed := 0
	for left := c.n; left > 0; {
		n, err := c.s.Read(c.buf[:min(left, len(c.buf))])
		if err != nil {
			return nil, err
		}
		left -= n
		switch {
		case !start.IsZero():
			timed += n
		case c.n-left >= c.n/fineWarmup:
			start = time.Now()
		}
	}
	return values{"mbps": float64(timed) / 1e6 / time.Since(start).Seconds()}, nil
}

func (c *fineClient) turnEcho() (values, error) {
	x := streamExchanger{c.s}
	c.samples = c.samples[:0]
	for last := time.Now(); len(c.samples) < c.n; {
		if err := x.Exchange(c.buf, c.resp); err != nil {
			return nil, err
		}
		now := time.Now()
		c.samples = append(c.samples, uint32(min(now.Sub(last), 1<<32-1)))
		last = now
	}
	slices.Sort(c.samples)
	return values{"p50": percentile(c.samples, 0.50), "p99": percentile(c.samples, 0.99)}, nil
}
