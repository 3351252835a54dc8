// Command bench measures vstp beside raw TCP, TLS, yamux, HTTP and gRPC.
//
// Server and client are separate processes on loopback: the command executes
// itself. The contenders take turns within each round, so that whatever else the
// machine does hits all alike, and ratios are taken within a round. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	only, tests       []string
	sizes, rrSizes    []int
	rounds, fine      int
	duration          time.Duration
	idle, idleRounds  int
	allocs            int
	spin              bool
	profileDir, wrap  string
	jsonFile, outFile string
	quiet             bool
}

// allTests are the tests in the order in which they run.
var allTests = []string{"fine-bulk", "bulk", "fine-rr", "rr", "allocs", "dials", "idle"}

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
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	c, err := newController(o)
	if err != nil {
		return err
	}
	defer c.close()
	res := newResult(args)
	for _, test := range o.tests {
		for _, g := range o.groups(test) {
			if err := c.runGroup(ctx, g); err != nil {
				return err
			}
			res.Groups = append(res.Groups, g)
		}
	}
	res.finish()
	report := res.markdown()
	fmt.Print(report)
	if o.jsonFile != "" {
		b, err := json.MarshalIndent(res, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.jsonFile, append(b, '\n'), 0o644); err != nil {
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
		seconds        float64
		list           bool
	)
	fs.StringVar(&only, "only", "", "comma-separated contenders (default all); ratios need tcp, and tls or unix, among them")
	fs.StringVar(&tests, "tests", strings.Join(allTests, ","), "comma-separated tests")
	fs.StringVar(&sizes, "sizes", "65536", "comma-separated sizes of a Write in the bulk test")
	fs.StringVar(&rrSizes, "rr-sizes", "64,65536", "comma-separated sizes of a request and its answer")
	fs.IntVar(&o.rounds, "rounds", 5, "rounds of each test; all contenders take turns in each")
	fs.IntVar(&o.fine, "fine", 100, "rounds of the fine tests, in each of which a contender has about 40 ms")
	fs.Float64Var(&seconds, "seconds", 1, "seconds for one contender in one round")
	fs.IntVar(&o.idle, "idle", 10000, "connections of the idle test; contenders with TLS are content with 2,000")
	fs.IntVar(&o.idleRounds, "idle-rounds", 1, "rounds of the idle test")
	fs.IntVar(&o.allocs, "allocs", 5000, "round trips of the allocs test")
	fs.BoolVar(&o.spin, "spin", canSpin, "keep the CPUs awake with an idle-priority process during round trips")
	fs.StringVar(&o.profileDir, "profile", "", "write CPU profiles of all workers to this directory")
	fs.StringVar(&o.wrap, "wrap", "", "run servers and clients under this command; % in it is replaced by test, contender and role")
	fs.StringVar(&o.jsonFile, "json", "", "write all figures to this file")
	fs.StringVar(&o.outFile, "out", "", "write the report to this file too")
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
			fmt.Printf("%-16s %s\n", c.name, c.what)
		}
		fmt.Println("tests:", strings.Join(allTests, " "))
		return nil, nil
	}
	o.duration = time.Duration(seconds * float64(time.Second))
	if o.duration <= 0 || o.rounds < 1 || o.idleRounds < 1 || o.idle < 1 || o.allocs < 1 || o.fine < 1 {
		return nil, errors.New("seconds, rounds and counts must be positive")
	}
	o.only, o.tests = splitList(only), splitList(tests)
	for _, name := range o.only {
		if contenderNamed(name) == nil {
			return nil, fmt.Errorf("no contender %q; -list shows them", name)
		}
	}
	for _, name := range o.tests {
		if !slices.Contains(allTests, name) {
			return nil, fmt.Errorf("no test %q; there are %s", name, strings.Join(allTests, ", "))
		}
	}
	var err error
	if o.sizes, err = splitSizes(sizes); err != nil {
		return nil, err
	}
	o.rrSizes, err = splitSizes(rrSizes)
	return &o, err
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func splitSizes(s string) ([]int, error) {
	var sizes []int
	for _, f := range splitList(s) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > 64<<20 {
			return nil, fmt.Errorf("%q is not a size", f)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// groups returns what is measured together, contenders beside each other, for a test.
func (o *options) groups(test string) []*group {
	var names []string
	for _, c := range contenders() {
		if c.has(test) && (len(o.only) == 0 || slices.Contains(o.only, c.name)) {
			names = append(names, c.name)
		}
	}
	add := func(gs []*group, rounds int, s spec) []*group {
		s.Test = test
		s.Duration = o.duration
		if len(s.Names) == 0 {
			s.Addresses = max(s.Addresses, 1)
		}
		return append(gs, newGroup(s, names, rounds))
	}
	var gs []*group
	switch test {
	case "fine-bulk", "fine-rr":
		sizes := o.sizes
		if test == "fine-rr" {
			sizes = o.rrSizes
		}
		for _, size := range sizes {
			gs = add(gs, o.fine, spec{Size: size, Count: o.fine, Names: names})
		}
	case "bulk":
		for _, size := range o.sizes {
			gs = add(gs, o.rounds, spec{Size: size})
		}
	case "rr":
		for _, size := range o.rrSizes {
			gs = add(gs, o.rounds, spec{Size: size})
		}
	case "allocs":
		for _, size := range []int{64, 8 << 10, 64 << 10} {
			gs = add(gs, 1, spec{Size: size, Count: o.allocs})
		}
	case "dials":
		for _, parallel := range []int{1, 8} {
			gs = add(gs, o.rounds, spec{Size: 1, Parallel: parallel, Addresses: 4})
		}
	case "idle":
		for _, reader := range []bool{false, true} {
			gs = add(gs, o.idleRounds, spec{Size: 1, Count: o.idle, Reader: reader, Addresses: 4})
		}
	}
	return gs
}
