package wireshark_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// sealedPacket makes a packet with that first field, and bytes that nobody can read.
func sealedPacket(typ framing.Type, key string, flags framing.Flags, payload int) []byte {
	b := framing.AppendFixed(nil, typ, flags, 15, int64(payload))
	b = append(append(b, 1, 12, key[0]), "\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xfe\xdc\xba\x98"...)
	b = append(b, someBytes(payload)...)
	if flags.Has(framing.FlagCRC) {
		b = framing.AppendTrailer(b, framing.Checksum(0, b))
	}
	return b
}

// Packets that are sealed, and the frames around them: nothing is read into what is
// encrypted; §8.4, §8.5, §8.9, §8.10.
func TestSealed(t *testing.T) {
	needTshark(t)
	const sealed, phase = framing.FlagSealed, framing.FlagPhase
	id, other := handshake.ConnID{0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7}, handshake.ConnID{1, 2, 3}
	tls := someBytes(300)
	cases := []struct {
		data []byte
		want string
	}{
		{handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{SourceID: id, Data: tls}), "HELLO crypto off=0 len=300"},
		{handshake.AppendRetry(nil, id, []byte("cookie")), "WELCOME retry"},
		{handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{SourceID: id, Cookie: []byte("cookie"), Offset: 1100, Data: tls}), "HELLO with cookie crypto off=1100 len=300"},
		{handshake.AppendCryptoHello(nil, &handshake.CryptoFrame{SourceID: id, HasHave: true, InitialHave: 90, HandshakeHave: 2000}), "HELLO crypto off=0 len=0 has=90,2000"},
		{handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{SourceID: other, ClientID: id, Data: tls}), "WELCOME crypto off=0 len=300"},
		{handshake.AppendCryptoWelcome(nil, &handshake.CryptoFrame{SourceID: other, ClientID: id}), "WELCOME crypto off=0 len=0"},
		{sealedPacket(framing.TypeWelcome, framing.KeyPacket, sealed, 1100), "WELCOME cid=d0d1d2d3d4d5d6d7 sealed (1100 bytes)"},
		{sealedPacket(framing.TypeHello, framing.KeyPacket, sealed|phase, 80), "HELLO cid=d0d1d2d3d4d5d6d7 sealed (80 bytes)"},
		{sealedPacket(framing.TypeHello, framing.KeySourceID, sealed, 500), "HELLO 0-RTT source=d0d1d2d3d4d5d6d7 sealed (500 bytes)"},
		{sealedPacket(framing.TypeData, framing.KeyPacket, sealed, 17), "DATA cid=d0d1d2d3d4d5d6d7 sealed (17 bytes)"},
		{sealedPacket(framing.TypeData, framing.KeyPacket, sealed|phase, 400), "DATA cid=d0d1d2d3d4d5d6d7 sealed (400 bytes)"},
		{handshake.AppendReset(nil, id, [16]byte{1, 2, 3}), "ERR code=13 (unknown id)"},
	}
	rec := &recording{udp: true, serverPort: defaultPort}
	for _, x := range cases {
		rec.add(toServer, x.data)
	}
	c := newCapture()
	port := c.add(rec)
	for _, args := range [][]string{nil, {"-2"}} {
		ps := dissect(t, c.write(t), args...)
		compare(t, ps, rec, port, framing.TrailerByFlag, false)
		for i, n := range framesOf(ps, port, toServer) {
			require.Equal(t, "VSTP, "+cases[i].want, n.Text)
			require.Equal(t, "1", n.child("vstp.profile").Show)
			require.Empty(t, n.all("vstp.chunk"))
			if x := n.experts(); i < len(cases)-1 {
				require.Empty(t, x, n.Text)
			}
			require.Equal(t, strings.Contains(n.Text, "sealed"), len(n.shows("vstp.packet_number_masked")) == 1, n.Text)
		}
		first := framesOf(ps, port, toServer)[0].child("vstp.payload")
		require.Len(t, first.child("vstp.crypto.data").Value, 2*len(tls))
		require.NotEmpty(t, first.child("vstp.padding").Value)
	}
	rec.serverPort = 7777 // by its bytes
	c = newCapture()
	port = c.add(rec)
	compare(t, dissect(t, c.write(t)), rec, port, framing.TrailerByFlag, false)
}

// What is wrong with them is said.
func TestSealedExperts(t *testing.T) {
	needTshark(t)
	source := "\x01\x08\x18\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7"
	frame := func(head string, size int) []byte {
		n := size - framing.FixedLen - framing.TrailerLen - len(head)
		b, err := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeHello, Flags: framing.FlagCRC, Header: []byte(head), Payload: make([]byte, n)}, 0)
		require.NoError(t, err)
		return b
	}
	unsealed := sealedPacket(framing.TypeHello, framing.KeyPacket, framing.FlagCRC, 20)
	cases := []struct {
		name string
		data []byte
		want string
	}{
		{"CRC", sealedPacket(framing.TypeData, framing.KeyPacket, framing.FlagSealed|framing.FlagCRC, 20), "other flags than SEALED"},
		{"no chunk", sealedPacket(framing.TypeData, framing.KeyPacket, framing.FlagSealed, 16), "without a chunk"},
		{"no tag", sealedPacket(framing.TypeHello, framing.KeySourceID, framing.FlagSealed, 0), "without a chunk"},
		{"two fields", slices.Concat(framing.AppendFixed(nil, framing.TypeData, framing.FlagSealed, 19, 20), []byte("\x01\x0c\x01123456789012\x01\x01\x10\x01"), make([]byte, 20)), "only field"},
		{"short HELLO", frame(source+"\x01\x02\x1f\x00\x08", 1199), "less than 1,200"},
		{"length", frame(source+"\x01\x03\x1f\x00\x44\xb0", 1200), "beyond the payload"},
		{"one number", frame(source+"\x01\x01\x1f\x00", 1200), "Value of crypto"},
		{"three numbers", frame(source+"\x01\x03\x1f\x00\x08\x01", 1200), "Value of crypto"},
		{"five numbers", frame(source+"\x01\x05\x1f\x00\x08\x01\x02\x03", 1200), "Value of crypto"},
		{"fields behind", frame(source+"\x01\x02\x1f\x00\x08\x01\x01\x10\x01", 1200), "Fields behind crypto"},
		{"crypto somewhere", frame(source+"\x01\x01\x10\x01\x01\x02\x1f\x00\x08", 1200), "HELLO with a payload"},
	}
	c := newCapture()
	ports := make([]uint16, len(cases))
	for i, x := range cases {
		rec := &recording{udp: true, serverPort: defaultPort}
		rec.add(toServer, x.data)
		ports[i] = c.add(rec)
	}
	crate := &recording{udp: true, serverPort: defaultPort}
	crate.add(toServer, unsealed)
	port := c.add(crate)
	ps := dissect(t, c.write(t))
	for i, x := range cases {
		var all []string
		for _, n := range framesOf(ps, ports[i], toServer) {
			all = append(all, n.experts()...)
		}
		require.Contains(t, strings.Join(all, "\n"), x.want, x.name)
	}
	// Without SEALED it is a frame of the crate.
	require.Equal(t, "2", framesOf(ps, port, toServer)[0].child("vstp.profile").Show)
	require.True(t, bytes.HasPrefix(unsealed, []byte("VT")))
}
