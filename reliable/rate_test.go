package reliable

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rateScript sends packets of 1000 bytes and acknowledges them.
type rateScript struct {
	rate     rateState
	packets  []ackedPacket
	inflight int
}

func (r *rateScript) send(ms float64) {
	var p ackedPacket
	p.size = 1000
	r.rate.packetSent(instant(ms*1e6), &p.ratePacket, 1000, r.inflight)
	r.inflight += 1000
	r.packets = append(r.packets, p)
}

// ack acknowledges the n oldest packets.
func (r *rateScript) ack(ms float64, n int) rateSample {
	s := ackSample{now: instant(ms * 1e6), acked: r.packets[:n], ackedLen: n * 1000, prior: r.inflight}
	r.inflight -= n * 1000
	r.packets = r.packets[n:]
	s.inflight = r.inflight
	return r.rate.acked(&s)
}

func TestRateSteady(t *testing.T) {
	var r rateScript
	// 1000 bytes a millisecond, RTT 10 ms.
	var rs rateSample
	for ms := 1; ms <= 100; ms++ {
		r.send(float64(ms))
		if ms > 10 {
			rs = r.ack(float64(ms), 1)
		}
	}
	require.InEpsilon(t, 1e6, rs.rate, 0.01)
	require.EqualValues(t, 11e6, rs.interval)
	require.EqualValues(t, 11000, rs.delivered)
	require.InDelta(t, 9, r.rate.rounds, 1)
	require.False(t, rs.appLimited)
}

// ACKs that arrive all at once do not make the path faster than the packets were sent.
func TestRateCompressedACKs(t *testing.T) {
	var r rateScript
	for ms := 1; ms <= 10; ms++ {
		r.send(float64(ms))
	}
	r.ack(20, 1)
	for ms := 20; ms < 30; ms++ {
		r.send(float64(ms))
	}
	rs := r.ack(40, 19)
	require.LessOrEqual(t, rs.rate, 1e6)
}

func TestRateAppLimited(t *testing.T) {
	var r rateScript
	r.send(1)
	r.rate.appLimited(r.inflight)
	r.send(2)
	r.send(3)
	require.False(t, r.ack(11, 1).appLimited, "sent before")
	require.True(t, r.ack(12, 1).appLimited)
	r.send(13)
	require.True(t, r.ack(14, 1).appLimited)
	require.False(t, r.ack(23, 1).appLimited, "the bubble has passed")
}

// After a pause the sample does not count the pause.
func TestRateIdle(t *testing.T) {
	var r rateScript
	for i := range 10 {
		r.send(1 + float64(i)/10)
	}
	r.ack(11, 10)
	for i := range 10 {
		r.send(5000 + float64(i))
	}
	rs := r.ack(5019, 10)
	require.InEpsilon(t, 10000/0.019, rs.rate, 0.01)
}

func TestRateOddACKs(t *testing.T) {
	var r rateState
	require.Zero(t, r.acked(&ackSample{now: 5}), "nothing acknowledged")
	require.Zero(t, r.acked(&ackSample{now: 5, acked: []ackedPacket{{size: 10}}}).rate, "a packet from before")

	var p ackedPacket
	p.size = 1000
	r.packetSent(1e6, &p.ratePacket, 1000, 0)
	require.Zero(t, r.acked(&ackSample{now: 1e6, acked: []ackedPacket{p}}).rate, "no time has passed")
	r.packetSent(2e6, &p.ratePacket, 1000, 0)
	require.Zero(t, r.acked(&ackSample{now: 1e6, acked: []ackedPacket{p}}).rate, "time goes back")
	r.packetSent(3e6, &p.ratePacket, 1000, 0)
	rs := r.acked(&ackSample{now: 4e6, acked: []ackedPacket{p}, minRTT: 10 * time.Millisecond})
	require.Zero(t, rs.rate, "shorter than the smallest RTT")
}
