package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp/cmd/vstp/internal/fileproto"
	"github.com/vstp-go/vstp/cmd/vstp/internal/remote"
)

func newPut(o *options) *cobra.Command {
	var f *transferFlags
	cmd := &cobra.Command{
		Use:   "put FILE... ADDRESS/[PATH]",
		Short: "Store files on a server",
		Long: `put stores files, and directories with all they contain, on a server that was
started with "vstp serve --writable". If PATH is a directory there, or ends in a
slash, they go into it; otherwise PATH is the name that the file or the directory
gets.

Time, permissions and SHA-256 are those of the source. The server keeps what has
arrived when a connection breaks, and the same command goes on from there, unless
the source has changed. Files that have the same size and time there are not sent
again.`,
		Example: `  vstp put file.iso host/
  vstp put photos host:7000/backup
  vstp put a b host/inbox/
  vstp put --network unix file.iso /run/files.sock//`,
		Args: minArgs(2, "FILE... ADDRESS/[PATH]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dst, err := remote.ParseFile(args[len(args)-1])
			if err != nil {
				return &usageError{err}
			}
			sources := args[:len(args)-1]
			for _, s := range sources {
				if _, err := os.Stat(s); err != nil {
					return err
				}
			}
			return f.run(cmd.Context(), cmd.ErrOrStderr(), dst.Addr, func(t *transfer) error {
				return t.put(cmd.Context(), sources, dst)
			})
		},
	}
	f = addTransferFlags(cmd, o)
	return cmd
}

// put stores all sources.
func (t *transfer) put(ctx context.Context, sources []string, dst remote.File) error {
	there, err := t.client.Stat(ctx, dst.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	into := err == nil && there.Dir || dst.Dir || len(sources) > 1
	var failed error
	for _, src := range sources {
		err := t.putOne(ctx, src, dst.Path, into)
		var files *fileproto.FilesError
		if err != nil && !errors.As(err, &files) {
			return err
		}
		if failed == nil {
			failed = err
		}
	}
	return failed
}

// putOne stores a file or a directory as target, or in it.
func (t *transfer) putOne(ctx context.Context, src, target string, into bool) error {
	src, err := filepath.EvalSymlinks(src)
	if err != nil {
		return err
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	base := filepath.Base(src)
	if into && base != "." && base != ".." && base != string(filepath.Separator) {
		target = path.Join(target, base)
	}
	if !fileproto.ValidPath(target) {
		return fmt.Errorf("%q cannot be a path on the server", target)
	}
	dir := src
	if !info.IsDir() {
		dir = filepath.Dir(src)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()

	there := t.existing(ctx, target)
	var files []fileproto.File
	var dirs []fileproto.Entry
	add := func(e fileproto.Entry, local, remote string, old fileproto.Entry) error {
		if !fileproto.ValidPath(remote) {
			return fmt.Errorf("%q cannot be a path on the server", remote)
		}
		if !t.skip(old.Path != "" && fileproto.SameEntry(old, e)) {
			files = append(files, fileproto.File{Remote: remote, Local: local, Entry: e})
		}
		return nil
	}
	if !info.IsDir() {
		e := fileproto.Entry{Size: info.Size(), MTime: info.ModTime().UnixNano()}
		err = add(e, base, target, there["."])
	} else {
		err = fileproto.WalkDir(root, ".", func(e fileproto.Entry) error {
			if e.Dir {
				e.Path = path.Join(target, e.Path)
				dirs = append(dirs, e)
				return nil
			}
			return add(e, e.Path, path.Join(target, e.Path), there[e.Path])
		})
	}
	if err != nil {
		return err
	}
	t.expectBytes(files)
	err = t.client.Put(ctx, root, files)
	var some *fileproto.FilesError
	if err != nil && !errors.As(err, &some) {
		return err
	}
	// The deepest first, and after their files: one may be read-only.
	slices.Reverse(dirs)
	if derr := t.client.Mkdirs(ctx, dirs); err == nil {
		err = derr
	}
	return err
}

// existing lists what the server has at target. If that fails, everything is sent.
func (t *transfer) existing(ctx context.Context, target string) map[string]fileproto.Entry {
	there := map[string]fileproto.Entry{}
	if t.flags.force {
		return there
	}
	entries, err := t.client.List(ctx, target)
	if err != nil {
		return there
	}
	for _, e := range entries {
		there[e.Path] = e
	}
	return there
}
