package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A linkSpec is a link of -link: the same in both directions.
type linkSpec struct {
	Text string
	RTT  time.Duration

	NoUDP bool // it carries no UDP
	impairment
}

// A reportLink is one of those of "-link all", with the least share of its rate that this
// module wants to reach on it.
type reportLink struct {
	text string
	mark float64
}

var reportLinks = []reportLink{
	{"100mbit,40ms", 0.95},
	{"100mbit,40ms,loss=1%", 0.92},
	{"100mbit,40ms,loss=5%", 0.87},
	{"50mbit,200ms,loss=2%", 0.85},
	{"500mbit,10ms,loss=0.1%", 0.92},
	{"100mbit,40ms,loss=2%,burst=8", 0.80},
	{"100mbit,40ms,reorder=5%", 0.80},
	{"100mbit,40ms,jitter=20ms", 0.80},
}

// parseLink parses a rate, a round-trip time, queue=N with a unit of bdp, kb or b, what
// happens to packets (loss=P%, burst=N, reorder=P%, jitter=T, unordered) and noudp, in any
// order. The queue is one BDP (rate times round trip) if not given.
func parseLink(text string) (*linkSpec, error) {
	l := &linkSpec{Text: text}
	queue := "1bdp"
	for f := range strings.SplitSeq(text, ",") {
		f = strings.ToLower(strings.TrimSpace(f))
		key, value, named := strings.Cut(f, "=")
		var err error
		switch {
		case named && key == "queue":
			queue = value
		case named:
			err = l.set(key, value)
		case f == "noudp":
			l.NoUDP = true
		case f == "unordered":
			l.Unordered = true
		case strings.HasSuffix(f, "bit"):
			l.Rate, err = quantity(f, map[string]float64{"kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8})
		default:
			l.RTT, err = duration(f)
			l.Delay = l.RTT / 2
		}
		if err != nil {
			return nil, fmt.Errorf("link %q: %q: %w", text, f, err)
		}
	}
	bytes, err := quantity(queue, map[string]float64{"bdp": l.bdp(), "b": 1, "kb": 1e3, "mb": 1e6})
	if err != nil {
		return nil, fmt.Errorf("link %q: queue: %w", text, err)
	}
	l.Queue = int(bytes)
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("link %q: %w", text, err)
	}
	return l, nil
}

// set takes one of the settings that have a name.
func (l *linkSpec) set(key, value string) (err error) {
	switch key {
	case "loss":
		l.Loss, err = probability(value)
	case "burst":
		l.Burst, err = quantity(value, map[string]float64{"": 1})
		if err == nil && l.Burst < 1 {
			err = errors.New("less than one packet")
		}
	case "reorder":
		l.Reorder, err = probability(value)
	case "jitter":
		l.Jitter, err = duration(value)
	default:
		err = errors.New("unknown")
	}
	return err
}

// check says what does not go together.
func (l *linkSpec) check() error {
	switch {
	case l.Burst > 0 && l.Loss == 0:
		return errors.New("bursts of nothing: burst needs loss")
	case l.Burst > 0 && l.Loss > l.Burst/(l.Burst+1):
		return fmt.Errorf("bursts of %.4g packets are at most %.4g %% of all", l.Burst, 100*l.Burst/(l.Burst+1))
	case l.Unordered && l.Jitter == 0:
		return errors.New("unordered needs jitter")
	}
	return nil
}

func probability(s string) (float64, error) {
	p, err := quantity(s, map[string]float64{"%": 0.01})
	if err == nil && p > 1 {
		err = errors.New("more than all")
	}
	return p, err
}

func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return d, err
}

// quantity parses a number that is not negative, with one of the units.
func quantity(s string, units map[string]float64) (float64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz%")
	factor, ok := units[s[len(digits):]]
	x, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || x < 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0, fmt.Errorf("%q is not a number with a unit", s)
	}
	return x * factor, nil
}

// bdp returns the bandwidth-delay product in bytes.
func (l *linkSpec) bdp() float64 { return l.Rate * l.RTT.Seconds() }

// payload is the share of a full IP packet that is not headers.
const payload = 0.965

// goodput returns what the link can carry of a stream, in bytes per second.
func (l *linkSpec) goodput() float64 { return l.Rate * (1 - l.Loss) * payload }

func (o *options) addLink(text string) error {
	texts := []string{text}
	if text == "all" {
		texts = nil
		for _, l := range reportLinks {
			texts = append(texts, l.text)
		}
	}
	for _, t := range texts {
		l, err := parseLink(t)
		if err != nil {
			return err
		}
		o.links = append(o.links, l)
	}
	return nil
}

// maxFlows is how many contenders may share a link.
const maxFlows = 64

// parseFlows parses a set of contenders that share a link, such as tcp-bbr+2*vstp-rudp.
func parseFlows(set string) ([]string, error) {
	var flows []string
	for f := range strings.SplitSeq(set, "+") {
		n, name := 1, f
		if times, rest, found := strings.Cut(f, "*"); found {
			var err error
			if n, err = strconv.Atoi(times); err != nil || n < 1 || n > maxFlows {
				return nil, fmt.Errorf("%q is not a number of flows", times)
			}
			name = rest
		}
		if c := contenderNamed(name); c == nil || !c.has("link") {
			return nil, fmt.Errorf("%q cannot share a link; -list shows who can", name)
		}
		for range n {
			flows = append(flows, name)
		}
	}
	if len(flows) > maxFlows {
		return nil, fmt.Errorf("%d flows are too many", len(flows))
	}
	return flows, nil
}
