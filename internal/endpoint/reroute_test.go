package endpoint

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vstp-go/vstp/internal/udpio"
)

// A relay is a NAT of user space: what comes to its front goes to the server from its
// back, and the other way.
type relay struct {
	t      *testing.T
	front  *net.UDPConn
	server netip.AddrPort
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	back   *net.UDPConn
	client netip.AddrPort
	deaf   netip.AddrPort // nothing goes to this client, or comes from it
}

func newRelay(t *testing.T, server net.Addr) *relay {
	r := &relay{t: t, front: listenUDP(t, "127.0.0.1"), server: server.(*net.UDPAddr).AddrPort()}
	r.rebind("127.0.0.1")
	r.wg.Go(r.forth)
	t.Cleanup(func() {
		r.mu.Lock()
		r.closed = true
		r.front.Close()
		r.back.Close()
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func listenUDP(t *testing.T, ip string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Skip("no address: ", err)
	}
	c.SetReadBuffer(4 << 20)
	c.SetWriteBuffer(4 << 20)
	return c
}

// rebind gives the client another address towards the server.
func (r *relay) rebind(ip string) {
	back := listenUDP(r.t, ip)
	r.mu.Lock()
	if r.back != nil {
		r.back.Close()
	}
	r.back = back
	r.mu.Unlock()
	r.wg.Go(func() { r.home(back) })
}

func (r *relay) forth() {
	b := make([]byte, 1<<16)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		r.mu.Lock()
		if from != r.deaf {
			r.client = from
			r.back.WriteToUDPAddrPort(b[:n], r.server)
		}
		r.mu.Unlock()
	}
}

func (r *relay) home(back *net.UDPConn) {
	b := make([]byte, 1<<16)
	for {
		n, _, err := back.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		r.mu.Lock()
		if r.client != r.deaf {
			r.front.WriteToUDPAddrPort(b[:n], r.client)
		}
		r.mu.Unlock()
	}
}

// connected returns an endpoint on a connected socket.
func connected(t *testing.T, to net.Addr, cfg *Config) *Endpoint {
	t.Helper()
	pc, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	return newEndpoint(t, pc, cfg)
}

func connectTo(t *testing.T, a *Endpoint, to net.Addr, b *Endpoint) (c, s *Session) {
	t.Helper()
	b.Listen()
	c, err := a.DialStream(t.Context(), mustAddr(t, to))
	if err != nil {
		t.Fatal("dial:", err)
	}
	if s, err = b.Accept(t.Context()); err != nil {
		t.Fatal("accept:", err)
	}
	return c, s
}

// transfer sends size bytes both ways, and calls meanwhile with the number that have
// arrived at the server. All of them have to arrive as they were.
func transfer(t *testing.T, c, s *Session, size int, meanwhile func(got int)) {
	t.Helper()
	want := pattern(size)
	sum := sha256.Sum256(want)
	var wg sync.WaitGroup
	for _, x := range [...]*Session{c, s} {
		wg.Go(func() {
			if n, err := x.Write(want); n != size || err != nil {
				t.Errorf("Write: %d, %v", n, err)
			}
			x.CloseWrite()
		})
		wg.Go(func() {
			h, got := sha256.New(), 0
			b := make([]byte, 64<<10)
			for {
				n, err := x.Read(b)
				h.Write(b[:n])
				got += n
				if x == s {
					meanwhile(got)
				}
				if err != nil {
					if err != io.EOF {
						t.Errorf("Read: %d, %v", got, err)
					}
					break
				}
			}
			if [32]byte(h.Sum(nil)) != sum {
				t.Errorf("%d of %d bytes, or others", got, size)
			}
		})
	}
	wg.Wait()
}

// TestRebindingLoopback: on real sockets, too, a NAT may give a client another port, and
// another address, in the middle of transfers both ways.
func TestRebindingLoopback(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		cfg := plainOrSealed(sealed)
		b := loopback(t, cfg)
		r := newRelay(t, b.LocalAddr())
		a := connected(t, r.front.LocalAddr(), cfg)
		c, s := connectTo(t, a, r.front.LocalAddr(), b)
		const size = 16 << 20
		backs := []string{"127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.1"}
		transfer(t, c, s, size, func(got int) {
			if k := 4 - len(backs); len(backs) > 0 && got > (2*k+1)*size/10 {
				r.rebind(backs[0])
				backs = backs[1:]
			}
		})
		r.mu.Lock()
		at := r.back.LocalAddr().String()
		r.mu.Unlock()
		if s.RemoteAddr().String() != at || s.Stats().PathChanges == 0 {
			t.Errorf("the client is at %s, not %s, after %d changes", at, s.RemoteAddr(), s.Stats().PathChanges)
		}
		if n := a.Stats().PathChanges; n != 0 {
			t.Errorf("the client has changed its address %d times", n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReroute: a client that gets no answer any more goes on from another port.
func TestReroute(t *testing.T) {
	cfg := testConfig()
	b := loopback(t, cfg)
	r := newRelay(t, b.LocalAddr())
	a := connected(t, r.front.LocalAddr(), cfg)
	if !a.sock.CanReconnect() {
		t.Skip("not on this system")
	}
	c, s := connectTo(t, a, r.front.LocalAddr(), b)
	before := c.LocalAddr().String()
	const size = 16 << 20
	done := false
	var from time.Time
	transfer(t, c, s, size, func(got int) {
		if !done && got > size/3 {
			done = true
			r.mu.Lock()
			r.deaf = r.client
			r.mu.Unlock()
			from = time.Now()
		}
	})
	if c.LocalAddr().String() == before || c.Stats().PathChanges == 0 {
		t.Errorf("the client is at %s still", before)
	}
	t.Log(time.Since(from), "from the first silence to the end")
	c.Close()
	s.Close()
}

// TestRerouteNotConnected: a socket that is not connected is left alone.
func TestRerouteNotConnected(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := udpio.New(pc, udpio.Options{})
	defer c.Close()
	if err := c.Reconnect(); c.CanReconnect() || !errors.Is(err, errors.ErrUnsupported) {
		t.Error(c.CanReconnect(), err)
	}
}
