package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// defaultBase is what all contenders are compared to.
const defaultBase = "tcp"

// A group is one test of one size: the contenders that are measured in turn.
type group struct {
	ID      string // such as bulk-65536
	Spec    spec
	Base    string    // the contender to which all others are compared
	Link    *linkSpec `json:",omitempty"`
	Rounds  int
	Rows    []*row
	Steal   float64 // share of all CPU time that the hypervisor took, in percent
	Load    float64 // load average at the end
	Seconds float64 // that it took
}

// A row is a contender's part in a group.
type row struct {
	Contender string
	Flows     []string `json:",omitempty"` // of a test over a link, several contenders at once
	Error     string   `json:",omitempty"` // it failed, and sat out the rest
	Rounds    []values // nil for a round without figures
	Median    values
}

// groupID returns the name of the group that s belongs to.
func (s *spec) groupID() string {
	switch s.Test {
	case "dials":
		return fmt.Sprintf("dials-%d", s.Parallel)
	case "handshakes":
		if s.Resume {
			return "handshakes-resumed"
		}
		return "handshakes-full"
	case "idle":
		if s.Reader {
			return "idle-reader"
		}
		return "idle"
	}
	if s.isLinkTest() {
		return s.Test
	}
	return fmt.Sprintf("%s-%d", s.Test, s.Size)
}

// id returns the name of what s measures, for files.
func (s *spec) id() string {
	if s.Contender == "" {
		return s.groupID()
	}
	return s.groupID() + "-" + s.Contender
}

func newGroup(s spec, names []string, rounds int) *group {
	g := &group{ID: s.groupID(), Spec: s, Base: defaultBase, Rounds: rounds}
	for _, name := range names {
		g.Rows = append(g.Rows, &row{Contender: name})
	}
	return g
}

func (g *group) row(name string) *row {
	for _, r := range g.Rows {
		if r.Contender == name {
			return r
		}
	}
	return nil
}

// A controller starts workers and collects what they measure.
type controller struct {
	options   *options
	cert, key []byte
	dir       string // for sockets
	fileLimit int
}

func newController(o *options) (*controller, error) {
	c := &controller{options: o, fileLimit: raiseFileLimit()}
	var err error
	if c.cert, c.key, err = newCertificate(); err != nil {
		return nil, err
	}
	if o.profileDir != "" {
		if err := os.MkdirAll(o.profileDir, 0o755); err != nil {
			return nil, err
		}
	}
	c.dir, err = os.MkdirTemp("", "vstp")
	return c, err
}

func (c *controller) close() { os.RemoveAll(c.dir) }

func (c *controller) runGroup(ctx context.Context, g *group) error {
	start, stat := time.Now(), readCPUStat()
	if (strings.HasSuffix(g.Spec.Test, "rr") || g.Link != nil) && c.options.spin {
		s := spec{Role: "spin", GiveUp: time.Hour}
		w, err := startWorker(ctx, &s, nil)
		if err != nil {
			return err
		}
		defer w.end()
	}
	if len(g.Spec.Names) > 0 {
		if err := c.runFine(ctx, g); err != nil {
			return err
		}
	} else if err := c.runRounds(ctx, g); err != nil {
		return err
	}
	for _, r := range g.Rows {
		r.Median = medians(r.Rounds)
	}
	end := readCPUStat()
	if total := end.total - stat.total; total > 0 {
		g.Steal = 100 * float64(end.steal-stat.steal) / float64(total)
	}
	g.Load = loadAverage()
	g.Seconds = math.Round(time.Since(start).Seconds())
	return nil
}

// runRounds measures all contenders of g in turn, each in processes of its own.
func (c *controller) runRounds(ctx context.Context, g *group) error {
	for round := range g.Rounds {
		for i := range g.Rows {
			// Who comes first changes with the round.
			r := g.Rows[(i+round)%len(g.Rows)]
			if r.Error != "" {
				continue
			}
			v, err := c.runRow(ctx, g, r, round)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for len(r.Rounds) < round {
				r.Rounds = append(r.Rounds, nil)
			}
			if err != nil {
				r.Error = err.Error()
			} else {
				r.Rounds = append(r.Rounds, v)
			}
			c.progress(g, round, r, v)
		}
	}
	return nil
}

// runRow measures one contender, or several over a link, once.
func (c *controller) runRow(ctx context.Context, g *group, r *row, round int) (values, error) {
	if g.Link != nil {
		return c.runLink(ctx, g, r, round)
	}
	return c.runCell(ctx, g.Spec, r.Contender)
}

// runFine measures all contenders of g in one pair of processes.
func (c *controller) runFine(ctx context.Context, g *group) error {
	got, _, err := c.runPair(ctx, g.Spec)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, r := range g.Rows {
		if r.Error != "" {
			continue // it did not take part
		}
		if err != nil {
			r.Error = err.Error()
			continue
		}
		r.Rounds = got.Fine[r.Contender]
		if !c.options.quiet {
			m := medians(r.Rounds)
			fmt.Fprintf(os.Stderr, "%-12s %d  %-16s %.0f MB/s, p50 %.1f us\n", g.ID, g.Rounds, r.Contender, m["mbps"], m["p50"])
		}
	}
	return nil
}

func (c *controller) progress(g *group, round int, r *row, v values) {
	if c.options.quiet {
		return
	}
	what := "failed: " + r.Error
	switch {
	case r.Error != "":
	case g.Spec.Test == "bulk":
		what = fmt.Sprintf("%.0f MB/s", v["mbps"])
	case g.Spec.Test == "message":
		what = fmt.Sprintf("%.0f ms", v["ms"])
	case g.Link != nil:
		what = linkProgress(r, v)
	case g.Spec.Test == "rr":
		what = fmt.Sprintf("p50 %.1f us", v["p50"])
	case g.Spec.Test == "dials" || g.Spec.Test == "handshakes":
		what = fmt.Sprintf("%.0f/s", v["rate"])
	case g.Spec.Test == "allocs":
		what = fmt.Sprintf("%.2f + %.2f", v["mallocs"], v["server.mallocs"])
	case g.Spec.Test == "idle":
		what = fmt.Sprintf("%.1f KiB", v["server.heap"]+v["server.stack"])
	}
	fmt.Fprintf(os.Stderr, "%-12s %d/%d  %-16s %s\n", g.ID, round+1, g.Rounds, r.Contender, what)
}

// runCell measures one contender once. The server's figures get the prefix "server.".
func (c *controller) runCell(ctx context.Context, s spec, name string) (values, error) {
	s.Contender = name
	if s.Test == "idle" {
		s.Count = min(s.Count, c.fileLimit-200)
		if contenderNamed(name).has("moves") {
			s.Count = min(s.Count, (c.fileLimit-200)/2) // two sockets each
		}
		if limit := contenderNamed(name).idleConns; limit > 0 {
			s.Count = min(s.Count, limit)
		}
	}
	fromClient, fromServer, err := c.runPair(ctx, s)
	if err != nil {
		return nil, err
	}
	v := fromClient.Values
	for k, x := range fromServer.Values {
		v["server."+k] = x
	}
	switch s.Test {
	case "bulk", "message":
		v["cpu.both"] = v["cpu"] + v["server.cpu"]
		if v["total"] != v["server.total"] && !contenderNamed(name).lossy {
			return nil, fmt.Errorf("%.0f bytes were written and %.0f read", v["server.total"], v["total"])
		}
	case "handshakes":
		v["server.cpu"] *= 1e6 / v["server.accepted"]
		v["cpu.both"] = v["cpu"] + v["server.cpu"]
	case "idle":
		v["conns"] = float64(s.Count)
	}
	return v, nil
}

// runPair runs a server and a client and returns what they say.
func (c *controller) runPair(ctx context.Context, s spec) (fromClient, fromServer *line, err error) {
	s.CertPEM, s.KeyPEM = c.cert, c.key
	s.Dir = c.dir
	s.GiveUp = s.Duration + 5*time.Minute
	if c.options.profileDir != "" {
		s.Profile = filepath.Join(c.options.profileDir, s.id())
	}
	s.Role = "server"
	server, err := c.start(ctx, &s)
	if err != nil {
		return nil, nil, err
	}
	defer server.end()
	ready, err := server.read()
	if err != nil {
		return nil, nil, fmt.Errorf("server: %w", err)
	}
	s.Role = "client"
	s.Addrs = ready.Addrs
	client, err := c.start(ctx, &s)
	if err != nil {
		return nil, nil, err
	}
	defer client.end()
	fromClient, err = client.read()
	if err != nil {
		// The server may know better what went wrong.
		server.stop()
		if _, serr := server.read(); serr != nil {
			return nil, nil, fmt.Errorf("client: %w; server: %w", err, serr)
		}
		return nil, nil, fmt.Errorf("client: %w", err)
	}
	if len(s.Names) > 0 {
		client.stop() // closes the connections, on which the server waits
	}
	server.stop()
	fromServer, err = server.read()
	if err != nil {
		return nil, nil, fmt.Errorf("server: %w", err)
	}
	return fromClient, fromServer, nil
}

// A worker is a process of this program with a role.
type worker struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	stderr *tailBuffer
	ended  bool
}

// start starts a server or a client, under the command of -wrap if there is one.
func (c *controller) start(ctx context.Context, s *spec) (*worker, error) {
	return startWorker(ctx, s, c.wrap(s))
}

func (c *controller) wrap(s *spec) []string {
	var wrap []string
	for f := range strings.FieldsSeq(c.options.wrap) {
		wrap = append(wrap, strings.ReplaceAll(f, "%", s.id()+"-"+s.Role))
	}
	return wrap
}

func startWorker(ctx context.Context, s *spec, wrap []string) (*worker, error) {
	w, err := newWorker(ctx, s, wrap)
	if err != nil {
		return nil, err
	}
	return w, w.cmd.Start()
}

// newWorker prepares a worker that is yet to be started.
func newWorker(ctx context.Context, s *spec, wrap []string) (*worker, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append(wrap, exe)
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.CommandContext(ctx, args[0], args[1:]...), stderr: new(tailBuffer)}
	w.cmd.Env = append(os.Environ(), workerEnv+"="+string(text))
	w.cmd.Stderr = w.stderr
	w.cmd.WaitDelay = 5 * time.Second
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.lines = bufio.NewScanner(stdout)
	w.lines.Buffer(nil, 64<<20) // a fine test returns all its rounds in one line
	return w, nil
}

// read waits for the next line of the worker.
func (w *worker) read() (*line, error) {
	if !w.lines.Scan() {
		err := w.end()
		if err == nil {
			err = errors.New("the process ended early")
		}
		if text := w.stderr.firstLine(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, err
	}
	var l line
	if err := json.Unmarshal(w.lines.Bytes(), &l); err != nil {
		return nil, err
	}
	if l.Error != "" {
		return nil, errors.New(l.Error)
	}
	return &l, nil
}

// stop tells the worker that it is time to finish.
func (w *worker) stop() { w.stdin.Close() }

// end stops the worker and waits for its end, with a push if it takes long.
func (w *worker) end() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.stop()
	push := time.AfterFunc(10*time.Second, func() { w.cmd.Process.Kill() })
	defer push.Stop()
	return w.cmd.Wait()
}

// A tailBuffer keeps the beginning of what a worker prints to stderr.
type tailBuffer struct{ b bytes.Buffer }

func (t *tailBuffer) Write(p []byte) (int, error) {
	if room := 4096 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *tailBuffer) firstLine() string {
	l, _, _ := strings.Cut(strings.TrimSpace(t.b.String()), "\n")
	return l
}
