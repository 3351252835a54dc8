package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

func TestPing(t *testing.T) {
	onSites(t, func(t *testing.T, s site) {
		addr, _ := s.serve(t, "serve", t.TempDir())
		out := vstpOK(t, s.args("ping", "-c", "5", "-i", "1ms", addr)...)
		require.Contains(t, out, "connected by "+s.network)
		require.Equal(t, 5, strings.Count(out, "seq="))
		require.Contains(t, out, "5 sent, 5 answered, 0% lost")
		require.Contains(t, out, "p50/p99")
		require.Equal(t, s.path(), strings.Contains(out, "path: "))
		require.Equal(t, s.tls, strings.Contains(out, "\nTLS 1.3, "))
		var rep pingReport
		require.NoError(t, json.Unmarshal([]byte(vstpOK(t, s.args("ping", "--json", "-c", "3", "-i", "1ms", addr)...)), &rep))
		require.Equal(t, 3, rep.Sent)
		require.EqualValues(t, 3, rep.Answered)
		require.EqualValues(t, 3, rep.RTT.Count)
		require.Equal(t, s.tls, rep.TLS != nil)
		require.Equal(t, s.path(), rep.Path != nil)
		if rep.Path != nil {
			require.Positive(t, rep.Path.RTT)
			require.GreaterOrEqual(t, rep.Path.MTU, 1200)
			require.Contains(t, rep.Path.Controller, "bbr")
			require.GreaterOrEqual(t, rep.Path.Sent, uint64(3))
		}
		require.NotContains(t, vstpOK(t, s.args("ping", "-q", "-c", "2", "-i", "1ms", addr)...), "seq=")
	})
}

func TestPingInterrupt(t *testing.T) {
	addr, server := tcpSite.serve(t, "serve", t.TempDir())
	p := start(t, nil, "ping", "-i", "1h", addr)
	p.stdout.wait(t, "seq=1 ")
	require.Equal(t, exitOK, p.interrupt()) // as ping(8) does
	require.Contains(t, p.stdout.String(), "1 sent, 1 answered")

	p = start(t, nil, "ping", "-i", "1ms", addr)
	p.stdout.wait(t, "seq=2 ")
	server.interrupt()
	require.Equal(t, exitFailure, p.wait())
	require.Contains(t, p.stdout.String(), "--- "+addr)
}

func TestPingNothingThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.Regexp(t, "timeout", vstpFails(t, exitFailure, "ping", "--timeout", "50ms", addr))
	ln.Close()
	require.Contains(t, vstpFails(t, exitFailure, "ping", addr), "is a vstp server running there?")

	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	vstpFails(t, exitFailure, "ping", "--timeout", "50ms", web.Listener.Addr().String())
	web2 := httptest.NewUnstartedServer(http.NotFoundHandler())
	web2.Config.ErrorLog = log.New(io.Discard, "", 0)
	web2.StartTLS()
	defer web2.Close()
	vstpFails(t, exitFailure, "ping", "--insecure", web2.Listener.Addr().String())
	require.Contains(t, vstpFails(t, exitFailure, "ping", web2.Listener.Addr().String()), "--tls")
}

func TestPipe(t *testing.T) {
	data := randomBytes(3, 3<<20)
	onSites(t, func(t *testing.T, s site) {
		// The listener answers only after the end of the input: half-close works.
		answerR, answerW := io.Pipe()
		l := start(t, answerR, append([]string{"pipe", "-l", s.listen}, s.server...)...)
		addr := l.stderr.wait(t, `listening on (\S+)`)[1]
		c := start(t, bytes.NewReader(data), s.args("pipe", addr)...)
		go func() {
			l.stdout.mu.Lock()
			for l.stdout.buf.Len() < len(data) {
				l.stdout.cond.Wait()
			}
			l.stdout.mu.Unlock()
			io.WriteString(answerW, "got it")
			answerW.Close()
		}()
		require.Equal(t, exitOK, c.wait(), c.stderr.String())
		require.Equal(t, exitOK, l.wait(), l.stderr.String())
		require.Equal(t, "got it", c.stdout.String())
		require.True(t, bytes.Equal(data, []byte(l.stdout.String())))
	})
}

// A peer that has closed both directions ends pipe, though the input goes on.
func TestPipePeerCloses(t *testing.T) {
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	in, stop := io.Pipe()
	defer stop.Close()
	p := start(t, in, "pipe", ln.Addr().String())
	c, err := ln.Accept()
	require.NoError(t, err)
	_, err = io.WriteString(c, "bye")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Equal(t, "bye", p.stdout.String())
}

// "If the connection breaks before the peer has said that it is done, pipe fails".
func TestPipeBreaks(t *testing.T) {
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	accept := func() *vstp.Conn {
		c, err := ln.Accept()
		require.NoError(t, err)
		return c.(*vstp.Conn)
	}
	in, stop := io.Pipe()
	defer stop.Close()
	p := start(t, in, "pipe", ln.Addr().String())
	c := accept()
	c.NetConn().Close()
	require.Equal(t, exitFailure, p.wait())
	require.Contains(t, p.stderr.String(), "the connection broke")
	c.Close()

	in2, stop2 := io.Pipe()
	defer stop2.Close()
	p = start(t, in2, "pipe", ln.Addr().String())
	c = accept()
	c.CloseWithError(vstp.CodeApplication, "no more tea")
	require.Equal(t, exitFailure, p.wait())
	require.Contains(t, p.stderr.String(), "no more tea")

	in3, stop3 := io.Pipe()
	defer stop3.Close()
	p = start(t, in3, "pipe", "-v", ln.Addr().String())
	c = accept()
	p.stderr.wait(t, "connected by")
	require.Equal(t, exitFailure, p.interrupt())
	require.Contains(t, p.stderr.String(), "interrupted")
	_, err = io.ReadAll(c) // must not look like a regular end
	var pe *vstp.ProtocolError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, "interrupted", pe.Reason)
	c.Close()
}

// On datagrams, too: an error of the peer and an interrupt are no regular ends.
func TestPipeBreaksOnDatagrams(t *testing.T) {
	ln, err := vstp.Listen("rudp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	in, stop := io.Pipe()
	defer stop.Close()
	p := start(t, in, "pipe", "--network", "rudp", ln.Addr().String())
	c, err := ln.Accept()
	require.NoError(t, err)
	c.(*vstp.Conn).CloseWithError(vstp.CodeApplication, "no more tea")
	require.Equal(t, exitFailure, p.wait())
	require.Contains(t, p.stderr.String(), "no more tea")

	in2, stop2 := io.Pipe()
	defer stop2.Close()
	p = start(t, in2, "pipe", "-v", "--network", "rudp", ln.Addr().String())
	c, err = ln.Accept()
	require.NoError(t, err)
	defer c.Close()
	p.stderr.wait(t, "connected by rudp to")
	require.Equal(t, exitFailure, p.interrupt())
	_, err = io.ReadAll(c)
	var pe *vstp.ProtocolError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, "interrupted", pe.Reason)
}

// refusing shows what a VerifyHello hook said, and --header reaches it.
func TestRefusedAndHeader(t *testing.T) {
	lc := &vstp.ListenConfig{Config: &vstp.Config{VerifyHello: verifyToken}}
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	require.Contains(t, vstpFails(t, exitFailure, "ping", ln.Addr().String()), "the server refused the connection: no token")
	var wg sync.WaitGroup
	wg.Go(func() {
		if c, err := ln.Accept(); err == nil {
			io.Copy(io.Discard, c)
			c.Close()
		}
	})
	vstpOK(t, "ping", "-c", "1", "--header", "token=secret=1", ln.Addr().String())
	wg.Wait()
}

func TestProxyBothEnds(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(append([]byte("echo "), b...))
	}))
	defer web.Close()
	onSites(t, func(t *testing.T, s site) {
		proxy := func(flags []string, listen, to string) string {
			p := start(t, nil, append(append([]string{"proxy"}, flags...), "--listen", listen, "--to", to)...)
			return p.stderr.wait(t, `carrying connections from (\S+) to`)[1]
		}
		far := proxy(s.server, "vstp://"+s.listen, "tcp://"+web.Listener.Addr().String())
		near := proxy(s.client, "tcp://127.0.0.1:0", "vstp://"+far)
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				body := string(randomBytes(9, 300_000))
				resp, err := client.Post("http://"+near+"/", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != "echo "+body {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
	})
}

// "So does a target that cannot be reached."
func TestProxyUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := ln.Addr().String()
	ln.Close()
	start1 := func(listen, to string) (string, *process) {
		p := start(t, nil, "proxy", "--listen", listen, "--to", to)
		return p.stderr.wait(t, `carrying connections from (\S+) to`)[1], p
	}
	addr, p := start1("vstp://127.0.0.1:0", "tcp://"+closed)
	c, err := vstp.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.ReadAll(c)
	var pe *vstp.ProtocolError
	require.ErrorAs(t, err, &pe)
	require.True(t, pe.Remote)
	require.Contains(t, pe.Reason, "connection refused")
	require.NotContains(t, pe.Reason, closed)
	p.stderr.wait(t, "cannot reach tcp://"+closed)

	// From a plain socket there is only a reset to see.
	addr, _ = start1("tcp://127.0.0.1:0", "vstp://"+closed)
	reset := func(addr string) {
		t.Helper()
		c, err := net.Dial("tcp", addr) // which may see it already
		if err == nil {
			defer c.Close()
			_, err = io.ReadAll(c)
		}
		require.Error(t, err)
	}
	reset(addr)

	// And through both proxies the reason of the far one ends in the near one's log.
	near, np := start1("tcp://127.0.0.1:0", "vstp://"+func() string { a, _ := start1("vstp://127.0.0.1:0", "tcp://"+closed); return a }())
	reset(near)
	np.stderr.wait(t, "cannot reach the target")
}

func TestBench(t *testing.T) {
	onSites(t, func(t *testing.T, s site) {
		addr, server := s.serve(t, "bench", "-s")
		for _, flags := range []string{"", "--download -P 3", "--bidir", "--rr --size 100"} {
			n := 2_000_000
			if strings.Contains(flags, "--rr") {
				n = 10_000
			}
			args := append([]string{"bench", addr, "--json", "--bytes", itoa(n)}, strings.Fields(flags)...)
			var rep benchReport
			require.NoError(t, json.Unmarshal([]byte(vstpOK(t, s.args(args...)...)), &rep), flags)
			require.Equal(t, addr, rep.Address)
			require.True(t, strings.HasPrefix(rep.Network, s.network))
			require.Equal(t, s.path(), rep.Path != nil)
			if rep.Path != nil {
				require.Positive(t, rep.Path.MTU)
				require.Positive(t, rep.Path.Sent)
			}
			switch rep.Mode {
			case "upload":
				require.EqualValues(t, n, rep.Upload.Bytes)
				require.Nil(t, rep.Download)
			case "download":
				require.EqualValues(t, 3*n, rep.Download.Bytes)
				require.Equal(t, 3, rep.Parallel)
			case "both":
				require.EqualValues(t, n, rep.Upload.Bytes)
				require.EqualValues(t, n, rep.Download.Bytes)
			case "rr":
				require.EqualValues(t, 100, rep.RoundTrips.Count)
				require.LessOrEqual(t, rep.RoundTrips.P50, rep.RoundTrips.Max)
			}
		}
		require.Contains(t, vstpOK(t, s.args("bench", addr, "-d", "10ms")...), "upload: ")
		require.Contains(t, vstpOK(t, s.args("bench", addr, "-d", "10ms", "--bidir")...), "download: ")
		require.Contains(t, vstpOK(t, s.args("bench", addr, "-d", "10ms", "--rr")...), "p50/p90/p99")
		server.stderr.wait(t, "rr: ")
	})
}

// Messages are echoed by serve and by bench -s.
func TestMessagesEcho(t *testing.T) {
	udp := site{network: "udp", listen: "127.0.0.1:0", server: []string{"--network", "udp"}, client: []string{"--network", "udp"}}
	t.Run("plain", func(t *testing.T) { testMessagesEcho(t, udp, "udp") })
	t.Run("tls", func(t *testing.T) { testMessagesEcho(t, udp.withTLS(t), "udp+tls") })
}

func testMessagesEcho(t *testing.T, s site, network string) {
	for _, command := range [][]string{{"serve"}, {"bench", "-s"}} {
		addr, server := s.serve(t, command...)
		out := vstpOK(t, s.args("ping", "-c", "3", "-i", "1ms", addr)...)
		require.Contains(t, out, "connected by "+network+" to")
		require.Contains(t, out, "3 sent, 3 answered, 0% lost")
		for _, flags := range []string{"", "--bidir -P 3 --size 1000", "--size 1", "--size 1000000", "--rr --size 100", "--rr --congestion cubic"} {
			n := int64(100_000)
			args := append([]string{"bench", addr, "--json", "--bytes", "100000"}, strings.Fields(flags)...)
			if flags == "--size 1" {
				n, args[4] = 500, "500"
			}
			var rep benchReport
			require.NoError(t, json.Unmarshal([]byte(vstpOK(t, s.args(args...)...)), &rep), flags)
			require.Equal(t, network, rep.Network)
			want := "bbr"
			if strings.Contains(flags, "cubic") {
				want = "cubic"
			}
			require.Contains(t, rep.Path.Controller, want)
			if rep.Mode == "rr" {
				require.EqualValues(t, (n+int64(rep.Size)-1)/int64(rep.Size), rep.RoundTrips.Count)
				continue
			}
			require.Equal(t, "both", rep.Mode)
			require.EqualValues(t, n*int64(rep.Parallel), rep.Upload.Bytes)
			require.EqualValues(t, n*int64(rep.Parallel), rep.Download.Bytes)
		}
		require.Contains(t, vstpOK(t, s.args("bench", addr, "-d", "10ms")...), "download: ")
		require.Contains(t, vstpOK(t, s.args("bench", addr, "-d", "10ms", "--rr")...), "p50/p90/p99")
		p := start(t, nil, s.args("bench", addr, "-d", "1h")...)
		p.stdout.wait(t, "connected by")
		require.Equal(t, exitFailure, p.interrupt())
		require.Contains(t, p.stderr.String(), "interrupted")
		require.Equal(t, exitOK, server.interrupt(), server.stderr.String())
		require.Regexp(t, `\d+ messages echoed`, server.stderr.String())
	}
}

func TestBenchInterrupt(t *testing.T) {
	addr, server := tcpSite.serve(t, "bench", "-s")
	p := start(t, nil, "bench", addr, "-d", "1h")
	p.stdout.wait(t, "connected by")
	require.Equal(t, exitFailure, p.interrupt())
	require.Contains(t, p.stderr.String(), "interrupted")
	require.Equal(t, exitOK, server.interrupt())
}

func TestBenchPlot(t *testing.T) {
	rep := &benchReport{Upload: &flow{}}
	for i := range 100 {
		rep.Intervals = append(rep.Intervals, interval{Start: float64(i), End: float64(i + 1), Sent: int64(i) * 125_000})
	}
	var out strings.Builder
	rep.print(&out)
	require.Contains(t, out.String(), "0 bit/s to 99 Mbit/s")
	require.NotContains(t, out.String(), "received")
}

// What is still connected when the time of grace is over ends with an error.
func TestProxyGrace(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	p := start(t, nil, "proxy", "--grace", "1ms", "--listen", "vstp://127.0.0.1:0", "--to", "tcp://"+ln.Addr().String())
	c, err := vstp.Dial("tcp", p.stderr.wait(t, `carrying connections from (\S+) to`)[1])
	require.NoError(t, err)
	defer c.Close()
	target, err := ln.Accept()
	require.NoError(t, err)
	defer target.Close()
	_, err = io.WriteString(c, "half")
	require.NoError(t, err)
	_, err = io.ReadFull(target, make([]byte, 4))
	require.NoError(t, err)
	require.Equal(t, exitOK, p.interrupt())
	_, err = io.ReadAll(c)
	require.Error(t, err)
	_, err = io.ReadAll(target)
	require.Error(t, err)
}
