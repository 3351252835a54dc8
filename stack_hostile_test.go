package vstp_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/simnet"
)

// A crowd is what strangers send to the server of a link, and what they are answered.
type crowd struct {
	l    *simLink
	to   netip.AddrPort
	mu   sync.Mutex
	sent map[netip.AddrPort]int      // bytes
	got  map[netip.AddrPort]int      // bytes
	real map[netip.AddrPort][][]byte // packets of the client and the server, some
}

// newCrowd watches l.
func newCrowd(l *simLink) *crowd {
	c := &crowd{
		l: l, to: portOf(l.server),
		sent: make(map[netip.AddrPort]int), got: make(map[netip.AddrPort]int),
		real: make(map[netip.AddrPort][][]byte),
	}
	client := portOf(l.client)
	l.net.Observe(func(e simnet.Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case e.To == client || e.From == client:
			if len(c.real[e.From]) < 200 {
				c.real[e.From] = append(c.real[e.From], bytes.Clone(e.Data))
			}
		case e.From == c.to:
			c.got[e.To] += len(e.Data)
		}
	})
	return c
}

// send puts b into the server's socket, from a stranger.
func (c *crowd) send(from netip.AddrPort, b []byte) {
	c.mu.Lock()
	c.sent[from] += len(b)
	c.mu.Unlock()
	c.l.net.Inject(from, c.to, b)
}

// samples returns packets that were on the path.
func (c *crowd) samples() (all [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.real {
		all = append(all, b...)
	}
	return all
}

// check fails if anybody got more than three times what they sent. RFC 9000 §8.1.
func (c *crowd) check(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := 0
	for addr, n := range c.got {
		require.LessOrEqual(t, n, 3*c.sent[addr], "to %v", addr)
		all += n
	}
	t.Logf("%d bytes to %d of %d strangers", all, len(c.got), len(c.sent))
}

// stranger returns one of many addresses.
func stranger(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 251)}), uint16(1024+i%50_000))
}

// crateFragment returns a packet of the crate profile that begins a message of many parts
// and never ends it.
func crateFragment(i int) []byte {
	h, _ := framing.AppendHeader(nil, framing.Header{
		{Key: "msg-id", Value: string(rune('a'+i%26)) + time.Duration(i).String()},
		{Key: "frag-id", Value: string(rune('a' + i%20))},
		{Key: "frag-index", Value: "0"},
		{Key: "frag-total", Value: "200"},
	})
	b, err := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeData, Header: h, Payload: make([]byte, 1000)}, framing.TrailerAlways)
	if err != nil {
		panic(err)
	}
	return b
}

// floods are kinds of what strangers send, each packet the i-th.
var floods = map[string]func(r *rand.Rand, i int, real [][]byte) []byte{
	"random bytes": func(r *rand.Rand, _ int, _ [][]byte) []byte {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	},
	"random frames": func(r *rand.Rand, _ int, _ [][]byte) []byte {
		b := []byte{'V', 'T', 1, byte(r.IntN(10)), byte(r.IntN(4)), 15, 0, 0, 0, 0, byte(r.IntN(40)), 1, 12, 1}
		for range r.IntN(60) {
			b = append(b, byte(r.Uint32()))
		}
		return b
	},
	"mutations": func(r *rand.Rand, _ int, real [][]byte) []byte {
		b := bytes.Clone(real[r.IntN(len(real))])
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
		return b[:len(b)-r.IntN(2)*r.IntN(len(b))]
	},
	"replays": func(r *rand.Rand, _ int, real [][]byte) []byte { return real[r.IntN(len(real))] },
	"HELLO": func(r *rand.Rand, i int, _ [][]byte) []byte {
		m, err := handshake.NewDatagramClient(handshake.DatagramParams{SourceID: handshake.ConnID{byte(i), byte(i >> 8), byte(i >> 16), 1}, Stream: i%2 == 0})
		if err != nil {
			panic(err)
		}
		return m.AppendHello(nil)[0]
	},
	"partial messages": func(_ *rand.Rand, i int, _ [][]byte) []byte { return crateFragment(i) },
	"BYE, ERR, CLOSE": func(_ *rand.Rand, i int, real [][]byte) []byte {
		b := real[i%len(real)]
		id, _, _ := handshake.RouteID(b)
		switch i % 3 {
		case 0:
			return handshake.AppendUnknownID(nil, id)
		case 1:
			f, _ := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeBye}, framing.TrailerAlways)
			return f
		}
		h := append(append([]byte{1, 12, 1}, id[:]...), 0, 0, 0, byte(i)) // all of an association's chunk types, alone
		f, _ := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeData, Flags: framing.FlagCRC, Header: h, Payload: []byte{byte(i / 3), 0, 0}}, framing.TrailerByFlag)
		return f
	},
}

// Whatever strangers send while a connection and messages are in use: both go on, memory
// stays within bounds, and nobody is answered with more than three times what they sent.
func TestStackFlood(t *testing.T) {
	count := sized(100_000, 10_000)
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newStack(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: 5 * ms, Rate: 2_000_000, Queue: 100_000}}, stackConfig, nil)
				watch := newCrowd(l)
				c, s := l.pair(t)
				require.NoError(t, l.send(&vstp.Message{Payload: contentBytes(3000), RequireAck: true}))
				l.receive(t)
				n := int64(2 << 20) // a second
				moved := async(func() error { return transfer(c, s, n) })
				time.Sleep(20 * ms)
				heap := memoryInUse()
				real := watch.samples()
				r := rand.New(rand.NewPCG(1, 2))
				for i := range count {
					watch.send(stranger(i), flood(r, i, real))
					if i%200 == 199 {
						time.Sleep(ms)
					}
				}
				synctest.Wait()
				grown := memoryInUse() - heap
				t.Logf("%d KB, %+v", grown>>10, l.server.Stats())
				require.Less(t, grown, int64(48<<20))
				require.NoError(t, <-moved)
				require.LessOrEqual(t, l.server.Stats().Associations, 2)
				sent := async(func() error { return l.send(&vstp.Message{Payload: contentBytes(3000), RequireAck: true}) })
				for { // what strangers say in the crate profile are messages, too
					m, from, err := l.server.ReceiveMessage(t.Context())
					require.NoError(t, err)
					if from.String() == portOf(l.client).String() {
						isContent(t, 3000, m.Payload)
						break
					}
				}
				require.NoError(t, <-sent)
				c2, s2 := l.pair(t)
				require.NoError(t, transfer(c2, s2, 100_000))
				watch.check(t)
				l.close()
			})
		})
	}
}

// What was said in a handshake, said again from the same address, makes no second
// association, also after the first one has ended (trap S1).
func TestStackReplayedHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newStack(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: 5 * ms}}, nil, nil)
		var all [][]byte
		client := portOf(l.client)
		l.net.Observe(func(e simnet.Event) {
			if e.From == client {
				all = append(all, bytes.Clone(e.Data))
			}
		})
		c, s := l.pair(t)
		require.NoError(t, transfer(c, s, 100))
		require.NoError(t, l.send(&vstp.Message{Payload: []byte("once"), RequireAck: true}))
		l.receive(t)
		time.Sleep(10 * time.Second)
		l.net.Observe(nil)
		before := l.server.Stats().Associations
		for range 100 {
			for _, b := range all {
				l.net.Inject(client, portOf(l.server), b)
			}
			time.Sleep(time.Second)
			require.LessOrEqual(t, l.server.Stats().Associations, before)
		}
		l.quiet(t)
		require.NoError(t, l.ln.(*vstp.Listener).SetDeadline(time.Now().Add(time.Second)))
		_, err := l.ln.Accept()
		isTimeoutOf(t, err)
		l.close()
	})
}

// Packets with ids that nobody has get the ERR that says so, a hundred times a second at
// most, each smaller than the packet.
func TestStackStaleIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newStack(t, simnet.Options{Seed: 1, Path: simnet.Path{Delay: 5 * ms}}, nil, nil)
		answers, largest := 0, 0
		l.net.Observe(func(e simnet.Event) {
			if id, _, _, ok := handshake.ParseUnknownID(e.Data); ok && id[0] == 0xab {
				answers, largest = answers+1, max(largest, len(e.Data))
			}
		})
		for second := 1; second <= 3; second++ {
			for i := range 10_000 {
				h := append([]byte{1, 12, 1, 0xab}, binary.BigEndian.AppendUint32(nil, uint32(i))...)
				h = append(h, make([]byte, 15-len(h))...)
				b, err := framing.AppendFrame(nil, framing.Frame{Type: framing.TypeData, Flags: framing.FlagCRC, Header: h, Payload: make([]byte, 50)}, framing.TrailerByFlag)
				require.NoError(t, err)
				l.net.Inject(stranger(i), portOf(l.server), b)
			}
			synctest.Wait()
			require.Equal(t, 1000*second, answers)
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, largest, 50)
		l.close()
	})
}
