package udpio

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

func numbered(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

// maxLoopback is the MTU of the loopback device less IPv6 and UDP headers: nothing is
// fragmented.
const maxLoopback = 65536 - 40 - 8

func TestDatagramsKeepTheirBounds(t *testing.T) {
	tests := []struct{ size, segSize int }{
		{0, 0}, {1, 0}, {1200, 0}, {1200, 1200}, {1200, 5000}, {2400, 1200}, {2401, 1200},
		{64 * 1000, 1000}, {64*1000 + 1, 1000}, {200, 1}, {maxLoopback, 0}, {maxPayload, 1452},
		{200_000, 1452}, {3 * 40_000, 40_000},
	}
	for _, network := range []struct{ listen, addr, to string }{
		{"udp4", "127.0.0.1:0", "127.0.0.1"}, {"udp4", ":0", "127.0.0.1"}, {"udp", ":0", "127.0.0.1"},
		{"udp6", "[::1]:0", "[::1]"}, {"udp", "[::]:0", "[::1]"},
	} {
		t.Run(network.listen+network.addr+network.to, func(t *testing.T) {
			needHost(t, strings.Trim(network.to, "[]"))
			modes(t, func(t *testing.T, o Options) {
				a, b := listen(t, network.listen, network.addr, o), listen(t, network.listen, network.addr, o)
				to := parseAddr(t, fmt.Sprintf("%s:%d", network.to, portOf(b)))
				from := parseAddr(t, fmt.Sprintf("%s:%d", network.to, portOf(a)))
				for _, test := range tests {
					var want []string
					data := numbered(test.size)
					for rest := data; len(rest) > 0 || len(want) == 0; {
						var segment []byte
						segment, rest = firstSegment(rest, test.segSize)
						want = append(want, string(segment))
					}
					if err := a.Write(data, test.segSize, to, Local{}); err != nil {
						t.Fatalf("Write(%d, %d): %v", test.size, test.segSize, err)
					}
					for i, d := range readN(t, b, len(want)) {
						if d.data != want[i] {
							t.Fatalf("Write(%d, %d): datagram %d has %d bytes, want %d", test.size, test.segSize, i, len(d.data), len(want[i]))
						}
						if d.addr != from {
							t.Fatalf("from %v, want %v", d.addr, from)
						}
					}
				}
				for _, c := range []*Conn{a, b} {
					s := c.Stats()
					if s.GSOFallback+s.MMsgFallback+s.SourceFallback+s.Truncated+s.ReadErrors != 0 {
						t.Errorf("%+v", s)
					}
				}
			})
		})
	}
}

func TestTooLarge(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		c := listen(t, "udp4", "127.0.0.1:0", o)
		to := addrOf(t, c.LocalAddr())
		for _, segSize := range []int{0, maxPayload + 1} {
			if err := c.Write(make([]byte, 2*maxPayload+3), segSize, to, Local{}); err != ErrTooLarge {
				t.Errorf("error is %v", err)
			}
		}
		if c.Stats().TooLarge != 2 {
			t.Errorf("%+v", c.Stats())
		}
	})
}

func TestCloseUnblocksRead(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		c := listen(t, "udp4", "127.0.0.1:0", o)
		errs := make(chan error)
		go func() {
			_, err := c.Read(make([]Packet, 1))
			errs <- err
		}()
		c.Close()
		if err := <-errs; err != net.ErrClosed {
			t.Errorf("Read: %v", err)
		}
		if err := c.Write([]byte{1}, 0, addrOf(t, c.LocalAddr()), Local{}); err != net.ErrClosed {
			t.Errorf("Write: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if c.LocalAddr() == nil {
			t.Error("no LocalAddr after Close")
		}
	})
}

// TestClosedByOwner is about a socket that its owner closes, not through the Conn.
func TestClosedByOwner(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		c := listen(t, "udp4", "127.0.0.1:0", o)
		c.pc.Close()
		if _, err := c.Read(make([]Packet, 1)); err != net.ErrClosed {
			t.Errorf("Read: %v", err)
		}
		if err := c.Write([]byte{1}, 0, parseAddr(t, "127.0.0.1:9"), Local{}); err != net.ErrClosed {
			t.Errorf("Write: %v", err)
		}
	})
}

// TestRefused is trap U1: the error of a connected socket is of an earlier datagram,
// and the datagram that gets it is not sent.
func TestRefused(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := peer.LocalAddr().(*net.UDPAddr)
		pc, err := net.DialUDP("udp4", nil, addr)
		if err != nil {
			t.Fatal(err)
		}
		c := New(pc, o)
		defer c.Close()
		to := addrOf(t, addr)

		peer.Close()
		if err := c.Write([]byte("lost"), 0, to, Local{}); err != nil {
			t.Fatal(err)
		}
		peer, err = net.ListenPacket("udp4", addr.String())
		if err != nil {
			t.Skip("the port is taken")
		}
		defer peer.Close()
		if err := c.Write([]byte("hello"), 0, to, Local{}); err != nil {
			t.Fatal(err)
		}
		peer.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 10)
		n, from, err := peer.ReadFrom(b)
		if err != nil || string(b[:n]) != "hello" {
			t.Fatalf("peer got %q, %v", b[:n], err)
		}
		if _, err := peer.WriteTo([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		if got := readN(t, c, 1)[0]; got.data != "answer" || got.addr != to {
			t.Errorf("got %+v", got)
		}
		if c.Stats().Refused == 0 {
			t.Errorf("%+v", c.Stats())
		}
	})
}

// TestRefusedRead has the error come to Read, which goes on.
func TestRefusedRead(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := peer.LocalAddr().(*net.UDPAddr)
		pc, err := net.DialUDP("udp4", nil, addr)
		if err != nil {
			t.Fatal(err)
		}
		c := New(pc, o)
		defer c.Close()
		peer.Close()
		if err := c.Write([]byte("lost"), 0, addrOf(t, addr), Local{}); err != nil {
			t.Fatal(err)
		}
		peer, err = net.ListenPacket("udp4", addr.String())
		if err != nil {
			t.Skip("the port is taken")
		}
		defer peer.Close()
		if _, err := peer.WriteTo([]byte("news"), pc.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if got := readN(t, c, 1)[0]; got.data != "news" {
			t.Errorf("got %+v", got)
		}
		if c.Stats().Refused != 1 {
			t.Errorf("%+v", c.Stats())
		}
	})
}

func TestConcurrentWrites(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		c, d := listen(t, "udp4", "127.0.0.1:0", o), listen(t, "udp4", "127.0.0.1:0", o)
		to := addrOf(t, d.LocalAddr())
		const writers, writes, segments = 4, 10, 5
		errs := make(chan error, writers)
		for w := range writers {
			go func() {
				var err error
				for range writes {
					err = errors.Join(err, c.Write(bytes.Repeat([]byte{byte(w)}, 100*segments), 100, to, Local{}))
				}
				errs <- err
			}()
		}
		for _, got := range readN(t, d, writers*writes*segments) {
			if got.data != strings.Repeat(got.data[:1], 100) {
				t.Fatal("datagrams are mixed")
			}
		}
		for range writers {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestBufferWarning is trap U6: one warning when the system grants less.
func TestBufferWarning(t *testing.T) {
	var out strings.Builder
	c := &Conn{log: limiter{logger: slog.New(slog.NewTextHandler(&out, nil))}}
	c.socket = socketInfo{isUDP: true, recvBuffer: 212992, sendBuffer: socketBuffer}
	c.checkBuffers(socketBuffer)
	c.checkBuffers(socketBuffer)
	if n := strings.Count(out.String(), "level=WARN"); n != 1 || !strings.Contains(out.String(), "receive=212992") {
		t.Errorf("log:\n%s", out.String())
	}
	if got := c.chooseMaxDatagram(); got != 212992/16 {
		t.Errorf("MaxDatagram is %d", got)
	}
}

func TestBuffers(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0", Options{Buffer: -1})
	d := listen(t, "udp4", "127.0.0.1:0", Options{})
	if a, b := c.Stats(), d.Stats(); b.RecvBuffer < a.RecvBuffer || b.SendBuffer < a.SendBuffer || b.RecvBuffer == 0 {
		t.Errorf("%+v, %+v", a, b)
	}
}

func TestMaxDatagram(t *testing.T) {
	c := &Conn{}
	if got := c.chooseMaxDatagram(); got != genericDatagram {
		t.Errorf("generic: %d", got)
	}
	c.opt.MaxDatagram = 5000
	if got := c.chooseMaxDatagram(); got != 5000 {
		t.Errorf("option: %d", got)
	}
	c = &Conn{socket: socketInfo{isUDP: true, recvBuffer: 1000}}
	if got := c.chooseMaxDatagram(); got != minDatagram {
		t.Errorf("small buffer: %d", got)
	}
	c.socket.recvBuffer = socketBuffer
	if got := c.chooseMaxDatagram(); got != maxPayload {
		t.Errorf("large buffer: %d", got)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv(offloadEnv, " NOGSO,nogro, unknown")
	var o Options
	o.applyEnv()
	if (o != Options{NoGSO: true, NoGRO: true}) {
		t.Errorf("%+v", o)
	}
	t.Setenv(offloadEnv, "off,nommsg")
	o = Options{}
	o.applyEnv()
	if (o != Options{NoFastPath: true, NoMMsg: true}) {
		t.Errorf("%+v", o)
	}
}
