package crate

import (
	"bytes"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	peer  = netip.MustParseAddrPort("192.0.2.1:6969")
	other = netip.MustParseAddrPort("192.0.2.2:6969")
)

const plenty = 1 << 40

// datagram encodes a frame as the crate does.
func datagram(t testing.TB, typ framing.Type, flags framing.Flags, h framing.Header, payload []byte) []byte {
	t.Helper()
	block, err := framing.AppendHeader(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := framing.AppendFrame(nil, framing.Frame{Type: typ, Flags: flags, Header: block, Payload: payload}, framing.TrailerAlways)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// slice encodes a fragment.
func slice(t testing.TB, flags framing.Flags, h framing.Header, id, index, total int, payload string) []byte {
	t.Helper()
	return datagram(t, framing.TypeData, flags|framing.FlagFrag, withFrag(h, id, index, total), []byte(payload))
}

func withFrag(h framing.Header, id, index, total int) framing.Header {
	return append(h.Clone(),
		framing.Field{Key: framing.LegacyKeyFragID, Value: strconv.Itoa(id)},
		framing.Field{Key: framing.LegacyKeyFragIndex, Value: strconv.Itoa(index)},
		framing.Field{Key: framing.LegacyKeyFragTotal, Value: strconv.Itoa(total)})
}

// crateSend makes what the client of the crate sends for a message: one datagram, or
// copies of the whole with the fields of fragments. TestCrateSends proves it.
func crateSend(t testing.TB, flags framing.Flags, h framing.Header, payload []byte) [][]byte {
	t.Helper()
	one := datagram(t, framing.TypeData, flags, h, payload)
	total := (len(one) + 1199) / 1200
	if total == 1 {
		return [][]byte{one}
	}
	var ds [][]byte
	for i := range total {
		ds = append(ds, datagram(t, framing.TypeData, flags|framing.FlagFrag, withFrag(h, 1, i, total), payload))
	}
	return ds
}

// pattern is the payload of the vectors.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(7*i + 3)
	}
	return b
}

func ackOf(t testing.TB, id string) []byte {
	return datagram(t, framing.TypeAck, 0, framing.Header{{Key: framing.LegacyKeyMsgID, Value: id}}, nil)
}

func msgID(id string) framing.Header {
	return framing.Header{{Key: framing.LegacyKeyMsgID, Value: id}}
}

// A script drives a Receiver with datagrams of one peer.
type script struct {
	t   testing.TB
	r   *Receiver
	now time.Time
}

func newScript(t testing.TB, c Config) *script { return &script{t, NewReceiver(c), start} }

func (s *script) receive(d []byte) Result {
	s.t.Helper()
	res := s.r.Receive(s.now, peer, d, plenty)
	checkResult(s.t, s.r, d, res)
	return res
}

// wantMessage receives d and wants a message of it.
func (s *script) wantMessage(d []byte, payload string) *Message {
	s.t.Helper()
	res := s.receive(d)
	if res.Message == nil {
		s.t.Fatalf("nothing delivered (%v)", res.Drop)
	}
	if string(res.Message.Payload) != payload {
		s.t.Fatalf("delivered %.40q of %d bytes, want %.40q of %d", res.Message.Payload, len(res.Message.Payload), payload, len(payload))
	}
	return res.Message
}

// wantNothing receives d and wants no message; drop is why.
func (s *script) wantNothing(d []byte, drop Drop) {
	s.t.Helper()
	res := s.receive(d)
	if res.Message != nil || res.Drop != drop {
		s.t.Fatalf("message %v, drop %v; want none, %v", res.Message, res.Drop, drop)
	}
}

func (s *script) advance(d time.Duration) {
	s.now = s.now.Add(d)
	s.r.Advance(s.now)
}

// checkResult proves what holds for every datagram: an answer is never larger than what
// it answers (trap S9), and never anything but ACK and PONG to DATA and PING.
func checkResult(t testing.TB, r *Receiver, d []byte, res Result) {
	t.Helper()
	if len(res.Reply) > len(d) {
		t.Fatalf("%d bytes in answer to %d", len(res.Reply), len(d))
	}
	if res.Reply != nil {
		in, _, err := framing.ParseDatagram(d)
		out, trailer, err2 := framing.ParseDatagram(res.Reply)
		if err != nil || err2 != nil || !trailer || out.Flags != 0 || len(out.Payload) > 0 {
			t.Fatalf("answered %x with %x", d, res.Reply)
		}
		if in.Type != framing.TypeData && in.Type != framing.TypePing || out.Type != framing.TypeAck && out.Type != framing.TypePong {
			t.Fatalf("answered %v with %v", in.Type, out.Type)
		}
	}
	if res.Message != nil && res.Drop != DropNone {
		t.Fatalf("delivered, and dropped for %v", res.Drop)
	}
	checkBounds(t, r)
}

// checkBounds proves that a Receiver counts right and keeps to its Config.
func checkBounds(t testing.TB, r *Receiver) {
	t.Helper()
	s := &r.peers
	if len(s.byAddr) > s.max || s.bytes > s.maxBytes || s.fresh.n+s.known.n != len(s.byAddr) || s.fresh.bytes+s.known.bytes != s.bytes ||
		s.known.n > s.max/2 || s.known.bytes > s.maxBytes/2 {
		t.Fatalf("%d of %d sources (%d, %d), %d of %d bytes (%d, %d)",
			len(s.byAddr), s.max, s.fresh.n, s.known.n, s.bytes, s.maxBytes, s.fresh.bytes, s.known.bytes)
	}
	if len(s.byAddr) > 0 && s.next.IsZero() {
		t.Fatal("something is kept and no timer runs")
	}
}

// checkSums adds everything up again.
func checkSums(t testing.TB, r *Receiver) {
	t.Helper()
	total := 0
	for addr, src := range r.peers.byAddr {
		n := sourceCost + len(src.ids)*idCost
		if len(src.ids) > maxIDs || len(src.partials) > maxPartials {
			t.Fatalf("%v: %d ids, %d partials", addr, len(src.ids), len(src.partials))
		}
		for id, p := range src.partials {
			size := 0
			for _, q := range p.pieces {
				size += len(q.data)
				if !p.has(q.index) {
					t.Fatalf("%v: partial %d: piece %d is not marked", addr, id, q.index)
				}
			}
			if !p.copies && (size != p.size || p.count != len(p.pieces)) || p.count >= p.total && !p.copies {
				t.Fatalf("%v: partial %d: %d bytes, counted %d; %d pieces, counted %d of %d", addr, id, size, p.size, len(p.pieces), p.count, p.total)
			}
			n += p.cost
		}
		if n != src.bytes {
			t.Fatalf("%v: %d bytes, counted %d", addr, n, src.bytes)
		}
		total += n
	}
	if total != r.peers.bytes {
		t.Fatalf("%d bytes, counted %d", total, r.peers.bytes)
	}
}

// equalHeader compares ordered headers; nil is empty.
func equalHeader(a, b framing.Header) bool {
	x, _ := framing.AppendHeader(nil, a)
	y, _ := framing.AppendHeader(nil, b)
	return bytes.Equal(x, y)
}
