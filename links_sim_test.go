package vstp_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// How much of a link rudp makes use of: the whole stack, in virtual time. What nothing
// disturbs here is disturbed on real machines, by late timers above all; bench has both
// ends in processes.

const (
	linkIP  = 20 + 8  // what the rate of a link counts beside the payload
	linkBin = 10      // milliseconds; what arrives is counted in such bins
	mbit    = 1e6 / 8 // bytes per second
	linkMax = 1500    // MTU
)

// A linkCase is a link, the same in both directions, and flows over it from one side to
// the other.
type linkCase struct {
	mbits   float64
	rtt     time.Duration
	loss    float64
	burst   float64 // mean length of bursts of losses; 0: each packet by itself
	reorder float64 // share of packets that a few others overtake
	jitter  time.Duration
	free    bool    // jitter changes the order
	queue   float64 // in products of rate and round-trip time; 0 is 1
	flows   []linkFlow
	time    time.Duration
}

// A linkFlow is a transfer that lasts until the end.
type linkFlow struct {
	start time.Duration
	cubic bool
}

func (c linkCase) bdp() float64 { return c.mbits * mbit * c.rtt.Seconds() }

func (c linkCase) String() string {
	s := fmt.Sprintf("%g Mbit/s %v", c.mbits, c.rtt)
	if c.loss > 0 {
		s += fmt.Sprintf(" %g%%", c.loss*100)
	}
	if c.burst > 0 {
		s += fmt.Sprintf(" bursts of %g", c.burst)
	}
	if c.reorder > 0 {
		s += fmt.Sprintf(" reorder %g%%", c.reorder*100)
	}
	if c.jitter > 0 {
		s += fmt.Sprintf(" jitter %v", c.jitter)
		if c.free {
			s += " free"
		}
	}
	if c.queue > 0 {
		s += fmt.Sprintf(" queue %g", c.queue)
	}
	for i, f := range c.flows {
		if i > 0 {
			s += "+"
		} else {
			s += " "
		}
		if s += "bbr"; f.cubic {
			s = s[:len(s)-3] + "cubic"
		}
		if f.start > 0 {
			s += "@" + f.start.String()
		}
	}
	return s
}

func (c linkCase) path() simnet.Path {
	p := simnet.Path{Delay: c.rtt / 2, Rate: int64(c.mbits * mbit), Overhead: linkIP, MTU: linkMax, Jitter: c.jitter, JitterReorders: c.free, Reorder: c.reorder}
	p.Queue = int(cmp.Or(c.queue, 1) * c.bdp())
	if c.burst > 0 {
		p.Burst = simnet.Bursts(c.loss, c.burst)
	} else {
		p.Loss = c.loss
	}
	return p
}

// A linkResult is what came of a linkCase.
type linkResult struct {
	goodput []float64 // of each flow from its first byte on, in terms of the rate
	late    []float64 // in the time when all flows were there, but for its first quarter
	ramp    float64   // round trips from the first byte of the first flow until 90 % of the rate
	queue   float64   // mean, after the first second and when all are there, in products
	peak    float64   // largest since then
	first   float64   // largest before
	again   float64   // sent again without having been lost, in terms of what was sent
}

func (r linkResult) String() string {
	var s strings.Builder
	s.WriteString("goodput")
	for _, g := range r.goodput {
		s.WriteString(fmt.Sprintf(" %.3f", g))
	}
	if len(r.late) > 1 {
		s.WriteString(", at the end")
		for _, g := range r.late {
			s.WriteString(fmt.Sprintf(" %.2f", g))
		}
		s.WriteString(fmt.Sprintf(" (Jain %.3f)", jainIndex(r.late)))
	} else {
		s.WriteString(fmt.Sprintf(", at the end %.3f, 90 %% after %.1f RTT", r.late[0], r.ramp))
	}
	return s.String() + fmt.Sprintf(", queue %.2f, at most %.2f (%.2f at first), needless %.2f %%", r.queue, r.peak, r.first, 100*r.again)
}

func jainIndex(x []float64) float64 {
	var sum, sq float64
	for _, v := range x {
		sum += v
		sq += v * v
	}
	return sum * sum / (float64(len(x)) * sq)
}

// run runs it. It must be called in a bubble.
func (c linkCase) run(t *testing.T, seed uint64) (r linkResult) {
	t.Helper()
	flows := c.flows
	if len(flows) == 0 {
		flows = []linkFlow{{}}
	}
	seedRandom(t, seed)
	path := c.path()
	l := newSimLink(t, seed, path, nil)
	last := time.Duration(0)
	bins := make([][]int64, len(flows))
	first := make([]time.Duration, len(flows))
	var mu sync.Mutex // of both
	conns := make([]*vstp.Conn, len(flows))
	begin := time.Now()
	for i, f := range flows {
		last = max(last, f.start)
		config := &vstp.Config{}
		if f.cubic {
			config.CongestionControl = vstp.CUBIC
		}
		pc := vstp.NewPacketConn(l.ch.ListenPacket(0), simConfig(config))
		t.Cleanup(func() { pc.Close() })
		bins[i] = make([]int64, c.time/(linkBin*ms)+2)
		time.Sleep(f.start - time.Since(begin))
		cc, err := pc.DialStream(context.Background(), l.server.LocalAddr())
		require.NoError(t, err)
		sc, err := l.ln.Accept()
		require.NoError(t, err)
		conns[i] = cc.(*vstp.Conn)
		go io.Copy(cc, zeros{})
		go func() {
			buf := make([]byte, 256<<10)
			for {
				n, err := sc.Read(buf)
				if err != nil {
					return
				}
				at := time.Since(begin)
				mu.Lock()
				if first[i] == 0 {
					first[i] = at
				}
				if b := int(at / (linkBin * ms)); b < len(bins[i]) {
					bins[i][b] += int64(n)
				}
				mu.Unlock()
			}
		}()
	}
	forth := l.net.Path(l.ch, l.sh)
	sum, samples := 0.0, 0
	mark := last + time.Second
	time.Sleep(mark - time.Since(begin))
	early := forth.ResetStats()
	r.first = float64(early.MaxQueue) / c.bdp()
	base := last + (c.time-last)/4
	for time.Since(begin) < c.time {
		time.Sleep(2 * ms)
		sum += float64(forth.Stats().Queue)
		samples++
	}
	st := forth.Stats()
	r.queue = sum / float64(samples) / c.bdp()
	r.peak = float64(st.MaxQueue) / c.bdp()
	all := c.time.Seconds()
	mu.Lock()
	defer mu.Unlock()
	for i := range flows {
		var n, m int64
		for b, v := range bins[i] {
			n += v
			if time.Duration(b)*linkBin*ms >= base {
				m += v
			}
		}
		r.goodput = append(r.goodput, float64(n)/(all-first[i].Seconds())/(c.mbits*mbit))
		r.late = append(r.late, float64(m)/(c.time-base).Seconds()/(c.mbits*mbit))
	}
	r.ramp = c.ramp(bins[0], first[0])
	var lost, sent float64
	for _, conn := range conns {
		s := conn.Stats()
		lost += float64(s.PacketsLost)
		sent += float64(s.PacketsSent)
	}
	r.again = max(lost-float64(st.Lost+st.QueueFull+early.Lost+early.QueueFull), 0) / sent
	return r
}

// ramp returns when as much arrived in a round trip as 90 % of the rate is.
func (c linkCase) ramp(bins []int64, first time.Duration) float64 {
	n := max(int(c.rtt/(linkBin*ms)), 1)
	var sum int64
	for i, v := range bins {
		sum += v
		if i >= n {
			sum -= bins[i-n]
		}
		if float64(sum) >= .9*c.mbits*mbit*float64(n)*linkBin/1000 {
			return float64(time.Duration(i+1)*linkBin*ms-first) / float64(c.rtt)
		}
	}
	return math.Inf(1)
}

// zeros is a Reader that never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// linkCases is what the table shows.
func linkCases() []linkCase {
	both := func(c linkCase, flows ...linkFlow) linkCase {
		c.flows, c.time = flows, 30*time.Second
		return c
	}
	shared := linkCase{mbits: 50, rtt: 40 * ms}
	with := func(queue float64) linkCase { c := shared; c.queue = queue; return c }
	cases := []linkCase{
		{mbits: 100, rtt: 40 * ms},
		{mbits: 100, rtt: 40 * ms, loss: .01},
		{mbits: 100, rtt: 40 * ms, loss: .05},
		{mbits: 50, rtt: 200 * ms, loss: .02},
		{mbits: 500, rtt: 10 * ms, loss: .001},
		{mbits: 100, rtt: 40 * ms, loss: .02, burst: 8},
		{mbits: 100, rtt: 40 * ms, reorder: .05},
		{mbits: 100, rtt: 40 * ms, reorder: .05, loss: .01},
		{mbits: 100, rtt: 40 * ms, jitter: 20 * ms},
		{mbits: 100, rtt: 40 * ms, jitter: 20 * ms, free: true},
		{mbits: 100, rtt: 40 * ms, jitter: 20 * ms, free: true, loss: .01},
		{mbits: 100, rtt: 40 * ms, queue: 10},
		{mbits: 100, rtt: 40 * ms, queue: .2},
		{mbits: 20, rtt: 20 * ms},
		{mbits: 10, rtt: 100 * ms, loss: .01},
	}
	for _, q := range []float64{.5, 1, 2, 10} {
		cases = append(cases, both(with(q), linkFlow{}, linkFlow{}))
		cases = append(cases, both(with(q), linkFlow{}, linkFlow{start: 5 * time.Second}))
	}
	four := []linkFlow{{}, {}, {}, {}}
	cases = append(cases, both(shared, four...), both(with(2), four...))
	for _, q := range []float64{1, 2, 10} {
		cases = append(cases, both(with(q), linkFlow{}, linkFlow{cubic: true}))
	}
	return cases
}

// BenchmarkLinks shows what every change of the engine or its controller means: before it
// and after, all of it belongs into the commit. Runs are seeds, 20 of them with
//
//	go test . -run NONE -bench Links -benchtime 20x
//
// Its times say nothing. The metrics are means, "least-" and "most-" of them of single seeds:
// rate is what arrived in terms of the rate from the first byte on, ramp the round trips until
// 90 % of the rate, of one flow; jain the index of fairness, share that of the first flow when
// all are there, of several; queue and peak in products.
func BenchmarkLinks(b *testing.B) {
	for _, c := range linkCases() {
		c.time = cmp.Or(c.time, 15*time.Second)
		b.Run(strings.NewReplacer("Mbit/s ", "Mbit_", " ", "_").Replace(c.String()), func(b *testing.B) {
			means := map[string]float64{}
			note := func(name string, v float64) { means[name] += v / float64(b.N) }
			least, most := math.Inf(1), 0.0
			for seed := range uint64(b.N) {
				var r linkResult
				benchBubble(b, func(t *testing.T) { r = c.run(t, seed+1) })
				note("queue", r.queue)
				note("peak", max(r.peak, r.first))
				if len(c.flows) > 1 {
					note("jain", jainIndex(r.late))
					note("share", r.late[0])
					least, most = min(least, jainIndex(r.late)), max(most, r.late[0])
				} else {
					note("rate", r.goodput[0])
					note("ramp", r.ramp)
					least, most = min(least, r.goodput[0]), max(most, r.ramp)
				}
			}
			if len(c.flows) > 1 {
				b.ReportMetric(least, "least-jain")
				b.ReportMetric(most, "most-share")
			} else {
				b.ReportMetric(least, "least-rate")
				b.ReportMetric(most, "most-ramp")
			}
			for name, v := range means {
				b.ReportMetric(v, name)
			}
			b.ReportMetric(0, "ns/op") // real time, which is nobody's business here
		})
	}
}

// benchBubble runs f in a bubble, as only tests have one.
func benchBubble(b *testing.B, f func(t *testing.T)) {
	b.Helper()
	all := func(string, string) (bool, error) { return true, nil }
	if !testing.RunTests(all, []testing.InternalTest{{Name: b.Name(), F: func(t *testing.T) { synctest.Test(t, f) }}}) {
		b.FailNow()
	}
}

// linkSeeds runs a case with some seeds; under -race with one, and shorter, which is for
// races and not for figures.
func linkSeeds(t *testing.T, c linkCase, seeds int, check func(t *testing.T, r linkResult)) {
	t.Helper()
	if raceEnabled {
		seeds = 1
		c.time = 3 * time.Second
		for i := range c.flows {
			c.time += c.flows[i].start
		}
	}
	t.Run(c.String(), func(t *testing.T) {
		simnet.Run(t, seeds, func(t *testing.T, seed uint64) {
			r := c.run(t, seed)
			t.Log(r)
			if !raceEnabled {
				check(t, r)
			}
		})
	})
}

// One flow, from its first byte on.
func TestLinkGoodput(t *testing.T) {
	for i, c := range []struct {
		linkCase
		goodput float64
		ramp    float64 // 0: any
	}{
		{linkCase{mbits: 100, rtt: 40 * ms}, .95, 5},
		{linkCase{mbits: 100, rtt: 40 * ms, loss: .01}, .93, 8},
		{linkCase{mbits: 100, rtt: 40 * ms, loss: .05}, .885, 10},
		{linkCase{mbits: 50, rtt: 200 * ms, loss: .02}, .855, 0},
		{linkCase{mbits: 500, rtt: 10 * ms, loss: .001}, .92, 0},
		{linkCase{mbits: 100, rtt: 40 * ms, loss: .02, burst: 8}, .85, 0},
		{linkCase{mbits: 100, rtt: 40 * ms, reorder: .05}, .945, 5},
		{linkCase{mbits: 100, rtt: 40 * ms, jitter: 20 * ms}, .84, 0},
		{linkCase{mbits: 100, rtt: 40 * ms, jitter: 20 * ms, free: true}, .91, 0},
		{linkCase{mbits: 100, rtt: 40 * ms, jitter: 20 * ms, free: true, loss: .01}, .87, 0},
		{linkCase{mbits: 100, rtt: 40 * ms, queue: 10}, .95, 5},
		{linkCase{mbits: 100, rtt: 40 * ms, queue: .2}, .92, 0},
	} {
		if raceEnabled && i%5 != 0 {
			continue
		}
		c.time = 20 * time.Second
		if c.mbits > 100 {
			c.time = 4 * time.Second
		}
		seeds := 1
		if c.loss > 0 {
			seeds = 2
		}
		linkSeeds(t, c.linkCase, seeds, func(t *testing.T, r linkResult) {
			require.GreaterOrEqual(t, r.goodput[0], c.goodput)
			require.LessOrEqual(t, r.again, .005, "sent again without need")
			require.LessOrEqual(t, r.queue, .5)
			require.LessOrEqual(t, max(r.peak, r.first), 1.4)
			if c.ramp > 0 {
				require.LessOrEqual(t, r.ramp, c.ramp)
			}
		})
	}
}

// Two flows, and one that comes later, have equal parts, four nearly so.
func TestLinkFair(t *testing.T) {
	late := linkFlow{start: 5 * time.Second}
	for i, c := range []struct {
		queue float64
		flows []linkFlow
		jain  float64
	}{
		{1, []linkFlow{{}, {}}, .95},
		{1, []linkFlow{{}, late}, .95},
		{2, []linkFlow{{}, {}}, .98},
		{10, []linkFlow{{}, {}}, .98},
		{10, []linkFlow{{}, late}, .98},
		{1, []linkFlow{{}, {}, {}, {}}, .9},
		{2, []linkFlow{{}, {}, {}, {}}, .9},
	} {
		if raceEnabled && i > 0 {
			break
		}
		linkSeeds(t, linkCase{mbits: 50, rtt: 40 * ms, queue: c.queue, flows: c.flows, time: 20 * time.Second}, 2, func(t *testing.T, r linkResult) {
			require.GreaterOrEqual(t, jainIndex(r.late), c.jain)
			if len(c.flows) == 2 {
				require.LessOrEqual(t, max(r.peak, r.first), 1.9)
			}
		})
	}
}

// Beside CUBIC, each has between a quarter and four fifths.
func TestLinkBesideCUBIC(t *testing.T) {
	for _, queue := range []float64{1, 2, 10} {
		linkSeeds(t, linkCase{mbits: 50, rtt: 40 * ms, queue: queue, flows: []linkFlow{{}, {cubic: true}}, time: 30 * time.Second}, 2, func(t *testing.T, r linkResult) {
			require.GreaterOrEqual(t, r.late[0], .25)
			require.GreaterOrEqual(t, r.late[1], .2)
		})
	}
}
