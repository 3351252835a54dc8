package interop_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the matrix into README.md")

const (
	matrixBegin = "<!-- matrix: written by the tests -->\n"
	matrixEnd   = "<!-- end of the matrix -->\n"
)

// A kind is what a cell of the matrix says.
type kind string

const (
	works      kind = "="
	worksMore  kind = "+"
	onlyBytes  kind = "p"
	impossible kind = "−"
)

// kindOf returns what became of a cell, beside what becomes of it when the crate is alone.
func kindOf(c cell) (kind, reason) {
	_, why := expected(c.d, c.tr, c.n(), fieldSets[c.set].h)
	alone := c
	alone.d = c.d.alone()
	switch outcomes.m[c] {
	case lost:
		return impossible, why
	case payloadOnly:
		return onlyBytes, why
	}
	if outcomes.m[alone] == whole {
		return works, ""
	}
	return worksMore, ""
}

// checkReadme compares the matrix in README.md with the outcomes, or writes it.
func checkReadme(t *testing.T) {
	old, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := bytes.Cut(old, []byte(matrixBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(matrixEnd))
	if !ok1 || !ok2 {
		t.Fatal("README.md has no place for the matrix")
	}
	now := slices.Concat(head, []byte(matrixBegin), writeMatrix(), []byte(matrixEnd), tail)
	if bytes.Equal(old, now) {
		return
	}
	if !*update {
		t.Error("README.md is not what the tests say: run them with -update")
		return
	}
	if err := os.WriteFile("README.md", now, 0o666); err != nil {
		t.Fatal(err)
	}
}

// writeMatrix writes a table for each direction and the list of reasons.
func writeMatrix() []byte {
	var b bytes.Buffer
	count := map[kind]int{}
	notes := map[reason]int{}
	for i, r := range reasons {
		notes[r.at] = i + 1
	}
	for d := fromClient; d <= fromServer; d++ {
		fmt.Fprintf(&b, "\n### %s\n\n| over | fields |", strings.ToUpper(d.String()[:1])+d.String()[1:])
		for _, s := range sizes {
			fmt.Fprintf(&b, " %s |", s.name)
		}
		fmt.Fprintf(&b, "\n|---|---|%s\n", strings.Repeat("---|", len(sizes)))
		for tr := range transports {
			for f := range fieldSets {
				fmt.Fprintf(&b, "| %v | %s |", tr, fieldSets[f].name)
				for s := range sizes {
					c := cell{d, tr, s, f}
					if !c.isInMatrix() {
						b.WriteString("  |")
						continue
					}
					k, why := kindOf(c)
					count[k]++
					if why != "" {
						fmt.Fprintf(&b, " %s <sup>%d</sup> |", k, notes[why])
					} else {
						fmt.Fprintf(&b, " %s |", k)
					}
				}
				b.WriteByte('\n')
			}
		}
	}
	b.WriteString("\n### Where the crate says so\n\n")
	for i, r := range reasons {
		fmt.Fprintf(&b, "%d. `%s`, `%s`: %s.\n", i+1, r.at, r.line, r.means)
	}
	fmt.Fprintf(&b, "\nCells: %d `=`, %d `+`, %d `p`, %d `−`.\n\n", count[works], count[worksMore], count[onlyBytes], count[impossible])
	return b.Bytes()
}
