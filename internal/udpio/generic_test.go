package udpio

import (
	"net"
	"testing"
)

func TestPlain(t *testing.T) {
	a, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := New(a, Options{NoFastPath: true})
	defer c.Close()
	to, err := AddrOf(c.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write([]byte("abcdefgh"), 3, to, Local{}); err != nil {
		t.Fatal(err)
	}
	ps := make([]Packet, 4)
	var got []string
	for len(got) < 3 {
		n, err := c.Read(ps)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps[:n] {
			got = append(got, string(p.Data))
		}
	}
	t.Log(got, c.Stats(), c.MaxDatagram())
}
