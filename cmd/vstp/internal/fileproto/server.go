package fileproto

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// requestWait is how long a client may think before its next request: it may have a
// large partial file to hash.
const requestWait = 10 * time.Minute

// A Transfer is what a server tells about a file it has sent or received.
type Transfer struct {
	Op      string // "get" or "put"
	Path    string
	Size    int64 // of the file
	Offset  int64 // where it was resumed
	Elapsed time.Duration
	SHA256  string
	Err     error
}

// A Server answers requests for the files below a directory.
type Server struct {
	Root     *os.Root
	Writable bool          // put and mkdir are allowed
	MaxSize  int64         // of a file that is put; if zero, there is no limit
	Stall    time.Duration // if zero, DefaultStall

	// Log, if not nil, is called for each transfer when it has ended.
	Log func(Transfer)
}

// Serve answers the requests of one client until it closes the connection, which
// gives nil, or breaks it, or ctx ends while no request is being answered.
func (s *Server) Serve(ctx context.Context, c Conn) error {
	ss := &serverSession{Server: s, peer: newPeer(c, s.Stall)}
	for {
		op, b, err := ss.receive(ctx, requestWait)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		// A request that has begun may finish: ctx only ends the wait for the next.
		if err := ss.answer(context.WithoutCancel(ctx), op, b); err != nil {
			return err
		}
	}
}

// A serverSession is a Server with one client.
type serverSession struct {
	*Server
	peer
}

// A requestError goes to the client; the connection goes on.
type requestError struct{ code, text string }

func (e *requestError) Error() string { return e.text }

var (
	errReadOnly = &requestError{CodeReadOnly, "this server only gives files; it was not started with --writable"}
	errPath     = &requestError{CodeInvalid, "the path is not valid"}
)

// answer handles one request. It returns an error if the connection cannot go on.
func (s *serverSession) answer(ctx context.Context, op string, b body) error {
	var err error
	switch {
	case op == opPut:
		return s.put(ctx, b) // which knows about content that is on its way
	case !ValidPath(b.Path) || IsPart(b.Path):
		err = errPath
	case op == opStat:
		err = s.stat(ctx, b)
	case op == opList:
		err = s.list(ctx, b)
	case op == opGet:
		err = s.get(ctx, b)
	case op == opMkdir:
		err = s.mkdir(ctx, b)
	default:
		return s.fail(protocolError("unknown operation %.40q", op))
	}
	return s.report(ctx, err)
}

// report sends err to the client if it is its business, and otherwise returns it.
func (s *serverSession) report(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var broken *brokenError
	if errors.As(err, &broken) {
		return broken.err
	}
	re := asRequestError(err)
	return s.send(ctx, opError, body{Code: re.code, Text: re.text})
}

// A brokenError wraps what the connection does not survive.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

func broken(err error) error {
	if err == nil {
		return nil
	}
	return &brokenError{err}
}

// asRequestError words an error of the file system for the client, who must not
// learn where the directory is.
func asRequestError(err error) *requestError {
	var re *requestError
	var errno syscall.Errno
	switch {
	case errors.As(err, &re):
		return re
	case errors.Is(err, errBusy):
		return &requestError{CodeBusy, errBusy.Error()}
	case errors.Is(err, ErrDigest):
		return &requestError{CodeDigest, ErrDigest.Error()}
	case errors.Is(err, fs.ErrNotExist):
		return &requestError{CodeNotFound, "no such file or directory"}
	case errors.Is(err, fs.ErrPermission):
		return &requestError{CodeDenied, "permission denied"}
	case strings.Contains(err.Error(), "path escapes"):
		return &requestError{CodeDenied, "the path leaves the served directory"}
	case errors.As(err, &errno):
		return &requestError{CodeFailed, errno.Error()}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &requestError{CodeFailed, pe.Err.Error()}
	}
	return &requestError{CodeFailed, "unexpected failure"}
}

func (s *serverSession) stat(ctx context.Context, b body) error {
	info, err := s.Root.Stat(b.Path)
	if err != nil {
		return err
	}
	e, ok := newEntry(".", info)
	if !ok {
		return &requestError{CodeInvalid, "neither a file nor a directory"}
	}
	return broken(s.send(ctx, opInfo, body{Entry: &e}))
}

// newEntry describes what can be transferred; ok is false for anything else.
func newEntry(p string, info fs.FileInfo) (e Entry, ok bool) {
	e = Entry{Path: p, MTime: info.ModTime().UnixNano(), Mode: uint32(info.Mode().Perm())}
	switch {
	case info.IsDir():
		e.Dir = true
	case info.Mode().IsRegular():
		e.Size = info.Size()
	default:
		return e, false
	}
	return e, true
}

// list sends everything below a path, and itself first. A link to a file inside the
// served directory is listed as that file; one to a directory is left out, since it
// could lead round in circles.
func (s *serverSession) list(ctx context.Context, b body) error {
	if info, err := s.Root.Stat(b.Path); err != nil {
		return err
	} else if !info.IsDir() {
		e, ok := newEntry(".", info)
		if !ok {
			return &requestError{CodeInvalid, "neither a file nor a directory"}
		}
		return broken(s.send(ctx, opEntries, body{Entries: []Entry{e}}))
	}
	var entries []Entry
	total, size := 0, 0
	err := WalkDir(s.Root, b.Path, func(e Entry) error {
		if total++; total > MaxEntries {
			return &requestError{CodeTooLarge, "too many files for one listing"}
		}
		entries = append(entries, e)
		if size += len(e.Path) + 128; size < entriesChunk {
			return nil
		}
		err := broken(s.send(ctx, opEntries, body{Entries: entries, More: true}))
		entries, size = entries[:0], 0
		return err
	})
	if err != nil {
		return err
	}
	return broken(s.send(ctx, opEntries, body{Entries: entries}))
}

// WalkDir calls fn for the directory dir of root and everything in it that can be
// transferred. Partial files and names that are not UTF-8 are left out. What cannot be
// read is left out too: a get of it would fail, and the rest is still worth having.
func WalkDir(root *os.Root, dir string, fn func(Entry) error) error {
	return fs.WalkDir(root.FS(), dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if p == dir {
				return err
			}
			return nil
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
		switch {
		case p == dir:
			rel = "."
		case dir == ".":
			rel = p
		}
		if !ValidPath(p) || IsPart(p) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Mode().Type() == fs.ModeSymlink {
			if info, err = root.Stat(p); err == nil && info.IsDir() {
				return nil
			}
		}
		if err != nil {
			return nil // gone since, or a link to nowhere
		}
		if e, ok := newEntry(rel, info); ok {
			return fn(e)
		}
		return nil
	})
}

// get sends a file.
func (s *serverSession) get(ctx context.Context, b body) (err error) {
	t := Transfer{Op: opGet, Path: b.Path}
	start := time.Now()
	defer func() { s.log(t, start, err) }()
	f, err := s.Root.OpenFile(b.Path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &requestError{CodeInvalid, "not a regular file"}
	}
	t.Size = info.Size()
	if b.Offset < 0 {
		return &requestError{CodeInvalid, "negative offset"}
	}
	h := sha256.New()
	if b.Offset > 0 && b.Offset <= t.Size {
		// The hash is needed for the whole file anyway; here it also shows whether
		// the client's part is the beginning of this file.
		if _, err := io.CopyBuffer(h, onlyReader{io.LimitReader(f, b.Offset)}, make([]byte, hashBuffer)); err != nil {
			return err
		}
		var have digest
		h.Sum(have[:0])
		if want, ok := parseDigest(b.SHA256); ok && want == have {
			t.Offset = b.Offset
		} else {
			h.Reset()
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
	}
	answer := body{Size: t.Size, MTime: info.ModTime().UnixNano(), Mode: uint32(info.Mode().Perm()), Offset: t.Offset}
	if err := s.send(ctx, opFile, answer); err != nil {
		return broken(err)
	}
	if err := s.sendContent(f, t.Offset, t.Size-t.Offset, h, func(int) {}); err != nil {
		return broken(err)
	}
	var sum digest
	h.Sum(sum[:0])
	t.SHA256 = sum.String()
	return broken(s.send(ctx, opDone, body{SHA256: t.SHA256}))
}

func (s *Server) log(t Transfer, start time.Time, err error) {
	if s.Log != nil {
		t.Elapsed, t.Err = time.Since(start), err
		s.Log(t)
	}
}
