package vstp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// newStack is newSimLink with all the options of the network, and with configurations
// of their own.
func newStack(t testing.TB, o simnet.Options, client, server *vstp.Config) *simLink {
	t.Helper()
	n := simnet.New(t, o)
	l := &simLink{net: n, ch: n.Host("10.0.0.1"), sh: n.Host("10.0.0.2")}
	l.client = vstp.NewPacketConn(l.ch.ListenPacket(0), simConfig(client))
	l.restart(t, server)
	t.Cleanup(func() { l.close() })
	return l
}

// restart starts a server on the port of the one before, which was closed.
func (l *simLink) restart(t testing.TB, config *vstp.Config) {
	t.Helper()
	l.server = vstp.NewPacketConn(l.sh.ListenPacket(6969), simConfig(config))
	var err error
	l.ln, err = l.server.ListenStream()
	require.NoError(t, err)
}

// kill ends the server without a word to anybody.
func (l *simLink) kill() {
	forth, back := l.net.Path(l.ch, l.sh), l.net.Path(l.sh, l.ch)
	was, wasBack := forth.Params(), back.Params()
	l.net.Both(l.ch, l.sh, simnet.Path{Down: true})
	l.server.Close()
	forth.Set(was)
	back.Set(wasBack)
}

// down makes the paths go away for d, both ways.
func (l *simLink) down(d time.Duration) {
	for _, p := range []*simnet.Link{l.net.Path(l.ch, l.sh), l.net.Path(l.sh, l.ch)} {
		p.Update(func(p *simnet.Path) { p.Down = true })
		time.AfterFunc(d, func() { p.Update(func(p *simnet.Path) { p.Down = false }) })
	}
}

// send sends a message to the server.
func (l *simLink) send(m *vstp.Message) error {
	return l.client.SendMessage(context.Background(), m, l.server.LocalAddr())
}

// receive returns the next message of the server.
func (l *simLink) receive(t testing.TB) *vstp.Message {
	t.Helper()
	m, _, err := l.server.ReceiveMessage(context.Background())
	require.NoError(t, err)
	return m
}

// quiet checks that no further message comes.
func (l *simLink) quiet(t testing.TB) {
	t.Helper()
	require.NoError(t, l.server.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, _, err := l.server.ReceiveMessage(context.Background())
	isTimeoutOf(t, err)
	require.NoError(t, l.server.SetReadDeadline(time.Time{}))
}

// A stackPath is a path, perhaps another one back, and what happens to it on the way.
type stackPath struct {
	name  string
	path  simnet.Path
	back  *simnet.Path
	event func(l *simLink)
}

const ms = time.Millisecond

// stackPaths are all the things that paths do.
var stackPaths = []stackPath{
	{name: "clean", path: simnet.Path{Delay: 10 * ms}},
	{name: "no delay", path: simnet.Path{}},
	{name: "loss 5", path: simnet.Path{Delay: 10 * ms, Loss: 0.05}},
	{name: "loss 10", path: simnet.Path{Delay: 10 * ms, Loss: 0.1}},
	{name: "loss 30", path: simnet.Path{Delay: 10 * ms, Loss: 0.3}},
	{name: "bursts", path: simnet.Path{Delay: 10 * ms, Burst: simnet.Bursts(0.1, 10)}},
	{name: "reordering", path: simnet.Path{Delay: 10 * ms, Reorder: 0.3, ReorderDepth: 10}},
	{name: "duplication", path: simnet.Path{Delay: 10 * ms, Duplicate: 0.5, DuplicateDelay: 50 * ms}},
	{name: "jitter", path: simnet.Path{Delay: 10 * ms, Jitter: 40 * ms}},
	{name: "corruption", path: simnet.Path{Delay: 10 * ms, Corrupt: 0.1}},
	{name: "everything", path: simnet.Path{Delay: 10 * ms, Jitter: 20 * ms, Loss: 0.05, Burst: simnet.Bursts(0.05, 5),
		Reorder: 0.1, Duplicate: 0.1, DuplicateDelay: 5 * ms, Corrupt: 0.02, Rate: 2_000_000, Queue: 100_000, MTU: 1400}},
	{name: "tiny queue", path: simnet.Path{Delay: 10 * ms, Rate: 1_000_000, Queue: 6000}},
	{name: "huge queue", path: simnet.Path{Delay: 10 * ms, Rate: 300_000, Queue: 10_000_000}},
	{name: "slow", path: simnet.Path{Delay: 300 * ms, Rate: 50_000, Queue: 50_000}},
	{name: "asymmetric", path: simnet.Path{Delay: 5 * ms, Rate: 5_000_000, Queue: 100_000},
		back: &simnet.Path{Delay: 200 * ms, Rate: 20_000, Queue: 20_000, Loss: 0.2}},
	{name: "blackout", path: simnet.Path{Delay: 10 * ms, Rate: 2_000_000, Queue: 100_000},
		event: func(l *simLink) { l.down(10 * time.Second) }},
	{name: "MTU 1472 to 1280", path: simnet.Path{Delay: 10 * ms, Rate: 2_000_000, Queue: 100_000, MTU: 1500},
		event: setMTU(1280 + 28)},
	{name: "MTU 9000 to 1200", path: simnet.Path{Delay: 10 * ms, Rate: 2_000_000, Queue: 100_000, MTU: 9000},
		event: setMTU(1200 + 28)},
}

func setMTU(mtu int) func(l *simLink) {
	return func(l *simLink) {
		for _, p := range []*simnet.Link{l.net.Path(l.ch, l.sh), l.net.Path(l.sh, l.ch)} {
			p.Update(func(p *simnet.Path) { p.MTU = mtu })
		}
	}
}

// stackConfig has enough patience for all of stackPaths.
var stackConfig = &vstp.Config{Linger: 5 * time.Minute, MaxRetries: 30, HandshakeTimeout: time.Minute, IdleTimeout: 5 * time.Minute}

// eachStack runs f with a link of each path, in bubbles. In odd seeds, pion vnet carries
// the packets. begin is to be called when the transfer of n bytes begins.
func eachStack(t *testing.T, seeds int, f func(t *testing.T, l *simLink, begin func(n int64))) {
	for _, p := range stackPaths {
		t.Run(p.name, func(t *testing.T) {
			simnet.Run(t, seeds, func(t *testing.T, seed uint64) {
				l := newStack(t, simnet.Options{Seed: seed, Path: p.path, VNet: seed%2 == 1}, stackConfig, stackConfig)
				if p.back != nil {
					l.net.Path(l.sh, l.ch).Set(*p.back)
				}
				size := int64(0)
				f(t, l, func(n int64) {
					size = n
					if p.event == nil {
						return
					}
					at := ms
					if n >= 64<<10 {
						at = time.Duration(n) * time.Second / 2_000_000 / 2
					}
					time.AfterFunc(at, func() { p.event(l) })
				})
				l.close()
				if st := l.net.Path(l.ch, l.sh).Stats(); p.event != nil && size >= 1<<20 {
					require.NotZero(t, st.Down+st.TooLarge, "it came too late")
				}
			})
		})
	}
}

// stackSizes are the sizes of stack tests on every path.
var stackSizes = []int64{0, 1, 1 << 10, 64 << 10, sized[int64](1<<20, 256<<10)}

// transfer writes n bytes to c and closes it while s reads to the end and closes.
func transfer(c, s net.Conn, n int64) error {
	sent := async(func() error {
		if _, err := io.Copy(c, content(n)); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		return c.Close()
	})
	got, err := digestOf(s)
	switch {
	case err != nil:
		err = fmt.Errorf("after %d bytes of %d: %w", got.n, n, err)
	case got != contentDigest(n):
		err = fmt.Errorf("%d bytes differ from the %d sent", got.n, n)
	default:
		var k int
		if k, err = s.Read(make([]byte, 1)); k == 0 && err == io.EOF { // N2: again
			err = nil
		} else {
			err = fmt.Errorf("after EOF: %d, %v", k, err)
		}
	}
	cerr := s.Close()
	return errors.Join(err, cerr, <-sent)
}

// isContent checks that b is the first n bytes of content.
func isContent(t testing.TB, n int64, b []byte) {
	t.Helper()
	require.EqualValues(t, n, len(b))
	d, _ := digestOf(bytes.NewReader(b))
	require.Equal(t, contentDigest(n), d)
}

// portOf returns the address of pc.
func portOf(pc *vstp.PacketConn) netip.AddrPort {
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}
