package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Latency over a link: of requests and answers, one at a time, and of small messages at a
// steady rate. On a stream a lost packet delays the messages behind it; contenders that have
// messages of their own take part with those too.

// linkTests are what can be measured over a link, by the name of -link-tests.
var linkTests = map[string]string{
	"bulk": "link", "rr": "link-rr", "messages": "link-messages",
	"moves": "link-moves", "dials": "link-dials", "idle": "link-idle",
	"short": "link-short", "start": "link-start",
}

const (
	linkMessage  = 200                   // bytes
	linkInterval = 10 * time.Millisecond // from one message to the next
	linkRequest  = 64
)

// setLinkTests parses -link-tests.
func (o *options) setLinkTests(text string) error {
	for _, name := range splitList(text) {
		test, ok := linkTests[name]
		if !ok {
			return fmt.Errorf("no test %q over a link; there are bulk, rr, messages, short, start, moves, dials, idle", name)
		}
		o.linkTests = append(o.linkTests, test)
	}
	return nil
}

// isLinkTest reports whether the test is one over a link.
func (s *spec) isLinkTest() bool {
	for _, test := range linkTests {
		if s.Test == test {
			return true
		}
	}
	return false
}

// linkSize returns the size of what is written at once.
func linkSize(test string) int {
	switch test {
	case "link-rr", "link-dials":
		return linkRequest
	case "link-idle":
		return idleExchange
	case "link-short":
		return shortRequest
	case "link-messages":
		return linkMessage
	}
	return bulkBuffer
}

// linkPort returns how small messages travel on a stream.
func (c *contender) linkPort(s stream) messagePort {
	if c.messages != nil {
		return c.messages(s)
	}
	return streamMessages{s}
}

// streamMessages are of one size, one after the other on a stream.
type streamMessages struct{ s stream }

func (m streamMessages) Send(p []byte) error {
	_, err := m.s.Write(p)
	return err
}

func (m streamMessages) Receive() ([]byte, error) {
	p := make([]byte, linkMessage)
	_, err := io.ReadFull(m.s, p)
	return p, err
}

// serveLinkMessages sends messages on time. Each begins with when it was due: one that
// waited for Send counts from then.
func serveLinkMessages(port messagePort) {
	msg := make([]byte, linkMessage)
	fillPattern(msg)
	for due := time.Now(); ; due = due.Add(linkInterval) {
		time.Sleep(time.Until(due))
		binary.BigEndian.PutUint64(msg, uint64(due.UnixNano()))
		if err := port.Send(msg); err != nil {
			return
		}
	}
}

// clientLinkMessages takes the time from each message's due time to its arrival. Both ends
// have the same clock.
func clientLinkMessages(s *spec, c *contender, e *env) (values, any, error) {
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, nil, err
	}
	port := c.linkPort(st)
	var samples []uint32
	read := func() error {
		var end time.Time
		for end.IsZero() || time.Now().Before(end) {
			msg, err := port.Receive()
			if err == nil && len(msg) != linkMessage {
				err = fmt.Errorf("a message of %d bytes", len(msg))
			}
			if err != nil {
				return fmt.Errorf("after %d messages: %w", len(samples), err)
			}
			now := time.Now()
			if end.IsZero() {
				end = now.Add(s.Duration)
			}
			d := now.UnixNano() - int64(binary.BigEndian.Uint64(msg))
			samples = append(samples, uint32(max(0, min(d, 1<<32-1))))
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- read() }()
	select {
	case err := <-done:
		if err != nil {
			return nil, nil, err
		}
	case <-time.After(s.Duration + linkPatience):
		return nil, nil, errors.New("the messages do not come any more")
	}
	slices.Sort(samples)
	v := values{
		"n":   float64(len(samples)),
		"p50": percentile(samples, 0.50), "p90": percentile(samples, 0.90),
		"p99": percentile(samples, 0.99), "max": percentile(samples, 1),
		"total": float64(len(samples) * linkMessage),
	}
	for _, q := range latencyQuantiles {
		v[quantileKey(q)] = percentile(samples, q)
	}
	return v, st, nil
}

// latencyQuantiles are for the plot.
var latencyQuantiles = []float64{
	0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999,
}

func quantileKey(q float64) string { return fmt.Sprintf("q.%g", q) }

// clientLinkRoundTrips is the test of round trips, with fewer figures.
func clientLinkRoundTrips(s *spec, c *contender, e *env) (values, error) {
	v, err := clientRoundTrips(s, c, e)
	if err != nil {
		return nil, err
	}
	n := v["rate"] * s.Duration.Seconds()
	return values{
		"n": n, "p50": v["p50"], "p90": v["p90"], "p99": v["p99"], "max": v["max"], "total": n * linkRequest,
	}, nil
}

var linkLatencyHead = []string{"", "p50 ms", "p90 ms", "p99 ms", "max ms", "samples", "sent", "back", "late %", "overruns"}

func (g *group) linkLatencyCells(r *row) []string {
	ms := func(key string) string { return fmt.Sprintf("%.1f", r.Median[key]/1e3) }
	f := func(format, key string) string { return fmt.Sprintf(format, r.Median[key]) }
	return []string{
		ms("p50"), ms("p90"), ms("p99") + rounds(r, "p99", 1e-3), ms("max"), f("%.0f", "n"),
		f("%.2f", "sent"), f("%.2f", "back"), f("%.2f", "late"), f("%.0f", "overruns"),
	}
}
