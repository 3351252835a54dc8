package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A link is two network namespaces with a TUN device each, and a thread for each
// direction that carries packets from one to the other. The namespaces have no names:
// they are held by threads and processes of this run alone, and go with the last of
// them however the run ends.
type link struct {
	ends     [2]*place // of the servers, of the clients
	carriers [2]*carrier
	noUDP    atomic.Bool
	stopping atomic.Bool
	threads  sync.WaitGroup
}

const (
	linkMTU     = 1500
	linkDevice  = "bench0"
	linkBacklog = 10000 // packets that the device holds for the emulator
)

// Out of the way of addresses that may be in use: RFC 2544 has them for benchmarks.
var linkHosts = [2]netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, 1}), netip.AddrFrom4([4]byte{198, 18, 0, 2})}

// canLink says what is missing.
func canLink() error {
	if os.Geteuid() != 0 {
		return errors.New("a link needs root, for its network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("a link needs TUN devices: %w", err)
	}
	return nil
}

func newLink(ls *linkSpec, seed uint64) (*link, error) {
	// A thread each for the directions, and others beside them.
	if runtime.GOMAXPROCS(0) < 4 {
		runtime.GOMAXPROCS(4)
	}
	l := &link{}
	l.noUDP.Store(ls.NoUDP)
	for i := range l.ends {
		p, err := newPlace(linkHosts[i])
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.ends[i] = p
	}
	start := time.Now()
	for i := range l.carriers {
		l.carriers[i] = &carrier{
			link: l, in: l.ends[i], out: l.ends[1-i], start: start,
			shaper: newShaper(ls.impairment, seed, uint64(i)),
		}
		l.threads.Go(l.carriers[i].run)
	}
	return l, nil
}

// blockUDP says whether UDP packets are lost from now on.
func (l *link) blockUDP(block bool) { l.noUDP.Store(block) }

func (l *link) host() string   { return linkHosts[0].String() }
func (l *link) server() *place { return l.ends[0] }
func (l *link) client() *place { return l.ends[1] }

// counts returns what happened so far in both directions.
func (l *link) counts() (toClient, toServer linkCounts) {
	toClient, toServer = l.carriers[0].stats(), l.carriers[1].stats()
	toClient.Overruns, toServer.Overruns = l.ends[0].overruns(), l.ends[1].overruns()
	return toClient, toServer
}

// close ends the link when the processes at its ends have ended.
func (l *link) close() (err error) {
	l.stopping.Store(true)
	l.threads.Wait()
	for _, c := range l.carriers {
		if c != nil {
			err = errors.Join(err, c.err)
		}
	}
	for _, p := range l.ends {
		if p != nil {
			p.close()
		}
	}
	return err
}

// A place is one end of the link: a thread in a network namespace of its own. It lasts
// until close, as processes that it started die with it.
type place struct {
	calls chan func()
	tun   int
}

func newPlace(host netip.Addr) (*place, error) {
	p := &place{calls: make(chan func()), tun: -1}
	ready := make(chan error)
	go func() {
		// Never unlocked: no other goroutine shall find itself in this namespace.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err != nil {
			err = fmt.Errorf("new network namespace: %w", err)
		} else {
			err = p.setUp(host)
		}
		ready <- err
		for f := range p.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// do calls f in the namespace.
func (p *place) do(f func() error) error {
	done := make(chan error)
	p.calls <- func() { done <- f() }
	return <-done
}

// start starts a process in the namespace, which dies with this one.
func (p *place) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return p.do(cmd.Start)
}

func (p *place) close() {
	close(p.calls)
	if p.tun >= 0 {
		unix.Close(p.tun)
	}
}

// setUp makes the devices of the namespace. It runs in its thread.
func (p *place) setUp(host netip.Addr) (err error) {
	for name, value := range map[string]string{
		// Enough for 500 Mbit/s at 200 ms. The buffers of UDP are set by each contender.
		"net/ipv4/tcp_rmem": "4096 131072 67108864",
		"net/ipv4/tcp_wmem": "4096 16384 67108864",
		// Nothing but the contenders' packets shall be on the link.
		"net/ipv6/conf/default/disable_ipv6": "1",
	} {
		err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	p.tun, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	up := func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING) }
	address := func(r *unix.Ifreq) { b := host.As4(); r.SetInet4Addr(b[:]) }
	for _, step := range []struct {
		what    string
		fd      int
		request uint
		device  string
		set     func(*unix.Ifreq)
	}{
		{"make the device", p.tun, unix.TUNSETIFF, linkDevice, func(r *unix.Ifreq) { r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI) }},
		{"address", sock, unix.SIOCSIFADDR, linkDevice, address},
		{"netmask", sock, unix.SIOCSIFNETMASK, linkDevice, func(r *unix.Ifreq) { r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{"MTU", sock, unix.SIOCSIFMTU, linkDevice, func(r *unix.Ifreq) { r.SetUint32(linkMTU) }},
		{"queue", sock, unix.SIOCSIFTXQLEN, linkDevice, func(r *unix.Ifreq) { r.SetUint32(linkBacklog) }},
		{"up", sock, unix.SIOCSIFFLAGS, linkDevice, up},
		{"loopback", sock, unix.SIOCSIFFLAGS, "lo", up},
	} {
		r, err := unix.NewIfreq(step.device)
		if err != nil {
			return err
		}
		step.set(r)
		if err := unix.IoctlIfreq(step.fd, step.request, r); err != nil {
			return fmt.Errorf("%s: %s: %w", step.device, step.what, err)
		}
	}
	return nil
}

// overruns returns how many packets the device dropped, as the emulator did not take
// them in time.
func (p *place) overruns() (n uint64) {
	p.do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(string(b), linkDevice+":")
		if fields := strings.Fields(rest); len(fields) > 11 {
			fmt.Sscan(fields[11], &n) // dropped, of the eight for sending
		}
		return nil
	})
	return n
}

// A carrier carries packets one way, in a thread of its own.
type carrier struct {
	link    *link
	in, out *place
	start   time.Time
	shaper  *shaper
	err     error

	mu     sync.Mutex // for the counts of shaper
	flight flight
	spare  [][]byte
}

// carrierBatch is how many packets are taken in before a look at what is due.
const carrierBatch = 16

// protocolByte is where an IPv4 header has the protocol.
const protocolByte = 9

func (c *carrier) now() int64 { return int64(time.Since(c.start)) }

func (c *carrier) stats() linkCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shaper.stats()
}

func (c *carrier) run() {
	runtime.LockOSThread() // never unlocked, for what is set here
	// A thread of ordinary priority would wake up late when contenders keep the CPUs
	// busy. Where that is forbidden the table shows it, under late.
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	for !c.link.stopping.Load() && c.err == nil {
		more := c.takeIn()
		if !c.deliver() && !more {
			c.wait()
		}
	}
}

// takeIn takes packets from the device and reports whether there may be more.
func (c *carrier) takeIn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range carrierBatch {
		data := c.buffer()
		n, err := unix.Read(c.in.tun, data)
		if err != nil {
			c.spare = append(c.spare, data)
			if err != unix.EAGAIN && err != unix.EINTR {
				c.err = fmt.Errorf("read from the TUN device: %w", err)
			}
			return false
		}
		due, stray, ok := int64(0), false, false
		if n <= protocolByte || data[protocolByte] != unix.IPPROTO_UDP || !c.link.noUDP.Load() {
			due, stray, ok = c.shaper.enter(c.now(), n)
		}
		if !ok {
			c.spare = append(c.spare, data)
			continue
		}
		c.flight.push(packet{due: due, data: data[:n]}, stray)
	}
	return true
}

// deliver hands out packets that are due and reports whether there may be more.
func (c *carrier) deliver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := &c.shaper.counts
	for range carrierBatch {
		p := c.flight.first()
		if p == nil {
			return false
		}
		late := time.Duration(c.now() - p.due)
		if late < 0 {
			return false
		}
		if _, err := unix.Write(c.out.tun, p.data); err == nil {
			counts.Delivered++
			counts.DeliveredBytes += uint64(len(p.data))
		}
		counts.LateTotal += late
		counts.LateMax = max(counts.LateMax, late)
		if late > time.Millisecond {
			counts.Late++
		}
		c.spare = append(c.spare, p.data[:linkMTU])
		c.flight.drop()
	}
	return true
}

// wait sleeps until there is a packet, or one is due.
func (c *carrier) wait() {
	timeout := 20 * time.Millisecond // to see that the link is stopping
	if p := c.flight.first(); p != nil {
		timeout = min(timeout, time.Duration(p.due-c.now()))
	}
	if timeout <= 0 {
		return
	}
	t := unix.NsecToTimespec(int64(timeout))
	unix.Ppoll([]unix.PollFd{{Fd: int32(c.in.tun), Events: unix.POLLIN}}, &t, nil)
}

func (c *carrier) buffer() []byte {
	if len(c.spare) == 0 {
		const n = 256
		for b := range slices.Chunk(make([]byte, n*linkMTU), linkMTU) {
			c.spare = append(c.spare, b)
		}
	}
	last := len(c.spare) - 1
	b := c.spare[last]
	c.spare = c.spare[:last]
	return b
}

// congestionControl returns what sets the congestion control of a TCP socket.
func congestionControl(name string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
		}); cerr != nil {
			return cerr
		}
		if err != nil {
			return fmt.Errorf("TCP congestion control %s: %w", name, err)
		}
		return nil
	}
}

// retransmitted returns the share of what the server's end of a stream sent again.
func retransmitted(s stream) (x float64, ok bool) {
	conn, isTCP := s.(*net.TCPConn)
	if !isTCP {
		return retransmittedOf(s)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Bytes_sent > 0 {
			x, ok = share(info.Bytes_retrans, info.Bytes_sent), true
		}
	})
	return x, ok
}
