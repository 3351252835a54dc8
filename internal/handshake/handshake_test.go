package handshake

import (
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// TestAgreement is the shortest walk through both machines.
func TestAgreement(t *testing.T) {
	c := NewClient(Params{Checksum: true, Idle: time.Minute, Compression: []byte{CompressZstd}, Header: framing.Header{{Key: "token", Value: "t"}}})
	s := NewServer(Params{Idle: time.Second, Compression: []byte{CompressZstd}})
	b, err := c.AppendHello(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Receive(parse(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if h.Legacy || h.Header.Get("token") != "t" {
		t.Fatalf("hello %+v", h)
	}
	b, sr, err := s.AppendWelcome(nil, [16]byte{1: 9}, framing.Header{{Key: "a", Value: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	cr, err := c.Receive(parse(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if cr.PeerHeader.Get("a") != "b" {
		t.Fatalf("welcome metadata %v", cr.PeerHeader)
	}
	cr.PeerHeader, sr.PeerHeader = nil, nil
	if cr.Version != 1 || !cr.Checksum || cr.Compression != CompressZstd || cr.Idle != time.Second || cr.SessionID != sr.SessionID {
		t.Fatalf("client %+v\nserver %+v", cr, sr)
	}
}

// parse decodes the one frame that b is.
func parse(t testing.TB, b []byte) framing.Frame {
	t.Helper()
	f, n, err := framing.Parse(b, 0, framing.TrailerByFlag)
	if err != nil || n != len(b) {
		t.Fatalf("Parse(%x) = %d, %v", b, n, err)
	}
	return f
}
