package vstp

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// A MessageHandler is called by Serve for each message, one at a time for each
// connection, in order. It may use c, for answers and beyond its return. Its error
// ends the connection: of a *ProtocolError the peer is told Code and Reason, of any
// other it is told CodeInternal.
type MessageHandler func(ctx context.Context, c *Conn, m *Message) error

// Serve accepts connections and calls handler for their messages, until ctx ends
// or l is closed; then it closes the connections, waits for the handlers, and
// returns the cause of ctx or an error with net.ErrClosed in it. It is the
// counterpart of the crate's server.run. The handler's ctx ends with Serve's, and
// with the connection's messages.
func (l *Listener) Serve(ctx context.Context, handler MessageHandler) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	var wg sync.WaitGroup
	defer func() {
		cancel()
		stop()
		l.Close()
		wg.Wait()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		wg.Go(func() { l.serveConn(ctx, c.(*Conn), handler) })
	}
}

// serveConn calls handler for the messages of c.
func (l *Listener) serveConn(ctx context.Context, c *Conn, handler MessageHandler) {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		m, err := c.ReceiveMessage(ctx)
		if err != nil {
			if err != io.EOF && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				l.log.Info("vstp: connection ended", "remote", c.raddr, "err", err)
			}
			return
		}
		if err := handler(ctx, c, m); err != nil {
			l.log.Info("vstp: handler ended the connection", "remote", c.raddr, "err", err)
			code, reason := CodeInternal, ""
			var pe *ProtocolError
			if errors.As(err, &pe) {
				code, reason = pe.Code, pe.Reason
			}
			c.CloseWithError(code, reason)
			return
		}
	}
}
