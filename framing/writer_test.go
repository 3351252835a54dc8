package framing

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// writes records each Write by itself.
type writes [][]byte

func (w *writes) Write(b []byte) (int, error) {
	*w = append(*w, bytes.Clone(b))
	return len(b), nil
}

type writeFunc func(b []byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }

func TestWriter(t *testing.T) {
	frames := []Frame{
		{Type: TypeHello},
		{TypeData, FlagCRC, RawHeader("\x01\x01kv"), []byte("payload")},
		{Type: TypeData, Payload: make([]byte, 200<<10)},
		{Type: TypeBye},
	}
	for _, tr := range []Trailer{TrailerByFlag, TrailerAlways, TrailerSniff} {
		var got writes
		w := NewWriter(&got, tr)
		for _, f := range frames {
			require.NoError(t, w.WriteFrame(f))
		}
		require.Len(t, got, len(frames), "one Write for each frame")
		for i, f := range frames {
			want, err := AppendFrame(nil, f, tr)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got[i]))
		}
	}
}

func TestWriterEncodingError(t *testing.T) {
	var got writes
	w := NewWriter(&got, TrailerByFlag)
	for range 2 {
		require.Equal(t, ErrType, w.WriteFrame(Frame{}))
		require.Equal(t, ErrHeader, w.WriteFrame(Frame{Type: TypeData, Header: RawHeader("x")}))
	}
	require.Empty(t, got)
	require.NoError(t, w.WriteFrame(Frame{Type: TypeData}), "nothing was written, so all is well")
	require.Len(t, got, 1)
}

func TestWriterWriteError(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		n    int
		err  error
		want error
	}{
		{"nothing", 0, broken, broken},
		{"part", 5, broken, broken},
		{"all, and an error", 11, broken, broken},
		{"short without an error", 5, nil, io.ErrShortWrite},
		{"more than there is", 12, nil, io.ErrShortWrite},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			w := NewWriter(writeFunc(func([]byte) (int, error) { calls++; return tt.n, tt.err }), TrailerByFlag)
			for range 3 {
				require.Equal(t, tt.want, w.WriteFrame(Frame{Type: TypePing}))
			}
			require.Equal(t, 1, calls, "sticky")
		})
	}
}

func TestWriterBuffer(t *testing.T) {
	w := NewWriter(io.Discard, TrailerAlways)
	usual := Frame{Type: TypeData, Header: RawHeader("\x01\x01kv"), Payload: make([]byte, 64<<10)}
	require.NoError(t, w.WriteFrame(usual))
	require.Zero(t, testing.AllocsPerRun(10, func() { w.WriteFrame(usual) }), "the buffer is reused")

	require.NoError(t, w.WriteFrame(Frame{Type: TypeData, Payload: make([]byte, 1<<20)}))
	require.Nil(t, w.buf, "a large buffer is dropped")
	require.NoError(t, w.WriteFrame(Frame{Type: TypePing}))
	require.LessOrEqual(t, cap(w.buf), 1024)
}
