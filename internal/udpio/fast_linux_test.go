package udpio

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script puts errors in front of the kernel's answers.
type script struct {
	kernel
	sendmsgErr  func(h *unix.Msghdr) syscall.Errno
	sendmmsgErr func(h []unix.Mmsghdr) (int, syscall.Errno)
	recvErr     func() syscall.Errno
	sent        int // calls that reached the kernel
}

func (s *script) sendmsg(fd int, h *unix.Msghdr) syscall.Errno {
	if s.sendmsgErr != nil {
		if errno := s.sendmsgErr(h); errno != 0 {
			return errno
		}
	}
	s.sent++
	return s.kernel.sendmsg(fd, h)
}

func (s *script) sendmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno) {
	if s.sendmmsgErr != nil {
		n, errno := s.sendmmsgErr(h)
		if errno != 0 {
			return 0, errno
		}
		h = h[:n]
	}
	s.sent++
	return s.kernel.sendmmsg(fd, h)
}

func (s *script) recvmmsg(fd int, h []unix.Mmsghdr) (int, syscall.Errno) {
	if s.recvErr != nil {
		if errno := s.recvErr(); errno != 0 {
			return 0, errno
		}
	}
	return s.kernel.recvmmsg(fd, h)
}

// hasSegment knows it by the length: tests send segments of 1000 bytes.
func hasSegment(h *unix.Msghdr) bool { return h.Iov.Len > 1000 }

func first(errnos ...syscall.Errno) func() syscall.Errno {
	return func() syscall.Errno {
		if len(errnos) == 0 {
			return 0
		}
		e := errnos[0]
		errnos = errnos[1:]
		return e
	}
}

func fastConn(t *testing.T, c *Conn, s *script) *fast {
	t.Helper()
	f, ok := c.io.(*fast)
	if !ok {
		t.Fatal("no fast path")
	}
	f.calls = s
	return f
}

func TestSendFallbacks(t *testing.T) {
	onGSO := func(errno syscall.Errno) func(h *unix.Msghdr) syscall.Errno {
		return func(h *unix.Msghdr) syscall.Errno {
			if hasSegment(h) {
				return errno
			}
			return 0
		}
	}
	once := func(errno syscall.Errno) func(*unix.Msghdr) syscall.Errno {
		next := first(errno)
		return func(*unix.Msghdr) syscall.Errno { return next() }
	}
	always := func(errno syscall.Errno) func(*unix.Msghdr) syscall.Errno {
		return func(*unix.Msghdr) syscall.Errno { return errno }
	}
	enosys := func([]unix.Mmsghdr) (int, syscall.Errno) { return 0, unix.ENOSYS }
	tests := []struct {
		name   string
		script script
		want   error
		stats  Stats // the counters
		gso    bool  // still in use, and for this destination
		gsoTo  bool
	}{
		{name: "EIO, trap U4", script: script{sendmsgErr: onGSO(unix.EIO)}, stats: Stats{GSOFallback: 1}, gso: true},
		{name: "EINVAL, trap U4", script: script{sendmsgErr: onGSO(unix.EINVAL)}, stats: Stats{GSOFallback: 1}},
		{name: "EMSGSIZE of GSO only", script: script{sendmsgErr: onGSO(unix.EMSGSIZE)}, stats: Stats{GSOFallback: 1}, gso: true},
		{
			name: "EMSGSIZE of the segments too, trap U2",
			script: script{sendmsgErr: always(unix.EMSGSIZE), sendmmsgErr: func([]unix.Mmsghdr) (int, syscall.Errno) {
				return 0, unix.EMSGSIZE
			}},
			want: ErrTooLarge, stats: Stats{GSOFallback: 1, TooLarge: 1}, gso: true, gsoTo: true,
		},
		{name: "EIO and no sendmmsg", script: script{sendmsgErr: onGSO(unix.EIO), sendmmsgErr: enosys}, stats: Stats{GSOFallback: 1, MMsgFallback: 1}, gso: true},
		{
			name: "a part sent by sendmmsg, trap U5",
			script: script{sendmsgErr: onGSO(unix.EIO), sendmmsgErr: func(h []unix.Mmsghdr) (int, syscall.Errno) {
				return min(len(h), 2), 0
			}},
			stats: Stats{GSOFallback: 1}, gso: true,
		},
		{name: "EPERM once, trap U5", script: script{sendmsgErr: once(unix.EPERM)}, stats: Stats{Permission: 1}, gso: true, gsoTo: true},
		{name: "EPERM", script: script{sendmsgErr: always(unix.EPERM)}, want: unix.EPERM, stats: Stats{Permission: 2, WriteErrors: 1}, gso: true, gsoTo: true},
		{name: "ECONNREFUSED, trap U1", script: script{sendmsgErr: once(unix.ECONNREFUSED)}, stats: Stats{Refused: 1}, gso: true, gsoTo: true},
		{name: "EAGAIN", script: script{sendmsgErr: always(unix.EAGAIN)}, want: ErrAgain, stats: Stats{Again: 1}, gso: true, gsoTo: true},
		{name: "ENOBUFS", script: script{sendmsgErr: always(unix.ENOBUFS)}, want: ErrAgain, stats: Stats{Again: 1}, gso: true, gsoTo: true},
		{name: "EINTR", script: script{sendmsgErr: once(unix.EINTR)}, gso: true, gsoTo: true},
		{name: "EHOSTUNREACH", script: script{sendmsgErr: always(unix.EHOSTUNREACH)}, want: unix.EHOSTUNREACH, stats: Stats{WriteErrors: 1}, gso: true, gsoTo: true},
		{name: "EADDRNOTAVAIL of the source", script: script{sendmsgErr: once(unix.EADDRNOTAVAIL)}, stats: Stats{SourceFallback: 1}, gso: true, gsoTo: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, d := listen(t, "udp4", ":0", Options{}), listen(t, "udp4", "127.0.0.1:0", Options{})
			f := fastConn(t, c, &test.script)
			if !f.gso.Load() || !f.mmsg.Load() {
				t.Skip("this kernel has no GSO")
			}
			to := addrOf(t, d.LocalAddr())
			data := numbered(4500)
			err := c.Write(data, 1000, to, Local{Addr: netip.MustParseAddr("127.0.0.1")})
			if err != test.want {
				t.Fatalf("error is %v, want %v", err, test.want)
			}
			if err == nil {
				for i, got := range readN(t, d, 5) {
					if got.data != string(data[1000*i:min(1000*i+1000, len(data))]) {
						t.Errorf("datagram %d is wrong", i)
					}
				}
			}
			s := c.Stats()
			test.stats.RecvBuffer, test.stats.SendBuffer = s.RecvBuffer, s.SendBuffer
			test.stats.FastPath, test.stats.GRO, test.stats.MMsg = true, s.GRO, test.stats.MMsgFallback == 0
			test.stats.GSO = test.gso
			if s != test.stats {
				t.Errorf("stats are\n%+v, want\n%+v", s, test.stats)
			}
			if got := f.useGSO(to.Addr()); got != test.gsoTo {
				t.Errorf("GSO is used for the destination: %v", got)
			}
			if want := map[bool]int{true: maxSegments, false: 1}[test.gso]; c.MaxSegments() != want {
				t.Errorf("MaxSegments is %d", c.MaxSegments())
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0", Options{})
	f := fastConn(t, c, &script{recvErr: first(unix.ECONNREFUSED, unix.EINTR, unix.EHOSTUNREACH, unix.EMSGSIZE, unix.ENOMEM, unix.ENOSYS)})
	if err := c.Write([]byte("a"), 0, addrOf(t, c.LocalAddr()), Local{}); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, c, 1)[0].data; got != "a" {
		t.Errorf("got %q", got)
	}
	s := c.Stats()
	if s.Refused != 1 || s.ReadErrors != 2 || s.Truncated != 1 || s.MMsgFallback != 1 || s.MMsg {
		t.Errorf("%+v", s)
	}
	f.mmsg.Store(true)
	f.calls = &script{recvErr: first(unix.EBADF)}
	if _, err := c.Read(make([]Packet, 1)); err != net.ErrClosed {
		t.Errorf("error is %v", err)
	}
	f.calls = &script{recvErr: first(unix.ENOTSOCK)}
	if _, err := c.Read(make([]Packet, 1)); err != unix.ENOTSOCK {
		t.Errorf("error is %v", err)
	}
}

// TestTruncated is trap U10: what does not fit is dropped, not passed on cut.
func TestTruncated(t *testing.T) {
	modes(t, func(t *testing.T, o Options) {
		c := listen(t, "udp4", "127.0.0.1:0", o)
		switch io := c.io.(type) {
		case *fast:
			io.recv.size = 100
		case *generic:
			io.buf = make([]byte, 100)
		}
		to := addrOf(t, c.LocalAddr())
		for _, b := range [][]byte{numbered(101), numbered(99), numbered(3000), numbered(7)} {
			if err := c.Write(b, 0, to, Local{}); err != nil {
				t.Fatal(err)
			}
		}
		if got := readN(t, c, 2); got[0].data != string(numbered(99)) || got[1].data != string(numbered(7)) {
			t.Errorf("got %+v", got)
		}
		if c.Stats().Truncated != 2 {
			t.Errorf("%+v", c.Stats())
		}
	})
}

// TestAnswerFromSameAddress is trap U7: the answer comes from the address that the
// question went to, although the socket is bound to all.
func TestAnswerFromSameAddress(t *testing.T) {
	for _, server := range []struct{ network, addr string }{{"udp4", ":0"}, {"udp", "[::]:0"}, {"udp6", "[::]:0"}} {
		for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"} {
			is6 := host == "::1"
			if server.network == "udp4" && is6 || server.network == "udp6" && !is6 {
				continue
			}
			t.Run(server.network+" "+host, func(t *testing.T) {
				needHost(t, host)
				modes(t, func(t *testing.T, o Options) {
					if o.NoFastPath {
						t.Skip("known limitation")
					}
					c := listen(t, server.network, server.addr, o)
					// A connected socket gets nothing from another address.
					client, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(host), Port: portOf(c)})
					if err != nil {
						t.Skip(err)
					}
					defer client.Close()
					client.Write([]byte("question"))
					q := readN(t, c, 1)[0]
					if q.local.Addr != netip.MustParseAddr(host) || q.local.Index == 0 {
						t.Errorf("local is %+v", q.local)
					}
					for _, segSize := range []int{0, 4} {
						if err := c.Write([]byte("answer!!"), segSize, q.addr, q.local); err != nil {
							t.Fatal(err)
						}
						client.SetReadDeadline(time.Now().Add(5 * time.Second))
						b := make([]byte, 100)
						n, err := client.Read(b)
						if err != nil || string(b[:n]) != "answer!!"[:n] {
							t.Fatalf("got %q, %v", b[:n], err)
						}
					}
					if s := c.Stats(); s.SourceFallback+s.GSOFallback != 0 {
						t.Errorf("%+v", s)
					}
				})
			})
		}
	}
}

// TestSourceGone sends from an address that the host does not have.
func TestSourceGone(t *testing.T) {
	for _, server := range []struct{ network, addr, to, from string }{
		{"udp4", ":0", "127.0.0.1", "192.0.2.1"}, {"udp", "[::]:0", "127.0.0.1", "192.0.2.1"}, {"udp6", "[::]:0", "[::1]", "2001:db8::1"},
	} {
		modes(t, func(t *testing.T, o Options) {
			needHost(t, strings.Trim(server.to, "[]"))
			c := listen(t, server.network, server.addr, o)
			to := parseAddr(t, fmt.Sprintf("%s:%d", server.to, portOf(c)))
			data := numbered(3000)
			if err := c.Write(data, 1000, to, Local{Addr: netip.MustParseAddr(server.from)}); err != nil {
				t.Fatal(err)
			}
			readN(t, c, 3)
			if s := c.Stats(); !o.NoFastPath && (s.SourceFallback != 1 || s.GSO == o.NoGSO) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestBoundSocketKnowsItsAddress(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0", Options{})
	if err := c.Write([]byte("a"), 0, addrOf(t, c.LocalAddr()), Local{Addr: netip.MustParseAddr("192.0.2.1")}); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, c, 1)[0].local; (got != Local{Addr: netip.MustParseAddr("127.0.0.1")}) {
		t.Errorf("local is %+v", got)
	}
}

func TestIdleSocketHoldsNoBuffers(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0", Options{})
	if err := c.Write([]byte("a"), 0, addrOf(t, c.LocalAddr()), Local{}); err != nil {
		t.Fatal(err)
	}
	readN(t, c, 1)
	f := c.io.(*fast)
	if f.recv.batch == nil {
		t.Error("the packet is nowhere")
	}
	// The next Read waits until the socket is closed, without a batch.
	waiting := make(chan struct{})
	idle := false
	f.calls = &script{recvErr: func() syscall.Errno { close(waiting); return 0 }}
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]Packet, 1))
		idle = f.recv.batch == nil
		done <- err
	}()
	<-waiting
	c.Close()
	<-done
	if !idle {
		t.Error("the socket still has a batch")
	}
}

// TestSocketOptions reads back what tune has set: trap U2 wants PROBE, not DO.
func TestSocketOptions(t *testing.T) {
	for _, network := range []string{"udp4", "udp6", "udp"} {
		c := listen(t, network, ":0", Options{NoFastPath: true})
		var v4, v6 int
		rawConn(c.pc).Control(func(fd uintptr) {
			v4, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER)
			v6, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER)
		})
		if v4 != unix.IP_PMTUDISC_PROBE || c.socket.v6 && v6 != unix.IPV6_PMTUDISC_PROBE {
			t.Errorf("%s: %d, %d", network, v4, v6)
		}
	}
}

func TestOtherSocketsHaveNoFastPath(t *testing.T) {
	pc, err := net.ListenPacket("unixgram", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	c := New(pc, Options{})
	defer c.Close()
	if s := c.Stats(); s.FastPath || s.RecvBuffer != 0 {
		t.Errorf("%+v", s)
	}
}

// embedding is a wrapper that has SyscallConn, and so is gone round.
type embedding struct{ *net.UDPConn }

func TestWrapperWithSyscallConn(t *testing.T) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c := New(embedding{pc}, Options{})
	defer c.Close()
	if !c.Stats().FastPath {
		t.Error("no fast path")
	}
	d := New(wrapper{pc}, Options{})
	if d.Stats().FastPath {
		t.Error("fast path round a wrapper")
	}
}

// TestLinkLocal sends to the host's own link-local address, whose zone is part of the
// key.
func TestLinkLocal(t *testing.T) {
	var zoned netip.Addr
	ifis, _ := net.Interfaces()
	for _, ifi := range ifis {
		addrs, _ := ifi.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				zoned = p.Addr().WithZone(ifi.Name)
			}
		}
	}
	if !zoned.IsValid() {
		t.Skip("no link-local address")
	}
	modes(t, func(t *testing.T, o Options) {
		c, d := listen(t, "udp6", "[::]:0", o), listen(t, "udp6", "[::]:0", o)
		to := Addr{AddrPort: netip.AddrPortFrom(zoned, uint16(portOf(d)))}
		if err := c.Write([]byte("question"), 0, to, Local{}); err != nil {
			t.Fatal(err)
		}
		q := readN(t, d, 1)[0]
		if want := netip.AddrPortFrom(zoned, uint16(portOf(c))); q.addr.AddrPort != want {
			t.Fatalf("from %v, want %v", q.addr, want)
		}
		if err := d.Write([]byte("answer"), 0, q.addr, q.local); err != nil {
			t.Fatal(err)
		}
		if got := readN(t, c, 1)[0]; got.addr != to {
			t.Errorf("from %v, want %v", got.addr, to)
		}
		if s := d.Stats(); s.SourceFallback != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAddrSetIsBounded(t *testing.T) {
	var s addrSet
	ip := netip.MustParseAddr("2001:db8::")
	for range 3 * maxAddrSet {
		s.add(ip)
		if !s.has(ip) || len(s.m) > maxAddrSet {
			t.Fatal(ip, len(s.m))
		}
		ip = ip.Next()
	}
}

func TestAllocations(t *testing.T) {
	if poison {
		t.Skip("with the race detector, sync.Pool drops some of what it gets")
	}
	modes(t, func(t *testing.T, o Options) {
		if o.NoFastPath && o.NoMMsg {
			t.Skip("net allocates the addresses")
		}
		c := listen(t, "udp", ":0", o)
		to := parseAddr(t, fmt.Sprintf("127.0.0.1:%d", portOf(c)))
		from := Local{Addr: netip.MustParseAddr("127.0.0.1")}
		data, ps := numbered(5000), make([]Packet, 8)
		n := testing.AllocsPerRun(200, func() {
			if err := c.Write(data, 1200, to, from); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < len(data); {
				n, err := c.Read(ps)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range ps[:n] {
					got += len(p.Data)
				}
			}
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestPoison finds who keeps Data over the next Read.
func TestPoison(t *testing.T) {
	if !poison {
		t.Skip("only with the race detector")
	}
	modes(t, func(t *testing.T, o Options) {
		c := listen(t, "udp4", "127.0.0.1:0", o)
		to := addrOf(t, c.LocalAddr())
		ps := make([]Packet, 1)
		c.Write([]byte("abc"), 0, to, Local{})
		c.Read(ps)
		kept := ps[0].Data
		c.Write([]byte("d"), 0, to, Local{})
		c.Read(ps)
		if !slices.Contains([]string{"\xdd\xdd\xdd", "d\xdd\xdd"}, string(kept)) {
			t.Errorf("kept %q", kept)
		}
	})
}
