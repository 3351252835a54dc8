package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// tree returns what is below dir, with content, times and permissions.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if rel == "." {
			return nil
		}
		if d.IsDir() {
			got[rel] = info.Mode().String()
			return nil
		}
		got[rel] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), readFile(t, p))
		return nil
	}))
	return got
}

// makeTree fills dir with files of several sizes.
func makeTree(t testing.TB, dir string) {
	for name, n := range map[string]int{"a": 0, "b.bin": 100, "sub/c": 200_000, "sub/deep/er/d": 1 << 20, "sub/e e": 7} {
		writeFile(t, filepath.Join(dir, name), randomBytes(byte(n), n))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "b.bin"), 0o751))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o700))
}

func TestServeGetPut(t *testing.T) {
	onSites(t, func(t *testing.T, s site) {
		src, dst := t.TempDir(), t.TempDir()
		makeTree(t, src)
		addr, server := s.serve(t, "serve", "--writable", src)
		addr += s.suffix
		get := func(args ...string) string {
			t.Helper()
			p := start(t, strings.NewReader(""), s.args(append([]string{"get"}, args...)...)...)
			require.Equal(t, exitOK, p.wait(), p.stderr.String())
			return p.stderr.String()
		}
		require.Contains(t, get(addr+"/", dst+"/all"), "5 files")
		require.Equal(t, tree(t, src), tree(t, dst+"/all"))
		require.Contains(t, get(addr+"/", dst+"/all"), "0 files, 0 B")
		require.Contains(t, get("--force", addr+"/", dst+"/all"), "5 files")

		get(addr+"/b.bin", dst)
		require.Equal(t, tree(t, src)["b.bin"], tree(t, dst)["b.bin"])
		get(addr+"/b.bin", dst+"/renamed")
		require.Equal(t, tree(t, src)["b.bin"], tree(t, dst)["renamed"])
		get(addr+"/sub", dst)
		require.Equal(t, tree(t, src+"/sub"), tree(t, dst+"/sub"))
		get(addr+"/sub/", dst+"/other")
		require.Equal(t, tree(t, src+"/sub"), tree(t, dst+"/other"))
		get(addr+"/a", addr+"/sub/c", dst+"/two")
		require.Len(t, tree(t, dst+"/two"), 2)

		put := func(args ...string) string {
			t.Helper()
			p := start(t, strings.NewReader(""), s.args(append([]string{"put"}, args...)...)...)
			require.Equal(t, exitOK, p.wait(), p.stderr.String())
			return p.stderr.String()
		}
		require.Contains(t, put(dst+"/all", addr+"/up"), "5 files")
		require.Equal(t, tree(t, dst+"/all"), tree(t, src+"/up"))
		require.Contains(t, put(dst+"/all", addr+"/up/"), "5 files") // into it now
		require.Equal(t, tree(t, dst+"/all"), tree(t, src+"/up/all"))
		require.Contains(t, put(dst+"/all", addr+"/up"), "5 unchanged")
		put(dst+"/b.bin", addr+"/")
		put(dst+"/b.bin", addr+"/copy")
		require.Equal(t, tree(t, src)["b.bin"], tree(t, src)["copy"])
		put(dst+"/all/a", dst+"/b.bin", addr+"/new/dir")
		require.Len(t, tree(t, src+"/new/dir"), 2)

		require.Contains(t, vstpFails(t, exitFailure, s.args("get", addr+"/none", dst)...), "no such file")
		require.Contains(t, vstpFails(t, exitFailure, s.args("get", addr+"/a/", dst)...), "not a directory")
		require.Equal(t, exitOK, server.interrupt())
		require.Regexp(t, `(?m) get "b.bin" 100 bytes in .* sha256=[0-9a-f]{64}$`, server.stderr.String())
		require.Regexp(t, `(?m) put "copy" 100 bytes in .* sha256=[0-9a-f]{64}$`, server.stderr.String())
	})
}

func TestServeReadOnlyAndQuiet(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	writeFile(t, src+"/f", []byte("x"))
	require.NoError(t, os.Symlink("/etc/hostname", src+"/link"))
	addr, _ := tcpSite.serve(t, "serve", src)
	require.Contains(t, vstpFails(t, exitFailure, "put", src+"/f", addr+"/g"), "--writable")
	require.Contains(t, vstpFails(t, exitFailure, "get", addr+"/link", dst), "leaves the served directory")
	p := start(t, strings.NewReader(""), "get", "-q", addr+"/f", dst)
	require.Equal(t, exitOK, p.wait())
	require.Empty(t, p.stderr.String())
	require.Empty(t, p.stdout.String())
}

func TestClientCertificateDemanded(t *testing.T) {
	ca, cert, key := certs(t)
	src := t.TempDir()
	writeFile(t, src+"/f", []byte("x"))
	addr, _ := tcpSite.serve(t, "serve", src, "--cert", cert, "--key", key, "--client-ca", ca)
	dst := t.TempDir()
	vstpOK(t, "get", "--ca", ca, "--cert", cert, "--key", key, addr+"/f", dst)
	require.Contains(t, vstpFails(t, exitFailure, "get", "--ca", ca, addr+"/f", dst+"/2"), "--cert")
	require.Contains(t, vstpFails(t, exitFailure, "get", "--tls", addr+"/f", dst+"/2"), "--ca")
	require.Contains(t, vstpFails(t, exitFailure, "get", addr+"/f", dst+"/2"), "--tls")
	require.NoFileExists(t, dst+"/2")
	require.Contains(t, vstpFails(t, exitFailure, "get", "--ca", ca, "--server-name", "example.org", "--cert", cert, "--key", key,
		addr+"/f", dst+"/2"), "--server-name")

	u := site{network: "unix", listen: t.TempDir() + "/s", server: []string{"--network", "unix", "--cert", cert, "--key", key}}
	if len(u.listen) < 100 {
		sock, _ := u.serve(t, "serve", src)
		require.Contains(t, vstpFails(t, exitFailure, "ping", "--network", "unix", "--ca", ca, sock), "--server-name")
	}

	plain, _ := tcpSite.serve(t, "serve", src)
	require.Contains(t, vstpFails(t, exitFailure, "get", "--ca", ca, plain+"/f", dst+"/2"), "no TLS")
	vstpOK(t, "get", "--insecure", "--cert", cert, "--key", key, addr+"/f", dst+"/2")
}

// A cutter carries TCP connections to a target, and cuts the first ones off after so
// many bytes from the target.
type cutter struct {
	net.Listener
	target string
	wg     sync.WaitGroup
}

func newCutter(t *testing.T, target string, limits ...int64) *cutter {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{Listener: ln, target: target}
	c.wg.Go(func() {
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			limit := int64(1 << 40)
			if len(limits) > 0 {
				limit, limits = limits[0], limits[1:]
			}
			c.wg.Go(func() { c.carry(a, limit) })
		}
	})
	t.Cleanup(func() { ln.Close(); c.wg.Wait() })
	return c
}

func (c *cutter) carry(a net.Conn, limit int64) {
	defer a.Close()
	b, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer b.Close()
	both := make(chan bool, 2)
	n := limit // of both directions together would need a lock; either one is enough
	go func() { io.CopyN(b, a, n); both <- true }()
	go func() { io.CopyN(a, b, n); both <- true }()
	<-both
	a.Close()
	b.Close()
	<-both
}

func TestResumeAfterBreak(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	data := randomBytes(1, 8<<20)
	writeFile(t, src+"/big", data)
	addr, server := tcpSite.serve(t, "serve", "--writable", src)
	cut := newCutter(t, addr, 3<<20, 1<<20).Addr().String()

	require.Contains(t, vstpFails(t, exitFailure, "get", cut+"/big", dst), "the connection broke")
	info, err := os.Stat(dst + "/big.vstp-part")
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(1<<20))
	require.NoFileExists(t, dst+"/big")
	p := start(t, strings.NewReader(""), "get", "--retries", "1", cut+"/big", dst)
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Contains(t, p.stderr.String(), "trying again")
	require.Contains(t, p.stderr.String(), "going on at")
	require.Equal(t, tree(t, src), tree(t, dst))
	server.stderr.wait(t, `get "big" 8388608 bytes in .*resumed at \d+`)

	// The same the other way round.
	cut = newCutter(t, addr, 3<<20).Addr().String()
	msg := vstpFails(t, exitFailure, "put", dst+"/big", cut+"/up")
	require.NotEmpty(t, msg)
	server.stderr.wait(t, `put "up" failed`)
	require.NoFileExists(t, src+"/up")
	require.FileExists(t, src+"/.up.vstp-part")
	p = start(t, strings.NewReader(""), "put", dst+"/big", cut+"/up")
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Contains(t, p.stderr.String(), "1 resumed")
	require.True(t, bytes.Equal(data, []byte(readFile(t, src+"/up"))))
	require.NoFileExists(t, src+"/.up.vstp-part")

	// A source that has changed meanwhile starts again.
	require.NoError(t, os.WriteFile(dst+"/new.vstp-part", data[:1000], 0o600))
	writeFile(t, src+"/new", randomBytes(2, 5000))
	p = start(t, strings.NewReader(""), "get", addr+"/new", dst)
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Contains(t, p.stderr.String(), "starting again")
	require.Equal(t, readFile(t, src+"/new"), readFile(t, dst+"/new"))
}

// A client that is interrupted says how to go on, and the server lives.
func TestInterrupt(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	writeFile(t, src+"/big", randomBytes(1, 4<<20))
	addr, _ := tcpSite.serve(t, "serve", src)
	// The connection stands still after a while, so that the interrupt comes in time.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	stuck := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		a, err := ln.Accept()
		if err != nil {
			return
		}
		defer a.Close()
		b, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer b.Close()
		wg.Go(func() { io.Copy(b, a); b.Close() })
		io.CopyN(a, b, 2<<20)
		close(stuck)
		io.Copy(io.Discard, a)
	})
	p := start(t, strings.NewReader(""), "get", ln.Addr().String()+"/big", dst)
	<-stuck
	require.Eventually(t, func() bool {
		info, err := os.Stat(dst + "/big.vstp-part")
		return err == nil && info.Size() > 0
	}, patience, time.Millisecond)
	require.Equal(t, exitFailure, p.interrupt())
	require.Contains(t, p.stderr.String(), "interrupted; the same command goes on from here")
	require.FileExists(t, dst+"/big.vstp-part")
	wg.Wait()
	vstpOK(t, "get", addr+"/big", dst)
	require.Equal(t, tree(t, src), tree(t, dst))
}

// Transfers that run when the server is told to end may finish; new ones may not.
func TestGracefulShutdown(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	writeFile(t, src+"/big", randomBytes(1, 16<<20))
	addr, server := tcpSite.serve(t, "serve", src)
	host, gate := newGate(t, addr)
	p := start(t, strings.NewReader(""), "get", host+"/big", dst)
	<-gate.reached
	server.cancel()
	// The listener is closed before the loop waits; a dial that fails shows it.
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
	}
	close(gate.open)
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Equal(t, exitOK, server.wait())
	require.Equal(t, tree(t, src), tree(t, dst))
}

// A gate lets one connection through until some bytes have come from the target, and
// the rest when it is opened.
type gate struct{ reached, open chan struct{} }

func newGate(t *testing.T, target string) (string, *gate) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{make(chan struct{}), make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		a, err := ln.Accept()
		if err != nil {
			return
		}
		defer a.Close()
		b, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", target)
		if err != nil {
			return
		}
		defer b.Close()
		wg.Go(func() { io.Copy(b, a); b.(*net.TCPConn).CloseWrite() })
		io.CopyN(a, b, 100_000)
		close(g.reached)
		<-g.open
		io.Copy(a, b)
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String(), g
}

// get and put notice at once when the server is one for something else.
func TestWrongService(t *testing.T) {
	addr, _ := tcpSite.serve(t, "bench", "-s")
	require.Contains(t, vstpFails(t, exitFailure, "get", addr+"/x", t.TempDir()), "speaks")
	files, _ := tcpSite.serve(t, "serve", t.TempDir())
	require.Contains(t, vstpFails(t, exitFailure, "bench", files), "vstp bench -s")
}

// One file of many that cannot be read does not keep the others away.
func TestSomeFail(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can read everything")
	}
	src, dst := t.TempDir(), t.TempDir()
	makeTree(t, src)
	require.NoError(t, os.Chmod(src+"/b.bin", 0))
	addr, _ := tcpSite.serve(t, "serve", src)
	require.Contains(t, vstpFails(t, exitFailure, "get", addr+"/", dst), "1 of 5 files failed")
	require.FileExists(t, dst+"/sub/deep/er/d")
}
