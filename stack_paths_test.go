package vstp_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// The whole stack over every kind of path: payload once, byte for byte, and then its
// end.

// "Close flushes" (C1) for every size, whatever the path does.
func TestStackStreams(t *testing.T) {
	for _, n := range stackSizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			eachStack(t, 2, func(t *testing.T, l *simLink, begin func(int64)) {
				c, s := l.pair(t)
				begin(n)
				require.NoError(t, transfer(c, s, n))
			})
		})
	}
}

// Both directions at once, each half-closed when it is through (C5).
func TestStackBothWays(t *testing.T) {
	n := stackSizes[4]
	eachStack(t, 2, func(t *testing.T, l *simLink, begin func(int64)) {
		c, s := l.pair(t)
		begin(n)
		var g group
		for _, end := range []*vstp.Conn{c, s} {
			g.Go(func() error {
				if _, err := io.Copy(end, content(n)); err != nil {
					return err
				}
				return end.CloseWrite()
			})
			g.Go(func() error { return talk{}.expect(end, n) })
		}
		g.wg.Wait()
		g.Wait(t)
		closed := async(c.Close)
		require.NoError(t, s.Close())
		require.NoError(t, <-closed)
	})
}

// Messages with RequireAck and with Repair, each once (R1).
func TestStackMessages(t *testing.T) {
	for _, n := range stackSizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			eachStack(t, 2, func(t *testing.T, l *simLink, begin func(int64)) {
				begin(n)
				h := vstp.Header{{Key: "k", Value: "v"}}
				for _, ack := range []bool{true, false} {
					sent := async(func() error {
						return l.send(&vstp.Message{Header: h, Payload: contentBytes(int(n)), RequireAck: ack, Repair: !ack})
					})
					m := l.receive(t)
					require.Equal(t, h, m.Header)
					require.Equal(t, ack, m.RequireAck)
					isContent(t, n, m.Payload)
					require.NoError(t, <-sent)
				}
				l.quiet(t)
			})
		})
	}
}

// Messages on a connection, in both directions and beside its byte stream.
func TestStackConnMessages(t *testing.T) {
	n := stackSizes[3]
	eachStack(t, 1, func(t *testing.T, l *simLink, begin func(int64)) {
		c, s := l.pair(t)
		begin(n)
		const count = 5
		var g group
		for _, end := range []*vstp.Conn{c, s} {
			g.Go(func() error {
				for i := range count {
					m := &vstp.Message{Payload: contentBytes(int(n) / (i + 1)), RequireAck: i%2 == 0, Ordered: true}
					if err := end.SendMessage(context.Background(), m); err != nil {
						return err
					}
				}
				return nil
			})
			g.Go(func() error {
				for i := range count {
					m, err := end.ReceiveMessage(context.Background())
					if err != nil {
						return err
					}
					if string(m.Payload) != string(contentBytes(int(n)/(i+1))) {
						return fmt.Errorf("message %d", i)
					}
				}
				return nil
			})
		}
		require.NoError(t, transferHalf(c, s, n, g.wg.Wait))
		g.Wait(t)
		closed := async(c.Close)
		require.NoError(t, s.Close())
		require.NoError(t, <-closed)
	})
}

// transferHalf is transfer without the end of the connection. Before the half-close it
// waits for what else is to be sent.
func transferHalf(c, s *vstp.Conn, n int64, others func()) error {
	sent := async(func() error {
		if _, err := io.Copy(c, content(n)); err != nil {
			return err
		}
		others()
		return c.CloseWrite()
	})
	if err := (talk{}).expect(s, n); err != nil {
		return err
	}
	return <-sent
}

// 100 MB, as a stream and as one message.
func TestStackHuge(t *testing.T) {
	for _, loss := range []float64{0, 0.01, 0.05, 0.3} {
		path := simnet.Path{Delay: 5 * ms, Loss: loss, Rate: 200_000_000, Queue: 4_000_000}
		t.Run(fmt.Sprintf("stream, loss %v", loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newStack(t, simnet.Options{Seed: 1, Path: path}, stackConfig, stackConfig)
				c, s := l.pair(t)
				start := time.Now()
				require.NoError(t, transfer(c, s, bigSize))
				t.Log(time.Since(start))
				l.close()
			})
		})
		t.Run(fmt.Sprintf("message, loss %v", loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newStack(t, simnet.Options{Seed: 1, Path: path}, stackConfig, stackConfig)
				start := time.Now()
				sent := async(func() error {
					return l.send(&vstp.Message{Payload: contentBytes(int(bigSize)), RequireAck: true})
				})
				isContent(t, bigSize, l.receive(t).Payload)
				require.NoError(t, <-sent)
				t.Log(time.Since(start))
				l.quiet(t)
				l.close()
			})
		})
	}
}

// A reader that is slower than its peer holds the writer back, and gets everything
// (F10).
func TestStackSlowReader(t *testing.T) {
	simnet.Run(t, 2, func(t *testing.T, seed uint64) {
		const window, n = 64 << 10, 1 << 20
		config := &vstp.Config{ReceiveWindow: window, SendBuffer: window, Linger: time.Hour}
		l := newStack(t, simnet.Options{Seed: seed, Path: lossy(0.05)}, config, config)
		c, s := l.pair(t)
		written := 0
		sent := async(func() error {
			p := contentBytes(n)
			for written < n {
				k, err := c.Write(p[written:min(n, written+1000)])
				written += k
				if err != nil {
					return err
				}
			}
			return c.Close()
		})
		time.Sleep(time.Minute) // longer than IdleTimeout would be for a dead peer
		synctest.Wait()
		require.LessOrEqual(t, written, 2*window+2000)
		r := slowReader{s}
		require.NoError(t, talk{}.expect(r, n))
		require.NoError(t, <-sent)
		require.NoError(t, s.Close())
		l.close()
	})
}

// A slowReader reads 4 KB each 50 ms, and sometimes nothing for a minute and a half.
type slowReader struct{ r io.Reader }

func (r slowReader) Read(p []byte) (int, error) {
	d := 50 * ms
	if time.Now().UnixMilli()%1000 < 10 {
		d = 90 * time.Second
	}
	time.Sleep(d)
	return r.r.Read(p[:min(len(p), 4000)])
}
