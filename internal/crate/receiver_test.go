package crate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// TestTypes: PROTOCOL §6.6, each type with and without REQ_ACK and msg-id.
func TestTypes(t *testing.T) {
	ack := ackOf(t, "5")
	pong := datagram(t, framing.TypePong, 0, nil, nil)
	type want struct {
		reply   []byte
		message bool
		acked   bool
		drop    Drop
	}
	tests := map[framing.Type][3]want{ // plain; with msg-id; with REQ_ACK too
		framing.TypeHello:   {{drop: DropType}, {drop: DropType}, {drop: DropType}},
		framing.TypeWelcome: {{drop: DropType}, {drop: DropType}, {drop: DropType}},
		framing.TypeData:    {{message: true}, {message: true}, {message: true, reply: ack}},
		framing.TypePing:    {{reply: pong}, {reply: pong}, {reply: ack}},
		framing.TypePong:    {{drop: DropType}, {drop: DropType}, {drop: DropType}},
		framing.TypeBye:     {{drop: DropType}, {drop: DropType}, {drop: DropType}},
		framing.TypeAck:     {{drop: DropType}, {acked: true}, {acked: true}},
		framing.TypeErr:     {{drop: DropType}, {drop: DropType}, {drop: DropType}},
	}
	for typ, ws := range tests {
		for i, w := range ws {
			var h framing.Header
			var flags framing.Flags
			if i > 0 {
				h = msgID("5")
			}
			if i > 1 {
				flags = framing.FlagReqAck
			}
			for _, payload := range []string{"", "Invalid data: EOF"} {
				s := newScript(t, Config{})
				res := s.receive(datagram(t, typ, flags, h, []byte(payload)))
				if string(res.Reply) != string(w.reply) || (res.Message != nil) != w.message || res.Acked != w.acked || res.Drop != w.drop || res.Acked && res.ID != 5 {
					t.Errorf("%v %v %v: %+v", typ, flags, h, res)
				}
				if res.Message != nil && (len(res.Message.Header) > 0 || string(res.Message.Payload) != payload || res.Message.ReqAck != (w.reply != nil)) {
					t.Errorf("%v %v %v: %+v", typ, flags, h, res.Message)
				}
			}
		}
	}
}

// TestMalformed: whatever is no frame with a trailer says nothing.
func TestMalformed(t *testing.T) {
	good := datagram(t, framing.TypeData, framing.FlagReqAck, msgID("1"), []byte("hi"))
	bad := map[string][]byte{
		"nil":        nil,
		"no frame":   []byte("GET / HTTP/1.1\r\n"),
		"too long":   append(append([]byte(nil), good...), "more"...),
		"no trailer": good[:len(good)-4],
	}
	for n := range len(good) {
		bad[fmt.Sprint("cut at ", n)] = good[:n]
	}
	for i := range good {
		b := append([]byte(nil), good...)
		b[i] ^= 0x40
		bad[fmt.Sprint("damaged at ", i)] = b
	}
	for name, d := range bad {
		s := newScript(t, Config{})
		res := s.receive(d)
		if res.Drop != DropMalformed && res.Drop != DropNoTrailer || res.Reply != nil {
			t.Errorf("%s: %+v", name, res)
		}
	}
	newScript(t, Config{}).wantNothing(bad["no trailer"], DropNoTrailer)

	// With the CRC flag, as its documentation has it and its code does not.
	block, _ := framing.AppendHeader(nil, msgID("1"))
	d, _ := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeData, Flags: framing.FlagCRC, Header: block, Payload: []byte("hi")}, framing.TrailerByFlag)
	newScript(t, Config{}).wantMessage(d, "hi")
}

func TestUnknownFlag(t *testing.T) {
	s := newScript(t, Config{})
	res := s.receive(datagram(t, framing.TypeData, framing.FlagReqAck|0x40, msgID("1"), nil))
	if res.Reply != nil || res.Message == nil || res.Message.ReqAck {
		t.Errorf("%+v", res)
	}
}

// TestMessageIDs: a number in decimal digits of at most 64 bits counts; another one is
// metadata, and asks for nothing.
func TestMessageIDs(t *testing.T) {
	for text, ok := range map[string]bool{
		"0": true, "1": true, "007": true, "18446744073709551615": true,
		"": false, "-1": false, "+1": false, "1 ": false, "0x1": false, "18446744073709551616": false, strings.Repeat("0", 21): false,
	} {
		s := newScript(t, Config{})
		h := append(msgID(text), framing.Field{Key: "x", Value: "y"})
		res := s.receive(datagram(t, framing.TypeData, framing.FlagReqAck, h, []byte("hi")))
		if res.Message == nil || res.Message.ReqAck != ok || (res.Reply != nil) != ok || res.Message.Header.Get("x") != "y" {
			t.Fatalf("%q: %+v", text, res)
		}
		if _, there := res.Message.Header.Lookup(framing.LegacyKeyMsgID); there == ok {
			t.Errorf("%q: metadata is %v", text, res.Message.Header)
		}
		if ok && string(res.Reply) != string(ackOf(t, text)) {
			t.Errorf("%q: answered %x", text, res.Reply)
		}
	}
}

// TestDuplicates: acknowledged each time, delivered once; from another source, with
// another content, or after a while, it is another message.
func TestDuplicates(t *testing.T) {
	first := datagram(t, framing.TypeData, framing.FlagReqAck, msgID("1"), []byte("first"))
	s := newScript(t, Config{})
	s.wantMessage(first, "first")
	for range 3 {
		s.advance(7 * time.Second)
		res := s.receive(first)
		if res.Message != nil || string(res.Reply) != string(ackOf(t, "1")) || res.Drop != DropDuplicate {
			t.Fatalf("%+v", res)
		}
	}
	// Restarted, it counts from 1 again.
	s.wantMessage(datagram(t, framing.TypeData, framing.FlagReqAck, msgID("1"), []byte("new")), "new")
	s.wantMessage(datagram(t, framing.TypeData, framing.FlagReqAck, append(msgID("1"), framing.Field{Key: "x"}), []byte("new")), "new")
	if res := s.r.Receive(s.now, other, first, plenty); res.Message == nil {
		t.Error("another source is another source")
	}
	// What does not ask for an ACK is not remembered.
	plain := datagram(t, framing.TypeData, 0, msgID("1"), []byte("first"))
	s.wantMessage(plain, "first")
	s.wantMessage(plain, "first")
	s.advance(idLife)
	s.wantMessage(first, "first")
}

// TestManyIDs: the latest 1,024 of a source are remembered.
func TestManyIDs(t *testing.T) {
	s := newScript(t, Config{})
	d := func(i int) []byte {
		return datagram(t, framing.TypeData, framing.FlagReqAck, msgID(fmt.Sprint(i)), []byte("x"))
	}
	for i := range 3 * maxIDs {
		s.now = s.now.Add(time.Microsecond)
		s.wantMessage(d(i), "x")
	}
	for i := 2 * maxIDs; i < 3*maxIDs; i++ {
		s.wantNothing(d(i), DropDuplicate)
	}
	s.wantMessage(d(0), "x")
	checkSums(t, s.r)
}

func TestTooLarge(t *testing.T) {
	s := newScript(t, Config{MaxMessage: 2000})
	s.wantMessage(datagram(t, framing.TypeData, 0, nil, pattern(2000)), string(pattern(2000)))
	s.wantNothing(datagram(t, framing.TypeData, framing.FlagReqAck, msgID("1"), pattern(2001)), DropTooLarge)
	for _, d := range crateSend(t, 0, nil, pattern(2001)) {
		s.wantNothing(d, DropTooLarge)
	}
	s.wantNothing(slice(t, 0, nil, 1, 0, 3, string(pattern(1000))), DropNone)
	s.wantNothing(slice(t, 0, nil, 1, 1, 3, string(pattern(1001))), DropTooLarge)
	s.wantNothing(slice(t, 0, nil, 1, 2, 3, "x"), DropNone)
	checkSums(t, s.r)
}

// TestExpiry: trap F6: by time and by progress, and without any more datagram.
func TestExpiry(t *testing.T) {
	s := newScript(t, Config{})
	if !s.r.Timeout().IsZero() {
		t.Fatal("a timer, and nothing to forget")
	}
	s.wantNothing(slice(t, 0, nil, 1, 0, 2, "a"), DropNone)
	if got := s.r.Timeout(); !got.Equal(start.Add(partialProgress)) {
		t.Fatalf("Timeout = %v after the start", got.Sub(start))
	}
	s.advance(partialProgress)
	if s.r.peers.bytes != 0 || len(s.r.peers.byAddr) != 0 || !s.r.Timeout().IsZero() {
		t.Fatal("not forgotten")
	}
	s.wantNothing(slice(t, 0, nil, 1, 1, 2, "b"), DropNone)

	// Slow, but never still: until 30 s are over.
	s = newScript(t, Config{})
	for i := range 7 {
		s.wantNothing(slice(t, 0, nil, 1, i, 9, "x"), DropNone)
		s.advance(4 * time.Second)
	}
	s.advance(2 * time.Second)
	if s.r.peers.bytes != 0 {
		t.Error("not forgotten")
	}

	// An expired one takes nothing, even if Advance was never called.
	s = newScript(t, Config{})
	s.wantNothing(slice(t, 0, nil, 1, 0, 2, "a"), DropNone)
	s.now = s.now.Add(partialProgress)
	s.wantNothing(slice(t, 0, nil, 1, 1, 2, "b"), DropNone)

	// Following Timeout alone, everything ends, in steps of not less than a second.
	s = newScript(t, Config{})
	for i := range 50 {
		s.now = s.now.Add(17 * time.Millisecond)
		from := netip.AddrPortFrom(peer.Addr(), uint16(i%5))
		s.r.Receive(s.now, from, slice(t, 0, nil, i, 0, 3, "a"), plenty)
		s.r.Receive(s.now, from, datagram(t, framing.TypeData, framing.FlagReqAck, msgID(fmt.Sprint(i)), nil), plenty)
	}
	steps := 0
	for !s.r.Timeout().IsZero() {
		s.now = s.r.Timeout()
		s.r.Advance(s.now)
		checkSums(t, s.r)
		if steps++; steps > 20 {
			t.Fatal("does not end")
		}
	}
	if s.r.peers.bytes != 0 || s.now.Sub(start) > idLife+2*time.Second {
		t.Errorf("%d bytes left after %v", s.r.peers.bytes, s.now.Sub(start))
	}
}

// TestTimeBackwards: nothing expires, nothing breaks.
func TestTimeBackwards(t *testing.T) {
	s := newScript(t, Config{})
	s.wantNothing(slice(t, 0, nil, 1, 0, 3, "a"), DropNone)
	s.now = start.Add(-time.Hour)
	s.r.Advance(s.now)
	s.wantNothing(slice(t, 0, nil, 1, 1, 3, "b"), DropNone)
	s.now = start
	s.advance(time.Second)
	s.wantMessage(slice(t, 0, nil, 1, 2, 3, "c"), "abc")
}

// forged returns the i-th of many source addresses.
func forged(i int) netip.AddrPort {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom4(a), 1000)
}

// TestFloods: a million beginnings of messages, from one source and from as many, stay
// within bounds (trap F2), and do not push out a peer that is known.
func TestFloods(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n = 50_000
	}
	small := slice(t, 0, nil, 100, 0, 255, "x")
	large := slice(t, 0, nil, 100, 1, 3, string(pattern(1100)))
	for name, source := range map[string]func(int) netip.AddrPort{
		"one source":     func(int) netip.AddrPort { return other },
		"forged sources": forged,
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			s := newScript(t, Config{})
			for id := range 2 {
				s.receive(datagram(t, framing.TypeData, framing.FlagReqAck, msgID(fmt.Sprint(id)), nil))
			}
			s.wantNothing(slice(t, 0, nil, 9, 0, 2, "still "), DropNone)
			for i := range n {
				d := small
				if i%2 == 0 {
					d = large
				}
				// Another frag-id each time, and the CRC made new.
				id := framing.FixedLen + 2 + len(framing.LegacyKeyFragID)
				copy(d[id:], strconv.Itoa(100+i%156))
				binary.BigEndian.PutUint32(d[len(d)-4:], framing.Checksum(0, d[:len(d)-4]))
				if res := s.r.Receive(s.now, source(i), d, plenty); res.Message != nil || res.Reply != nil {
					t.Fatalf("%+v", res)
				}
				if i%1000 == 0 {
					checkBounds(t, s.r)
				}
				if i%100_000 == 0 {
					checkSums(t, s.r)
				}
			}
			checkSums(t, s.r)
			if grown := heap() - before; grown > 2*defaultMaxBytes && !raceEnabled {
				t.Errorf("%d bytes counted, %d used", s.r.peers.bytes, grown)
			} else {
				t.Logf("%d sources, %d bytes counted, %d used", len(s.r.peers.byAddr), s.r.peers.bytes, grown)
			}
			s.wantMessage(slice(t, 0, nil, 9, 1, 2, "there"), "still there")
			s.wantNothing(datagram(t, framing.TypeData, framing.FlagReqAck, msgID("1"), nil), DropDuplicate)
		})
	}
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestForgedMessages: one message does not make a source known, so forged ones do not
// push out who is.
func TestForgedMessages(t *testing.T) {
	s := newScript(t, Config{MaxSources: 64})
	d := datagram(t, framing.TypeData, framing.FlagReqAck, msgID("1"), nil)
	s.wantMessage(d, "")
	s.wantMessage(datagram(t, framing.TypeData, framing.FlagReqAck, msgID("2"), nil), "")
	for i := range 1000 {
		s.r.Receive(s.now, forged(i), d, plenty)
	}
	s.wantNothing(d, DropDuplicate)
}

// TestKnownPeersShare: those who are known have half, whoever they are.
func TestKnownPeersShare(t *testing.T) {
	s := newScript(t, Config{MaxSources: 64, MaxBytes: 256 << 10})
	for i := range 100 {
		for id := range 40 {
			s.r.Receive(s.now, forged(i), datagram(t, framing.TypeData, framing.FlagReqAck, msgID(fmt.Sprint(id)), nil), plenty)
		}
		for id := range 25 {
			s.r.Receive(s.now, forged(i), slice(t, 0, nil, id, 0, 3, string(pattern(1000))), plenty)
			checkBounds(t, s.r)
		}
		if k := &s.r.peers.known; k.n > 32 || k.bytes > 128<<10 {
			t.Fatalf("%d known sources have %d bytes", k.n, k.bytes)
		}
	}
	checkSums(t, s.r)
	s.wantNothing(slice(t, 0, nil, 9, 0, 2, "a"), DropNone)
	s.wantMessage(slice(t, 0, nil, 9, 1, 2, "b"), "ab")
}

// TestTinyBounds: with hardly any memory, whole messages still get through.
func TestTinyBounds(t *testing.T) {
	for _, c := range []Config{{MaxSources: 1}, {MaxBytes: 1}, {MaxBytes: sourceCost}, {MaxBytes: 8 * (sourceCost + idCost)}} {
		s := newScript(t, c)
		for i := range 10 {
			s.wantMessage(datagram(t, framing.TypeData, framing.FlagReqAck, msgID(fmt.Sprint(i)), []byte("x")), "x")
			s.receive(slice(t, 0, nil, i, 0, 2, "x"))
			for _, d := range crateSend(t, 0, nil, pattern(3000)) {
				s.receive(d)
			}
			checkSums(t, s.r)
		}
	}
}

// TestOwnMemory: what was delivered does not change when the datagram's buffer does.
func TestOwnMemory(t *testing.T) {
	s := newScript(t, Config{})
	var ms []*Message
	feed := func(d []byte) {
		if m := s.receive(d).Message; m != nil {
			ms = append(ms, m)
		}
		clear(d)
	}
	h := framing.Header{{Key: "key", Value: "value"}}
	feed(datagram(t, framing.TypeData, 0, h, []byte("ab")))
	feed(slice(t, 0, h, 1, 1, 2, "b"))
	feed(slice(t, 0, h, 1, 0, 2, "a"))
	feed(slice(t, 0, h, 1, 0, 1, "ab"))
	for _, m := range ms {
		if string(m.Payload) != "ab" || m.Header.Get("key") != "value" {
			t.Errorf("%+v", m)
		}
		if m.Size() > messageSize([]byte("\x03\x05keyvalue"), 2) {
			t.Errorf("Size = %d", m.Size())
		}
	}
	if len(ms) != 3 {
		t.Error(len(ms))
	}
}

func TestDropString(t *testing.T) {
	if DropFull.String() != "full" || Drop(99).String() != "99" || len(dropNames) != int(DropFull)+1 {
		t.Error(DropFull, Drop(99))
	}
}
