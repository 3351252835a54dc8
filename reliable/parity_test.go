package reliable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// mul multiplies in the field of PROTOCOL §7.8, as it is written there.
func mul(a, b byte) byte { return products[a][b] }

var products = func() (t [256][256]byte) {
	for a := range t {
		for b := range t {
			t[a][b] = slowMul(byte(a), byte(b))
		}
	}
	return t
}()

func slowMul(a, b byte) (p byte) {
	for ; b > 0; b >>= 1 {
		if b&1 > 0 {
			p ^= a
		}
		high := a & 0x80
		if a <<= 1; high > 0 {
			a ^= 0x1d
		}
	}
	return p
}

func inverse(a byte) byte {
	for b := range 256 {
		if mul(a, byte(b)) == 1 {
			return byte(b)
		}
	}
	panic("no inverse of 0")
}

// slowParity makes parity shard i of a block as PROTOCOL §7.8 says.
func slowParity(shards [][]byte, i int) []byte {
	p := make([]byte, len(shards[0]))
	for c, s := range shards {
		f := inverse(byte(len(shards)+i) ^ byte(c))
		for j, b := range s {
			p[j] ^= mul(f, b)
		}
	}
	return p
}

// cutBody cuts a body into shards as PROTOCOL §7.8 says, the last one filled up.
func cutBody(body []byte, size int) (shards [][]byte) {
	for len(body) > 0 {
		s := make([]byte, size)
		body = body[copy(s, body):]
		shards = append(shards, s)
	}
	return shards
}

// "Parity byte = sum of data bytes times the inverse of (k + i) XOR c".
func TestParityOfText(t *testing.T) {
	for _, k := range []int{2, 3, 10, 32, 64} {
		shards := cutBody(payloadOf(k, k*40-7), 40)
		var c coders
		all := append(append([][]byte{}, shards...), make([][]byte, MaxShards)...)
		for i := range MaxShards {
			all[k+i] = make([]byte, 40)
		}
		if err := c.get(k, MaxShards).Encode(all); err != nil {
			t.Fatal(err)
		}
		for i := range MaxShards {
			if !bytes.Equal(all[k+i], slowParity(shards, i)) {
				t.Fatalf("parity %d of %d shards", i, k)
			}
		}
	}
}

// parityChunk returns the PARITY of a body.
func parityChunk(id uint64, body []byte, size, shards, block, index int) []byte {
	all := cutBody(body, size)[block*shards:]
	p := slowParity(all[:min(len(all), shards)], index)
	return append(appendParityHead(nil, id, uint64(len(body)), uint64(shards), uint64(block), uint64(index), size), p...)
}

// appendedParity is parityChunk without a length, for the end of a packet.
func appendedParity(id uint64, body string, size, shards, block, index int) []byte {
	b := parityChunk(id, []byte(body), size, shards, block, index)
	data := b[len(b)-size:]
	b = appendValues(nil, chunkParity, id, uint64(len(body)), uint64(shards), uint64(block), uint64(index))
	return append(b, data...)
}

// A message is whole as soon as there are as many shards as it has data shards,
// whichever they are and in whatever order they come, in each of its blocks.
func TestParityRebuilds(t *testing.T) {
	for seed := range seeds(100) {
		rng := rand.New(rand.NewPCG(seed, 4))
		size, shards := 1+rng.IntN(200), 2+rng.IntN(MaxShards-1)
		total := size*(shards-1) + 1 + rng.IntN(3*size*shards)
		if seed%20 == 0 {
			size, shards, total = 900, 40, 200_000 // several blocks of memory, too
		}
		body := append([]byte{0}, payloadOf(int(seed), total-1)...)
		s := newRig(t, seed, wire{}, redundant(3))
		a := s.ends[1]
		var chunks [][]byte
		data := cutBody(body, size)
		for b := 0; b*shards < len(data); b++ {
			k := min(shards, len(data)-b*shards)
			missing := rng.Perm(k)[:rng.IntN(k+1)]
			if k < 2 {
				missing = nil
			}
			for i := range k {
				from := (b*shards + i) * size
				to := min(from+size, total)
				for _, m := range missing {
					if m == i && size > 1 && seed%2 == 0 { // a part of it comes
						to = from + rng.IntN(min(size, to-from))
					} else if m == i {
						to = from
					}
				}
				if from < to {
					chunks = append(chunks, fragmentChunk(0, uint64(total), uint64(from), string(body[from:to]), false))
				}
			}
			for _, i := range rng.Perm(MaxShards)[:len(missing)] {
				chunks = append(chunks, parityChunk(0, body, size, shards, b, i))
			}
		}
		rng.Shuffle(len(chunks), func(i, j int) { chunks[i], chunks[j] = chunks[j], chunks[i] })
		for i, c := range chunks {
			if seed%2 == 1 && a.MessagesWaiting() {
				t.Fatalf("seed %d: whole after %d of %d chunks", seed, i, len(chunks))
			}
			a.Receive(s.now, forge(a, packetNumber(1000+i), c))
			bounds(t, a)
		}
		in, ok := a.ReceiveMessage(s.now)
		if !ok || a.Err() != nil || !bytes.Equal(in.Payload, body[1:]) {
			t.Fatalf("seed %d: %d bytes in %d shards of %d: %v, %v", seed, total, shards, size, ok, a.Err())
		}
		if len(a.partials) != 0 {
			t.Fatalf("seed %d: something is left", seed)
		}
	}
}

// Parity that does not fit ends the association, and never makes a wrong message.
func TestParityMalformed(t *testing.T) {
	body := append([]byte{0}, payloadOf(1, 999)...)
	head := func(total, shards, block, index uint64, n int) []byte {
		return append(appendParityHead(nil, 0, total, shards, block, index, n), make([]byte, n)...)
	}
	right := parityChunk(0, body, 100, 5, 0, 0)
	wrong := bytes.Clone(right)
	wrong[len(wrong)-1] ^= 1
	part := func(from, to int) []byte { return fragmentChunk(0, 1000, uint64(from), string(body[from:to]), false) }
	all := func(cs ...[]byte) []byte { return joined(cs...) }
	for _, tt := range []struct {
		name   string
		chunks []byte
	}{
		{"one shard", head(1000, 1, 0, 0, 100)},
		{"no shards", head(1000, 0, 0, 0, 100)},
		{"too many shards", head(10000, 65, 0, 0, 100)},
		{"index", head(1000, 5, 0, 64, 100)},
		{"no data", head(1000, 5, 0, 0, 0)},
		{"a shard outside", head(400, 5, 0, 0, 100)},
		{"a block outside", head(1000, 5, 2, 0, 100)},
		{"a block of one shard", head(1100, 5, 2, 0, 100)},
		{"a block far outside", head(1000, 5, 1<<61, 0, 100)},
		{"too large", head(1<<40, 5, 0, 0, 100)},
		{"other shards", all(right, head(1000, 4, 0, 1, 100))},
		{"other size", all(right, head(1000, 5, 0, 1, 90))},
		{"other total", all(right, head(1001, 5, 0, 1, 100))},
		{"contradicts a part", all(wrong, part(99, 100), part(100, 500))},
		{"contradicts the padding", all(
			append(appendParityHead(nil, 0, 1000, 4, 2, 0, 101), bytes.Repeat([]byte{1}, 101)...), part(808, 909))},
	} {
		s := newRig(t, 1, wire{}, redundant(3))
		a := s.ends[1]
		a.Receive(s.now, forge(a, 1000, tt.chunks))
		if a.Err() == nil {
			t.Errorf("%s: nothing", tt.name)
		}
		if _, ok := a.ReceiveMessage(s.now); ok {
			t.Errorf("%s: a message", tt.name)
		}
	}

	s := newRig(t, 1, wire{}) // which has not said that it takes any
	a := s.ends[1]
	a.Receive(s.now, forge(a, 1000, right))
	if a.Err() == nil {
		t.Error("PARITY that was not asked for")
	}

	// Later, and more than once, it means nothing.
	s = newRig(t, 1, wire{}, redundant(3))
	a = s.ends[1]
	a.Receive(s.now, forge(a, 1000, all(right, right, part(0, 400), right, part(500, 1000), right, part(400, 500), wrong)))
	if in, ok := a.ReceiveMessage(s.now); !ok || a.Err() != nil || !bytes.Equal(in.Payload, body[1:]) {
		t.Errorf("%v, %v", ok, a.Err())
	}
}

// A peer that has not said that it takes PARITY gets none.
func TestParityNegotiated(t *testing.T) {
	for _, end := range []int{0, 1} {
		s := newRig(t, 1, lossyLink(1, 0.1, 1), redundant(3))
		s.ends[0].c.Peer.Parity, s.ends[1].c.Local.Parity = end == 1, end == 1
		f := flow{size: 20000, interval: 20 * time.Millisecond, count: 50, message: Outgoing{Redundant: true}}
		f.run(s, nil)
		if n := s.ends[0].Stats().RedundantSent; (n > 0) != (end == 1) {
			t.Errorf("%d bytes", n)
		}
	}
}

// Messages of several packets do not wait for a retransmission either.
func TestParityLatency(t *testing.T) {
	for _, tt := range []struct {
		size        int
		loss, burst float64
		p99         time.Duration // with redundancy
	}{
		{3000, 0, 1, 22 * time.Millisecond},
		{3000, 0.01, 1, 25 * time.Millisecond},
		{3000, 0.05, 1, 40 * time.Millisecond},
		{20_000, 0.01, 1, 30 * time.Millisecond},
		{20_000, 0.05, 1, 40 * time.Millisecond},
		{200_000, 0.01, 1, 65 * time.Millisecond},
		{200_000, 0.05, 1, 90 * time.Millisecond},
		{20_000, 0.05, 8, 120 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%d, %v in %v", tt.size, tt.loss, tt.burst), func(t *testing.T) {
			for _, on := range []bool{false, true} {
				s := newRig(t, 1, lossyLink(1, tt.loss, tt.burst), redundant(3))
				s.links[1].drop, s.links[1].loss = nil, tt.loss
				f := flow{size: tt.size, interval: max(10*time.Millisecond, time.Duration(tt.size)*time.Microsecond/3), count: min(2000, 8_000_000/tt.size) + 20, warm: 20, message: Outgoing{Redundant: on}}
				f.run(s, nil)
				st := s.ends[0].Stats()
				t.Logf("%v: p50 %v p95 %v p99 %v max %v; redundancy %.3f, repaired %d, rebuilt %d, lost %d of %d, repeated %d, cwnd %d %s", on,
					f.at(50), f.at(95), f.at(99), f.at(100), float64(st.RedundantSent)/float64(f.sent), st.RedundantRepaired,
					s.ends[1].Stats().ShardsRebuilt, st.PacketsLost, st.PacketsSent, st.BytesRetransmitted, st.CongestionWindow, st.State)
				if on && f.at(99) > tt.p99 {
					t.Errorf("p99 %v, over %v", f.at(99), tt.p99)
				}
			}
		})
	}
}
