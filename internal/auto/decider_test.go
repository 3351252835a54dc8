package auto

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vstp-go/vstp/reliable"
)

const ms = time.Millisecond

// script drives a Decider by single inputs. Both carriers are well at its start.
type script struct {
	*testing.T
	d   *Decider
	in  Input
	dec Decision
}

func newScript(t *testing.T, cfg Config) *script {
	s := &script{T: t, d: New(cfg), in: Input{Now: epoch}}
	for i := range s.in.Carriers {
		s.in.Carriers[i] = CarrierInput{Attached: true, Alive: epoch, RTT: 40 * ms, PTO: 50 * ms, ProbeRTT: 40 * ms, Sent: 10}
	}
	s.decide()
	return s
}

func (s *script) active() *CarrierInput  { return &s.in.Carriers[s.in.Active] }
func (s *script) standby() *CarrierInput { return &s.in.Carriers[1-s.in.Active] }

func (s *script) decide() Decision {
	s.Helper()
	s.dec = s.d.Decide(s.in)
	if !s.dec.Next.IsZero() && !s.dec.Next.After(s.in.Now) {
		s.Fatalf("Next %v is not later than now", s.dec.Next)
	}
	return s.dec
}

// wait lets d pass, in which all is well but for what f changes.
func (s *script) wait(d time.Duration, f func()) {
	s.Helper()
	for ; d > 0; d -= 50 * ms {
		s.in.Now = s.in.Now.Add(50 * ms)
		s.active().Alive, s.standby().Alive = s.in.Now, s.in.Now
		s.active().Sent += 10
		if f != nil {
			f()
		}
		if s.decide().Move {
			return
		}
	}
}

// silent lets the active carrier be silent for d, with packets that get no answer.
func (s *script) silent(d time.Duration) Decision {
	s.Helper()
	s.in.Now = s.in.Now.Add(d)
	s.active().Silence += d
	s.active().Sent += 2
	return s.decide()
}

func (s *script) wantMove(to reliable.Carrier, why Reason) {
	s.Helper()
	require.True(s, s.dec.Move, "no move")
	require.Equal(s, to, s.dec.To)
	require.Equal(s, why.String(), s.dec.Reason.String())
	s.d.Moved(s.in.Now, to, false)
	s.in.Active = to
	s.active().Silence, s.active().Timeouts, s.standby().Silence = 0, 0, 0
}

func (s *script) wantStay() {
	s.Helper()
	require.False(s, s.dec.Move, "moves for %v", s.dec.Reason)
}

func TestDefaults(t *testing.T) {
	require.Equal(t, Config{
		ProbeAttempts: 2, ProbeTimeout: 600 * ms, SwitchCooldown: 3 * time.Second, MinDwellTime: 2 * time.Second,
		ConsecutiveFailuresThreshold: 3, MinScoreMargin: 5 * ms, AckTimeoutPenalty: 25 * ms, IOErrorPenalty: 35 * ms,
		PeerPreferenceTTL: 120 * time.Second,
	}, Config{MinDwellTime: -1}.WithDefaults())
	own := Config{ProbeAttempts: 7, ProbeTimeout: 1, Prefer: reliable.ByteStream, Pinned: true, Follower: true}
	require.Equal(t, 7, own.WithDefaults().ProbeAttempts)
	require.Equal(t, reliable.ByteStream, own.WithDefaults().Prefer)
}

func TestReasons(t *testing.T) {
	require.Equal(t, "silence", ReasonSilence.String())
	require.Equal(t, "peer", ReasonPeer.String())
	require.Equal(t, "200", Reason(200).String())
	for r := range Reason(len(reasonNames)) {
		require.NotEmpty(t, r.String())
	}
}

// TestSilence: the first PTO asks the standby, the third moves. Trap A2.
func TestSilence(t *testing.T) {
	s := newScript(t, Config{})
	s.wait(3*time.Second, nil)
	s.silent(50 * ms)
	require.True(t, s.dec.Probe)
	s.wantStay()
	s.silent(5 * ms)
	require.False(t, s.dec.Probe, "once in a round trip")
	s.silent(40 * ms)
	require.True(t, s.dec.Probe)
	s.standby().Alive = s.in.Now
	require.False(t, s.in.Now.Add(100*ms).Before(s.dec.Next))
	s.silent(95 * ms)
	s.wantStay()
	s.silent(10 * ms)
	s.wantMove(reliable.ByteStream, ReasonSilence)
}

// TestPause: when the path of both carriers pauses, the first answer may be that of the
// standby; the active one is given half a round trip.
func TestPause(t *testing.T) {
	for _, back := range []bool{true, false} {
		s := newScript(t, Config{})
		s.wait(3*time.Second, nil)
		s.standby().Alive = s.in.Now.Add(-10 * time.Second)
		s.d.carriers[1].alive = s.standby().Alive
		for range 10 {
			s.silent(50 * ms)
			s.wantStay()
		}
		s.standby().Alive = s.in.Now
		s.decide()
		s.wantStay()
		require.Equal(t, s.in.Now.Add(20*ms), s.dec.Next)
		if back {
			s.active().Silence, s.active().Alive = -20*ms, s.in.Now
		}
		s.silent(20 * ms)
		require.Equal(t, !back, s.dec.Move)
	}
}

// TestSilenceOfOnePacket: one packet without answer is not enough; probe timeouts are.
func TestSilenceOfOnePacket(t *testing.T) {
	s := newScript(t, Config{})
	s.wait(3*time.Second, nil)
	s.active().Sent++
	for range 4 {
		s.silent(49 * ms)
		s.active().Sent -= 2
		s.standby().Alive = s.in.Now
		s.wantStay()
	}
	s.active().Timeouts = 3
	s.silent(50 * ms)
	s.wantMove(reliable.ByteStream, ReasonSilence)
}

// TestStandbyMustAnswer: a death verdict waits for a standby that answers. Trap A3.
func TestStandbyMustAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(s *script)
		moves  bool
	}{
		"answered before, lately":  {func(s *script) { s.standby().Alive = s.in.Now.Add(-500 * ms) }, true},
		"answered long ago":        {func(s *script) { s.standby().Alive = s.in.Now.Add(-time.Second) }, false},
		"answered, slowly":         {func(s *script) { s.standby().Alive = s.in.Now.Add(-time.Second); s.standby().ProbeRTT = 400 * ms }, true},
		"lost a probe":             {func(s *script) { s.standby().ProbesLost = 1 }, false},
		"not attached":             {func(s *script) { s.standby().Attached = false }, false},
		"gone":                     {func(s *script) { s.standby().Gone = true }, false},
		"never heard":              {func(s *script) { s.standby().Alive = time.Time{} }, false},
		"active gone, never heard": {func(s *script) { s.standby().Alive = time.Time{}; s.active().Gone = true }, true},
		"active gone, probe lost":  {func(s *script) { s.standby().ProbesLost = 1; s.active().Gone = true }, false},
		"both gone":                {func(s *script) { s.standby().Gone = true; s.active().Gone = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, Config{})
			s.in.Now = s.in.Now.Add(5 * time.Second)
			s.active().Silence, s.active().Timeouts, s.active().Alive = 300*ms, 3, s.in.Now.Add(-300*ms)
			tt.change(s)
			if s.standby().Alive.Equal(epoch) {
				s.standby().Alive = s.in.Now
			}
			s.decide()
			require.Equal(t, tt.moves, s.dec.Move)
			require.Equal(t, !tt.moves, s.dec.Probe, "also of one that is not attached")
		})
	}
}

// TestAbsent: while the active carrier is bad a standby is asked for, every now and then.
func TestAbsent(t *testing.T) {
	s := newScript(t, Config{})
	probes := 0
	s.standby().Attached = false
	s.wait(20*time.Second, func() {
		if s.dec.Probe {
			probes++
		}
	})
	require.Zero(t, probes)
	s.wait(20*time.Second, func() {
		s.active().Lost += 4
		if s.dec.Probe {
			probes++
		}
	})
	s.wantStay()
	require.InDelta(t, 4, probes, 1)

	s.d.SetPin(true, reliable.ByteStream)
	s.wait(50*ms, nil)
	s.wait(time.Second, nil)
	s.wantStay()
	s.standby().Attached = true
	s.wait(100*ms, nil)
	s.wantMove(reliable.ByteStream, ReasonPinned)
}

// TestAbsentSuspect: one lost packet makes nobody dial.
func TestAbsentSuspect(t *testing.T) {
	s := newScript(t, Config{})
	s.wait(3*time.Second, nil)
	s.standby().Attached = false
	s.silent(60 * ms)
	require.False(t, s.dec.Probe)
	require.Equal(t, s.in.Now.Add(40*ms), s.dec.Next)
	s.silent(40 * ms)
	require.True(t, s.dec.Probe)
}

// TestGoneWaits: a standby that lost a probe is moved to when it answers.
func TestGoneWaits(t *testing.T) {
	s := newScript(t, Config{})
	s.active().Gone, s.standby().ProbesLost = true, 1
	s.in.Now = s.in.Now.Add(ms)
	s.decide()
	s.wantStay()
	s.in.Now = s.in.Now.Add(599 * ms)
	s.decide()
	s.wantStay()
	s.in.Now = s.in.Now.Add(ms)
	s.standby().ProbesLost, s.standby().Alive = 0, s.in.Now
	s.decide()
	s.wantMove(reliable.ByteStream, ReasonReset)
}

// TestCooldown: a death verdict needs no dwell, but waits for the cooldown, unless the
// carrier is gone. Trap A4.
func TestCooldown(t *testing.T) {
	for _, gone := range []bool{false, true} {
		s := newScript(t, Config{})
		s.active().Timeouts, s.active().Silence = 3, 400*ms
		s.in.Now = s.in.Now.Add(ms)
		s.decide()
		s.wantMove(reliable.ByteStream, ReasonSilence)
		moved := s.in.Now
		s.in.Now = s.in.Now.Add(2900 * ms)
		s.active().Timeouts, s.active().Silence, s.active().Gone = 3, 2*time.Second, gone
		s.standby().Alive = s.in.Now
		s.decide()
		if gone {
			s.wantMove(reliable.Datagrams, ReasonReset)
			continue
		}
		s.wantStay()
		require.False(t, s.dec.Next.After(moved.Add(3*time.Second)))
		s.silent(100 * ms)
		s.wantMove(reliable.Datagrams, ReasonStalled)
	}
}

// TestStalled: TCP waits for its own timers. It is given a second, or half of one when
// the standby shows that the path works.
func TestStalled(t *testing.T) {
	for _, tt := range []struct {
		answers bool
		silence time.Duration
		moves   bool
	}{
		{false, 950 * ms, false}, {false, 1000 * ms, true}, {true, 500 * ms, false}, {true, 550 * ms, true},
	} {
		s := newScript(t, Config{Prefer: reliable.ByteStream})
		s.in.Active = reliable.ByteStream
		s.d = New(Config{Prefer: reliable.ByteStream})
		s.decide()
		s.wait(3*time.Second, nil)
		first := true
		for range tt.silence / (50 * ms) {
			s.wantStay()
			s.silent(50 * ms)
			if s.active().Silence > 400*ms && (first || tt.answers) {
				s.standby().Alive, first = s.in.Now, false
			}
		}
		require.Equal(t, tt.moves, s.dec.Move, "%+v", tt)
	}
}

// TestSendErrors: errors in a row, for a PTO at least.
func TestSendErrors(t *testing.T) {
	s := newScript(t, Config{})
	s.wait(3*time.Second, nil)
	s.active().SendErrors = 5
	s.wait(50*ms, nil)
	require.True(t, s.dec.Probe)
	s.wantStay()
	s.wait(50*ms, nil) // no error at this one
	s.wantStay()
	s.wait(200*ms, func() { s.active().SendErrors += 5 })
	s.wantMove(reliable.ByteStream, ReasonSendErrors)
}

// TestLargeLost: what is left of before a return has time to go away.
func TestLargeLost(t *testing.T) {
	s := newScript(t, Config{})
	s.wait(3*time.Second, nil)
	s.wait(50*ms, func() { s.active().LargeLost = true })
	s.wantMove(reliable.ByteStream, ReasonLargeLost)
	s.wait(10*time.Second, nil)
	s.wantMove(reliable.Datagrams, ReasonPreferred)
	s.wait(1900*ms, nil)
	s.wantStay()
	s.wait(3*time.Second, nil)
	s.wantMove(reliable.ByteStream, ReasonLargeLost)
}

// TestFollower: a server leaves a carrier only when it is of no use.
func TestFollower(t *testing.T) {
	s := newScript(t, Config{Follower: true, Prefer: reliable.ByteStream})
	s.wait(60*time.Second, func() { s.active().RTT = time.Second; s.active().Lost += 5 })
	s.wantStay()
	s.active().Gone = true
	s.decide()
	s.wantMove(reliable.ByteStream, ReasonReset)
}

// TestPin: a pin is moved to when it lives, and not left when it dies.
func TestPin(t *testing.T) {
	s := newScript(t, Config{})
	s.d.SetPin(true, reliable.ByteStream)
	s.in.Now = s.in.Now.Add(2 * time.Second)
	s.decide()
	s.wantStay()
	require.True(t, s.dec.Probe)
	s.standby().Alive = s.in.Now
	s.decide()
	s.wantMove(reliable.ByteStream, ReasonPinned)
	s.active().Gone = true
	s.wait(10*time.Second, nil)
	s.wantStay()
	s.d.SetPin(false, 0)
	s.decide()
	s.wantMove(reliable.Datagrams, ReasonReset)
}

// TestReturnWaits: the wait before a return doubles with each one that fails, up to 5
// minutes, and begins again after 5 good minutes.
func TestReturnWaits(t *testing.T) {
	s := newScript(t, Config{})
	for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300, 5} {
		if want == 5 {
			s.wait(301*time.Second, nil)
		}
		s.in.Now = s.in.Now.Add(3 * time.Second)
		s.active().Gone = true
		s.decide()
		s.wantMove(reliable.ByteStream, ReasonReset)
		s.standby().Gone = false
		left := s.in.Now
		s.wait(400*time.Second, nil)
		s.wantMove(reliable.Datagrams, ReasonPreferred)
		require.InDelta(t, want*time.Second, s.in.Now.Sub(left), float64(100*ms))
	}
}

// TestReturnOutdated: a session that has filled a queue on UDP when that died, or has met a
// busy hour there, does not stay away for what it remembers of it. Nothing is heard of the standby but the
// answers to probes that were asked for.
func TestReturnOutdated(t *testing.T) {
	s := newScript(t, Config{})
	// A queue that is not the session's own stays in the average.
	s.wait(1500*ms, func() { s.active().RTT = 400 * ms })
	s.active().Silence, s.active().Timeouts = time.Second, 3
	s.standby().Alive = s.in.Now
	s.decide()
	s.wantMove(reliable.ByteStream, ReasonSilence)

	s.decide()
	until, probed := s.in.Now.Add(40*time.Second), 0
	for ; s.in.Now.Before(until) && !s.dec.Move; s.in.Now = s.in.Now.Add(50 * ms) {
		s.active().Alive, s.active().RTT = s.in.Now, 40*ms
		s.active().Sent += 10
		if s.dec.Probe {
			probed++
			s.standby().Alive, s.standby().ProbeRTT = s.in.Now, 41*ms
		}
		s.decide()
	}
	s.wantMove(reliable.Datagrams, ReasonPreferred)
	require.Less(t, probed, 10)
}

// TestOwnDownload: what the peer sends fills queues as well. The standby, where nothing is sent, is not
// better for that.
func TestOwnDownload(t *testing.T) {
	for _, perTick := range []uint64{0, 60_000} { // 50 ms
		s := newScript(t, Config{})
		s.wait(5*time.Second, func() { s.active().Received += perTick })
		s.wait(20*time.Second, func() {
			s.active().Received += perTick
			s.active().RTT = 75 * ms
		})
		require.Equal(t, perTick == 0, s.dec.Move, "%d bytes", perTick)
	}
}

// TestScores recomputes the sum of the package comment.
func TestScores(t *testing.T) {
	s := newScript(t, Config{})
	require.Equal(t, [2]float64{50, 40}, New(Config{}).scoresAfter(Input{Now: epoch, Carriers: [2]CarrierInput{
		{Attached: true}, {Attached: true, Alive: epoch, ProbeRTT: 40 * ms},
	}}), "50 while unknown")
	s.standby().ProbeRTT, s.standby().Alive, s.in.Now = 140*ms, s.in.Now.Add(100*ms), s.in.Now.Add(100*ms)
	s.decide()
	require.InDelta(t, 0.8*40+0.2*140, s.d.Scores(s.in.Now)[1], 0.01)
	s.standby().ProbesLost, s.standby().SendErrors = 2, 1
	s.decide()
	require.InDelta(t, 60+2*25+35, s.d.Scores(s.in.Now)[1], 0.01)
	require.InDelta(t, 60+2*25/2.+35/1.41421, s.d.Scores(s.in.Now.Add(4 * time.Second))[1], 0.01, "counts fade")
	require.InDelta(t, 40, s.d.Scores(s.in.Now)[0], 0.01)
}

func (d *Decider) scoresAfter(in Input) [2]float64 {
	d.Decide(in)
	return d.Scores(in.Now)
}

// TestMovedUnseen: a move nobody told of is the peer's.
func TestMovedUnseen(t *testing.T) {
	s := newScript(t, Config{})
	s.wait(time.Second, nil)
	s.in.Active = reliable.ByteStream
	s.wait(4900*ms, nil)
	s.wantStay()
	s.wait(time.Second, nil)
	s.wantMove(reliable.Datagrams, ReasonPreferred)
}

func TestMovedFirst(t *testing.T) {
	d := New(Config{})
	d.Moved(epoch, reliable.ByteStream, true)
	d.Moved(epoch, 7, true)
	require.Equal(t, reliable.ByteStream, d.active)
	require.Equal(t, Decision{}, d.Decide(Input{Active: 9}))
}

func TestNoAllocations(t *testing.T) {
	s := newScript(t, Config{})
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		s.in.Now = s.in.Now.Add(50 * ms)
		s.active().Alive, s.active().Silence = s.in.Now, s.active().Silence+10*ms
		s.active().Sent, s.active().Limited, s.active().Rate = s.active().Sent+5, true, 1e6
		if dec := s.d.Decide(s.in); dec.Move {
			s.d.Moved(s.in.Now, dec.To, false)
			s.in.Active = dec.To
			s.active().Silence = 0
		}
	}))
}

func BenchmarkDecide(b *testing.B) {
	d, in := New(Config{}), Input{Now: epoch}
	in.Carriers[0] = CarrierInput{Attached: true, RTT: 40 * ms, PTO: 50 * ms, Limited: true, Rate: 1e6}
	in.Carriers[1] = CarrierInput{Attached: true, ProbeRTT: 40 * ms, Alive: epoch}
	b.ReportAllocs()
	for b.Loop() {
		in.Now = in.Now.Add(10 * ms)
		in.Carriers[0].Alive = in.Now
		in.Carriers[0].Sent += 10
		d.Decide(in)
	}
}

// TestLongSilence: a session without any carrier that works is not looked at in each PTO
// of a short path.
func TestLongSilence(t *testing.T) {
	for _, attached := range [...]bool{false, true} {
		s := newScript(t, Config{Follower: true})
		s.active().PTO = 3 * ms
		s.standby().Attached, s.standby().ProbesLost = attached, 1
		n := 0
		for s.in.Now.Sub(epoch) < time.Minute {
			n++
			s.standby().ProbesLost = n
			require.False(t, s.silent(max(s.dec.Next.Sub(s.in.Now), ms)).Move)
		}
		require.Less(t, n, 300)
	}
}
