package crate

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// The input of FuzzReceive is a sequence of: one byte that says from where, when and
// how, two with a length, and a datagram of that length.
const (
	fuzzSource  = 0x03 // from one of four
	fuzzTime    = 0x1c // later by the square of this, in units of 100 ms
	fuzzFix     = 0x20 // with a trailer that is made
	fuzzNoRoom  = 0x40
	fuzzAdvance = 0x80 // Advance is called first
)

func fuzzInput(ops byte, ds ...[]byte) []byte {
	var b []byte
	for _, d := range ds {
		b = append(b, ops)
		b = binary.BigEndian.AppendUint16(b, uint16(len(d)))
		b = append(b, d...)
	}
	return b
}

// FuzzReceive: trap S5: whatever comes, there is no panic, the bounds hold, the sums are
// right, and answers are what they may be.
func FuzzReceive(f *testing.F) {
	v := readVectors(f)
	for _, e := range v.UDPClient {
		for _, d := range e.Datagrams {
			f.Add(fuzzInput(0, d.all))
		}
		var all [][]byte
		for _, in := range e.In {
			all = append(all, unhex(f, in))
		}
		f.Add(fuzzInput(0, all...))
	}
	for _, e := range v.UDPServer {
		var one string
		if json.Unmarshal(e.Hex, &one) == nil {
			d, _ := hex.DecodeString(one)
			f.Add(fuzzInput(fuzzFix, d[:len(d)-framing.TrailerLen]))
		}
	}
	for _, e := range v.Easy {
		for _, d := range append(e.Answers, e.Hex) {
			f.Add(fuzzInput(1<<2|fuzzAdvance, unhex(f, d)))
		}
	}
	a, b := slice(f, 0, nil, 1, 0, 2, "a"), slice(f, framing.FlagReqAck, msgID("1"), 1, 1, 2, "b")
	f.Add(fuzzInput(0, a, b, b, a, a, b))
	f.Add(fuzzInput(fuzzNoRoom, a, b, b))
	f.Add(fuzzInput(0, append(crateSend(f, framing.FlagReqAck, msgID("3"), pattern(2500)), a)...))

	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReceiver(Config{MaxMessage: 3000, MaxSources: 3, MaxBytes: 16 << 10})
		now := start
		for len(in) >= 3 {
			op, n := in[0], int(binary.BigEndian.Uint16(in[1:]))
			in = in[3:]
			d := append([]byte(nil), in[:min(n, len(in))]...)
			in = in[len(d):]
			if op&fuzzFix != 0 {
				d = binary.BigEndian.AppendUint32(d, framing.Checksum(0, d))
			}
			step := time.Duration(op & fuzzTime >> 2)
			now = now.Add(step * step * 100 * time.Millisecond)
			if op&fuzzAdvance != 0 {
				r.Advance(now)
			}
			room := int64(plenty)
			if op&fuzzNoRoom != 0 {
				room = 100
			}
			res := r.Receive(now, netip.AddrPortFrom(peer.Addr(), uint16(op&fuzzSource)), d, room)
			checkResult(t, r, d, res)
			checkSums(t, r)
			if m := res.Message; m != nil && (m.Size() > room || len(m.Payload) > 3000 || m.Header.HasReserved()) {
				t.Fatalf("delivered %d bytes, header %v, room %d", len(m.Payload), m.Header, room)
			}
		}
		// Time alone empties it.
		for i := 0; !r.Timeout().IsZero(); i++ {
			if i > 100 {
				t.Fatal("does not end")
			}
			r.Advance(r.Timeout())
		}
		if r.peers.bytes != 0 || len(r.peers.byAddr) != 0 {
			t.Fatalf("%d bytes left", r.peers.bytes)
		}
	})
}

// FuzzRoundTrip: what Encode makes comes back from Receive, in any order.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello"), "key", "value", true, uint16(0), uint8(1))
	f.Add([]byte("x"), "", "", false, uint16(5000), uint8(3))
	f.Add([]byte{}, "frag-id", "1", false, uint16(1171), uint8(0))
	f.Add([]byte{}, "msg-id", "1", false, uint16(1171), uint8(0))
	f.Fuzz(func(t *testing.T, payload []byte, key, value string, ack bool, repeat uint16, rotate uint8) {
		payload = append(payload, pattern(int(repeat))...)
		h := framing.Header{{Key: key, Value: value}}
		var out Sender
		p, err := out.Encode(h, payload, ack)
		if err != nil {
			if len(payload) <= MaxPayload(h, ack) {
				t.Fatal(err)
			}
			return
		}
		s := newScript(t, Config{})
		n := len(p.Datagrams)
		for i := range n {
			d := p.Datagrams[(i+int(rotate))%n]
			if len(d) > MaxDatagram {
				t.Fatalf("a datagram of %d bytes", len(d))
			}
			if i < n-1 {
				s.wantNothing(d, DropNone)
				continue
			}
			m := s.wantMessage(d, string(payload))
			if key == framing.LegacyKeyMsgID { // an id without a question is still one
				continue
			}
			if m.ReqAck != ack || !equalHeader(m.Header, h) {
				t.Fatalf("%+v", m)
			}
		}
	})
}
