package endpoint

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs f in a network of its own that has nothing but lo, and skips the test
// if that cannot be made.
func inNamespace(t *testing.T, f func(ip func(args string))) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	done := make(chan struct{})
	var failed error
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		if failed = unix.Unshare(unix.CLONE_NEWNET); failed != nil {
			return
		}
		ip := func(args string) {
			t.Helper()
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v: %s", args, err, out)
				runtime.Goexit()
			}
		}
		f(ip)
	}()
	<-done
	if failed != nil {
		t.Skip("unshare:", failed)
	}
}

// TestAddressGone: the address of a client is taken away in the middle of transfers, and
// there is another one. PROTOCOL §7.13.
func TestAddressGone(t *testing.T) {
	inNamespace(t, func(ip func(string)) {
		ip("link set lo up")
		ip("addr add 10.77.0.1/32 dev lo")
		ip("route add local 10.77.1.0/24 dev lo src 10.77.0.1")
		cfg := testConfig()
		pc, err := net.ListenPacket("udp", "10.77.1.9:0")
		if err != nil {
			t.Error(err)
			return
		}
		b := newEndpoint(t, pc, cfg)
		b.Listen()
		a := connected(t, b.LocalAddr(), cfg)
		if got := a.LocalAddr().(*net.UDPAddr).IP.String(); got != "10.77.0.1" {
			t.Errorf("the client is at %s", got)
			return
		}
		c, s := connectTo(t, a, b.LocalAddr(), b)
		const size = 64 << 20 // more is left after a third than any window holds
		change, gone, changed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(changed)
			done := false
			transfer(t, c, s, size, func(got int) {
				if !done && got > size/3 {
					done = true
					close(change)
					<-gone
				}
			})
		}()
		<-change
		from := time.Now()
		ip("addr add 10.77.0.2/32 dev lo")
		ip("addr del 10.77.0.1/32 dev lo")
		ip("route replace local 10.77.1.0/24 dev lo src 10.77.0.2")
		close(gone)
		<-changed
		t.Log(time.Since(from), "from the change to the end;", a.Stats().SendErrors, "writes have failed")
		for _, at := range []net.Addr{c.LocalAddr(), s.RemoteAddr()} {
			if got := at.(*net.UDPAddr).IP.String(); got != "10.77.0.2" {
				t.Errorf("the client is at %s", got)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
