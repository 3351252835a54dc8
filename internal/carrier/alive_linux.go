package carrier

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Responsive reports whether the peer's host, as far as can be told, still answers
// although its application takes nothing: its TCP has acknowledged something, if
// only a window probe, within d, or owes no answer.
func (c *Carrier) Responsive(d time.Duration) bool {
	tc, ok := c.conn.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return true
	}
	responsive := true
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		// Two unanswered probes or retransmissions: one may simply be under way.
		owed := info.Retransmits > 1 || info.Probes > 1
		responsive = !owed || time.Duration(info.Last_ack_recv)*time.Millisecond < d
	})
	return responsive
}
