// Package examples builds and runs the programs below it.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var bin string // the directory of the built programs

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "vstp-examples")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./...")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return 1
		}
		bin = dir
		return m.Run()
	}())
}

// A program is a process that runs until the test ends.
type program struct {
	cmd   *exec.Cmd
	lines chan string // of standard error and output
	in    io.WriteCloser
}

func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p := &program{exec.CommandContext(ctx, filepath.Join(bin, exe(name)), args...), make(chan string, 1000), nil}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	w.Close()
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
		r.Close()
	}()
	t.Cleanup(func() {
		cancel()
		p.cmd.Wait()
	})
	return p
}

func exe(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// wait returns what the expression matches in one of the next lines.
func (p *program) wait(t *testing.T, expr string) []string {
	t.Helper()
	re := regexp.MustCompile(expr)
	for line := range p.lines {
		if m := re.FindStringSubmatch(line); m != nil {
			return m
		}
	}
	t.Fatalf("%s ended without saying %q", p.cmd.Path, expr)
	return nil
}

// output runs a program to its end.
func output(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, filepath.Join(bin, exe(name)), args...).CombinedOutput()
	return string(b), err
}

func TestHTTPDemo(t *testing.T) {
	out, err := output(t, "http")
	require.NoError(t, err, out)
	require.Contains(t, out, "hello from net/http, GET /demo")
	require.Contains(t, out, "carried by VSTP over tcp")
}

func TestHTTP(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "page"), []byte("hello over vstp"), 0o644))
	addr := start(t, "http", "-serve", "127.0.0.1:0", "-dir", dir).wait(t, `on (\S+)$`)[1]
	out, err := output(t, "http", "http://"+addr+"/page")
	require.NoError(t, err, out)
	require.Contains(t, out, "200 OK")
	require.Contains(t, out, "hello over vstp")

	sock := filepath.Join(t.TempDir(), "s")
	if len(sock) > 100 || runtime.GOOS == "windows" {
		return
	}
	start(t, "http", "-network", "unix", "-serve", sock, "-dir", dir).wait(t, `on (\S+)$`)
	out, err = output(t, "http", "-network", "unix", "-socket", sock, "http://name/page")
	require.NoError(t, err, out)
	require.Contains(t, out, "hello over vstp")
}

func TestMessages(t *testing.T) {
	server := start(t, "messages", "-serve", "127.0.0.1:0")
	addr := server.wait(t, `on (\S+)$`)[1]
	out, err := output(t, "messages", addr)
	require.NoError(t, err, out)
	require.Equal(t, "server: example\ntemperature 20 stored\npressure 21 stored\nhumidity 22 stored\n", out)
	server.wait(t, `humidity = 22, ack wanted: true`)
	out, err = output(t, "messages", "-token", "wrong", addr)
	require.Error(t, err)
	require.Contains(t, out, "wrong token")
}

func TestUDP(t *testing.T) {
	collector := start(t, "udp", "-collect", "127.0.0.1:0")
	addr := collector.wait(t, `on (\S+)$`)[1]
	out, err := output(t, "udp", addr)
	require.NoError(t, err, out)
	require.Equal(t, "temperature arrived, 2 bytes\npressure arrived, 4 bytes\ncamera arrived, 1000000 bytes\n", out)
	collector.wait(t, `^"pressure" from \S+: 4 bytes, crc32 [0-9a-f]{8}, ack wanted: true$`)
	collector.wait(t, `^"camera" from \S+: 1000000 bytes, `)

	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer nobody.Close()
	out, err = output(t, "udp", "-patience", "50ms", nobody.LocalAddr().String())
	require.Error(t, err)
	require.Contains(t, out, "temperature has not arrived")
}

func TestTLS(t *testing.T) {
	out, err := output(t, "tls")
	require.NoError(t, err, out)
	require.Equal(t, "TLS 1.3 vstp/1 tcp+tls\nhello, alice.example\nwithout TLS: refused\n"+
		"TLS 1.3 vstp/1 udp+tls\nhello, alice.example\nwithout TLS: refused\n", out)
}

func TestAuto(t *testing.T) {
	t.Parallel() // it waits for most of its time
	out, err := output(t, "auto")
	require.NoError(t, err, out)
	require.Regexp(t, `(?s)^connected on udp\nthe network loses UDP now\nmoved from udp to tcp \(.*`+
		`the network carries UDP again\n.*moved from tcp to udp \(.*\d+ MB, whole and in order\n$`, out)
}

func TestFileTransfer(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	file := filepath.Join(from, "file")
	require.NoError(t, os.WriteFile(file, data, 0o644))
	server := start(t, "filetransfer", "-receive", "127.0.0.1:0", "-dir", to)
	addr := server.wait(t, `on (\S+)$`)[1]
	out, err := output(t, "filetransfer", "-send", file, addr)
	require.NoError(t, err, out)
	require.Contains(t, out, "stored 1600000 bytes")
	got, err := os.ReadFile(filepath.Join(to, "file"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	out, err = output(t, "filetransfer", "-send", file, addr) // exists now
	require.Error(t, err)
	require.Contains(t, out, "not stored")
}

func TestChat(t *testing.T) {
	room := start(t, "chat", "-serve", "127.0.0.1:0")
	addr := room.wait(t, `on (\S+)$`)[1]
	join := func(name string) *program {
		p := start(t, "chat", "-name", name, addr)
		room.wait(t, regexp.QuoteMeta(strconv.Quote(name)+`: "joins"`))
		return p
	}
	ann := join("ann")
	bob := join("bob")
	ann.wait(t, "^bob: joins$")
	eve := join("eve\x1b[2J")
	for _, p := range []*program{ann, bob} {
		p.wait(t, `^eve\?\[2J: joins$`)
	}
	io.WriteString(ann.in, "hello everybody\n")
	for _, p := range []*program{bob, eve} {
		p.wait(t, "^ann: hello everybody$")
	}
	io.WriteString(bob.in, strings.Repeat("x", 1000)+"\n")
	ann.wait(t, "^bob: x{1000}$")
	bob.in.Close() // the end of the input ends the client
	ann.wait(t, "^bob: leaves$")
	require.NoError(t, bob.cmd.Wait())
}
