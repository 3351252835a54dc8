package fileproto

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io/fs"
	"time"
)

// put receives a file. It returns an error if the connection cannot go on.
func (s *serverSession) put(ctx context.Context, b body) error {
	t := Transfer{Op: opPut, Path: b.Path, Size: b.Size}
	start := time.Now()
	p, err := s.openPut(b)
	if err != nil {
		s.log(t, start, err)
		return s.refusePut(ctx, b, err)
	}
	h := sha256.New()
	if b.Eager {
		if err = p.restart(); err != nil {
			err = &localError{err}
		}
	} else {
		t.Offset, err = s.offerPart(ctx, p, b, h)
	}
	if err == nil {
		err = s.receivePut(ctx, p, b, t.Offset, h, &t)
	}
	if err == nil {
		err = p.commit(time.Unix(0, b.MTime), fs.FileMode(b.Mode))
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrDigest):
		p.drop()
	default:
		p.keep() // harmless after commit has failed: closed, and nothing to remove
	}
	s.log(t, start, err) // when the part is free for another attempt
	if err == nil {
		return s.send(ctx, opStored, body{})
	}
	var local *localError
	if errors.As(err, &local) {
		// The content is still on its way, and nobody wants it.
		return s.fail(errors.New(asRequestError(local.err).text))
	}
	return s.report(ctx, err)
}

// openPut checks a put and opens its partial file.
func (s *serverSession) openPut(b body) (*part, error) {
	switch {
	case !ValidPath(b.Path) || IsPart(b.Path) || b.Path == ".":
		return nil, errPath
	case !s.Writable:
		return nil, errReadOnly
	case b.Size < 0 || b.Eager && b.Size > MaxEager:
		return nil, &requestError{CodeInvalid, "the size is not valid"}
	case s.MaxSize > 0 && b.Size > s.MaxSize:
		return nil, &requestError{CodeTooLarge, "the file is larger than this server takes"}
	}
	return openPart(s.Root, b.Path, true)
}

// refusePut answers a put that cannot be. The content of an eager one is on its way.
func (s *serverSession) refusePut(ctx context.Context, b body, why error) error {
	if b.Eager {
		if b.Size < 0 || b.Size > MaxEager {
			return s.fail(protocolError("an eager file of %d bytes", b.Size))
		}
		if err := s.discard(b.Size); err != nil {
			return err
		}
		if _, err := s.expect(ctx, opDone); err != nil {
			return err
		}
	}
	return s.report(ctx, why)
}

// offerPart tells the client what is here of the file already, and returns where it
// goes on.
func (s *serverSession) offerPart(ctx context.Context, p *part, b body, h hash.Hash) (int64, error) {
	n, err := p.prefix(h, b.Size)
	if err != nil {
		return 0, err
	}
	var sum digest
	h.Sum(sum[:0])
	if err := s.send(ctx, opReady, body{Offset: n, SHA256: sum.String()}); err != nil {
		return 0, broken(err)
	}
	// The client hashes its own prefix before it answers.
	op, c, err := s.receive(ctx, requestWait)
	switch {
	case err != nil:
		return 0, broken(err)
	case op != opContent || c.Offset != 0 && c.Offset != n:
		return 0, broken(s.fail(protocolError("%.40q from %d, offered %d", op, c.Offset, n)))
	case c.Offset == 0 && n > 0:
		h.Reset()
		if err := p.restart(); err != nil {
			return 0, &localError{err}
		}
	}
	return c.Offset, nil
}

// receivePut receives the content and compares its digest.
func (s *serverSession) receivePut(ctx context.Context, p *part, b body, off int64, h hash.Hash, t *Transfer) error {
	if err := s.receiveContent(p.f, b.Size-off, h, func(int) {}); err != nil {
		var local *localError
		if errors.As(err, &local) {
			return err
		}
		return broken(err)
	}
	done, err := s.expect(ctx, opDone)
	if err != nil {
		return broken(err)
	}
	want, ok := parseDigest(done.SHA256)
	if !ok {
		return broken(s.fail(protocolError("no digest")))
	}
	var have digest
	h.Sum(have[:0])
	if have != want {
		return ErrDigest
	}
	t.SHA256 = have.String()
	return nil
}

// mkdir makes a directory with its permissions, or gives them to one that exists.
func (s *serverSession) mkdir(ctx context.Context, b body) error {
	if !s.Writable {
		return errReadOnly
	}
	if b.Path != "." {
		if err := s.Root.MkdirAll(b.Path, 0o755); err != nil {
			return err
		}
		if mode := fs.FileMode(b.Mode) & fs.ModePerm; mode != 0 {
			if err := s.Root.Chmod(b.Path, mode); err != nil {
				return err
			}
		}
	}
	return broken(s.send(ctx, opStored, body{}))
}
