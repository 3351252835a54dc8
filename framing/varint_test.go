package framing

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// https://www.rfc-editor.org/rfc/rfc9000#appendix-A.1, and the edges of each length.
func TestVarint(t *testing.T) {
	for _, tt := range []struct {
		hex      string
		v        uint64
		shortest bool
	}{
		{"c2197c5eff14e88c", 151288809941952652, true},
		{"9d7f3e7d", 494878333, true},
		{"7bbd", 15293, true},
		{"25", 37, true},
		{"4025", 37, false},

		{"00", 0, true},
		{"3f", 63, true},
		{"4040", 64, true},
		{"7fff", 16383, true},
		{"80004000", 16384, true},
		{"bfffffff", 1<<30 - 1, true},
		{"c000000040000000", 1 << 30, true},
		{"ffffffffffffffff", MaxVarint, true},
		{"c000000000000000", 0, false},
	} {
		b, err := hex.DecodeString(tt.hex)
		require.NoError(t, err)
		v, n := ConsumeVarint(append(b, 0xaa))
		require.Equal(t, tt.v, v, tt.hex)
		require.Equal(t, len(b), n, tt.hex)
		for i := range b {
			v, n := ConsumeVarint(b[:i])
			require.Zero(t, v)
			require.Equal(t, -1, n, "cut at %d", i)
		}
		if tt.shortest {
			require.Equal(t, append([]byte("p"), b...), AppendVarint([]byte("p"), tt.v), tt.hex)
			require.Equal(t, len(b), VarintLen(tt.v), tt.hex)
		}
	}
	for _, v := range []uint64{MaxVarint + 1, 1<<64 - 1} {
		require.PanicsWithValue(t, "BUG: varint too large", func() { AppendVarint(nil, v) })
		require.PanicsWithValue(t, "BUG: varint too large", func() { VarintLen(v) })
	}
}
