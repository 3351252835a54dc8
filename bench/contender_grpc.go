package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

func grpcContender() *contender {
	return &contender{
		name: "grpc", what: "gRPC over TCP without TLS; unary calls, one stream for bulk", base: "tcp",
		listen: listenGRPC,
		dial:   dialGRPC,
		exchange: func(_ *env, addr string) (exchanger, error) {
			conn, err := newGRPCClient(addr)
			if err != nil {
				return nil, err
			}
			return &grpcExchanger{conn}, nil
		},
	}
}

// grpcStreamContender exchanges over one bidirectional stream instead of a call each time.
func grpcStreamContender() *contender {
	c := grpcContender()
	c.name = "grpc-stream"
	c.what = "gRPC over TCP without TLS, one bidirectional stream"
	c.tests = []string{"rr"}
	c.exchange = nil
	return c
}

// A grpcMessage is bytes, as they are. Its buffers belong to it.
type grpcMessage struct{ buf mem.BufferSlice }

// A grpcCodec passes the bytes of a grpcMessage through.
type grpcCodec struct{}

var _ encoding.CodecV2 = grpcCodec{}

func (grpcCodec) Name() string { return "raw" }

// Marshal hands the buffers over to gRPC, which frees them.
func (grpcCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*grpcMessage)
	if !ok {
		return nil, fmt.Errorf("not a grpcMessage: %T", v)
	}
	buf := m.buf
	m.buf = nil
	return buf, nil
}

func (grpcCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*grpcMessage)
	if !ok {
		return fmt.Errorf("not a grpcMessage: %T", v)
	}
	data.Ref()
	m.buf = data
	return nil
}

func newGRPCMessage(p []byte) *grpcMessage {
	return &grpcMessage{mem.BufferSlice{mem.Copy(p, mem.DefaultBufferPool())}}
}

const (
	grpcUnary  = "/bench.Bytes/Exchange"
	grpcStream = "/bench.Bytes/Stream"
)

var grpcStreamDesc = grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, ClientStreams: true}

func listenGRPC(_ *env, host string) (acceptor, error) {
	ln, err := listenTCP(host)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(grpcCodec{}))
	a := newChanAcceptor(ln.Addr().String(), func() error {
		server.Stop()
		return nil
	})
	desc := grpcStreamDesc
	desc.Handler = func(_ any, gs grpc.ServerStream) error {
		s := &grpcStreamConn{messages: gs, done: make(chan struct{})}
		if a.put(s) {
			<-s.done
		}
		return nil
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Bytes",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Exchange",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				m := new(grpcMessage)
				if err := decode(m); err != nil {
					return nil, err
				}
				return m, nil
			},
		}},
		Streams: []grpc.StreamDesc{desc},
	}, nil)
	go server.Serve(ln)
	return a, nil
}

func newGRPCClient(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpcCodec{})))
}

func dialGRPC(_ *env, addr string) (stream, error) {
	conn, err := newGRPCClient(addr)
	if err != nil {
		return nil, err
	}
	cs, err := conn.NewStream(context.Background(), &grpcStreamDesc, grpcStream)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &grpcStreamConn{messages: cs, conn: conn}, nil
}

// A grpcStreamConn is a stream of bytes over a stream of messages.
type grpcStreamConn struct {
	messages interface {
		SendMsg(m any) error
		RecvMsg(m any) error
	}
	r    *mem.Reader      // of the message being read, nil if none
	conn *grpc.ClientConn // on the client's side

	once sync.Once
	done chan struct{} // on the server's side
}

func (s *grpcStreamConn) Read(p []byte) (int, error) {
	for {
		if s.r != nil {
			if n, err := s.r.Read(p); n > 0 || err != io.EOF {
				return n, err
			}
			s.r.Close()
			s.r = nil
		}
		var m grpcMessage
		if err := s.messages.RecvMsg(&m); err != nil {
			return 0, err
		}
		s.r = m.buf.Reader()
		m.buf.Free()
	}
}

func (s *grpcStreamConn) Write(p []byte) (int, error) {
	if err := s.messages.SendMsg(newGRPCMessage(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *grpcStreamConn) Close() error {
	if s.conn == nil {
		s.once.Do(func() { close(s.done) })
		return nil
	}
	return s.conn.Close()
}

// A grpcExchanger makes a unary call for each exchange.
type grpcExchanger struct{ conn *grpc.ClientConn }

func (x *grpcExchanger) Exchange(req, resp []byte) error {
	var answer grpcMessage
	if err := x.conn.Invoke(context.Background(), grpcUnary, newGRPCMessage(req), &answer); err != nil {
		return err
	}
	defer answer.buf.Free()
	if answer.buf.Len() != len(resp) {
		return fmt.Errorf("%d bytes in the response, want %d", answer.buf.Len(), len(resp))
	}
	answer.buf.CopyTo(resp)
	return nil
}

func (x *grpcExchanger) Close() error { return x.conn.Close() }
