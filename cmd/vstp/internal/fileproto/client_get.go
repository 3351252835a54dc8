package fileproto

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"math"
	"os"
)

// A getJob is a file that was asked for.
type getJob struct {
	file File
	part *part
	h    hash.Hash
}

// Get fetches files to root, in order. What fails for one file does not keep the
// others from coming; the error is then a *FilesError. Partial files stay when the
// connection breaks.
func (c *Client) Get(ctx context.Context, root *os.Root, files []File) error {
	var pending []*getJob
	defer func() {
		for _, j := range pending {
			j.part.keep()
		}
	}()
	for next := 0; next < len(files) || len(pending) > 0; {
		for next < len(files) && len(pending) < Window {
			f := files[next]
			if len(pending) > 0 && hasPart(root, f.Local) {
				break // hashing it now would keep what is on its way waiting
			}
			next++
			j, err := c.ask(ctx, root, f)
			if err == nil {
				pending = append(pending, j)
			} else if err := c.finish(f, err); err != nil {
				return err
			}
		}
		if len(pending) == 0 {
			continue
		}
		j := pending[0]
		pending = pending[1:]
		if err := c.finish(j.file, c.receiveFile(ctx, j)); err != nil {
			return err
		}
	}
	return c.result(len(files))
}

func hasPart(root *os.Root, local string) bool {
	info, err := root.Lstat(partName(local, false))
	return err == nil && info.Size() > 0
}

// ask opens the partial file and sends the request.
func (c *Client) ask(ctx context.Context, root *os.Root, f File) (*getJob, error) {
	p, err := openPart(root, f.Local, false)
	if err != nil {
		return nil, &fileError{err}
	}
	j := &getJob{file: f, part: p, h: sha256.New()}
	b := body{Path: f.Remote}
	if p.size > 0 {
		if b.Offset, err = p.prefix(j.h, math.MaxInt64); err != nil {
			p.keep()
			return nil, &fileError{err}
		}
		var sum digest
		j.h.Sum(sum[:0])
		b.SHA256 = sum.String()
	}
	if err := c.send(ctx, opGet, b); err != nil {
		p.keep()
		return nil, c.reason(err)
	}
	return j, nil
}

// receiveFile takes the answer to a request.
func (c *Client) receiveFile(ctx context.Context, j *getJob) error {
	b, err := c.receiveAnswer(ctx, j)
	switch {
	case err == nil:
		if err := j.part.commit(Entry{MTime: b.MTime}.ModTime(), Entry{Mode: b.Mode}.Perm()); err != nil {
			return &fileError{err}
		}
		return nil
	case errors.Is(err, ErrDigest):
		j.part.drop()
	default:
		j.part.keep()
	}
	return err
}

func (c *Client) receiveAnswer(ctx context.Context, j *getJob) (body, error) {
	// The server hashes what this side has already, before it answers.
	op, b, err := c.receive(ctx, requestWait)
	switch {
	case err != nil:
		return b, unexpectedEOF(err)
	case op == opError:
		return b, &RemoteError{b.Code, b.Text}
	case op != opFile:
		return b, c.fail(protocolError("got %.40q instead of a file", op))
	case b.Size < 0 || b.Offset != 0 && b.Offset != j.part.size || b.Offset > b.Size:
		return b, c.fail(protocolError("a file of %d bytes from %d on, asked for %d", b.Size, b.Offset, j.part.size))
	}
	restarted := b.Offset == 0 && j.part.size > 0
	if restarted {
		j.h.Reset()
		if err := j.part.restart(); err != nil {
			return b, c.fail(err)
		}
	}
	c.Events.start(j.file, b.Size, b.Offset, restarted)
	if err := c.receiveContent(j.part.f, b.Size-b.Offset, j.h, c.Events.progress); err != nil {
		var local *localError
		if errors.As(err, &local) {
			return b, c.fail(local.err)
		}
		return b, err
	}
	done, err := c.expect(ctx, opDone)
	if err != nil {
		return b, err
	}
	want, ok := parseDigest(done.SHA256)
	if !ok {
		return b, c.fail(protocolError("no digest"))
	}
	var have digest
	j.h.Sum(have[:0])
	if have != want {
		return b, ErrDigest
	}
	return b, nil
}
