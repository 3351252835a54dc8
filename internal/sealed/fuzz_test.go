package sealed

import (
	"bytes"
	"testing"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// A script is what a fuzzer makes of a handshake: it lets datagrams of the real peer
// through, changes them, and makes its own.
type script []byte

func (s *script) byte() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

// bytes returns up to n of them.
func (s *script) bytes(n int) []byte {
	n = min(n, len(*s))
	b := (*s)[:n]
	*s = (*s)[n:]
	return b
}

// datagram is the next one, given those of the peer.
func (s *script) datagram(toServer bool, real [][]byte) []byte {
	op := s.byte()
	var b []byte
	if len(real) > 0 {
		b = bytes.Clone(real[int(op>>3)%len(real)])
	}
	switch op & 7 {
	case 0, 1:
		return b
	case 2: // a bit of it
		if len(b) > 0 {
			b[(int(s.byte())<<8|int(s.byte()))%len(b)] ^= 1 << (op >> 5)
		}
		return b
	case 3: // cut off
		return b[:min(len(b), int(s.byte())<<3)]
	case 4:
		f := handshake.CryptoFrame{ClientID: clientID, SourceID: serverID, Offset: uint64(s.byte()) << (op >> 4), Data: s.bytes(int(s.byte()))}
		if toServer {
			f.SourceID, f.HasHave = clientID, true
			f.InitialHave, f.HandshakeHave = uint64(s.byte())<<8, uint64(s.byte())<<8
			return handshake.AppendCryptoHello(nil, &f)
		}
		return handshake.AppendCryptoWelcome(nil, &f)
	case 5:
		return handshake.AppendRetry(nil, clientID, append([]byte{1}, s.bytes(int(op>>3))...))
	case 6:
		b, _ := handshake.AppendRefusal(nil, clientID, framing.ErrorCode(s.byte()), string(s.bytes(int(s.byte()))), nil)
		return b
	}
	return s.bytes(int(s.byte()))
}

// bounded checks what an end keeps.
func (e *end) bounded(t *testing.T) {
	t.Helper()
	for _, c := range []*crypto{&e.initial, &e.hs} {
		n := 0
		for _, p := range c.pieces {
			n += len(p.data)
		}
		if n > maxAhead || len(c.pieces) > maxPieces || c.peerHas > uint64(len(c.out)) {
			t.Errorf("%d bytes in %d pieces", n, len(c.pieces))
		}
	}
}

// seedScripts are handshakes that come to something, and some that do not.
func seedScripts(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0, 8, 16, 24}, 8))
	f.Add([]byte{0, 2, 0, 50, 8, 4, 0, 5, 1, 2, 3, 4, 5, 0, 0, 16})
	f.Add([]byte{4, 0, 4, 1, 0, 0, 0, 9, 9, 0, 8, 16})
	f.Add([]byte{5, 1, 13, 2, 2, 0, 6, 12, 3, 'a', 'b', 'c', 0, 8, 16})
	f.Add([]byte{3, 100, 7, 10, 0x56, 0x54, 1, 2, 0x40, 15, 0, 0, 0, 0, 0, 8})
}

// FuzzServerHello: whatever comes to a server in whatever order, it keeps its bounds, and
// its goroutine ends.
func FuzzServerHello(f *testing.F) {
	seedScripts(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		set := kind("post-quantum")
		c, m := newTestClient(t, set), newTestServer(t, set)
		defer m.Close()
		defer c.Close()
		s := script(b)
		received, sent := 0, 0
		for range 100 {
			if len(s) == 0 {
				break
			}
			d := s.datagram(true, c.AppendFlight(nil))
			_, _, kind := handshake.RouteID(d)
			switch kind {
			case handshake.KindHello:
				h, err := handshake.ParseHello(d)
				if err != nil || h.SourceID != clientID {
					continue
				}
				m.Hello(&h, len(d), false)
			default:
				m.Packet(d)
			}
			received += len(d)
			answer := m.AppendFlight(nil)
			m.bounded(t)
			for _, a := range answer {
				sent += len(a)
			}
			if !m.Validated() && sent > amplification*received {
				t.Fatalf("%d bytes for %d", sent, received)
			}
			for _, a := range answer {
				c.Receive(a)
			}
		}
		if m.Done() && m.Params() == nil {
			t.Error("done with nobody")
		}
	})
}

// FuzzClientWelcome is that for a client.
func FuzzClientWelcome(f *testing.F) {
	seedScripts(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		set := kind("client certificate")
		c, m := newTestClient(t, set), newTestServer(t, set)
		defer m.Close()
		defer c.Close()
		s := script(b)
		var real [][]byte
		for range 100 {
			if len(s) == 0 {
				break
			}
			for _, d := range c.AppendFlight(nil) {
				if h, err := handshake.ParseHello(d); err == nil {
					m.Hello(&h, len(d), true)
				} else {
					m.Packet(d)
				}
			}
			real = m.AppendFlight(real)
			real = real[max(0, len(real)-16):]
			c.Receive(s.datagram(false, real))
			c.bounded(t)
			if len(c.early) > maxEarly {
				t.Error("too many early ones")
			}
		}
	})
}

// FuzzPacket: what is in a packet that opens, and what opens.
func FuzzPacket(f *testing.F) {
	f.Add([]byte{chunkHave, 5, chunkCrypto, 0, 1, 'a', 0, 0})
	f.Add([]byte{chunkClose, 15, 3, 'a', 'b', 'c'})
	f.Add([]byte{chunkCrypto, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2})
	f.Add(testPackets().append(nil, []byte("bytes"), 0, 9)[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		p := testPackets()
		if c, ok := p.open(bytes.Clone(b), framing.TypeHello); ok && len(b) < 43 {
			t.Errorf("%+v", c)
		}
		if len(b) > 1100 {
			b = b[:1100]
		}
		e := end{packets: *p}
		ok, news := e.take(sealChunks(p, b...), framing.TypeHello)
		if !ok && (news || e.hs.has() > 0 || e.err != nil) {
			t.Error("something of a bad packet was taken")
		}
		e.bounded(t)
	})
}
