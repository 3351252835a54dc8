package framing

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// PROTOCOL §6.2, the table.
func TestReaderSniff(t *testing.T) {
	// Frames without the CRC flag; two of them are made so that their CRC begins as a frame
	// does, or nearly.
	plain := mustFrame(t, nil, testFrame(t, 10, FlagReqAck), TrailerByFlag)
	crc := string(AppendTrailer(nil, Checksum(0, plain)))
	alike := frameWithCRC(t, "VT\x01\x03")
	alikeCRC := "VT\x01\x03"
	nearly := frameWithCRC(t, "VT\x01\x09")
	flagged := mustFrame(t, nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	for _, tt := range []struct {
		name  string
		frame []byte
		after string
		eof   bool // after that, or else silence
		want  error
		found Trailer
		next  error
	}{
		{"nothing yet", plain, "", false, errPassing, TrailerSniff, errPassing},
		{"start of the CRC", plain, crc[:1], false, errPassing, TrailerSniff, errPassing},
		{"most of the CRC", plain, crc[:3], false, errPassing, TrailerSniff, errPassing},
		{"CRC", plain, crc, false, nil, TrailerAlways, errPassing},
		{"CRC at the end", plain, crc, true, nil, TrailerAlways, io.EOF},
		{"CRC and garbage", plain, crc + "garbage", false, nil, TrailerAlways, ErrMagic},
		{"start of a frame", plain, "V", false, nil, TrailerByFlag, errPassing},
		{"frame", plain, string(plain), false, nil, TrailerByFlag, nil},
		{"flagged frame", plain, string(flagged), false, nil, TrailerByFlag, nil},
		{"end", plain, "", true, nil, TrailerByFlag, io.EOF},
		{"start of a frame at the end", plain, "VT\x01", true, nil, TrailerByFlag, io.ErrUnexpectedEOF},
		{"start of the CRC at the end", plain, crc[:3], true, nil, TrailerByFlag, ErrMagic},
		{"garbage", plain, "G", false, ErrChecksum, TrailerSniff, ErrChecksum},
		{"garbage at the end", plain, "G", true, ErrChecksum, TrailerSniff, ErrChecksum},
		{"no type", plain, "VT\x01\x09", false, ErrChecksum, TrailerSniff, ErrChecksum},
		{"damaged CRC", plain, crc[:3] + string(crc[3]^1), false, ErrChecksum, TrailerSniff, ErrChecksum},

		{"CRC like a frame", alike, alikeCRC, false, nil, TrailerAlways, errPassing},
		{"CRC like a frame, then one", alike, alikeCRC + string(plain), false, nil, TrailerAlways, nil},
		{"CRC like a frame, not all there", alike, alikeCRC[:3], false, errPassing, TrailerSniff, errPassing},
		{"frame where the CRC is alike", alike, "VT\x01\x04", false, nil, TrailerByFlag, errPassing},
		{"CRC nearly like a frame", nearly, "VT\x01\x09", false, nil, TrailerAlways, errPassing},
		{"frame where the CRC is nearly alike", nearly, string(plain), false, nil, TrailerByFlag, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := append(bytes.Clone(tt.frame), tt.after...)
			for _, way := range append(readWays, readWays[0]) {
				src := io.MultiReader(bytes.NewReader(in), passingReader{})
				if tt.eof {
					src = bytes.NewReader(in)
				}
				rd := NewReader(src, 0, TrailerSniff)
				f, _, err := rd.Next()
				require.NoError(t, err)
				if tt.want == errPassing {
					for range 3 {
						n, err := rd.Read(make([]byte, 100))
						require.Zero(t, n)
						require.Equal(t, errPassing, err)
						_, err = rd.Payload()
						require.Equal(t, errPassing, err)
						require.False(t, rd.AtBoundary())
					}
				} else {
					p, err := way.read(rd, f)
					require.Equal(t, tt.want, err)
					if err == nil {
						want := tt.frame[len(tt.frame)-int(f.PayloadLen):]
						require.Equal(t, want, p)
					} else {
						require.Empty(t, p)
					}
				}
				require.Equal(t, tt.found, rd.Trailer())
				_, _, err = rd.Next()
				require.Equal(t, tt.next, err)
			}
		})
	}
}

// frameWithCRC makes a frame without CRC flag whose CRC is crc, by its last four
// bytes of payload.
func frameWithCRC(t *testing.T, crc string) []byte {
	t.Helper()
	b := mustFrame(t, nil, Frame{Type: TypeData, Payload: make([]byte, 8)}, TrailerByFlag)
	tail := b[len(b)-4:]
	// A CRC is linear: each bit of tail flips the same bits of it, whatever the others are.
	zero := Checksum(0, b)
	var bits [32]uint32
	for i := range bits {
		binary.BigEndian.PutUint32(tail, 1<<i)
		bits[i] = Checksum(0, b) ^ zero
	}
	want := binary.BigEndian.Uint32([]byte(crc)) ^ zero
	var x uint32
	var from [32]uint32
	for i := range from {
		from[i] = 1 << i
	}
	for col := range 32 { // Gauss
		for i := col; i < 32; i++ {
			if bits[i]>>col&1 == 1 {
				bits[i], bits[col] = bits[col], bits[i]
				from[i], from[col] = from[col], from[i]
				break
			}
		}
		for i := range 32 {
			if i != col && bits[i]>>col&1 == 1 {
				bits[i] ^= bits[col]
				from[i] ^= from[col]
			}
		}
	}
	for col := range 32 {
		if want>>col&1 == 1 {
			x ^= from[col]
		}
	}
	binary.BigEndian.PutUint32(tail, x)
	require.Equal(t, crc, string(AppendTrailer(nil, Checksum(0, b))))
	return b
}

// "Frames with the CRC flag set are checked, and decide nothing."
func TestReaderSniffFlagged(t *testing.T) {
	flagged := mustFrame(t, nil, testFrame(t, 10, FlagCRC), TrailerByFlag)
	for _, tr := range []Trailer{TrailerByFlag, TrailerAlways} {
		b := append(bytes.Clone(flagged), flagged...)
		b = mustFrame(t, b, testFrame(t, 10, 0), tr)
		b = mustFrame(t, b, testFrame(t, 20, 0), tr)
		rd := NewReader(bytes.NewReader(b), 0, TrailerSniff)
		for i := range 4 {
			want := TrailerSniff
			if i > 2 {
				want = tr
			}
			_, _, err := rd.Next()
			require.NoError(t, err)
			require.Equal(t, want, rd.Trailer())
		}
		_, err := rd.Payload()
		require.NoError(t, err)
		_, _, err = rd.Next()
		require.Equal(t, io.EOF, err)
	}
}

// A sniffed trailer counts once it is seen.
func TestReaderSniffMaxFrame(t *testing.T) {
	b := mustFrame(t, nil, testFrame(t, 100, 0), TrailerAlways)
	for _, way := range readWays {
		rd := NewReader(bytes.NewReader(b), len(b)-1, TrailerSniff)
		f, _, err := rd.Next()
		require.NoError(t, err)
		for range 2 {
			p, err := way.read(rd, f)
			require.Equal(t, ErrFrameTooLarge, err, way.name)
			require.Empty(t, p)
		}
	}
}

// "SetTrailer changes the mode for the frames that follow."
func TestReaderSetTrailer(t *testing.T) {
	b := mustFrame(t, nil, testFrame(t, 10, 0), TrailerAlways)
	b = mustFrame(t, b, testFrame(t, 10, 0), TrailerByFlag)
	b = mustFrame(t, b, testFrame(t, 10, 0), TrailerAlways)
	b = mustFrame(t, b, testFrame(t, 10, 0), TrailerByFlag)
	rd := NewReader(bytes.NewReader(b), 0, TrailerSniff)
	for _, tr := range []Trailer{TrailerByFlag, TrailerAlways, TrailerByFlag, TrailerAlways} {
		_, _, err := rd.Next()
		require.NoError(t, err)
		rd.SetTrailer(tr)
		p, err := rd.Payload()
		require.NoError(t, err)
		require.Len(t, p, 10)
		require.Equal(t, tr, rd.Trailer(), "a frame of before does not change it")
	}
	_, _, err := rd.Next()
	require.Equal(t, io.EOF, err)
}
