package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/benchproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/fileproto"
)

// echoService is what a server of messages says it is: it sends each back.
const echoService = "echo/1"

// echoPatience is how long a peer that takes no answers can hold one up.
const echoPatience = 10 * time.Second

// serveEcho sends every message back to where it came from until ctx ends.
func (f *netFlags) serveEcho(ctx context.Context, addr string, stderr io.Writer) error {
	config, err := f.server(stderr)
	if err != nil {
		return err
	}
	config.Header = append(config.Header, vstp.Field{Key: fileproto.ServiceKey, Value: echoService})
	config.MaxMessageSize = benchproto.MaxSize
	pc, err := (&vstp.ListenConfig{Config: config}).ListenPacket(ctx, f.network, addr)
	if err != nil {
		return err
	}
	f.infof(stderr, "echoing messages on %s", pc.LocalAddr())
	var n atomic.Int64
	err = pc.(*vstp.PacketConn).Serve(ctx, func(ctx context.Context, pc *vstp.PacketConn, m *vstp.Message, from net.Addr) error {
		n.Add(1)
		ctx, cancel := context.WithTimeout(ctx, echoPatience)
		defer cancel()
		return pc.SendMessage(ctx, &vstp.Message{Header: m.Header, Payload: m.Payload, Repair: true}, from)
	})
	f.infof(stderr, "%s echoed", plural(int(n.Load()), "message"))
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}
