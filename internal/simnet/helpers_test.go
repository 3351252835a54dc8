package simnet

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// pair is two hosts with a socket each, and all that b gets.
type pair struct {
	n        *Net
	a, b     *Conn
	ab, ba   *Link
	arrivals []arrival // valid after finish
	done     chan struct{}
}

// arrival is a packet that b got.
type arrival struct {
	at   time.Duration
	data []byte
}

// number returns the number that burst gave the packet.
func (a arrival) number() int { return int(binary.BigEndian.Uint32(a.data)) }

// newPair must be called in a bubble. b is read until finish.
func newPair(t *testing.T, o Options) *pair {
	n := New(t, o)
	ha, hb := n.Host("10.0.0.1"), n.Host("10.0.0.2")
	p := &pair{
		n: n, a: ha.ListenPacket(0), b: hb.ListenPacket(9),
		ab: n.Path(ha, hb), ba: n.Path(hb, ha), done: make(chan struct{}),
	}
	go func() {
		defer close(p.done)
		for buf := make([]byte, 1<<16); ; {
			k, _, err := p.b.ReadFrom(buf)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("ReadFrom: %v", err)
				}
				return
			}
			p.arrivals = append(p.arrivals, arrival{time.Since(n.start), append([]byte(nil), buf[:k]...)})
		}
	}()
	return p
}

// burst sends numbered packets with a pause behind each.
func (p *pair) burst(t *testing.T, count, size int, pause time.Duration) {
	t.Helper()
	buf := make([]byte, size)
	for i := range count {
		binary.BigEndian.PutUint32(buf, uint32(i))
		if _, err := p.a.WriteTo(buf, p.b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

// finish waits for all packets and returns those that arrived.
func (p *pair) finish() []arrival {
	time.Sleep(time.Hour)
	synctest.Wait()
	p.b.Close()
	<-p.done
	return p.arrivals
}

// carriers runs a test in a bubble, with packets going straight and through vnet.
func carriers(t *testing.T, f func(t *testing.T, o Options)) {
	t.Run("direct", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, Options{Seed: 1}) })
	})
	t.Run("vnet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, Options{Seed: 1, VNet: true}) })
	})
}

// between fails if got is not in the range.
func between[N int | uint64 | float64 | time.Duration](t *testing.T, what string, got, low, high N) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %v, want %v to %v", what, got, low, high)
	}
}
