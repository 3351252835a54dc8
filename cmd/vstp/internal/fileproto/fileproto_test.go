package fileproto

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// A rig is a client and a server with a directory each.
type rig struct {
	t              *testing.T
	server         *Server
	serverDir, dir string
	root           *os.Root
	transfers      []Transfer
	resumed        int64 // offset of the last start
	restarted      bool
	progress       int64
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, serverDir: t.TempDir(), dir: t.TempDir()}
	sroot, err := os.OpenRoot(r.serverDir)
	require.NoError(t, err)
	t.Cleanup(func() { sroot.Close() })
	r.root, err = os.OpenRoot(r.dir)
	require.NoError(t, err)
	t.Cleanup(func() { r.root.Close() })
	r.server = &Server{Root: sroot, Writable: true, Log: func(tr Transfer) { r.transfers = append(r.transfers, tr) }}
	return r
}

// run connects a client for the time of fn and returns what Serve returned.
func (r *rig) run(fn func(c *Client, fc *fakeConn)) error {
	a, b := fakePair()
	served := make(chan error, 1)
	go func() {
		err := r.server.Serve(context.Background(), b)
		b.Close()
		served <- err
	}()
	c := NewClient(a, 5*time.Second)
	c.Events = Events{
		Start:    func(_ File, _, off int64, restarted bool) { r.resumed, r.restarted = off, restarted },
		Progress: func(n int) { r.progress += int64(n) },
	}
	fn(c, a)
	a.Close()
	return <-served
}

func (r *rig) write(dir, name string, data []byte) {
	r.t.Helper()
	p := filepath.Join(dir, name)
	require.NoError(r.t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(r.t, os.WriteFile(p, data, 0o644))
	require.NoError(r.t, os.Chmod(p, 0o640))
	require.NoError(r.t, os.Chtimes(p, mtime, mtime))
}

func (r *rig) read(dir, name string) []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(r.t, err)
	return b
}

// same checks content, time and permissions.
func (r *rig) same(dir, name string, want []byte) {
	r.t.Helper()
	require.True(r.t, bytes.Equal(want, r.read(dir, name)), "content of %s", name)
	info, err := os.Stat(filepath.Join(dir, name))
	require.NoError(r.t, err)
	require.True(r.t, info.ModTime().Equal(mtime))
	require.Equal(r.t, fs.FileMode(0o640), info.Mode().Perm())
}

// only checks that a directory has these files and no others, partial ones included.
func (r *rig) only(dir string, names ...string) {
	r.t.Helper()
	var got []string
	require.NoError(r.t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			got = append(got, filepath.ToSlash(rel))
		}
		return err
	}))
	require.ElementsMatch(r.t, names, got)
}

var (
	ctx   = context.Background()
	mtime = time.Date(2020, 2, 3, 4, 5, 6, 789000000, time.UTC)
)

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	rng.Read(b)
	return b
}

var sizes = []int{0, 1, 1000, MaxEager, MaxEager + 1, minChunk, minChunk + 1, 3<<20 + 7}

func TestGetAndPut(t *testing.T) {
	for _, put := range []bool{false, true} {
		t.Run(fmt.Sprintf("put=%v", put), func(t *testing.T) {
			r := newRig(t)
			from, to := r.serverDir, r.dir
			if put {
				from, to = to, from
			}
			var files []File
			var total int64
			for i, n := range sizes {
				name := fmt.Sprintf("dir/%d", i)
				r.write(from, name, randomBytes(uint64(i), n))
				files = append(files, File{Remote: name, Local: name})
				total += int64(n)
			}
			for i := range 40 { // more than the window
				name := fmt.Sprintf("small/%d", i)
				r.write(from, name, []byte(name))
				files = append(files, File{Remote: name, Local: name})
				total += int64(len(name))
			}
			require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
				if put {
					require.NoError(t, c.Put(ctx, r.root, files))
				} else {
					require.NoError(t, c.Get(ctx, r.root, files))
				}
			}))
			for i, n := range sizes {
				r.same(to, fmt.Sprintf("dir/%d", i), randomBytes(uint64(i), n))
			}
			for i := range 40 {
				r.same(to, fmt.Sprintf("small/%d", i), fmt.Appendf(nil, "small/%d", i))
			}
			require.Equal(t, total, r.progress)
			require.Len(t, r.transfers, len(files))
			for _, tr := range r.transfers {
				require.NoError(t, tr.Err)
				require.Len(t, tr.SHA256, 64)
			}
			var names []string
			for _, f := range files {
				names = append(names, f.Local)
			}
			r.only(to, names...)
		})
	}
}

// "A source that has changed starts again, and one that was only appended to does not."
func TestResume(t *testing.T) {
	data := randomBytes(1, 2<<20)
	half := data[:1<<20]
	tests := []struct {
		name string
		part []byte
		from int64 // expected offset
	}{
		{"half", half, 1 << 20},
		{"changed", randomBytes(2, 1<<20), 0},
		{"all of it", data, 2 << 20},
		{"longer than the source", append(bytes.Clone(data), 1), 0},
		{"one byte", data[:1], 1},
	}
	for _, tt := range tests {
		t.Run("get "+tt.name, func(t *testing.T) {
			r := newRig(t)
			r.write(r.serverDir, "f", data)
			r.write(r.dir, partName("f", false), tt.part)
			require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
				require.NoError(t, c.Get(ctx, r.root, []File{{Remote: "f", Local: "f"}}))
			}))
			r.same(r.dir, "f", data)
			r.only(r.dir, "f")
			require.Equal(t, tt.from, r.resumed)
			require.Equal(t, tt.from == 0, r.restarted)
			require.Equal(t, int64(len(data))-tt.from, r.progress)
		})
		t.Run("put "+tt.name, func(t *testing.T) {
			r := newRig(t)
			r.write(r.dir, "f", data)
			r.write(r.serverDir, partName("f", true), tt.part)
			require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
				require.NoError(t, c.Put(ctx, r.root, []File{{Remote: "f", Local: "f"}}))
			}))
			r.same(r.serverDir, "f", data)
			r.only(r.serverDir, "f")
			require.Equal(t, tt.from, r.resumed)
			require.Equal(t, int64(len(data))-tt.from, r.progress)
		})
	}
}

// A connection that breaks anywhere leaves a part that the next one goes on from.
func TestBreakAndResume(t *testing.T) {
	data := randomBytes(1, 2<<20)
	rng := rand.New(rand.NewPCG(7, 7))
	for range 5 {
		at := 300_000 + rng.IntN(1<<20)
		t.Run(fmt.Sprintf("put at %d", at), func(t *testing.T) {
			r := newRig(t)
			r.write(r.dir, "f", data)
			files := []File{{Remote: "f", Local: "f"}}
			require.Error(t, r.run(func(c *Client, fc *fakeConn) {
				fc.cut = cutAfter(at)
				require.Error(t, c.Put(ctx, r.root, files))
			}))
			r.only(r.serverDir, partName("f", true))
			require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
				require.NoError(t, c.Put(ctx, r.root, files))
			}))
			require.EqualValues(t, at, r.resumed)
			r.same(r.serverDir, "f", data)
			r.only(r.serverDir, "f")
		})
		t.Run(fmt.Sprintf("get at %d", at), func(t *testing.T) {
			r := newRig(t)
			r.write(r.serverDir, "f", data)
			files := []File{{Remote: "f", Local: "f"}}
			a, b := fakePair()
			b.cut = cutAfter(at)
			served := make(chan error, 1)
			go func() { served <- r.server.Serve(ctx, b) }()
			err := NewClient(a, time.Second).Get(ctx, r.root, files)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			a.Close()
			require.Error(t, <-served)
			r.only(r.dir, partName("f", false))
			require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
				require.NoError(t, c.Get(ctx, r.root, files))
			}))
			require.EqualValues(t, at, r.resumed)
			r.same(r.dir, "f", data)
		})
	}
}

func cutAfter(at int) func(int) (int, bool) {
	return func(n int) (int, bool) {
		if n < at {
			at -= n
			return n, false
		}
		return at, true
	}
}

// Two transfers to one file: the second is told so.
func TestBusy(t *testing.T) {
	r := newRig(t)
	p, err := openPart(r.server.Root, "f", true)
	require.NoError(t, err)
	_, err = openPart(r.server.Root, "f", true)
	if closeBeforeRename {
		t.Skip("no locks here")
	}
	require.ErrorIs(t, err, errBusy)
	r.write(r.dir, "f", []byte("x"))
	require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
		var re *RemoteError
		require.ErrorAs(t, c.Put(ctx, r.root, []File{{Remote: "f", Local: "f"}}), &re)
		require.Equal(t, CodeBusy, re.Code)
		p.keep()
		require.NoError(t, c.Put(ctx, r.root, []File{{Remote: "f", Local: "f"}}))
	}))
	r.only(r.serverDir, "f")
}

// A file that gets shorter while it is sent ends the connection with the reason.
func TestSourceShrinks(t *testing.T) {
	r := newRig(t)
	r.write(r.serverDir, "f", randomBytes(1, 8<<20))
	served := r.run(func(c *Client, _ *fakeConn) {
		first := true
		c.Events.Progress = func(int) {
			if first {
				first = false
				require.NoError(t, os.Truncate(filepath.Join(r.serverDir, "f"), 1<<20))
			}
		}
		err := c.Get(ctx, r.root, []File{{Remote: "f", Local: "f"}})
		var pe *vstp.ProtocolError
		require.ErrorAs(t, err, &pe)
		require.Contains(t, pe.Reason, "shorter")
	})
	require.ErrorIs(t, served, errChanged)
}

func TestLongNames(t *testing.T) {
	r := newRig(t)
	name := strings.Repeat("n", maxName)
	r.write(r.serverDir, name, []byte("x"))
	require.LessOrEqual(t, len(partName("d/"+name, true)), maxName+2)
	require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
		require.NoError(t, c.Get(ctx, r.root, []File{{Remote: name, Local: name}}))
		require.NoError(t, c.Put(ctx, r.root, []File{{Remote: "d/" + name, Local: name}}))
	}))
	r.only(r.dir, name)
	r.only(r.serverDir, name, "d/"+name)
}

func TestSame(t *testing.T) {
	r := newRig(t)
	r.write(r.dir, "f", []byte("x"))
	info, err := os.Stat(filepath.Join(r.dir, "f"))
	require.NoError(t, err)
	e := Entry{Size: 1, MTime: mtime.UnixNano()}
	require.True(t, Same(e, info))
	require.True(t, Same(Entry{Size: 1, MTime: mtime.Truncate(time.Second).UnixNano()}, info))
	require.False(t, Same(Entry{Size: 2, MTime: e.MTime}, info))
	require.False(t, Same(Entry{Size: 1, MTime: e.MTime + 1}, info))
	require.False(t, Same(Entry{Size: 1, MTime: e.MTime, Dir: true}, info))
}

func TestDigestOfPart(t *testing.T) {
	d, ok := parseDigest(digest(sha256.Sum256(nil)).String())
	require.True(t, ok)
	require.Equal(t, digest(sha256.Sum256(nil)), d)
	for _, bad := range []string{"", "00", strings.Repeat("g", 64)} {
		_, ok := parseDigest(bad)
		require.False(t, ok)
	}
	require.True(t, errors.Is(&RemoteError{Code: CodeDigest}, ErrDigest))
}

// A sender that gives up before the hasher has run at all waits for it all the same.
func TestHasherEndsAtOnce(t *testing.T) {
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	for range 1000 {
		s := startHasher(sha256.New(), f, 0)
		require.NoError(t, s.wait())
		require.NoError(t, s.wait())
	}
}
