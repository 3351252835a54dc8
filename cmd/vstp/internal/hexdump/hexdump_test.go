package hexdump

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	want := []byte("VT\x01\x03\x00\x00\x00\x00\x00\x00\x05hello")
	plain := hex.EncodeToString(want)
	var c, g bytes.Buffer
	for _, b := range want {
		fmt.Fprintf(&c, "0x%02X, ", b)
		fmt.Fprintf(&g, `\x%02x`, b)
	}
	tests := map[string]string{
		"plain":        plain,
		"upper case":   fmt.Sprintf("%X", want),
		"0x":           "0x" + plain,
		"bytes":        fmt.Sprintf("% x\n", want),
		"lines":        plain[:10] + "\r\n\r\n" + plain[10:] + "\n",
		"C":            "{" + c.String() + "}",
		"Go":           `"` + g.String() + `"`,
		"colons":       "56:54:01:03:00:00:00:00:00:00:05:68:65:6c:6c:6f",
		"comment":      "5654 # the magic bytes\n01030000000000000568656c6c6f # 00",
		"xxd":          "00000000: 5654 0103 0000 0000 0000 0568 656c 6c6f  VT.........hello\n",
		"short xxd":    "00000000: 5654 0103 0000 0000  VT......\n00000008: 0000 05                  ...\n0000000b: 6865 6c6c 6f            hello\n",
		"hexdump":      "00000000  56 54 01 03 00 00 00 00  00 00 05 68 65 6c 6c 6f  |VT.........hello|\n00000010\n",
		"hexdump part": "00000000  56 54 01 03 00 00 00 00  00 00 05                 |VT.........|\n0000000b  68 65 6c 6c 6f                                    |hello|\n00000010\n",
		"tcpdump":      "\t0x0000:  5654 0103 0000 0000 0000 0568 656c 6c6f  VT.........hello\n",
	}
	for name, text := range tests {
		got, err := Parse(text)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	got, err := Parse(" \n# nothing\n")
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, want, Dump(want))
}

// Dump parses what encoding/hex dumps.
func Dump(b []byte) []byte {
	got, err := Parse(hex.Dump(b))
	if err != nil {
		panic(err)
	}
	return got
}

func TestParseErrors(t *testing.T) {
	tests := map[string]string{
		"5654 0":                             "line 1: \"0\" has an odd number of digits",
		"5654\nhello":                        "line 2: \"hello\" is not hexadecimal",
		"00000000  56 54  |VT|\n*\n00000020": "line 2: repeated lines were left out; use hexdump -vC",
		"0000000 5456 0301":                  "line 1: \"0000000\" has an odd number of digits",
	}
	for text, want := range tests {
		_, err := Parse(text)
		require.EqualError(t, err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00000000: 5654  VT")
	f.Add(`0x56,\x54 # c`)
	f.Fuzz(func(t *testing.T, s string) {
		b, err := Parse(s)
		if err != nil {
			return
		}
		if got := Dump(b); !bytes.Equal(got, b) {
			t.Fatalf("%x came back as %x", b, got)
		}
	})
}
