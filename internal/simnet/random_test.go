package simnet

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The ranges are four standard deviations of the binomial distribution, and more for
// the seeds are fixed: they tell a wrong formula, not bad luck.

func TestLoss(t *testing.T) {
	Run(t, 5, func(t *testing.T, seed uint64) {
		const count, loss = 20000, 0.1
		p := newPair(t, Options{Seed: seed, Path: Path{Loss: loss}})
		p.burst(t, count, 100, 0)
		got, s := p.finish(), p.ab.Stats()
		sigma := math.Sqrt(count * loss * (1 - loss))
		between(t, "lost", float64(s.Lost), count*loss-4*sigma, count*loss+4*sigma)
		if int(s.Sent) != count || s.SentBytes != 100*count || s.Sent-s.Lost != s.Arrived || len(got) != int(s.Arrived) || s.ArrivedSize != 100*s.Arrived {
			t.Errorf("%d arrived, %+v", len(got), s)
		}
	})
}

func TestBurstLoss(t *testing.T) {
	Run(t, 5, func(t *testing.T, seed uint64) {
		const count, loss, length = 50000, 0.05, 8
		p := newPair(t, Options{Seed: seed, Path: Path{Burst: Bursts(loss, length)}})
		p.burst(t, count, 4, 0)
		got := p.finish()
		lost, bursts, next := 0, 0, 0
		for _, a := range got {
			if a.number() > next {
				bursts++
				lost += a.number() - next
			}
			next = a.number() + 1
		}
		between(t, "loss", float64(lost)/count, 0.7*loss, 1.3*loss)
		between(t, "length of a burst", float64(lost)/float64(bursts), 0.8*length, 1.2*length)
	})
}

// TestBurstGood: in the good state packets are lost, too, if LossGood says so, and not
// all of them in the bad one if LossBad says so.
func TestBurstGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 40000
		g := &GilbertElliott{ToBad: 0.1, ToGood: 0.1, LossGood: 0.1, LossBad: 0.5}
		p := newPair(t, Options{Seed: 1, Path: Path{Burst: g}})
		p.burst(t, count, 4, 0)
		p.finish()
		between(t, "loss", float64(p.ab.Stats().Lost)/count, 0.28, 0.32)
	})
}

func TestDuplicate(t *testing.T) {
	for _, late := range []time.Duration{0, 50 * time.Millisecond} {
		t.Run(late.String(), func(t *testing.T) {
			Run(t, 3, func(t *testing.T, seed uint64) {
				const count = 10000
				p := newPair(t, Options{Seed: seed, Path: Path{Duplicate: 0.2, DuplicateDelay: late, Delay: time.Millisecond}})
				p.burst(t, count, 4, 100*time.Microsecond)
				got, s := p.finish(), p.ab.Stats()
				between(t, "duplicated", s.Duplicated, 1840, 2160)
				if len(got) != count+int(s.Duplicated) {
					t.Errorf("%d arrived, %+v", len(got), s)
				}
				first, behind, latest := make(map[int]time.Duration), 0, time.Duration(0)
				for i, a := range got {
					if at, ok := first[a.number()]; ok {
						latest = max(latest, a.at-at)
						if got[i-1].number() == a.number() {
							behind++
						}
					} else {
						first[a.number()] = a.at
					}
				}
				if late == 0 && (behind != int(s.Duplicated) || latest != 0) {
					t.Errorf("%d of %d copies right behind, %v late", behind, s.Duplicated, latest)
				}
				if late != 0 {
					between(t, "latest", latest, late*9/10, late)
				}
			})
		})
	}
}

func TestReorder(t *testing.T) {
	Run(t, 5, func(t *testing.T, seed uint64) {
		const count, depth = 10000, 4
		p := newPair(t, Options{Seed: seed, Path: Path{Reorder: 0.05, ReorderDepth: depth, Delay: 3 * time.Millisecond}})
		p.burst(t, count, 4, 10*time.Microsecond)
		got, s := p.finish(), p.ab.Stats()
		if len(got) != count {
			t.Fatalf("%d arrived", len(got))
		}
		between(t, "reordered", s.Reordered, 410, 590)
		var by [64]int
		late, highest := 0, -1
		for i, a := range got {
			if a.number() < highest {
				late++
				passed := 0
				for _, earlier := range got[max(0, i-20):i] {
					if earlier.number() > a.number() {
						passed++
					}
				}
				by[passed]++
			}
			highest = max(highest, a.number())
		}
		// One held back together with its neighbour may keep its place.
		between(t, "late packets", late, int(s.Reordered)*8/10, int(s.Reordered))
		for d := 1; d <= depth; d++ {
			between(t, fmt.Sprintf("late by %d", d), by[d], 60, 200)
		}
	})
}

// TestReorderAlone: a packet nothing follows arrives when its time is up.
func TestReorderAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Options{Seed: 1, Path: Path{Reorder: 1, ReorderHold: 7 * time.Millisecond, Delay: time.Millisecond}})
		p.burst(t, 3, 4, time.Second)
		got := p.finish()
		for i, a := range got {
			if want := time.Duration(i)*time.Second + 8*time.Millisecond; a.at != want || a.number() != i {
				t.Errorf("packet %d at %v, want %d at %v", a.number(), a.at, i, want)
			}
		}
		if s := p.ab.Stats(); len(got) != 3 || s.Reordered != 0 || len(p.ab.held) != 0 {
			t.Errorf("%d arrived, %d held, %+v", len(got), len(p.ab.held), s)
		}
	})
}

func TestCorrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 5000
		p := newPair(t, Options{Seed: 1, Path: Path{Corrupt: 0.1}})
		sent := bytes.Repeat([]byte{0x5a}, 200)
		for range count {
			p.a.WriteTo(sent, p.b.LocalAddr())
		}
		p.a.WriteTo(nil, p.b.LocalAddr())
		damaged, places := 0, make(map[int]bool)
		for _, a := range p.finish() {
			wrong := 0
			for i, c := range a.data {
				if c != 0x5a {
					wrong++
					places[i] = true
				}
			}
			if wrong > 1 {
				t.Fatalf("%d bytes of one packet changed", wrong)
			}
			damaged += wrong
		}
		between(t, "corrupted", damaged, 415, 585)
		between(t, "places", len(places), 150, 200)
		if s := p.ab.Stats(); int(s.Corrupted) != damaged || sent[0] != 0x5a {
			t.Errorf("%d are damaged, %+v", damaged, s)
		}
	})
}

func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay, jitter = 10 * time.Millisecond, 4 * time.Millisecond
		p := newPair(t, Options{Seed: 1, Path: Path{Delay: delay, Jitter: jitter}})
		p.burst(t, 1000, 4, 5*time.Millisecond)
		var sum, low, high time.Duration = 0, time.Hour, 0
		for i, a := range p.finish() {
			if a.number() != i {
				t.Fatalf("packet %d arrived as %d", a.number(), i)
			}
			d := a.at - time.Duration(i)*5*time.Millisecond
			sum, low, high = sum+d, min(low, d), max(high, d)
		}
		between(t, "lowest", low, delay, delay+jitter/50)
		between(t, "highest", high, delay+jitter*49/50, delay+jitter)
		between(t, "mean", sum/1000, delay+jitter*45/100, delay+jitter*55/100)
	})
}

// TestJitterKeepsOrder: who comes early waits, at a changing rate, too.
func TestJitterKeepsOrder(t *testing.T) {
	Run(t, 10, func(t *testing.T, seed uint64) {
		p := newPair(t, Options{Seed: seed, Path: Path{Jitter: 20 * time.Millisecond, Rate: 100_000, Loss: 0.1}})
		for _, rate := range []int64{1_000_000, 10_000, 0, 50_000} {
			p.burst(t, 50, 100, 300*time.Microsecond)
			p.ab.Update(func(p *Path) { p.Rate = rate })
		}
		p.burst(t, 50, 100, 300*time.Microsecond)
		last := -1
		for _, a := range p.finish() {
			if a.number() < last && last-a.number() < 20 {
				t.Fatalf("packet %d behind %d", a.number(), last)
			}
			last = a.number()
		}
	})
}

// everything runs some traffic both ways through everything at once.
func everything(t *testing.T, o Options) string {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		o.Path = Path{
			Delay: 5 * time.Millisecond, Jitter: 3 * time.Millisecond, Loss: 0.05, Burst: Bursts(0.05, 3),
			Reorder: 0.1, Duplicate: 0.1, DuplicateDelay: time.Millisecond, Corrupt: 0.05, Rate: 1_000_000, Queue: 20_000,
		}
		p := newPair(t, o)
		var ab, ba strings.Builder
		p.n.Observe(func(e Event) {
			w := &ab
			if e.From.Port() == 9 {
				w = &ba
			}
			fmt.Fprintf(w, "%v %v>%v %d %d: %v\n", e.At, e.From, e.To, e.N, len(e.Data), e.Fate)
		})
		back := make(chan struct{})
		go func() {
			defer close(back)
			for i := range 300 {
				p.b.WriteTo(make([]byte, i), p.a.LocalAddr())
				time.Sleep(time.Millisecond)
			}
		}()
		p.burst(t, 1000, 700, 500*time.Microsecond)
		<-back
		for _, a := range p.finish() {
			fmt.Fprintf(&out, "%v %x\n", a.at, a.data)
		}
		fmt.Fprintf(&out, "%s%s%+v\n%+v\n", &ab, &ba, p.ab.Stats(), p.ba.Stats())
	})
	return out.String()
}

// TestSameSeed: "the same seed and the same calls give the same decisions".
func TestSameSeed(t *testing.T) {
	first := everything(t, Options{Seed: 7})
	for range 3 {
		if everything(t, Options{Seed: 7}) != first {
			t.Fatal("two runs with one seed differ")
		}
	}
	if everything(t, Options{Seed: 7, VNet: true}) != first {
		t.Error("vnet changes what happens")
	}
	if everything(t, Options{Seed: 8}) == first {
		t.Error("the seed changes nothing")
	}
	for _, word := range []string{"lost", "queue full", "corrupted", "duplicated", "held", ": ok"} {
		if !strings.Contains(first, word) {
			t.Errorf("no packet was %s", word)
		}
	}
}

// TestIndependent: one parameter does not move the decisions of another.
func TestIndependent(t *testing.T) {
	lost := func(o Path) string {
		var out strings.Builder
		synctest.Test(t, func(t *testing.T) {
			o.Loss = 0.1
			p := newPair(t, Options{Seed: 3, Path: o})
			p.n.Observe(func(e Event) { fmt.Fprintln(&out, e.Fate&Lost) })
			p.burst(t, 1000, 10, 0)
			p.finish()
		})
		return out.String()
	}
	if lost(Path{}) != lost(Path{Duplicate: 0.5, Corrupt: 0.5, Reorder: 0.5, Jitter: time.Second, Delay: time.Second}) {
		t.Error("other packets are lost if more happens to the rest")
	}
}

// TestConservation changes everything all the time: what is sent arrives once, or is
// counted as something else, and the queue keeps within its bound.
func TestConservation(t *testing.T) {
	Run(t, 20, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := newPair(t, Options{Seed: seed, VNet: seed%5 == 0})
		chance := func() float64 { return max(0, r.Float64()-0.5) }
		ms := func(n int) time.Duration { return time.Duration(r.IntN(n)) * time.Millisecond / 2 }
		const bound = 50_000
		p.ab.Filter(func(n int, _ []byte) bool { return n%31 == 0 })
		for range 60 {
			next := Path{
				Delay: ms(40), Jitter: ms(10), Loss: chance(), Reorder: chance(), ReorderDepth: r.IntN(6), ReorderHold: ms(20),
				Duplicate: chance(), DuplicateDelay: ms(10), Corrupt: chance(), Rate: int64(r.IntN(4)) * 400_000, Queue: bound,
				Down: r.IntN(10) == 0,
			}
			if r.IntN(2) == 0 {
				next.Burst = Bursts(0.2, 4)
			}
			if r.IntN(4) == 0 {
				next.MTU = 1000
			}
			p.ab.Set(next)
			p.burst(t, r.IntN(100), 1200-r.IntN(400), ms(4))
		}
		got, s := p.finish(), p.ab.Stats()
		if gone := s.Filtered + s.TooLarge + s.Down + s.QueueFull + s.Lost; s.Sent != gone+s.Arrived-s.Duplicated || len(got) != int(s.Arrived) {
			t.Errorf("%d are gone, %d received, %+v", gone, len(got), s)
		}
		if s.MaxQueue > bound || s.Queue != 0 || len(p.ab.held) != 0 || p.ab.flying != 0 || len(p.n.flying) != 0 || len(p.ab.queue) != 0 {
			t.Errorf("left: %d held, %d and %d flying, %+v", len(p.ab.held), p.ab.flying, len(p.n.flying), s)
		}
		for i, v := range []uint64{s.Filtered, s.TooLarge, s.Down, s.QueueFull, s.Lost, s.Duplicated, s.Reordered, s.Corrupted} {
			if v == 0 && i != 3 {
				t.Errorf("counter %d is 0", i)
			}
		}
	})
}
