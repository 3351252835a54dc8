package vstp_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// nettest.TestConn, unmodified, on "auto" over datagrams that are lost, repeated and
// reordered, and TCP beside them; also while both ends move all the time. In real time,
// since it runs subtests.
func TestAutoConnLossy(t *testing.T) {
	for _, loss := range []float64{0.05, 0.2} {
		for _, sealed := range []bool{false, true} {
			for _, moving := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v %%, TLS %v, moving %v", 100*loss, sealed, moving), func(t *testing.T) {
					t.Parallel()
					path := simnet.Path{Delay: time.Millisecond, Loss: loss, Reorder: 0.05, Duplicate: 0.05}
					testAutoConnLossy(t, path, transport{network: "auto", tls: sealed, moving: moving})
				})
			}
		}
	}
}

func testAutoConnLossy(t *testing.T, path simnet.Path, tr transport) {
	n := simnet.New(t, simnet.Options{Seed: 7, Limit: -1, Path: path, TCP: simnet.TCPPath{Delay: time.Millisecond}})
	a, b := n.Host("10.0.0.1"), n.Host("10.0.0.2")
	cc, sc := tr.configs(t)
	inner, err := b.ListenTCP(autoPort)
	require.NoError(t, err)
	ln, err := vstp.NewAutoListener(b.ListenPacket(autoPort), inner, sc)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	d := &vstp.Dialer{Config: cc}
	vstp.SetAutoSockets(d, func() (net.PacketConn, error) { return a.Listen(0) }, func(ctx context.Context, address string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		return a.DialTCP(ctx, to)
	})
	address := netip.AddrPortFrom(b.Addr(), autoPort).String()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		if c1, err = d.Dial("auto", address); err != nil {
			return nil, nil, nil, err
		}
		if c2, err = acceptFrom(ln, c1); err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() {
			first := async(c1.Close)
			c2.Close()
			<-first
		}, nil
	})
}
