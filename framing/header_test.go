package framing

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeader(t *testing.T) {
	var h Header
	require.Empty(t, h.Get("a"))
	require.Nil(t, h.Values("a"))
	require.Nil(t, h.Clone())

	h.Add("a", "1")
	h.Add("b", "2")
	h.Add("a", "3")
	h.Add("A", "4")
	h.Add("e", "")
	require.Equal(t, Header{{"a", "1"}, {"b", "2"}, {"a", "3"}, {"A", "4"}, {"e", ""}}, h)
	require.Equal(t, "1", h.Get("a"))
	require.Equal(t, []string{"1", "3"}, h.Values("a"))
	_, ok := h.Lookup("c")
	require.False(t, ok)
	v, ok := h.Lookup("e")
	require.True(t, ok)
	require.Empty(t, v)

	c := h.Clone()
	c.Set("a", "5")
	require.Equal(t, Header{{"a", "5"}, {"b", "2"}, {"A", "4"}, {"e", ""}}, c)
	c.Set("n", "6")
	require.Equal(t, Header{{"a", "5"}, {"b", "2"}, {"A", "4"}, {"e", ""}, {"n", "6"}}, c)
	c.Del("a")
	c.Del("missing")
	require.Equal(t, Header{{"b", "2"}, {"A", "4"}, {"e", ""}, {"n", "6"}}, c)
	require.Len(t, h, 5, "the original of a clone")
	require.Equal(t, "1", h.Get("a"))

	h.Del("a")
	require.Equal(t, Header{{"b", "2"}, {"A", "4"}, {"e", ""}}, h)
}

func TestHeaderHasReserved(t *testing.T) {
	for key, want := range map[string]bool{
		"": false, "a": false, " ": false, "\x20\x01": false, "\xff": false, "msg-id": false,
		"\x00": true, "\x1f": true, KeyMessage: true, "\x01abc": true, "\n": true,
	} {
		require.Equal(t, want, Header{{"x", "\x01"}, {key, ""}}.HasReserved(), "%q", key)
	}
	require.False(t, Header(nil).HasReserved())
}

// fields returns n fields of the length of an empty one each.
func fields(n int) Header { return make(Header, n) }

func TestHeaderLimits(t *testing.T) {
	k255, k256 := strings.Repeat("k", 255), strings.Repeat("k", 256)
	// 127 fields of the longest kind, and one that fills the block.
	var full Header
	for range 127 {
		full.Add(k255, k255)
	}
	rest := MaxHeaderLen - full.EncodedLen() - fieldOverhead
	full.Add(k255[:rest/2], k255[:rest-rest/2])
	require.Equal(t, MaxHeaderLen, full.EncodedLen())
	over := full.Clone()
	over[len(over)-1].Key += "x"

	for _, tt := range []struct {
		name string
		h    Header
		want error
	}{
		{"nil", nil, nil},
		{"longest key and value", Header{{k255, k255}}, nil},
		{"key too long", Header{{"a", "b"}, {k256, ""}}, ErrKeyTooLong},
		{"value too long", Header{{"a", "b"}, {"", k256}}, ErrValueTooLong},
		{"both too long", Header{{k256, k256}}, ErrKeyTooLong},
		{"first offender", Header{{"a", k256}, {k256, ""}}, ErrValueTooLong},
		{"full block", full, nil},
		{"full block and one byte", over, ErrHeaderTooLarge},
		{"full block and a field", append(full.Clone(), Field{}), ErrHeaderTooLarge},
		{"most fields", fields(32767), nil},
		{"one field more", fields(32768), ErrHeaderTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.h.Validate())
			prefix := append(make([]byte, 0, 100), "prefix"...)
			b, err := AppendHeader(prefix, tt.h)
			require.Equal(t, tt.want, err)
			if err != nil {
				require.Equal(t, prefix, b)
				return
			}
			require.Len(t, b, len(prefix)+tt.h.EncodedLen())
			got, err := RawHeader(b[len(prefix):]).AppendTo(nil)
			require.NoError(t, err)
			require.Equal(t, tt.h, got)
		})
	}
}

func TestAppendField(t *testing.T) {
	long := strings.Repeat("x", 256)
	b, err := AppendField([]byte("p"), "k", "v1")
	require.NoError(t, err)
	require.Equal(t, "p\x01\x02kv1", string(b))
	b, err = AppendField(b, []byte{0xff}, []byte{})
	require.NoError(t, err)
	require.Equal(t, "p\x01\x02kv1\x01\x00\xff", string(b))
	got, err := AppendField(b, long, "")
	require.Equal(t, ErrKeyTooLong, err)
	require.Equal(t, b, got)
	got, err = AppendField(b, "", []byte(long))
	require.Equal(t, ErrValueTooLong, err)
	require.Equal(t, b, got)
}

func TestRawHeader(t *testing.T) {
	h := Header{{"a", "1"}, {KeyMessage, "\x05"}, {"", ""}, {"a", "2"}, {"\x00\xff", "\x80"}}
	b, err := AppendHeader(nil, h)
	require.NoError(t, err)
	r := RawHeader(b)
	require.NoError(t, r.Validate())

	v, ok := r.Lookup("a")
	require.True(t, ok)
	require.Equal(t, "1", string(v))
	require.Equal(t, 1, cap(v), "a view reaches no further than its part")
	v, ok = r.Lookup("")
	require.True(t, ok)
	require.Empty(t, v)
	_, ok = r.Lookup("b")
	require.False(t, ok)

	var got Header
	for k, v := range r.All() {
		got.Add(string(k), string(v))
	}
	require.Equal(t, h, got)
	for k := range r.All() {
		require.Equal(t, "a", string(k))
		break
	}

	before := Header{{"x", "y"}}
	got, err = r.AppendTo(before)
	require.NoError(t, err)
	require.Equal(t, append(before.Clone(), h...), got)
	got, err = r.AppendUser(before)
	require.NoError(t, err)
	require.Equal(t, Header{{"x", "y"}, {"a", "1"}, {"", ""}, {"a", "2"}}, got)

	clear(b)
	require.Equal(t, "a", got[1].Key, "decoded strings are copies")

	for _, empty := range []RawHeader{nil, {}, RawHeader("\x01\x01\x02\x05")} {
		got, err = empty.AppendUser(nil)
		require.NoError(t, err)
		require.Nil(t, got, "nothing for the user")
	}
}

func TestRawHeaderMalformed(t *testing.T) {
	good, err := AppendHeader(nil, Header{{"a", "1"}})
	require.NoError(t, err)
	for name, tail := range map[string]string{
		"one byte":        "\x00",
		"key missing":     "\x01\x00",
		"value missing":   "\x01\x01k",
		"key cut":         "\x05\x00key",
		"value cut":       "\x01\x05kval",
		"longest, absent": "\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			r := RawHeader(append(good[:len(good):len(good)], tail...))
			require.Equal(t, ErrHeader, r.Validate())
			_, _, rest, err := r.Next()
			require.NoError(t, err)
			k, v, rest, err := rest.Next()
			require.Equal(t, ErrHeader, err)
			require.Nil(t, k)
			require.Nil(t, v)
			require.Nil(t, rest)
			n := 0
			for range r.All() {
				n++
			}
			require.Equal(t, 1, n)
			_, ok := r.Lookup("a")
			require.True(t, ok)
			_, ok = r.Lookup("k")
			require.False(t, ok)

			h := Header{{"x", "y"}}
			got, err := r.AppendTo(h)
			require.Equal(t, ErrHeader, err)
			require.Equal(t, h, got)
			got, err = r.AppendUser(h)
			require.Equal(t, ErrHeader, err)
			require.Equal(t, h, got)
		})
	}
	_, _, _, err = RawHeader{}.Next()
	require.Equal(t, ErrHeader, err)
}

// TRAPS F2: memory follows the bytes that are there. One string and one slice,
// whatever the fields; nothing for a block that does not add up.
func TestRawHeaderDecodeAllocs(t *testing.T) {
	b, err := AppendHeader(nil, Header{{"a", "1"}, {"b", "2"}, {KeyMessage, "\x01"}, {"c", "3"}})
	require.NoError(t, err)
	many, err := AppendHeader(nil, fields(32767))
	require.NoError(t, err)
	for _, tt := range []struct {
		name string
		r    RawHeader
		want float64
	}{
		{"four", b, 2},
		{"full block", many, 2},
		{"malformed", many[:len(many)-1], 0},
		{"nothing for the user", RawHeader("\x01\x01\x02\x05"), 0},
	} {
		got := testing.AllocsPerRun(10, func() { tt.r.AppendUser(nil) })
		require.Equal(t, tt.want, got, tt.name)
	}
	h, err := RawHeader(many).AppendTo(nil)
	require.NoError(t, err)
	require.Equal(t, len(h), cap(h))
	require.Zero(t, testing.AllocsPerRun(10, func() { RawHeader(b).Lookup("c") }))
}
