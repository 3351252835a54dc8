package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/benchproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/progress"
)

// benchFlags are the flags of bench.
type benchFlags struct {
	*netFlags
	isServer        bool
	addr            string
	maxConns        int
	download, bidir bool
	rr              bool
	parallel        int
	duration        time.Duration
	bytes           int64
	size            int
	json            bool
}

func newBench(o *options) *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench ADDRESS | bench -s",
		Short: "Measure throughput and latency",
		Long: `bench -s waits for tests, bench ADDRESS runs one against it: an upload, or a
download, or both directions at once, or requests and responses of --size bytes one
after the other (--rr). -P runs so many connections at the same time. A line a second
shows how it goes, and --json prints everything at the end for programs.

On udp the server, which may be "vstp serve --network udp" too, sends each message back;
the test is --bidir or --rr, and --size is that of a message.

An upload is measured where it arrives. CPU seconds are those of the own process,
and of the server's, which counts other clients too.`,
		Example: `  vstp bench -s
  vstp bench host                            # upload for 10 seconds
  vstp bench host --download -P 4 -d 30s
  vstp bench host --bidir --bytes 1000000000
  vstp bench host --rr --size 64 --json
  vstp bench host --network rudp --congestion cubic`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.isServer {
				if err := exactArgs(0, "")(cmd, args); err != nil {
					return err
				}
				return f.serve(cmd.Context(), cmd.ErrOrStderr())
			}
			if err := exactArgs(1, "ADDRESS, or -s")(cmd, args); err != nil {
				return err
			}
			test, err := f.test()
			if err != nil {
				return err
			}
			return f.runTest(cmd.Context(), args[0], test, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.netFlags = addNetFlags(cmd, o, dials|listens|talks)
	fs := cmd.Flags()
	fs.BoolVarP(&f.isServer, "server", "s", false, "be the server")
	fs.StringVarP(&f.addr, "listen", "l", ":"+vstp.DefaultPort, "server: `address` to listen on")
	fs.IntVar(&f.maxConns, "max-conns", 256, "server: connections at a time")
	fs.BoolVarP(&f.download, "download", "R", false, "the server sends")
	fs.BoolVar(&f.bidir, "bidir", false, "both send")
	fs.BoolVar(&f.rr, "rr", false, "requests and responses")
	fs.IntVarP(&f.parallel, "parallel", "P", 1, "connections")
	fs.DurationVarP(&f.duration, "duration", "d", 10*time.Second, "how long")
	fs.Int64VarP(&f.bytes, "bytes", "n", 0, "`bytes` in each direction of each connection, instead of a duration")
	fs.IntVar(&f.size, "size", 0, "`bytes` of a Write (128 KiB if not given) or of a request (64)")
	fs.BoolVar(&f.json, "json", false, "print the result as JSON")
	return cmd
}

// maxParallel bounds -P.
const maxParallel = 1024

// test returns what the flags ask for.
func (f *benchFlags) test() (benchproto.Test, error) {
	t := benchproto.Test{Mode: benchproto.Upload, Duration: f.duration, Size: f.size}
	n := 0
	for _, m := range []struct {
		on   bool
		mode benchproto.Mode
	}{{f.download, benchproto.Download}, {f.bidir, benchproto.Both}, {f.rr, benchproto.RR}} {
		if m.on {
			t.Mode = m.mode
			n++
		}
	}
	if f.isMessages() {
		if f.download {
			return t, usagef("a server on %s sends back what it gets: --bidir, which is what happens without a flag, or --rr", f.network)
		}
		if n == 0 {
			t.Mode = benchproto.Both
		}
	}
	switch {
	case n > 1:
		return t, usagef("--download, --bidir and --rr exclude each other")
	case f.parallel < 1 || f.parallel > maxParallel:
		return t, usagef("--parallel is 1 to %d", maxParallel)
	case f.bytes < 0 || f.duration < 0:
		return t, usagef("--bytes and --duration cannot be negative")
	}
	if f.bytes > 0 {
		t.Bytes, t.Duration = f.bytes, 0
	}
	if t.Size == 0 {
		t.Size = 128 << 10
		if t.Mode == benchproto.RR {
			t.Size = 64
		}
	}
	if err := t.Check(); err != nil {
		return t, &usageError{err}
	}
	return t, nil
}

func (f *benchFlags) serve(ctx context.Context, stderr io.Writer) error {
	if f.maxConns < 1 {
		return usagef("--max-conns must be positive")
	}
	if f.isMessages() {
		return f.serveEcho(ctx, f.addr, stderr)
	}
	config, err := f.server(stderr)
	if err != nil {
		return err
	}
	config.Header = append(config.Header, vstp.Field{Key: benchproto.ServiceKey, Value: benchproto.Service})
	config.MaxMessageSize = benchproto.MaxControl
	ln, err := f.listen(ctx, config, f.addr)
	if err != nil {
		return err
	}
	f.infof(stderr, "waiting for tests on %s", ln.Addr())
	log := &lineLog{w: stderr, quiet: f.quiet}
	loop := acceptLoop{max: f.maxConns, handle: func(ctx context.Context, c net.Conn) {
		start := time.Now()
		t, r, err := benchproto.Serve(ctx, c.(*vstp.Conn), cpuTime)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) && t.Mode == "":
			// somebody who only looked, such as ping
		case err != nil:
			c.(*vstp.Conn).CloseWithError(vstp.CodeApplication, "bench: "+errorText(err))
			log.printf("%s %s: %s", c.RemoteAddr(), t.Mode, errorText(err))
		default:
			log.printf("%s %s: %s in %v", c.RemoteAddr(), t.Mode, progress.Bytes(r.Bytes), time.Since(start).Round(time.Millisecond))
		}
	}}
	return loop.run(ctx, ln)
}

// dialBench connects and checks that there is a bench server.
func (f *benchFlags) dialBench(ctx context.Context, config *vstp.Config, addr string) (*vstp.Conn, error) {
	c, err := f.dial(ctx, config, addr)
	if err != nil {
		return nil, err
	}
	if err := c.Handshake(ctx); err != nil { // its metadata
		c.Close()
		return nil, err
	}
	service := c.ConnectionState().PeerHeader.Get(benchproto.ServiceKey)
	switch {
	case f.isMessages() && service != echoService:
		c.Close()
		return nil, fmt.Errorf("%s does not say that it echoes messages: was it started with \"vstp serve --network %s\"?", addr, f.network)
	case !f.isMessages() && service != benchproto.Service:
		c.Close()
		return nil, fmt.Errorf("%s is a vstp server, but not one for tests: was it started with \"vstp bench -s\"?", addr)
	}
	return c, nil
}
