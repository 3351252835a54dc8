package vstp_test

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// patience is how long a test waits for what should take no time before it fails.
const patience = 60 * time.Second

// bigSize is the largest size that tests move: 100 MB, and less under the race
// detector.
var bigSize = sized[int64](100<<20, 16<<20)

// sized returns full, or short under the race detector.
func sized[T any](full, short T) T {
	if raceEnabled {
		return short
	}
	return full
}

// eachTransport runs f for each transport.
func eachTransport(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) { f(t, tr) })
	}
}

// start returns a listener and a Dialer for it.
func (tr transport) start(t testing.TB) (*vstp.Listener, *vstp.Dialer) {
	t.Helper()
	cc, sc := tr.configs(t)
	address := "127.0.0.1:0"
	if tr.network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := (&vstp.ListenConfig{Config: sc}).Listen(context.Background(), tr.network, address)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.(*vstp.Listener), &vstp.Dialer{Config: cc}
}

// pair returns both ends of a connection.
func (tr transport) pair(t testing.TB) (client, server *vstp.Conn) {
	t.Helper()
	ln, d := tr.start(t)
	defer ln.Close()
	return connect(t, ln, d)
}

// networkOf returns the network that ln was made with: a socket's own address does not
// say whether there is a byte stream on it.
func networkOf(ln net.Listener) string {
	if l, ok := ln.(*vstp.Listener); ok {
		return vstp.ListenerNetwork(l)
	}
	if _, ok := ln.Addr().(*net.UDPAddr); ok {
		return "rudp"
	}
	return ln.Addr().Network()
}

// datagrams reports whether tr is carried by UDP, or could be.
func (tr transport) datagrams() bool { return strings.HasPrefix(tr.network, "rudp") || tr.auto() }

func (tr transport) auto() bool { return tr.network == "auto" }

// connect dials ln and accepts. Both ends are closed when the test is over.
func connect(t testing.TB, ln net.Listener, d *vstp.Dialer) (client, server *vstp.Conn) {
	t.Helper()
	c, err := d.Dial(networkOf(ln), ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	s, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return c.(*vstp.Conn), s.(*vstp.Conn)
}

// contentBlock is what content repeats. Its length has no factor in common with
// the sizes of frames and buffers; half of it can be compressed.
var contentBlock = sync.OnceValue(func() []byte {
	b := make([]byte, 1_000_003)
	src := rand.NewChaCha8([32]byte{1})
	for p := b; len(p) > 0; {
		src.Read(p[:min(len(p), 6000)])
		p = p[min(len(p), 12000):]
	}
	return b
})

// content returns a reader of n bytes that are always the same.
func content(n int64) io.Reader { return io.LimitReader(&contentReader{}, n) }

type contentReader struct{ pos int }

func (r *contentReader) Read(p []byte) (int, error) {
	b := contentBlock()
	n := copy(p, b[r.pos:])
	r.pos = (r.pos + n) % len(b)
	return n, nil
}

// contentBytes returns the first n bytes of content.
func contentBytes(n int) []byte {
	b := make([]byte, n)
	io.ReadFull(&contentReader{}, b)
	return b
}

// A digest is the length and SHA-256 of what a reader gave.
type digest struct {
	n   int64
	sum [sha256.Size]byte
}

// digestOf reads r to its end.
func digestOf(r io.Reader) (d digest, err error) {
	h := sha256.New()
	d.n, err = io.Copy(h, r)
	h.Sum(d.sum[:0])
	return d, err
}

// contentDigest is that of the first n bytes of content.
func contentDigest(n int64) digest {
	d, _ := digestOf(content(n))
	return d
}

// aside runs subtests beside each other that wait most of the time: t.Parallel would run no
// more than GOMAXPROCS of them. The test has to wait for it.
type aside struct {
	sync.WaitGroup
	room chan struct{}
}

func newAside(most int) *aside { return &aside{room: make(chan struct{}, most)} }

func (a *aside) run(t *testing.T, name string, f func(t *testing.T)) {
	a.Go(func() {
		a.room <- struct{}{}
		defer func() { <-a.room }()
		t.Run(name, f)
	})
}

// A group runs functions concurrently and keeps their errors.
type group struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func (g *group) Go(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			g.errs = append(g.errs, err)
			g.mu.Unlock()
		}
	})
}

// Wait fails the test with the first error, and if it takes too long.
func (g *group) Wait(t testing.TB) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	receive(t, done)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.errs) > 0 {
		t.Fatalf("%d errors, first: %v", len(g.errs), g.errs[0])
	}
}

// receive receives from ch, but does not wait for ever.
func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-ch:
	case <-timer.C:
		t.Fatal("nothing came")
	}
	return v
}

// async runs f in a goroutine and returns a channel with its result.
func async[T any](f func() T) <-chan T {
	ch := make(chan T, 1)
	go func() { ch <- f() }()
	return ch
}

// echoAll accepts connections and echoes on each until its end.
func echoAll(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

// roundTrip sends p to an echo and compares what comes back.
func roundTrip(c net.Conn, p []byte) error {
	if _, err := c.Write(p); err != nil {
		return err
	}
	b := make([]byte, len(p))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != string(p) {
		return errEcho
	}
	return nil
}

// heapAllocated returns how many bytes have been allocated so far.
func heapAllocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// udpPort returns a socket with a port that TCP does not use either.
func udpPort(t *testing.T) net.PacketConn {
	t.Helper()
	for {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			require.NoError(t, ln.Close())
			return pc
		}
		require.NoError(t, pc.Close())
	}
}

// bothPorts returns sockets of one port, of TCP and of UDP.
func bothPorts(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for try := 0; ; try++ {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return ln, pc
		}
		require.NoError(t, ln.Close())
		require.Less(t, try, 10, err)
	}
}
