package vstp_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// Only datagrams above 600 bytes are lost from the start. A handshake with TLS does not
// pass, one without does; either way bytes do. Trap A2.
func TestAutoSimLargeLostAtOnce(t *testing.T) {
	eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
		dropLarge(a)
		start := time.Now()
		c, s := a.dial()
		took := time.Since(start)
		start = time.Now()
		f := a.flow(c, s, 2<<20)
		f.finish()
		t.Logf("dial %v, first bytes %v, %s", took, f.marks[0].at.Sub(start), story(movesOf(c)))
		require.LessOrEqual(t, f.marks[0].at.Sub(start), time.Second)
		require.Equal(t, vstp.CarrierTCP, c.Carrier())
		a.close(c, s)
	})
}

// Two slow carriers of the same kind, each with a queue of its own, which the other one does
// not have when it is idle: a few moves in an hour, not one after the other. Trap A4.
func TestAutoSimNoFlappingBulkEqual(t *testing.T) {
	slow := simnet.Path{Delay: autoDelay, Rate: 12_500, Queue: 10_000}
	noFlapping(t, []flapping{
		{"bulk, equal", slow, simnet.TCPPath{Delay: autoDelay, Rate: slow.Rate}, true, 6},
		{"bulk, equal with bloat", simnet.Path{Delay: autoDelay, Rate: slow.Rate, Queue: 50_000},
			simnet.TCPPath{Delay: autoDelay, Rate: slow.Rate}, true, 6},
	})
}

func dropLarge(a *autoSim) {
	a.net.Path(a.ch, a.sh).Filter(simnet.DropAbove(600))
	a.net.Path(a.sh, a.ch).Filter(simnet.DropAbove(600))
}

// Only datagrams above 600 bytes are lost from some moment on. Trap A2.
func TestAutoSimLargeLost(t *testing.T) {
	eachAuto(t, autoOptions{}, func(t *testing.T, a *autoSim) {
		c, s := a.dialWarm()
		f := a.flow(c, s, -1)
		time.Sleep(2 * time.Second)
		start := time.Now()
		dropLarge(a)
		time.Sleep(60 * time.Second)
		f.finish()
		gap := f.gap(start, start.Add(10*time.Second))
		moves := c.Stats().Moves
		t.Logf("gap %v, %d moves in a minute: %s", gap, moves, story(movesOf(c)))
		require.LessOrEqual(t, gap, time.Second)
		require.Equal(t, vstp.CarrierTCP, c.Carrier())
		require.EqualValues(t, 1, moves, "it does not come back to what is no good")
		a.close(c, s)
	})
}
