package vstp_test

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"testing"

	"github.com/stretchr/testify/require"
)

// Arith is the service of the documentation of net/rpc, more or less.
type Arith struct{ release chan struct{} }

// Args are those of Arith's methods.
type Args struct {
	A, B int
	Blob []byte
}

// Reply is the result of Arith's methods.
type Reply struct {
	C    int
	Blob []byte
}

// Multiply answers at once.
func (*Arith) Multiply(args *Args, reply *Reply) error {
	if args.B == 0 {
		return errors.New("zero")
	}
	reply.C, reply.Blob = args.A*args.B, args.Blob
	return nil
}

// Wait answers late, after calls that were made later.
func (a *Arith) Wait(args *Args, reply *Reply) error {
	<-a.release
	reply.C = args.A
	return nil
}

// net/rpc and its JSON codec over a listener and connections: many calls at a
// time, large arguments, answers out of order.
func TestRPC(t *testing.T) {
	codecs := map[string]struct {
		serve func(*rpc.Server, net.Conn)
		dial  func(net.Conn) *rpc.Client
	}{
		"gob": {
			serve: func(s *rpc.Server, c net.Conn) { s.ServeConn(c) },
			dial:  func(c net.Conn) *rpc.Client { return rpc.NewClient(c) },
		},
		"json": {
			serve: func(s *rpc.Server, c net.Conn) { s.ServeCodec(jsonrpc.NewServerCodec(c)) },
			dial:  func(c net.Conn) *rpc.Client { return jsonrpc.NewClient(c) },
		},
	}
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				service := &Arith{release: make(chan struct{})}
				server := rpc.NewServer()
				require.NoError(t, server.Register(service))
				c, s := tr.pair(t)
				ended := async(func() error { codec.serve(server, s); return nil })
				client := codec.dial(c)

				late := client.Go("Arith.Wait", &Args{A: 1}, &Reply{}, nil)
				var g group
				for i := range 100 {
					g.Go(func() error {
						var reply Reply
						blob := contentBytes(i * 100)
						if err := client.Call("Arith.Multiply", &Args{A: i, B: 7, Blob: blob}, &reply); err != nil {
							return err
						}
						if reply.C != i*7 || string(reply.Blob) != string(blob) {
							return fmt.Errorf("call %d: wrong answer", i)
						}
						return nil
					})
				}
				g.Wait(t)
				require.EqualError(t, client.Call("Arith.Multiply", &Args{}, &Reply{}), "zero")
				close(service.release)
				require.NoError(t, receive(t, late.Done).Error)
				require.NoError(t, client.Close())
				require.NoError(t, receive(t, ended))
				require.ErrorIs(t, client.Call("Arith.Multiply", &Args{}, &Reply{}), rpc.ErrShutdown)
			})
		})
	}
}

// rpc.Server.Accept serves a listener.
func TestRPCAccept(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		server := rpc.NewServer()
		require.NoError(t, server.Register(&Arith{}))
		ln, d := tr.start(t)
		ended := async(func() error { server.Accept(ln); return nil })
		for i := range 3 {
			c, err := d.Dial(tr.network, ln.Addr().String())
			require.NoError(t, err)
			client := rpc.NewClient(c)
			var reply Reply
			require.NoError(t, client.Call("Arith.Multiply", &Args{A: i, B: 2}, &reply))
			require.Equal(t, 2*i, reply.C)
			require.NoError(t, client.Close())
		}
		require.NoError(t, ln.Close())
		require.NoError(t, receive(t, ended))
	})
}
