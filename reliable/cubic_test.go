package reliable

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCUBICSingle(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		path    simPath
		goodput float64
	}{
		{newPath(50, 20*ms, 1, 0), .95},
		{newPath(50, 20*ms, .2, 0), .85},
		{newPath(30, 40*ms, 1, 0), .95},
		{newPath(20, 100*ms, 1, 0), .9},
		{newPath(30, 40*ms, 10, 0), .95},
	} {
		t.Run(simName(c.path), func(t *testing.T) {
			f := &simFlow{ctl: newCUBIC()}
			s := newSim(1, c.path, f)
			s.run(10 * time.Second)
			t.Logf("%.3f, lost %.4f, queue %.2f", f.share(s, 0, 10), f.lossRate(), s.queueMean()/c.path.bdp())
			require.GreaterOrEqual(t, f.share(s, 0, 10), c.goodput)
			require.Less(t, f.lossRate(), .03)
		})
	}
}

func TestCUBICFair(t *testing.T) {
	p := newPath(50, 20*time.Millisecond, 1, 0)
	a := &simFlow{ctl: newCUBIC()}
	b := &simFlow{ctl: newCUBIC(), start: instant(5 * time.Second)}
	s := newSim(7, p, a, b)
	s.run(30 * time.Second)
	require.GreaterOrEqual(t, jain(a.share(s, 15, 30), b.share(s, 15, 30)), .95)
}

// cubicScript drives the controller by rounds: all of the window is sent and
// acknowledged, except for what is lost.
type cubicScript struct {
	c      *cubic
	now    instant
	srtt   time.Duration
	minRTT time.Duration
	packet []ackedPacket
}

func newCubicScript() *cubicScript {
	s := &cubicScript{c: newCUBIC().(*cubic), now: instant(time.Second), srtt: 100 * time.Millisecond, minRTT: 100 * time.Millisecond}
	s.c.mtuChanged(1000)
	return s
}

// round sends a window and acknowledges it an RTT later, one ACK for two packets. The first
// lost packets of it are lost.
func (s *cubicScript) round(lost int) {
	s.packet = s.packet[:0]
	inflight := 0
	for inflight+1000 <= s.c.window() {
		p := ackedPacket{size: 1000}
		s.c.packetSent(s.now, &p.ratePacket, 1000, inflight)
		inflight += 1000
		s.packet = append(s.packet, p)
	}
	s.now = s.now.add(s.srtt)
	window := inflight
	for i := lost; i < len(s.packet); i += 2 {
		a := ackSample{now: s.now, srtt: s.srtt, minRTT: s.minRTT, rtt: s.srtt, prior: window}
		a.acked = s.packet[i:min(i+2, len(s.packet))]
		if i == lost {
			a.lost, a.lostLen = s.packet[:lost], lost*1000
		}
		a.ackedLen = len(a.acked) * 1000
		inflight -= a.ackedLen + a.lostLen
		a.inflight = inflight
		s.c.acked(&a)
		s.now = s.now.add(time.Microsecond)
	}
}

// "slow start doubles per RTT, not per ACK burst" (trap G3), then RFC 9438 §4.6:
// the window is multiplied by 0.7, once for all losses of a round.
func TestCUBICSlowStartAndLoss(t *testing.T) {
	s := newCubicScript()
	require.Equal(t, 10000, s.c.window())
	for want := 20000; want <= 160000; want *= 2 {
		s.round(0)
		require.Equal(t, want, s.c.window())
	}
	require.Equal(t, "slow start", s.c.state())
	s.round(20)
	require.InDelta(t, 112000, s.c.window(), 2000, "0.7 of the window, one reduction")
	require.Equal(t, "avoidance", s.c.state())
	require.InEpsilon(t, 1.25*float64(s.c.window())/.1, s.c.pacingRate(), .01)
}

// §4.2: "K is the time period that the above function takes to increase the window to W_max".
func TestCUBICCurve(t *testing.T) {
	s := newCubicScript()
	for range 4 {
		s.round(0)
	}
	s.round(1)
	s.round(0)
	k := s.c.k
	require.InDelta(t, 4.93, k, .1, "cbrt(160 * 0.3 / 0.4)")
	begin := s.c.epoch
	for s.now.sub(begin).Seconds() < k-.2 {
		s.round(0)
	}
	require.InDelta(t, 160000, s.c.window(), 3000)
	for s.now.sub(begin).Seconds() < k+3 {
		s.round(0)
	}
	require.InDelta(t, 160000+.4*27*1000, s.c.window(), 4000, "convex beyond")
}

// §4.7: a flow that lost before it was back at W_max gives room.
func TestCUBICFastConvergence(t *testing.T) {
	s := newCubicScript()
	for range 4 {
		s.round(0)
	}
	s.round(1)
	s.round(0)
	w := float64(s.c.window())
	s.round(1)
	require.InEpsilon(t, w*.85, s.c.wMax, .05)
	require.InEpsilon(t, w*.7, s.c.window(), .05)
}

// §4.9.2: all that was lost has arrived: the reduction is undone.
func TestCUBICSpurious(t *testing.T) {
	s := newCubicScript()
	for range 4 {
		s.round(0)
	}
	s.round(3)
	require.Less(t, s.c.window(), 120000)
	s.c.spurious(s.now, 2000)
	require.Less(t, s.c.window(), 120000, "one is still lost")
	s.c.spurious(s.now, 1000)
	require.GreaterOrEqual(t, s.c.window(), 160000)
	require.Equal(t, "slow start", s.c.state())
	s.c.spurious(s.now, 1000)
	require.GreaterOrEqual(t, s.c.window(), 160000, "nothing more to undo")
}

// RFC 9002 §7.6.2, and slow start up to where the window was.
func TestCUBICPersistentCongestion(t *testing.T) {
	s := newCubicScript()
	for range 4 {
		s.round(0)
	}
	s.c.persistentCongestion(s.now)
	require.Equal(t, 2000, s.c.window())
	require.Equal(t, "slow start", s.c.state())
	s.now++
	s.round(0)
	require.Equal(t, 4000, s.c.window())
	for range 8 {
		s.round(0)
	}
	require.InDelta(t, 112000, s.c.window(), 6000)
	require.Equal(t, "avoidance", s.c.state())
}

// RFC 9438 §5.8: a window that is not used does not grow (trap G3), and what is lost then
// does not divide a window that nobody used.
func TestCUBICAppLimited(t *testing.T) {
	s := newCubicScript()
	for range 4 {
		s.round(0)
	}
	w := s.c.window()
	for range 50 {
		p := []ackedPacket{{size: 1000}}
		s.c.packetSent(s.now, &p[0].ratePacket, 1000, 0)
		s.c.appLimited(1000)
		s.now = s.now.add(s.srtt)
		s.c.acked(&ackSample{now: s.now, acked: p, ackedLen: 1000, prior: 1000, rtt: s.srtt, srtt: s.srtt, minRTT: s.minRTT})
	}
	require.Equal(t, w, s.c.window())
}

// RFC 9406: an RTT that grows ends slow start before losses do.
func TestCUBICHyStart(t *testing.T) {
	s := newCubicScript()
	s.round(0)
	s.round(0)
	s.srtt = 120 * time.Millisecond
	s.round(0)
	s.round(0)
	require.Equal(t, "conservative slow start", s.c.state())
	w := s.c.window()
	s.round(0)
	require.InEpsilon(t, float64(w)*1.25, s.c.window(), .05, "CSS_GROWTH_DIVISOR is 4")
	for range 5 {
		s.round(0)
	}
	require.Equal(t, "avoidance", s.c.state())

	// "If the RTT drops below the baseline, resume slow start."
	s = newCubicScript()
	s.round(0)
	s.round(0)
	s.srtt = 120 * time.Millisecond
	s.round(0)
	s.round(0)
	require.Equal(t, "conservative slow start", s.c.state())
	s.srtt = 100 * time.Millisecond
	s.round(0)
	require.Equal(t, "slow start", s.c.state())
}
