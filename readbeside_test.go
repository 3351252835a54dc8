package vstp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Bytes of the stream that came while somebody else was waiting for a message are there
// for Read at once: it does not wait until that one has got something (N8).
func TestReadBesideReceiveMessage(t *testing.T) {
	for _, copied := range []bool{false, true} {
		eachTransport(t, func(t *testing.T, tr transport) {
			ln, d := tr.start(t)
			for range 5 {
				c, s := connect(t, ln, d)
				var g group
				g.Go(func() error {
					_, err := s.ReceiveMessage(context.Background())
					if err == io.EOF || errors.Is(err, net.ErrClosed) {
						err = nil
					}
					return err
				})
				g.Go(func() error { return echo(s, copied) })
				require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
				for range sized(200, 50) {
					require.NoError(t, roundTrip(c, []byte("hello")))
				}
				require.NoError(t, c.CloseWrite())
				g.Wait(t)
				require.NoError(t, c.Close())
			}
		})
	}
}

// echo sends back what comes, and closes at its end.
func echo(c net.Conn, copied bool) error {
	defer c.Close()
	if copied {
		_, err := io.Copy(c, c)
		return err
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
	}
}
