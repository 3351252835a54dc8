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

// halfClosed has c send messages and CloseWrite, and s all of them and the end: "BYE ends
// its sender's direction: all of the byte stream and all messages have been sent". Then
// the other direction does the same (C5).
func halfClosed(t *testing.T, c, s *vstp.Conn, sizes []int) {
	for range 2 {
		waiting := async(func() error {
			_, err := s.Read(make([]byte, 1))
			return err
		})
		for i, size := range sizes {
			m := &vstp.Message{Payload: contentBytes(size), Header: vstp.Header{{Key: "i", Value: fmt.Sprint(i)}}}
			require.NoError(t, c.SendMessage(context.Background(), m))
		}
		require.NoError(t, c.CloseWrite())
		require.NoError(t, c.CloseWrite())
		require.ErrorIs(t, c.SendMessage(context.Background(), &vstp.Message{}), vstp.ErrWriteClosed)
		require.ErrorIs(t, c.SendMessage(context.Background(), &vstp.Message{RequireAck: true}), vstp.ErrWriteClosed)
		_, err := c.Write([]byte("x"))
		require.ErrorIs(t, err, vstp.ErrWriteClosed)
		seen := make(map[string]bool)
		for range sizes {
			m, err := s.ReceiveMessage(context.Background())
			require.NoError(t, err)
			i := m.Header.Get("i")
			require.False(t, seen[i], "message %s again", i)
			seen[i] = true
			isContent(t, int64(len(m.Payload)), m.Payload)
		}
		for range 2 {
			_, err = s.ReceiveMessage(context.Background())
			require.Equal(t, io.EOF, err)
			_, err = s.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
		}
		require.Equal(t, io.EOF, <-waiting)
		c, s = s, c
	}
	require.NoError(t, c.Close())
	require.NoError(t, s.Close())
}

// CloseWrite ends messages as it ends the stream, on every network.
func TestCloseWriteMessages(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
		halfClosed(t, c, s, []int{0, 1, 1000, 100_000, 50})
		c, s = tr.pair(t)
		halfClosed(t, c, s, nil)
	})
}

// The same over paths that lose, where the end must not overtake a message.
func TestSimCloseWriteMessages(t *testing.T) {
	for _, loss := range []float64{0, 0.1, 0.3} {
		simnet.Run(t, 5, func(t *testing.T, seed uint64) {
			l := newSimLink(t, seed, lossy(loss), &vstp.Config{IdleTimeout: 5 * time.Minute, Linger: time.Minute})
			c, s := l.pair(t)
			halfClosed(t, c, s, []int{10, 60_000, 20, 200, 1500, 30_000, 0})
			l.close()
		})
	}
}

// A message that waits for room when CloseWrite is called was not accepted; one that waits
// for its ACK was.
func TestSimCloseWriteWaiting(t *testing.T) {
	simnet.Run(t, 3, func(t *testing.T, seed uint64) {
		l := newSimLink(t, seed, simnet.Path{Delay: 50 * time.Millisecond}, nil)
		c, s := l.pair(t)
		acked := async(func() error {
			return c.SendMessage(context.Background(), &vstp.Message{RequireAck: true})
		})
		synctest.Wait()
		accepted := 0
		sent := make(chan error)
		go func() {
			for {
				if err := c.SendMessage(context.Background(), &vstp.Message{Payload: []byte("x")}); err != nil {
					sent <- err
					return
				}
				accepted++
			}
		}()
		time.Sleep(20 * time.Millisecond) // so many that the next one waits
		require.NoError(t, c.CloseWrite())
		require.ErrorIs(t, <-sent, vstp.ErrWriteClosed)
		received := 0
		for {
			_, err := s.ReceiveMessage(context.Background())
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
			received++
		}
		require.Equal(t, accepted+1, received)
		require.NoError(t, <-acked)
		l.close()
	})
}
