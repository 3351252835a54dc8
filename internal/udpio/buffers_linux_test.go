package udpio

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// With CAP_NET_ADMIN a socket's buffers may be larger than net.core.rmem_max and wmem_max
// say (SO_RCVBUFFORCE); without, they are as large as those, and that is no error.
func TestBuffersGranted(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	forced := false
	rawConn(pc).Control(func(fd uintptr) {
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<16) == nil
	})
	c := New(pc, Options{})
	defer c.Close()
	want := func(sysctl string) int {
		b, err := os.ReadFile("/proc/sys/net/core/" + sysctl)
		if forced || err != nil {
			return socketBuffer
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return min(n, socketBuffer)
	}
	st := c.Stats()
	require.GreaterOrEqual(t, st.RecvBuffer, want("rmem_max"))
	require.GreaterOrEqual(t, st.SendBuffer, want("wmem_max"))
}
