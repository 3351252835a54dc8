package framing

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TRAPS S5: no input may panic, and what is accepted is accepted for a reason.

// addFrames adds the crate's frames and some of ours to the corpus.
func addFrames(f *testing.F, add func(b []byte)) {
	v := readCrateVectors(f)
	for _, e := range append(v.Encode, v.Decode...) {
		if e.Hex != nil {
			add(e.Hex)
		}
	}
	for _, flags := range []Flags{0, FlagCRC, 0xff} {
		for _, tr := range []Trailer{TrailerByFlag, TrailerAlways} {
			b, err := AppendFrame(nil, testFrame(f, 30, flags), tr)
			require.NoError(f, err)
			add(b)
			add(append(b, b...))
		}
	}
	add(AppendFixed(nil, TypeData, 0, MaxHeaderLen, MaxPayloadLen))
}

// checkSentinel fails if err is not one of those of a decoder.
func checkSentinel(t *testing.T, err error) {
	for _, want := range []error{
		ErrMagic, ErrVersion, ErrType, ErrHeader, ErrChecksum, ErrFrameTooLarge, ErrIncomplete, ErrTrailing,
	} {
		if errors.Is(err, want) {
			return
		}
	}
	t.Fatalf("unexpected error %v", err)
}

// checkAccepted checks f, of which b is the whole encoded form.
func checkAccepted(t *testing.T, b []byte, f Frame, trailer bool) {
	requireViews(t, b, f)
	require.NoError(t, f.Header.Validate())
	tr := TrailerByFlag
	if trailer {
		tr = TrailerAlways
	}
	again, err := AppendFrame(nil, f, tr)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, again), "encoded again")

	h, err := f.Header.AppendTo(nil)
	require.NoError(t, err)
	block, err := AppendHeader(nil, h)
	require.NoError(t, err)
	require.True(t, bytes.Equal(block, f.Header), "header encoded again")
	AppendText(nil, f)
}

func FuzzParse(f *testing.F) {
	addFrames(f, func(b []byte) {
		for tr := range uint8(3) {
			f.Add(b, 0, tr, uint16(len(b)/2))
			f.Add(b, len(b), tr, uint16(0))
			f.Add(b, len(b)-1, tr, uint16(1))
		}
	})
	f.Fuzz(func(t *testing.T, b []byte, maxFrame int, rule uint8, cut uint16) {
		tr := Trailer(rule % 3)
		in := bytes.Clone(b)
		fr, n, err := Parse(b, maxFrame, tr)
		require.True(t, bytes.Equal(in, b), "the input is not written to")
		if err != nil {
			checkSentinel(t, err)
			require.Zero(t, n)
			require.Zero(t, fr)
			return
		}
		require.LessOrEqual(t, n, len(b))
		if maxFrame > 0 {
			require.LessOrEqual(t, n, maxFrame)
		}
		bare := FixedLen + len(fr.Header) + len(fr.Payload)
		trailer := n > bare
		require.Contains(t, []int{bare, bare + TrailerLen}, n)
		if tr != TrailerSniff {
			require.Equal(t, tr.has(fr.Flags), trailer)
		}
		checkAccepted(t, b[:n], fr, trailer)

		_, _, err = Parse(b[:int(cut)%n], maxFrame, tr)
		require.Equal(t, ErrIncomplete, err, "cut")
		if tr != TrailerSniff {
			_, alone, err := Parse(b[:n], maxFrame, tr)
			require.NoError(t, err, "without what follows")
			require.Equal(t, n, alone)
		}
		d, dt, err := ParseDatagram(b[:n])
		require.NoError(t, err)
		require.Equal(t, trailer, dt)
		requireFrame(t, fr, d)
	})
}

func FuzzParseDatagram(f *testing.F) {
	addFrames(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		fr, trailer, err := ParseDatagram(b)
		require.True(t, bytes.Equal(in, b), "the input is not written to")
		if err != nil {
			checkSentinel(t, err)
			require.Zero(t, fr)
			return
		}
		checkAccepted(t, b, fr, trailer)
		tr := TrailerByFlag
		if trailer {
			tr = TrailerAlways
		}
		_, n, err := Parse(b, len(b), tr)
		require.NoError(t, err)
		require.Len(t, b, n)
	})
}

func FuzzRawHeader(f *testing.F) {
	f.Add([]byte(nil), "")
	f.Add([]byte("\x01\x01kv"), "k")
	f.Add([]byte("\x01\x01\x02\x05\x00\x00\x01\x00k"), "k")
	f.Add([]byte("\x01\xffkv"), "k")
	f.Add([]byte("\x00"), "")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		r := RawHeader(b)
		bad := r.Validate()

		var want Header
		var err error
		rest := r
		for len(rest) > 0 {
			var k, v []byte
			if k, v, rest, err = rest.Next(); err != nil {
				break
			}
			want.Add(string(k), string(v))
		}
		require.Equal(t, bad, err, "Next and Validate agree")

		var all Header
		for k, v := range r.All() {
			all.Add(string(k), string(v))
		}
		require.Equal(t, want, all)
		gotV, got := r.Lookup(key)
		wantV, has := want.Lookup(key)
		require.Equal(t, has, got)
		require.Equal(t, wantV, string(gotV))

		h, err := r.AppendTo(nil)
		user, uerr := r.AppendUser(nil)
		require.Equal(t, bad, err)
		require.Equal(t, bad, uerr)
		if bad != nil {
			require.Equal(t, ErrHeader, bad)
			require.Nil(t, h)
			require.Nil(t, user)
			return
		}
		require.Equal(t, want, h)
		require.Equal(t, len(b), h.EncodedLen())
		require.False(t, user.HasReserved())
		for _, f := range h {
			if (Header{f}).HasReserved() {
				continue
			}
			require.Equal(t, f, user[0])
			user = user[1:]
		}
		require.Empty(t, user)
		if len(b) <= MaxHeaderLen {
			again, err := AppendHeader(nil, h)
			require.NoError(t, err)
			require.True(t, bytes.Equal(b, again))
		}
	})
}

func FuzzVarint(f *testing.F) {
	for _, v := range []uint64{0, 37, 63, 64, 15293, 494878333, 1 << 30, 151288809941952652, MaxVarint} {
		f.Add(AppendVarint(nil, v), v)
	}
	f.Add([]byte{0x40, 0x25}, uint64(37))
	f.Add([]byte{0xc0, 0}, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, x uint64) {
		x &= MaxVarint
		enc := AppendVarint(nil, x)
		require.Len(t, enc, VarintLen(x))
		v, n := ConsumeVarint(enc)
		require.Equal(t, x, v)
		require.Equal(t, len(enc), n)

		v, n = ConsumeVarint(b)
		if n < 0 {
			require.Equal(t, -1, n)
			require.Zero(t, v)
			require.True(t, len(b) == 0 || len(b) < 1<<(b[0]>>6))
			return
		}
		require.Equal(t, 1<<(b[0]>>6), n)
		require.LessOrEqual(t, n, len(b))
		require.LessOrEqual(t, v, uint64(MaxVarint))
		enc = AppendVarint(nil, v)
		require.LessOrEqual(t, len(enc), n, "what we write is the shortest form")
		if len(enc) == n {
			require.Equal(t, b[:n], enc)
		}
	})
}
