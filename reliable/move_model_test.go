package reliable

import (
	"testing"
	"time"
)

// newPair returns a rig with two carriers, both attached.
func newPair(t testing.TB, seed uint64, link wire, first Carrier, config ...func(*Config)) *rig {
	s := newRig(t, seed, link, append(config, func(c *Config) { c.Moves, c.Carrier = true, first })...)
	s.pipe = &pipe{gen: 1, delay: link.delay}
	for _, a := range s.ends {
		a.SetAttached(s.now, Datagrams, true)
		a.SetAttached(s.now, ByteStream, true)
	}
	return s
}

// A mover has the model test move, stall and cut.
type mover struct {
	m       *model
	noticed [2]time.Time // when an end sees that the byte stream is gone
	back    time.Time    // when the next one is attached
	moves   int
}

// actMove does one random thing that only associations with two carriers do.
func (v *mover) act() {
	s, rng := v.m.s, v.m.rng
	if v.m.early != nil {
		return // there is but a path for datagrams
	}
	switch rng.IntN(20) {
	case 0: // the byte stream ends
		if v.back.IsZero() {
			s.cut()
			for i := range v.noticed {
				v.noticed[i] = s.now.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
			}
			v.back = s.now.Add(time.Duration(300+rng.IntN(500)) * time.Millisecond)
		}
	case 1:
		s.pipe.stall[rng.IntN(2)] = true
	case 2, 3, 4:
		s.flow(rng.IntN(2))
	case 5:
		end := rng.IntN(2)
		s.ends[end].SetAttached(s.now, Datagrams, rng.IntN(2) == 0)
	case 6, 7:
		s.ends[rng.IntN(2)].SetAttached(s.now, Datagrams, true)
	case 8:
		s.ends[rng.IntN(2)].PathChanged(s.now, time.Duration(rng.IntN(3))*20*time.Millisecond, rng.IntN(2) == 0)
	case 9:
		end := rng.IntN(2)
		if b := s.ends[end].AppendFrameChallenge(s.now, nil, [8]byte{byte(rng.IntN(256))}); len(b) > 0 {
			s.sendFrame(end, b)
		}
		if b := s.ends[end].AppendChallenge(s.now, nil, [8]byte{byte(rng.IntN(256))}, 1200); len(b) > 0 {
			s.send(end, b)
		}
	default:
		v.moves++
		s.ends[rng.IntN(2)].Move(s.now, Carrier(rng.IntN(2)))
	}
}

// tick is called at every step.
func (v *mover) tick() {
	s := v.m.s
	for i, at := range v.noticed {
		if !at.IsZero() && !s.now.Before(at) {
			v.noticed[i] = time.Time{}
			s.ends[i].SetAttached(s.now, ByteStream, false)
		}
	}
	if !v.back.IsZero() && !s.now.Before(v.back) {
		v.back = time.Time{}
		s.cut()
		for _, a := range s.ends {
			a.SetAttached(s.now, ByteStream, true)
		}
	}
}

// end has everything there again.
func (v *mover) end() {
	s := v.m.s
	s.cut()
	v.back, v.noticed = time.Time{}, [2]time.Time{}
	for _, a := range s.ends {
		a.SetAttached(s.now, Datagrams, true)
		a.SetAttached(s.now, ByteStream, false)
		a.SetAttached(s.now, ByteStream, true)
	}
}

// newMoveModel is the model test over two carriers.
func newMoveModel(t *testing.T, seed uint64) *model {
	rigCarrier = func(c *Config) {
		c.Moves = true
		if c.Carrier = Carrier(seed >> 3 & 1); sealRigs && seed%2 == 0 {
			c.Carrier = Datagrams // with 0-RTT packets
		}
	}
	defer func() { rigCarrier = nil }()
	m := newModel(t, seed)
	s := m.s
	for i := range s.links {
		s.links[i].loss = []float64{0, 0.05, 0.3}[seed/2%3]
		s.links[i].corrupt = 0
	}
	s.pipe = &pipe{gen: 1, delay: s.links[0].delay, room: []int{0, 1, 3000, 1 << 20}[m.rng.IntN(4)]}
	if m.rng.IntN(3) == 0 {
		s.pipe.rate = 1 * mbit
	}
	for _, a := range s.ends {
		a.SetAttached(s.now, Datagrams, true)
		a.SetAttached(s.now, ByteStream, true)
	}
	m.mover = &mover{m: m}
	return m
}

// TestMoveModel: whatever moves, stalls and breaks, everything arrives once and in order.
// Traps A1, A7.
func TestMoveModel(t *testing.T) {
	seeds := uint64(600)
	if raceEnabled {
		seeds = 60
	}
	moves, followed, late := uint64(0), uint64(0), uint64(0)
	for seed := range seeds {
		m := newMoveModel(t, 20000+seed)
		m.run()
		for _, a := range m.s.ends {
			moves += a.stats.Moves
			followed += a.stats.MovesFollowed
			late += a.stats.MovesLate
			bounds(t, a)
		}
	}
	t.Logf("%d moves, %d followed, %d late", moves, followed, late)
	if moves < 10*seeds || followed < 5*seeds {
		t.Errorf("%d moves, %d followed", moves, followed)
	}
}

// TestSealedMoveModel: the same with Protection on datagrams.
func TestSealedMoveModel(t *testing.T) {
	seeds := uint64(200)
	if raceEnabled {
		seeds = 20
	}
	sealed(func() {
		for seed := range seeds {
			newMoveModel(t, 30000+seed).run()
		}
	})
}
