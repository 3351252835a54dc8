package vstp_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// What was written before Close arrives, then io.EOF (C1): for every size, and also
// when the closing side has not read what the peer sent, which makes a TCP
// connection closed carelessly destroy what is on its way (golang.org/issue/60315).
func TestCloseFlushes(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		for _, n := range []int64{0, 1, 1 << 10, 1 << 20, bigSize} {
			for _, unread := range []int{0, 1, 200_000} {
				t.Run(fmt.Sprintf("%d bytes, %d unread", n, unread), func(t *testing.T) {
					c, s := connect(t, ln, d)
					_, err := c.Write(contentBytes(unread))
					require.NoError(t, err)
					// What is unread is surely there: one byte of it was read.
					if unread > 1 {
						_, err = io.ReadFull(s, make([]byte, 1))
						require.NoError(t, err)
					}
					closed := async(func() error {
						if k, err := io.Copy(s, content(n)); err != nil || k != n {
							return fmt.Errorf("wrote %d: %w", k, err)
						}
						return s.Close()
					})
					got, err := digestOf(c)
					require.NoError(t, err)
					require.Equal(t, contentDigest(n), got)
					require.NoError(t, receive(t, closed))
					_, err = c.Read(make([]byte, 1))
					require.Equal(t, io.EOF, err)
				})
			}
		}
	})
}

// The same when nobody has read anything before Close has returned, as far as the
// carrier takes it.
func TestCloseFlushesBeforeRead(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		for _, n := range []int64{0, 1, 1 << 10, 60_000} {
			c, s := connect(t, ln, d)
			_, err := c.Write([]byte("never read"))
			require.NoError(t, err)
			_, err = io.Copy(s, content(n))
			require.NoError(t, err)
			require.NoError(t, s.Close())
			got, err := digestOf(c)
			require.NoError(t, err)
			require.Equal(t, contentDigest(n), got)
		}
	})
}

// The peer's writes after our Close fail with ErrPeerClosed once it has read BYE, and
// what was sent before can still be read.
func TestCloseWhilePeerWrites(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		_, err := s.Write([]byte("last words"))
		require.NoError(t, err)
		written := async(func() error {
			_, err := io.Copy(c, &contentReader{}) // until it fails
			return err
		})
		_, err = io.ReadFull(s, make([]byte, 100_000))
		require.NoError(t, err)
		require.NoError(t, s.Close())
		b, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "last words", string(b))
		err = receive(t, written)
		var oe *net.OpError
		require.True(t, errors.As(err, &oe), "%v", err)
		require.ErrorIs(t, err, vstp.ErrPeerClosed)
	})
}

// Both ends close at once; neither gets an error (C5).
func TestCloseSimultaneous(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		ln, d := tr.start(t)
		for i := range 50 {
			c, s := connect(t, ln, d)
			if i%2 == 1 {
				c.Write([]byte("ping"))
				s.Write([]byte("pong"))
			}
			first := async(c.Close)
			require.NoError(t, s.Close())
			require.NoError(t, receive(t, first))
			for _, end := range []net.Conn{c, s} {
				require.NoError(t, end.Close(), "again")
				_, err := end.Read(make([]byte, 1))
				require.ErrorIs(t, err, net.ErrClosed)
				_, err = end.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
			}
		}
	})
}

// "CloseWrite half-closes; the other direction goes on": a long reply after it, a
// second CloseWrite, a Write after it (C5).
func TestHalfClose(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		_, err := c.Write([]byte("question"))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		require.NoError(t, c.CloseWrite(), "again")
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, vstp.ErrWriteClosed)
		b, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, "question", string(b))

		n := sized[int64](30_000_000, 8_000_000)
		answered := async(func() error {
			if _, err := io.Copy(s, content(n)); err != nil {
				return err
			}
			return s.Close()
		})
		got, err := digestOf(c)
		require.NoError(t, err)
		require.Equal(t, contentDigest(n), got)
		require.NoError(t, receive(t, answered))
		require.NoError(t, c.Close())
	})
}

// A Write of 100 MB to a peer that does not read stops at its deadline with the
// number of bytes accepted, without having kept the rest (N5), and all of these
// arrive (section 5 of the design: "a deadline never corrupts a connection").
func TestWriteDeadlineStalledPeer(t *testing.T) {
	data := contentBytes(100 << 20)
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		total := 0
		for range 3 { // each finds the socket full
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
			before := heapAllocated()
			n, err := c.Write(data[total:])
			limit := uint64(16 << 20)
			if tr.datagrams() {
				limit = 80 << 20 // the buffers of both ends grow as needed; the receiver's stays small, as nobody reads
			}
			require.Less(t, heapAllocated()-before, limit, "memory for a Write that waits")
			total += n
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			ne, ok := err.(net.Error)
			require.True(t, ok && ne.Timeout(), "N1")
			require.Less(t, total, 40<<20, "accepted more than sockets hold")
		}
		require.Positive(t, total)
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		got := async(func() digest { d, _ := digestOf(s); return d })
		_, err := c.Write(data[total : total+1000])
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.Equal(t, contentDigest(int64(total+1000)), receive(t, got))
	})
}

// Close with a peer that reads nothing returns after Config.Linger (C2). If it says
// that everything was sent, the peer gets it when it reads at last; if not, the peer
// sees an end that is no orderly one.
func TestCloseStalledPeer(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, linger := range []time.Duration{50 * time.Millisecond, -1} {
			tr.config.Linger = linger
			c, s := tr.pair(t)
			c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			n, err := c.Write(contentBytes(40 << 20))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			start := time.Now()
			closed := c.Close()
			require.Less(t, time.Since(start), patience/2)
			got, err := digestOf(s)
			require.LessOrEqual(t, got.n, int64(n))
			require.Equal(t, contentDigest(got.n), got)
			switch {
			case linger < 0:
				require.NoError(t, closed)
			case closed == nil:
				require.NoError(t, err)
				require.EqualValues(t, n, got.n)
			default:
				require.ErrorIs(t, closed, vstp.ErrUnsent)
				if !errors.Is(err, &vstp.ProtocolError{Remote: true, Code: vstp.CodeTimeout}) { // datagrams can tell
					require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				}
			}
		}
	})
}
