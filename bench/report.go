package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// A result is a whole run, as it goes to JSON.
type result struct {
	Command  string
	Date     string
	CPU      string
	CPUs     int
	Kernel   string
	TCP      string // congestion control
	Go       string
	Modules  []string
	Steal    float64 // percent of all CPU time over the whole run
	Load     float64 // load average before the run
	Suite    string  `json:",omitempty"` // of -suite
	Skipped  string  `json:",omitempty"` // why links were left out
	Resumed  int     `json:",omitempty"` // how many groups are of an earlier run that was interrupted
	Groups   []*group
	Plots    []plot `json:"-"`
	statFrom cpuStat
}

func newResult(args []string) *result {
	res := &result{
		Command:  strings.TrimSpace("go run . " + strings.Join(args, " ")),
		Date:     time.Now().UTC().Format("2006-01-02"),
		CPUs:     runtime.NumCPU(),
		Go:       runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Load:     loadAverage(),
		statFrom: readCPUStat(),
	}
	res.CPU, res.Kernel, res.TCP = systemFacts()
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/hashicorp/yamux", "google.golang.org/grpc",
				"github.com/quic-go/quic-go", "github.com/xtaci/kcp-go/v5", "github.com/pion/sctp":
				res.Modules = append(res.Modules, m.Path+" "+m.Version)
			}
		}
	}
	return res
}

func (res *result) finish() {
	end := readCPUStat()
	if total := end.total - res.statFrom.total; total > 0 {
		res.Steal = 100 * float64(end.steal-res.statFrom.steal) / float64(total)
	}
}

func (res *result) group(id string) *group {
	for _, g := range res.Groups {
		if g.ID == id {
			return g
		}
	}
	return nil
}

// ratio divides one contender's value by another's, within the rounds of a group.
func (res *result) ratio(id, name, base, key string) ratio {
	g := res.group(id)
	if g == nil {
		return ratio{}
	}
	return ratioOf(g.row(name), g.row(base), key)
}

// sharpest is ratio, from the fine test where both took part in it.
func (res *result) sharpest(id, name, base, key string) ratio {
	if r := res.ratio("fine-"+id, name, base, key); r.OK {
		return r
	}
	return res.ratio(id, name, base, key)
}

// value returns the median of a contender's value.
func (res *result) value(id, name, key string) (float64, bool) {
	g := res.group(id)
	if g == nil {
		return 0, false
	}
	r := g.row(name)
	if r == nil {
		return 0, false
	}
	x, ok := r.Median[key]
	return x, ok
}

func (res *result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\n")
	fmt.Fprintf(&b, "`%s`, %s, %s.\n\n", res.Command, res.Date, res.Go)
	fmt.Fprintf(&b, "%s, %d CPUs; %s; TCP %s; load average before %.1f; %.2f %% of all CPU time was stolen by the hypervisor.\n",
		orUnknown(res.CPU), res.CPUs, orUnknown(res.Kernel), orUnknown(res.TCP), res.Load, res.Steal)
	if len(res.Modules) > 0 {
		fmt.Fprintf(&b, "With %s.\n", strings.Join(res.Modules, ", "))
	}
	if res.Suite != "" {
		b.WriteString("\nMade of:\n\n")
		for _, step := range suites[res.Suite] {
			fmt.Fprintf(&b, "    go run . %s\n", step)
		}
	}
	if res.Resumed > 0 {
		fmt.Fprintf(&b, "\nThe first %d of %d tables are of a run before, which was interrupted; load and steal above are of the last.\n", res.Resumed, len(res.Groups))
	}
	if res.Skipped != "" {
		fmt.Fprintf(&b, "\nWithout links: %s.\n", res.Skipped)
	}
	b.WriteString("\nMedians over the rounds. A ratio is the median of the ratios within each round, with the smallest and the largest in brackets (in fine tests: the middle half).\n")
	res.goals(&b)
	res.claims(&b)
	res.tables(&b)
	res.gallery(&b)
	b.WriteString("\n## Contenders\n\n")
	for _, c := range contenders() {
		if slices.ContainsFunc(res.Groups, func(g *group) bool { return g.takesPart(c.name) }) {
			fmt.Fprintf(&b, "* %s: %s\n", c.name, c.what)
		}
	}
	return b.String()
}

func (res *result) tables(b *strings.Builder) {
	for _, g := range res.Groups {
		fmt.Fprintf(b, "\n## %s\n\n%s\n\n", g.title(), g.explanation())
		g.table().write(b)
		fmt.Fprintf(b, "\n%d rounds, %.0f s, steal %.2f %%, load average at the end %.1f.\n", g.Rounds, g.Seconds, g.Steal, g.Load)
		g.failures(b)
	}
}

// gallery shows the plots, with all their figures in words for who cannot see them.
func (res *result) gallery(b *strings.Builder) {
	if len(res.Plots) > 0 {
		b.WriteString("\n## Plots\n")
	}
	for _, p := range res.Plots {
		fmt.Fprintf(b, "\n![%s](%s)\n", strings.NewReplacer("[", "(", "]", ")", "\n", " ").Replace(p.alt), p.path)
	}
}

// takesPart reports whether a contender is in one of the rows.
func (g *group) takesPart(name string) bool {
	return slices.ContainsFunc(g.Rows, func(r *row) bool {
		return r.Contender == name || slices.Contains(r.Flows, name)
	})
}

// failures writes what went wrong, once for all contenders that say the same.
func (g *group) failures(b *strings.Builder) {
	names := make(map[string][]string)
	var order []string
	for _, r := range g.Rows {
		if r.Error == "" {
			continue
		}
		if names[r.Error] == nil {
			order = append(order, r.Error)
		}
		names[r.Error] = append(names[r.Error], r.Contender)
	}
	for _, text := range order {
		who := names[text]
		what := "Failed"
		if reason, found := strings.CutPrefix(text, "unavailable: "); found {
			what, text = "Unavailable", reason
		}
		fmt.Fprintf(b, "\n%s: %s: %s\n", what, strings.Join(who, ", "), text)
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

func (g *group) title() string {
	if g.Link != nil {
		return g.linkTitle()
	}
	switch g.Spec.Test {
	case "fine-bulk":
		return "Bulk in fine slices, Writes of " + size(g.Spec.Size)
	case "fine-rr":
		return "Round trips in fine slices, of " + size(g.Spec.Size)
	case "bulk":
		return "Bulk, Writes of " + size(g.Spec.Size)
	case "rr":
		return "Round trips of " + size(g.Spec.Size)
	case "message":
		return "Messages of " + size(g.Spec.Size)
	case "allocs":
		return "Allocations, " + size(g.Spec.Size)
	case "dials":
		if g.Spec.Parallel == 1 {
			return "Dials, one at a time"
		}
		return fmt.Sprintf("Dials, %d at a time", g.Spec.Parallel)
	case "handshakes":
		if g.Spec.Resume {
			return "TLS handshakes, resumed"
		}
		return "TLS handshakes, full"
	case "idle":
		if g.Spec.Reader {
			return "Idle connections with a goroutine in Read"
		}
		return "Idle connections without goroutines"
	}
	return g.ID
}

func (g *group) explanation() string {
	if g.Link != nil {
		return g.linkExplanation()
	}
	switch g.Spec.Test {
	case "fine-bulk", "fine-rr":
		return "All contenders between two processes, with turns of about 40 ms: the sharpest ratios. In brackets the middle half of the rounds."
	case "bulk":
		return "One direction, from the server to the client, which reads with a buffer of 64 KiB. Goodput at the receiver; " +
			"CPU seconds for 10^9 bytes, of both processes; allocations for each Write and each Read. Memory in MiB beyond what the process had before: " +
			"its largest RSS, and what of the heap is alive at the end."
	case "rr":
		return "Request and answer of one size, one at a time. Microseconds; CPU microseconds of the client for each round trip."
	case "message":
		return "One at a time, until the sender knows that the receiver has it whole: with vstp and vstp-udp by RequireAck, " +
			"elsewhere by a byte in answer. CPU seconds for 10^9 bytes, of both processes. Memory as a share of a message, of the sender beyond the " +
			"message itself: live heap at its peak, and the peak of the RSS; of the receiver until the first message is whole, and with the garbage of all before."
	case "allocs":
		return "Allocations for a Write and the Reads of its answer, in each of the processes, when warm."
	case "dials":
		return "Connect, handshake, one byte there and back, close."
	case "handshakes":
		return fmt.Sprintf("Connect, TLS 1.3 handshake with an ECDSA P-256 certificate, one byte there and back, close; %d at a time. "+
			"CPU seconds for 1,000 of them.", g.Spec.Parallel)
	case "idle":
		return "Memory for each connection, KiB, after each has carried 1 KiB there and back and a garbage collection. " +
			"Beyond the bare socket is heap and stack without those of the contender it is built upon (tcp, unix, tls). Timers are the CPU time of the server while " +
			"nobody uses any of them."
	}
	return ""
}

// A table is Markdown in the making.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(b *strings.Builder) {
	fmt.Fprintf(b, "| %s |\n|---|%s\n", strings.Join(t.head, " | "), strings.Repeat("---:|", len(t.head)-1))
	for _, r := range t.rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(r, " | "))
	}
}

func (r ratio) String() string {
	if !r.OK {
		return "–"
	}
	if r.Min == r.Max {
		return fmt.Sprintf("%.2f", r.Median)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Min, r.Max)
}

// own returns the ratio of r to the contender it is built upon, where that is not the
// one that all are compared to.
func (g *group) own(r *row, key string) string {
	base := contenderNamed(r.Contender).baseOf(g.Spec.Test)
	if base == "" || base == g.Base {
		return "–"
	}
	ratio := ratioOf(r, g.row(base), key)
	if !ratio.OK {
		return "–"
	}
	return ratio.String() + " x " + base
}

func (g *group) table() *table {
	t := &table{head: g.head()}
	for _, r := range g.Rows {
		if r.Error != "" && len(r.Median) == 0 {
			failed, _, found := strings.Cut(r.Error, ":")
			if !found || failed != "unavailable" {
				failed = "failed"
			}
			t.add(append([]string{r.Contender, failed}, make([]string, len(t.head)-2)...)...)
			continue
		}
		t.add(append([]string{r.Contender}, g.cells(r)...)...)
	}
	return t
}

func (g *group) head() []string {
	if g.Link != nil {
		return g.linkHead()
	}
	x := "x " + g.Base
	switch g.Spec.Test {
	case "fine-bulk":
		return []string{"", "MB/s", x, "x its base", "CPU s/GB", "CPU " + x, "sender", "receiver"}
	case "fine-rr":
		return []string{"", "p50 us", x, "x its base", "p99 us", "p99 " + x, "CPU us, both ends", "CPU " + x}
	case "bulk":
		return []string{"", "MB/s", x, "x its base", "CPU s/GB", "CPU " + x, "sender", "receiver", "allocs/Write", "allocs/Read",
			"sender: peak RSS", "live heap", "receiver: peak RSS", "live heap"}
	case "rr":
		return []string{"", "p50 us", x, "x its base", "p99 us", "p99 " + x, "p99.9 us", "CPU us", "allocs"}
	case "message":
		return []string{"", "ms", x, "x its base", "MB/s", "CPU s/GB", "CPU " + x, "sender", "receiver",
			"receiver: live heap", "RSS, first message", "RSS", "sender: live heap", "RSS"}
	case "allocs":
		return []string{"", "client", "server", "bytes, client"}
	case "dials":
		return []string{"", "dials/s", x, "x its base", "CPU us, client", "allocs, client"}
	case "handshakes":
		return []string{"", "handshakes/s", x, "CPU s/1000, both ends", "CPU " + x, "client", "server", "allocs, client", "server", "resumed"}
	}
	return []string{
		"", "connections", "server heap", "stack", "heap+stack", "beyond the bare socket", "RSS", "goroutines", "timers, % of a core",
		"client heap+stack", "beyond", "client RSS", "client goroutines",
	}
}

func (g *group) cells(r *row) []string {
	if g.Link != nil {
		return g.linkCells(r)
	}
	m := r.Median
	f := func(format string, key string) string { return fmt.Sprintf(format, m[key]) }
	toBase := func(key string) string { return ratioOf(r, g.row(g.Base), key).String() }
	switch g.Spec.Test {
	case "fine-bulk":
		return []string{
			f("%.0f", "mbps"), toBase("mbps"), g.own(r, "mbps"), f("%.3f", "cpu.both"), toBase("cpu.both"),
			f("%.3f", "server.cpu"), f("%.3f", "cpu"),
		}
	case "fine-rr":
		return []string{
			f("%.1f", "p50"), toBase("p50"), g.own(r, "p50"), f("%.1f", "p99"), toBase("p99"),
			f("%.1f", "cpu.both"), toBase("cpu.both"),
		}
	case "bulk":
		return []string{
			f("%.0f", "mbps"), toBase("mbps"), g.own(r, "mbps"), f("%.2f", "cpu.both"), toBase("cpu.both"),
			f("%.2f", "server.cpu"), f("%.2f", "cpu"), f("%.2f", "server.mallocs"), f("%.2f", "mallocs"),
			f("%.1f", "server.rss"), f("%.2f", "server.live"), f("%.1f", "rss"), f("%.2f", "live"),
		}
	case "rr":
		return []string{
			f("%.1f", "p50"), toBase("p50"), g.own(r, "p50"), f("%.1f", "p99"), toBase("p99"), f("%.1f", "p999"),
			f("%.1f", "cpu"), f("%.2f", "mallocs"),
		}
	case "message":
		return []string{
			f("%.1f", "ms"), toBase("ms"), g.own(r, "ms"), f("%.0f", "mbps"), f("%.2f", "cpu.both"), toBase("cpu.both"),
			f("%.2f", "cpu"), f("%.2f", "server.cpu"),
			f("%.2f", "server.live"), f("%.2f", "server.rss.first"), f("%.2f", "server.rss"), f("%.2f", "live"), f("%.2f", "rss"),
		}
	case "allocs":
		return []string{f("%.2f", "mallocs"), f("%.2f", "server.mallocs"), f("%.1f", "bytes")}
	case "dials":
		return []string{f("%.0f", "rate"), toBase("rate"), g.own(r, "rate"), f("%.0f", "cpu"), f("%.0f", "mallocs")}
	case "handshakes":
		per := func(key string) string { return fmt.Sprintf("%.2f", m[key]/1e3) }
		return []string{
			f("%.0f", "rate"), toBase("rate"), per("cpu.both"), toBase("cpu.both"), per("cpu"), per("server.cpu"),
			f("%.0f", "mallocs"), fmt.Sprintf("%.0f", m["server.mallocs"]/m["server.accepted"]),
			fmt.Sprintf("%.0f %%", 100*m["resumed"]),
		}
	}
	timers := "–"
	if !g.Spec.Reader {
		timers = f("%.2f", "server.timers")
	}
	return []string{
		f("%.0f", "conns"), f("%.2f", "server.heap"), f("%.2f", "server.stack"),
		fmt.Sprintf("%.2f", m["server.heap"]+m["server.stack"]), g.beyond(r, "server."), f("%.2f", "server.rss"),
		f("%.2f", "server.goroutines"), timers,
		fmt.Sprintf("%.2f", m["heap"]+m["stack"]), g.beyond(r, ""), f("%.2f", "rss"), f("%.2f", "goroutines"),
	}
}

// beyondBase returns how much more heap and stack a connection takes than one
// of the contender it is built upon, in KiB.
func (g *group) beyondBase(r *row, prefix string) (float64, bool) {
	if r == nil {
		return 0, false
	}
	base := g.row(contenderNamed(r.Contender).baseOf("idle"))
	if base == nil || len(base.Median) == 0 || len(r.Median) == 0 {
		return 0, false
	}
	sum := func(v values) float64 { return v[prefix+"heap"] + v[prefix+"stack"] }
	return sum(r.Median) - sum(base.Median), true
}

func (g *group) beyond(r *row, prefix string) string {
	x, ok := g.beyondBase(r, prefix)
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%+.2f", x)
}
