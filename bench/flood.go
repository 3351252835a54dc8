package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The flood test: what is left of an established transfer, and of new clients, when
// strangers with ever new addresses send datagrams to the listener. One process is the
// server, one its client, and one the strangers. As those need CPUs too, each flood is
// also sent to a socket of the same process that nobody reads: what the flood costs
// beyond that is the listener's part.

// floodKinds are the floods, by what is sent to what.
var floodKinds = []*floodKind{
	{"hello", "vstp-rudp", "HELLO without a cookie"},
	{"garbage", "vstp-rudp", "random bytes"},
	{"tls-hello", "vstp-rudp-tls", "HELLO with a ClientHello and without a cookie, 1,200 B"},
	{"tls-cookie", "vstp-rudp-tls", "the same with a random cookie"},
}

type floodKind struct{ name, contender, what string }

func floodKindNamed(name string) *floodKind {
	for _, k := range floodKinds {
		if k.name == name {
			return k
		}
	}
	return nil
}

// Where a flood goes to.
const (
	floodNowhere   = "none"
	floodElsewhere = "elsewhere" // a socket of the server's process that nobody reads
	floodListener  = "listener"
)

var floodTargets = []string{floodNowhere, floodElsewhere, floodListener}

// Directions of the transfer.
var floodDirections = map[string]byte{"down": 'd', "up": 'u'}

const (
	floodBegin  = 300 * time.Millisecond // when the flood begins, after the transfer
	floodSkip   = 800 * time.Millisecond // when the measurement does
	floodDials  = 100
	floodReport = 20 * time.Millisecond // how often the server says what it has
)

// A floodRow is one kind of flood and one direction of the transfer.
type floodRow struct {
	Kind, Direction string
	Rounds          map[string][]values // by target
	Errors          []string
}

// runFlood measures all kinds, with the targets in turn.
func (c *controller) runFlood(ctx context.Context, args []string) error {
	if err := canFlood(); err != nil {
		return err
	}
	load := loadAverage()
	var rows []*floodRow
	for _, k := range floodKinds {
		if len(c.options.floodKinds) > 0 && !slices.Contains(c.options.floodKinds, k.name) {
			continue
		}
		for _, direction := range []string{"down", "up"} {
			rows = append(rows, &floodRow{Kind: k.name, Direction: direction, Rounds: make(map[string][]values)})
		}
	}
	for round := range c.options.rounds {
		for _, r := range rows {
			for i := range floodTargets {
				target := floodTargets[(i+round)%len(floodTargets)]
				v, err := c.floodCell(ctx, r, target)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					r.Errors = append(r.Errors, target+": "+err.Error())
				}
				r.Rounds[target] = append(r.Rounds[target], v)
				if !c.options.quiet {
					fmt.Fprintf(os.Stderr, "%-10s %-4s %d/%d %-9s %.0f MB/s, %.0f sent/s, dials %.2f s %v\n",
						r.Kind, r.Direction, round+1, c.options.rounds, target, v["mbps"], v["flood.rate"], v["dials.s"], cmp.Or(err, errNone))
				}
			}
		}
	}
	res := newResult(args)
	res.Load = load
	report := res.floodReport(rows, c.options)
	fmt.Print(report)
	if c.options.jsonFile != "" {
		b, err := json.MarshalIndent(rows, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.options.jsonFile, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if c.options.outFile != "" {
		return os.WriteFile(c.options.outFile, []byte(report), 0o644)
	}
	return nil
}

var errNone = errors.New("")

// floodCell runs one transfer with one flood, or without.
func (c *controller) floodCell(ctx context.Context, r *floodRow, target string) (values, error) {
	s := spec{
		Test: "flood", Contender: floodKindNamed(r.Kind).contender, Flood: r.Kind, Target: target, Direction: r.Direction,
		Rate: c.options.floodRate, Limit: c.options.floodLimit,
		Size: 64 << 10, Duration: c.options.duration, Addresses: 1,
		CertPEM: c.cert, KeyPEM: c.key, Dir: c.dir, GiveUp: c.options.duration + 2*time.Minute,
	}
	if c.options.profileDir != "" {
		s.Profile = c.options.profileDir + "/flood-" + r.Kind + "-" + r.Direction + "-" + target
	}
	s.Role = "server"
	server, err := c.start(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer server.end()
	ready, err := server.read()
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.Addrs = ready.Addrs
	var flood *worker
	if target != floodNowhere {
		s.Role = "flood"
		if flood, err = c.start(ctx, &s); err != nil {
			return nil, err
		}
		defer flood.end()
		if _, err := flood.read(); err != nil {
			return nil, fmt.Errorf("flood: %w", err)
		}
	}
	s.Role = "client"
	client, err := c.start(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer client.end()
	got, err := client.read()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	v := got.Values
	server.stop() // the flood goes on: it is now that the server looks at its memory
	if got, err = server.read(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	for k, x := range got.Values {
		v["server."+k] = x
	}
	if flood != nil {
		flood.stop()
		if got, err = flood.read(); err != nil {
			return nil, fmt.Errorf("flood: %w", err)
		}
		for k, x := range got.Values {
			v["flood."+k] = x
		}
	}
	return v, nil
}

// floodServer listens, and opens the socket that nobody reads.
func floodServer(s *spec, out *json.Encoder, stop <-chan struct{}) error {
	c, e, err := s.prepare()
	if err != nil {
		return err
	}
	a, err := c.listen(e, "127.0.0.1")
	if err != nil {
		return err
	}
	idle, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer idle.Close()
	start := readMemory()
	go func() {
		for {
			st, err := a.Accept()
			if err != nil {
				return
			}
			go serveFlood(s, st)
		}
	}()
	var peak atomic.Uint64
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			peak.Store(max(peak.Load(), residentBytes()))
		}
	}()
	if err := out.Encode(line{Addrs: []string{a.Addr(), idle.LocalAddr().String()}}); err != nil {
		return err
	}
	prof := newProfile(s)
	time.AfterFunc(floodSkip, prof.start)
	m := startMeter()
	<-stop
	u := m.stop()
	prof.stop()
	end := readMemory()
	mib := func(n uint64) float64 { return float64(n) / (1 << 20) }
	return out.Encode(line{Values: values{
		"heap.start": mib(start.heapAlloc), "heap": mib(end.heapAlloc),
		"rss.start": mib(start.rss), "rss.peak": mib(peak.Load()),
		"goroutines": float64(end.goroutines),
		"cpu":        u.cpu.Seconds() / u.wall.Seconds(),
		"drops":      float64(socketDrops(a.Addr())),
	}})
}

// serveFlood does what the first byte asks for.
func serveFlood(s *spec, st stream) {
	defer st.Close()
	var head [1]byte
	if _, err := io.ReadFull(st, head[:]); err != nil {
		return
	}
	buf := make([]byte, s.Size)
	fillPattern(buf)
	switch head[0] {
	case 'd':
		for pace := newPacer(s.Limit); ; pace.wait(len(buf)) {
			if _, err := st.Write(buf); err != nil {
				return
			}
		}
	case 'u':
		var total atomic.Uint64
		done := make(chan struct{})
		defer close(done)
		go func() {
			var b [8]byte
			for {
				select {
				case <-done:
					return
				case <-time.After(floodReport):
				}
				binary.BigEndian.PutUint64(b[:], total.Load())
				if _, err := st.Write(b[:]); err != nil {
					return
				}
			}
		}()
		for {
			n, err := st.Read(buf)
			if err != nil {
				return
			}
			total.Add(uint64(n))
		}
	default:
		st.Write(head[:])
		st.Read(head[:]) // its end
	}
}

// A pacer keeps a writer to a rate. The zero rate is no limit.
type pacer struct {
	start time.Time
	rate  float64
	n     float64
}

func newPacer(mbps float64) *pacer { return &pacer{start: time.Now(), rate: mbps * 1e6} }

func (p *pacer) wait(n int) {
	if p.rate == 0 {
		return
	}
	p.n += float64(n)
	if d := time.Until(p.start.Add(time.Duration(p.n / p.rate * float64(time.Second)))); d > time.Millisecond {
		time.Sleep(d)
	}
}

// floodClient transfers, and then dials.
func floodClient(s *spec, c *contender, e *env) (values, error) {
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, err
	}
	if _, err := st.Write([]byte{floodDirections[s.Direction]}); err != nil {
		return nil, err
	}
	var total atomic.Uint64 // that the receiver has
	ended := make(chan error, 2)
	buf := make([]byte, s.Size)
	fillPattern(buf)
	if s.Direction == "down" {
		go func() {
			for {
				n, err := st.Read(buf)
				total.Add(uint64(n))
				if err != nil {
					ended <- err
					return
				}
			}
		}()
	} else {
		go func() {
			var b [8]byte
			for {
				if _, err := io.ReadFull(st, b[:]); err != nil {
					ended <- err
					return
				}
				total.Store(binary.BigEndian.Uint64(b[:]))
			}
		}()
		go func() {
			for pace := newPacer(s.Limit); ; pace.wait(len(buf)) {
				if _, err := st.Write(buf); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	wait := func(d time.Duration) error {
		select {
		case err := <-ended:
			return fmt.Errorf("the transfer ended: %w", err)
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(floodSkip); err != nil {
		return nil, err
	}
	at, from, m := time.Now(), total.Load(), startMeter()
	if err := wait(s.Duration); err != nil {
		return nil, err
	}
	u := m.stop()
	v := values{"mbps": float64(total.Load()-from) / 1e6 / time.Since(at).Seconds(), "cpu": u.cpu.Seconds() / u.wall.Seconds()}
	closed := make(chan struct{})
	go func() {
		st.Close() // may take as long as it takes to send what is buffered
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		return nil, errors.New("close took more than 10 s")
	}
	return v, floodDial(s, c, e, v)
}

// floodDial measures new clients, one after the other.
func floodDial(s *spec, c *contender, e *env, v values) error {
	var times []float64
	failed := 0
	start := time.Now()
	for range floodDials {
		at := time.Now()
		x, err := c.open(e, s.Addrs[0])
		if err == nil {
			err = x.Exchange([]byte{'e'}, make([]byte, 1))
			times = append(times, time.Since(at).Seconds()*1e3)
			x.Close()
		}
		if err != nil {
			failed++
		}
	}
	v["dials.s"] = time.Since(start).Seconds()
	v["dials.failed"] = float64(failed)
	if len(times) > 0 {
		v["dials.p50"] = median(times)
		v["dials.max"] = slices.Max(times)
	}
	return nil
}

// A template is a datagram of a flood. What has to be different in each is random.
type template struct {
	b      []byte
	random [][2]int // from, to
	crc    bool
}

// fill makes a datagram in p, which has room for it.
func (t *template) fill(p []byte, random func([]byte)) []byte {
	p = append(p[:0], t.b...)
	for _, r := range t.random {
		random(p[r[0]:r[1]])
	}
	if t.crc {
		n := len(p) - 4
		binary.BigEndian.PutUint32(p[n:], crc32.ChecksumIEEE(p[:n]))
	}
	return p
}

// Of a HELLO: where source id and, with its key in front, a cookie are. PROTOCOL §7.3.
const (
	helloSourceID = 14
	helloCookie   = helloSourceID + 8 + 3
	cookieLen     = 24
)

// floodTemplate lets a client dial a socket of ours to see what its HELLO is like.
func floodTemplate(s *spec, c *contender, e *env) (*template, error) {
	if s.Flood == "garbage" {
		return &template{b: make([]byte, 200), random: [][2]int{{0, 200}}}, nil
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer pc.Close()
	go func() {
		if st, err := c.dial(e, pc.LocalAddr().String()); err == nil {
			st.Close()
		}
	}()
	buf := make([]byte, 2048)
	pc.SetReadDeadline(time.Now().Add(5 * time.Second))
	withCookie := s.Flood == "tls-cookie"
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return nil, err
		}
		id := buf[helloSourceID : helloSourceID+8]
		has := n > helloCookie && buf[helloCookie-1] == 0x17
		switch {
		case withCookie && !has:
			if _, err := pc.WriteTo(retry(id), from); err != nil {
				return nil, err
			}
			continue
		case n < 96:
			continue
		}
		t := &template{b: slices.Clone(buf[:n]), random: [][2]int{{helloSourceID, helloSourceID + 8}}, crc: true}
		if withCookie {
			t.random = append(t.random, [2]int{helloCookie, helloCookie + cookieLen})
		}
		return t, nil
	}
}

// retry is a WELCOME with a cookie.
func retry(id []byte) []byte {
	b := []byte{'V', 'T', 1, 2, 2, 0, 0, 0, 0, 0, 0}
	b = append(append(b, 1, 8, 1), id...)
	b = append(append(b, 1, cookieLen, 0x17), make([]byte, cookieLen)...)
	binary.LittleEndian.PutUint16(b[5:], uint16(len(b)-11))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// floodMain is the process of the strangers.
func floodMain(s *spec, out *json.Encoder, stop <-chan struct{}) error {
	c, e, err := s.prepare()
	if err != nil {
		return err
	}
	t, err := floodTemplate(s, c, e)
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	to := s.Addrs[0]
	if s.Target == floodElsewhere {
		to = s.Addrs[1]
	}
	f, err := newFlooder(to, t)
	if err != nil {
		return err
	}
	defer f.close()
	if err := out.Encode(line{Addrs: []string{to}}); err != nil {
		return err
	}
	time.Sleep(floodBegin)
	m := startMeter()
	sent := 0
	for {
		select {
		case <-stop:
			u := m.stop()
			return out.Encode(line{Values: values{
				"rate": float64(sent) / u.wall.Seconds(), "cpu": u.cpu.Seconds() / u.wall.Seconds(), "size": float64(len(t.b)),
			}})
		default:
		}
		due := int(time.Since(m.at).Seconds()*float64(s.Rate)) - sent
		n, err := f.send(min(due, s.Rate/10)) // who cannot keep up looks at stop all the same
		if err != nil {
			return err
		}
		sent += n
		time.Sleep(500 * time.Microsecond)
	}
}

// floodReport makes the report.
func (res *result) floodReport(rows []*floodRow, o *options) string {
	var b strings.Builder
	b.WriteString("# Flood\n\n")
	fmt.Fprintf(&b, "`%s`, %s, %s, %d CPUs, load average before %.1f.\n\n", res.Command, res.Date, res.Go, res.CPUs, res.Load)
	fmt.Fprintf(&b, "%d datagrams a second, each from another address, while a transfer is under way", o.floodRate)
	if o.floodLimit > 0 {
		fmt.Fprintf(&b, " of %.0f MB/s", o.floodLimit)
	}
	b.WriteString(". Goodput at the receiver in MB/s: without a flood, with the flood to a socket of the " +
		"same process that nobody reads, and with the flood to the listener. Then 100 clients dial one after the other while the flood goes on.\n\n")
	t := &table{head: []string{
		"flood", "transfer", "none", "elsewhere", "listener", "x none", "x elsewhere", "sent/s", "not read",
		"100 dials, s", "p50 ms", "max ms", "failed", "without flood, s", "heap MiB", "without", "RSS peak MiB", "without",
	}}
	for _, r := range rows {
		none, elsewhere, listener := medians(r.Rounds[floodNowhere]), medians(r.Rounds[floodElsewhere]), medians(r.Rounds[floodListener])
		f := func(format string, x float64) string { return fmt.Sprintf(format, x) }
		// What the socket had no room for, of all that was sent to it.
		lost := 100 * listener["server.drops"] / math.Max(1, listener["flood.rate"]*(listener["dials.s"]+o.duration.Seconds()+floodSkip.Seconds()-floodBegin.Seconds()))
		t.add(r.Kind, r.Direction, f("%.0f", none["mbps"]), f("%.0f", elsewhere["mbps"]), f("%.0f", listener["mbps"]),
			floodRatio(r, floodNowhere).String(), floodRatio(r, floodElsewhere).String(),
			f("%.0f", listener["flood.rate"]), f("%.0f %%", lost),
			f("%.2f", listener["dials.s"]), f("%.1f", listener["dials.p50"]), f("%.0f", listener["dials.max"]), f("%.0f", listener["dials.failed"]),
			f("%.2f", none["dials.s"]), f("%.1f", listener["server.heap"]), f("%.1f", none["server.heap"]),
			f("%.0f", listener["server.rss.peak"]), f("%.0f", none["server.rss.peak"]))
	}
	t.write(&b)
	b.WriteString("\n")
	for _, k := range floodKinds {
		fmt.Fprintf(&b, "* %s: %s, to %s\n", k.name, k.what, k.contender)
	}
	for _, r := range rows {
		for _, text := range r.Errors {
			fmt.Fprintf(&b, "\nFailed: %s, %s, %s\n", r.Kind, r.Direction, text)
		}
	}
	return b.String()
}

// floodRatio is the goodput with the flood to the listener, within the rounds.
func floodRatio(r *floodRow, base string) ratio {
	return ratioOf(&row{Rounds: r.Rounds[floodListener]}, &row{Rounds: r.Rounds[base]}, "mbps")
}
