package fileproto

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServerRefuses(t *testing.T) {
	r := newRig(t)
	outside := t.TempDir()
	r.write(outside, "secret", []byte("secret"))
	r.write(r.serverDir, "file", []byte("x"))
	require.NoError(t, os.Mkdir(filepath.Join(r.serverDir, "d"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(r.serverDir, "link")))
	require.NoError(t, os.Symlink(outside, filepath.Join(r.serverDir, "dirlink")))
	r.write(r.serverDir, ".x"+partSuffix, []byte("partial"))
	r.write(r.dir, "small", []byte("small"))
	r.write(r.dir, "large", randomBytes(1, MaxEager+1))
	gets := map[string]string{
		"none":                           CodeNotFound,
		"../secret":                      CodeInvalid,
		"/etc/passwd":                    CodeInvalid,
		"a/../../x":                      CodeInvalid,
		"":                               CodeInvalid,
		"d":                              CodeInvalid,
		"link":                           CodeDenied,
		"dirlink/secret":                 CodeDenied,
		"file/x":                         CodeFailed,
		"nul\x00":                        CodeInvalid,
		"\xff":                           CodeNotFound, // not UTF-8: JSON makes something else of it
		".x" + partSuffix:                CodeInvalid,
		strings.Repeat("a/", 3000) + "b": CodeInvalid,
	}
	puts := map[string]string{
		"../x": CodeInvalid, "/x": CodeInvalid, ".": CodeInvalid, "": CodeInvalid,
		"d": CodeFailed, "file/x": CodeFailed, "dirlink/x": CodeDenied, "x" + partSuffix: CodeInvalid,
	}
	require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
		code := func(err error) string {
			var re *RemoteError
			require.ErrorAs(t, err, &re)
			return re.Code
		}
		for p, want := range gets {
			require.Equal(t, want, code(c.Get(ctx, r.root, []File{{Remote: p, Local: "out"}})), p)
		}
		for p, want := range puts {
			for _, local := range []string{"small", "large"} {
				require.Equal(t, want, code(c.Put(ctx, r.root, []File{{Remote: p, Local: local}})), p)
			}
		}
		for _, p := range []string{"../x", "none", "link"} {
			_, err := c.Stat(ctx, p)
			require.Error(t, err)
			_, err = c.List(ctx, p)
			require.Error(t, err)
		}
		require.Error(t, c.Mkdirs(ctx, []Entry{{Path: "../x"}}))
		// The connection has survived all of this, content of refused puts included.
		require.NoError(t, c.Get(ctx, r.root, []File{{Remote: "file", Local: "out"}}))

		r.server.Writable = false
		for _, local := range []string{"small", "large"} {
			require.Equal(t, CodeReadOnly, code(c.Put(ctx, r.root, []File{{Remote: "new", Local: local}})))
		}
		require.Equal(t, CodeReadOnly, code(c.Mkdirs(ctx, []Entry{{Path: "new"}})))
		r.server.Writable, r.server.MaxSize = true, 4
		for _, local := range []string{"small", "large"} {
			require.Equal(t, CodeTooLarge, code(c.Put(ctx, r.root, []File{{Remote: "new", Local: local}})))
		}
	}))
	r.only(outside, "secret")
	require.NoFileExists(t, filepath.Join(r.serverDir, "new"))
	r.only(r.dir, "small", "large", "out")
}

// One bad file among many does not keep the others from arriving.
func TestSomeFail(t *testing.T) {
	r := newRig(t)
	var files []File
	for i := range 30 {
		name := fmt.Sprint(i)
		if i%7 != 3 {
			r.write(r.serverDir, name, []byte(name))
		}
		files = append(files, File{Remote: name, Local: name})
	}
	require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
		var fe *FilesError
		require.ErrorAs(t, c.Get(ctx, r.root, files), &fe)
		require.Equal(t, 4, fe.Failed)
		require.Equal(t, 30, fe.Total)
		require.ErrorIs(t, fe, fs.ErrNotExist)
		require.NoError(t, c.Get(ctx, r.root, files[:3]))
		require.ErrorAs(t, c.Put(ctx, r.root, files), &fe)
		require.Equal(t, 4, fe.Failed)
	}))
}

func TestList(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"a", "d/b", "d/e/c", ".hidden"} {
		r.write(r.serverDir, name, []byte(name))
	}
	require.NoError(t, os.Symlink("a", filepath.Join(r.serverDir, "link")))
	require.NoError(t, os.Symlink("d", filepath.Join(r.serverDir, "dirlink")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(r.serverDir, "broken")))
	r.write(r.serverDir, "d/.b"+partSuffix, nil)
	for i := range 3000 {
		r.write(r.serverDir, fmt.Sprintf("many/%04d", i), nil)
	}
	require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
		all, err := c.List(ctx, ".")
		require.NoError(t, err)
		got := map[string]Entry{}
		for _, e := range all {
			got[e.Path] = e
		}
		require.Len(t, got, len(all))
		require.Len(t, got, 1+4+1+3+3000)
		require.True(t, got["."].Dir)
		require.True(t, got["d/e"].Dir)
		require.EqualValues(t, 5, got["d/e/c"].Size)
		require.EqualValues(t, 1, got["link"].Size)
		require.True(t, got["a"].ModTime().Equal(mtime))
		require.Equal(t, fs.FileMode(0o640), got["a"].Perm())

		sub, err := c.List(ctx, "d")
		require.NoError(t, err)
		require.Equal(t, []string{".", "b", "e", "e/c"}, paths(sub))
		one, err := c.List(ctx, "d/b")
		require.NoError(t, err)
		require.Equal(t, []string{"."}, paths(one))
		e, err := c.Stat(ctx, "d/b")
		require.NoError(t, err)
		require.EqualValues(t, 3, e.Size)
	}))
}

func paths(entries []Entry) (p []string) {
	for _, e := range entries {
		p = append(p, e.Path)
	}
	return p
}

func TestMkdir(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.run(func(c *Client, _ *fakeConn) {
		require.NoError(t, c.Mkdirs(ctx, []Entry{{Path: "a/b", Mode: 0o700}}))
		require.NoError(t, c.Mkdirs(ctx, []Entry{{Path: "a/b", Mode: 0o750}}))
		require.NoError(t, c.Mkdirs(ctx, []Entry{{Path: ".", Mode: 0o700}}))
	}))
	info, err := os.Stat(filepath.Join(r.serverDir, "a/b"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o750), info.Mode().Perm())
}
