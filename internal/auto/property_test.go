package auto

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vstp-go/vstp/reliable"
)

// TestRandom feeds two Deciders with the same nonsense. Trap A4.
func TestRandom(t *testing.T) {
	for seed := range uint64(200) {
		if !random(t, seed) {
			t.Fatalf("seed %d", seed)
		}
	}
}

// random reports whether the properties hold: never two automatic moves within the
// cooldown, unless the carrier is gone; never a move to what cannot be used; Next is later than
// now; same inputs, same outputs.
func random(t *testing.T, seed uint64) bool {
	r := rand.New(rand.NewPCG(seed, 2))
	cfg := Config{Prefer: reliable.Carrier(r.IntN(2)), Follower: r.IntN(4) == 0}
	a, b := New(cfg), New(cfg)
	in := Input{Now: epoch, Active: reliable.Carrier(r.IntN(2))}
	pinned, pin, lastAuto := false, reliable.Carrier(0), time.Time{}
	clock := in.Now // as the Decider takes it: it never goes back
	for range 3000 {
		in.Now = in.Now.Add(randomDuration(r))
		clock = later(clock, in.Now)
		for i := range in.Carriers {
			change(r, &in.Carriers[i], in.Now)
		}
		told := false
		dec, same := a.Decide(in), b.Decide(in)
		if dec != same {
			t.Errorf("%+v and %+v for the same input", dec, same)
			return false
		}
		if !dec.Next.IsZero() && !dec.Next.After(in.Now) {
			t.Errorf("Next %v at %v", dec.Next, in.Now)
			return false
		}
		for _, score := range a.Scores(in.Now) {
			if math.IsNaN(score) || score < 0 {
				t.Errorf("score %v", score)
				return false
			}
		}
		if to := in.Carriers[dec.To]; dec.Move {
			switch {
			case dec.To == in.Active, !to.Attached, to.Gone, dec.Reason == ReasonNone, pinned && dec.To != pin, dec.Probe:
				t.Errorf("%+v with %+v, pinned %v", dec, in, pinned)
				return false
			case !in.Carriers[in.Active].Gone && dec.Reason != ReasonPinned && !lastAuto.IsZero() && clock.Sub(lastAuto) < 3*time.Second:
				t.Errorf("%v after %v", dec.Reason, clock.Sub(lastAuto))
				return false
			}
			if r.IntN(10) > 0 { // some decisions are not carried out
				in.Active, lastAuto = dec.To, clock
				if r.IntN(5) > 0 {
					told = true
					a.Moved(in.Now, dec.To, false)
					b.Moved(in.Now, dec.To, false)
				}
			}
		}
		switch r.IntN(200) {
		case 0:
			pinned, pin = r.IntN(3) == 0, reliable.Carrier(r.IntN(2))
			a.SetPin(pinned, pin)
			b.SetPin(pinned, pin)
		case 1:
			if dec.Move && !told {
				break // seen by the next Decide only
			}
			in.Active = 1 - in.Active
			a.Moved(in.Now, in.Active, true)
			b.Moved(in.Now, in.Active, true)
		}
	}
	return true
}

func randomDuration(r *rand.Rand) time.Duration {
	switch r.IntN(20) {
	case 0:
		return -time.Duration(r.Int64N(int64(time.Second))) // clocks go back
	case 1:
		return time.Duration(r.Int64N(int64(20 * time.Second)))
	}
	return time.Duration(r.Int64N(int64(100 * time.Millisecond)))
}

func change(r *rand.Rand, c *CarrierInput, now time.Time) {
	switch r.IntN(14) {
	case 0:
		c.Attached = r.IntN(5) > 0
	case 1:
		c.Gone = r.IntN(8) == 0
	case 2:
		c.RTT = randomDuration(r)
	case 3:
		c.Lost += uint64(r.IntN(10))
	case 4:
		c.Rate = [...]float64{0, 1e5, 1e6, 1e7, math.NaN(), math.Inf(1), -1}[r.IntN(7)]
	case 5:
		c.Limited = r.IntN(3) > 0
	case 6:
		c.Timeouts = r.IntN(5)
	case 7:
		c.Silence = randomDuration(r)
	case 8:
		c.PTO = randomDuration(r)
	case 9:
		c.LargeLost = r.IntN(6) == 0
	case 10:
		c.SendErrors += uint64(r.IntN(2))
	case 11:
		c.ProbesLost = r.IntN(3)
	case 12:
		c.ProbeRTT = randomDuration(r)
	case 13:
		c.Sent = uint64(r.IntN(100000))
		c.Received = uint64(r.IntN(1_000_000))
	}
	if r.IntN(3) > 0 {
		c.Sent += uint64(r.IntN(20))
		c.Alive = now.Add(randomDuration(r) - 50*time.Millisecond)
	}
}

// TestTraceText: what is no trace is refused.
func TestTraceText(t *testing.T) {
	for _, text := range []string{
		"at", "at 1s", "at x udp up", "at 1s udp rtt=x", "at 1s udp rtt=0s", "at 1s udp loss=2x", "at 1s udp up=1", "at 1s fly tcp",
		"at 2s udp up\nat 1s udp up", "config prefer=sctp", "config x", "want 1s tcp reset", "want 1s..2s ipx reset", "until", "most x", "at 1s traffic -1/s",
	} {
		_, err := parseTrace(text)
		require.Error(t, err, text)
	}
}
