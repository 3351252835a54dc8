package handshake

import (
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// "parity: 01: the sender takes PARITY; absent: 00", in datagrams, in transport parameters
// and on a byte stream that carries packets.
func TestParityKey(t *testing.T) {
	for _, on := range []bool{false, true} {
		p := DatagramParams{SourceID: clientID, Parity: on}
		p.Versions = []uint64{Version1}
		b, err := AppendClientParams(nil, &SealedParams{DatagramParams: p})
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseClientParams(b)
		if err != nil || got.Parity != on || got.limits().Parity != on {
			t.Errorf("transport parameters: %v, %v", got, err)
		}

		p.MaxDatagram, p.AckDelay = MinMaxDatagram, DefaultAckDelay // as checkDatagram does
		h, err := framing.AppendHeader(nil, appendAuto(nil, &p))
		if err != nil {
			t.Fatal(err)
		}
		auto, err := parseAuto(&framing.Frame{Type: framing.TypeHello, Flags: framing.FlagCRC, Header: h})
		if err != nil || auto.Parity != on {
			t.Errorf("on a byte stream: %v, %v", auto, err)
		}

		c, err := NewDatagramClient(p)
		if err != nil {
			t.Fatal(err)
		}
		c.cookie = []byte("cookie")
		hello, err := ParseHello(c.AppendHello(nil)[0])
		if err != nil {
			t.Fatal(err)
		}
		var s DatagramServer
		if o, err := s.Receive(&hello); o != Done || err != nil {
			t.Fatal(o, err)
		}
		r, err := s.Welcome(DatagramParams{SourceID: serverID, Parity: !on}, [16]byte{1}, nil)
		if err != nil || r.Peer.Parity != on {
			t.Errorf("server: %+v, %v", r.Peer, err)
		}
		for _, d := range s.Answer() {
			if _, err := c.Receive(d); err != nil {
				t.Fatal(err)
			}
		}
		if c.Result().Peer.Parity == on {
			t.Errorf("client: %+v", c.Result().Peer)
		}
	}
}
