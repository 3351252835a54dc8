package vstp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// Connections of "auto" on the kernel's sockets, whose carriers fail in the ways that
// networks have. Traps A1 to A5 and A8.

// netnsAuto decides sooner than the defaults, so that tests are shorter.
var netnsAuto = NetnsAuto{
	HeadStart:       200 * time.Millisecond,
	StandbyInterval: 2 * time.Second,
	ProbeTimeout:    300 * time.Millisecond,
	SwitchCooldown:  time.Second,
	MinDwellTime:    500 * time.Millisecond,
}

// inTime is how long a session may take to find that a carrier is dead and to move.
const inTime = 10 * time.Second

// returnTime is how long it may take to find that UDP is back: after a failure a return
// waits for 5 s and longer, and a dead carrier is asked every 30 s.
const returnTime = 45 * time.Second

// at waits until both ends send on a carrier and bytes come both ways.
func (p *netnsPair) at(c vstp.Carrier) {
	p.t.Helper()
	limit := inTime
	if c == vstp.CarrierUDP {
		limit = returnTime
	}
	p.until("both send on "+c.String(), limit, func(cs, ss NetnsState) bool {
		return cs.Carrier == c && ss.Carrier == c
	})
	p.flows(64 << 10)
}

// attached waits until the client has n TCP connections.
func (p *netnsPair) attached(n int) {
	p.t.Helper()
	p.until(fmt.Sprint(n, " TCP connections"), inTime, func(c, s NetnsState) bool { return len(p.tcpPorts()) == n })
}

// report logs what has happened since a fault: how long no payload came at the end that
// waited longest, and the moves.
func (p *netnsPair) report(what string, from time.Time) {
	p.t.Helper()
	c, s := p.c.state(), p.s.state()
	var longest time.Duration
	for _, g := range append(c.Gaps, s.Gaps...) {
		if g.To.After(from) {
			longest = max(longest, g.To.Sub(g.From))
		}
	}
	var moves strings.Builder
	for _, m := range c.Stats.RecentMoves {
		if m.Time.After(from) {
			fmt.Fprintf(&moves, "; %v to %s: %s, by server %v, gap %v, %d bytes again", m.Time.Sub(from).Round(time.Millisecond),
				m.To, m.Reason, m.ByPeer, m.Gap.Round(time.Millisecond), m.Resent)
		}
	}
	p.t.Logf("%s: longest time without payload %v%s", what, longest.Round(time.Millisecond), &moves)
}

// after makes a fault, waits, and reports.
func (p *netnsPair) after(what string, wait func(), rules ...string) {
	p.t.Helper()
	from := time.Now()
	p.fault(rules...)
	wait()
	p.report(what, from)
}

// lastMove finds that the last move of either end was to c.
func (p *netnsPair) lastMove(t *testing.T, to string) {
	t.Helper()
	for _, s := range []NetnsState{p.c.state(), p.s.state()} {
		moves := s.Stats.RecentMoves
		require.NotEmpty(t, moves)
		last := moves[len(moves)-1]
		require.Equal(t, to, last.To, "%+v", moves)
		require.NotEmpty(t, last.Reason, "%+v", moves)
	}
}

// A netnsFault is one way to go wrong.
type netnsFault struct {
	name string
	both NetnsConfig
	run  func(t *testing.T, p *netnsPair)
}

func TestAutoNetns(t *testing.T) {
	needNetns(t)
	side := newAside(8)
	defer side.Wait()
	for _, f := range netnsFaults {
		for _, sealed := range []bool{false, true} {
			name := f.name
			if sealed {
				name += ", TLS"
			}
			side.run(t, name, func(t *testing.T) {
				both := f.both
				both.Network, both.Auto = "auto", netnsAuto
				f.run(t, newNetnsPair(t, both, sealed))
			})
		}
	}
}

var netnsFaults = []netnsFault{
	{name: "nothing", run: func(t *testing.T, p *netnsPair) {
		start := time.Now()
		d := p.connect(t)
		t.Log("dialed in", d.Took)
		p.transfer()
		p.attached(1)
		p.flows(1 << 20)
		p.report("nothing", start)
		c, s := p.finish(t)
		// A process that gets no CPU for some round trips looks dead.
		require.LessOrEqual(t, max(c.State.Stats.Moves, s.State.Stats.Moves), uint64(1))
	}},
	{name: "UDP blocked from the start", run: func(t *testing.T, p *netnsPair) {
		p.fault(udpBlocked)
		c := p.clientConfig()
		c.Dials = 3
		d, err := p.c.dial(c)
		require.NoError(t, err)
		t.Log("dialed in", d.Took)
		require.Contains(t, d.Carrier, "tcp")
		require.Greater(t, d.Took[0], netnsAuto.HeadStart)
		require.Less(t, min(d.Took[1], d.Took[2]), netnsAuto.HeadStart) // as was remembered
		p.s.accept()
		p.s.accept()
		p.s.accept()
		p.transfer()
		p.at(vstp.CarrierTCP)
		p.after("UDP works", func() { p.at(vstp.CarrierUDP) })
		p.lastMove(t, "udp")
		p.finish(t)
	}},
	{name: "UDP blocked for a while", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		for _, rule := range []string{udpBlocked, udpRejected} {
			p.after("UDP is blocked", func() { p.at(vstp.CarrierTCP) }, rule)
			p.lastMove(t, "tcp")
			p.after("UDP is back", func() { p.at(vstp.CarrierUDP) })
			p.lastMove(t, "udp")
		}
		p.finish(t)
	}},
	{name: "large datagrams are lost", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		p.after("more than 600 bytes are lost", func() {
			p.at(vstp.CarrierTCP)
			p.flows(2 << 20)
		}, udpSmall)
		moves := p.c.state().Stats.Moves
		require.LessOrEqual(t, moves, uint64(3), "small packets that come through are no reason to go back")
		p.after("UDP works again", func() { p.at(vstp.CarrierUDP) })
		p.finish(t)
	}},
	{name: "UDP at 1 Mbit per s", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		p.after("UDP is slow", func() { p.at(vstp.CarrierTCP) }, udpMegabit)
		p.finish(t)
	}},
	{name: "40 % of UDP lost", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		p.after("40 %", func() { p.flows(2 << 20) }, udpLoss40)
		p.fault()
		p.finish(t)
	}},
	{name: "TCP blocked from the start", run: func(t *testing.T, p *netnsPair) {
		p.fault(tcpBlocked)
		d := p.connect(t)
		require.Contains(t, d.Carrier, "udp")
		p.transfer()
		p.flows(512 << 10)
		require.Zero(t, p.c.state().Stats.Moves)
		p.after("UDP is blocked, TCP works", func() { p.at(vstp.CarrierTCP) }, udpBlocked)
		p.finish(t)
	}},
	{name: "TCP blocked in use", run: func(t *testing.T, p *netnsPair) { testNetnsTCPFails(t, p, tcpBlocked) }},
	{name: "TCP stalls in use", run: func(t *testing.T, p *netnsPair) { testNetnsTCPFails(t, p, "") }},
	{name: "TCP reset in use", run: func(t *testing.T, p *netnsPair) { testNetnsTCPFails(t, p, tcpReset) }},
	{name: "both dead for 10 s", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		from := time.Now()
		p.fault(udpBlocked, tcpBlocked)
		p.until("10 s are over", 15*time.Second, func(c, s NetnsState) bool { return time.Since(from) > 10*time.Second })
		p.after("both are back", func() { p.flows(256 << 10) })
		p.finish(t)
	}},
	{name: "both dead for good", both: NetnsConfig{Idle: 3 * time.Second}, run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		from := time.Now()
		p.fault(udpBlocked, tcpBlocked)
		p.until("both have given up", inTime, func(c, s NetnsState) bool { return c.ReadEnd != "" && s.ReadEnd != "" })
		c, s := p.c.state(), p.s.state()
		t.Log(time.Since(from), c.ReadEnd, s.ReadEnd)
		require.Contains(t, c.ReadEnd, "ErrIdleTimeout")
		require.Contains(t, s.ReadEnd, "ErrIdleTimeout")
		require.Greater(t, time.Since(from), 2500*time.Millisecond)
	}},
	{name: "the address changes, on UDP", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		from := time.Now()
		p.changeAddress(t, "10.77.0.2", "10.77.0.3")
		p.flows(1 << 20)
		p.report("another address", from)
		p.finish(t)
	}},
	{name: "the address changes, on TCP", run: func(t *testing.T, p *netnsPair) {
		p.fault(udpBlocked)
		p.connect(t)
		p.transfer()
		p.at(vstp.CarrierTCP)
		from := time.Now()
		p.changeAddress(t, "10.77.0.2", "10.77.0.3")
		p.flows(512 << 10) // on a new connection
		p.report("another address", from)
		p.fault()
		p.c.move(vstp.CarrierUDP) // whose socket had the old address
		p.at(vstp.CarrierUDP)
		p.finish(t)
	}},
	{name: "the server is started anew", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		from := time.Now()
		p.s.kill()
		p.s = p.server.peer(t)
		p.s.listen(p.serverConfig())
		for p.c.state().ReadEnd == "" {
			require.Less(t, time.Since(from), inTime)
			time.Sleep(10 * time.Millisecond)
		}
		t.Log(time.Since(from), p.c.state().ReadEnd)
		require.Contains(t, p.c.state().ReadEnd, "ErrReset")
		p.connect(t)
		p.transfer()
		p.finish(t)
	}},
	{name: "the standby dies unnoticed", run: func(t *testing.T, p *netnsPair) {
		p.connect(t)
		p.transfer()
		p.attached(1)
		stalled := p.tcpStalled()
		p.after("the standby and UDP are dead", func() { p.at(vstp.CarrierTCP) }, stalled, udpBlocked)
		p.after("UDP is back", func() { p.at(vstp.CarrierUDP) }, stalled)
		p.finish(t)
	}},
	{name: "no standby", run: func(t *testing.T, p *netnsPair) {
		p.both.Auto.NoStandby = true
		p.connect(t)
		require.Empty(t, p.tcpPorts())
		p.transfer()
		p.flows(256 << 10)
		p.after("UDP is blocked", func() { p.at(vstp.CarrierTCP) }, udpBlocked)
		p.finish(t)
	}},
}

// testNetnsTCPFails: a session on TCP, as UDP is blocked, goes on on UDP when that works and
// TCP does not any more.
func testNetnsTCPFails(t *testing.T, p *netnsPair, rule string) {
	p.fault(udpBlocked)
	p.connect(t)
	p.transfer()
	p.at(vstp.CarrierTCP)
	if rule == "" {
		rule = p.tcpStalled()
	}
	p.after("TCP is dead", func() { p.at(vstp.CarrierUDP) }, rule)
	p.lastMove(t, "udp")
	p.fault()
	p.finish(t)
}

// changeAddress takes the client's address away and gives it another one.
func (p *netnsPair) changeAddress(t *testing.T, from, to string) {
	p.client.ip(t, "addr del "+from+"/24 dev "+netnsDevice)
	p.client.ip(t, "addr add "+to+"/24 dev "+netnsDevice)
}
