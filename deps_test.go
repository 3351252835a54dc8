package vstp_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vstp-go/vstp"

// allowedImports says, for each package of the library, which packages outside of
// the standard library its code (not its tests) may import. Imports run one way:
// root, internal/endpoint, internal/stream, then carrier, handshake and tlsvstp, then framing.
var allowedImports = map[string][]string{
	".":                  {"framing", "internal/auto", "internal/endpoint", "internal/handshake", "internal/session", "internal/stream", "internal/udpio", "reliable", "tlsvstp"},
	"internal/session":   {"framing"},
	"internal/stream":    {"framing", "internal/handshake", "internal/session", "internal/carrier", "tlsvstp", "github.com/klauspost/compress/zstd", "golang.org/x/sys/unix"},
	"internal/carrier":   {"golang.org/x/sys/unix"},
	"internal/udpio":     {"golang.org/x/net/bpf", "golang.org/x/sys/unix"},
	"internal/handshake": {"framing"},
	"internal/crate":     {"framing"},
	"internal/sealed":    {"framing", "internal/handshake", "tlsvstp"},
	"internal/auto":      {"reliable"},
	"internal/memconn":   {},
	"internal/simnet":    {"github.com/pion/transport/v3", "github.com/pion/transport/v3/vnet", "github.com/pion/logging"},
	"internal/endpoint":  {"framing", "reliable", "internal/auto", "internal/crate", "internal/handshake", "internal/sealed", "internal/session", "internal/stream", "internal/udpio", "tlsvstp", "golang.org/x/net/bpf"},
	"reliable":           {"framing", "github.com/klauspost/reedsolomon"},
	"tlsvstp":            {"golang.org/x/crypto/chacha20", "golang.org/x/crypto/chacha20poly1305"},
	"framing":            {},
}

// pure packages do no I/O and have no goroutine, clock or randomness of their own,
// so that every run of them can be repeated.
var pure = map[string]bool{"framing": true, "internal/handshake": true, "internal/crate": true, "internal/auto": true}

var impureImports = []string{"net", "os", "time", "math/rand", "math/rand/v2", "crypto/rand", "context", "log", "log/slog"}

// typesOnly are impure packages of which a pure one may use types and constants.
var typesOnly = map[string][]string{
	"time": {"Duration", "Time", "Millisecond", "Microsecond", "Second", "Nanosecond"},
}

func TestImports(t *testing.T) {
	for dir, allowed := range allowedImports {
		for path, f := range libraryFiles(t, dir) {
			for _, imp := range f.Imports {
				name, _ := strconv.Unquote(imp.Path.Value)
				rel, ours := strings.CutPrefix(name, module+"/")
				if !ours && name != module && !strings.Contains(strings.Split(name, "/")[0], ".") {
					continue // standard library
				}
				if !slices.Contains(allowed, rel) {
					t.Errorf("%s imports %s", path, name)
				}
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	for dir := range pure {
		for path, f := range libraryFiles(t, dir) {
			for _, imp := range f.Imports {
				name, _ := strconv.Unquote(imp.Path.Value)
				if slices.Contains(impureImports, name) && typesOnly[name] == nil {
					t.Errorf("%s imports %s", path, name)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s starts a goroutine", path)
				case *ast.SelectorExpr:
					pkg, ok := n.X.(*ast.Ident)
					if ok && typesOnly[pkg.Name] != nil && !slices.Contains(typesOnly[pkg.Name], n.Sel.Name) {
						t.Errorf("%s uses %s.%s", path, pkg.Name, n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// TestEveryPackageIsListed finds a package of the library that has no rule.
func TestEveryPackageIsListed(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch path {
		case "cmd", "bench", "examples", "interop", "docs":
			return filepath.SkipDir
		}
		if strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata" {
			return filepath.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(path, "*.go"))
		if err != nil {
			return err
		}
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
		if _, ok := allowedImports[filepath.ToSlash(path)]; !ok && len(files) > 0 {
			t.Errorf("package %s has no import rule", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// libraryFiles parses the files of a package that are no tests.
func libraryFiles(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]*ast.File)
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[p] = f
	}
	if len(files) == 0 {
		t.Fatalf("no files in %s", dir)
	}
	return files
}
