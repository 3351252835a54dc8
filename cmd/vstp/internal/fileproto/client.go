package fileproto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vstp-go/vstp"
)

// A File is one file to transfer.
type File struct {
	Remote string // its path on the server
	Local  string // its path below the local root
	Entry  Entry  // of the source, as far as it is known; Path is not used
}

// Events are called during a transfer, if they are not nil.
type Events struct {
	// Start is called when the content begins to come or go. Offset is where it is
	// resumed; restarted tells that a partial file was there and did not fit.
	Start func(f File, size, offset int64, restarted bool)

	// Progress is called for n more bytes of content.
	Progress func(n int)

	// Done is called at the end of each file, with an error if it failed.
	Done func(f File, err error)
}

func (e *Events) start(f File, size, offset int64, restarted bool) {
	if e.Start != nil {
		e.Start(f, size, offset, restarted)
	}
}

func (e *Events) progress(n int) {
	if e.Progress != nil {
		e.Progress(n)
	}
}

// A FilesError says that some of several files failed; the others are there.
type FilesError struct {
	Failed, Total int
	First         error
}

// Error implements error.
func (e *FilesError) Error() string {
	if e.Total == 1 {
		return e.First.Error()
	}
	return fmt.Sprintf("%d of %d files failed; the first: %v", e.Failed, e.Total, e.First)
}

// Unwrap returns e.First.
func (e *FilesError) Unwrap() error { return e.First }

// A Client asks a Server. It is not safe for concurrent use.
type Client struct {
	peer
	Events Events

	files      FilesError
	maxEntries int // MaxEntries, save in tests
}

// NewClient returns a Client that uses c; a stall of zero is DefaultStall.
func NewClient(c Conn, stall time.Duration) *Client {
	return &Client{peer: newPeer(c, stall), maxEntries: MaxEntries}
}

// Stat asks what a path is.
func (c *Client) Stat(ctx context.Context, path string) (Entry, error) {
	if err := c.send(ctx, opStat, body{Path: path}); err != nil {
		return Entry{}, c.reason(err)
	}
	b, err := c.expect(ctx, opInfo)
	if err != nil {
		return Entry{}, err
	}
	if b.Entry == nil {
		return Entry{}, c.fail(protocolError("info without an entry"))
	}
	e := *b.Entry
	e.Path = "."
	return e, c.check(e)
}

// List returns a file, or a directory with everything below it, itself first.
func (c *Client) List(ctx context.Context, path string) ([]Entry, error) {
	if err := c.send(ctx, opList, body{Path: path}); err != nil {
		return nil, c.reason(err)
	}
	var all []Entry
	for {
		b, err := c.expect(ctx, opEntries)
		if err != nil {
			return nil, err
		}
		if b.More && len(b.Entries) == 0 || len(all) == 0 && (len(b.Entries) == 0 || b.Entries[0].Path != ".") {
			return nil, c.fail(protocolError("a listing without entries"))
		}
		if len(all)+len(b.Entries) > c.maxEntries {
			return nil, c.fail(protocolError("a listing of more than %d entries", c.maxEntries))
		}
		for _, e := range b.Entries {
			if err := c.check(e); err != nil {
				return nil, err
			}
			if e.Path == "." && len(all) > 0 || len(all) > 0 && !all[0].Dir {
				return nil, c.fail(protocolError("a listing goes on after a file"))
			}
			all = append(all, e)
		}
		if !b.More {
			return all, nil
		}
	}
}

// check ends the connection of a peer that sends an impossible entry.
func (c *Client) check(e Entry) error {
	if !ValidPath(e.Path) || e.Size < 0 {
		return c.fail(protocolError("a bad entry: %.200q of %d bytes", e.Path, e.Size))
	}
	return nil
}

// Mkdirs makes directories on the server, or gives their modes to those that exist.
func (c *Client) Mkdirs(ctx context.Context, dirs []Entry) error {
	var first error
	for sent, settled := 0, 0; settled < len(dirs); settled++ {
		for ; sent < len(dirs) && sent-settled < Window; sent++ {
			if err := c.send(ctx, opMkdir, body{Path: dirs[sent].Path, Mode: dirs[sent].Mode}); err != nil {
				return c.reason(err)
			}
		}
		if _, err := c.expect(ctx, opStored); err != nil {
			err = fmt.Errorf("%s: %w", dirs[settled].Path, err)
			var remote *RemoteError
			if !errors.As(err, &remote) {
				return err
			}
			if first == nil {
				first = err // the answers to what was sent already must be taken
			}
		}
	}
	return first
}

// finish records the end of a file. It returns err if the connection is unusable.
func (c *Client) finish(f File, err error) error {
	var remote *RemoteError
	var local *fileError
	switch {
	case err == nil:
	case errors.As(err, &remote):
		err = fmt.Errorf("%s: %w", f.Remote, err)
	case errors.As(err, &local):
		err = local.err
	case errors.Is(err, ErrDigest):
		err = fmt.Errorf("%s: %w", f.Remote, err)
	default:
		if c.Events.Done != nil {
			c.Events.Done(f, err)
		}
		return fmt.Errorf("%s: %w", f.Remote, err)
	}
	if c.Events.Done != nil {
		c.Events.Done(f, err)
	}
	if err != nil {
		if c.files.Failed++; c.files.First == nil {
			c.files.First = err
		}
	}
	return nil
}

// result returns what Get and Put do when the connection has held.
func (c *Client) result(total int) error {
	e := c.files
	c.files = FilesError{}
	if e.Failed == 0 {
		return nil
	}
	e.Total = total
	return &e
}

// A fileError is the trouble of one file on this side; others can go on.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// reason looks for what the server has said before a write to it failed with err.
func (c *Client) reason(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for range Window {
		_, rerr := c.ReceiveMessage(ctx)
		var said *vstp.ProtocolError
		if errors.As(rerr, &said) && said.Remote {
			return rerr
		}
		if rerr != nil {
			return err
		}
	}
	return err
}

// Same reports whether a file is what e says, as far as size and time tell. Some file
// systems keep whole seconds only.
func Same(e Entry, info os.FileInfo) bool {
	return info.Mode().IsRegular() && SameEntry(e, Entry{Size: info.Size(), MTime: info.ModTime().UnixNano()})
}

// SameEntry is Same for two entries.
func SameEntry(a, b Entry) bool {
	if a.Dir || b.Dir || a.Size != b.Size {
		return false
	}
	ta, tb := a.ModTime(), b.ModTime()
	return ta.Equal(tb) || (ta.Nanosecond() == 0 || tb.Nanosecond() == 0) && ta.Unix() == tb.Unix()
}

// rewind puts f and its hash back to the start.
func rewind(f io.Seeker, h interface{ Reset() }) error {
	h.Reset()
	_, err := f.Seek(0, io.SeekStart)
	return err
}
