package framing

import "strconv"

// An ErrorCode is the number in an ERR frame. PROTOCOL §5.8.
type ErrorCode uint64

// The codes of the protocol. Codes from CodeApplication on belong to applications.
const (
	CodeProtocol    ErrorCode = 1  // a rule of the protocol was broken
	CodeVersion     ErrorCode = 2  // no common version
	CodeTooLarge    ErrorCode = 3  // a frame or a message is larger than agreed
	CodeChecksum    ErrorCode = 4  // a CRC did not match
	CodeHeader      ErrorCode = 5  // a header block does not add up
	CodeUnexpected  ErrorCode = 6  // a frame that may not come at this point
	CodeRefused     ErrorCode = 7  // the server does not want this client
	CodeTimeout     ErrorCode = 8  // the handshake took too long, or the peer was silent
	CodeOverload    ErrorCode = 9  // too many connections
	CodeCompression ErrorCode = 10 // a payload cannot be decompressed
	CodeInternal    ErrorCode = 11 // the sender's own fault
	CodeTLS         ErrorCode = 12 // one side speaks TLS and the other does not
	CodeUnknownID   ErrorCode = 13 // datagrams: no association has this connection id
	CodeAborted     ErrorCode = 14 // datagrams: closed before everything had arrived
	CodeAlert       ErrorCode = 15 // datagrams: the TLS handshake failed
	CodeAttach      ErrorCode = 16 // a byte stream may not be attached to this session

	CodeApplication ErrorCode = 0x100
)

var codeNames = [...]string{
	CodeProtocol:    "protocol violation",
	CodeVersion:     "no common version",
	CodeTooLarge:    "too large",
	CodeChecksum:    "checksum mismatch",
	CodeHeader:      "malformed header",
	CodeUnexpected:  "unexpected frame",
	CodeRefused:     "refused",
	CodeTimeout:     "timeout",
	CodeOverload:    "overloaded",
	CodeCompression: "bad compression",
	CodeInternal:    "internal error",
	CodeTLS:         "TLS mismatch",
	CodeUnknownID:   "unknown connection id",
	CodeAborted:     "aborted",
	CodeAlert:       "alert",
	CodeAttach:      "attach refused",
}

// String returns a short English name, or the number of an unknown code.
func (c ErrorCode) String() string {
	switch {
	case c >= CodeApplication:
		return "application error " + strconv.FormatUint(uint64(c-CodeApplication), 10)
	case c < ErrorCode(len(codeNames)) && codeNames[c] != "":
		return codeNames[c]
	}
	return "ErrorCode(" + strconv.FormatUint(uint64(c), 10) + ")"
}

// MaxReasonLen bounds the text of an ERR frame, in bytes.
const MaxReasonLen = 1024
