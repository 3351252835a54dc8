package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/benchproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/hist"
)

// Bounds on the messages that are under way on one connection.
const (
	benchWindow     = 8 << 20 // bytes
	maxBenchPending = 64
)

// benchWait is how long nothing may come back.
const benchWait = 30 * time.Second

// oneMessages does the test with messages that a server echoes: one after the other,
// or as many as the window and the path let through.
func (r *benchRun) oneMessages(ctx context.Context, c *vstp.Conn) error {
	payload := benchproto.Random(r.test.Size)
	if r.test.Mode == benchproto.RR {
		return r.messageTrips(ctx, c, payload)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	under := make(chan int, min(max(benchWindow/r.test.Size, 1), maxBenchPending)) // lengths of those that are on their way
	var sendErr error
	var sent, received int64
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(under)
		for more := r.messages(start, &sent); ctx.Err() == nil; {
			n := more(len(payload))
			if n == 0 {
				return
			}
			if sendErr = c.SendMessage(ctx, &vstp.Message{Payload: payload[:n], Repair: true}); sendErr != nil {
				return
			}
			sent += int64(n)
			r.up.Add(int64(n))
			select {
			case under <- n:
			case <-ctx.Done():
			}
		}
	})
	var err error
	for range under {
		var n int
		if n, err = receiveEcho(ctx, c); err != nil {
			break
		}
		received += int64(n)
		r.down.Add(int64(n))
	}
	elapsed := time.Since(start)
	cancel()
	wg.Wait()
	if sendErr != nil && !errors.Is(sendErr, context.Canceled) {
		return sendErr
	}
	if err == nil && received != sent {
		err = fmt.Errorf("%d bytes sent, %d came back", sent, received)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.upTotal.add(sent, elapsed)
	r.downTotal.add(received, elapsed)
	return err
}

// messages returns a function that says how long the next message is, at most size,
// and 0 at the end of the test. sent is counted by the caller.
func (r *benchRun) messages(start time.Time, sent *int64) func(size int) int {
	return func(size int) int {
		if r.test.Duration > 0 {
			if time.Since(start) >= r.test.Duration {
				return 0
			}
			return size
		}
		return int(min(r.test.Bytes-*sent, int64(size)))
	}
}

// messageTrips measures one message after the other.
func (r *benchRun) messageTrips(ctx context.Context, c *vstp.Conn, payload []byte) error {
	var rtt hist.Histogram
	var sent int64
	for more := r.messages(time.Now(), &sent); ctx.Err() == nil && more(len(payload)) > 0; {
		at := time.Now()
		if err := c.SendMessage(ctx, &vstp.Message{Payload: payload, Repair: true}); err != nil {
			return err
		}
		if _, err := receiveEcho(ctx, c); err != nil {
			return err
		}
		rtt.Add(time.Since(at))
		r.trips.Add(1)
		sent += int64(len(payload))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rtt.Merge(&rtt)
	return nil
}

// receiveEcho returns the length of the next message.
func receiveEcho(ctx context.Context, c *vstp.Conn) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, benchWait)
	defer cancel()
	m, err := c.ReceiveMessage(ctx)
	if err != nil {
		return 0, err
	}
	return len(m.Payload), nil
}
