package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp/cmd/vstp/internal/fileproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/remote"
)

func newGet(o *options) *cobra.Command {
	var f *transferFlags
	cmd := &cobra.Command{
		Use:   "get ADDRESS/PATH... [DEST]",
		Short: "Fetch files from a server",
		Long: `get fetches files, and directories with all they contain, from "vstp serve". DEST is
a file or a directory; with several sources it is a directory and must be given.
Without it files come to the current directory.

Time, permissions and SHA-256 are those of the source. What has arrived when a
connection breaks is kept beside the destination as NAME.vstp-part, and the same
command goes on from there, unless the source has changed. Files that have the same
size and time here are not fetched again.

The address ends at the first slash, or at the first double slash if there is one,
as after the path of a Unix socket.`,
		Example: `  vstp get host/file.iso
  vstp get host:7000/photos ./backup
  vstp get host/a host/b .
  vstp get --retries 5 --ca ca.pem files.example.org/ ./mirror
  vstp get --network unix /run/files.sock//file.iso`,
		Args: minArgs(1, "ADDRESS/PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dest := "."
			if len(args) > 1 {
				args, dest = args[:len(args)-1], args[len(args)-1]
			}
			var sources []remote.File
			for _, a := range args {
				src, err := remote.ParseFile(a)
				if err != nil {
					return &usageError{err}
				}
				sources = append(sources, src)
			}
			for i, src := range sources {
				err := f.run(cmd.Context(), cmd.ErrOrStderr(), src.Addr, func(t *transfer) error {
					return t.get(cmd.Context(), src, dest, len(sources) > 1)
				})
				if err != nil {
					if len(sources) > 1 {
						return fmt.Errorf("%s: %w", args[i], err)
					}
					return err
				}
			}
			return nil
		},
	}
	f = addTransferFlags(cmd, o)
	return cmd
}

// get fetches one source. Several tells that dest must be a directory.
func (t *transfer) get(ctx context.Context, src remote.File, dest string, several bool) error {
	entries, err := t.client.List(ctx, src.Path)
	if err != nil {
		return fmt.Errorf("%s: %w", src.Path, err)
	}
	top := entries[0]
	if src.Dir && !top.Dir {
		return fmt.Errorf("%s is not a directory", src.Path)
	}
	info, err := os.Stat(dest)
	into := err == nil && info.IsDir() || several || strings.HasSuffix(dest, "/")
	target := dest
	if into && src.Path != "." {
		target = filepath.Join(dest, path.Base(src.Path))
	}
	dir := target
	if !top.Dir {
		dir = filepath.Dir(target)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()

	var files []fileproto.File
	var dirs []fileproto.Entry
	for _, e := range entries {
		f := fileproto.File{Remote: path.Join(src.Path, e.Path), Local: e.Path, Entry: e}
		if !top.Dir {
			f.Local = filepath.Base(target)
		}
		if e.Dir {
			dirs = append(dirs, e)
			if err := root.MkdirAll(f.Local, 0o755); err != nil {
				return err
			}
		} else if info, err := root.Lstat(f.Local); !t.skip(err == nil && fileproto.Same(e, info)) {
			files = append(files, f)
		}
	}
	t.expectBytes(files)
	err = t.client.Get(ctx, root, files)
	// Last, and the deepest first: a directory may be one that nobody can write to, and
	// each file changes the time of its own.
	for _, e := range slices.Backward(dirs) {
		if e.Path == "." && src.Path == "." {
			continue // what was served as a whole says nothing about our directory
		}
		root.Chmod(e.Path, e.Perm()|0o700)
		root.Chtimes(e.Path, e.ModTime(), e.ModTime())
	}
	return err
}
