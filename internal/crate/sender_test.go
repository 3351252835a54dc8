package crate

import (
	"bytes"
	"errors"
	"math/bits"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// TestEncodeErrors: trap F8: synchronously, and nothing is counted.
func TestEncodeErrors(t *testing.T) {
	var s Sender
	field := func(k, v string) framing.Header { return framing.Header{{Key: k, Value: v}} }
	big := framing.Header{}
	for range 5 {
		big.Add("k", strings.Repeat("v", 255))
	}
	top := MaxPayload(nil, true)
	for _, e := range []struct {
		h    framing.Header
		size int
		ack  bool
		want error
	}{
		{nil, top + 1, true, ErrTooLarge},
		{nil, MaxPayload(nil, false) + 1, false, ErrTooLarge},
		{nil, 1 << 24, false, ErrTooLarge},
		{big, 0, false, ErrTooLarge},
		{big, 1, true, ErrTooLarge},
		{field("msg-id", "1"), 0, true, ErrKey},
		{field("msg-id", "1"), 0, false, nil},
		{field("frag-id", "1"), 0, false, ErrKey},
		{field("frag-index", ""), 0, false, ErrKey},
		{field("frag-total", "x"), 0, true, ErrKey},
		{field("\x01", "x"), 0, true, ErrKey},
		{field(strings.Repeat("k", 256), "x"), 0, true, framing.ErrKeyTooLong},
		{field("k", strings.Repeat("v", 256)), 0, true, framing.ErrValueTooLong},
	} {
		p, err := s.Encode(e.h, make([]byte, e.size), e.ack)
		if !errors.Is(err, e.want) || (err != nil) != (p.Datagrams == nil) {
			t.Errorf("%v, %d bytes: %v, want %v", e.h, e.size, err, e.want)
		}
	}
	if s != (Sender{}) {
		t.Errorf("something was counted: %+v", s)
	}
	if n := MaxPayload(big, false); n != -1 {
		t.Errorf("MaxPayload = %d beside a header that does not fit", n)
	}
	if n := MaxPayload(field("frag-id", ""), false); n != -1 {
		t.Errorf("MaxPayload = %d beside a header that is refused", n)
	}
	if top < 280_000 {
		t.Errorf("MaxPayload = %d", top)
	}
}

// TestIDs: msg-id and frag-id advance with each message that has one.
func TestIDs(t *testing.T) {
	var s Sender
	for i := range 600 {
		p, err := s.Encode(nil, pattern(2000), i%2 == 0)
		if err != nil {
			t.Fatal(err)
		}
		f, _, _ := framing.ParseDatagram(p.Datagrams[0])
		frag, state := parseFragment(f.Header)
		if state != fragGood || frag.id != uint8(i+1) {
			t.Fatalf("message %d has frag-id %d", i, frag.id)
		}
		id, _, ok := messageID(f.Header)
		if ok != (i%2 == 0) || ok && (id != uint64(i/2+1) || p.ID != id) {
			t.Fatalf("message %d has id %d, %d", i, id, p.ID)
		}
	}
}

// TestRetries: "send, wait 2 s for ACK, sleep 100 ms·2ⁿ (cap 5 s), 4 attempts".
func TestRetries(t *testing.T) {
	type step struct {
		at time.Duration
		a  Action
	}
	ms := time.Millisecond
	for name, e := range map[string]struct {
		r    Retry
		want []step
	}{
		"the crate's": {DefaultRetry, []step{
			{2000 * ms, Wait}, {2100 * ms, Resend},
			{4100 * ms, Wait}, {4300 * ms, Resend},
			{6300 * ms, Wait}, {6700 * ms, Resend},
			{8700 * ms, Fail},
		}},
		"no retries": {Retry{AckTimeout: time.Second}, []step{{1000 * ms, Fail}}},
		"negative":   {Retry{MaxRetries: -1, AckTimeout: -1, Delay: -1, MaxDelay: -1}, []step{{2000 * ms, Fail}}},
		"no pause":   {Retry{MaxRetries: 2, AckTimeout: 10 * ms}, []step{{10 * ms, Resend}, {20 * ms, Resend}, {30 * ms, Fail}}},
		"capped": {Retry{MaxRetries: 4, AckTimeout: ms, Delay: 10 * ms, MaxDelay: 25 * ms}, []step{
			{1 * ms, Wait}, {11 * ms, Resend}, {12 * ms, Wait}, {32 * ms, Resend},
			{33 * ms, Wait}, {58 * ms, Resend}, {59 * ms, Wait}, {84 * ms, Resend}, {85 * ms, Fail},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPending(start, e.r)
			for _, s := range e.want {
				at := start.Add(s.at)
				if !p.Timeout().Equal(at) {
					t.Fatalf("Timeout = %v, want %v", p.Timeout().Sub(start), s.at)
				}
				if a := p.Advance(at.Add(-1)); a != Wait {
					t.Fatalf("just before %v: %v", s.at, a)
				}
				if a := p.Advance(at); a != s.a {
					t.Fatalf("at %v: %v, want %v", s.at, a, s.a)
				}
			}
			if !p.Timeout().IsZero() || p.Advance(start.Add(time.Hour)) != Fail {
				t.Error("not at its end")
			}
		})
	}
}

// TestRetriesLate: whoever sleeps through a timeout and the pause behind it sends at
// once, and one attempt at a time; no number of retries overflows the pause.
func TestRetriesLate(t *testing.T) {
	p := NewPending(start, DefaultRetry)
	now := start.Add(time.Hour)
	if a := p.Advance(now); a != Resend || !p.Timeout().Equal(now.Add(2*time.Second)) {
		t.Errorf("%v, then Timeout %v later", a, p.Timeout().Sub(now))
	}
	if a := p.Advance(now); a != Wait {
		t.Errorf("again at once: %v", a)
	}
	r := Retry{MaxRetries: 1 << 30, Delay: time.Hour * 1000, MaxDelay: 0}
	for _, n := range []int{1, 2, 1 << 30} {
		if d := r.pause(n); d != maxPause {
			t.Errorf("pause %d is %v", n, d)
		}
	}
	if d := (Retry{Delay: 1}).pause(1 << 30); d != maxPause {
		t.Error(d)
	}
}

// TestConversation: a sender, its Pendings and a receiver, with each datagram lost with
// its ACK in turn: delivered exactly once.
func TestConversation(t *testing.T) {
	for _, size := range []int{0, 100, 5000} {
		for lost := range 64 {
			there, back := newScript(t, Config{}), newScript(t, Config{})
			var out Sender
			p, err := out.Encode(nil, pattern(size), true)
			if err != nil {
				t.Fatal(err)
			}
			now, delivered, acked, n := start, 0, false, 0
			pass := func() bool { n++; return n > 6 || lost>>(n-1)&1 == 0 }
			pending := NewPending(now, DefaultRetry)
			for action := Resend; action != Fail && !acked; action = pending.Advance(now) {
				if action == Resend {
					for _, d := range p.Datagrams {
						if !pass() {
							continue
						}
						there.now = now
						res := there.receive(d)
						if res.Message != nil {
							delivered++
						}
						if res.Reply != nil && pass() {
							r := back.receive(res.Reply)
							acked = acked || r.Acked && r.ID == p.ID
						}
					}
				}
				now = pending.Timeout()
			}
			if delivered > 1 || acked && delivered != 1 {
				t.Errorf("size %d, lost %b: delivered %d times, acked %v", size, lost, delivered, acked)
			}
			// Each lost datagram costs one of four attempts at most.
			if !acked && bits.OnesCount(uint(lost)) < 4 {
				t.Errorf("size %d, lost %b: never acked", size, lost)
			}
		}
	}
}

// TestAgain: another attempt has fragments with another frag-id, so that none comes twice
// to a crate receiver, and is the same message: it is acknowledged, and not delivered
// twice. PROTOCOL §6.8.
func TestAgain(t *testing.T) {
	var s Sender
	for _, size := range []int{10, 5000, 250_000} {
		p, err := s.Encode(framing.Header{{Key: "k", Value: "v"}}, bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size], true)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReceiver(Config{MaxMessage: 1 << 20})
		ids := map[string]bool{}
		delivered, acked := 0, 0
		for round, ds := 0, p.Datagrams; round < 300; round, ds = round+1, s.Again(ds) {
			if round > 2 && size > 5000 {
				break
			}
			for _, d := range ds {
				f, _, err := framing.Parse(d, 0, framing.TrailerAlways)
				if err != nil || len(d) > MaxDatagram {
					t.Fatalf("%d bytes, %v", len(d), err)
				}
				id, _ := f.Header.Lookup(framing.LegacyKeyFragID)
				if round < 256 {
					ids[string(id)] = true
				}
				res := r.Receive(start.Add(time.Duration(round)*time.Millisecond), peer, d, plenty)
				if res.Message != nil {
					delivered++
					if string(res.Message.Payload) != string(bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]) {
						t.Fatal("another message")
					}
				}
				if len(res.Reply) > 0 {
					acked++
				}
			}
		}
		want := map[int][3]int{10: {300, 1, 1}, 5000: {300, 1, 256}, 250_000: {3, 1, 3}}[size]
		if acked != want[0] || delivered != want[1] || len(ids) != want[2] {
			t.Errorf("%d bytes: %d times acknowledged, %d delivered, %d ids, want %v", size, acked, delivered, len(ids), want)
		}
	}
}
