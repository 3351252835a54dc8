package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the worker that the controller starts.
func TestMain(m *testing.M) {
	if text := os.Getenv(workerEnv); text != "" {
		workerMain(text)
	}
	raiseFileLimit()
	os.Exit(m.Run())
}

func testEnv(t testing.TB, interactive bool) *env {
	t.Helper()
	cert, key, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: with the name of the test it is too long for a socket.
	dir, err := os.MkdirTemp("", "vstp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &env{dir: dir, interactive: interactive}
	if e.serverTLS, e.clientTLS, err = tlsConfigs(cert, key); err != nil {
		t.Fatal(err)
	}
	return e
}

// testListen listens until the test ends.
func testListen(tb testing.TB, c *contender, e *env) acceptor {
	tb.Helper()
	a, err := c.listen(e, "127.0.0.1")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { a.Close() })
	return a
}

// serveEach has serve have each stream of a, one beside the other, and closes it then.
func serveEach(a acceptor, serve func(s stream)) {
	for {
		s, err := a.Accept()
		if err != nil {
			return
		}
		go func() {
			defer s.Close()
			serve(s)
		}()
	}
}

// Bytes written with any size of Write arrive, all of them and in order, and io.EOF behind them.
func TestContendersBulk(t *testing.T) {
	for _, c := range contenders() {
		if !c.has("bulk") || c.lossy {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			skipUnavailable(t, c)
			e := testEnv(t, false)
			a := testListen(t, c, e)
			want := make([]byte, 1<<20+17)
			fillPattern(want)
			sent := make(chan error, 1)
			go func() {
				s, err := a.Accept()
				if err != nil {
					sent <- err
					return
				}
				for p, i := want, 0; len(p) > 0; i++ {
					n := min([]int{1, 1 << 10, 64 << 10, 200_000}[i%4], len(p))
					if _, err := s.Write(p[:n]); err != nil {
						sent <- err
						return
					}
					p = p[n:]
				}
				sent <- s.Close()
			}()
			s, err := c.dial(e, a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(s)
			if err != nil {
				t.Fatalf("after %d bytes: %v", len(got), err)
			}
			if err := <-sent; err != nil {
				t.Fatalf("server: %v", err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("read %d bytes, not the %d that were written", len(got), len(want))
			}
			if err := s.Close(); !isClosed(err) {
				t.Fatalf("close: %v", err)
			}
		})
	}
}

func TestContendersExchange(t *testing.T) {
	for _, c := range contenders() {
		if !c.has("rr") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			skipUnavailable(t, c)
			for _, n := range []int{1, 64, 60_000, 64 << 10} {
				if c.fits("rr", n) {
					testExchange(t, c, n)
				}
			}
		})
	}
}

// skipUnavailable skips what this system cannot do.
func skipUnavailable(t *testing.T, c *contender) {
	t.Helper()
	if err := c.unavailable(); err != nil {
		t.Skip(err)
	}
}

// Messages arrive whole, and Send does not return before.
func TestContendersMessages(t *testing.T) {
	for _, c := range contenders() {
		if !c.has("message") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			skipUnavailable(t, c)
			e := testEnv(t, true)
			a := testListen(t, c, e)
			received := make(chan []byte, 8)
			go func() {
				defer close(received)
				s, err := a.Accept()
				if err != nil {
					return
				}
				defer s.Close()
				for port := c.port(s); ; {
					p, err := port.Receive()
					if err != nil {
						return
					}
					received <- p
				}
			}()
			s, err := c.dial(e, a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			port := c.port(s)
			for _, n := range []int{1, 1000, 3_000_000} {
				want := make([]byte, n)
				fillPattern(want)
				if err := port.Send(want); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				if got := <-received; !bytes.Equal(got, want) {
					t.Fatalf("%d bytes arrived, not the %d that were sent", len(got), n)
				}
			}
		})
	}
}

func testExchange(t *testing.T, c *contender, n int) {
	e := testEnv(t, true)
	a := testListen(t, c, e)
	// Whatever comes after three is an error of the client.
	go serveEach(a, func(s stream) { echo(s, make([]byte, n), 3) })
	x, err := c.open(e, a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	req, resp := make([]byte, n), make([]byte, n)
	for i := range 3 {
		fillPattern(req)
		req[0] = byte(i)
		clear(resp)
		if err := x.Exchange(req, resp); err != nil {
			t.Fatalf("%d bytes, exchange %d: %v", n, i, err)
		}
		if !bytes.Equal(req, resp) {
			t.Fatalf("%d bytes, exchange %d: the answer is not the request", n, i)
		}
	}
	if err := x.Close(); !isClosed(err) {
		t.Fatalf("close: %v", err)
	}
}

// A whole run, with processes, of all tests and contenders.
func TestRun(t *testing.T) {
	// The race detector makes each process wait for a second at its end.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	dir := t.TempDir()
	out, jsonFile := filepath.Join(dir, "RESULTS.md"), filepath.Join(dir, "results.json")
	stdout := os.Stdout
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stdout = null
	err = run([]string{
		"-rounds", "1", "-seconds", "0.02", "-idle", "20", "-allocs", "50", "-fine", "2", "-sizes", "1024,65536", "-message-sizes", "200000",
		"-quiet", "-json", jsonFile, "-out", out, "-profile", filepath.Join(dir, "profiles"),
	})
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var res result
	if err := json.Unmarshal(b, &res); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{"bulk": "mbps", "rr": "p50", "message": "ms", "allocs": "mallocs", "dials": "rate", "handshakes": "rate", "idle": "heap"}
	ids := 0
	for _, g := range res.Groups {
		ids++
		test, _, _ := strings.Cut(strings.TrimPrefix(g.ID, "fine-"), "-")
		for _, r := range g.Rows {
			if strings.HasPrefix(r.Error, "unavailable: ") {
				continue
			}
			if r.Error != "" {
				t.Errorf("%s: %s: %s", g.ID, r.Contender, r.Error)
				continue
			}
			if _, ok := r.Median[keys[test]]; !ok {
				t.Errorf("%s: %s: no figure in %v", g.ID, r.Contender, r.Median)
			}
		}
	}
	if want := 2*(2+2) + 1 + 3 + 2 + 2 + 2; ids != want {
		t.Errorf("%d groups, want %d", ids, want)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Results", "## Claims of the original crate", "## Goals", "| tcp |", "| grpc |", "| udp |", "| quic |", "| kcp |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report has no %q", want)
		}
	}
}

// What is sent in a flood is what a client would send, but for the random part.
func TestFloodTemplates(t *testing.T) {
	random := func(p []byte) {
		for i := range p {
			p[i] = 0xaa
		}
	}
	for _, k := range floodKinds {
		e := testEnv(t, true)
		s := &spec{Flood: k.name}
		tmpl, err := floodTemplate(s, contenderNamed(k.contender), e)
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		b := tmpl.fill(nil, random)
		if len(b) < 96 || len(b) != len(tmpl.b) {
			t.Errorf("%s: %d bytes", k.name, len(b))
		}
		if k.name == "garbage" {
			continue
		}
		// It is well-formed, so the listener answers it.
		a, err := contenderNamed(k.contender).listen(e, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		conn, err := net.Dial("udp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		if k.contender == "vstp-rudp-tls" {
			continue // where no cookie is needed yet, one piece of a ClientHello has no answer
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		answer := make([]byte, 2048)
		if _, err := conn.Read(answer); err != nil {
			t.Errorf("%s: no answer: %v", k.name, err)
		} else if !bytes.Equal(answer[helloSourceID:helloSourceID+8], b[helloSourceID:helloSourceID+8]) {
			t.Errorf("%s: the answer is to somebody else", k.name)
		}
	}
}

func TestFlood(t *testing.T) {
	if err := canFlood(); err != nil {
		t.Skip(err)
	}
	out := filepath.Join(t.TempDir(), "FLOOD.md")
	stdout := os.Stdout
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stdout = null
	err = run([]string{"-flood", "-flood-kinds", "hello,tls-cookie", "-flood-rate", "1000", "-flood-limit", "20", "-rounds", "1", "-seconds", "0.1", "-quiet", "-out", out})
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "| hello | down |") || strings.Contains(string(text), "Failed") {
		t.Errorf("the report is %s", text)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-only", "nobody"}, {"-tests", "nothing"}, {"-sizes", "-1"}, {"-rr-sizes", "x"}, {"-rounds", "0"}, {"stray"},
		{"-base", "nobody"}, {"-flood-kinds", "nothing"}, {"-flood-rate", "0"}, {"-link", "10mbit,loss=2"}, {"-link", "10mbit,10ms", "-flows", "tcp-bbr+http1"},
	} {
		if o, err := parseFlags(args); err == nil {
			t.Errorf("parseFlags(%q) = %+v, want an error", args, o)
		}
	}
	o, err := parseFlags([]string{"-only", "tcp,vstp", "-tests", "bulk", "-sizes", "1024,65536", "-seconds", "0.5"})
	if err != nil {
		t.Fatal(err)
	}
	gs := o.groups("bulk")
	if len(gs) != 2 || len(gs[0].Rows) != 2 || gs[1].ID != "bulk-65536" || gs[1].Spec.Duration != 500*time.Millisecond {
		t.Errorf("groups = %+v", gs)
	}
}

func TestRatio(t *testing.T) {
	base := &row{Rounds: []values{{"x": 1}, {"x": 2}, nil, {"x": 4}}}
	r := &row{Rounds: []values{{"x": 2}, {"x": 2}, {"x": 9}, {"x": 2}, {"x": 1}}}
	if got, want := ratioOf(r, base, "x"), (ratio{Median: 1, Min: 0.5, Max: 2, OK: true}); got != want {
		t.Errorf("ratioOf = %+v, want %+v", got, want)
	}
	for _, got := range []ratio{ratioOf(nil, base, "x"), ratioOf(r, nil, "x"), ratioOf(r, base, "y")} {
		if got.OK {
			t.Errorf("a ratio of nothing: %+v", got)
		}
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median = %v, want 2.5", m)
	}
	samples := make([]uint32, 1000)
	for i := range samples {
		samples[i] = uint32(i) * 1000
	}
	if p := percentile(samples, 0.99); p != 990 {
		t.Errorf("percentile = %v, want 990", p)
	}
	if p := percentile(samples, 1); p != 999 {
		t.Errorf("percentile = %v, want 999", p)
	}
}

// A worker that fails says why, and the others go on.
func TestFailure(t *testing.T) {
	o, err := parseFlags([]string{"-quiet"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	g := newGroup(spec{Test: "nothing", Size: 1, Duration: time.Millisecond}, []string{"tcp", "unix"}, 2)
	if err := c.runGroup(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	for _, r := range g.Rows {
		if !strings.Contains(r.Error, `unknown test "nothing"`) {
			t.Errorf("%s: error %q", r.Contender, r.Error)
		}
	}
}

func TestChanAcceptor(t *testing.T) {
	a := newChanAcceptor("addr", func() error { return nil })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a.put(nil) {
		t.Error("put after Close")
	}
	if _, err := a.Accept(); err == nil || !isClosed(err) {
		t.Errorf("Accept after Close: %v", err)
	}
	if isClosed(errors.New("refused")) {
		t.Error("any error counts as closed")
	}
}
