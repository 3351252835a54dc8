package handshake

import (
	"strings"
	"unicode/utf8"

	"github.com/vstp-go/vstp/framing"
)

// AppendErr appends an ERR frame to b, at any time in the life of a connection.
// Its CRC is always on. The reason is cut to [framing.MaxReasonLen] bytes, between
// two characters, and what is not UTF-8 in it is replaced. A code of 0 is sent as
// none. An error says that code or header cannot be sent; b is returned as it was
// then. PROTOCOL §4.4, §5.8.
func AppendErr(b []byte, code framing.ErrorCode, reason string, header framing.Header) ([]byte, error) {
	if code > framing.MaxVarint {
		return b, misuse("error code out of range")
	}
	h := make(framing.Header, 0, 1+len(header))
	if code != 0 {
		h = append(h, varintField(framing.KeyCode, uint64(code)))
	}
	return appendFrame(b, framing.TypeErr, h, cutReason(reason), header)
}

// ParseErr decodes an ERR frame. It never fails, since an ERR is not answered:
// what cannot be read in it is left out. Nothing of f is kept. PROTOCOL §5.8.
func ParseErr(f framing.Frame) *RemoteError {
	e := &RemoteError{}
	h := f.Header
	for n := 0; len(h) > 0; n++ {
		key, value, rest, err := h.Next()
		if err != nil || n == MaxFields {
			f.Header = nil // its metadata is worth nothing
			break
		}
		if e.Code == 0 && string(key) == framing.KeyCode {
			if v, ok := wholeVarint(value); ok {
				e.Code = framing.ErrorCode(v)
			}
		}
		h = rest
	}
	if user, err := f.Header.AppendUser(nil); err == nil {
		e.Header = user
	}
	e.Reason = cutReason(string(f.Payload[:min(len(f.Payload), framing.MaxReasonLen)]))
	return e
}

// cutReason makes s valid UTF-8 of at most [framing.MaxReasonLen] bytes.
func cutReason(s string) string {
	// Three bytes may stand for one that is wrong, and a character is four at most.
	s = s[:min(len(s), framing.MaxReasonLen+utf8.UTFMax)]
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= framing.MaxReasonLen {
		return s
	}
	n := framing.MaxReasonLen
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
