package endpoint

import (
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// packetFor is the begin of a datagram of type t whose first field has that key and value.
func packetFor(t framing.Type, key string, value ...byte) []byte {
	header := append([]byte{1, byte(len(value))}, key...)
	header = append(header, value...)
	b := framing.AppendFixed(nil, t, 0, len(header), 4)
	return append(append(b, header...), "data"...)
}

func run(t testing.TB, s *Spread, b []byte) uint32 {
	t.Helper()
	vm, err := bpf.NewVM(s.program())
	require.NoError(t, err)
	n, err := vm.Run(b)
	require.NoError(t, err)
	return uint32(n)
}

// The program that the kernel gets computes what Of does, for every kind of datagram that
// has its receiver's id, and it is an index.
func TestSpreadProgram(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 7, 16, MaxSockets} {
		s := NewSpread(n, func(b []byte) { rand.Read(b) })
		vm, err := bpf.NewVM(s.program())
		require.NoError(t, err)
		seen := make([]int, n)
		for range 200 * n {
			var field [12]byte
			rand.Read(field[:])
			id := [8]byte(field[:])
			want := s.Of(id)
			seen[want]++
			for _, b := range [][]byte{
				packetFor(framing.TypeData, framing.KeyPacket, field[:]...),
				packetFor(framing.TypeHello, framing.KeyPacket, field[:]...), // a handshake packet
				packetFor(framing.TypeWelcome, framing.KeyPacket, id[:]...),
				packetFor(framing.TypeErr, framing.KeyPacket, id[:]...),
			} {
				got, err := vm.Run(b)
				require.NoError(t, err)
				require.Equal(t, want, got, "%x of %d", id, n)
			}
		}
		for i, k := range seen { // 200 each, give or take 14
			require.InDelta(t, 200, k, 100, "socket %d of %d", i, n)
		}
	}
}

// What has no id of its receiver goes where the system says.
func TestSpreadOfOthers(t *testing.T) {
	s := NewSpread(4, func(b []byte) { rand.Read(b) })
	id := make([]byte, 8)
	whole := packetFor(framing.TypeData, framing.KeyPacket, make([]byte, 12)...)
	for name, b := range map[string][]byte{
		"nothing":         {},
		"HELLO":           packetFor(framing.TypeHello, framing.KeySourceID, id...),
		"0-RTT":           packetFor(framing.TypeHello, framing.KeySourceID, make([]byte, 12)...),
		"the crate's":     packetFor(framing.TypeData, "frag-id", id...),
		"no frame":        append([]byte("GET / HTTP/1.1\r\n"), make([]byte, 40)...),
		"another version": append([]byte{framing.Magic0, framing.Magic1, 2}, whole[3:]...),
		"another length":  packetFor(framing.TypeData, framing.KeyPacket, make([]byte, 9)...),
		"cut off":         whole[:idAt+idLen-1],
	} {
		require.Equal(t, uint32(elsewhere), run(t, s, b), name)
	}
}

// Who does not know the key cannot tell one socket's ids from another's by any of its bytes,
// and two listeners do not agree about an id.
func TestSpreadIsKeyed(t *testing.T) {
	s, other := NewSpread(2, func(b []byte) { rand.Read(b) }), NewSpread(2, func(b []byte) { rand.Read(b) })
	const n = 4096
	var agree, bits [64]int
	same := 0
	for range n {
		var id [8]byte
		rand.Read(id[:])
		at := s.Of(id)
		if other.Of(id) == at {
			same++
		}
		for i := range 64 {
			bit := int(id[i/8]>>(i%8)) & 1
			bits[i] += bit
			if bit == at {
				agree[i]++
			}
		}
	}
	require.InDelta(t, n/2, same, n/8)
	for i := range 64 {
		require.InDelta(t, n/2, agree[i], n/8, "bit %d", i)
	}
}

// RouteID and the program look at the same place.
func TestSpreadOffset(t *testing.T) {
	want := handshake.ConnID{1, 2, 3, 4, 5, 6, 7, 8}
	b := packetFor(framing.TypeData, framing.KeyPacket, append(want[:], 0, 0, 0, 9)...)
	id, _, kind := handshake.RouteID(b)
	require.Equal(t, handshake.KindPacket, kind)
	require.Equal(t, want, id)
	require.Equal(t, want[:], b[idAt:idAt+idLen])
}
