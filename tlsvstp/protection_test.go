package tlsvstp

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// side is one end of an association as far as its keys see it: it numbers packets,
// remembers which have come, and acknowledges the largest.
type side struct {
	t testing.TB
	*Protection
	pn, next uint64
}

func newSides(t testing.TB, suite uint16) (a, b *side) {
	t.Helper()
	a, b = &side{t: t, Protection: NewProtection()}, &side{t: t, Protection: NewProtection()}
	a.SetWrite(testKeys(t, suite, 1))
	b.SetRead(testKeys(t, suite, 1))
	b.SetWrite(testKeys(t, suite, 2))
	a.SetRead(testKeys(t, suite, 2))
	return a, b
}

// send seals the next packet.
func (s *side) send() []byte {
	s.t.Helper()
	p := s.Seal(packet(fmt.Appendf(nil, "chunks %d", s.pn), s.pn), 0, s.pn)
	require.NotEmpty(s.t, p)
	s.pn++
	return p
}

// receive opens a packet, and reports whether it is one, and its number.
func (s *side) receive(p []byte) (pn uint64, ok bool) {
	s.t.Helper()
	pn, chunks, ok := s.Open(bytes.Clone(p), s.next)
	if ok {
		require.Equal(s.t, fmt.Sprintf("chunks %d", pn), string(chunks))
		s.next = max(s.next, pn+1)
	} else {
		require.Nil(s.t, chunks)
	}
	return pn, ok
}

func (s *side) wantOpen(p []byte) {
	s.t.Helper()
	_, ok := s.receive(p)
	require.True(s.t, ok)
}

func (s *side) wantDrop(p []byte) {
	s.t.Helper()
	_, ok := s.receive(p)
	require.False(s.t, ok)
}

// exchange sends a packet each way; a's is acknowledged.
func exchange(a, b *side) {
	a.t.Helper()
	pn := a.pn
	b.wantOpen(a.send())
	a.wantOpen(b.send())
	a.Acked(pn)
}

func TestProtection(t *testing.T) {
	for _, id := range suites {
		a, b := newSides(t, id)
		require.Equal(t, tagLen, a.Overhead())
		for range 3 {
			exchange(a, b)
			exchange(b, a)
		}
		require.False(t, a.Updated())
		require.NoError(t, a.Err())
		p := a.send()
		for range 3 {
			b.wantOpen(p) // replays are the caller's
		}
		// Out of order.
		p, q := a.send(), a.send()
		b.wantOpen(q)
		b.wantOpen(p)
	}
}

func TestProtectionWithoutKeys(t *testing.T) {
	p := NewProtection()
	b := append([]byte("before"), packet([]byte("chunks"), 0)...)
	require.Equal(t, "before", string(p.Seal(b, 6, 0)))
	sealed := testKeys(t, suites[0], 1).SealPacket(packet([]byte("chunks"), 0), 0, 0)
	for _, typ := range []byte{1, 3} {
		sealed[typeOffset] = typ
		_, _, ok := p.Open(sealed, 0)
		require.False(t, ok)
	}
	require.False(t, p.Update())
	p.DropOld()
	p.Acked(0)
	require.NoError(t, p.Err())
	for n := range HeaderLen + tagLen {
		_, _, ok := p.Open(make([]byte, n), 0)
		require.False(t, ok)
	}
}

// "A packet that does not open is dropped, and counted" (PROTOCOL §8.4): truncations,
// bits and the wrong keys, also those of the wrong direction.
func TestProtectionDamage(t *testing.T) {
	for _, id := range suites {
		a, b := newSides(t, id)
		exchange(a, b)
		p := a.send()
		for i := range p {
			b.wantDrop(p[:i])
		}
		before := b.failed
		for bit := range len(p) * 8 {
			q := bytes.Clone(p)
			q[bit/8] ^= 1 << (bit % 8)
			b.wantDrop(q)
		}
		// All but the one that looks like a 0-RTT packet, for which there are no keys.
		require.EqualValues(t, len(p)*8-1, b.failed-before)
		a.wantDrop(p)
		b.wantOpen(p)
		require.False(t, b.Updated())
		require.Zero(t, b.phase)
	}
}

// "An end MUST NOT begin an update before a packet of the present phase was
// acknowledged, and follows that of its peer at once" (PROTOCOL §8.7).
func TestKeyUpdate(t *testing.T) {
	for _, id := range suites {
		a, b := newSides(t, id)
		require.False(t, a.Update(), "nothing was acknowledged")
		b.wantOpen(a.send())
		require.False(t, a.Update())
		a.wantOpen(b.send())
		a.Acked(0)
		late := b.send()
		old := a.send()

		require.True(t, a.Update())
		require.False(t, a.Update(), "nothing of this phase was acknowledged")
		a.Acked(1)
		require.False(t, a.Update(), "1 was of the phase before")
		require.False(t, a.Updated(), "b does not know yet")
		a.DropOld()
		a.wantOpen(late)

		p := a.send()
		b.wantOpen(p)
		require.True(t, b.Updated())
		require.False(t, b.Updated())
		b.wantOpen(old)
		b.wantOpen(p)
		q := b.send()
		require.Equal(t, b.phase, a.phase)
		a.wantOpen(q)
		require.True(t, a.Updated())
		require.False(t, a.Updated())
		a.Acked(1)
		require.False(t, a.acked, "1 was of the phase before")
		a.Acked(2)
		require.False(t, a.Update(), "the keys before are still there")
		a.wantOpen(late)
		a.DropOld()
		b.DropOld()
		a.wantDrop(late)
		b.wantDrop(old)
		a.wantOpen(q)
		b.wantOpen(p)

		// From the other side, and again and again.
		for i := range 6 {
			x, y := a, b
			if i%2 == 0 {
				x, y = b, a
			}
			exchange(x, y)
			require.True(t, x.Update())
			exchange(x, y)
			require.True(t, x.Updated())
			require.True(t, y.Updated())
			x.DropOld()
			y.DropOld()
		}
		require.NotEqual(t, testKeys(t, id, 1).secret(), a.write.secret())
	}
}

// Both ends begin an update at the same time: it is one.
func TestKeyUpdateCrossing(t *testing.T) {
	a, b := newSides(t, suites[0])
	exchange(a, b)
	exchange(b, a)
	require.True(t, a.Update())
	require.True(t, b.Update())
	p, q := a.send(), b.send()
	a.wantOpen(q)
	b.wantOpen(p)
	require.True(t, a.Updated())
	require.True(t, b.Updated())
	require.EqualValues(t, phaseBit, a.phase)
	exchange(a, b)
}

// An acknowledgement in an old phase, of a packet in a new one, does not count (RFC
// 9001 §6.2).
func TestKeyUpdateAckInOldPhase(t *testing.T) {
	a, b := newSides(t, suites[0])
	exchange(a, b)
	require.True(t, a.Update())
	pn := a.pn
	a.send()
	a.wantOpen(b.send())
	a.Acked(pn)
	require.False(t, a.acked)
}

// "A packet whose number is lower than that of another one with older keys does not
// open" (PROTOCOL §8.7), and neither does one of an old phase with a higher number.
func TestKeyUpdateOrder(t *testing.T) {
	setup := func() (a *side, w0, w1 *Keys, seal func(k *Keys, phase byte, pn uint64) []byte) {
		a, b := newSides(t, suites[0])
		for range 10 {
			exchange(a, b)
		}
		w0 = testKeys(t, suites[0], 2)
		return a, w0, w0.Next(), func(k *Keys, phase byte, pn uint64) []byte {
			p := packet(fmt.Appendf(nil, "chunks %d", pn), pn)
			p[flagsOffset] |= phase
			return k.SealPacket(p, 0, pn)
		}
	}
	t.Run("new keys, lower number", func(t *testing.T) {
		a, w0, w1, seal := setup()
		a.wantOpen(seal(w0, 0, 50))
		for _, pn := range []uint64{0, 9, 10, 49, 50} {
			a.wantDrop(seal(w1, phaseBit, pn))
		}
		require.Zero(t, a.phase)
		require.EqualValues(t, 0, a.low)
		a.wantOpen(seal(w1, phaseBit, 51))
		require.EqualValues(t, phaseBit, a.phase)
	})
	t.Run("new keys, lower than a late old one", func(t *testing.T) {
		a, w0, w1, seal := setup()
		a.wantOpen(seal(w1, phaseBit, 60))
		a.wantOpen(seal(w0, 0, 55))
		a.wantDrop(seal(w1, phaseBit, 54))
		a.wantDrop(seal(w1, phaseBit, 55))
		a.wantOpen(seal(w1, phaseBit, 56))
		a.wantDrop(seal(w0, 0, 57))
		a.wantDrop(seal(w0, 0, 61))
	})
	t.Run("wrong phase", func(t *testing.T) {
		a, w0, w1, seal := setup()
		a.wantDrop(seal(w0, phaseBit, 60))
		a.wantDrop(seal(w1, 0, 60))
		a.wantDrop(seal(w1.Next(), phaseBit, 60))
		a.wantDrop(seal(w1.Next(), 0, 60))
		require.EqualValues(t, 4, a.failed)
		require.Zero(t, a.phase)
	})
	t.Run("own update, not followed yet", func(t *testing.T) {
		a, w0, w1, seal := setup()
		require.True(t, a.Update())
		a.wantDrop(seal(w1, phaseBit, 9))
		a.wantOpen(seal(w0, 0, 70))
		a.wantDrop(seal(w1, phaseBit, 69))
		a.wantDrop(seal(w1.Next(), 0, 80))
		a.wantOpen(seal(w1, phaseBit, 71))
		require.True(t, a.Updated())
	})
	t.Run("update with the first packet", func(t *testing.T) {
		// Nothing of the phase before can have been acknowledged.
		a, b := newSides(t, suites[0])
		a.send()
		p := packet([]byte("chunks 5"), 5)
		p[flagsOffset] |= phaseBit
		a.wantDrop(b.write.Next().SealPacket(p, 0, 5))
		a.wantOpen(b.send())
	})
	t.Run("two updates at once", func(t *testing.T) {
		// The second one cannot be allowed: nothing of the first phase was acknowledged.
		a, _, w1, seal := setup()
		a.wantOpen(seal(w1, phaseBit, 60))
		a.wantDrop(seal(w1.Next(), 0, 61))
		a.send()
		a.wantOpen(seal(w1.Next(), 0, 61))
		require.True(t, a.Updated())
		require.NotNil(t, a.prevRead)
	})
}

// The limits of RFC 9001 §6.6.
func TestKeyLimits(t *testing.T) {
	k := func(id uint16) *Protection {
		p := NewProtection()
		p.SetWrite(testKeys(t, id, 1))
		p.SetRead(testKeys(t, id, 2))
		return p
	}
	for _, id := range suites[:2] {
		require.Equal(t, uint64(1<<22), k(id).updateAfter)
		require.Equal(t, uint64(1<<23), k(id).sealLimit)
		require.Equal(t, uint64(1<<52), k(id).openLimit)
	}
	require.Equal(t, uint64(1<<62), k(suites[2]).sealLimit)
	require.Equal(t, uint64(1<<36), k(suites[2]).openLimit)

	t.Run("update by itself", func(t *testing.T) {
		a, b := newSides(t, suites[0])
		a.updateAfter, a.sealLimit = 10, 20
		updates := 0
		for range 100 {
			exchange(a, b)
			if b.Updated() {
				updates++
			}
			if a.Updated() {
				a.DropOld()
				b.DropOld()
			}
			require.LessOrEqual(t, a.sealed, uint64(10))
		}
		require.Equal(t, 9, updates)
		require.NoError(t, a.Err())
	})
	t.Run("no update is possible", func(t *testing.T) {
		a, _ := newSides(t, suites[0])
		a.updateAfter, a.sealLimit = 10, 20
		for range 20 {
			require.NoError(t, a.Err())
			a.send()
		}
		require.ErrorIs(t, a.Err(), ErrKeyLimit)
		require.Empty(t, a.Seal(packet(nil, a.pn), 0, a.pn))
		a.acked = true
		require.False(t, a.Update())
	})
	t.Run("forgeries", func(t *testing.T) {
		a, b := newSides(t, suites[0])
		b.openLimit = 5
		p := a.send()
		p[len(p)-1] ^= 1
		early := bytes.Clone(p)
		early[typeOffset] = 1
		b.SetEarlyRead(testKeys(t, suites[0], 3))
		for i := range 5 {
			require.NoError(t, b.Err())
			if i%2 == 0 {
				b.wantDrop(early)
			} else {
				b.wantDrop(p)
			}
		}
		require.ErrorIs(t, b.Err(), ErrKeyLimit)
	})
	t.Run("numbers", func(t *testing.T) {
		a, _ := newSides(t, suites[0])
		a.send()
		require.Panics(t, func() { a.Seal(packet(nil, 0), 0, 0) })
		require.Empty(t, a.Seal(packet(nil, 0), 0, maxNumber+1))
	})
}

// 0-RTT packets share their numbers with the packets that follow (PROTOCOL §8.9).
func TestEarlyPackets(t *testing.T) {
	for i := range 2 * len(suites) {
		id, rests := suites[i/2], i%2 == 1
		c, s := &side{t: t, Protection: NewProtection()}, &side{t: t, Protection: NewProtection()}
		earlyPacket := func() []byte {
			if rests {
				c.Rest()
				s.Rest()
			}
			b := packet(fmt.Appendf(nil, "chunks %d", c.pn), c.pn)
			b[typeOffset], b[fieldOffset] = 1, 0x18
			c.pn++
			return c.Seal(b, 0, c.pn-1)
		}
		c.SetEarlyWrite(testKeys(t, id, 3))
		s.SetEarlyRead(testKeys(t, id, 3))
		s.SetWrite(testKeys(t, id, 2))
		p0, p1, p2 := earlyPacket(), earlyPacket(), earlyPacket()
		s.wantOpen(p1)
		s.wantOpen(p0)
		c.wantDrop(s.send()) // comes before the keys

		c.SetRead(testKeys(t, id, 2))
		c.SetWrite(testKeys(t, id, 1))
		c.Acked(1)
		require.False(t, c.Update(), "that was 0-RTT")
		q := c.send()
		s.wantDrop(q)
		s.SetRead(testKeys(t, id, 1))
		s.wantOpen(q)
		if rests {
			s.Rest()
		}
		s.wantOpen(p2)
		require.False(t, s.Updated())

		// After packets of the Application level none can be new.
		wrong := testKeys(t, id, 3)
		b := packet([]byte("chunks 4"), 4)
		b[typeOffset] = 1
		s.wantDrop(wrong.SealPacket(b, 0, 4))
		// And those with keys of the Application level have higher numbers.
		s.wantDrop(testKeys(t, id, 1).SealPacket(packet([]byte("chunks 2"), 2), 0, 2))

		exchange(c, s)
		require.True(t, c.Update())
		exchange(c, s)
		s.SetEarlyRead(nil)
		s.wantDrop(p0)
		require.Zero(t, s.failed)
	}
}

// Two ends over a network that loses, repeats and reorders: whatever is done, nothing
// that was received with present keys fails to open, and both go on. Whether they rest in
// between makes no difference to anything.
func TestKeyUpdateRandom(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			require.Equal(t, updateAtRandom(t, seed, 0), updateAtRandom(t, seed, 2))
		})
	}
}

// updateAtRandom returns a checksum of all that was sent. One in rests times, an end rests
// before it does something.
func updateAtRandom(t *testing.T, seed uint64, rests int) uint32 {
	var (
		rnd  = rand.New(rand.NewPCG(seed, 1))
		when = rand.New(rand.NewPCG(seed, 2))
		sum  uint32
	)
	a, b := newSides(t, suites[seed%3])
	a.updateAfter, b.updateAfter = 5+rnd.Uint64N(30), 5+rnd.Uint64N(30)
	type flight struct {
		p     []byte
		acks  uint64
		phase int // how many updates its sender has made
	}
	var (
		ends    = []*side{a, b}
		nets    [2][]flight // to ends[i]
		largest [2]uint64   // number + 1
		phases  [2]int
		last    [2]byte
		dropAt  [2]int
	)
	for step := range 5000 {
		i := rnd.IntN(2)
		e := ends[i]
		if rests > 0 && when.IntN(rests) == 0 {
			e.Rest()
		}
		if e.phase != last[i] {
			last[i] = e.phase
			phases[i]++
		}
		if dropAt[i] != 0 && step >= dropAt[i] {
			e.DropOld()
			dropAt[i] = 0
		}
		if rnd.IntN(2) == 0 {
			p := e.send()
			sum = crc32.Update(sum, crc32.IEEETable, p)
			if e.phase != last[i] {
				last[i] = e.phase
				phases[i]++
			}
			if rnd.IntN(10) > 0 {
				nets[1-i] = append(nets[1-i], flight{p, largest[i], phases[i]})
			}
			continue
		}
		if len(nets[i]) == 0 {
			continue
		}
		j := rnd.IntN(min(8, len(nets[i])))
		f := nets[i][j]
		if rnd.IntN(10) > 0 {
			nets[i] = append(nets[i][:j:j], nets[i][j+1:]...)
		}
		pn, ok := e.receive(f.p)
		if !ok {
			require.Less(t, f.phase, phases[i], "step %d", step)
			continue
		}
		largest[i] = max(largest[i], pn+1)
		if f.acks > 0 {
			e.Acked(f.acks - 1)
		}
		if e.Updated() {
			dropAt[i] = step + 60
		}
		require.NoError(t, e.Err())
	}
	require.Greater(t, phases[0], 5)
	require.InDelta(t, phases[0], phases[1], 1)
	return sum
}

// TestProtectionRest: at rest there is nothing of a cipher, and both directions go on, each
// with what it needs.
func TestProtectionRest(t *testing.T) {
	for _, id := range suites {
		NewProtection().Rest() // without keys

		a, b := newSides(t, id)
		a.Rest()
		b.Rest()
		for _, k := range []*Keys{a.write, a.read, a.nextRead} {
			require.Nil(t, k.aead)
			require.Nil(t, k.mask)
		}
		exchange(a, b)
		require.NotNil(t, a.write.aead)
		a.Rest()
		b.Rest()
		b.wantDrop(make([]byte, HeaderLen+tagLen))
		exchange(b, a)
		require.True(t, a.Update(), "at rest or not")
		a.Rest()
		exchange(a, b)
		b.Rest()
		exchange(b, a)
		require.Same(t, a.read.mask, a.nextRead.mask)
		require.NotZero(t, a.phase)
	}
}

// BenchmarkWake is what the first packet in each direction costs after a rest.
func BenchmarkWake(b *testing.B) {
	for _, id := range benchSuites {
		b.Run(tls.CipherSuiteName(id), func(b *testing.B) {
			a, _ := newSides(b, id)
			b.ReportAllocs()
			for b.Loop() {
				a.Rest()
				a.write.wake(nil)
				a.wakeRead()
			}
		})
	}
}

func TestProtectionAllocs(t *testing.T) {
	a, b := newSides(t, tls.TLS_AES_128_GCM_SHA256)
	plain := packet(make([]byte, 1000), 0)
	buf := make([]byte, 0, 2048)
	pn := uint64(0)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buf = a.Seal(append(buf[:0], plain...), 0, pn)
		if _, _, ok := b.Open(buf, pn); !ok {
			t.Fatal("does not open")
		}
		pn++
	}))
}

// What comes from the network never panics, and never opens.
func FuzzProtectionOpen(f *testing.F) {
	a, _ := newSides(f, suites[0])
	p := a.send()
	f.Add(p, uint64(0))
	f.Add(p[:HeaderLen+tagLen-1], uint64(maxNumber))
	f.Add(packet(make([]byte, 40), 1<<31), uint64(1<<62))
	f.Fuzz(func(t *testing.T, b []byte, next uint64) {
		for _, id := range suites {
			_, s := newSides(t, id)
			s.SetEarlyRead(testKeys(t, id, 3))
			pn, _, ok := s.Open(bytes.Clone(b), next)
			if ok && (id != suites[0] || pn != 0) {
				t.Fatalf("packet %d opens", pn)
			}
		}
	})
}
