package crate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// permutations calls f with each order of 0..n-1.
func permutations(n int, f func([]int)) {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	var rec func(int)
	rec = func(k int) {
		if k == n {
			f(p)
			return
		}
		for i := k; i < n; i++ {
			p[k], p[i] = p[i], p[k]
			rec(k + 1)
			p[k], p[i] = p[i], p[k]
		}
	}
	rec(0)
}

// TestEveryOrder: pieces in every order, each of them once more at every place, give
// the message exactly once (traps F1, F4).
func TestEveryOrder(t *testing.T) {
	h := framing.Header{{Key: "x", Value: "y"}, {Key: "x", Value: "z"}}
	for n := 2; n <= 4; n++ {
		var want strings.Builder
		var ds [][]byte
		for i := range n {
			part := strings.Repeat(string(rune('a'+i)), 3+i)
			want.WriteString(part)
			ds = append(ds, slice(t, 0, h, 5, i, n, part))
		}
		permutations(n, func(order []int) {
			for dup := range n {
				for at := range n + 1 {
					seq := slices.Insert(slices.Clone(order), at, dup)
					s := newScript(t, Config{})
					var got []*Message
					for _, i := range seq {
						if res := s.receive(ds[i]); res.Message != nil {
							got = append(got, res.Message)
						}
					}
					if len(got) != 1 || string(got[0].Payload) != want.String() || !equalHeader(got[0].Header, h) || got[0].ReqAck {
						t.Fatalf("order %v: %d messages", seq, len(got))
					}
					checkSums(t, s.r)
				}
			}
		})
	}
}

// TestEveryLoss: without one of its pieces there is no message, and what is left of it
// does not get into the next one, which has another frag-id (trap F7: and after 256
// messages the same).
func TestEveryLoss(t *testing.T) {
	for lost := range 3 {
		s := newScript(t, Config{})
		var out Sender
		for k := range 600 {
			payload := strings.Repeat(fmt.Sprintf("%03d,", k), 800)
			p, err := out.Encode(nil, []byte(payload), false)
			if err != nil || len(p.Datagrams) != 3 {
				t.Fatalf("%d datagrams, %v", len(p.Datagrams), err)
			}
			got := 0
			for i, d := range p.Datagrams {
				if k%2 == 0 && i == lost {
					continue
				}
				if res := s.receive(d); res.Message != nil {
					got++
					if string(res.Message.Payload) != payload {
						t.Fatalf("message %d is mixed up", k)
					}
				}
			}
			if got != k%2 {
				t.Fatalf("message %d: delivered %d times", k, got)
			}
		}
		checkSums(t, s.r)
	}
}

// TestRandomTraffic: messages of random sizes through a path that loses, duplicates and
// reorders: what is delivered was sent, and not more often.
func TestRandomTraffic(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := newScript(t, Config{})
		var out Sender
		sent := make(map[string]int)
		type item struct {
			at int
			d  []byte
		}
		var path []item
		for k := range 400 {
			payload := fmt.Appendf(nil, "%d:", k)
			payload = append(payload, make([]byte, rnd.IntN(6000))...)
			p, err := out.Encode(framing.Header{{Key: "k", Value: fmt.Sprint(k)}}, payload, k%3 == 0)
			if err != nil {
				t.Fatal(err)
			}
			sent[string(payload)]++
			for _, d := range p.Datagrams {
				at := len(path)
				if rnd.IntN(10) == 0 {
					at += rnd.IntN(20) // late
				}
				if rnd.IntN(20) > 0 {
					path = append(path, item{at, d})
				}
				if rnd.IntN(10) == 0 {
					path = append(path, item{at + rnd.IntN(3), d})
				}
			}
		}
		slices.SortStableFunc(path, func(a, b item) int { return a.at - b.at })
		delivered := 0
		for _, it := range path {
			s.now = s.now.Add(time.Millisecond)
			if res := s.receive(it.d); res.Message != nil {
				delivered++
				sent[string(res.Message.Payload)]--
			}
		}
		for payload, n := range sent {
			// A message in one datagram, without an id, is as often there as it comes.
			if n < 0 && len(payload) > 1170 {
				t.Errorf("seed %d: message %.6q was delivered %d times", seed, payload, 1-n)
			}
		}
		if delivered < 250 {
			t.Errorf("seed %d: only %d delivered", seed, delivered)
		}
		checkSums(t, s.r)
	}
}

// TestEverySize: what Encode makes of each size comes back from Receive, no datagram is
// above 1,200 bytes, and none can be taken for a copy of the whole.
func TestEverySize(t *testing.T) {
	long := framing.Header{{Key: strings.Repeat("k", 255), Value: strings.Repeat("v", 255)}, {Key: "", Value: ""}}
	for _, h := range []framing.Header{nil, {{Key: "x", Value: "y"}}, long} {
		for _, ack := range []bool{false, true} {
			var out Sender
			s := newScript(t, Config{})
			top := MaxPayload(h, ack)
			sizes := []int{20_000, 50_000, top / 2, top - 1, top}
			for n := range 3700 {
				if n%7 == 0 || n > 1000 && n < 1250 {
					sizes = append(sizes, n)
				}
			}
			for _, n := range sizes {
				want := pattern(n)
				p, err := out.Encode(h, want, ack)
				if err != nil {
					t.Fatalf("size %d: %v", n, err)
				}
				if (p.ID != 0) != ack || len(p.Datagrams) > MaxFragments {
					t.Fatalf("size %d: id %d, %d datagrams", n, p.ID, len(p.Datagrams))
				}
				for i, d := range p.Datagrams {
					if len(d) > MaxDatagram || cap(d) != len(d) && len(p.Datagrams) > 1 {
						t.Fatalf("size %d: a datagram of %d bytes, capacity %d", n, len(d), cap(d))
					}
					if i < len(p.Datagrams)-1 {
						s.wantNothing(d, DropNone)
						continue
					}
					m := s.wantMessage(d, string(want))
					if m.ReqAck != ack || !equalHeader(m.Header, h) {
						t.Fatalf("size %d: %v", n, m.Header)
					}
				}
			}
		}
	}
}

// TestTheCrateTakesIt: "Correctly split fragments do reassemble": each fragment has what
// the crate needs, in its order.
func TestTheCrateTakesIt(t *testing.T) {
	var out Sender
	p, err := out.Encode(framing.Header{{Key: "x", Value: "y"}}, pattern(3000), true)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range p.Datagrams {
		f, trailer, err := framing.ParseDatagram(d)
		if err != nil || !trailer || f.Type != framing.TypeData || f.Flags != framing.FlagFrag|framing.FlagReqAck {
			t.Fatalf("%v %v, trailer %v, %v", f.Type, f.Flags, trailer, err)
		}
		h, _ := f.Header.AppendTo(nil)
		want := withFrag(framing.Header{{Key: "x", Value: "y"}, {Key: "msg-id", Value: "1"}}, 1, i, len(p.Datagrams))
		if !slices.Equal(h, want) {
			t.Errorf("fragment %d has %v, want %v", i, h, want)
		}
	}
}

// TestBadFragments: traps F2, F3: dropped, each by itself, and nothing is kept.
func TestBadFragments(t *testing.T) {
	frag := func(fields ...string) []byte {
		var h framing.Header
		for i := 0; i < len(fields); i += 2 {
			h.Add(fields[i], fields[i+1])
		}
		return datagram(t, framing.TypeData, framing.FlagFrag, h, []byte("x"))
	}
	for name, d := range map[string][]byte{
		"total 0":             frag("frag-id", "1", "frag-index", "0", "frag-total", "0"),
		"index = total":       frag("frag-id", "1", "frag-index", "2", "frag-total", "2"),
		"total 256":           frag("frag-id", "1", "frag-index", "0", "frag-total", "256"),
		"index 256":           frag("frag-id", "1", "frag-index", "256", "frag-total", "3"),
		"id 256":              frag("frag-id", "256", "frag-index", "0", "frag-total", "3"),
		"negative":            frag("frag-id", "1", "frag-index", "-1", "frag-total", "3"),
		"hexadecimal":         frag("frag-id", "1", "frag-index", "0", "frag-total", "0x3"),
		"empty text":          frag("frag-id", "", "frag-index", "0", "frag-total", "3"),
		"no id":               frag("frag-index", "0", "frag-total", "3"),
		"no index":            frag("frag-id", "1", "frag-total", "3"),
		"no total":            frag("frag-id", "1", "frag-index", "0"),
		"empty piece":         slice(t, 0, nil, 1, 0, 3, ""),
		"id above 64 bits":    frag("frag-id", "18446744073709551617", "frag-index", "0", "frag-total", "3"),
		"index not a number":  frag("frag-id", "1", "frag-index", "one", "frag-total", "3"),
		"total with a spaces": frag("frag-id", "1", "frag-index", "0", "frag-total", " 3"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, Config{})
			s.wantNothing(d, DropFragment)
			if s.r.peers.bytes != 0 {
				t.Error("something is kept")
			}
		})
	}
}

func TestWholeOnes(t *testing.T) {
	s := newScript(t, Config{})
	// One of one, even an empty one.
	s.wantMessage(slice(t, 0, nil, 1, 0, 1, "one"), "one")
	s.wantMessage(slice(t, 0, nil, 1, 0, 1, ""), "")
	// An echo server of the crate sends back what it has put together: FRAG is still
	// set, the fields are gone.
	m := s.wantMessage(datagram(t, framing.TypeData, framing.FlagFrag, framing.Header{{Key: "x", Value: "y"}}, []byte("echo")), "echo")
	if m.Header.Get("x") != "y" {
		t.Error(m.Header)
	}
	// A flag that nobody knows hides FRAG too.
	m = s.wantMessage(slice(t, 0x04, nil, 1, 0, 3, "piece"), "piece")
	if m.Header.Get("frag-total") != "3" {
		t.Error(m.Header)
	}
}

// TestNextMessageUnderTheSameID: the frag-id tells nothing, so other content does.
func TestNextMessageUnderTheSameID(t *testing.T) {
	s := newScript(t, Config{})
	s.wantNothing(slice(t, 0, nil, 1, 0, 2, "old0"), DropNone)
	s.wantNothing(slice(t, 0, nil, 1, 0, 2, "new0"), DropNone)
	s.wantMessage(slice(t, 0, nil, 1, 1, 2, "new1"), "new0new1")

	// Another total.
	s.wantNothing(slice(t, 0, nil, 1, 0, 3, "a"), DropNone)
	s.wantNothing(slice(t, 0, nil, 1, 0, 2, "b"), DropNone)
	s.wantMessage(slice(t, 0, nil, 1, 1, 2, "c"), "bc")

	// Another total, before any part comes again.
	s.wantNothing(slice(t, 0, nil, 1, 0, 3, "a"), DropNone)
	s.wantNothing(slice(t, 0, nil, 1, 1, 2, "b"), DropNone)
	s.wantMessage(slice(t, 0, nil, 1, 0, 2, "c"), "cb")

	// Other metadata.
	s.wantNothing(slice(t, 0, msgID("1"), 1, 1, 2, "d"), DropNone)
	s.wantNothing(slice(t, 0, msgID("2"), 1, 0, 2, "e"), DropNone)
	s.wantMessage(slice(t, 0, msgID("2"), 1, 1, 2, "f"), "ef")

	// A late duplicate of the message before is not taken for a piece of the next.
	s.wantNothing(slice(t, 0, msgID("2"), 1, 1, 2, "f"), DropNone)
	s.wantNothing(slice(t, 0, msgID("2"), 1, 0, 2, "g"), DropNone)
	s.wantMessage(slice(t, 0, msgID("2"), 1, 1, 2, "h"), "gh")

	// But a message may begin like the one before.
	s.wantNothing(slice(t, 0, msgID("2"), 1, 0, 2, "g"), DropNone)
	s.wantMessage(slice(t, 0, msgID("2"), 1, 1, 2, "i"), "gi")

	// And metadata in one of the pieces only is metadata.
	s.wantNothing(slice(t, 0, nil, 9, 1, 2, "2"), DropNone)
	m := s.wantMessage(slice(t, 0, framing.Header{{Key: "x", Value: "y"}}, 9, 0, 2, "1"), "12")
	if m.Header.Get("x") != "y" {
		t.Error(m.Header)
	}
	checkSums(t, s.r)
}

// TestMessageAgain: all of a message again within a second was duplicated on its way;
// later it was sent again.
func TestMessageAgain(t *testing.T) {
	a, b := slice(t, 0, nil, 1, 0, 2, "a"), slice(t, 0, nil, 1, 1, 2, "b")
	s := newScript(t, Config{})
	s.wantNothing(a, DropNone)
	s.wantMessage(b, "ab")
	s.wantNothing(b, DropNone)
	s.wantNothing(a, DropDuplicate)
	s.advance(repeatLife)
	s.wantNothing(a, DropNone)
	s.wantMessage(b, "ab")
}

// TestFragmentsAcked: one ACK, when the message is whole; again when it is sent again.
func TestFragmentsAcked(t *testing.T) {
	var out Sender
	p, err := out.Encode(nil, pattern(3000), true)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript(t, Config{})
	ack := string(ackOf(t, "1"))
	for round := range 4 {
		for i, d := range p.Datagrams {
			res := s.receive(d)
			if last := i == len(p.Datagrams)-1; last != (string(res.Reply) == ack) || (res.Message != nil) != (last && round == 0) {
				t.Fatalf("round %d, datagram %d: %+v", round, i, res)
			}
		}
		s.advance(time.Duration(round) * time.Second)
	}
}

// TestFragmentsAckedOnce: REQ_ACK and msg-id may be on one of them only.
func TestFragmentsAckedOnce(t *testing.T) {
	s := newScript(t, Config{})
	s.wantNothing(slice(t, framing.FlagReqAck, msgID("4"), 1, 0, 2, "a"), DropNone)
	res := s.receive(slice(t, 0, nil, 1, 1, 2, "b"))
	if res.Message == nil || !res.Message.ReqAck || string(res.Reply) != string(ackOf(t, "4")) {
		t.Errorf("%+v", res)
	}
}

// TestCopiesAcked: the first copy is delivered and acknowledged; the others of a round
// are swallowed, since an ACK for each would be in the way of later ones.
func TestCopiesAcked(t *testing.T) {
	ds := crateSend(t, framing.FlagReqAck, msgID("7"), pattern(4000))
	if len(ds) != 4 {
		t.Fatal(len(ds))
	}
	s := newScript(t, Config{})
	for round := range 3 {
		for i, d := range ds {
			res := s.receive(d)
			if (res.Reply != nil) != (i == 0) || (res.Message != nil) != (i == 0 && round == 0) {
				t.Fatalf("round %d, copy %d: %+v", round, i, res)
			}
		}
		s.advance(2100 * time.Millisecond)
	}
}

// TestCopiesLost: whichever copies arrive, and in whatever order, each message is
// delivered once if any of its copies arrives: it has the whole.
func TestCopiesLost(t *testing.T) {
	for _, size := range []int{1186, 2000, 4000, 5000} {
		n := len(crateSend(t, 0, nil, pattern(size)))
		permutations(n, func(order []int) {
			for lost := range 1<<n - 1 {
				s := newScript(t, Config{})
				for k := range 3 { // the frag-id is the same for all
					payload := pattern(size)
					payload[0] = byte(k)
					ds := crateSend(t, 0, nil, payload)
					got := 0
					for _, i := range order {
						if lost>>i&1 == 1 {
							continue
						}
						res := s.receive(ds[i])
						if res.Message != nil {
							got++
							if string(res.Message.Payload) != string(payload) {
								t.Fatal("not the payload")
							}
						}
						if res := s.receive(ds[i]); res.Message != nil { // duplicated on its way
							t.Fatal("delivered twice")
						}
					}
					if got != 1 {
						t.Fatalf("size %d, order %v, lost %b: delivered %d times", size, order, lost, got)
					}
				}
			}
		})
	}
}

// TestCopiesOfHeader: a message can be too large for its metadata alone.
func TestCopiesOfHeader(t *testing.T) {
	h := framing.Header{}
	for range 5 {
		h.Add("k", strings.Repeat("v", 255))
	}
	ds := crateSend(t, 0, h, nil)
	if len(ds) != 2 {
		t.Fatal(len(ds))
	}
	s := newScript(t, Config{})
	if m := s.wantMessage(ds[1], ""); !equalHeader(m.Header, h) {
		t.Error(m.Header)
	}
	s.wantNothing(ds[0], DropDuplicate)
}

// TestSameCopiesAgain: a client that sends the same large payload each time gets each
// through, though the datagrams are the same byte by byte.
func TestSameCopiesAgain(t *testing.T) {
	ds := crateSend(t, 0, nil, pattern(2000))
	s := newScript(t, Config{})
	got := 0
	for range 100 {
		for _, d := range ds {
			if s.receive(d).Message != nil {
				got++
			}
		}
	}
	if got != 100 {
		t.Errorf("%d of 100 delivered", got)
	}
}

// TestNoRoomForLast: only the part that found no room has to come again.
func TestNoRoomForLast(t *testing.T) {
	s := newScript(t, Config{})
	a, b := slice(t, 0, nil, 1, 0, 2, "a"), slice(t, 0, nil, 1, 1, 2, "b")
	s.wantNothing(b, DropNone)
	if res := s.r.Receive(s.now, peer, a, 0); res.Message != nil || res.Drop != DropFull {
		t.Fatalf("%+v", res)
	}
	checkSums(t, s.r)
	s.wantMessage(a, "ab")
}

// TestRoomForHeader: what a decoded header takes counts, which is more than its bytes.
func TestRoomForHeader(t *testing.T) {
	h := make(framing.Header, 100)
	d := datagram(t, framing.TypeData, 0, h, nil)
	s := newScript(t, Config{})
	if res := s.r.Receive(s.now, peer, d, 1000); res.Drop != DropFull {
		t.Errorf("%+v", res)
	}
	if res := s.r.Receive(s.now, peer, d, 4000); res.Message == nil || res.Message.Size() > 4000 {
		t.Errorf("%+v", res)
	}
}

// TestNoRoom: a message for which the application has no room is not acknowledged, and
// comes when it is sent again.
func TestNoRoom(t *testing.T) {
	var out Sender
	sliced, err := out.Encode(nil, pattern(3000), true)
	if err != nil {
		t.Fatal(err)
	}
	for name, ds := range map[string][][]byte{
		"one datagram": {datagram(t, framing.TypeData, framing.FlagReqAck, msgID("3"), pattern(900))},
		"slices":       sliced.Datagrams,
		"copies":       crateSend(t, framing.FlagReqAck, msgID("3"), pattern(3000)),
	} {
		s := newScript(t, Config{})
		for i, d := range ds {
			res := s.r.Receive(s.now, peer, d, 500)
			want := DropFull
			if name == "slices" && i < len(ds)-1 {
				want = DropNone
			}
			if res.Message != nil || res.Reply != nil || res.Drop != want {
				t.Errorf("%s: %+v", name, res)
			}
			checkSums(t, s.r)
		}
		s.advance(2 * time.Second)
		acks, messages := 0, 0
		for _, d := range ds {
			res := s.receive(d)
			if res.Reply != nil {
				acks++
			}
			if res.Message != nil {
				messages++
			}
		}
		if acks != 1 || messages != 1 {
			t.Errorf("%s: %d ACKs, %d messages", name, acks, messages)
		}
	}
}
