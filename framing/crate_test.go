package framing

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// What crate vstp 0.2.1 encodes and decodes; see testdata/README.md.
type crateVectors struct {
	Encode []crateVector `json:"encode"`
	Decode []crateVector `json:"decode"`
}

type crateVector struct {
	Name     string      `json:"name"`
	Hex      hexBytes    `json:"hex"`
	Frame    *crateFrame `json:"frame"`
	Error    string      `json:"error"`
	Outcome  string      `json:"outcome"`
	Left     int         `json:"left"`
	MaxFrame int         `json:"max_frame"`
}

type crateFrame struct {
	Type         Type          `json:"type"`
	Flags        Flags         `json:"flags"`
	Headers      [][2]hexBytes `json:"headers"`
	Payload      *hexBytes     `json:"payload"`
	PayloadLen   int           `json:"payload_len"`
	PayloadCRC32 hexBytes      `json:"payload_crc32"`
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(t []byte) (err error) {
	*h, err = hex.DecodeString(string(t))
	return err
}

func (f *crateFrame) header() (h Header) {
	for _, kv := range f.Headers {
		h.Add(string(kv[0]), string(kv[1]))
	}
	return h
}

func (f *crateFrame) payload(t *testing.T) []byte {
	p := make([]byte, f.PayloadLen)
	if f.Payload != nil {
		p = *f.Payload
	} else {
		for i := range p {
			p[i] = byte(7*i + 3)
		}
	}
	require.Len(t, p, f.PayloadLen)
	require.Equal(t, []byte(f.PayloadCRC32), AppendTrailer(nil, crc32.ChecksumIEEE(p)))
	return p
}

func readCrateVectors(t testing.TB) (v crateVectors) {
	b, err := os.ReadFile("testdata/crate-vectors.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.Len(t, v.Encode, 26)
	require.Len(t, v.Decode, 44)
	return v
}

// TRAPS I1: the golden frames, in both directions.
func TestCrateEncode(t *testing.T) {
	wantErr := map[string]error{
		"Protocol error: Header key too long":   ErrKeyTooLong,
		"Protocol error: Header value too long": ErrValueTooLong,
	}
	for _, v := range readCrateVectors(t).Encode {
		t.Run(v.Name, func(t *testing.T) {
			h := v.Frame.header()
			raw, err := AppendHeader(nil, h)
			if v.Error != "" {
				require.Equal(t, wantErr[v.Error], err)
				return
			}
			require.NoError(t, err)
			in := Frame{v.Frame.Type, v.Frame.Flags, raw, v.Frame.payload(t)}
			b, err := AppendFrame(nil, in, TrailerAlways)
			require.NoError(t, err)
			require.Equal(t, []byte(v.Hex), b)

			for _, tr := range []Trailer{TrailerAlways, TrailerSniff} {
				f, n, err := Parse(v.Hex, 0, tr)
				require.NoError(t, err)
				require.Equal(t, len(v.Hex), n)
				requireFrame(t, in, f)
			}
			f, trailer, err := ParseDatagram(v.Hex)
			require.NoError(t, err)
			require.True(t, trailer)
			requireFrame(t, in, f)

			got, err := f.Header.AppendTo(nil)
			require.NoError(t, err)
			require.Equal(t, h, got)
		})
	}
}

// TRAPS I2. Where we are stricter than the crate:
//   - a header value must end inside its block, and not in the payload;
//   - a wrong magic, version or type is found before the rest of the frame is there.
//
// And where we are not: unknown flags do not take the known ones with them, save in
// Flags.Legacy.
func TestCrateDecode(t *testing.T) {
	wantErr := map[string]error{
		"Protocol error: Invalid magic bytes":     ErrMagic,
		"Protocol error: Unsupported version":     ErrVersion,
		"Protocol error: Invalid frame type":      ErrType,
		"Protocol error: Frame too large":         ErrFrameTooLarge,
		"Protocol error: Incomplete header value": ErrHeader,
	}
	stricter := map[string]error{
		"header value length runs into the payload (accepted by the crate)": ErrHeader,
	}
	for _, v := range readCrateVectors(t).Decode {
		t.Run(v.Name, func(t *testing.T) {
			f, n, err := Parse(v.Hex, v.MaxFrame, TrailerAlways)
			if want := stricter[v.Name]; want != nil {
				require.Equal(t, "frame", v.Outcome)
				require.Equal(t, want, err)
				return
			}
			switch v.Outcome {
			case "incomplete":
				require.Equal(t, ErrIncomplete, err)
			case "error":
				want := wantErr[v.Error]
				if v.Error[:4] == "CRC " {
					want = ErrChecksum
				}
				require.NotNil(t, want, v.Error)
				require.Equal(t, want, err)
			case "frame":
				require.NoError(t, err)
				require.Equal(t, v.Left, len(v.Hex)-n)
				raw, err := AppendHeader(nil, v.Frame.header())
				require.NoError(t, err)
				require.Equal(t, v.Hex[4], byte(f.Flags))
				f.Flags = f.Flags.Legacy()
				requireFrame(t, Frame{v.Frame.Type, v.Frame.Flags, raw, v.Frame.payload(t)}, f)
			default:
				t.Fatal("unknown outcome")
			}
			if v.Left > 0 || errors.Is(err, ErrFrameTooLarge) {
				return
			}
			// The crate's datagrams go through the same decoder.
			_, _, derr := ParseDatagram(v.Hex)
			require.Equal(t, err, derr)
		})
	}
}

// requireFrame compares the parts of two frames; a nil slice is an empty one.
func requireFrame(t testing.TB, want, got Frame) {
	t.Helper()
	require.Equal(t, want.Type, got.Type)
	require.Equal(t, want.Flags, got.Flags)
	require.Equal(t, hex.EncodeToString(want.Header), hex.EncodeToString(got.Header))
	require.Equal(t, hex.EncodeToString(want.Payload), hex.EncodeToString(got.Payload))
}
