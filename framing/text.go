package framing

import (
	"encoding/hex"
	"strconv"
	"unicode/utf8"
)

// maxPreview bounds how much of a payload AppendText shows, in bytes.
const maxPreview = 64

// A valueForm says how the value of a reserved key reads.
type valueForm uint8

const (
	formHex     valueForm = iota
	formVarints           // one or more
	formCode              // a varint that is an ErrorCode
	formMillis            // a varint of milliseconds
)

// reservedForm returns the name of a reserved key, "" if it has none, and how its value
// reads. PROTOCOL §3.
func reservedForm(key []byte) (name string, form valueForm) {
	switch string(key) {
	case KeyPacket:
		return "packet", formHex
	case KeyMessage:
		return "message", formVarints
	case KeyCancel:
		return "cancel", formVarints
	case KeyCode:
		return "code", formCode
	case KeyClose:
		return "close", formHex
	case KeyPing:
		return "ping", formHex
	case KeyResetToken:
		return "reset-token", formHex
	case KeyConfirm:
		return "confirm", formHex
	case KeyCarriers:
		return "carriers", formHex
	case KeyAttach:
		return "attach", formHex
	case KeyParity:
		return "parity", formHex
	case KeyVersions:
		return "versions", formVarints
	case KeySessionID:
		return "session-id", formHex
	case KeyMaxFrame:
		return "max-frame", formVarints
	case KeyMaxMessage:
		return "max-message", formVarints
	case KeyChecksum:
		return "checksum", formHex
	case KeyCompress:
		return "compress", formHex
	case KeyIdle:
		return "idle", formMillis
	case KeyCookie:
		return "cookie", formHex
	case KeySourceID:
		return "source-id", formHex
	case KeyPart:
		return "part", formVarints
	case KeyMaxDatagram:
		return "max-datagram", formVarints
	case KeyCredit:
		return "credit", formVarints
	case KeyAckDelay:
		return "ack-delay", formVarints
	case KeyService:
		return "service", formHex
	case KeyPadding:
		return "padding", formHex
	case KeyCrypto:
		return "crypto", formVarints
	}
	return "", formHex
}

// AppendText appends f to b as lines for people to read: type, flags and lengths, then
// a line for each header field, then the start of the payload. Reserved keys go by
// name, with their numbers decoded; everything that a peer may have chosen is quoted
// or in hexadecimal, so it is safe for a terminal. The form may change.
func AppendText(b []byte, f Frame) []byte {
	b = append(b, f.Type.String()...)
	b = append(b, " flags="...)
	b = append(b, f.Flags.String()...)
	b = append(b, " header="...)
	b = strconv.AppendInt(b, int64(len(f.Header)), 10)
	b = append(b, " payload="...)
	b = strconv.AppendInt(b, int64(len(f.Payload)), 10)
	b = append(b, '\n')
	for r := f.Header; len(r) > 0; {
		key, value, rest, err := r.Next()
		if err != nil {
			b = append(b, "  malformed header: "...)
			b = appendPreview(b, r, hex.AppendEncode)
			b = append(b, '\n')
			break
		}
		b = append(b, "  "...)
		b = appendFieldText(b, key, value)
		b = append(b, '\n')
		r = rest
	}
	if len(f.Payload) > 0 {
		b = append(b, "  payload: "...)
		b = appendPayloadText(b, f.Payload)
		b = append(b, '\n')
	}
	return b
}

func appendFieldText(b, key, value []byte) []byte {
	if !reserved(key) {
		b = strconv.AppendQuote(b, string(key))
		b = append(b, ": "...)
		return strconv.AppendQuote(b, string(value))
	}
	name, form := reservedForm(key)
	if name == "" {
		b = append(b, "reserved 0x"...)
		b = hex.AppendEncode(b, key)
	} else {
		b = append(b, name...)
	}
	b = append(b, ": "...)
	switch {
	case len(value) == 0:
		return append(b, "empty"...)
	case form == formHex || !isVarints(value):
		return hex.AppendEncode(b, value)
	}
	v, n := ConsumeVarint(value)
	switch {
	case form == formCode && n == len(value):
		b = strconv.AppendUint(b, v, 10)
		b = append(b, " ("...)
		b = append(b, ErrorCode(v).String()...)
		return append(b, ')')
	case form == formMillis && n == len(value):
		b = strconv.AppendUint(b, v, 10)
		return append(b, " ms"...)
	}
	for i := 0; len(value) > 0; i++ {
		if i > 0 {
			b = append(b, ' ')
		}
		v, n := ConsumeVarint(value)
		b = strconv.AppendUint(b, v, 10)
		value = value[n:]
	}
	return b
}

// isVarints reports whether b is a sequence of whole varints.
func isVarints(b []byte) bool {
	for len(b) > 0 {
		_, n := ConsumeVarint(b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func appendPayloadText(b, p []byte) []byte {
	if isText(p[:min(len(p), maxPreview)]) {
		return appendPreview(b, p, func(b, p []byte) []byte {
			return strconv.AppendQuote(b, string(p))
		})
	}
	return appendPreview(b, p, hex.AppendEncode)
}

// appendPreview appends the first bytes of p as app writes them.
func appendPreview(b, p []byte, app func(b, p []byte) []byte) []byte {
	if len(p) <= maxPreview {
		return app(b, p)
	}
	return append(app(b, p[:maxPreview]), "..."...)
}

// isText reports whether p reads as text; a character cut off at its end does not
// speak against it.
func isText(p []byte) bool {
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		switch {
		case r == utf8.RuneError && n == 1:
			return !utf8.FullRune(p)
		case r != '\t' && r != '\n' && r != '\r' && !strconv.IsPrint(r):
			return false
		}
		p = p[n:]
	}
	return true
}
