package auto

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vstp-go/vstp/reliable"
)

// A trace is what happens to two carriers, and what a Decider is expected to do. Its
// text has one line for each step, in the order of time; # begins a comment:
//
//	config [prefer=C] [pin=C] [follower]
//	start C                                first active carrier; udp if there is none
//	at T udp|tcp KEY[=VALUE] ...           what changes on a carrier
//	at T traffic full|N/s|pingpong|idle    what the session sends
//	at T force C | peer C | pin C | unpin
//	until T
//	want FROM..TO C REASON                 a move, in order; none but these
//	most N                                 instead of want: at most N moves
//	least N                                and at least N
//
// Keys of a carrier: up, down, attached, detached, gone, large (only small ones pass),
// fine (that ends), errors (sending fails), rtt=D, loss=F, rate=F (bytes/s).
type trace struct {
	cfg         Config
	start       reliable.Carrier
	steps       []step
	until       time.Duration
	wants       []want
	most, least int // -1 not given
}

type step struct {
	at   time.Duration
	what string // "udp", "tcp", "traffic", "force", "peer", "pin", "unpin"
	args []string
}

type want struct {
	from, to time.Duration
	carrier  reliable.Carrier
	reason   string
}

var errTrace = errors.New("malformed trace")

func parseTrace(text string) (*trace, error) {
	tr := &trace{most: -1, least: -1}
	sc := bufio.NewScanner(strings.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if err := tr.parseLine(f[0], f[1:]); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return tr, sc.Err()
}

func (tr *trace) parseLine(what string, f []string) (err error) {
	if what != "config" && len(f) == 0 {
		return errTrace
	}
	switch what {
	case "config":
		return tr.parseConfig(f)
	case "start":
		tr.start, err = carrierNamed(f[0])
	case "until":
		tr.until, err = time.ParseDuration(f[0])
	case "most":
		tr.most, err = strconv.Atoi(f[0])
	case "least":
		tr.least, err = strconv.Atoi(f[0])
	case "at":
		return tr.parseStep(f)
	case "want":
		return tr.parseWant(f)
	default:
		return errTrace
	}
	return err
}

func (tr *trace) parseConfig(f []string) (err error) {
	for _, s := range f {
		key, value, _ := strings.Cut(s, "=")
		switch key {
		case "follower":
			tr.cfg.Follower = true
		case "prefer":
			tr.cfg.Prefer, err = carrierNamed(value)
		case "pin":
			tr.cfg.Pinned = true
			tr.cfg.Pin, err = carrierNamed(value)
		default:
			return errTrace
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (tr *trace) parseStep(f []string) error {
	if len(f) < 2 {
		return errTrace
	}
	at, err := time.ParseDuration(f[0])
	if err != nil || at < 0 || len(tr.steps) > 0 && at < tr.steps[len(tr.steps)-1].at {
		return errTrace
	}
	s := step{at: at, what: f[1], args: f[2:]}
	// Running it once finds mistakes.
	if err := newWorld(&trace{}).do(s); err != nil {
		return err
	}
	tr.steps = append(tr.steps, s)
	return nil
}

func (tr *trace) parseWant(f []string) (err error) {
	if len(f) < 3 {
		return errTrace
	}
	var w want
	from, to, ok := strings.Cut(f[0], "..")
	if !ok {
		return errTrace
	}
	if w.from, err = time.ParseDuration(from); err != nil {
		return err
	}
	if w.to, err = time.ParseDuration(to); err != nil {
		return err
	}
	w.carrier, err = carrierNamed(f[1])
	w.reason = strings.Join(f[2:], " ")
	tr.wants = append(tr.wants, w)
	return err
}

func carrierNamed(s string) (reliable.Carrier, error) {
	switch s {
	case "udp":
		return reliable.Datagrams, nil
	case "tcp":
		return reliable.ByteStream, nil
	}
	return 0, errTrace
}

// do lets a step happen.
func (w *world) do(s step) (err error) {
	var c reliable.Carrier
	switch s.what {
	case "udp", "tcp":
		c, _ = carrierNamed(s.what)
		for _, a := range s.args {
			if err := w.c[c].set(a); err != nil {
				return err
			}
		}
		return nil
	case "unpin":
		w.d.SetPin(false, 0)
		return nil
	}
	if len(s.args) != 1 {
		return errTrace
	}
	if s.what == "traffic" {
		return w.setTraffic(s.args[0])
	}
	if c, err = carrierNamed(s.args[0]); err != nil {
		return err
	}
	switch s.what {
	case "force":
		w.moved(c, ReasonForced)
	case "peer":
		w.moved(c, ReasonPeer)
	case "pin":
		w.d.SetPin(true, c)
	default:
		return errTrace
	}
	return nil
}

func (w *world) setTraffic(s string) error {
	w.full, w.pingpong, w.perSecond = false, false, 0
	switch s {
	case "full":
		w.full = true
	case "pingpong":
		w.pingpong = true
	case "idle":
	default:
		n, err := strconv.ParseUint(strings.TrimSuffix(s, "/s"), 10, 16)
		if err != nil || !strings.HasSuffix(s, "/s") {
			return errTrace
		}
		w.perSecond = float64(n)
	}
	return nil
}

// set changes a carrier.
func (c *simCarrier) set(arg string) (err error) {
	key, value, has := strings.Cut(arg, "=")
	switch key {
	case "up", "down":
		c.up = key == "up"
	case "attached":
		c.in.Attached, c.in.Gone, c.in.ProbesLost = true, false, 0
	case "detached":
		c.in.Attached = false
	case "gone":
		c.in.Gone = true
	case "large", "fine":
		c.large = key == "large"
		c.in.LargeLost, c.errors = false, false
	case "errors":
		c.errors = true
	case "rtt":
		c.rtt, err = time.ParseDuration(value)
		if c.rtt < time.Millisecond || c.rtt > time.Minute {
			return errTrace
		}
		return err
	case "loss", "rate":
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v >= 0 && v <= 1e9) {
			return errTrace
		}
		if key == "loss" {
			c.loss = v
		} else {
			c.rate = v
		}
		return nil
	default:
		return errTrace
	}
	if has {
		return errTrace
	}
	return nil
}
