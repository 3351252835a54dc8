package vstp_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// What calls do at the moment of a move. Trap A7.

// atTheMove runs f for moves in both directions, beside an order to move. wait waits until
// a little, or somewhat more, after that.
func atTheMove(t *testing.T, config vstp.Config, f func(t *testing.T, a *autoSim, c, s *vstp.Conn, wait func())) {
	for _, to := range []vstp.Carrier{vstp.CarrierTCP, vstp.CarrierUDP} {
		for _, after := range []time.Duration{0, 15 * ms, 30 * ms, 45 * ms} {
			t.Run(fmt.Sprintf("to %v/%v", to, after), func(t *testing.T) {
				client, server := *forcing(), *forcing()
				for _, c := range []*vstp.Config{&client, &server} {
					c.ReceiveWindow, c.SendBuffer = config.ReceiveWindow, config.SendBuffer
				}
				eachAuto(t, autoOptions{client: &client, server: &server}, func(t *testing.T, a *autoSim) {
					c, s := a.dialWarm()
					if to == vstp.CarrierUDP {
						require.NoError(t, c.Move(context.Background(), vstp.CarrierTCP))
						time.Sleep(time.Second)
					}
					start := time.Now()
					moved := async(func() error {
						time.Sleep(2 * time.Second)
						return c.Move(context.Background(), to)
					})
					f(t, a, c, s, func() { time.Sleep(2*time.Second + after - time.Since(start)) })
					require.NoError(t, <-moved)
					a.close(c, s)
				})
			})
		}
	}
}

// CloseWrite ends one direction behind everything, and the other one goes on.
func TestAutoSimCloseWriteAtMove(t *testing.T) {
	atTheMove(t, vstp.Config{}, func(t *testing.T, a *autoSim, c, s *vstp.Conn, wait func()) {
		back := a.slowFlow(s, c, -1, 10_000, 5*ms)
		const n = 300_000
		got := async(func() (d digest) { d, _ = digestOf(s); return d })
		wait()
		_, err := io.Copy(c, content(n))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, vstp.ErrWriteClosed)
		require.Equal(t, contentDigest(n), <-got)
		time.Sleep(time.Second)
		back.finish()
	})
}

// Close flushes: what Write accepted arrives, and then EOF.
func TestAutoSimCloseAtMove(t *testing.T) {
	for name, client := range map[string]bool{"client": true, "server": false} {
		t.Run(name, func(t *testing.T) {
			atTheMove(t, vstp.Config{}, func(t *testing.T, a *autoSim, c, s *vstp.Conn, wait func()) {
				w, r := c, s
				if !client {
					w, r = s, c
				}
				const n = 300_000
				got := async(func() (d digest) { d, _ = digestOf(r); return d })
				wait()
				_, err := io.Copy(w, content(n))
				require.NoError(t, err)
				if client { // whose Move may be under way
					time.Sleep(5 * ms)
				}
				start := time.Now()
				closed := async(w.Close)
				require.Equal(t, contentDigest(n), <-got)
				require.NoError(t, r.Close())
				require.NoError(t, <-closed)
				require.LessOrEqual(t, time.Since(start), time.Second)
			})
		})
	}
}

// Deadlines are exact, of what is blocked by a peer that does not read as well, and a
// connection works on when they are lifted.
func TestAutoSimDeadlinesAtMove(t *testing.T) {
	config := vstp.Config{ReceiveWindow: 100_000, SendBuffer: 100_000}
	atTheMove(t, config, func(t *testing.T, a *autoSim, c, s *vstp.Conn, wait func()) {
		end := time.Now().Add(2*time.Second + 40*ms)
		require.NoError(t, c.SetDeadline(end))
		read := async(func() error { _, err := c.Read(make([]byte, 1)); return err })
		n, err := c.Write(contentBytes(4 << 20))
		isTimeoutOf(t, err)
		require.Equal(t, end, time.Now())
		isTimeoutOf(t, <-read)
		require.Equal(t, end, time.Now())
		require.LessOrEqual(t, n, 600_000)
		wait()
		require.NoError(t, c.SetDeadline(time.Time{}))
		got := async(func() (d digest) { d, _ = digestOf(s); return d })
		_, err = c.Write(contentBytes(n + 100_000)[n:])
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		require.Equal(t, contentDigest(int64(n+100_000)), <-got)
	})
}

// A reader that is slow stops who writes, whatever the connection is on, and loses nothing.
func TestAutoSimSlowReaderAtMove(t *testing.T) {
	config := vstp.Config{ReceiveWindow: 100_000, SendBuffer: 100_000}
	atTheMove(t, config, func(t *testing.T, a *autoSim, c, s *vstp.Conn, wait func()) {
		sent := make(chan int64, 1)
		go func() {
			var n int64
			src := &contentReader{}
			buf := make([]byte, 1000)
			c.SetWriteDeadline(time.Now().Add(10 * time.Second))
			for {
				io.ReadFull(src, buf)
				k, err := c.Write(buf)
				if n += int64(k); err != nil {
					break
				}
			}
			sent <- n
			c.CloseWrite()
		}()
		wait()
		n := <-sent
		require.LessOrEqual(t, n, int64(600_000), "taken without anybody who reads")
		require.GreaterOrEqual(t, n, int64(100_000))
		got, err := digestOf(s)
		require.NoError(t, err)
		require.Equal(t, contentDigest(n), got)
	})
}
