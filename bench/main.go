// Command bench measures vstp beside raw TCP and UDP, TLS, yamux, HTTP, gRPC, QUIC, KCP and SCTP.
//
// Server and client are separate processes on loopback: the command executes
// itself. The contenders take turns within each round, so that whatever else the
// machine does hits all alike, and ratios are taken within a round. See README.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	only, tests       []string
	sizes, rrSizes    []int
	messageSizes      []int
	base              string
	links             []*linkSpec
	linkTests         []string
	flows             [][]string
	stagger           time.Duration
	seed              uint64
	rounds, fine      int
	duration          time.Duration
	idle, idleRounds  int
	allocs            int
	spin              bool
	profileDir, wrap  string
	flood             bool
	floodKinds        []string
	floodRate         int
	floodLimit        float64
	jsonFile, outFile string
	quiet             bool
	suite             string
	resume            bool
	check             bool
	boundsFile        string
}

// allTests are the tests in the order in which they run.
var allTests = []string{"fine-bulk", "bulk", "fine-rr", "rr", "message", "allocs", "dials", "handshakes", "idle"}

func main() {
	if text := os.Getenv(workerEnv); text != "" {
		workerMain(text)
	}
	if err := run(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	o, err := parseFlags(args)
	if err != nil || o == nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	c, err := newController(o)
	if err != nil {
		return err
	}
	defer c.close()
	if o.flood {
		return c.runFlood(ctx, args)
	}
	if o.suite != "" {
		return c.runSuite(ctx, args)
	}
	if o.check {
		return c.runCheck(ctx)
	}
	res := newResult(args)
	groups := o.linkGroups()
	if len(o.links) == 0 {
		for _, test := range o.tests {
			groups = append(groups, o.groups(test)...)
		}
	} else if err := canLink(); err != nil {
		return err
	}
	for _, g := range groups {
		if err := c.runGroup(ctx, g); err != nil {
			return err
		}
		res.Groups = append(res.Groups, g)
	}
	res.finish()
	report := res.markdown()
	fmt.Print(report)
	if o.jsonFile != "" {
		if err := writeJSON(o.jsonFile, res); err != nil {
			return err
		}
	}
	if o.outFile != "" {
		return os.WriteFile(o.outFile, []byte(report), 0o644)
	}
	return nil
}

// parseFlags returns nil options if there is nothing to run.
func parseFlags(args []string) (*options, error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	var (
		o              options
		only, tests    string
		sizes, rrSizes string
		messageSizes   string
		flows          string
		linkTests      string
		floods         string
		seconds        float64
		list           bool
	)
	fs.StringVar(&only, "only", "", "comma-separated contenders (default all); ratios need tcp, and tls or unix, among them")
	fs.StringVar(&tests, "tests", strings.Join(allTests, ","), "comma-separated tests; or moves: the link of the same name of -link-tests (Linux, root)")
	fs.StringVar(&sizes, "sizes", "65536", "comma-separated sizes of a Write in the bulk test")
	fs.StringVar(&rrSizes, "rr-sizes", "64,65536", "comma-separated sizes of a request and its answer")
	fs.StringVar(&messageSizes, "message-sizes", "100000000", "comma-separated sizes of a message")
	fs.StringVar(&o.base, "base", defaultBase, "the contender to which all others are compared")
	fs.Func("link", "measure over an emulated `link` instead, such as 100mbit,40ms,loss=1%,queue=1bdp or 100mbit,40ms,noudp; may be repeated; all: those of the report (Linux, root)", o.addLink)
	fs.StringVar(&linkTests, "link-tests", "bulk", "comma-separated tests over a link: bulk, rr (64 B there and back), messages (200 B, 100 a second), short (transfers of 10 KB to 1 MB), start (time until the rate is reached), moves (UDP is lost in the middle of a transfer), dials, idle")
	fs.StringVar(&flows, "flows", "", "comma-separated sets of contenders that share the link, each as vstp-rudp+tcp-cubic")
	fs.DurationVar(&o.stagger, "stagger", 0, "how much later each flow of a set begins; measured is when all run")
	fs.Uint64Var(&o.seed, "seed", 1, "what is lost on the link follows from this and the round")
	fs.IntVar(&o.rounds, "rounds", 5, "rounds of each test; all contenders take turns in each")
	fs.IntVar(&o.fine, "fine", 100, "rounds of the fine tests, in each of which a contender has about 40 ms")
	fs.Float64Var(&seconds, "seconds", 1, "seconds for one contender in one round (default over a link 10)")
	fs.IntVar(&o.idle, "idle", 10000, "connections of the idle test; contenders with TLS are content with 2,000")
	fs.IntVar(&o.idleRounds, "idle-rounds", 1, "rounds of the idle test")
	fs.IntVar(&o.allocs, "allocs", 5000, "round trips of the allocs test")
	fs.BoolVar(&o.spin, "spin", canSpin, "keep the CPUs awake with an idle-priority process during round trips")
	fs.BoolVar(&o.flood, "flood", false, "measure rudp while strangers flood the listener instead (Linux, root)")
	fs.IntVar(&o.floodRate, "flood-rate", 100_000, "datagrams a second of the flood")
	fs.Float64Var(&o.floodLimit, "flood-limit", 0, "MB a second of the transfer during the flood (default as fast as it goes)")
	fs.StringVar(&floods, "flood-kinds", "", "comma-separated kinds of flood: hello, garbage, tls-hello, tls-cookie (default all)")
	fs.StringVar(&o.profileDir, "profile", "", "write CPU profiles of all workers to this directory")
	fs.StringVar(&o.wrap, "wrap", "", "run servers and clients under this command; % in it is replaced by test, contender and role")
	fs.StringVar(&o.jsonFile, "json", "", "write all figures to this file")
	fs.StringVar(&o.outFile, "out", "", "write the report to this file too")
	fs.StringVar(&o.suite, "suite", "", "run everything, and write RESULTS.md with plots: full (about 40 minutes) or quick (about 8); links need Linux and root")
	fs.BoolVar(&o.resume, "resume", false, "with -suite, go on where an interrupted run has ended")
	fs.BoolVar(&o.check, "check", false, "compare CPU time, allocations and memory with bounds, and fail if something is beyond (about half a minute)")
	fs.StringVar(&o.boundsFile, "bounds", "", "file of the bounds for -check (default bounds.json, as it was when this was built)")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress on standard error")
	fs.BoolVar(&list, "list", false, "list the contenders and tests, then exit")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if list {
		for _, c := range contenders() {
			what := c.what
			if err := c.unavailable(); err != nil {
				what += " (" + err.Error() + ")"
			}
			fmt.Printf("%-16s %s\n", c.name, what)
		}
		fmt.Println("tests:", strings.Join(allTests, " "))
		fmt.Println("over a link:", strings.Join(linkContenders(), " "))
		return nil, nil
	}
	switch {
	case isSet(fs, "seconds"):
	case tests == "moves":
		seconds = 24
	case len(o.links) > 0:
		seconds = 10
	case o.check:
		seconds = checkSeconds
	}
	if o.check {
		for name, x := range map[string]*int{"fine": &o.fine, "idle": &o.idle, "allocs": &o.allocs} {
			if !isSet(fs, name) {
				*x = checkCounts[name]
			}
		}
	}
	o.duration = time.Duration(seconds * float64(time.Second))
	if _, ok := suites[o.suite]; !ok && o.suite != "" {
		return nil, fmt.Errorf("no suite %q; there are full and quick", o.suite)
	}
	if o.floodRate < 1 || o.floodLimit < 0 {
		return nil, errors.New("the rates of a flood must be positive")
	}
	if o.duration <= 0 || o.rounds < 1 || o.idleRounds < 1 || o.idle < 1 || o.allocs < 1 || o.fine < 1 {
		return nil, errors.New("seconds, rounds and counts must be positive")
	}
	o.only, o.tests = splitList(only), splitList(tests)
	for _, name := range append(slices.Clone(o.only), o.base) {
		if contenderNamed(name) == nil {
			return nil, fmt.Errorf("no contender %q; -list shows them", name)
		}
	}
	if err := cmp.Or(o.setFlows(flows), o.setLinkTests(linkTests), o.setMoves()); err != nil {
		return nil, err
	}
	o.floodKinds = splitList(floods)
	for _, name := range o.floodKinds {
		if floodKindNamed(name) == nil {
			return nil, fmt.Errorf("no flood %q", name)
		}
	}
	for _, name := range o.tests {
		if !slices.Contains(allTests, name) && name != "moves" {
			return nil, fmt.Errorf("no test %q; there are %s", name, strings.Join(allTests, ", "))
		}
	}
	for _, list := range []struct {
		sizes *[]int
		text  string
	}{{&o.sizes, sizes}, {&o.rrSizes, rrSizes}, {&o.messageSizes, messageSizes}} {
		var err error
		if *list.sizes, err = splitSizes(list.text); err != nil {
			return nil, err
		}
	}
	return &o, nil
}

// isSet reports whether a flag was given.
func isSet(fs *flag.FlagSet, name string) (set bool) {
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func splitSizes(s string) ([]int, error) {
	var sizes []int
	for _, f := range splitList(s) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > maxMessage {
			return nil, fmt.Errorf("%q is not a size", f)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// groups returns what is measured together, contenders beside each other, for a test.
func (o *options) groups(test string) []*group {
	var gs []*group
	add := func(rounds int, s spec) {
		s.Test = test
		s.Duration = o.duration
		if !strings.HasPrefix(test, "fine-") {
			s.Addresses = max(s.Addresses, 1)
		}
		gs = append(gs, o.group(s, rounds))
	}
	switch test {
	case "fine-bulk", "fine-rr":
		sizes := o.sizes
		if test == "fine-rr" {
			sizes = o.rrSizes
		}
		for _, size := range sizes {
			add(o.fine, spec{Size: size, Count: o.fine})
		}
	case "bulk":
		for _, size := range o.sizes {
			add(o.rounds, spec{Size: size})
		}
	case "rr":
		for _, size := range o.rrSizes {
			add(o.rounds, spec{Size: size})
		}
	case "message":
		for _, size := range o.messageSizes {
			add(o.rounds, spec{Size: size})
		}
	case "allocs":
		for _, size := range []int{64, 8 << 10, 64 << 10} {
			add(1, spec{Size: size, Count: o.allocs})
		}
	case "dials":
		for _, parallel := range []int{1, 8} {
			add(o.rounds, spec{Size: 1, Parallel: parallel, Addresses: 4})
		}
	case "handshakes":
		for _, resume := range []bool{false, true} {
			add(o.rounds, spec{Size: 1, Parallel: handshakeParallel, Resume: resume, Addresses: 4})
		}
	case "idle":
		for _, reader := range []bool{false, true} {
			add(o.idleRounds, spec{Size: 1, Count: o.idle, Reader: reader, Addresses: 4})
		}
	}
	return gs
}

// handshakeParallel is how many handshakes go on at a time: enough for two CPUs to be busy.
const handshakeParallel = 8

// group returns a group of all contenders that are wanted and take part in it.
func (o *options) group(s spec, rounds int) *group {
	var names []string
	for _, c := range contenders() {
		if c.has(s.Test) && c.fits(s.Test, s.Size) && (len(o.only) == 0 || slices.Contains(o.only, c.name)) {
			names = append(names, c.name)
		}
	}
	g := newGroup(s, names, rounds)
	g.Base = o.base
	for _, r := range g.Rows {
		if err := contenderNamed(r.Contender).unavailable(); err != nil {
			r.Error = err.Error()
		} else if strings.HasPrefix(s.Test, "fine-") {
			g.Spec.Names = append(g.Spec.Names, r.Contender)
		}
	}
	return g
}
