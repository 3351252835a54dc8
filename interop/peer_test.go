package interop_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
)

// patience is how long anything may take that has to happen.
const patience = 30 * time.Second

// program builds the Rust program once and returns its path.
var program = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("cargo", "build", "--locked", "--quiet", "--target-dir", "target")
	cmd.Dir = "rust"
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cargo build: %v\n%s", err, out)
	}
	return filepath.Abs(filepath.Join("rust", "target", "debug", "peer"))
})

// need skips the test unless tests against the crate are asked for.
func need(t testing.TB) string {
	t.Helper()
	if os.Getenv("VSTP_INTEROP") == "" {
		t.Skip("needs cargo and the crate vstp 0.2.1: set VSTP_INTEROP=1, or use interop/run")
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A peer is the Rust program in one role of the crate.
type peer struct {
	t     testing.TB
	role  string
	addr  string // of a server
	stdin io.WriteCloser

	mu     sync.Mutex
	seq    int
	events []event
	more   chan struct{} // closed and replaced when there is one more
	ended  bool
}

// An event is a line of the program.
type event struct {
	Event   string
	Seq     int
	Client  int
	Conn    int
	Round   int
	On      string
	Peer    string
	Addr    string
	Type    int
	Flags   int
	Headers [][2]string
	Len     int
	FNV     string
	Head    string
	Error   string
	TCP     bool
	UDP     string
}

// isContent reports whether e is something that the crate gave to its application.
func (e event) isContent() bool { return e.Event == "frame" || e.Event == "value" }

// header returns the header fields of e.
func (e event) header() (h vstp.Header) {
	for _, f := range e.Headers {
		k, _ := hex.DecodeString(f[0])
		v, _ := hex.DecodeString(f[1])
		h = append(h, vstp.Field{Key: string(k), Value: string(v)})
	}
	return h
}

// command is what the program is told.
type command map[string]any

// newPeer starts the program. It ends with the test.
func newPeer(t testing.TB, role string, args ...string) *peer {
	t.Helper()
	cmd := exec.Command(need(t), append([]string{role}, args...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, role: role, stdin: stdin, more: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(stdout)
	}()
	t.Cleanup(func() {
		stdin.Close()
		stop := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		<-read
		if err := cmd.Wait(); err != nil || strings.Contains(stderr.String(), "panicked") {
			t.Errorf("%s: %v\n%s", role, err, stderr.String())
		}
		stop.Stop()
	})
	return p
}

// newServer starts the program as a server.
func newServer(t testing.TB, role string, args ...string) *peer {
	t.Helper()
	if strings.HasPrefix(role, "easy") || strings.HasPrefix(role, "auto") {
		return newEasyServer(t, role, args...)
	}
	p := newPeer(t, role, args...)
	p.addr = p.wait("ready", isEvent("ready")).Addr
	return p
}

// newEasyServer starts a server of easy, which does not tell its port: it gets one that
// is free, or another one if that was taken meanwhile.
func newEasyServer(t testing.TB, role string, args ...string) *peer {
	t.Helper()
	for range 10 {
		addr := freePort(t)
		p := newPeer(t, role, append(args, "--addr", addr)...)
		p.addr = addr
		if p.wait("ready", isEvent("ready", "failed")).Event == "ready" {
			return p
		}
	}
	t.Fatal("no free port")
	return nil
}

// freePort returns an address that neither TCP nor UDP uses.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		pc, err := net.ListenPacket("udp", addr)
		ln.Close()
		if err == nil {
			pc.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

func (p *peer) read(r io.Reader) {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadBytes('\n')
		if err != nil {
			break
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			p.t.Errorf("%s says %q", p.role, line)
			continue
		}
		p.mu.Lock()
		p.events = append(p.events, e)
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.ended = true
	close(p.more)
	p.mu.Unlock()
}

// isEvent matches events of these names.
func isEvent(names ...string) func(event) bool {
	return func(e event) bool { return slices.Contains(names, e.Event) }
}

// poll takes the first event that matches, of those that come within d.
func (p *peer) poll(d time.Duration, match func(event) bool) (event, bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		p.mu.Lock()
		if i := slices.IndexFunc(p.events, match); i >= 0 {
			e := p.events[i]
			p.events = slices.Delete(p.events, i, i+1)
			p.mu.Unlock()
			return e, true
		}
		more, ended := p.more, p.ended
		p.mu.Unlock()
		if ended {
			return event{}, false
		}
		select {
		case <-more:
		case <-timer.C:
			return event{}, false
		}
	}
}

// wait takes the first event that matches.
func (p *peer) wait(what string, match func(event) bool) event {
	p.t.Helper()
	e, ok := p.poll(patience, match)
	if !ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("%s: no %s; there is %+v", p.role, what, p.events)
	}
	return e
}

// tell has the program do something, and returns the number of the command.
func (p *peer) tell(c command) int {
	p.t.Helper()
	p.mu.Lock()
	p.seq++
	seq := p.seq
	p.mu.Unlock()
	c["seq"] = seq
	b, err := json.Marshal(c)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(b, '\n')); err != nil {
		p.t.Fatalf("%s: %v", p.role, err)
	}
	return seq
}

// do has the program do something, and returns the error that the crate returned.
func (p *peer) do(c command) error {
	p.t.Helper()
	seq := p.tell(c)
	e := p.wait(fmt.Sprintf("answer to command %v", c["op"]), func(e event) bool {
		return e.Seq == seq && (e.Event == "done" || e.Event == "failed")
	})
	if e.Event == "failed" {
		return fmt.Errorf("the crate: %s", e.Error)
	}
	return nil
}

// content returns what the program makes for a length and a seed; see content.rs.
func content(n int, seed uint32, asJSON bool) []byte {
	x := seed*2654435761 + 1
	next := func() byte {
		x = x*1664525 + 1013904223
		return byte(x >> 24)
	}
	b := make([]byte, n)
	switch {
	case !asJSON || n == 0:
		for i := range b {
			b[i] = next()
		}
	case n == 1:
		b[0] = '0' + byte(seed%10)
	default:
		for i := range b {
			b[i] = 'a' + next()%26
		}
		// The letters begin behind the quote.
		copy(b[1:], b[:n-2])
		b[0], b[n-1] = '"', '"'
	}
	return b
}

func sum(b []byte) string {
	h := fnv.New64a()
	h.Write(b)
	return fmt.Sprintf("%016x", h.Sum64())
}

// fields returns h as commands have it.
func fields(h vstp.Header) [][2]string {
	fs := make([][2]string, len(h))
	for i, f := range h {
		fs[i] = [2]string{hex.EncodeToString([]byte(f.Key)), hex.EncodeToString([]byte(f.Value))}
	}
	return fs
}
