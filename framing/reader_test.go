package framing

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A readerPeer is a kind of peer, and how its frames are to be decoded.
type readerPeer struct {
	name         string
	sends, reads Trailer
}

var readerPeers = []readerPeer{
	{"by flag", TrailerByFlag, TrailerByFlag},
	{"always", TrailerAlways, TrailerAlways},
	{"sniffed by flag", TrailerByFlag, TrailerSniff},
	{"sniffed always", TrailerAlways, TrailerSniff},
}

// randomBytes makes bytes that show when they are in the wrong place.
func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b[:n:n]
}

// randomHeader makes a block of about n bytes.
func randomHeader(t testing.TB, rng *rand.Rand, n int) RawHeader {
	var h Header
	for left := n - fieldOverhead; left >= 0; {
		f := randomBytes(rng, min(left, MaxKeyLen+rng.IntN(MaxValueLen+1)))
		k := max(rng.IntN(min(len(f), MaxKeyLen)+1), len(f)-MaxValueLen)
		h.Add(string(f[:k]), string(f[k:]))
		left -= len(f) + fieldOverhead
	}
	b, err := AppendHeader(nil, h)
	require.NoError(t, err)
	return b
}

// randomFrame makes a frame of any size: most are small, some are as large as can be.
func randomFrame(t testing.TB, rng *rand.Rand) Frame {
	size := func(of ...int) int {
		n := of[rng.IntN(len(of))]
		return rng.IntN(n + 1)
	}
	exact := func(n, of int) int { // sometimes a limit, or nearly
		if rng.IntN(4) > 0 {
			return n
		}
		limits := []int{0, 1, smallBuffer - FixedLen, smallBuffer, directRead, growStep, largeBuffer - FixedLen, largeBuffer}
		return max(0, min(of, limits[rng.IntN(len(limits))]-2+rng.IntN(5)))
	}
	f := Frame{
		Type:  TypeHello + Type(rng.IntN(8)),
		Flags: Flags(rng.IntN(256)),
	}
	if rng.IntN(2) == 0 {
		f.Flags &^= FlagCRC
	}
	f.Header = randomHeader(t, rng, exact(size(0, 0, 40, 600, MaxHeaderLen), MaxHeaderLen))
	f.Payload = randomBytes(rng, exact(size(0, 20, 600, 10000, 200<<10), 200<<10))
	return f
}

var readerSeed = flag.Uint64("reader-seed", 0, "run TestReaderRandom with this seed, to see again how it failed")

// "A Reader can go on after any error of its source that is not the end of the stream:
// no byte is lost." Whatever is sent, however it arrives, and however it is read, it is
// what Parse finds.
func TestReaderRandom(t *testing.T) {
	runs := 40
	if raceEnabled {
		runs = 10
	}
	for _, peer := range readerPeers {
		for _, vector := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/vector=%v", peer.name, vector), func(t *testing.T) {
				t.Parallel() // they lend each other buffers
				for range runs {
					seed := *readerSeed
					if seed == 0 {
						seed = rand.Uint64()
					}
					rng := rand.New(rand.NewPCG(seed, 0))
					var b []byte
					for range 1 + rng.IntN(12) {
						b = mustFrame(t, b, randomFrame(t, rng), peer.sends)
					}
					if rng.IntN(4) == 0 {
						b = b[:rng.IntN(len(b)+1)]
					}
					if rng.IntN(4) == 0 && len(b) > 0 {
						b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
					}
					ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
						newReaderTest(t, b, 0, peer.reads, vector, rng.IntN).run()
					})
					if !ok {
						return
					}
				}
			})
		}
	}
}

// shortStream is a stream with a frame of every sort that Reader knows, in few bytes.
func shortStream(t testing.TB, tr Trailer) []byte {
	hdr := testFrame(t, 0, 0).Header
	var b []byte
	for _, f := range []Frame{
		{TypeHello, FlagCRC, hdr, nil},
		{Type: TypePing},
		{TypeData, 0, nil, []byte("payload")},
		{TypeData, FlagCRC, hdr, []byte("payload with CRC")},
		{TypeData, FlagReqAck, hdr, []byte("p")},
		{Type: TypeBye, Flags: FlagCRC},
	} {
		b = mustFrame(t, b, f, tr)
	}
	return b
}

// longStream has frames that are larger than the small buffer, and are read past it.
func longStream(t testing.TB, tr Trailer) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for _, f := range []Frame{
		{TypeData, FlagCRC, nil, randomBytes(rng, directRead+100)},
		{TypeData, 0, randomHeader(t, rng, smallBuffer), randomBytes(rng, smallBuffer)},
		{TypeData, 0, nil, randomBytes(rng, directRead+5)},
	} {
		b = mustFrame(t, b, f, tr)
	}
	return b
}

// A stepSource gives all there is, but ends each piece at the next of some stops, and
// once returns an error there.
type stepSource struct {
	data  []byte
	pos   int
	step  int // pieces are no longer than that, if it is not 0
	stop  int // the error comes here
	along bool
	done  bool
}

func (s *stepSource) Read(p []byte) (int, error) { return s.Readv(p, nil) }

func (s *stepSource) Readv(a, b []byte) (n int, err error) {
	end := len(s.data)
	if s.step > 0 {
		end = min(end, s.pos+s.step)
	}
	if !s.done && s.pos <= s.stop && s.stop <= min(end, s.pos+len(a)+len(b)) && (!s.along || s.pos < s.stop || s.stop == 0) {
		end = s.stop
		s.done = s.along || s.pos == s.stop
		if s.done {
			err = errPassing
		}
	}
	n = copy(a, s.data[s.pos:end])
	n += copy(b, s.data[s.pos+n:end])
	if s.pos += n; n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

type stepVector struct{ *stepSource }

func (s stepVector) CanReadv() bool { return true }

// readWays are ways to read the payload of a frame that begins at rd.
var readWays = []struct {
	name string
	read func(rd *Reader, f Fixed) ([]byte, error)
}{
	{"Read exactly", func(rd *Reader, f Fixed) ([]byte, error) { return readBy(rd, int(f.PayloadLen)) }},
	{"Read more", func(rd *Reader, f Fixed) ([]byte, error) { return readBy(rd, int(f.PayloadLen)+1000) }},
	{"Read pieces", func(rd *Reader, f Fixed) ([]byte, error) { return readBy(rd, 1000) }},
	{"Payload", func(rd *Reader, f Fixed) ([]byte, error) { return payloadOf(rd) }},
	{"Payload, then Read", func(rd *Reader, f Fixed) ([]byte, error) {
		if _, err := rd.Payload(); err != nil && err != errPassing {
			return nil, err
		}
		return readBy(rd, 300)
	}},
	{"Read, then Payload", func(rd *Reader, f Fixed) ([]byte, error) {
		p := make([]byte, 3)
		n, err := rd.Read(p)
		if err != nil && err != errPassing && err != io.EOF {
			return nil, err
		}
		rest, err := payloadOf(rd)
		return append(p[:n], rest...), err
	}},
	{"Payload, then Detach", func(rd *Reader, f Fixed) ([]byte, error) {
		if _, err := payloadOf(rd); err != nil {
			return nil, err
		}
		return rd.Detach(), nil
	}},
	{"Read bytes", func(rd *Reader, f Fixed) ([]byte, error) { return readBy(rd, 1) }},
}

// readBy reads with slices of n bytes, and goes on after errPassing.
func readBy(rd *Reader, n int) ([]byte, error) {
	var all []byte
	p := make([]byte, max(n, 1))
	for {
		n, err := rd.Read(p)
		all = append(all, p[:n]...)
		switch err {
		case nil, errPassing:
		case io.EOF:
			return all, nil
		default:
			return all, err
		}
	}
}

func payloadOf(rd *Reader) ([]byte, error) {
	p, err := rd.Payload()
	for err == errPassing {
		p, err = rd.Payload()
	}
	return bytes.Clone(p), err
}

func nextOf(rd *Reader) (Fixed, RawHeader, error) {
	f, h, err := rd.Next()
	for err == errPassing {
		f, h, err = rd.Next()
	}
	return f, h, err
}

// An expired deadline at every byte position, alone and together with bytes.
func TestReaderTimeout(t *testing.T) {
	for i, peer := range readerPeers {
		t.Run(peer.name, func(t *testing.T) {
			t.Parallel()
			check := func(b []byte, m model, src *stepSource, vector bool, way int) {
				var r io.Reader = src
				if vector {
					r = stepVector{src}
				}
				rd := NewReader(r, 0, peer.reads)
				for i, w := range m.frames {
					f, h, err := nextOf(rd)
					if err != nil || f != w.fixed || !bytes.Equal(h, w.block) {
						t.Fatalf("stop at %d, frame %d: got %v, %x, %v", src.stop, i, f, h, err)
					}
					way := readWays[way%len(readWays)]
					p, err := way.read(rd, f)
					if err != nil || !bytes.Equal(p, w.payload) {
						t.Fatalf("stop at %d, frame %d, %s: got %d bytes, %v", src.stop, i, way.name, len(p), err)
					}
				}
				if _, _, err := nextOf(rd); err != io.EOF {
					t.Fatalf("stop at %d: got %v at the end", src.stop, err)
				}
				if !src.done {
					t.Fatalf("stop at %d: no error came", src.stop)
				}
			}
			short, long := shortStream(t, peer.sends), longStream(t, peer.sends)
			ms, ml := newModel(short, 0, peer.reads), newModel(long, 0, peer.reads)
			for stop := range short {
				for way := range readWays {
					src := &stepSource{data: short, stop: stop}
					v := stop + way + i // each peer has another variant of each
					switch v % 3 {
					case 0:
						src.along = true
					case 1:
						src.step = 1
					}
					check(short, ms, src, v&1 != 0, way)
				}
			}
			step := 1
			if raceEnabled {
				step = 7
			}
			for stop := rand.IntN(step); stop < len(long); stop += step {
				v := stop + i
				src := &stepSource{data: long, stop: stop, along: v&1 != 0}
				check(long, ml, src, v&2 != 0, v/4%(len(readWays)-1))
			}
		})
	}
}

// "At the end of the stream between two frames the error is io.EOF, inside one
// io.ErrUnexpectedEOF."
func TestReaderCut(t *testing.T) {
	for _, peer := range readerPeers {
		b := shortStream(t, peer.sends)
		boundary := map[int]bool{0: true}
		sniffed := 0 // where the first frame without CRC flag ends
		for _, f := range newModel(b, 0, peer.sends).frames {
			boundary[f.end] = true
			if sniffed == 0 && !f.fixed.Flags.Has(FlagCRC) {
				sniffed = f.end
			}
		}
		for cut := range len(b) + 1 {
			want := io.ErrUnexpectedEOF
			if boundary[cut] {
				want = io.EOF
			}
			if missing := sniffed - cut; peer.sends != peer.reads && peer.sends == TrailerAlways {
				// "None or fewer than four, and the carrier ends: the flag decides."
				switch {
				case missing == TrailerLen:
					want = io.EOF
				case 0 < missing && missing < TrailerLen:
					want = ErrMagic
				}
			}
			for _, way := range readWays {
				rd := NewReader(bytes.NewReader(b[:cut]), 0, peer.reads)
				var f Fixed
				var err error
				for err == nil {
					if f, _, err = rd.Next(); err == nil {
						_, err = way.read(rd, f)
					}
				}
				_, _, again := rd.Next()
				if err != want || again != want {
					t.Fatalf("%s, cut at %d, %s: got %v and %v, want %v", peer.name, cut, way.name, err, again, want)
				}
			}
			rd := NewReader(bytes.NewReader(b[:cut]), 0, peer.reads)
			var err error
			for err == nil {
				_, _, err = rd.Next()
			}
			require.Equal(t, want, err, "%s, cut at %d, skipping", peer.name, cut)
		}
	}
}

// What can be wrong with a frame, found as early as Parse finds it.
func TestReaderErrors(t *testing.T) {
	fixed := func(f Flags, headerLen int, payloadLen int64) string {
		return string(AppendFixed(nil, TypeData, f, headerLen, payloadLen))
	}
	for _, tt := range []struct {
		name string
		in   string // and then the source only has errors that pass
		max  int
		tr   Trailer
		want error
	}{
		{"magic", "v", 0, TrailerByFlag, ErrMagic},
		{"second magic", "VL", 0, TrailerByFlag, ErrMagic},
		{"TLS alert", "\x15\x03\x01\x00\x02\x02\x28", 0, TrailerSniff, ErrMagic},
		{"version", "VT\x02", 0, TrailerByFlag, ErrVersion},
		{"type", "VT\x01\x09", 0, TrailerByFlag, ErrType},
		{"good so far", "VT\x01\x03\x00\x00\x00\x00\x00\x00", 0, TrailerByFlag, errPassing},
		{"largest", fixed(0, 0, DefaultMaxFrame-FixedLen), 0, TrailerByFlag, nil},
		{"too large", fixed(0, 0, DefaultMaxFrame-FixedLen+1), 0, TrailerByFlag, ErrFrameTooLarge},
		{"negative limit", fixed(0, 0, DefaultMaxFrame-FixedLen+1), -1, TrailerByFlag, ErrFrameTooLarge},
		{"largest of 20", fixed(0, 0, 9), 20, TrailerByFlag, nil},
		{"21 of 20", fixed(0, 0, 10), 20, TrailerByFlag, ErrFrameTooLarge},
		{"header counts", fixed(0, 1, 9), 20, TrailerByFlag, ErrFrameTooLarge},
		{"trailer counts", fixed(FlagCRC, 0, 6), 20, TrailerByFlag, ErrFrameTooLarge},
		{"largest with trailer", fixed(FlagCRC, 0, 5), 20, TrailerByFlag, nil},
		{"trailer always counts", fixed(0, 0, 6), 20, TrailerAlways, ErrFrameTooLarge},
		{"largest with trailer always", fixed(0, 0, 5), 20, TrailerAlways, nil},
		{"largest if there is no trailer", fixed(0, 0, 9), 20, TrailerSniff, nil},
		{"sniffed with flag", fixed(FlagCRC, 0, 6), 20, TrailerSniff, ErrFrameTooLarge},
		{"longest claim", fixed(0, MaxHeaderLen, MaxPayloadLen), 1 << 30, TrailerByFlag, ErrFrameTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rd := NewReader(io.MultiReader(bytes.NewReader([]byte(tt.in)), passingReader{}), tt.max, tt.tr)
			for range 2 {
				_, _, err := rd.Next()
				require.Equal(t, tt.want, err)
				if err == nil {
					return
				}
			}
			if tt.want != ErrFrameTooLarge {
				require.Equal(t, tt.in, string(rd.Buffered()))
				require.False(t, rd.AtBoundary())
			}
		})
	}
}

// passingReader only has errors.
type passingReader struct{}

func (passingReader) Read([]byte) (int, error) { return 0, errPassing }

// "A receiver MUST check a trailer that is there, and MUST NOT hand anything of such a
// frame to the application before it has been found right."
func TestReaderDamage(t *testing.T) {
	for _, peer := range readerPeers {
		for _, flags := range []Flags{0, FlagCRC} {
			if peer.sends == TrailerByFlag && flags == 0 {
				continue // has no trailer
			}
			for _, n := range []int{10, directRead + 10, largeBuffer + 10} {
				good := mustFrame(t, nil, testFrame(t, n, flags), peer.sends)
				head := len(good) - n - TrailerLen
				m := newModel(good, 0, peer.reads)
				for at := FixedLen; at < len(good); at++ {
					if n > 10 && at%997 > 0 && (at < head-1 || at > head+1) && (at < len(good)-TrailerLen-1 || n > directRead+10) {
						continue // not every byte of a large one
					}
					b := append(bytes.Clone(good), good...)
					b[at] ^= 1 << (at % 8)
					for i, way := range readWays {
						src := &stepSource{data: b, stop: -1}
						var r io.Reader = src
						if i%2 == 0 {
							r = stepVector{src}
						}
						rd := NewReader(r, 0, peer.reads)
						f, _, err := rd.Next()
						if err != nil || f != m.frames[0].fixed {
							t.Fatalf("%s, byte %d: got %v, %v", peer.name, at, f, err)
						}
						p1, err1 := way.read(rd, f)
						p2, err2 := way.read(rd, f)
						own := rd.Detach()
						_, _, err3 := rd.Next()
						if err1 != ErrChecksum || err2 != ErrChecksum || err3 != ErrChecksum {
							t.Fatalf("%s, byte %d, %s: got %v, then %v, then %v", peer.name, at, way.name, err1, err2, err3)
						}
						if len(p1)+len(p2)+len(own) > 0 {
							t.Fatalf("%s, byte %d, %s: %d, %d and %d bytes of payload", peer.name, at, way.name, len(p1), len(p2), len(own))
						}
					}
					rd := NewReader(bytes.NewReader(b), 0, peer.reads)
					_, _, err := rd.Next()
					require.NoError(t, err)
					_, _, err = rd.Next()
					require.Equal(t, ErrChecksum, err, "%s, byte %d, skipping", peer.name, at)
				}
			}
		}
	}
}

// A damaged byte anywhere in a stream is what Parse makes of it.
func TestReaderDamageAnywhere(t *testing.T) {
	for _, peer := range readerPeers {
		b := shortStream(t, peer.sends)
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			newReaderTest(t, b, 0, peer.reads, bit%2 == 0, bytePicker(nil)).run()
			newReaderTest(t, b, 0, peer.reads, bit%3 == 0, rand.New(rand.NewPCG(uint64(bit), 1)).IntN).run()
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// Before the first frame, and after a Next that failed, there is no payload.
func TestReaderNoFrame(t *testing.T) {
	b := mustFrame(t, nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	src := &stepSource{data: append(bytes.Clone(b), b...), stop: len(b) + 7}
	rd := NewReader(src, 0, TrailerByFlag)
	none := func() {
		n, err := rd.Read(make([]byte, 10))
		require.Zero(t, n)
		require.Equal(t, io.EOF, err)
		p, err := rd.Payload()
		require.Empty(t, p)
		require.NoError(t, err)
		require.Empty(t, rd.Detach())
	}
	none()
	require.True(t, rd.AtBoundary())
	_, _, err := rd.Next()
	require.NoError(t, err)
	_, _, err = rd.Next()
	require.Equal(t, errPassing, err)
	none()
	_, _, err = rd.Next()
	require.NoError(t, err)
	p, err := rd.Payload()
	require.NoError(t, err)
	require.Equal(t, testFrame(t, 10, 0).Payload, p)
	none2, err := rd.Payload()
	require.NoError(t, err)
	require.Equal(t, p, none2, "Payload may be called again")
}

// "Views end where their part ends: an append to one does not reach the next."
func TestReaderViews(t *testing.T) {
	b := shortStream(t, TrailerByFlag)
	rd := NewReader(bytes.NewReader(b), 0, TrailerByFlag)
	for _, w := range newModel(b, 0, TrailerByFlag).frames {
		_, h, err := rd.Next()
		require.NoError(t, err)
		_ = append(h, "xxxxxxxxxxxxxxxxxxxx"...)
		_ = append(rd.Buffered(), "xxxxxxxxxxxxxxxxxxxx"...)
		p, err := rd.Payload()
		require.NoError(t, err)
		require.True(t, bytes.Equal(w.payload, p))
		_ = append(p, "xxxxxxxxxxxxxxxxxxxx"...)
	}
	_, _, err := rd.Next()
	require.Equal(t, io.EOF, err)
}

// AtBoundary is true as soon as a frame is read, be it without payload.
func TestReaderAtBoundary(t *testing.T) {
	for _, n := range []int{0, 10} {
		b := mustFrame(t, nil, testFrame(t, n, 0), TrailerByFlag)
		rd := NewReader(bytes.NewReader(b), 0, TrailerByFlag)
		require.True(t, rd.AtBoundary())
		_, _, err := rd.Next()
		require.NoError(t, err)
		require.Equal(t, n == 0, rd.AtBoundary())
		got, _ := rd.Read(make([]byte, 10))
		require.Equal(t, n, got)
		require.True(t, rd.AtBoundary())
	}
}

// An empty Write to a net.Pipe makes a Read of nothing, without an error.
func TestReaderEmptyReads(t *testing.T) {
	b := mustFrame(t, nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	src := &emptySource{r: bytes.NewReader(b), empty: 10}
	rd := NewReader(src, 0, TrailerByFlag)
	_, _, err := rd.Next()
	require.NoError(t, err)
	src.empty = 1 << 30
	_, _, err = rd.Next()
	require.Equal(t, io.ErrNoProgress, err)
	src.empty = 0
	_, _, err = rd.Next()
	require.Equal(t, io.EOF, err, "it can go on")
}

// An emptySource returns nothing as often as told.
type emptySource struct {
	r     io.Reader
	empty int
}

func (s *emptySource) Read(p []byte) (int, error) {
	if s.empty > 0 {
		s.empty--
		return 0, nil
	}
	return s.r.Read(p[:min(len(p), 20)])
}

func TestReaderInit(t *testing.T) {
	b := mustFrame(t, nil, testFrame(t, largeBuffer, 0), TrailerByFlag)
	var rd Reader
	for range 3 {
		rd.Init(bytes.NewReader(b), 0, TrailerByFlag)
		_, _, err := rd.Next()
		require.NoError(t, err)
		_, err = rd.Read(make([]byte, 100))
		require.NoError(t, err)
	}
}
