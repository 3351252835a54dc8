package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
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
	// The peer may be gone as soon as it has the answer. If it never gets it, it says so.
	l.s.Write(head[:1])
	return p, nil
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

func clientMessages(s *spec, c *contender, e *env) (values, error) {
	p := make([]byte, s.Size)
	fillPattern(p)
	var peak memoryPeak
	peak.start()
	st, err := c.dial(e, s.Addrs[0])
	if err != nil {
		return nil, err
	}
	port := c.port(st)
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
	v := peak.values(s.Size)
	maps.Copy(v, values{
		"ms":       median(slices.Clone(times)) * 1e3,
		"messages": n,
		"total":    bytes + float64(min(len(p), messageWarmup)),
		"mbps":     bytes / 1e6 / u.wall.Seconds(),
		"cpu":      u.cpu.Seconds() / (bytes / 1e9),
	})
	return v, nil
}
