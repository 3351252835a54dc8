package reliable

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const mbit = 1e6 / 8

func simName(p simPath) string {
	return fmt.Sprintf("%gMbit/%v/%.1fBDP/%g%%", p.rate/mbit, p.rtt, float64(p.queue)/p.bdp(), 100*p.loss)
}

// newPath returns a path with a buffer in terms of its product.
func newPath(mbits float64, rtt time.Duration, buffer, loss float64) simPath {
	p := simPath{rate: mbits * mbit, rtt: rtt, loss: loss}
	p.queue = int(buffer * p.bdp())
	return p
}

// Losses at random leave the rate as it is, and no queue is built to speak of.
func TestBBRSingle(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		path    simPath
		burst   float64
		goodput float64 // least share of the rate that arrives in 10 s, Startup included
		queue   float64 // largest mean after 2 s, in products
	}{
		{newPath(100, 40*ms, 1, 0), 0, .975, .2},
		{newPath(100, 40*ms, 1, .01), 0, .96, .3},
		{newPath(100, 40*ms, 1, .05), 0, .91, .4},
		{newPath(100, 40*ms, 1, .10), 0, .84, .4},
		{newPath(50, 200*ms, 1, .02), 0, .83, .4},
		{newPath(100, 40*ms, .2, 0), 0, .95, .2},
		{newPath(100, 40*ms, .2, .01), 0, .93, .2},
		{newPath(100, 40*ms, 10, 0), 0, .975, .2},
		{newPath(100, 40*ms, 10, .01), 0, .96, .3},
		{newPath(10, 100*ms, 1, .02), 8, .85, .4},
		{newPath(1, 1000*ms, 1, 0), 0, .65, .8},
		{newPath(150, 20*ms, 1, .01), 0, .96, .3},
	} {
		t.Run(simName(c.path), func(t *testing.T) {
			p := c.path
			p.burst = c.burst
			f := &simFlow{ctl: newBBR(1)}
			s := newSim(1, p, f)
			s.run(2 * time.Second)
			most := s.qMax
			s.resetQueue()
			s.run(10 * time.Second)
			got := f.rateBetween(0, 10*time.Second) / p.rate
			queue := s.queueMean() / p.bdp()
			t.Logf("goodput %.3f, queue %.2f, at most %.2f, lost %.3f", got, queue, float64(max(most, s.qMax))/p.bdp(), f.lossRate())
			require.GreaterOrEqual(t, got, c.goodput)
			require.LessOrEqual(t, queue, c.queue)
			require.LessOrEqual(t, float64(max(most, s.qMax)), 1.5*p.bdp())
		})
	}
}

// Two flows share fairly, also if one comes later: what it lacks of all 30 s is what it
// was not there for.
func TestBBRFair(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		path       simPath
		jain, late float64 // over the 30 s, and over the last 20
	}{
		{newPath(50, 20*ms, 2, 0), .95, .98},
		{newPath(50, 20*ms, 10, .01), .95, .98},
		{newPath(30, 40*ms, 1, 0), .9, .95},
		{newPath(30, 40*ms, 2, 0), .95, .98},
		{newPath(30, 40*ms, 2, .01), .95, .98},
		{newPath(20, 100*ms, 1, 0), .88, .95},
	} {
		t.Run(simName(c.path), func(t *testing.T) {
			a := &simFlow{ctl: newBBR(1)}
			b := &simFlow{ctl: newBBR(2), start: instant(5 * time.Second)}
			s := newSim(7, c.path, a, b)
			s.run(10 * time.Second)
			s.resetQueue()
			s.run(30 * time.Second)
			x, y := a.share(s, 0, 30), b.share(s, 0, 30)
			lx, ly := a.share(s, 10, 30), b.share(s, 10, 30)
			t.Logf("%.2f %.2f Jain %.3f, after 10 s %.2f %.2f Jain %.3f, queue %.2f, at most %.2f, lost %.3f",
				x, y, jain(x, y), lx, ly, jain(lx, ly), s.queueMean()/s.path.bdp(), float64(s.qMax)/s.path.bdp(), a.lossRate())
			require.GreaterOrEqual(t, jain(x, y), c.jain)
			require.GreaterOrEqual(t, jain(lx, ly), c.late)
			require.GreaterOrEqual(t, lx+ly, .94)
			require.Less(t, float64(s.qMax), 2.05*c.path.bdp())
		})
	}
}

// Beside CUBIC each gets between a quarter and three quarters.
func TestBBRBesideCUBIC(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		path  simPath
		share float64
	}{
		{newPath(50, 20*ms, 1, 0), .25},
		{newPath(30, 40*ms, 1, 0), .25},
		{newPath(30, 40*ms, 2, 0), .2}, // between half and 4/5 of the rate for BBR, by seed
		{newPath(20, 100*ms, 2, 0), .25},
		{newPath(30, 40*ms, 10, 0), .25},
	} {
		t.Run(simName(c.path), func(t *testing.T) {
			a := &simFlow{ctl: newBBR(1)}
			b := &simFlow{ctl: newCUBIC(), start: instant(5 * time.Second)}
			s := newSim(7, c.path, a, b)
			s.run(30 * time.Second)
			x, y := a.share(s, 10, 30), b.share(s, 10, 30)
			t.Logf("BBR %.2f CUBIC %.2f, lost %.3f %.3f", x, y, a.lossRate(), b.lossRate())
			require.GreaterOrEqual(t, x, c.share)
			require.GreaterOrEqual(t, y, c.share)
		})
	}
}

// Beside the first version of BBR, which does not care for losses, it gets a quarter.
func TestBBRBesideBBR1(t *testing.T) {
	const ms = time.Millisecond
	for i, c := range []struct {
		path  simPath
		share float64
	}{
		{newPath(100, 40*ms, 1, 0), .25},
		{newPath(30, 40*ms, 1, 0), .25},
		{newPath(100, 40*ms, 2, 0), .25},
		{newPath(30, 40*ms, 10, 0), .25},
		{newPath(100, 40*ms, .5, 0), .2},
	} {
		if raceEnabled && i > 0 {
			break
		}
		t.Run(simName(c.path), func(t *testing.T) {
			const runs = 4
			var x, y float64
			for seed := range uint64(runs) {
				a := &simFlow{ctl: newBBR(seed + 1)}
				b := &simFlow{ctl: newBBR1(seed + 1), start: instant(seed) * instant(time.Second)}
				s := newSim(seed+1, c.path, a, b)
				s.run(30 * time.Second)
				x, y = x+a.share(s, 5, 30)/runs, y+b.share(s, 5, 30)/runs
			}
			t.Logf("BBR %.2f, its first version %.2f", x, y)
			require.GreaterOrEqual(t, x, c.share)
			require.GreaterOrEqual(t, y, c.share)
		})
	}
}

// A policer drops what is too much and shows no queue. Chance decides much of a single run.
func TestBBRPolicer(t *testing.T) {
	const runs = 8
	for _, loss := range []float64{0, .05} {
		goodput, lost, least := 0.0, 0.0, 1.0
		for seed := range uint64(runs) {
			p := simPath{rate: 10 * mbit, rtt: 40 * time.Millisecond, queue: 50000, police: true, loss: loss}
			f := &simFlow{ctl: newBBR(seed + 1)}
			s := newSim(seed+1, p, f)
			s.run(3 * time.Second)
			sentBytes, lostBytes := f.sentBytes, f.lostBytes
			s.run(15 * time.Second)
			rate := float64(f.lostBytes-lostBytes) / float64(f.sentBytes-sentBytes)
			require.Less(t, rate, .2, "it must send less, as what it sends is lost")
			goodput, lost, least = goodput+f.share(s, 3, 15)/runs, lost+rate/runs, min(least, f.share(s, 3, 15))
		}
		t.Logf("goodput %.2f, %.2f at least, lost %.3f", goodput, least, lost)
		require.GreaterOrEqual(t, goodput, .85)
		require.GreaterOrEqual(t, least, .8)
	}
}

// A path is full within four or five round trips without losses, and the queue that
// shows it is gone soon.
func TestBBRStartup(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		path  simPath
		full  time.Duration // from then on all of the rate arrives
		short time.Duration // then the queue is short
	}{
		{newPath(100, 40*ms, 10, 0), 160 * ms, 400 * ms},
		{newPath(100, 40*ms, 1, 0), 160 * ms, 400 * ms},
		{newPath(100, 40*ms, 1, .05), 300 * ms, 600 * ms},
		{newPath(50, 200*ms, 1, .02), 1100 * ms, 2000 * ms},
		{newPath(500, 10*ms, 1, .001), 60 * ms, 200 * ms},
	} {
		t.Run(simName(c.path), func(t *testing.T) {
			f := &simFlow{ctl: newBBR(1), mtu: 1500}
			s := newSim(1, c.path, f)
			s.run(c.full)
			before := f.delivered
			s.run(c.full + c.path.rtt)
			rate := float64(f.delivered-before) / c.path.rtt.Seconds() / c.path.rate
			most := s.qMax
			s.run(c.short)
			t.Logf("%.3f of the rate after %v, queue at most %.2f, %.2f after %v", rate, c.full,
				float64(most)/c.path.bdp(), float64(s.qBytes)/c.path.bdp(), c.short)
			require.GreaterOrEqual(t, rate, .9*(1-c.path.loss))
			require.LessOrEqual(t, float64(s.qMax), 1.45*c.path.bdp())
			require.LessOrEqual(t, float64(s.qBytes), .3*c.path.bdp())
		})
	}
}

// Whoever begins while another flow fills a short queue does not take the losses of its
// own beginning for what the path loses anyhow: seed 3 had the second flow drive the
// first one out.
func TestBBRFairLate(t *testing.T) {
	seeds := uint64(8)
	if raceEnabled {
		seeds = 4
	}
	sum := 0.0
	for seed := range seeds {
		a := &simFlow{ctl: newBBR(seed * 10), mtu: 1500}
		b := &simFlow{ctl: newBBR(seed*10 + 1), mtu: 1500, start: instant(5003 * time.Millisecond)}
		s := newSim(seed, newPath(50, 40*time.Millisecond, .5, 0), a, b)
		s.run(30 * time.Second)
		x, y := a.share(s, 10, 30), b.share(s, 10, 30)
		t.Logf("seed %d: %.2f %.2f Jain %.3f", seed, x, y, jain(x, y))
		require.GreaterOrEqual(t, jain(x, y), .8)
		sum += jain(x, y)
	}
	require.GreaterOrEqual(t, sum/float64(seeds), .92)
}

// Four flows at a short queue: those that had lost packets more than others took them for
// rivals that do not give way, and then all held unequal shares for good, as little as 3 %
// beside 50. The bounds hold for 20 seeds.
func TestBBRFairFour(t *testing.T) {
	for _, c := range []struct{ queue, mean, least float64 }{
		{.5, .94, .82},
		{1, .95, .9},
	} {
		runs := uint64(8)
		if raceEnabled {
			runs = 2
		}
		sum, least := 0.0, 1.0
		for seed := range runs {
			flows := make([]*simFlow, 4)
			for i := range flows {
				flows[i] = &simFlow{ctl: newBBR(seed*10 + uint64(i)), start: instant(i) * instant(3*time.Millisecond)}
			}
			s := newSim(seed, newPath(50, 40*time.Millisecond, c.queue, 0), flows...)
			s.run(30 * time.Second)
			j := jain(flows[0].share(s, 10, 30), flows[1].share(s, 10, 30), flows[2].share(s, 10, 30), flows[3].share(s, 10, 30))
			sum, least = sum+j/float64(runs), min(least, j)
			require.Less(t, flows[0].lossRate(), .04)
		}
		t.Logf("queue %v: Jain %.3f, %.3f at least", c.queue, sum, least)
		require.GreaterOrEqual(t, least, c.least)
		if !raceEnabled {
			require.GreaterOrEqual(t, sum, c.mean)
		}
	}
}

// The path becomes slower, then faster by a factor of ten: followed within seconds.
func TestBBRRateChange(t *testing.T) {
	for _, buffer := range []float64{1, 10} {
		p := newPath(100, 40*time.Millisecond, buffer, 0)
		f := &simFlow{ctl: newBBR(1)}
		s := newSim(1, p, f)
		s.at(3*time.Second, func() { s.path.rate = 10 * mbit })
		s.at(10*time.Second, func() { s.path.rate = 100 * mbit })
		s.run(8 * time.Second)
		require.LessOrEqual(t, f.ctl.bandwidth(), 1.3*s.path.rate, "buffer %v", buffer)
		require.LessOrEqual(t, float64(s.qBytes), 2*s.path.bdp())
		require.GreaterOrEqual(t, f.share(s, 3, 8), .95)
		s.run(14 * time.Second)
		require.GreaterOrEqual(t, f.share(s, 12, 14), .9)
	}
}

// A path that was gone for 10 s is in use again soon after it is back.
func TestBBRBlackout(t *testing.T) {
	p := newPath(100, 40*time.Millisecond, 1, 0)
	f := &simFlow{ctl: newBBR(1)}
	s := newSim(1, p, f)
	s.at(2*time.Second, func() { s.dead = true })
	s.at(12*time.Second, func() { s.dead = false })
	s.run(16 * time.Second)
	require.GreaterOrEqual(t, f.share(s, 15, 16), .95, "the probe timeout is at most 2 s")
}

// The path changes to one with four times the RTT.
func TestBBRLongerPath(t *testing.T) {
	p := newPath(50, 20*time.Millisecond, 4, 0)
	f := &simFlow{ctl: newBBR(1)}
	s := newSim(1, p, f)
	s.at(3*time.Second, func() { s.path.rtt = 80 * time.Millisecond })
	s.run(16 * time.Second)
	require.GreaterOrEqual(t, f.share(s, 13, 16), .9, "the smallest RTT is that of 10 s")
}

func TestBBRJitter(t *testing.T) {
	p := newPath(50, 20*time.Millisecond, 4, 0)
	p.jitter = 20 * time.Millisecond
	f := &simFlow{ctl: newBBR(1)}
	s := newSim(1, p, f)
	s.run(6 * time.Second)
	t.Logf("%.3f", f.share(s, 1, 6))
	require.GreaterOrEqual(t, f.share(s, 1, 6), .85)
}

// Short RTTs, timers that fire each millisecond only, ACKs in batches.
func TestBBRLoopback(t *testing.T) {
	const us = time.Microsecond
	for _, c := range []struct {
		rate       float64
		rtt, batch time.Duration
		mtu        int
		want, loss float64
	}{
		{1e9, 50 * us, 0, 9000, .9, 0},
		{1e9, 50 * us, 300 * us, 9000, .85, 0},
		{1e9, 50 * us, 1000 * us, 9000, .75, 0},
		{1e10, 50 * us, 200 * us, 65000, .9, 0},
		{125e6, 500 * us, 100 * us, 1400, .95, 0},
		{125e6, 500 * us, 100 * us, 1400, .85, .02},
		{125e6, 1000 * us, 300 * us, 1400, .8, .05},
	} {
		p := simPath{rate: c.rate, rtt: c.rtt, queue: int(c.rate * .004), loss: c.loss}
		f := &simFlow{ctl: newBBR(1), mtu: c.mtu, every: 10, batch: c.batch, tick: time.Millisecond}
		s := newSim(3, p, f)
		s.run(300 * time.Millisecond)
		got := float64(f.delivered) / p.rate / .3
		t.Logf("%+v: %.3f", c, got)
		require.GreaterOrEqual(t, got, c.want, "%+v", c)
	}
}

// 10 kB/s, less than the initial window in a second.
func TestBBRSlow(t *testing.T) {
	p := simPath{rate: 10e3, rtt: 300 * time.Millisecond, queue: 20000}
	f := &simFlow{ctl: newBBR(1)}
	s := newSim(3, p, f)
	s.run(15 * time.Second)
	require.GreaterOrEqual(t, f.share(s, 1, 15), .9)
	require.Less(t, f.ctl.bandwidth(), 1.2*p.rate)
}

// A sender with nothing to say from time to time, or whose receiver grants less than
// the path holds, does not take its own rate for the path's, and stays able to go on
// faster (trap G3).
func TestBBRAppLimited(t *testing.T) {
	p := newPath(50, 40*time.Millisecond, 1, 0)
	f := &simFlow{ctl: newBBR(1)}
	s := newSim(1, p, f)
	s.run(2 * time.Second)
	f.on, f.off = 20*time.Millisecond, 180*time.Millisecond
	s.run(8 * time.Second)
	require.GreaterOrEqual(t, f.ctl.bandwidth(), .9*p.rate)

	f = &simFlow{ctl: newBBR(1), limit: int(p.bdp() / 4)}
	s = newSim(1, p, f)
	s.run(3 * time.Second)
	require.Equal(t, "startup", f.ctl.state(), "the path was never full")
	f.limit = 0
	s.at(3*time.Second+1, func() {})
	s.run(5 * time.Second)
	require.GreaterOrEqual(t, f.share(s, 4, 5), .95)
}

// The same inputs give the same outputs.
func TestBBRDeterministic(t *testing.T) {
	run := func() (int64, int64) {
		f := &simFlow{ctl: newBBR(5)}
		newSim(5, newPath(20, 40*time.Millisecond, 1, .02), f).run(3 * time.Second)
		return f.delivered, f.sentBytes
	}
	a, b := run()
	c, d := run()
	require.Equal(t, a, c)
	require.Equal(t, b, d)
}

// The first window does not go at once: half of it, and the rest within some milliseconds.
func TestBBRFirstWindow(t *testing.T) {
	const mtu = 1200
	ctl := newBBR(1)
	ctl.mtuChanged(mtu)
	var p pacer
	p.init(1)
	now, sent, atOnce := instant(1), 0, 0
	for sent < ctl.window() {
		p.setRate(ctl.pacingRate())
		p.setBurst(mtu, ctl.window())
		if at := p.next(now, mtu); at > now {
			if atOnce == 0 {
				atOnce = sent
			}
			now = at
			continue
		}
		var r ratePacket
		ctl.packetSent(now, &r, mtu, sent)
		sent += mtu
		p.setRate(ctl.pacingRate())
		p.setBurst(mtu, ctl.window())
		p.packetSent(now, mtu)
	}
	require.Equal(t, bbrFirstWindow*mtu, sent)
	require.LessOrEqual(t, atOnce, bbrFirstBurst*mtu)
	require.GreaterOrEqual(t, atOnce, (bbrFirstBurst-2)*mtu)
	require.LessOrEqual(t, now.sub(1), 7*time.Millisecond)
	require.GreaterOrEqual(t, now.sub(1), 3*time.Millisecond)
}

// Times and sizes that make no sense do not bring out windows or rates that make none.
func TestControllerNonsense(t *testing.T) {
	for _, ctl := range []controller{newBBR(1), newCUBIC()} {
		ctl.mtuChanged(1200)
		require.GreaterOrEqual(t, ctl.window(), 10*1200, "initial window")
		require.LessOrEqual(t, ctl.window(), 32*1200, "initial window") // those of others begin so too
		check := func() {
			require.GreaterOrEqual(t, ctl.window(), 2*1200)
			require.LessOrEqual(t, ctl.window(), maxWindow)
			require.GreaterOrEqual(t, ctl.pacingRate(), 0.0)
			require.False(t, ctl.pacingRate() != ctl.pacingRate(), "NaN")
			require.GreaterOrEqual(t, ctl.bandwidth(), 0.0)
			require.NotEmpty(t, ctl.state())
		}
		check()
		ctl.persistentCongestion(1)
		check()
		for i := range 1000 {
			now := instant(1e9 - i%7*1e6 + i)
			var p ackedPacket
			p.size = i % 3 * 65507
			ctl.packetSent(now, &p.ratePacket, p.size, i%2)
			s := ackSample{now: now - instant(i%11), acked: []ackedPacket{p}, ackedLen: p.size, rtt: time.Duration(i % 5), srtt: 1, minRTT: 1}
			if i%4 == 0 {
				s.lost, s.lostLen = s.acked, p.size
			}
			ctl.acked(&s)
			ctl.lost(&ackSample{now: now, lost: s.acked, lostLen: p.size})
			ctl.spurious(now, p.size)
			ctl.appLimited(i)
			if i%100 == 0 {
				ctl.persistentCongestion(now)
				ctl.mtuChanged(1200 + i)
			}
			check()
		}
	}
}

func TestControllerAllocs(t *testing.T) {
	for _, ctl := range []controller{newBBR(1), newCUBIC()} {
		ctl.mtuChanged(1200)
		packets := make([]ackedPacket, 1)
		s := ackSample{acked: packets, ackedLen: 1200, prior: 1200, rtt: time.Millisecond, srtt: time.Millisecond, minRTT: time.Millisecond}
		now := instant(1)
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			packets[0].size = 1200
			ctl.packetSent(now, &packets[0].ratePacket, 1200, 0)
			now = now.add(time.Millisecond)
			s.now = now
			ctl.acked(&s)
			ctl.window()
			ctl.pacingRate()
		}))
	}
}
