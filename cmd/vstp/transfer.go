package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/cmd/vstp/internal/fileproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/progress"
)

// transferFlags are the flags of get and put.
type transferFlags struct {
	*netFlags
	force   bool
	retries int
}

func addTransferFlags(cmd *cobra.Command, o *options) *transferFlags {
	f := &transferFlags{netFlags: addNetFlags(cmd, o, dials)}
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "transfer files again that have the same size and time on both sides")
	cmd.Flags().IntVar(&f.retries, "retries", 0, "connect again and go on, so many times, after the connection broke")
	return f
}

// retryDelay is the pause before the first new attempt; each further one doubles it.
const retryDelay = 500 * time.Millisecond

const maxRetryDelay = 30 * time.Second

// run calls fn with a connection to addr, again if it broke and --retries allows it,
// and tells how it went.
func (f *transferFlags) run(ctx context.Context, stderr io.Writer, addr string, fn func(*transfer) error) error {
	config, err := f.client(stderr)
	if err != nil {
		return err
	}
	config.MaxMessageSize = fileproto.MaxControl
	t := &transfer{flags: f, stderr: stderr, start: time.Now()}
	delay := retryDelay
	for attempt := 0; ; attempt++ {
		t.client = nil
		err := f.attempt(ctx, config, addr, t, fn)
		t.bar.Clear()
		t.bar = nil
		if err == nil {
			t.summary()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w; the same command goes on from here", errInterrupted)
		}
		if attempt == f.retries || !isBroken(err) {
			return err
		}
		f.infof(stderr, "%s; trying again in %v", explain(err), delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, maxRetryDelay)
	}
}

// attempt connects and calls fn.
func (f *transferFlags) attempt(ctx context.Context, config *vstp.Config, addr string, t *transfer, fn func(*transfer) error) error {
	c, err := f.dial(ctx, config, addr)
	if err != nil {
		return &connError{err}
	}
	defer c.Close()
	defer func() { t.carried = via(c) }()
	if f.verbose {
		t.say("connected by %s", describeTLS(c))
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.Handshake(ctx); err != nil { // its metadata
		return &connError{err}
	}
	if service := c.ConnectionState().PeerHeader.Get(fileproto.ServiceKey); service != fileproto.Service {
		if service != "" {
			return fmt.Errorf("%s speaks %.40q, this program %q: one of them is too old", addr, service, fileproto.Service)
		}
		return fmt.Errorf("%s is a vstp server, but not one for files: was it started with \"vstp serve\"?", addr)
	}
	t.client = fileproto.NewClient(c, 0)
	t.client.Events = fileproto.Events{Start: t.started, Progress: t.moved, Done: t.done}
	return fn(t)
}

// A connError is the failure to connect.
type connError struct{ err error }

func (e *connError) Error() string { return e.err.Error() }
func (e *connError) Unwrap() error { return e.err }

// isBroken reports whether another connection may help.
func isBroken(err error) bool {
	var files *fileproto.FilesError
	var remote *fileproto.RemoteError
	var refused *vstp.RefusedError
	switch {
	case errors.As(err, &remote) && remote.Code == fileproto.CodeBusy:
		return true // perhaps by our own connection that broke, which the server has yet to notice
	case errors.As(err, &files), errors.As(err, &remote), errors.As(err, &refused), errors.Is(err, fileproto.ErrProtocol):
		return false
	}
	var conn *connError
	return errors.As(err, &conn) || errors.Is(err, io.ErrUnexpectedEOF) || !isLocal(err)
}

// A transfer is one get or put under way.
type transfer struct {
	flags  *transferFlags
	stderr io.Writer
	client *fileproto.Client
	start  time.Time
	bar    *progress.Bar // nil if there is no terminal

	carried string // via what, at the end; "" where there is no choice

	files, unchanged, resumed int
	bytes                     int64
}

// expectBytes starts a bar for what is about to move.
func (t *transfer) expectBytes(files []fileproto.File) {
	t.bar.Clear()
	t.bar = nil
	if t.flags.quiet || len(files) == 0 || !progress.IsTerminal(t.stderr) {
		return
	}
	var total int64
	for _, f := range files {
		total += min(f.Entry.Size, 1<<62-total) // sizes come from a peer
	}
	t.bar = progress.New(t.stderr, total)
}

func (t *transfer) started(f fileproto.File, size, offset int64, restarted bool) {
	t.bar.Describe(f.Local)
	t.bar.Skip(offset)
	switch {
	case offset > 0:
		t.resumed++
		t.say("%s: going on at %s of %s", f.Local, progress.Bytes(offset), progress.Bytes(size))
	case restarted:
		t.say("%s: the source is another one than before, starting again", f.Local)
	}
}

func (t *transfer) moved(n int) {
	t.bytes += int64(n)
	t.bar.Add(n)
}

func (t *transfer) done(f fileproto.File, err error) {
	if err == nil {
		t.files++
		if t.flags.verbose {
			t.say("%s: done", f.Local)
		}
		return
	}
	var remote *fileproto.RemoteError
	if errors.As(err, &remote) {
		t.say("%s: %v", f.Remote, remote)
	}
}

// say prints a line, not into the bar.
func (t *transfer) say(format string, args ...any) {
	t.bar.Clear()
	t.flags.infof(t.stderr, "%s", progress.Safe(fmt.Sprintf(format, args...)))
}

// skip reports whether the destination is what the source is already, and counts it.
func (t *transfer) skip(same bool) bool {
	if same && !t.flags.force {
		t.unchanged++
		return true
	}
	return false
}

func (t *transfer) summary() {
	d := time.Since(t.start)
	s := fmt.Sprintf("%s, %s in %v (%s)%s", plural(t.files, "file"), progress.Bytes(t.bytes),
		d.Round(time.Millisecond), progress.Rate(t.bytes, d), t.carried)
	if t.resumed > 0 {
		s += fmt.Sprintf(", %d resumed", t.resumed)
	}
	if t.unchanged > 0 {
		s += fmt.Sprintf(", %d unchanged", t.unchanged)
	}
	t.say("%s", s)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
