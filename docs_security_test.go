package vstp_test

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// docs/SECURITY.md names the code and the tests that show what it says. They exist.
func TestSecurityNames(t *testing.T) {
	doc, err := os.ReadFile("docs/SECURITY.md")
	require.NoError(t, err)
	tests := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."), d.IsDir() && slices.Contains([]string{"bench", "interop"}, path):
			return filepath.SkipDir // modules of their own
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(b, -1) {
			tests[string(m[1])] = true
		}
		return err
	}))
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(string(doc), -1) {
		if !tests[m[1]] {
			t.Errorf("no test %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`([\\w/]+\\.go)`((?:,? `\\w+`)*)").FindAllStringSubmatch(string(doc), -1) {
		code, err := os.ReadFile(filepath.FromSlash(m[1]))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, id := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[2], -1) {
			if !tests[id[1]] && !regexp.MustCompile(`\b`+id[1]+`\b`).Match(code) {
				t.Errorf("%s: no %s", m[1], id[1])
			}
		}
	}
}

// Its table of limits has the numbers that the code has.
func TestSecurityLimits(t *testing.T) {
	doc, err := os.ReadFile("docs/SECURITY.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\|[^|]*\\| ([0-9,]+)( (?:KiB|MiB|ms|s|a second))?[^|0-9]*\\|.*\\| `([\\w/]+\\.go)` `(\\w+)` \\|$")
	units := map[string]int64{"": 1, " a second": 1, " KiB": 1 << 10, " MiB": 1 << 20, " ms": int64(time.Millisecond), " s": int64(time.Second)}
	rows := row.FindAllStringSubmatch(string(doc), -1)
	checked := 0
	for _, m := range rows {
		n, err := strconv.ParseInt(strings.ReplaceAll(m[1], ",", ""), 10, 64)
		require.NoError(t, err)
		got, ok := constantOf(t, m[3], m[4])
		if !ok {
			continue
		}
		if checked++; got != n*units[m[2]] {
			t.Errorf("%s: %d, and in the table %s%s", m[4], got, m[1], m[2])
		}
	}
	require.Greater(t, checked, 20)
}

// constantOf returns the value of a constant that its file alone, and package time, tell.
func constantOf(t *testing.T, path, name string) (int64, bool) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.FromSlash(path), nil, 0)
	require.NoError(t, err)
	conf := types.Config{Error: func(error) {}, Importer: onlyTime{}}
	pkg, _ := conf.Check(path, fset, []*ast.File{f}, nil)
	c, ok := pkg.Scope().Lookup(name).(*types.Const)
	if !ok {
		return 0, false
	}
	return constant.Int64Val(constant.ToInt(c.Val()))
}

// onlyTime imports no package but time, of which it knows the durations.
type onlyTime struct{}

func (onlyTime) Import(path string) (*types.Package, error) {
	if path != "time" {
		return nil, errors.New("not needed")
	}
	pkg := types.NewPackage(path, path)
	duration := types.NewTypeName(token.NoPos, pkg, "Duration", nil)
	typ := types.NewNamed(duration, types.Typ[types.Int64], nil)
	pkg.Scope().Insert(duration)
	for name, d := range map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute} {
		pkg.Scope().Insert(types.NewConst(token.NoPos, pkg, name, typ, constant.MakeInt64(int64(d))))
	}
	pkg.MarkComplete()
	return pkg, nil
}
