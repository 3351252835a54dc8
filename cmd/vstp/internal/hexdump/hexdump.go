// Package hexdump reads bytes that people have written down in hexadecimal: plain
// digits in any grouping, Go and C notations, and what xxd, hexdump -C and
// tcpdump -x print.
package hexdump

import (
	"fmt"
	"strings"
)

// A SyntaxError says where text is not hexadecimal.
type SyntaxError struct {
	Line int // from 1
	Msg  string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Parse returns the bytes that text stands for. Bytes may be separated by white
// space, commas, colons and semicolons, and begin with 0x or \x. A "#" starts a
// comment. A line that begins with an offset, "00000010: " or "00000010  ", is a
// dump's, and its column of text is passed over.
func Parse(text string) ([]byte, error) {
	b := make([]byte, 0, len(text)/2)
	dump := false // a line of hexdump -C was seen, which ends in an offset alone
	for i, line := range strings.Split(text, "\n") {
		fail := func(format string, args ...any) ([]byte, error) {
			return nil, &SyntaxError{i + 1, fmt.Sprintf(format, args...)}
		}
		line = strings.TrimRight(line, " \t\r")
		if strings.TrimSpace(line) == "*" {
			return fail("repeated lines were left out; use hexdump -vC")
		}
		if rest, ok := cutColonOffset(line); ok {
			line, _, _ = strings.Cut(rest, "  ") // the text column of xxd and tcpdump
		} else if rest, ok := cutPlainOffset(line); ok {
			line, _, _ = strings.Cut(rest, "|")
			dump = true
		} else if dump && isOffset(line) {
			continue
		}
		line, _, _ = strings.Cut(line, "#")
		for _, word := range strings.FieldsFunc(line, isSeparator) {
			var bad string
			if b, bad = appendWord(b, word); bad != "" {
				return fail("%s", bad)
			}
		}
	}
	return b, nil
}

// isSeparator reports whether r may stand between bytes.
func isSeparator(r rune) bool { return strings.ContainsRune(" \t\r\v\f,:;'\"{}[]", r) }

// appendWord appends the bytes of a word without separators, or says what is wrong.
func appendWord(b []byte, word string) ([]byte, string) {
	for part := range strings.SplitSeq(strings.ToLower(word), `\x`) {
		part = strings.TrimPrefix(part, "0x")
		for i := 0; i < len(part); i++ {
			if nibble(part[i]) < 0 {
				return b, fmt.Sprintf("%q is not hexadecimal", clip(word))
			}
		}
		if len(part)%2 != 0 {
			return b, fmt.Sprintf("%q has an odd number of digits", clip(word))
		}
		for i := 0; i < len(part); i += 2 {
			b = append(b, byte(nibble(part[i])<<4|nibble(part[i+1])))
		}
	}
	return b, ""
}

func clip(s string) string {
	if len(s) > 24 {
		return s[:24] + "..."
	}
	return s
}

func nibble(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// cutColonOffset takes "00000010: " or "0x0010:  " off a line. Colons also separate
// single bytes, so an offset has four digits at least and white space after it.
func cutColonOffset(line string) (rest string, ok bool) {
	off, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
	off = strings.TrimPrefix(off, "0x")
	if !ok || len(off) < 4 || !isHex(off) || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
		return "", false
	}
	return strings.TrimLeft(rest, " \t"), true
}

// cutPlainOffset takes the "00000010  " of hexdump -C off a line.
func cutPlainOffset(line string) (rest string, ok bool) {
	off, rest, ok := strings.Cut(line, "  ")
	if !ok || !isOffset(off) || !strings.Contains(rest, "|") {
		return "", false
	}
	return rest, true
}

// isOffset reports whether s can be an offset alone, as at the end of hexdump -C.
func isOffset(s string) bool { return len(s) >= 7 && isHex(s) }

func isHex(s string) bool {
	s = strings.ToLower(s)
	for i := range len(s) {
		if nibble(s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
