package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/metrics"
	"slices"
	"sync"
	"time"
)

// The message test sends large messages, one at a time, each until the sender knows
// that the receiver has it whole.

// A messagePort is one end of a stream of messages. Send returns when the peer has
// the message; Receive returns one in a buffer of its own.
type messagePort interface {
	Send(p []byte) error
	Receive() ([]byte, error)
}

func (c *contender) port(s stream) messagePort {
	if c.ports != nil {
		return c.ports(s)
	}
	return lengthMessages{s}
}

// lengthMessages puts the length in front of a message and answers each with a byte.
type lengthMessages struct{ s stream }

func (l lengthMessages) Send(p []byte) error {
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(len(p)))
	if _, err := l.s.Write(head[:]); err != nil {
		return err
	}
	if _, err := l.s.Write(p); err != nil {
		return err
	}
	_, err := io.ReadFull(l.s, head[:1])
	return err
}

func (l lengthMessages) Receive() ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(l.s, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(head[:])
	if n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(l.s, p); err != nil {
		return nil, err
	}
	_, err := l.s.Write(head[:1])
	return p, err
}

const (
	maxMessage    = 100 << 20
	minMessages   = 3       // in each round: the first finds memory that was never touched
	messageWarmup = 1 << 20 // size of the message before the measured ones
)

// serveMessages receives until the client is gone. However that ends: whether all messages
// came is for the client to say.
func (srv *server) serveMessages(s stream) {
	port := contenderNamed(srv.spec.Contender).port(s)
	for {
		p, err := port.Receive()
		if err != nil {
			s.Close()
			return
		}
		srv.mu.Lock()
		srv.total += float64(len(p))
		srv.mu.Unlock()
		if len(p) == srv.spec.Size {
			srv.peak.received()
		}
	}
}

// A memoryPeak is what a receiver needs at most beyond what it had before the first
// connection: live heap as the garbage collector has found it, and resident memory, with
// all garbage, of which a receiver of []byte has some as soon as it has received two.
type memoryPeak struct {
	base memory
	stop chan struct{}
	wg   sync.WaitGroup

	mu         sync.Mutex
	messages   int
	live       uint64
	first, all uint64 // resident, until the first message was whole; and until the end
}

// peakEvery is how often one looks for the result of another garbage collection.
const peakEvery = 2 * time.Millisecond

func (k *memoryPeak) start() {
	k.base = readMemory()
	resetResidentPeak()
	k.stop = make(chan struct{})
	k.wg.Go(func() {
		tick := time.NewTicker(peakEvery)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for {
			select {
			case <-k.stop:
				return
			case <-tick.C:
			}
			metrics.Read(sample)
			k.mu.Lock()
			k.live = max(k.live, sample[0].Value.Uint64())
			k.mu.Unlock()
		}
	})
}

// received notes that a message is whole, and that it is still held.
func (k *memoryPeak) received() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.messages++; k.messages == 1 {
		k.first = residentPeak()
	}
}

// values ends it. The figures are shares of a message of that size.
func (k *memoryPeak) values(size int) values {
	k.all = residentPeak()
	close(k.stop)
	k.wg.Wait()
	share := func(now, base uint64) float64 { return (float64(now) - float64(base)) / float64(size) }
	v := values{"live": share(k.live, k.base.heapAlloc)}
	if k.all > 0 {
		v["rss.first"], v["rss"] = share(k.first, k.base.rss), share(k.all, k.base.rss)
	}
	return v
}

func clientMessages(s *spec, c *contender, e *env) (values, error) {
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, err
	}
	port := c.port(st)
	p := make([]byte, s.Size)
	fillPattern(p)
	if err := port.Send(p[:min(len(p), messageWarmup)]); err != nil {
		return nil, err
	}
	var times []float64
	prof := newProfile(s)
	prof.start()
	m := startMeter()
	for last := m.at; len(times) < minMessages || last.Sub(m.at) < s.Duration; {
		if err := port.Send(p); err != nil {
			return nil, fmt.Errorf("after %d messages: %w", len(times), err)
		}
		now := time.Now()
		times = append(times, now.Sub(last).Seconds())
		last = now
	}
	u := m.stop()
	prof.stop()
	if err := st.Close(); err != nil && !isClosed(err) {
		return nil, errors.Join(errors.New("close"), err)
	}
	n := float64(len(times))
	bytes := n * float64(s.Size)
	return values{
		"ms":       median(slices.Clone(times)) * 1e3,
		"messages": n,
		"total":    bytes + float64(min(len(p), messageWarmup)),
		"mbps":     bytes / 1e6 / u.wall.Seconds(),
		"cpu":      u.cpu.Seconds() / (bytes / 1e9),
	}, nil
}
