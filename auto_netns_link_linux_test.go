package vstp_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Links between network namespaces, with the kernel's own sockets, and firewall rules that
// make their faults. Processes at the ends are those of auto_netns_peer_linux_test.go.

const (
	netnsDevice = "veth0"
	netnsPort   = "6969"
)

// A netnsPlace is one end of a link: a thread in a network namespace of its own. The
// namespace has no name, and goes with the thread and the processes started from it,
// however the test ends.
type netnsPlace struct {
	addr  string
	calls chan func()
	tid   int
}

// A netnsLink is two of them, joined.
type netnsLink struct {
	t              testing.TB
	server, client *netnsPlace
}

// netnsEnv switches the tests in namespaces on. Beside others that want both CPUs they would
// measure those.
const netnsEnv = "VSTP_NETNS"

// needNetns skips the test unless it was asked for.
func needNetns(t testing.TB) {
	t.Helper()
	if os.Getenv(netnsEnv) == "" {
		t.Skip("takes the time of real links, so it runs by itself: set " + netnsEnv + "=1, as root")
	}
	require.Zero(t, os.Geteuid(), "only root can make network namespaces")
	for _, program := range []string{"ip", "tc", "nft"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err)
	}
}

// newNetnsLink joins two namespaces, with so many Mbit/s in either direction, and a queue of
// 30 ms there.
func newNetnsLink(t testing.TB, mbit int) *netnsLink {
	t.Helper()
	needNetns(t)
	l := &netnsLink{t, newNetnsPlace(t, "10.77.0.1"), newNetnsPlace(t, "10.77.0.2")}
	// One segment at a time is what a firewall sees on the way: without this, rules would
	// drop or count whole batches of datagrams.
	const one = "gso_max_segs 1"
	l.server.ip(t, fmt.Sprintf("link add %s %s type veth peer name %[1]s %[2]s netns %d", netnsDevice, one, l.client.tid))
	for _, p := range []*netnsPlace{l.server, l.client} {
		p.ip(t, "link set lo up")
		p.ip(t, "addr add "+p.addr+"/24 dev "+netnsDevice)
		p.ip(t, "link set "+netnsDevice+" up")
		p.command(t, "", "tc", strings.Fields(fmt.Sprintf(
			"qdisc add dev %s root tbf rate %dmbit burst 16kb latency 30ms", netnsDevice, mbit))...)
	}
	return l
}

func newNetnsPlace(t testing.TB, addr string) *netnsPlace {
	t.Helper()
	p := &netnsPlace{addr: addr, calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		p.tid = unix.Gettid()
		ready <- err
		for f := range p.calls {
			f()
		}
	}()
	err := <-ready
	t.Cleanup(func() { close(p.calls) })
	if errors.Is(err, unix.EPERM) {
		t.Skip("unshare:", err)
	}
	require.NoError(t, err)
	return p
}

// do calls f in the namespace. Sockets that f makes stay there, and processes that it
// starts; goroutines do not.
func (p *netnsPlace) do(f func() error) error {
	done := make(chan error)
	p.calls <- func() { done <- f() }
	return <-done
}

// start starts a process, which dies with this one.
func (p *netnsPlace) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p.do(cmd.Start)
}

func (p *netnsPlace) command(t testing.TB, input, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	require.NoErrorf(t, errors.Join(p.start(cmd), cmd.Wait()), "%s %s: %s%s", name, args, input, &out)
}

func (p *netnsPlace) ip(t testing.TB, args string) {
	t.Helper()
	p.command(t, "", "ip", strings.Fields(args)...)
}

// Rules for the packets that come in at either end, as a firewall between them would have.
// A dropped packet is not answered, and its sender gets no error.
const (
	udpBlocked  = "meta l4proto udp drop"
	udpRejected = "meta l4proto udp reject" // with ICMP port unreachable
	udpSmall    = "udp length > 608 drop"   // payloads of more than 600 bytes
	udpMegabit  = "meta l4proto udp limit rate over 125 kbytes/second burst 16000 bytes drop"
	udpLoss40   = "meta l4proto udp numgen random mod 100 < 40 drop"
	tcpBlocked  = "meta l4proto tcp drop" // whether established or not
	tcpReset    = "tcp flags & rst == 0 reject with tcp reset"

	netnsRules = "table inet fault {\nchain input {\ntype filter hook input priority 0; policy accept\n%s\n}\n}\n"
	netnsFlush = "table inet fault\ndelete table inet fault\n" // the first makes it where it is missing
)

// fault replaces the rules at both ends. Without any, the link is as good as new.
func (l *netnsLink) fault(rules ...string) {
	l.t.Helper()
	for _, p := range []*netnsPlace{l.server, l.client} {
		p.fault(l.t, rules...)
	}
}

func (p *netnsPlace) fault(t testing.TB, rules ...string) {
	t.Helper()
	p.command(t, netnsFlush+fmt.Sprintf(netnsRules, strings.Join(rules, "\n")), "nft", "-f", "-")
}

// tcpStalled returns a rule that drops what belongs to TCP connections established now, and
// none that comes later.
func (l *netnsLink) tcpStalled() string {
	l.t.Helper()
	ports := l.tcpPorts()
	require.NotEmpty(l.t, ports, "no TCP connection is there")
	return "tcp dport { " + strings.Join(append(ports, netnsPort), ", ") + " } tcp sport { " + strings.Join(append(ports, netnsPort), ", ") + " } drop"
}

// tcpPorts returns the client's ports of the TCP connections that are established.
func (l *netnsLink) tcpPorts() (ports []string) {
	l.t.Helper()
	var table []byte
	require.NoError(l.t, l.client.do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/tcp")
		return err
	}))
	port := func(hex string) string {
		_, digits, _ := strings.Cut(hex, ":")
		n, _ := strconv.ParseUint(digits, 16, 16)
		return strconv.FormatUint(n, 10)
	}
	for line := range strings.Lines(string(table)) {
		// sl local remote state ...
		if f := strings.Fields(line); len(f) > 3 && f[3] == "01" && port(f[2]) == netnsPort {
			ports = append(ports, port(f[1]))
		}
	}
	return ports
}

// address is where the server listens.
func (l *netnsLink) address() string { return net.JoinHostPort(l.server.addr, netnsPort) }
