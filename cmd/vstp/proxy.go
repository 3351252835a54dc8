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
	"github.com/vstp-go/vstp/cmd/vstp/internal/relay"
	"github.com/vstp-go/vstp/cmd/vstp/internal/remote"
)

func newProxy(o *options) *cobra.Command {
	p := &proxy{}
	var listen, to string
	cmd := &cobra.Command{
		Use:   "proxy --listen URL --to URL",
		Short: "Carry the connections of any program over vstp",
		Long: `proxy accepts connections at one URL and carries each to another. One of the two is
vstp://HOST:PORT, on the network of --network, or vstp+tls:// for the same in TLS; the
other is a plain socket, tcp://HOST:PORT or unix:///PATH. So a proxy at each end puts
vstp between a program and its server, neither of which knows.

The flags for TLS belong to the vstp side. Where both sides are vstp, each side's URL
says whether it has TLS.

An end of a stream is passed on and the other direction goes on. What breaks on one
side breaks on the other: a reset on a plain socket, an error with a reason on vstp;
so does a target that cannot be reached. The first Ctrl-C or SIGTERM lets connections
finish, for the time of --grace; the second ends them.`,
		Example: `  # before the server's web server:
  vstp proxy --listen vstp+tls://:6969 --cert cert.pem --key key.pem --to tcp://127.0.0.1:80
  # beside the browser, which then opens http://127.0.0.1:8080/:
  vstp proxy --listen tcp://127.0.0.1:8080 --to vstp+tls://host:6969 --ca ca.pem
  # over UDP alone, for a link that loses packets, with --network rudp at both ends:
  vstp proxy --network rudp --listen vstp+tls://:6969 --cert cert.pem --key key.pem --to tcp://127.0.0.1:22
  vstp proxy --network rudp --listen tcp://127.0.0.1:2222 --to vstp+tls://host:6969 --ca ca.pem`,
		Args: exactArgs(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listen == "" || to == "" {
				return usagef("--listen and --to are both needed")
			}
			var err error
			if p.from, p.to, err = remote.ParsePair(listen, to); err != nil {
				return &usageError{err}
			}
			return p.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	p.netFlags = addNetFlags(cmd, o, dials|listens)
	fs := cmd.Flags()
	fs.StringVarP(&listen, "listen", "l", "", "`URL` to accept connections at")
	fs.StringVarP(&to, "to", "t", "", "`URL` to carry them to")
	fs.IntVar(&p.maxConns, "max-conns", 1024, "connections carried at a time; more wait")
	fs.DurationVar(&p.grace, "grace", 10*time.Second, "time that connections get to finish at the end")
	return cmd
}

// A proxy carries connections from one endpoint to another.
type proxy struct {
	*netFlags
	from, to remote.Endpoint
	maxConns int
	grace    time.Duration

	dialConfig *vstp.Config // for a vstp target
	log        lineLog
}

func (p *proxy) run(ctx context.Context, stderr io.Writer) error {
	if p.maxConns < 1 || p.grace < 0 {
		return usagef("--max-conns must be positive, --grace cannot be negative")
	}
	p.log = lineLog{w: stderr, quiet: p.quiet}
	if p.to.VSTP {
		var err error
		if p.dialConfig, err = p.clientTLS(stderr, p.useTLS(p.to)); err != nil {
			return err
		}
	}
	ln, err := p.listenFrom(ctx, stderr)
	if err != nil {
		return err
	}
	p.infof(stderr, "carrying connections from %s to %s", ln.Addr(), p.to)
	loop := acceptLoop{max: p.maxConns, grace: p.grace, handle: p.carry}
	return loop.run(ctx, ln)
}

// useTLS reports whether a vstp side has TLS: by its URL, or by flags if it is the only
// one they can belong to.
func (p *proxy) useTLS(e remote.Endpoint) bool {
	return e.TLS || p.tls || p.usesTLS() && !(p.from.VSTP && p.to.VSTP)
}

func (p *proxy) listenFrom(ctx context.Context, stderr io.Writer) (net.Listener, error) {
	if !p.from.VSTP {
		return new(net.ListenConfig).Listen(ctx, p.from.Network, p.from.Addr)
	}
	config, err := p.serverTLS(stderr, p.useTLS(p.from))
	if err != nil {
		return nil, err
	}
	return p.listen(ctx, config, p.from.Addr)
}

// carry serves one accepted connection.
func (p *proxy) carry(ctx context.Context, c net.Conn) {
	from := c.RemoteAddr()
	a, err := side(c)
	if err != nil {
		p.log.printf("%s: %v", from, err)
		return
	}
	b, err := p.dialTo(ctx)
	if err != nil {
		err = fmt.Errorf("cannot reach %s: %w", p.to, err)
		p.log.printf("%s: %s", from, explain(err))
		a.Abort(errors.New("cannot reach the target: " + publicText(err)))
		return
	}
	p.tell(&p.log, c)
	p.tell(&p.log, b.Conn)
	start := time.Now()
	up, down, err := relay.Run(a, b)
	switch {
	case err != nil:
		p.log.printf("%s: broke after %v, %d bytes up, %d down: %s", from, time.Since(start).Round(time.Millisecond), up, down, errorText(err))
	case p.verbose:
		p.log.printf("%s: done after %v, %d bytes up, %d down", from, time.Since(start).Round(time.Millisecond), up, down)
	}
}

// publicText says what is wrong with a target without naming it: the client need not
// know the network behind the proxy.
func publicText(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return errorText(op.Err)
	}
	if isTimeout(err) {
		return "timeout"
	}
	return "failed"
}

func (p *proxy) dialTo(ctx context.Context) (relay.Side, error) {
	var c net.Conn
	var err error
	if p.to.VSTP {
		c, err = p.dial(ctx, p.dialConfig, p.to.Addr)
	} else {
		c, err = (&net.Dialer{Timeout: p.timeout}).DialContext(ctx, p.to.Network, p.to.Addr)
	}
	if err != nil {
		return relay.Side{}, err
	}
	s, err := side(c)
	if err != nil {
		c.Close()
	}
	return s, err
}

// side says how to end c so that its peer can tell an error from an end.
func side(c net.Conn) (relay.Side, error) {
	rc, ok := c.(relay.Conn)
	if !ok {
		return relay.Side{}, fmt.Errorf("%s connections cannot be half-closed", c.LocalAddr().Network())
	}
	return relay.Side{Conn: rc, Abort: func(err error) { abort(c, "proxy: "+errorText(err)) }}, nil
}
