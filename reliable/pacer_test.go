package reliable

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// drain sends full packets until the pacer says no, and returns how many went and when to go on.
func drain(p *pacer, now instant, mtu int) (n int, next instant) {
	for n < 1<<20 {
		if at := p.next(now, mtu); at > now {
			return n, at
		}
		p.packetSent(now, mtu)
		n++
	}
	return n, 0
}

func TestPacerUnknownRate(t *testing.T) {
	var p pacer
	p.init(1)
	for range 1000 {
		require.Zero(t, p.next(1, 1400), "while nothing is known, nothing waits")
		p.packetSent(1, 1400)
	}
}

func TestPacerBurst(t *testing.T) {
	for _, c := range []struct {
		name        string
		rate        float64
		window      int
		least, most int
	}{
		{"ten packets", 1e5, 1 << 20, 10, 11},
		{"2 ms at a high rate", 1e8, 1 << 24, 142, 143},
		{"half of a small window", 1e8, 10 * 1400, 5, 6},
		{"two packets at least", 1e3, 1400, 2, 3},
		{"no overflow", 1e12, 1 << 30, 1 << 10, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pacer
			p.init(1)
			p.setRate(c.rate)
			p.setBurst(1400, c.window)
			p.advance(instant(time.Minute))
			n, _ := drain(&p, instant(time.Minute), 1400)
			require.GreaterOrEqual(t, n, c.least)
			require.LessOrEqual(t, n, c.most)
		})
	}
}

// The rate holds in the long run, and the timer is not set for each packet (trap D5).
func TestPacerRate(t *testing.T) {
	for _, rate := range []float64{1e4, 1e6, 1e8, 1e10} {
		var p pacer
		now := instant(1)
		p.init(now)
		p.setRate(rate)
		p.setBurst(1400, 1<<30)
		bytes, timers := 0, 0
		end := now.add(time.Second)
		for now < end {
			n, next := drain(&p, now, 1400)
			require.Greater(t, next, now, "never now or in the past: busy loop (traps D5, G3)")
			bytes += n * 1400
			now = next
			timers++
		}
		require.InEpsilon(t, rate*now.sub(1).Seconds(), bytes, 0.05+2*p.burst/rate, "rate %g", rate)
		require.LessOrEqual(t, timers, 1002)
	}
}

func TestPacerOddTimes(t *testing.T) {
	var p pacer
	p.init(instant(time.Hour))
	p.setRate(1e6)
	p.setBurst(1400, 1<<20)
	_, next := drain(&p, instant(time.Hour), 1400)

	// A clock that goes back earns nothing, and still gives a time to come.
	back := instant(time.Minute)
	at := p.next(back, 1400)
	require.Greater(t, at, back)
	require.LessOrEqual(t, at, next)

	// A long pause earns no more than a burst.
	n, _ := drain(&p, math.MaxInt64/2, 1400)
	require.LessOrEqual(t, n, 11)

	// The smallest rate does not overflow the time.
	p.setRate(1e-300)
	require.Positive(t, p.next(math.MaxInt64/2, 1400))
	p.setRate(math.NaN())
	p.setRate(-1)
	require.Equal(t, 1e-300, p.rate)

	// A packet larger than the burst waits for a full bucket, not for ever.
	p.init(1)
	p.setRate(1e6)
	p.setBurst(1200, 2400)
	drain(&p, 1, 1200)
	at = p.next(1, 65507) // what the last one was told
	at = p.next(at, 65507)
	require.Zero(t, p.next(at, 65507))
}

func TestPacerAllocs(t *testing.T) {
	var p pacer
	p.init(1)
	p.setRate(1e8)
	p.setBurst(1400, 1<<20)
	now := instant(1)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, now = drain(&p, now, 1400) }))
}
