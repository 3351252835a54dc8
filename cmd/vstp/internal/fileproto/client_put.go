package fileproto

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
)

// Put sends files from root, in order. What fails for one file does not keep the
// others from going; the error is then a *FilesError. The server keeps partial files
// when the connection breaks.
func (c *Client) Put(ctx context.Context, root *os.Root, files []File) error {
	var pending []File // eager ones that the server has not answered
	settle := func(most int) error {
		for len(pending) > most {
			f := pending[0]
			pending = pending[1:]
			_, err := c.expect(ctx, opStored)
			if err := c.finish(f, err); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range files {
		src, info, err := openSource(root, f.Local)
		if err != nil {
			if err := c.finish(f, &fileError{err}); err != nil {
				return err
			}
			continue
		}
		f.Entry = Entry{Size: info.Size(), MTime: info.ModTime().UnixNano(), Mode: uint32(info.Mode().Perm())}
		if f.Entry.Size <= MaxEager {
			if err = c.putEager(ctx, src, f); err != nil {
				err = c.finish(f, err) // always of the connection
			} else {
				pending = append(pending, f)
				err = settle(Window - 1)
			}
		} else if err = settle(0); err == nil {
			err = c.finish(f, c.putLarge(ctx, src, f))
		}
		src.Close()
		if err != nil {
			return err
		}
	}
	if err := settle(0); err != nil {
		return err
	}
	return c.result(len(files))
}

func openSource(root *os.Root, name string) (*os.File, os.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "put", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func putBody(f File) body {
	return body{Path: f.Remote, Size: f.Entry.Size, MTime: f.Entry.MTime, Mode: f.Entry.Mode}
}

// putEager sends request and content without waiting for an answer.
func (c *Client) putEager(ctx context.Context, src *os.File, f File) error {
	b := putBody(f)
	b.Eager = true
	if err := c.send(ctx, opPut, b); err != nil {
		return c.reason(err)
	}
	c.Events.start(f, b.Size, 0, false)
	h := sha256.New()
	if err := c.sendContent(src, 0, b.Size, h, c.Events.progress); err != nil {
		return c.reason(err)
	}
	return c.sendDigest(ctx, h)
}

// putLarge asks what the server has already, and sends the rest.
func (c *Client) putLarge(ctx context.Context, src *os.File, f File) error {
	b := putBody(f)
	if err := c.send(ctx, opPut, b); err != nil {
		return c.reason(err)
	}
	op, ready, err := c.receive(ctx, requestWait) // the server hashes what it has
	switch {
	case err != nil:
		return unexpectedEOF(err)
	case op == opError:
		return &RemoteError{ready.Code, ready.Text}
	case op != opReady || ready.Offset < 0 || ready.Offset > b.Size:
		return c.fail(protocolError("got %.40q from %d on, for %d bytes", op, ready.Offset, b.Size))
	}
	h := sha256.New()
	off := ready.Offset
	if off > 0 {
		n, err := io.CopyBuffer(h, onlyReader{io.LimitReader(src, off)}, make([]byte, hashBuffer))
		if err != nil {
			return c.fail(err)
		}
		var have digest
		h.Sum(have[:0])
		if want, ok := parseDigest(ready.SHA256); !ok || want != have || n < off {
			off = 0
			if err := rewind(src, h); err != nil {
				return c.fail(err)
			}
		}
	}
	if err := c.send(ctx, opContent, body{Offset: off}); err != nil {
		return c.reason(err)
	}
	c.Events.start(f, b.Size, off, off == 0 && ready.Offset > 0)
	if err := c.sendContent(src, off, b.Size-off, h, c.Events.progress); err != nil {
		return c.reason(err)
	}
	if err := c.sendDigest(ctx, h); err != nil {
		return err
	}
	_, err = c.expect(ctx, opStored)
	return err
}

func (c *Client) sendDigest(ctx context.Context, h interface{ Sum([]byte) []byte }) error {
	var sum digest
	h.Sum(sum[:0])
	if err := c.send(ctx, opDone, body{SHA256: sum.String()}); err != nil {
		return c.reason(err)
	}
	return nil
}

// unexpectedEOF is for an end of the connection where an answer should be.
func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
