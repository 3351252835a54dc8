package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// A usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// run executes one command line and returns the exit code. Whatever goes wrong is
// one line on stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(append([]string{}, args...)) // cobra takes os.Args instead of nil
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	fmt.Fprintln(stderr, "vstp: "+oneLine(explain(err)))
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailure
}

// oneLine makes s safe to print as one line of a terminal: errors may quote a peer.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// options are the flags of every command.
type options struct {
	quiet   bool
	verbose bool
}

// logger returns where the library reports what happens to single connections.
func (o *options) logger(w io.Writer) *slog.Logger {
	if !o.verbose {
		return nil
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// infof tells the user something that is neither a result nor an error.
func (o *options) infof(w io.Writer, format string, args ...any) {
	if !o.quiet {
		fmt.Fprintln(w, "vstp: "+oneLine(fmt.Sprintf(format, args...)))
	}
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "vstp",
		Short: "Files, streams and measurements over VSTP",
		Long: `vstp moves files, streams and measurements over VSTP connections: framed,
with metadata, over UDP, TCP or Unix sockets, in TLS 1.3 if asked to.

An ADDRESS is HOST, HOST:PORT or :PORT; the port is 6969 where none is given, and one of
UDP and TCP both: a server listens on both, and a client tries UDP first, falls back to TCP where
that is blocked, and moves to the other one when what it uses fails. --network chooses
one of them; with --network unix an ADDRESS is the path of a socket.`,
		Example: `  vstp serve ./public                        # on one machine
  vstp get host/file.iso                     # on another
  vstp cert localhost 192.0.2.7              # keys for --tls
  vstp ping host`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVarP(&o.quiet, "quiet", "q", false, "print errors and results only")
	root.PersistentFlags().BoolVarP(&o.verbose, "verbose", "v", false, "log what happens to connections")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newServe(o),
		newGet(o),
		newPut(o),
		newPipe(o),
		newProxy(o),
		newPing(o),
		newBench(o),
		newCert(o),
		newDecode(o),
	)
	return root
}

// version is that of the module, as the go command has built it in.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// unknownCommand rejects arguments of the root command, which are no command's name.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		return usagef("unknown command %q; did you mean %q?", args[0], s[0])
	}
	return usagef("unknown command %q", args[0])
}

// minArgs and maxArgs check the number of arguments; what says what is missing.
func minArgs(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("missing argument: %s", what)
		}
		return nil
	}
}

func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return usagef("missing argument: %s", what)
		case len(args) > n:
			return usagef("unexpected argument %q", args[n])
		}
		return nil
	}
}
