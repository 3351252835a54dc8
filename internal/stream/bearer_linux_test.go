package stream

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBearerSocket: little waits unsent in the kernel, and nothing waits for more.
func TestBearerSocket(t *testing.T) {
	for _, m := range []mode{{name: "plain"}, {name: "tls", tls: true}} {
		cc, sc, _ := autoConfigs(m)
		c, s := bearers(t, cc, sc)
		for _, b := range []*Bearer{c, s} {
			raw, err := b.NetConn().(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) {
				for option, want := range map[int]int{unix.TCP_NOTSENT_LOWAT: minUnsent, unix.TCP_NODELAY: 1, unix.TCP_USER_TIMEOUT: 0} {
					if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || v != want {
						t.Errorf("%s: option %d is %d, %v, want %d", m.name, option, v, err, want)
					}
				}
			})
			if b.LocalAddr().String() == b.RemoteAddr().String() {
				t.Error(b.LocalAddr())
			}
		}
	}
}
