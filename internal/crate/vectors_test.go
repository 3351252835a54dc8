package crate

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// bigHex is bytes in hex, or their length, beginning and CRC-32.
type bigHex struct {
	all  []byte
	Len  int
	Head string
	CRC  string `json:"crc32"`
}

func (b *bigHex) UnmarshalJSON(p []byte) (err error) {
	var s string
	if json.Unmarshal(p, &s) == nil {
		b.all, err = hex.DecodeString(s)
		return err
	}
	type plain bigHex
	return json.Unmarshal(p, (*plain)(b))
}

func (b *bigHex) equal(p []byte) bool {
	if b.CRC == "" {
		return bytes.Equal(p, b.all)
	}
	return len(p) == b.Len && strings.HasPrefix(hex.EncodeToString(p), b.Head) && fmt.Sprintf("%08x", crc32.ChecksumIEEE(p)) == b.CRC
}

type delivery struct {
	Type    framing.Type
	Flags   framing.Flags
	Headers [][2]string
	Payload *string
	Len     int    `json:"payload_len"`
	CRC     string `json:"payload_crc32"`
}

// matches reports whether m is what the crate delivers, but for msg-id, which is no
// metadata here.
func (d *delivery) matches(m *Message) bool {
	var h framing.Header
	for _, f := range d.Headers {
		k, _ := hex.DecodeString(f[0])
		v, _ := hex.DecodeString(f[1])
		if string(k) != framing.LegacyKeyMsgID {
			h.Add(string(k), string(v))
		}
	}
	return equalHeader(h, m.Header) && len(m.Payload) == d.Len && fmt.Sprintf("%08x", crc32.ChecksumIEEE(m.Payload)) == d.CRC
}

// deliveryOrText is a delivery, or what the crate says in place of it.
type deliveryOrText struct {
	*delivery
	text string
}

func (d *deliveryOrText) UnmarshalJSON(p []byte) error {
	if json.Unmarshal(p, &d.text) == nil {
		return nil
	}
	d.delivery = new(delivery)
	return json.Unmarshal(p, d.delivery)
}

type vectors struct {
	UDPClient []struct {
		Call      string
		Datagrams []bigHex
		Ack       string
		In        []string
		Delivered deliveryOrText
	} `json:"udp_client"`
	UDPServer []struct {
		In        string
		Hex       json.RawMessage
		Answers   []string
		Delivered deliveryOrText
		Steps     []struct {
			Answers   []string
			Delivered deliveryOrText
		}
	} `json:"udp_server"`
	Easy []struct {
		In, Call, Hex      string
		Answers, Datagrams []string
	}
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/crate-udp.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCrateSends: what the crate's client sends is what the tests here take it for, and
// each message of it, however often it is in there, is delivered once.
func TestCrateSends(t *testing.T) {
	n := 0
	for _, e := range readVectors(t).UDPClient {
		var size int
		if _, err := fmt.Sscanf(e.Call, "send, payload %d ", &size); err != nil {
			continue
		}
		n++
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			want := pattern(size)
			ds := crateSend(t, 0, nil, want)
			if len(ds) != len(e.Datagrams) && len(e.Datagrams) != 4 { // of more, four are on record
				t.Fatalf("%d datagrams, the crate makes %d", len(ds), len(e.Datagrams))
			}
			for i, d := range e.Datagrams {
				if !d.equal(ds[i]) {
					t.Errorf("datagram %d is not that of the crate", i)
				}
			}
			s := newScript(t, Config{})
			s.wantMessage(ds[0], string(want))
			for _, d := range ds[1:] {
				s.wantNothing(d, DropDuplicate)
			}
			if size <= 1185 {
				p, err := new(Sender).Encode(nil, want, false)
				if err != nil || len(p.Datagrams) != 1 || !e.Datagrams[0].equal(p.Datagrams[0]) {
					t.Errorf("Encode = %x, %v", p.Datagrams, err)
				}
			}
		})
	}
	if n != 8 {
		t.Errorf("%d vectors", n)
	}
}

// TestCrateSendWithAck: "first ACK lost, second answered", from both sides.
func TestCrateSendWithAck(t *testing.T) {
	for _, e := range readVectors(t).UDPClient {
		if !strings.HasPrefix(e.Call, "send_with_ack") {
			continue
		}
		s := newScript(t, Config{})
		m := s.wantMessage(e.Datagrams[0].all, "hi")
		if !m.ReqAck || len(m.Header) > 0 {
			t.Errorf("delivered %+v", m)
		}
		res := s.receive(e.Datagrams[1].all)
		if res.Message != nil || hex.EncodeToString(res.Reply) != e.Ack {
			t.Errorf("the second time: %+v", res)
		}
		var out Sender
		p, err := out.Encode(nil, []byte("hi"), true)
		if err != nil || len(p.Datagrams) != 1 || !bytes.Equal(p.Datagrams[0], e.Datagrams[0].all) {
			t.Errorf("Encode = %x, %v", p.Datagrams, err)
		}
		if res := s.receive(unhex(t, e.Ack)); !res.Acked || res.ID != p.ID || res.Reply != nil {
			t.Errorf("its ACK: %+v", res)
		}
		return
	}
	t.Error("no vector")
}

// TestCrateReceives: what the crate's client makes of fragments.
func TestCrateReceives(t *testing.T) {
	n := 0
	for _, e := range readVectors(t).UDPClient {
		if !strings.HasPrefix(e.Call, "recv") || len(e.In) == 0 {
			continue
		}
		n++
		s := newScript(t, Config{})
		var got []*Message
		var last Result
		for _, in := range e.In {
			if last = s.receive(unhex(t, in)); last.Message != nil {
				got = append(got, last.Message)
			}
		}
		switch {
		case strings.Contains(e.Call, "256"):
			// Other than the crate: a piece is not given out for a message.
			if got != nil || last.Drop != DropFragment {
				t.Errorf("%s: %v, %v", e.Call, got, last.Drop)
			}
		case strings.Contains(e.Call, "twice"):
			// Other than the crate: no error (trap F4).
			if got != nil || last.Drop != DropDuplicate {
				t.Errorf("%s: %v, %v", e.Call, got, last.Drop)
			}
		case len(got) != 1 || !e.Delivered.matches(got[0]):
			t.Errorf("%s: %v", e.Call, got)
		}
	}
	if n != 3 {
		t.Errorf("%d vectors", n)
	}
}

// TestCrateServer: what the crate's server answers, byte by byte.
func TestCrateServer(t *testing.T) {
	pong := hex.EncodeToString(datagram(t, framing.TypePong, 0, nil, nil))
	for _, e := range readVectors(t).UDPServer {
		t.Run(e.In, func(t *testing.T) {
			s := newScript(t, Config{})
			var one string
			var several []string
			if json.Unmarshal(e.Hex, &several) == nil {
				for i, in := range several {
					checkAnswer(t, s.receive(unhex(t, in)), e.Steps[i].Answers, e.Steps[i].Delivered)
				}
				return
			}
			if json.Unmarshal(e.Hex, &one) != nil {
				var size int
				if _, err := fmt.Sscanf(e.In, "one datagram of %d bytes", &size); err != nil {
					t.Fatal(err)
				}
				// A receiver of 2,401 bytes and more is no less compatible for it.
				s.wantMessage(datagram(t, framing.TypeData, 0, nil, pattern(size-15)), string(pattern(size-15)))
				return
			}
			switch e.In {
			case "HELLO", "PING", "PING REQ_ACK msg-id 9 x-auto-probe":
				e.Delivered = deliveryOrText{} // the crate gives them to its application as data
			}
			if e.In == "PING" {
				e.Answers = []string{pong} // the crate has no answer
			}
			checkAnswer(t, s.receive(unhex(t, one)), e.Answers, e.Delivered)
		})
	}
}

func checkAnswer(t *testing.T, res Result, answers []string, want deliveryOrText) {
	t.Helper()
	switch {
	case len(answers) > 1 || strings.Join(answers, "") != hex.EncodeToString(res.Reply):
		t.Errorf("answered %x, want %v", res.Reply, answers)
	case (res.Message != nil) != (want.delivery != nil):
		t.Errorf("delivered %v, want %v", res.Message, want)
	case res.Message != nil && !want.matches(res.Message):
		t.Errorf("delivered %+v, want %+v", res.Message, want.delivery)
	}
}

// TestEasyServer: the answers of an easy server, "Invalid data" above all, are data and
// never answered: no two ends keep each other busy (trap S9).
func TestEasyServer(t *testing.T) {
	n := 0
	for _, e := range readVectors(t).Easy {
		s := newScript(t, Config{})
		for _, d := range append(e.Answers, e.Datagrams...) {
			n++
			res := s.receive(unhex(t, d))
			if res.Reply != nil || (res.Message == nil) != res.Acked {
				t.Errorf("%s: %+v", e.In, res)
			}
		}
		if e.Hex == "" {
			continue
		}
		if e.In != "PING" && strings.ToUpper(e.In) == e.In { // HELLO, BYE, ERR: never an answer
			s.wantNothing(unhex(t, e.Hex), DropType)
		}
	}
	if n < 8 {
		t.Errorf("%d datagrams", n)
	}
}
