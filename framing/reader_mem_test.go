package framing

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// allocated returns how many bytes f allocates, by any goroutine.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// "Memory is taken as bytes arrive, not by the length that the frame claims."
func TestReaderClaimedPayload(t *testing.T) {
	for _, flags := range []Flags{0, FlagCRC} {
		b := AppendFixed(nil, TypeData, flags, 0, DefaultMaxFrame-FixedLen-TrailerLen)
		b = append(b, make([]byte, 10)...)
		for _, way := range readWays {
			rd := NewReader(bytes.NewReader(b), 0, TrailerByFlag)
			f, _, err := rd.Next()
			require.NoError(t, err)
			if way.name == "Read exactly" || way.name == "Read more" {
				continue // it is the caller who trusts the claim
			}
			got := allocated(func() { _, err = way.read(rd, f) })
			require.Equal(t, io.ErrUnexpectedEOF, err)
			require.LessOrEqual(t, got, growStep+4096, way.name)
			require.Nil(t, rd.large)
		}
	}
}

// What is claimed and fits a buffer takes none before its time.
func TestReaderClaimedSmall(t *testing.T) {
	for _, size := range []int{100, 400, 3000, directRead - 1} {
		b := mustFrame(t, nil, testFrame(t, size, FlagCRC), TrailerByFlag)
		rd := NewReader(&stepSource{data: b, stop: 200}, 0, TrailerByFlag)
		_, _, err := rd.Next()
		require.NoError(t, err)
		_, err = rd.Payload()
		require.Equal(t, errPassing, err)
		require.Nil(t, rd.body)
		require.Nil(t, rd.large)
		p, err := rd.Payload()
		require.NoError(t, err)
		require.Equal(t, testFrame(t, size, 0).Payload, p)
	}
}

// From growStep on, the buffer of a payload doubles with what has arrived.
func TestReaderGrowth(t *testing.T) {
	const n = 3 << 20
	b := mustFrame(t, nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	b = mustFrame(t, b, testFrame(t, n, FlagCRC), TrailerByFlag)
	src := &stepSource{data: b, step: 10007, stop: -1}
	rd := NewReader(src, 0, TrailerByFlag)
	_, _, err := rd.Next()
	require.NoError(t, err)
	_, err = rd.Payload()
	require.NoError(t, err)
	_, _, err = rd.Next()
	require.NoError(t, err)
	for stop := 0; stop < len(b); stop += 50021 {
		src.stop, src.done = max(stop, src.pos), false
		_, err = rd.Payload()
		require.Equal(t, errPassing, err)
		require.LessOrEqual(t, cap(rd.body), max(growStep, 2*src.pos), "after %d bytes", src.pos)
	}
	p, err := rd.Payload()
	require.NoError(t, err)
	require.Equal(t, testFrame(t, n, 0).Payload, p)
	own := rd.Detach()
	require.Equal(t, n, cap(own), "no more than needed")
	require.Same(t, &p[0], &own[0], "no copy")
}

// A header block takes the large buffer only once it has arrived in part.
func TestReaderClaimedHeader(t *testing.T) {
	b := AppendFixed(nil, TypeData, 0, MaxHeaderLen, 0)
	b = append(b, make([]byte, MaxHeaderLen)...)
	src := &stepSource{data: b, stop: 20}
	rd := NewReader(src, 0, TrailerByFlag)
	_, _, err := rd.Next()
	require.Equal(t, errPassing, err)
	require.Nil(t, rd.large)
	_, h, err := rd.Next()
	require.NoError(t, err)
	require.Len(t, h, MaxHeaderLen)
	require.NotNil(t, rd.large)
}

// "An idle Reader keeps nothing" but its small buffer, whatever has been before.
func TestReaderIdle(t *testing.T) {
	for _, size := range []int{0, 100, smallBuffer - FixedLen, 512 - FixedLen, 2000, directRead, growStep, largeBuffer - smallBuffer - FixedLen, largeBuffer, 300 << 10} {
		for _, flags := range []Flags{0, FlagCRC} {
			frame := mustFrame(t, nil, Frame{Type: TypeData, Flags: flags, Payload: make([]byte, size)}, TrailerByFlag)
			for _, way := range readWays {
				for i := range 4 {
					vector, many := i%2 == 0, i/2 == 0
					b := frame
					if many {
						b = bytes.Repeat(frame, 2+2000/len(frame))
					}
					src := &stepSource{data: b, stop: len(b)}
					var r io.Reader = src
					if vector {
						r = stepVector{src}
					}
					rd := NewReader(r, 0, TrailerByFlag)
					f, _, err := rd.Next()
					for ; err == nil; f, _, err = rd.Next() {
						_, err := way.read(rd, f)
						require.NoError(t, err)
					}
					require.Equal(t, errPassing, err)
					require.Nil(t, rd.large, "%d bytes, %s", size, way.name)
					require.Nil(t, rd.body, "%d bytes, %s", size, way.name)
					require.Same(t, &rd.small[0], &rd.buf[0])
				}
			}
		}
	}
}

// A large payload that has been read leaves nothing, even before the next Next.
func TestReaderDrained(t *testing.T) {
	b := mustFrame(t, nil, testFrame(t, 300<<10, FlagCRC), TrailerByFlag)
	rd := NewReader(bytes.NewReader(b), 0, TrailerByFlag)
	_, _, err := rd.Next()
	require.NoError(t, err)
	_, err = readBy(rd, 1000)
	require.NoError(t, err)
	require.Nil(t, rd.body)
}

// Once a frame has been read, by whatever calls, and nothing of the next one, the
// Reader of a connection that may now be idle has its small buffer only.
func TestReaderSettled(t *testing.T) {
	for _, flags := range []Flags{0, FlagCRC} {
		for _, size := range []int{100, 600, 1 << 10, 5 << 10, growStep, 300 << 10} {
			for _, slice := range []int{100, 1 << 10, 4 << 10, 300 << 10} {
				b := mustFrame(t, nil, testFrame(t, size, flags), TrailerByFlag)
				rd := NewReader(bytes.NewReader(b), 0, TrailerByFlag)
				_, _, err := rd.Next()
				require.NoError(t, err)
				p := make([]byte, slice)
				for n := 0; n < size; {
					m, err := rd.Read(p)
					require.NoError(t, err)
					n += m
				}
				require.Nil(t, rd.large, "%d bytes by %d", size, slice)
				require.Nil(t, rd.lent, "%d bytes by %d", size, slice)
				require.Nil(t, rd.body, "%d bytes by %d", size, slice)
			}
		}
	}
}

// Reading past the buffer gives the large one back: nothing is in it.
func TestReaderPastLarge(t *testing.T) {
	b := mustFrame(t, nil, testFrame(t, 300<<10, 0), TrailerByFlag)
	b = mustFrame(t, b, testFrame(t, 100, 0), TrailerByFlag)
	src := &stepSource{data: b, stop: len(b) - 100 - 5}
	rd := NewReader(stepVector{src}, 0, TrailerByFlag)
	_, _, err := rd.Next()
	require.NoError(t, err)
	p := make([]byte, 300<<10)
	for !rd.filled || rd.r < rd.w || rd.large == nil {
		_, err = rd.Read(p[:1000])
		require.NoError(t, err)
	}
	_, err = rd.Read(p)
	require.NoError(t, err)
	require.Nil(t, rd.large)
	require.Positive(t, rd.w-rd.r)
	_, _, err = rd.Next()
	require.Equal(t, errPassing, err)
	require.Nil(t, rd.large)
}

// A small payload does not leave with the memory of a large one.
func TestReaderDetachSmall(t *testing.T) {
	b := mustFrame(t, nil, Frame{Type: TypeData, Flags: FlagCRC, Payload: make([]byte, growStep)}, TrailerByFlag)
	b = mustFrame(t, b, Frame{Type: TypeData, Flags: FlagCRC, Payload: make([]byte, 600)}, TrailerByFlag)
	rd := NewReader(stepVector{&stepSource{data: b, stop: -1}}, 0, TrailerByFlag)
	_, _, err := rd.Next()
	require.NoError(t, err)
	p, err := rd.Payload()
	require.NoError(t, err)
	require.Len(t, p, growStep)
	_, _, err = rd.Next()
	require.NoError(t, err)
	require.Nil(t, rd.lent, "given back")
	_, err = rd.Payload()
	require.NoError(t, err)
	own := rd.Detach()
	require.Len(t, own, 600)
	require.LessOrEqual(t, cap(own), 2*600)
}

// A loopSource returns data over and over, as much at once as asked for, or up to where
// data ends.
type loopSource struct {
	data  []byte
	bound bool
	pos   int
	calls int
	into  *byte // where the last call has begun to write
}

func (s *loopSource) Read(p []byte) (int, error) {
	s.calls++
	s.into = &p[0]
	return s.copy(p), nil
}

func (s *loopSource) copy(p []byte) (n int) {
	for n < len(p) {
		m := copy(p[n:], s.data[s.pos:])
		n += m
		s.pos = (s.pos + m) % len(s.data)
		if s.bound && s.pos == 0 {
			break
		}
	}
	return n
}

// A loopVector can read into two slices.
type loopVector struct{ loopSource }

func (s *loopVector) CanReadv() bool { return true }

func (s *loopVector) Readv(a, b []byte) (int, error) {
	s.calls++
	s.into = &a[0]
	return s.copy(a) + s.copy(b), nil
}

// readFrame reads one frame of any size with Next and Read.
func readFrame(rd *Reader, p []byte) error {
	if _, _, err := rd.Next(); err != nil {
		return err
	}
	for {
		if _, err := rd.Read(p); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestReaderAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool forgets")
	}
	for _, s := range readerSizes {
		for _, flags := range []Flags{0, FlagCRC} {
			frame := mustFrame(t, nil, Frame{Type: TypeData, Flags: flags, Payload: make([]byte, s.n)}, TrailerByFlag)
			for _, src := range []io.Reader{&loopSource{data: frame}, &loopVector{loopSource{data: frame}}} {
				rd := NewReader(src, 0, TrailerByFlag)
				p := make([]byte, s.n)
				var err error
				require.Zero(t, testing.AllocsPerRun(10, func() {
					for range 1000 {
						err = readFrame(rd, p)
					}
				}), "Read %s of %T, flags %v", s.name, src, flags)
				require.NoError(t, err)

				small := p[:min(len(p), 1000)] // what does not fit is held in a lent buffer
				require.Zero(t, testing.AllocsPerRun(10, func() {
					for range 100 {
						err = readFrame(rd, small)
					}
				}), "Read %s of %T in pieces, flags %v", s.name, src, flags)
				require.NoError(t, err)
			}
		}
	}
}

// Requests that need the large buffer each, and an end of the stream for now in between.
func TestReaderBurstAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool forgets")
	}
	frame := mustFrame(t, nil, Frame{Type: TypeData, Flags: FlagCRC, Payload: make([]byte, 1000)}, TrailerByFlag)
	rd := NewReader(&loopSource{data: bytes.Repeat(frame, 3), bound: true}, 0, TrailerByFlag)
	p := make([]byte, 1000)
	var err error
	large := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		for range 10 { // an allocation for every few of them must not be rounded off
			if err = readFrame(rd, p); rd.large != nil {
				large++
			}
		}
	}))
	require.NoError(t, err)
	require.Positive(t, large)
}

// "Large payloads cost one call each", straight into the caller's slice.
func TestReaderCalls(t *testing.T) {
	const n = 64 << 10
	for _, peer := range readerPeers {
		for _, flags := range []Flags{0, FlagCRC} {
			frame := mustFrame(t, nil, Frame{Type: TypeData, Flags: flags, Payload: make([]byte, n)}, peer.sends)
			src := &loopVector{loopSource{data: frame}}
			rd := NewReader(src, 0, peer.reads)
			p := make([]byte, n)
			require.NoError(t, readFrame(rd, p))
			require.NoError(t, readFrame(rd, p)) // the first one has shown what there is to sniff
			for range 10 {
				src.calls = 0
				_, _, err := rd.Next()
				require.NoError(t, err)
				got, err := rd.Read(p)
				require.NoError(t, err)
				require.Equal(t, n, got, "all at once")
				require.Equal(t, 1, src.calls, "%s, flags %v", peer.name, flags)
				require.Same(t, &p[0], src.into)

				_, _, err = rd.Next()
				require.NoError(t, err)
				b, err := rd.Payload()
				require.NoError(t, err)
				require.Equal(t, 2, src.calls, "%s, flags %v", peer.name, flags)
				require.Same(t, &b[0], src.into)
			}
		}
	}
}

// Where a large payload arrives in pieces, the last of them does not bring with it what
// follows.
func TestReaderTail(t *testing.T) {
	const n = 64 << 10
	for _, flags := range []Flags{0, FlagCRC} {
		var b []byte
		for range 4 {
			b = mustFrame(t, b, Frame{Type: TypeData, Flags: flags, Payload: make([]byte, n)}, TrailerByFlag)
		}
		p := make([]byte, n)
		for _, missing := range []int{1, 500, 511, 2000, directRead - 1} {
			src := &stepSource{data: b, step: n - missing, stop: -1}
			rd := NewReader(stepVector{src}, 0, TrailerByFlag)
			for range 4 {
				require.NoError(t, readFrame(rd, p))
				require.LessOrEqual(t, rd.w-rd.r, FixedLen, "%d bytes missing", missing)
				require.Nil(t, rd.large)
			}
			_, _, err := rd.Next()
			require.Equal(t, io.EOF, err)
		}
	}
}

// Many small frames cost few calls: the large buffer is filled.
func TestReaderSmallFrames(t *testing.T) {
	for _, n := range []int{0, 53, 64, 512 - FixedLen, smallBuffer, 1 << 10} {
		frame := mustFrame(t, nil, Frame{Type: TypeData, Payload: make([]byte, n)}, TrailerByFlag)
		src := &loopSource{data: frame}
		rd := NewReader(src, 0, TrailerByFlag)
		p := make([]byte, max(n, 1))
		const frames = 10000
		for range frames {
			require.NoError(t, readFrame(rd, p))
		}
		least := frames * len(frame) / largeBuffer
		require.LessOrEqual(t, src.calls, 3+2*least, "frames of %d bytes", len(frame))
	}
}
