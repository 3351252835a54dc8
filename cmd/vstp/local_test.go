package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/fileproto"
)

func TestHelp(t *testing.T) {
	require.Contains(t, vstpOK(t), "Available Commands")
	for _, name := range []string{"serve", "get", "put", "pipe", "proxy", "ping", "bench", "decode", "cert"} {
		help := vstpOK(t, name, "--help")
		require.Contains(t, help, "Examples:\n", name)
		require.Contains(t, help, "vstp "+name, name)
		require.Greater(t, len(help), 800, name)
	}
}

func TestUsageErrors(t *testing.T) {
	ca, cert, _ := certs(t)
	tests := []struct{ args, want string }{
		{"nonsense", "unknown command"},
		{"pings", `did you mean "ping"`},
		{"ping", "missing argument: ADDRESS"},
		{"ping a b", `unexpected argument "b"`},
		{"ping --bogus a", "unknown flag"},
		{"ping a --count -1", "--count"},
		{"ping a --interval 0s", "--interval"},
		{"ping a --timeout 0s", "--timeout"},
		{"ping a --checksum maybe", "--checksum"},
		{"ping a --header novalue", "--header"},
		{"ping a --header =v", "--header"},
		{"ping a --header " + strings.Repeat("k", 256) + "=v", "--header"},
		{"ping a --header \x01=v", "--header"},
		{"ping a --cert " + cert, "belong together"},
		{"ping a -q -v", "exclude"},
		{"ping a --keepalive -1s", "negative"},
		{"ping a --network rudp --compress", "use --network tcp"},
		{"ping a --network rudp --congestion reno", "bbr or cubic"},
		{"ping a --network tcp --congestion cubic", "rudp"},
		{"ping a --network auto --compress", "use --network tcp"},
		{"ping a --pin sctp", "udp or tcp"},
		{"ping a --prefer any", "udp or tcp"},
		{"ping a --network rudp --pin udp", "--network auto"},
		{"ping a --network tcp --prefer tcp", "--network auto"},
		{"get a/b --network unix --no-standby", "--network auto"},
		{"pipe a --compress --pin udp", "--network auto"},
		{"bench a --pin udp --prefer tcp", "exclude"},
		{"serve . --network udp", "--network rudp"},
		{"serve --network udp --congestion x", "bbr or cubic"},
		{"bench a --network udp -R", "--bidir"},
		{"get --network udp host/x", "--network rudp has both"},
		{"put --network udp4 . host/x", "--network rudp4 has both"},
		{"pipe --network udp host", "--network rudp"},
		{"pipe -l --network udp :0", "--network rudp"},
		{"proxy --network udp --listen vstp://:0 --to tcp://h:1", "--network rudp"},
		{"proxy --network rudp --listen vstp+tls://:0 --to tcp://h:1", "--cert and --key"},
		{"serve . --network rudp --tls", "--cert and --key"},
		{"serve --network udp --tls", "--cert and --key"},
		{"serve", "missing argument"},
		{"serve . --tls", "--cert and --key"},
		{"serve . --client-ca " + ca, "--cert and --key"},
		{"serve . --max-conns 0", "--max-conns"},
		{"get", "missing argument"},
		{"get host", "no path"},
		{"get host/../x", "leaves"},
		{"put x", "missing argument"},
		{"put x host", "no path"},
		{"proxy", "--listen and --to"},
		{"proxy --listen tcp://:1 --to tcp://:2", "one end"},
		{"proxy --listen x --to vstp://y", "should be like"},
		{"proxy --listen vstp+tls://:0 --to tcp://h:1", "--cert and --key"},
		{"proxy extra --listen tcp://:1 --to vstp://a", "unexpected argument"},
		{"bench", "missing argument"},
		{"bench -s extra", "unexpected"},
		{"bench a --rr --bidir", "exclude"},
		{"bench a -P 0", "--parallel"},
		{"bench a -d 0s", "neither"},
		{"bench a -d 2h", "duration"},
		{"bench a --bytes -1", "--bytes"},
		{"bench a --size 100000000", "size"},
		{"decode --crc x 00", "--crc"},
		{"decode --binary 00", "unexpected argument"},
		{"decode --datagram --resync 00", "exclude"},
		{"cert --days 0", "--days"},
		{"cert a/b", "neither a host name"},
	}
	for _, tt := range tests {
		p := start(t, strings.NewReader(""), strings.Split(tt.args, " ")...)
		require.Equal(t, exitUsage, p.wait(), tt.args)
		require.Contains(t, p.stderr.String(), tt.want, tt.args)
		require.Empty(t, p.stdout.String(), tt.args)
		require.Equal(t, 2, strings.Count(p.stderr.String(), "\n"), tt.args)
	}
}

// Without the flag the times are the library's own on datagrams.
func TestKeepAliveFlag(t *testing.T) {
	for _, tt := range []struct {
		value           string
		datagrams       bool
		keepAlive, idle time.Duration
	}{
		{"", false, 30 * time.Second, 120 * time.Second},
		{"", true, 0, 0},
		{"2s", false, 2 * time.Second, 8 * time.Second},
		{"2s", true, 2 * time.Second, 8 * time.Second},
		{"0", false, -1, -1},
		{"0s", true, -1, -1},
	} {
		var k keepAliveFlag
		if tt.value != "" {
			require.NoError(t, k.Set(tt.value))
		}
		var c vstp.Config
		k.apply(&c, tt.datagrams)
		require.Equal(t, tt.keepAlive, c.KeepAlive, tt)
		require.Equal(t, tt.idle, c.IdleTimeout, tt)
	}
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	_, cert, key := certs(t)
	tests := []struct{ args, want string }{
		{"serve " + dir + "/none", "no such file"},
		{"serve " + cert, "not a directory"},
		{"serve . --listen 127.0.0.1:99999", "port"},
		{"serve . --network rudp --listen 127.0.0.1:99999", "port"},
		{"serve . --network bogus --listen :0", "unknown network bogus"},
		{"ping --network bogus a", "unknown network bogus"},
		{"ping --ca " + dir + "/none a", "no such file"},
		{"ping --ca " + key + " a", "no certificate in it"},
		{"ping --cert " + key + " --key " + cert + " a", "loading --cert"},
		{"put " + dir + "/none host/", "no such file"},
		{"decode --file " + dir + "/none", "no such file"},
		{"decode --binary", "empty"},
	}
	for _, tt := range tests {
		require.Contains(t, vstpFails(t, exitFailure, strings.Split(tt.args, " ")...), tt.want, tt.args)
	}
}

func TestCert(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	out := vstpOK(t, "cert", "-d", dir, "example.org", "192.0.2.7", "--days", "3")
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		require.Contains(t, out, filepath.Join(dir, name))
		require.FileExists(t, filepath.Join(dir, name))
	}
	before := readFile(t, filepath.Join(dir, "key.pem"))
	require.Contains(t, vstpFails(t, exitFailure, "cert", "-d", dir), "--force")
	require.Equal(t, before, readFile(t, filepath.Join(dir, "key.pem")))
	vstpOK(t, "cert", "-d", dir, "--force", "--ed25519")
	require.NotEqual(t, before, readFile(t, filepath.Join(dir, "key.pem")))
}

const (
	helloHex = "565401010000000000000090a29464"
	dataHex  = "565401030000000000000568656c6c6ff3ac2614"
	jsonHex  = "56540103021e00000000020c10636f6e74656e742d747970656170706c69636174696f6e2f6a736f6e7b7df0ae409e"
)

func TestDecode(t *testing.T) {
	out := vstpOK(t, "decode", helloHex, dataHex, jsonHex)
	require.Contains(t, out, "#1 at offset 0, 15 bytes, CRC ok: HELLO")
	require.Contains(t, out, "#2 at offset 15, 20 bytes, CRC ok: DATA")
	require.Contains(t, out, `"hello"`)
	require.Contains(t, out, `"content-type": "application/json"`)

	file := filepath.Join(t.TempDir(), "f")
	writeFile(t, file, []byte("00000000: 5654 0103 0000 0000 0000 0568 656c 6c6f  VT.........hello\n"))
	require.Contains(t, vstpOK(t, "decode", "--file", file), "no CRC: DATA")
	require.Contains(t, vstpFails(t, exitFailure, "decode", file), "--file")
	writeFile(t, file, []byte("VT\x01\x03\x00\x00\x00\x00\x00\x00\x05hello"))
	require.Contains(t, vstpOK(t, "decode", "--binary", "-f", file), `"hello"`)
	require.Contains(t, vstpFails(t, exitFailure, "decode", "-f", file), "--binary")
	require.Contains(t, vstpOK(t, "decode", "--datagram", dataHex), "CRC ok: DATA")

	p := start(t, strings.NewReader(dataHex), "decode")
	require.Equal(t, exitOK, p.wait())
	require.Contains(t, p.stdout.String(), `"hello"`)
}

// Packets are shown chunk by chunk: those of PROTOCOL §A.32 and §A.33.
func TestDecodePacket(t *testing.T) {
	out := vstpOK(t, "decode", "--datagram", "56540103000f000000000f", "010c01d0d1d2d3d4d5d6d700000007", "02054190010100020800", "68656c6c6f")
	require.Contains(t, out, "connection id d0d1d2d3d4d5d6d7, packet number 7 ")
	require.Contains(t, out, "  ACK delay=400us 4-5 0-2\n  STREAM stream=0 offset=0 length=5 \"hello\"\n")
	out = vstpOK(t, "decode", "56540103020f0000000018", "010c01d0d1d2d3d4d5d6d700000102", "1080200000", "110080100000",
		"0f00800111700362796500000020", "0a4174")
	require.Contains(t, out, "  MAX_DATA credit=2097152\n  MAX_STREAM_DATA stream=0 credit=1048576\n"+
		"  STREAM stream=0 offset=70000 fin length=3 \"bye\"\n  PADDING length=3\n")
	require.NotContains(t, vstpOK(t, "decode", dataHex), "connection id")
}

func TestDecodeErrors(t *testing.T) {
	tests := []struct{ hex, want string }{
		{"00", "magic bytes: 00 instead of 56 54"},
		{"565402" + dataHex[6:], "unsupported version: 2 at offset 2"},
		{"56540109" + dataHex[8:], "unknown frame type: 9 at offset 3"},
		{dataHex + "5654", "frame 2 at offset 20: incomplete frame: 2 of the 11 bytes"},
		{dataHex[:26], "a DATA frame of 16 bytes (0 of header, 5 of payload), of which 13 are here"},
		{dataHex[:38] + "15", "CRC mismatch: f3ac2615 at offset 16, computed f3ac2614"},
		{"5654010300" + "0000" + "ffffffff", "frame too large"},
		{"5654010300" + "0300" + "00000000" + "050061", "header block does not add up: field 1 at offset 11"},
		{"", "empty"},
	}
	for _, tt := range tests {
		require.Contains(t, vstpFails(t, exitFailure, "decode", tt.hex), tt.want, tt.hex)
	}
	p := start(t, strings.NewReader("00"+dataHex+"ff"+helloHex), "decode", "--resync")
	require.Equal(t, exitFailure, p.wait())
	require.Equal(t, 1, strings.Count(p.stdout.String(), "DATA"))
	require.Equal(t, 1, strings.Count(p.stdout.String(), "HELLO"))
	require.Contains(t, vstpFails(t, exitFailure, "decode", "--datagram", dataHex+"00"), "offset 0")
}

func TestExplain(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{vstp.ErrTLSRequired, "add --tls"},
		{vstp.ErrNotTLS, "no TLS"},
		{syscall.ECONNREFUSED, "is a vstp server running there?"},
		{x509.UnknownAuthorityError{}, "--ca"},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "--server-name"},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "new certificate"},
		{&vstp.ProtocolError{Remote: true, Code: vstp.CodeAlert, Reason: "tls: certificate required"}, "--cert FILE --key FILE"},
		{&vstp.ProtocolError{Remote: true, Code: vstp.CodeAlert, Reason: "tls: unknown certificate authority"}, "--ca there"},
		{&vstp.ProtocolError{Remote: true, Code: vstp.CodeAlert, Reason: "tls: expired certificate"}, "has expired"},
		{errors.New("tls: expired certificate"), "has expired"},
		{&vstp.RefusedError{Reason: "not today"}, "refused the connection: not today"},
		{&vstp.RefusedError{}, "refused the connection"},
		{&vstp.ProtocolError{Remote: true, Code: vstp.CodeApplication, Reason: "disk full"}, "gave up: disk full"},
		{net.UnknownNetworkError("x"), "--network"},
		{io.ErrUnexpectedEOF, "hung up at once"},
		{os.ErrDeadlineExceeded, "--timeout"},
		{errors.New("vstp: x: framing: y"), "x: y"},
	}
	for _, tt := range tests {
		require.Contains(t, explain(&net.OpError{Op: "dial", Net: "tcp", Err: tt.err}), tt.want)
	}
	require.Equal(t, "a [2Jb c", oneLine("a\x1b[2Jb\nc"))
	var out strings.Builder
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Equal(t, exitFailure, run(ctx, []string{"pipe", "-l", "127.0.0.1:0"}, strings.NewReader(""), &out, &out))
	require.Contains(t, out.String(), "vstp: interrupted")
}

func TestWorthAnotherTry(t *testing.T) {
	busy := &fileproto.RemoteError{Code: fileproto.CodeBusy}
	for err, want := range map[error]bool{
		&fileproto.FilesError{First: busy}:                                               true,
		&fileproto.FilesError{First: &fileproto.RemoteError{Code: fileproto.CodeDenied}}: false,
		&connError{syscall.ECONNREFUSED}:                                                 true,
		&connError{&vstp.RefusedError{}}:                                                 false,
		io.ErrUnexpectedEOF:                                                              true,
		&net.OpError{Op: "read", Err: syscall.ECONNRESET}:                                true,
		&net.OpError{Op: "read", Err: &vstp.ProtocolError{}}:                             true,
		fileproto.ErrProtocol:                                                            false,
		errors.New("local"):                                                              false,
	} {
		require.Equal(t, want, isBroken(err), err)
	}
}
