package reliable

import (
	"fmt"
	"testing"
	"time"
)

const mbit = 1e6 / 8

func TestBBRSingle(t *testing.T) {
	for _, c := range []struct {
		mbits, rttms, bufBDP, loss, burst, want float64
	}{
		{100, 40, 1, 0, 0, .974},
		{100, 40, 1, .01, 0, .943},
		{100, 40, 1, .05, 0, .891},
		{100, 40, 1, .10, 0, .8},
		{50, 200, 1, .02, 0, .83},
		{100, 40, .2, 0, 0, .95},
		{100, 40, .2, .01, 0, .9},
		{100, 40, 10, 0, 0, .974},
		{100, 40, 10, .01, 0, .943},
		{10, 100, 1, .02, 8, .8},
		{1, 1000, 1, 0, 0, .7},
		{300, 20, 1, 0.01, 0, .943},
	} {
		t.Run(fmt.Sprintf("%vMbit/%vms/%vBDP/%v%%", c.mbits, c.rttms, c.bufBDP, c.loss*100), func(t *testing.T) {
			p := simPath{rate: c.mbits * mbit, rtt: time.Duration(c.rttms * 1e6), loss: c.loss, burst: c.burst}
			p.queue = int(c.bufBDP * p.bdp())
			f := &simFlow{ctl: newBBR(1)}
			s := newSim(1, p, f)
			s.run(2 * time.Second)
			s.resetQueue()
			s.run(10 * time.Second)
			got := f.rateBetween(0, 10*time.Second) / p.rate
			t.Logf("goodput %.4f queue mean %.2f max %.2f BDP; lost %.3f drops %d state %s", got, s.queueMean()/p.bdp(), float64(s.qMax)/p.bdp(), float64(f.lostBytes)/float64(f.sentBytes), s.drops, f.ctl.state())
			if got < c.want {
				t.Errorf("goodput %.4f, want %.3f", got, c.want)
			}
		})
	}
}
