package framing

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAppendText(t *testing.T) {
	varints := func(vs ...uint64) string {
		var b []byte
		for _, v := range vs {
			b = AppendVarint(b, v)
		}
		return string(b)
	}
	for _, tt := range []struct {
		name string
		f    Frame
		h    Header
		want string
	}{
		{
			name: "bare",
			f:    Frame{Type: TypeHello},
			want: "HELLO flags=0 header=0 payload=0\n",
		},
		{
			name: "user fields are quoted",
			f:    Frame{Type: TypeData, Flags: FlagCRC | 0x04, Payload: []byte("hello\n")},
			h:    Header{{"content-type", "text/plain"}, {"", ""}, {"\x1b[31m", "x"}, {"k", "\x1b[31m\xff"}},
			want: "DATA flags=CRC|0x4 header=43 payload=6\n" +
				"  \"content-type\": \"text/plain\"\n" +
				"  \"\": \"\"\n" +
				"  reserved 0x1b5b33316d: 78\n" +
				"  \"k\": \"\\x1b[31m\\xff\"\n" +
				"  payload: \"hello\\n\"\n",
		},
		{
			name: "reserved keys",
			f:    Frame{Type: TypeWelcome},
			h: Header{
				{KeyPacket, "\x01\x02"}, {KeyMessage, varints(5, 100000, 1200)}, {KeyCancel, varints(70)},
				{KeyCode, varints(4)}, {KeyCode, varints(0x101)}, {KeyClose, ""}, {KeyPing, "\xab"},
				{KeyVersions, varints(2, 1)}, {KeySessionID, "0123456789abcdef"}, {KeyMaxFrame, varints(8 << 20)},
				{KeyMaxMessage, varints(1 << 30)}, {KeyChecksum, "\x01"}, {KeyCompress, "\x02\x01"},
				{KeyIdle, varints(30000)}, {"\x0f", "?"}, {KeyMessage, "\xff"}, {KeyIdle, varints(1, 2)},
			},
			want: "WELCOME flags=0 header=107 payload=0\n" +
				"  packet: 0102\n" +
				"  message: 5 100000 1200\n" +
				"  cancel: 70\n" +
				"  code: 4 (checksum mismatch)\n" +
				"  code: 257 (application error 1)\n" +
				"  close: empty\n" +
				"  ping: ab\n" +
				"  versions: 2 1\n" +
				"  session-id: 30313233343536373839616263646566\n" +
				"  max-frame: 8388608\n" +
				"  max-message: 1073741824\n" +
				"  checksum: 01\n" +
				"  compress: 0201\n" +
				"  idle: 30000 ms\n" +
				"  reserved 0x0f: 3f\n" +
				"  message: ff\n" +
				"  idle: 1 2\n",
		},
		{
			name: "binary payload, long",
			f:    Frame{Type: TypeData, Payload: make([]byte, 1000)},
			want: "DATA flags=0 header=0 payload=1000\n" +
				"  payload: " + strings.Repeat("00", 64) + "...\n",
		},
		{
			name: "text payload, a character cut off",
			f:    Frame{Type: TypeData, Payload: []byte(strings.Repeat("x", 63) + "é")},
			want: "DATA flags=0 header=0 payload=65\n" +
				"  payload: \"" + strings.Repeat("x", 63) + "\\xc3\"...\n",
		},
		{
			name: "not quite text",
			f:    Frame{Type: 99, Payload: []byte("a\xffb")},
			want: "Type(99) flags=0 header=0 payload=3\n" +
				"  payload: 61ff62\n",
		},
		{
			name: "control character",
			f:    Frame{Type: TypeErr, Payload: []byte("\x1b[2J")},
			want: "ERR flags=0 header=0 payload=4\n" +
				"  payload: 1b5b324a\n",
		},
		{
			name: "malformed header",
			f:    Frame{Type: TypeData, Header: RawHeader("\x01\x01kv\x05")},
			want: "DATA flags=0 header=5 payload=0\n" +
				"  \"k\": \"v\"\n" +
				"  malformed header: 05\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.h != nil {
				var err error
				tt.f.Header, err = AppendHeader(nil, tt.h)
				require.NoError(t, err)
			}
			require.Equal(t, "> "+tt.want, string(AppendText([]byte("> "), tt.f)))
		})
	}
}

// The keys of HELLO and WELCOME in datagrams have names. PROTOCOL §7.3, §8.5.
func TestAppendTextDatagramKeys(t *testing.T) {
	for _, tt := range []struct{ key, value, want string }{
		{KeyCookie, "\x01\x02", "cookie: 0102"},
		{KeySourceID, "\xff\x00", "source-id: ff00"},
		{KeyPart, "\x05\x00", "part: 5 0"},
		{KeyMaxDatagram, "\x44\xb0", "max-datagram: 1200"},
		{KeyCredit, "\x01\x02\x03\x04", "credit: 1 2 3 4"},
		{KeyAckDelay, "\x43\xe8", "ack-delay: 1000"},
		{KeyService, "\x01", "service: 01"},
		{KeyPadding, "\x00", "padding: 00"},
		{KeyResetToken, "0123", "reset-token: 30313233"},
		{KeyConfirm, "\x01", "confirm: 01"},
		{KeyCarriers, "\x00\x01", "carriers: 0001"},
		{KeyAttach, "0123", "attach: 30313233"},
		{KeyCrypto, "\x00\x44\xb0", "crypto: 0 1200"},
	} {
		require.Equal(t, tt.want, string(appendFieldText(nil, []byte(tt.key), []byte(tt.value))))
	}
}
