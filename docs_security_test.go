package vstp_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// docs/SECURITY.md names the code and the tests that show what it says. They exist.
func TestSecurityNames(t *testing.T) {
	doc, err := os.ReadFile("docs/SECURITY.md")
	require.NoError(t, err)
	tests := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	fuzz := 0
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
			if strings.HasPrefix(string(m[1]), "Fuzz") {
				fuzz++
			}
		}
		return err
	}))
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(string(doc), -1) {
		if !tests[m[1]] {
			t.Errorf("no test %s", m[1])
		}
	}
	m := regexp.MustCompile(`(\d+) fuzz targets`).FindSubmatch(doc)
	require.NotNil(t, m)
	require.Equal(t, strconv.Itoa(fuzz), string(m[1]), "fuzz targets")

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
