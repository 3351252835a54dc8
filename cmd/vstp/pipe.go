package main

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp"
)

func newPipe(o *options) *cobra.Command {
	var f *netFlags
	var listen bool
	cmd := &cobra.Command{
		Use:   "pipe ADDRESS",
		Short: "Connect standard input and output to a peer",
		Long: `pipe connects, or with -l waits for one connection, and copies standard input to the
peer and what the peer sends to standard output.

The end of the input is passed on, and the other direction goes on; pipe is done
when both have ended. If the connection breaks before the peer has said that it is
done, pipe fails: what came out may not be all.`,
		Example: `  vstp pipe -l :7000 > backup.tar            # on one machine
  tar c dir | vstp pipe host:7000            # on the other
  vstp pipe --network unix /tmp/chat.sock`,
		Args: exactArgs(1, "ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := f.pipeConn(ctx, cmd.ErrOrStderr(), listen, args[0])
			if err != nil {
				return err
			}
			defer c.Close()
			if o.verbose {
				o.infof(cmd.ErrOrStderr(), "connected by %s", describeTLS(c))
			}
			err = pipe(ctx, c, cmd.InOrStdin(), cmd.OutOrStdout())
			if err != nil {
				abort(c, "pipe failed") // a plain end would tell the peer that it has all
			}
			return err
		},
	}
	f = addNetFlags(cmd, o, dials|listens)
	cmd.Flags().BoolVarP(&listen, "listen", "l", false, "wait for a connection instead of dialing")
	return cmd
}

// pipeConn dials, or accepts one connection.
func (f *netFlags) pipeConn(ctx context.Context, log io.Writer, listen bool, addr string) (*vstp.Conn, error) {
	if !listen {
		config, err := f.client(log)
		if err != nil {
			return nil, err
		}
		return f.dial(ctx, config, addr)
	}
	config, err := f.server(log)
	if err != nil {
		return nil, err
	}
	ln, err := f.listen(ctx, config, addr)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	f.infof(log, "listening on %s", ln.Addr())
	c, err := ln.Accept()
	if err != nil {
		if ctx.Err() != nil {
			return nil, errInterrupted
		}
		return nil, err
	}
	return c.(*vstp.Conn), nil
}

// pipe copies both ways until both have ended. A read of in cannot be interrupted, so
// it is left behind when there is nobody any more to send to.
func pipe(ctx context.Context, c *vstp.Conn, in io.Reader, out io.Writer) error {
	stop := context.AfterFunc(ctx, func() { abort(c, "interrupted") })
	defer stop()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, in)
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}()
	received := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, c)
		received <- err
	}()
	for sent != nil || received != nil {
		select {
		case err := <-sent:
			if err != nil && ctx.Err() == nil {
				// What the peer said before it went away is worth more than that our
				// write has failed.
				if received != nil && !isLocal(err) {
					if rerr := <-received; rerr != nil {
						return rerr
					}
				}
				return err
			}
			sent = nil
		case err := <-received:
			if err != nil {
				if ctx.Err() != nil {
					return errInterrupted
				}
				return err
			}
			received = nil
			if _, err := c.Write(nil); errors.Is(err, vstp.ErrPeerClosed) {
				return nil // the peer reads nothing any more
			}
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
	}
	return c.Close()
}

// isLocal reports whether err is not about the connection.
func isLocal(err error) bool {
	var op *net.OpError
	return !errors.As(err, &op)
}
