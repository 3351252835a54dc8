package fileproto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// partSuffix ends the name of a partial file. Nobody's own files are called so.
const partSuffix = ".vstp-part"

// maxName is the longest name of a file on common file systems.
const maxName = 255

// IsPart reports whether name is that of a partial file. Listings leave them out, and
// nobody can ask for one.
func IsPart(name string) bool { return strings.HasSuffix(name, partSuffix) }

// partName returns the name of the partial file for a file called name.
func partName(name string, hidden bool) string {
	dir, base := path.Split(name)
	if hidden {
		base = "." + base
	}
	if len(base)+len(partSuffix) > maxName {
		sum := sha256.Sum256([]byte(base))
		base = strings.ToValidUTF8(base[:200], "") + "~" + hex.EncodeToString(sum[:8])
	}
	return dir + base + partSuffix
}

// errBusy says that another transfer writes the same file.
var errBusy = errors.New("another transfer is writing this file")

// A part is a file that is not complete. It is locked against other processes, where
// the system can do that, as long as it is open.
type part struct {
	root        *os.Root
	name, final string
	f           *os.File
	size        int64 // what was there when it was opened
}

// openPart opens or makes the partial file for final, and the directories above it.
func openPart(root *os.Root, final string, hidden bool) (*part, error) {
	if dir := path.Dir(final); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if info, err := root.Lstat(final); err == nil && info.IsDir() {
		return nil, &fs.PathError{Op: "create", Path: final, Err: errors.New("is a directory")}
	}
	p := &part{root: root, name: partName(final, hidden), final: final}
	// Twice at most: whoever held the lock may have given the file its final name.
	for range 2 {
		f, err := root.OpenFile(p.name, os.O_RDWR|os.O_CREATE|openNonblock, 0o600)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		switch {
		case err != nil:
		case !info.Mode().IsRegular():
			err = &fs.PathError{Op: "create", Path: p.name, Err: errors.New("not a regular file")}
		default:
			err = lockFile(f)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := root.Lstat(p.name); err == nil && os.SameFile(info, there) {
			if info, err = f.Stat(); err == nil { // its length, now that nobody else writes
				p.f, p.size = f, info.Size()
				return p, nil
			}
		}
		f.Close()
	}
	return nil, errBusy
}

// prefix hashes what is there, up to max bytes, and leaves the position behind it. A
// longer part cannot belong to a source of max bytes and is emptied.
func (p *part) prefix(h hash.Hash, max int64) (int64, error) {
	if p.size > max {
		if err := p.restart(); err != nil {
			return 0, err
		}
	}
	if p.size == 0 {
		return 0, nil
	}
	n, err := io.CopyBuffer(h, onlyReader{io.LimitReader(p.f, p.size)}, make([]byte, hashBuffer))
	if err == nil && n < p.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// restart empties the part.
func (p *part) restart() error {
	p.size = 0
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.Seek(0, io.SeekStart)
	return err
}

// commit gives the file its time, permissions and name.
func (p *part) commit(mtime time.Time, perm fs.FileMode) error {
	err := p.f.Chmod(perm & fs.ModePerm)
	if err == nil {
		err = p.root.Chtimes(p.name, time.Time{}, mtime)
	}
	if closeBeforeRename && err == nil {
		err = p.f.Close()
	}
	if err == nil {
		err = p.root.Rename(p.name, p.final)
	}
	if cerr := p.f.Close(); err == nil && cerr != nil && !closeBeforeRename {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("finishing %s: %w", p.final, err)
	}
	return nil
}

// keep leaves the part for another time, or removes it if there is nothing in it.
func (p *part) keep() {
	if info, err := p.f.Stat(); err == nil && info.Size() == 0 {
		p.root.Remove(p.name)
	}
	p.f.Close()
}

// drop removes the part.
func (p *part) drop() {
	p.root.Remove(p.name)
	p.f.Close()
}
