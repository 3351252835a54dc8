package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/fileproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/progress"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	*netFlags
	addr     string
	writable bool
	maxConns int
	maxSize  int64
	grace    time.Duration
}

func newServe(o *options) *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve DIR | serve --network udp",
		Short: "Serve files for get and put",
		Long: `serve lets "vstp get" fetch the files below DIR and, with --writable, "vstp put" store
files there. Nothing outside DIR can be reached, neither by .. nor by links. A file
that is put appears under its name when all of it has arrived and its SHA-256 is
right; until then it is hidden, and kept for a later put to go on with.

Each transfer is one line on standard error. The first Ctrl-C or SIGTERM lets
running transfers finish, for the time of --grace; the second ends them.

With --network udp there are no files: every message is sent back to where it came
from, for ping and bench.

Whoever can connect can read everything in DIR. --client-ca lets only those in who
have a certificate.`,
		Example: `  vstp serve ./public
  vstp serve --listen 127.0.0.1:7000 --writable ./inbox
  vstp serve --cert cert.pem --key key.pem --client-ca ca.pem ./private
  vstp serve --network unix --listen /run/files.sock ./public
  vstp serve --network rudp ./public
  vstp serve --network udp`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.isMessages() {
				if len(args) > 0 {
					return usagef("there are no files on %s: leave the directory away for an echo of messages, or use --network r%[1]s", f.network)
				}
				return f.serveEcho(cmd.Context(), f.addr, cmd.ErrOrStderr())
			}
			if err := exactArgs(1, "DIR")(cmd, args); err != nil {
				return err
			}
			return f.run(cmd.Context(), args[0], cmd.ErrOrStderr())
		},
	}
	f.netFlags = addNetFlags(cmd, o, listens|talks)
	fs := cmd.Flags()
	fs.StringVarP(&f.addr, "listen", "l", ":"+vstp.DefaultPort, "`address` to listen on")
	fs.BoolVarP(&f.writable, "writable", "w", false, "allow put")
	fs.IntVar(&f.maxConns, "max-conns", 256, "connections served at a time; more wait")
	fs.Int64Var(&f.maxSize, "max-size", 0, "largest file accepted, in `bytes`; 0 for any")
	fs.DurationVar(&f.grace, "grace", 30*time.Second, "time that transfers get to finish at the end")
	return cmd
}

func (f *serveFlags) run(ctx context.Context, dir string, stderr io.Writer) error {
	if f.maxConns < 1 || f.maxSize < 0 || f.grace < 0 {
		return usagef("--max-conns must be positive, --max-size and --grace cannot be negative")
	}
	config, err := f.server(stderr)
	if err != nil {
		return err
	}
	config.Header = append(config.Header, vstp.Field{Key: fileproto.ServiceKey, Value: fileproto.Service})
	config.MaxMessageSize = fileproto.MaxControl
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	ln, err := f.listen(ctx, config, f.addr)
	if err != nil {
		return err
	}
	log := &lineLog{w: stderr, quiet: f.quiet}
	f.infof(stderr, "serving %s on %s", dir, ln.Addr())
	loop := acceptLoop{max: f.maxConns, grace: f.grace, handle: func(ctx context.Context, c net.Conn) {
		vc := c.(*vstp.Conn)
		f.tell(log, vc)
		from := c.RemoteAddr().String()
		s := &fileproto.Server{
			Root: root, Writable: f.writable, MaxSize: f.maxSize,
			Log: func(t fileproto.Transfer) { log.transfer(from, t) },
		}
		err := s.Serve(ctx, vc)
		switch {
		case err == nil:
		case errors.Is(err, fileproto.ErrProtocol):
			log.printf("%s: %v", from, err)
			vc.CloseWithError(vstp.CodeApplication, err.Error())
		case ctx.Err() != nil:
			settle(vc, f.grace)
			vc.CloseWithError(vstp.CodeApplication, "the server is shutting down")
		case f.verbose:
			log.printf("%s: %v", from, err)
		}
	}}
	return loop.run(ctx, ln)
}

// settleTime is how long a client may take to say that it has what it was sent.
const settleTime = 500 * time.Millisecond

// settle waits until a client has what it was sent, as it shows by its end or its next
// request, or by a while in which nothing is on its way: on UDP, an end with an error is not for
// afterwards.
func settle(c *vstp.Conn, grace time.Duration) {
	for end := time.Now().Add(grace); c.Stats().PacketsSent > 0 && time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), settleTime)
		_, err := c.ReceiveMessage(ctx)
		cancel()
		if !isTimeout(err) || c.Stats().BytesInFlight == 0 {
			return
		}
	}
}

// A lineLog writes whole lines from several goroutines.
type lineLog struct {
	mu    sync.Mutex
	w     io.Writer
	quiet bool
}

func (l *lineLog) printf(format string, args ...any) {
	if l.quiet {
		return
	}
	line := time.Now().Format("2006-01-02 15:04:05 ") + oneLine(fmt.Sprintf(format, args...)) + "\n"
	l.mu.Lock()
	defer l.mu.Unlock()
	io.WriteString(l.w, line)
}

// transfer logs the end of a transfer.
func (l *lineLog) transfer(from string, t fileproto.Transfer) {
	if t.Err != nil {
		l.printf("%s %s %q failed after %v: %v", from, t.Op, t.Path, t.Elapsed.Round(time.Millisecond), errorText(t.Err))
		return
	}
	resumed := ""
	if t.Offset > 0 {
		resumed = fmt.Sprintf(", resumed at %d", t.Offset)
	}
	l.printf("%s %s %q %d bytes in %v (%s%s) sha256=%s", from, t.Op, t.Path, t.Size,
		t.Elapsed.Round(time.Microsecond), progress.Rate(t.Size-t.Offset, t.Elapsed), resumed, t.SHA256)
}
