package vstp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vstp-go/vstp"
)

// TestDialClosedPort: a dial to a port that nobody listens at ends soon. Trap U1.
func TestDialClosedPort(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not every system tells")
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		free, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Log(err) // no IPv6 here
			continue
		}
		addr := free.LocalAddr().String()
		free.Close()
		for _, network := range []string{"udp", "rudp"} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := new(vstp.Dialer).DialContext(ctx, network, addr)
			cancel()
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" || op.Net != network || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s to %s: %v", network, addr, err)
			}
		}
	}
}

// TestDialConnected: a socket that Dial has connected carries as much as any, and knows
// where it is.
func TestDialConnected(t *testing.T) {
	l, err := vstp.Listen("rudp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	c, err := vstp.Dial("rudp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if a := c.LocalAddr().(*net.UDPAddr); !a.IP.IsLoopback() {
		t.Error(a)
	}
	go c.Write(make([]byte, 1<<20))
	if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
		t.Error(err)
	}
}
