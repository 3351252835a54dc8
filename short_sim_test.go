package vstp_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// How soon a short transfer is over: from the dial or the request to the last byte, in
// virtual time, on new connections and on those that have rested.

// A shortLink is one with a server that sends as many bytes as it is asked for.
type shortLink struct {
	*simLink
	path simnet.Path
}

func newShortLink(t *testing.T, seed uint64, c linkCase, config *vstp.Config) *shortLink {
	seedRandom(t, seed)
	s := &shortLink{newSimLink(t, seed, c.path(), config), c.path()}
	go func() {
		for {
			conn, err := s.ln.Accept()
			if err != nil {
				return
			}
			go serveShort(conn)
		}
	}()
	return s
}

// serveShort sends as many bytes as each request asks for.
func serveShort(c net.Conn) {
	defer c.Close()
	var request [8]byte
	for {
		if _, err := io.ReadFull(c, request[:]); err != nil {
			return
		}
		if _, err := io.Copy(c, io.LimitReader(zeros{}, int64(binary.BigEndian.Uint64(request[:])))); err != nil {
			return
		}
	}
}

// dial returns a connection and how long that took, in round trips.
func (l *shortLink) dial(t testing.TB) (*vstp.Conn, float64) {
	t.Helper()
	begin := time.Now()
	c, err := l.client.DialStream(context.Background(), l.server.LocalAddr())
	require.NoError(t, err)
	return c.(*vstp.Conn), l.roundTrips(time.Since(begin))
}

func (l *shortLink) roundTrips(d time.Duration) float64 {
	return d.Seconds() / (2 * l.path.Delay).Seconds()
}

// transfer asks for n bytes and returns how long it took to get them, in round trips.
func (l *shortLink) transfer(t testing.TB, c net.Conn, n int) float64 {
	t.Helper()
	begin := time.Now()
	_, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	require.NoError(t, err)
	_, err = io.CopyN(io.Discard, c, int64(n))
	require.NoError(t, err)
	return l.roundTrips(time.Since(begin))
}

var shortSizes = []int{10_000, 100_000, 1_000_000}

// BenchmarkShort shows what a change means for short transfers, in round trips: "go test . -run
// NONE -bench Short -benchtime 10x" is the mean of ten seeds.
func BenchmarkShort(b *testing.B) {
	for _, sealed := range []bool{false, true} {
		for _, link := range []linkCase{{mbits: 100, rtt: 40 * ms}, {mbits: 20, rtt: 20 * ms}, {mbits: 100, rtt: 40 * ms, loss: .01}} {
			for _, size := range shortSizes {
				name := strings.NewReplacer("Mbit/s ", "Mbit_", " ", "_").Replace(link.String())
				b.Run(fmt.Sprintf("%s/TLS=%v/%d", name, sealed, size), func(b *testing.B) {
					means := map[string]float64{}
					for seed := range uint64(b.N) {
						benchBubble(b, func(t *testing.T) {
							for name, v := range shortRoundTrips(t, seed+1, link, sealed, size) {
								means[name] += v / float64(b.N)
							}
						})
					}
					for name, v := range means {
						b.ReportMetric(v, name)
					}
					b.ReportMetric(0, "ns/op") // real time, which is nobody's business here
				})
			}
		}
	}
}

// shortRoundTrips measures transfers of size bytes, with the dial where that is named.
func shortRoundTrips(t *testing.T, seed uint64, link linkCase, sealed bool, size int) map[string]float64 {
	config := &vstp.Config{IdleTimeout: 5 * time.Minute}
	if sealed {
		config = sealedConfig(config)
	}
	l := newShortLink(t, seed, link, config)
	rtts := map[string]float64{}
	c, dial := l.dial(t)
	rtts["dial"], rtts["with-dial"] = dial, dial+l.transfer(t, c, size)
	rtts["again"] = l.transfer(t, c, size)
	time.Sleep(time.Second)
	rtts["after-1s"] = l.transfer(t, c, size)
	time.Sleep(time.Minute)
	rtts["after-1min"] = l.transfer(t, c, size)
	c, dial = l.dial(t)
	rtts["redial"], rtts["with-redial"] = dial, dial+l.transfer(t, c, size)
	c, _ = l.dial(t)
	l.transfer(t, c, 1000)
	time.Sleep(time.Second)
	rtts["small-then-1s"] = l.transfer(t, c, size)
	return rtts
}

// Bounds for short transfers, in round trips, on a link that nothing disturbs: a first dial in
// plaintext takes two, as the server has to know the address; all others take one. What
// does not fit the first window takes one more, and what has to pass the link at all.
func TestSimShortTransfers(t *testing.T) {
	link := linkCase{mbits: 100, rtt: 40 * ms}
	for _, c := range []struct {
		size         int
		transfer     float64 // on a new connection, and on one that has carried little and rested
		again, after float64 // when the path is known: at once, and after a rest
	}{
		{10_000, 1.05, 1.05, 1.05},
		{100_000, 2.4, 1.25, 1.3},
		{1_000_000, 5.4, 3.2, 4.5},
	} {
		for _, sealed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, TLS %v", c.size, sealed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					config, first := &vstp.Config{IdleTimeout: 5 * time.Minute}, 2.0
					if sealed || *sealAll {
						config, first = sealedConfig(config), 1
					}
					l := newShortLink(t, 1, link, config)
					for i, dial := range []float64{first, 1, 1} {
						conn, took := l.dial(t)
						require.InDelta(t, dial, took, .02, "dial %d", i)
						if i == 2 {
							l.transfer(t, conn, 1000)
							time.Sleep(time.Second)
						}
						require.LessOrEqual(t, l.transfer(t, conn, c.size), c.transfer)
						if i > 0 {
							continue
						}
						require.LessOrEqual(t, l.transfer(t, conn, c.size), c.again)
						time.Sleep(time.Second)
						require.LessOrEqual(t, l.transfer(t, conn, c.size), c.after)
						time.Sleep(time.Minute)
						require.LessOrEqual(t, l.transfer(t, conn, c.size), c.after)
					}
				})
			})
		}
	}
}
