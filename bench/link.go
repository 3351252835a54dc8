package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp"
)

// setFlows parses what shares a link: one contender each, or the sets of -flows.
func (o *options) setFlows(text string) error {
	for _, set := range splitList(text) {
		flows, err := parseFlows(set)
		if err != nil {
			return err
		}
		o.flows = append(o.flows, flows)
	}
	if len(o.flows) > 0 && len(o.only) == 0 {
		return nil
	}
	var alone [][]string
	for _, name := range linkContenders() {
		if len(o.only) == 0 || slices.Contains(o.only, name) {
			alone = append(alone, []string{name})
		}
	}
	o.flows = append(alone, o.flows...)
	return nil
}

// linkContenders are those that can be measured over a link, in one of its tests or all.
func linkContenders() []string {
	var names []string
	for _, c := range contenders() {
		if c.hasLink("link-messages") {
			names = append(names, c.name)
		}
	}
	return names
}

// hasLink reports whether the contender takes part in a test over a link: "link" stands for all.
func (c *contender) hasLink(test string) bool { return c.has("link") || c.has(test) }

// linkGroups returns a group for each link and test and, as their tables differ, for
// single contenders and for sets of them.
func (o *options) linkGroups() []*group {
	var gs []*group
	for _, l := range o.links {
		for _, test := range o.linkTests {
			for _, several := range []bool{false, true} {
				if several && test != "link" {
					continue // sets of flows are about shares of the rate
				}
				if g := o.linkGroup(l, test, several); len(g.Rows) > 0 {
					gs = append(gs, g)
				}
			}
		}
	}
	return gs
}

func (o *options) linkGroup(l *linkSpec, test string, several bool) *group {
	g := newGroup(spec{Test: test, Size: linkSize(test), Duration: o.duration, Addresses: 1}, nil, o.rounds)
	g.ID, g.Link = test+"-"+l.Text, l
	if several {
		g.ID += "-flows"
		if o.stagger > 0 {
			g.Spec.Delay = o.stagger
			g.ID += "-late"
		}
	}
	for _, flows := range o.flows {
		missing := slices.ContainsFunc(flows, func(name string) bool { return !contenderNamed(name).hasLink(test) })
		if len(flows) > 1 != several || missing {
			continue
		}
		r := &row{Contender: strings.Join(flows, "+"), Flows: flows}
		for _, name := range flows {
			if err := contenderNamed(name).unavailable(); err != nil {
				r.Error = err.Error()
			}
		}
		g.Rows = append(g.Rows, r)
	}
	return g
}

// runLink measures flows at once over a link that is made for them. All servers are
// at one end and all clients at the other.
func (c *controller) runLink(ctx context.Context, g *group, r *row, round int) (v values, err error) {
	l, err := newLink(g.Link, c.options.seed+uint64(round))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	var servers, clients []*worker
	defer func() {
		for _, w := range slices.Concat(clients, servers) {
			w.end()
		}
	}()
	s := g.Spec
	s.Delay = 0 // that of the group is for its title
	s.CertPEM, s.KeyPEM, s.Dir, s.Host = c.cert, c.key, c.dir, l.host()
	s.RTT, s.Goodput = g.Link.RTT, g.Link.goodput()
	s.GiveUp = s.Duration + time.Duration(len(r.Flows))*c.options.stagger + 2*time.Minute
	for i, name := range r.Flows {
		s := s
		s.Contender, s.Role, s.Addrs = name, "server", nil
		server, err := c.startAt(ctx, l.server(), &s)
		if err != nil {
			return nil, err
		}
		servers = append(servers, server)
		ready, err := server.read()
		if err != nil {
			return nil, fmt.Errorf("server: %w", err)
		}
		s.Role, s.Addrs = "client", ready.Addrs
		s.Delay = time.Duration(i) * c.options.stagger
		s.Skip = time.Duration(len(r.Flows)-1-i) * c.options.stagger
		client, err := c.startAt(ctx, l.client(), &s)
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	if g.Spec.Test == "link-moves" {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go l.loseUDP(ctx, s.Duration)
	}
	v = make(values)
	var rates []float64
	for i, client := range clients {
		got, err := client.read()
		if err != nil {
			return nil, fmt.Errorf("%s: client: %w", r.Flows[i], err)
		}
		if g.Spec.Test == "link-idle" {
			return l.idleTraffic(ctx, s.Duration)
		}
		if g.Spec.Test != "link" {
			v = got.Values
			break
		}
		rates = append(rates, got.Values["mbit"])
		v[fmt.Sprintf("mbit.%d", i)] = got.Values["mbit"]
		v["total"] += got.Values["total"]
		v["cpu"] += got.Values["cpu"]
	}
	toClient, toServer := l.counts()
	for i, server := range servers {
		server.stop()
		got, err := server.read()
		if err != nil {
			return nil, fmt.Errorf("%s: server: %w", r.Flows[i], err)
		}
		v["cpu"] += got.Values["cpu"]
		if x, ok := got.Values["retransmitted"]; ok && len(servers) == 1 {
			v["retransmitted"] = x
		}
	}
	if g.Spec.Test == "link" {
		v["mbit"], v["jain"] = sum(rates), jain(rates)
		v["cpu"] /= v["total"] / 1e9
	}
	addLinkCounts(v, g.Link, toClient, toServer)
	return v, nil
}

// startAt starts a worker at one end of a link.
func (c *controller) startAt(ctx context.Context, p *place, s *spec) (*worker, error) {
	w, err := newWorker(ctx, s, c.wrap(s))
	if err != nil {
		return nil, err
	}
	return w, p.start(w.cmd)
}

// addLinkCounts adds what the emulator has seen. Waiting times count in round trips,
// which is the queue in BDPs.
func addLinkCounts(v values, l *linkSpec, toClient, toServer linkCounts) {
	if l.RTT > 0 {
		v["queue.max"] = toClient.MaxWait.Seconds() / l.RTT.Seconds()
		v["queue.mean"] = toClient.MeanWait.Seconds() / l.RTT.Seconds()
	}
	v["sent"] = float64(toClient.Bytes) / v["total"]
	v["dropped"] = 100 * share(toClient.Dropped, toClient.Packets)
	v["back"] = float64(toServer.Bytes) / v["total"]
	v["late"] = 100 * share(toClient.Late+toServer.Late, toClient.Delivered+toServer.Delivered)
	v["overruns"] = float64(toClient.Overruns + toServer.Overruns)
}

func sum(xs []float64) (s float64) {
	for _, x := range xs {
		s += x
	}
	return s
}

// jain returns Jain's fairness index: 1 if all have the same, 1/n if one has it all.
func jain(xs []float64) float64 {
	var squares float64
	for _, x := range xs {
		squares += x * x
	}
	if squares == 0 {
		return 0
	}
	s := sum(xs)
	return s * s / (float64(len(xs)) * squares)
}

// share returns part/whole, or 0 of nothing.
func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// serveLink writes for as long as the process lasts, or the client.
func (srv *server) serveLink(s stream) {
	srv.mu.Lock()
	srv.held = append(srv.held, s)
	srv.mu.Unlock()
	buf := make([]byte, srv.spec.Size)
	fillPattern(buf)
	for {
		if _, err := s.Write(buf); err != nil {
			return
		}
	}
}

func (srv *server) finishLink() (values, error) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.spec.Test != "link" {
		return values{}, nil
	}
	if len(srv.held) == 0 {
		return nil, cmp.Or(srv.err, errors.New("no client came"))
	}
	v := values{"cpu": srv.meter.stop().cpu.Seconds()}
	if x, ok := retransmitted(srv.held[0]); ok {
		v["retransmitted"] = 100 * x
	}
	return v, nil
}

// retransmittedOf returns the share of what was sent again, of contenders that count it
// themselves.
func retransmittedOf(s stream) (float64, bool) {
	switch s := s.(type) {
	case interface{ retransmitted() float64 }:
		return s.retransmitted(), true
	case *vstp.Conn:
		return vstpRetransmitted(s), true
	}
	return 0, false
}

// linkPatience is how long a client waits for the first byte.
const linkPatience = 30 * time.Second

// clientLink reads for the time of the measurement, which begins with the first byte,
// slow start and all.
func clientLink(s *spec, c *contender, e *env) (values, any, error) {
	time.Sleep(s.Delay)
	start := cpuTime()
	type dialed struct {
		st  stream
		err error
	}
	connected := make(chan dialed, 1)
	go func() {
		st, err := c.dial(e, s.Addrs[0])
		connected <- dialed{st, err}
	}()
	patience := time.After(linkPatience)
	var st stream
	select {
	case d := <-connected:
		if d.err != nil {
			return nil, nil, d.err
		}
		st = d.st
	case <-patience:
		return nil, nil, errors.New("dial: no answer")
	}
	var total atomic.Int64
	first, failed := make(chan time.Time, 1), make(chan error, 1)
	go func() {
		buf := make([]byte, bulkBuffer)
		for {
			n, err := st.Read(buf)
			if n > 0 && total.Add(int64(n)) == int64(n) {
				first <- time.Now()
			}
			if err != nil {
				failed <- fmt.Errorf("read after %d bytes: %w", total.Load(), err)
				return
			}
		}
	}()
	// wait waits until it is time, unless reading fails.
	wait := func(d time.Duration) error {
		select {
		case err := <-failed:
			return err
		case <-time.After(d):
			return nil
		}
	}
	var at time.Time
	select {
	case at = <-first:
	case err := <-failed:
		return nil, nil, err
	case <-patience:
		return nil, nil, errors.New("not a byte came")
	}
	var before int64
	if s.Skip > 0 {
		if err := wait(time.Until(at.Add(s.Skip))); err != nil {
			return nil, nil, err
		}
		at, before = time.Now(), total.Load()
	}
	if err := wait(time.Until(at.Add(s.Duration))); err != nil {
		return nil, nil, err
	}
	seconds, n := time.Since(at).Seconds(), total.Load()
	return values{
		"mbit":  float64(n-before) * 8 / 1e6 / seconds,
		"total": float64(n),
		"cpu":   (cpuTime() - start).Seconds(),
	}, st, nil
}

func linkProgress(r *row, v values) string {
	if _, ok := v["gap.1"]; ok {
		return fmt.Sprintf("%.0f ms, then %.0f ms without a byte, %.0f moves", v["gap.1"], v["gap.2"], v["moves"])
	}
	if x, ok := v["minute.up"]; ok {
		return fmt.Sprintf("%.0f + %.0f bytes a minute", x, v["minute.down"])
	}
	if x, ok := v["new.dial"]; ok {
		return fmt.Sprintf("%.1f ms, remembered %.1f ms", x, v["known.dial"])
	}
	if x, ok := v["start"]; ok {
		return fmt.Sprintf("the rate after %.1f round trips", x)
	}
	if x, ok := v[shortKey("new", shortSizes[0])]; ok {
		last := shortSizes[len(shortSizes)-1]
		return fmt.Sprintf("%d KB %.0f ms, %d KB %.0f ms", shortSizes[0]/1000, x, last/1000, v[shortKey("new", last)])
	}
	if _, ok := v["p99"]; ok {
		return fmt.Sprintf("p50 %.1f, p99 %.1f ms", v["p50"]/1e3, v["p99"]/1e3)
	}
	text := fmt.Sprintf("%.1f Mbit/s", v["mbit"])
	if len(r.Flows) > 1 {
		text += fmt.Sprintf(" (%s), Jain %.2f", linkShares(r, v), v["jain"])
	}
	if v["overruns"] > 0 {
		text += fmt.Sprintf(", %.0f packets lost by the emulator", v["overruns"])
	}
	return text
}

// linkShares returns the rate of each flow.
func linkShares(r *row, v values) string {
	var cells []string
	for i := range r.Flows {
		cells = append(cells, fmt.Sprintf("%.1f", v[fmt.Sprintf("mbit.%d", i)]))
	}
	return strings.Join(cells, " + ")
}

func (g *group) linkTitle() string {
	switch {
	case linkCarrierTitles[g.Spec.Test] != "":
		return linkCarrierTitles[g.Spec.Test] + g.Link.Text
	case g.Spec.Test == "link-rr":
		return "Link " + g.Link.Text + ", round trips of " + size(linkRequest)
	case g.Spec.Test == "link-messages":
		return fmt.Sprintf("Link %s, messages of %s every %v", g.Link.Text, size(linkMessage), linkInterval)
	case len(g.Rows) > 0 && len(g.Rows[0].Flows) > 1 && g.Spec.Delay > 0:
		return fmt.Sprintf("Link %s, several flows, each %v later than the one before", g.Link.Text, g.Spec.Delay)
	case len(g.Rows) > 0 && len(g.Rows[0].Flows) > 1:
		return "Link " + g.Link.Text + ", several flows"
	}
	return "Link " + g.Link.Text
}

func (g *group) linkExplanation() string {
	switch g.Spec.Test {
	case "link-rr":
		return "Request and answer, one at a time, on a stream. In brackets the rounds. Sent and back are bytes of IP packets for each byte of the answers."
	case "link-messages":
		return "One way, from when the message was due to be written to when it was read whole: on a stream, unless the contender's name says otherwise. In brackets the rounds. " +
			"Sent and back are bytes of IP packets for each byte of the messages."
	}
	return cmp.Or(linkCarrierExplanations[g.Spec.Test], linkBulkExplanation)
}

const linkBulkExplanation = "One direction over an emulated link, from the server to the client, from the first byte on. Goodput at the receiver, " +
	"in brackets the rounds. The queue is what a packet waits for the transmitter, in round trips, which is BDPs. " +
	"Sent are bytes of IP packets for each byte of goodput, those that were lost with them; dropped the share of packets that found the queue full. " +
	"Sent again is what each contender says of itself: bytes (TCP, QUIC: lost), segments (KCP), packets with something repeated in them (vstp)."

func (g *group) linkHead() []string {
	if head := linkCarrierHeads[g.Spec.Test]; head != nil {
		return head
	}
	if g.Spec.Test != "link" {
		return linkLatencyHead
	}
	head := []string{"", "Mbit/s"}
	if len(g.Rows) > 0 && len(g.Rows[0].Flows) > 1 {
		head = append(head, "each", "Jain")
	} else {
		head = append(head, "of the rate", "sent again %")
	}
	return append(head, "queue mean", "queue max", "sent", "back", "dropped %", "CPU s/GB", "late %", "overruns")
}

func (g *group) linkCells(r *row) []string {
	if linkCarrierHeads[g.Spec.Test] != nil {
		return g.linkCarrierCells(r)
	}
	if g.Spec.Test != "link" {
		return g.linkLatencyCells(r)
	}
	m := r.Median
	f := func(format, key string) string {
		if _, ok := m[key]; !ok {
			return "–"
		}
		return fmt.Sprintf(format, m[key])
	}
	cells := []string{f("%.1f", "mbit") + rounds(r, "mbit", 1)}
	if len(r.Flows) > 1 {
		cells = append(cells, linkShares(r, m), f("%.3f", "jain")+rounds(r, "jain", 1))
	} else {
		of := "–"
		if g.Link.Rate > 0 {
			of = fmt.Sprintf("%.3f", m["mbit"]*1e6/8/g.Link.Rate)
		}
		cells = append(cells, of, f("%.1f", "retransmitted"))
	}
	return append(cells, f("%.2f", "queue.mean"), f("%.2f", "queue.max"), f("%.3f", "sent"), f("%.3f", "back"), f("%.1f", "dropped"),
		f("%.2f", "cpu"), f("%.2f", "late"), f("%.0f", "overruns"))
}

// rounds returns the smallest and the largest of several rounds, in this unit.
func rounds(r *row, key string, unit float64) string {
	var xs []float64
	for _, v := range r.Rounds {
		if x, ok := v[key]; ok {
			xs = append(xs, x*unit)
		}
	}
	if len(xs) < 2 {
		return ""
	}
	return fmt.Sprintf(" (%.4g–%.4g)", slices.Min(xs), slices.Max(xs))
}
