package vstp_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/simnet"
)

// Writers whose peer does not read: the server that is killed and comes back says that it
// knows nothing of them, as soon as it is there.
func TestStackStarvedRestart(t *testing.T) {
	simnet.Run(t, 3, func(t *testing.T, seed uint64) {
		l := newStack(t, simnet.Options{Seed: seed, Path: lossy(0.05)}, nil, &vstp.Config{Linger: -1, MaxMessageSize: 100_000})
		c, _ := l.pair(t)
		m, _ := l.pair(t)
		written := async(func() error { _, err := c.ReadFrom(&contentReader{}); return err })
		sent := async(func() error {
			for {
				if err := m.SendMessage(context.Background(), &vstp.Message{Payload: make([]byte, 90_000)}); err != nil {
					return err
				}
			}
		})
		time.Sleep(35 * time.Second) // full; the last PING of Config.KeepAlive was not long ago
		l.kill()
		time.Sleep(time.Second)
		l.restart(t, &vstp.Config{Linger: -1})
		start := time.Now()
		require.ErrorIs(t, <-written, vstp.ErrReset)
		require.ErrorIs(t, <-sent, vstp.ErrReset)
		require.LessOrEqual(t, time.Since(start), 5*time.Second)
		l.close()
	})
}

// A reader that takes its time keeps the connection although nothing comes from it but
// acknowledgements, and without keep-alive.
func TestStackStarvedSlow(t *testing.T) {
	simnet.Run(t, 3, func(t *testing.T, seed uint64) {
		config := &vstp.Config{KeepAlive: -1, IdleTimeout: 10 * time.Second, ReceiveWindow: 100_000}
		l := newStack(t, simnet.Options{Seed: seed, Path: lossy(0.1)}, config, config)
		c, s := l.pair(t)
		const n = 2_000_000
		written := async(func() error {
			if _, err := io.Copy(c, content(n)); err != nil {
				return err
			}
			return c.CloseWrite()
		})
		time.Sleep(10 * time.Minute)
		got, err := digestOf(s)
		require.NoError(t, err)
		require.Equal(t, contentDigest(n), got)
		require.NoError(t, <-written)
		l.close()
	})
}
