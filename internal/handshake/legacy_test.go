package handshake

import (
	"slices"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// TestLegacy: "if the first frame is anything but a HELLO with versions", §6.1.
func TestLegacy(t *testing.T) {
	meta := framing.Header{{Key: "content-type", Value: "text/plain"}, {Key: "\x12", Value: "not ours"}, {Key: "\x12", Value: "not ours"}}
	tests := []struct {
		name string
		f    framing.Frame
		want framing.Header
	}{
		{"crate HELLO", framing.Frame{Type: framing.TypeHello}, nil},
		// "its header fields, all of them, are the metadata"; nothing of it is a rule.
		{"crate HELLO with metadata", framing.Frame{Type: framing.TypeHello, Flags: 0xff, Header: block(t, meta), Payload: []byte("x")}, meta},
		{"DATA", framing.Frame{Type: framing.TypeData, Header: block(t, meta), Payload: []byte("x")}, nil},
		{"DATA with unknown flags", framing.Frame{Type: framing.TypeData, Flags: 0xff}, nil},
		{"PING", framing.Frame{Type: framing.TypePing, Flags: framing.FlagReqAck}, nil},
		{"BYE", framing.Frame{Type: framing.TypeBye}, nil},
	}
	for _, tt := range tests {
		s := NewServer(fullServer)
		h, err := s.Receive(tt.f)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if !h.Legacy || !slices.Equal(h.Header, tt.want) || h.MaxFrame != framing.DefaultMaxFrame {
			t.Errorf("%s: %+v", tt.name, h)
		}
		// "A crate HELLO is not answered"
		b, r, err := s.AppendWelcome([]byte("kept"), goldenID, framing.Header{{Key: "not", Value: "sent"}})
		if err != nil || string(b) != "kept" {
			t.Errorf("%s: AppendWelcome = %q, %v", tt.name, b, err)
		}
		want := LegacyResult()
		if !r.Legacy || !r.Checksum || r.Version != 0 || r.SessionID != [16]byte{} || r.Compression != 0 || r.Idle != 0 ||
			r.PeerMaxFrame != want.PeerMaxFrame || r.PeerMaxMessage != want.PeerMaxMessage || !slices.Equal(r.PeerHeader, tt.want) {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

// TestLegacyMessageFits: a message of PeerMaxMessage bytes makes just the largest frame.
func TestLegacyMessageFits(t *testing.T) {
	r := LegacyResult()
	if n := r.PeerMaxMessage + framing.FixedLen + framing.TrailerLen; n != r.PeerMaxFrame {
		t.Fatal(n)
	}
}
