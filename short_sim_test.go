package vstp_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// How soon a short transfer is over: from the dial or the request to the last byte, in
// virtual time, on new connections and on those that have rested.

var shortTable = flag.Bool("short-transfers", false, "print the table of short transfers (TestShortTable)")

// A shortLink is one with a server that sends as many bytes as it is asked for.
type shortLink struct {
	*simLink
	path simnet.Path
}

func newShortLink(t testing.TB, seed uint64, c linkCase, config *vstp.Config) *shortLink {
	seedRandom(t.(*testing.T), seed)
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

// TestShortTable shows what a change means for short transfers, in round trips.
func TestShortTable(t *testing.T) {
	if !*shortTable {
		t.Skip("-short-transfers prints the table")
	}
	for _, sealed := range []bool{false, true} {
		for _, link := range []linkCase{{mbits: 100, rtt: 40 * ms}, {mbits: 20, rtt: 20 * ms}, {mbits: 100, rtt: 40 * ms, loss: .01}} {
			for _, size := range shortSizes {
				sums, n := [8]float64{}, 0
				for seed := range uint64(10) {
					if seed > 0 && link.loss == 0 {
						break
					}
					n++
					synctest.Test(t, func(t *testing.T) {
						config := &vstp.Config{IdleTimeout: 5 * time.Minute}
						if sealed {
							config = sealedConfig(config)
						}
						l := newShortLink(t, seed+1, link, config)
						var row [8]float64
						c, dial := l.dial(t)
						row[0], row[1] = dial, dial+l.transfer(t, c, size)
						row[2] = l.transfer(t, c, size)
						time.Sleep(time.Second)
						row[3] = l.transfer(t, c, size)
						time.Sleep(time.Minute)
						row[4] = l.transfer(t, c, size)
						c, dial = l.dial(t)
						row[5], row[6] = dial, dial+l.transfer(t, c, size)
						c, _ = l.dial(t)
						l.transfer(t, c, 1000)
						time.Sleep(time.Second)
						row[7] = l.transfer(t, c, size)
						for i := range row {
							sums[i] += row[i]
						}
					})
				}
				for i := range sums {
					sums[i] /= float64(n)
				}
				fmt.Printf("sealed %-5v %-24v %7d: dial %.2f, all %.2f; again %.2f, after 1 s %.2f, 1 min %.2f; redial %.2f, all %.2f; small then 1 s %.2f\n",
					sealed, link, size, sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7])
			}
		}
	}
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
