package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// TestMain fails a run that leaves goroutines behind. What a command has closed may drain
// in the background for as long as its linger.
func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := certDir(); err == nil {
		os.RemoveAll(dir)
	}
	for deadline := time.Now().Add(patience); code == 0; {
		err := goleak.Find() // waits for a moment by itself
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// A syncBuffer collects output, and lets a test wait for some.
type syncBuffer struct {
	mu   sync.Mutex
	cond sync.Cond
	buf  bytes.Buffer
}

func newSyncBuffer() *syncBuffer {
	b := &syncBuffer{}
	b.cond.L = &b.mu
	return b
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cond.Broadcast()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// wait returns what the expression matches in the output, when it does.
func (b *syncBuffer) wait(t testing.TB, expr string) []string {
	t.Helper()
	re := regexp.MustCompile(expr)
	late := false
	timer := time.AfterFunc(patience, func() {
		b.mu.Lock()
		late = true
		b.mu.Unlock()
		b.cond.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if m := re.FindStringSubmatch(b.buf.String()); m != nil {
			return m
		}
		if late {
			t.Fatalf("no match for %q in %q", expr, b.buf.String())
		}
		b.cond.Wait()
	}
}

// A process is a command that runs in this process.
type process struct {
	t              testing.TB
	stdout, stderr *syncBuffer
	cancel         context.CancelFunc
	code           chan int
}

// start runs a command until it ends or the test does.
func start(t testing.TB, stdin io.Reader, args ...string) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t, newSyncBuffer(), newSyncBuffer(), cancel, make(chan int, 1)}
	go func() { p.code <- run(ctx, args, stdin, p.stdout, p.stderr) }()
	t.Cleanup(func() { p.interrupt() })
	return p
}

// interrupt does what a signal does, and returns the exit code.
func (p *process) interrupt() int {
	p.cancel()
	return p.wait()
}

// wait returns the exit code when the command has ended.
func (p *process) wait() int {
	select {
	case code := <-p.code:
		p.code <- code
		return code
	case <-time.After(patience):
		p.t.Errorf("the command does not end; it said %q", p.stderr.String())
		return -1
	}
}

// vstpOK runs a command that must succeed, and returns its output.
func vstpOK(t testing.TB, args ...string) string {
	t.Helper()
	p := start(t, strings.NewReader(""), args...)
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	return p.stdout.String()
}

// vstpFails runs a command that must fail with the code, and returns its one line.
func vstpFails(t testing.TB, code int, args ...string) string {
	t.Helper()
	p := start(t, strings.NewReader(""), args...)
	require.Equal(t, code, p.wait(), p.stderr.String())
	lines := strings.Split(strings.TrimRight(p.stderr.String(), "\n"), "\n")
	if code == exitUsage {
		require.Len(t, lines, 2)
		require.Regexp(t, `^Run 'vstp.* --help' for usage\.$`, lines[1])
	}
	require.True(t, strings.HasPrefix(lines[0], "vstp: "), lines[0])
	return lines[len(lines)-1]
}

// A site is a way for both sides to meet: a network with or without TLS.
type site struct {
	network        string
	listen         string
	tls            bool
	server, client []string // flags
	suffix         string   // after the address, before a path
}

// certDir makes certificates for localhost once.
var certDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vstp")
	if err != nil {
		return "", err
	}
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{})
	if err != nil {
		return "", err
	}
	return dir, dev.WriteFiles(dir, false)
})

func certs(t testing.TB) (ca, cert, key string) {
	dir, err := certDir()
	require.NoError(t, err)
	return filepath.Join(dir, tlsvstp.CAFile), filepath.Join(dir, tlsvstp.CertFile), filepath.Join(dir, tlsvstp.KeyFile)
}

// onSites runs a test on every network and with TLS.
func onSites(t *testing.T, test func(t *testing.T, s site)) {
	for _, network := range []string{"tcp", "unix", "rudp", "auto"} {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,tls=%v", network, tls), func(t *testing.T) {
				s := site{network: network, listen: "127.0.0.1:0"}
				if network == "unix" {
					dir, err := os.MkdirTemp("", "vstp") // t.TempDir can be too long for a socket
					require.NoError(t, err)
					t.Cleanup(func() { os.RemoveAll(dir) })
					s.listen, s.suffix = filepath.Join(dir, "s"), "/"
				}
				s.server = []string{"--network", network}
				s.client = []string{"--network", network}
				if tls {
					s = s.withTLS(t)
				}
				test(t, s)
			})
		}
	}
}

// withTLS returns s with flags for TLS.
func (s site) withTLS(t testing.TB) site {
	ca, cert, key := certs(t)
	s.tls = true
	s.server = append(s.server[:len(s.server):len(s.server)], "--cert", cert, "--key", key)
	s.client = append(s.client[:len(s.client):len(s.client)], "--ca", ca)
	if s.network == "unix" {
		s.client = append(s.client, "--server-name", "localhost")
	}
	return s
}

// serve starts a server command on the site and returns its address.
func (s site) serve(t testing.TB, args ...string) (addr string, p *process) {
	t.Helper()
	args = append(args[:len(args):len(args)], s.server...)
	p = start(t, strings.NewReader(""), append(args, "--listen", s.listen)...)
	return p.stderr.wait(t, `(?m)^vstp: .* on (\S+)$`)[1], p
}

// args returns a client's command line.
func (s site) args(args ...string) []string { return append(args[:len(args):len(args)], s.client...) }

// tcpSite has a server on TCP alone. Clients that are told nothing find that out.
var tcpSite = site{network: "tcp", listen: "127.0.0.1:0", server: []string{"--network", "tcp"}, client: []string{"--network", "tcp"}}

// path reports whether commands tell about the path of packets.
func (s site) path() bool { return s.network == "rudp" || s.network == "auto" }

// writeFile makes a file with a time in the past.
func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, data, 0o644))
	require.NoError(t, os.Chtimes(path, fileTime, fileTime))
}

var fileTime = time.Date(2021, 3, 4, 5, 6, 7, 8000, time.UTC)

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func itoa(n int) string { return strconv.Itoa(n) }

// verifyToken is a VerifyHello hook that wants a token.
func verifyToken(_ context.Context, hello *vstp.HelloInfo) (vstp.Header, error) {
	if hello.Header.Get("token") != "secret=1" {
		return nil, &vstp.RefusedError{Reason: "no token"}
	}
	return nil, nil
}
