package endpoint

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/tlsvstp"
)

// BenchmarkStorm opens associations at a steady rate, and has somebody else's round trips
// of 64 bytes on the same socket before and meanwhile; storm/quiet is how much longer those take. Clients are processes of their own.
// Where it dials more than the processors can do, all latencies are those of their queue.
func BenchmarkStorm(b *testing.B) {
	for _, c := range []struct {
		name        string
		tls         bool
		rate, count int
	}{
		{"Plain/1000", false, 1000, 10_000},
		{"TLS/200", true, 200, 2000},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkStorm(b, c.tls, c.rate, c.count) })
	}
}

const stormEnv = "VSTP_TEST_STORM"

// A stormTask is what another process does.
type stormTask struct {
	Addr        string
	TLS         bool
	Rate, Count int // of dials; without, round trips
	Seconds     float64
}

func benchmarkStorm(b *testing.B, sealed bool, rate, count int) {
	cfg := testConfig()
	if sealed {
		cfg = sealedConfig()
	}
	e := loopback(b, cfg)
	if err := e.Listen(); err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	var held []*Session
	go func() {
		for {
			s, err := e.Accept(context.Background())
			if err != nil {
				return
			}
			mu.Lock()
			held = append(held, s)
			mu.Unlock()
			go io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, make([]byte, 256))
		}
	}()
	const quiet = 2.0
	seconds := float64(count) / float64(rate)
	for b.Loop() {
		ping := startStorm(b, &stormTask{Addr: e.LocalAddr().String(), TLS: sealed, Seconds: quiet + seconds})
		time.Sleep(time.Duration(quiet * float64(time.Second)))
		dial := startStorm(b, &stormTask{Addr: e.LocalAddr().String(), TLS: sealed, Rate: rate, Count: count})
		trips, dials := ping(), dial()
		var before, during []float64
		for _, t := range trips {
			if t[0] < quiet {
				before = append(before, t[1])
			} else {
				during = append(during, t[1])
			}
		}
		var took []float64
		for _, t := range dials {
			took = append(took, t[1])
		}
		report := func(name string, v []float64) {
			if slices.Sort(v); len(v) > 0 {
				b.ReportMetric(v[len(v)/2], name+"-p50-us")
				b.ReportMetric(v[len(v)*99/100], name+"-p99-us")
				b.ReportMetric(v[len(v)-1], name+"-max-us")
			}
		}
		report("quiet", before)
		report("storm", during)
		for _, q := range [...]int{50, 99} {
			b.ReportMetric(during[len(during)*q/100]/before[len(before)*q/100], fmt.Sprintf("storm/quiet-p%d", q))
		}
		report("dial", took)
		b.ReportMetric(float64(count-len(took)), "failed")
	}
	b.ReportMetric(0, "ns/op")
}

// startStorm begins a task in a process. What it returns waits for the end, and returns
// pairs of a time in seconds and one in microseconds.
func startStorm(b *testing.B, task *stormTask) func() [][2]float64 {
	text, _ := json.Marshal(task)
	cmd := exec.Command(os.Args[0], "-test.run=^TestStormTask$")
	cmd.Env = append(os.Environ(), stormEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	return func() (all [][2]float64) {
		defer cmd.Wait()
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &all)
		}
		if err != nil {
			b.Fatal(err)
		}
		return all
	}
}

// TestStormTask is what the processes of BenchmarkStorm run.
func TestStormTask(t *testing.T) {
	text := os.Getenv(stormEnv)
	if text == "" {
		t.Skip("for BenchmarkStorm")
	}
	var task stormTask
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	if task.TLS {
		cfg.ClientTLS = func(udpio.Addr) *tls.Config {
			return tlsvstp.ClientConfig(&tls.Config{InsecureSkipVerify: true}, "storm.test")
		}
	}
	addr, err := net.ResolveUDPAddr("udp", task.Addr)
	if err != nil {
		t.Fatal(err)
	}
	to := mustAddr(t, addr)
	e := loopback(t, cfg)
	start := time.Now()
	var mu sync.Mutex
	all := [][2]float64{}
	note := func(from time.Time) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, [2]float64{from.Sub(start).Seconds(), float64(time.Since(from).Nanoseconds()) / 1e3})
	}
	if task.Count > 0 {
		var wg sync.WaitGroup
		for i := range task.Count {
			time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(task.Rate))))
			wg.Go(func() {
				from := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if _, err := e.DialStream(ctx, to); err == nil {
					note(from)
				}
			})
		}
		wg.Wait()
	} else {
		s, err := e.DialStream(context.Background(), to)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		for time.Since(start).Seconds() < task.Seconds {
			from := time.Now()
			if _, err := s.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s, b); err != nil {
				t.Fatal(err)
			}
			note(from)
			time.Sleep(500 * time.Microsecond)
		}
	}
	line, _ := json.Marshal(all)
	os.Stdout.Write(append(line, '\n'))
	os.Exit(0)
}

// TestStorm: while hundreds of associations begin within a second, and then rest, the round
// trips of another one take what they took before, to the millisecond; then all of them go on.
// Time is virtual: what the processor does in it is for BenchmarkStorm.
func TestStorm(t *testing.T) {
	for name, sealed := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			count := 500
			if sealed {
				count = 100 // each is a signature
			}
			cfg := plainOrSealed(sealed)
			bubble(t, clean, cfg, func(t *testing.T, d *duo) { testStorm(t, d, count) })
		})
	}
}

func testStorm(t *testing.T, d *duo, count int) {
	c, s := connect(t, d.a, d.b)
	go io.Copy(s, s)
	trip := func(s *Session) time.Duration {
		from := time.Now()
		b := []byte("hello")
		if _, err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatal(err)
		}
		return time.Since(from)
	}
	time.Sleep(2 * time.Second)
	quiet := trip(c)

	all := make([]*Session, count)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Second / time.Duration(count))
			var err error
			if all[i], err = d.a.DialStream(t.Context(), addrOf(t, d.b)); err != nil {
				t.Error(err)
			}
		})
	}
	go func() {
		for {
			s, err := d.b.Accept(context.Background())
			if err != nil {
				return
			}
			go io.Copy(s, s)
		}
	}()
	for begin := time.Now(); time.Since(begin) < 3*time.Second; { // until all rest
		if took := trip(c); took > quiet+time.Millisecond {
			t.Fatalf("a round trip took %v, and %v before", took, quiet)
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, s := range all {
		if took := trip(s); took > quiet+time.Millisecond {
			t.Fatalf("a round trip took %v after a rest, and %v on another", took, quiet)
		}
	}
	d.a.Close()
	d.b.Close()
}

// remembering returns a set with many clients from before now.
func remembering(clients int, now time.Time) *clientSet {
	cs := new(clientSet)
	cs.init(nil)
	for i := range clients {
		c := &client{seen: now, due: now}
		c.key.addr = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i))
		cs.all[c.key] = c
		cs.order = append(cs.order, c)
	}
	return cs
}

// TestExpireInTurns: thousands of clients whose time is over do not go at once.
func TestExpireInTurns(t *testing.T) {
	now := time.Now()
	cs := remembering(100*maxExpired, now)
	now = now.Add(2 * handshake.CookieLifetime)
	for n := len(cs.order); n > 0; n -= maxExpired {
		if len(cs.order) != n || len(cs.all) != n {
			t.Fatalf("%d in order and %d in all, not %d", len(cs.order), len(cs.all), n)
		}
		cs.expire(now, 0)
	}
	if len(cs.order) != 0 || len(cs.all) != 0 {
		t.Error(len(cs.order), len(cs.all))
	}
}

// BenchmarkExpire is the longest that one HELLO takes half a minute after 10,000 others.
func BenchmarkExpire(b *testing.B) {
	now := time.Now()
	for b.Loop() {
		b.StopTimer()
		cs := remembering(10_000, now)
		b.StartTimer()
		cs.expire(now.Add(2*handshake.CookieLifetime), 0)
	}
}
