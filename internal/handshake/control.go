package handshake

import (
	"errors"

	"github.com/vstp-go/vstp/framing"
)

// MaxControl is the largest record of the control stream, and the most that its
// receiver keeps. PROTOCOL §8.8.
const MaxControl = 131072

// A Control is a record of the control stream of a sealed association. PROTOCOL §8.8.
type Control struct {
	Type   framing.Type   // HELLO, WELCOME, ERR or DATA
	Header framing.Header // HELLO, WELCOME: the peer's metadata
	Data   []byte         // DATA: bytes of TLS, a view of what was parsed
	Err    *RemoteError   // ERR: the refusal

	// HELLO: proof that the client has lost the association. It is not among the
	// client's transport parameters, where it could be read on the way. PROTOCOL §8.10.
	ResetToken    [ResetTokenLen]byte
	HasResetToken bool

	// WELCOME: for the client's next HELLO; nil if there is none, a view otherwise.
	Token []byte
}

// AppendControlHello appends the first record of a client. On error b is returned as it
// was.
func AppendControlHello(b []byte, header framing.Header) ([]byte, error) {
	return appendControl(b, framing.TypeHello, nil, "", header)
}

// AppendControlHelloToken is [AppendControlHello] with the client's reset token.
func AppendControlHelloToken(b []byte, header framing.Header, token [ResetTokenLen]byte) ([]byte, error) {
	own := framing.Header{{Key: framing.KeyResetToken, Value: string(token[:])}}
	return appendControl(b, framing.TypeHello, own, "", header)
}

// AppendControlWelcome appends the first record of a server that accepts the client. On
// error b is returned as it was.
func AppendControlWelcome(b []byte, header framing.Header) ([]byte, error) {
	return appendControl(b, framing.TypeWelcome, nil, "", header)
}

// AppendControlWelcomeToken is [AppendControlWelcome] with a token of the server. PROTOCOL §7.3.
func AppendControlWelcomeToken(b []byte, header framing.Header, token []byte) ([]byte, error) {
	own := framing.Header{{Key: framing.KeyToken, Value: string(token)}}
	return appendControl(b, framing.TypeWelcome, own, "", header)
}

// AppendControlErr appends the record that takes the place of WELCOME, as [AppendErr]
// does with a frame. On error b is returned as it was.
func AppendControlErr(b []byte, code framing.ErrorCode, text string, header framing.Header) ([]byte, error) {
	if code > framing.MaxVarint {
		return b, misuse("error code out of range")
	}
	var own framing.Header
	if code != 0 {
		own = framing.Header{varintField(framing.KeyCode, uint64(code))}
	}
	return appendControl(b, framing.TypeErr, own, cutReason(text), header)
}

// AppendControlData appends bytes of TLS, in as many records as they need.
func AppendControlData(b, tls []byte) []byte {
	for len(tls) > 0 {
		n := min(len(tls), MaxControl-framing.FixedLen)
		b = framing.AppendFixed(b, framing.TypeData, 0, 0, int64(n))
		b, tls = append(b, tls[:n]...), tls[n:]
	}
	return b
}

// appendControl appends a record; own and user together are its header block.
func appendControl(b []byte, t framing.Type, own framing.Header, payload string, user framing.Header) ([]byte, error) {
	block, err := appendBlock(own, user)
	if err != nil {
		return b, err
	}
	b = framing.AppendFixed(b, t, 0, len(block), int64(len(payload)))
	b = append(b, block...)
	return append(b, payload...), nil
}

// ParseControl decodes the record at the start of b and returns its length, which is 0
// if more bytes are needed. What is wrong in the first bytes is found before the rest
// is there. An error is an [*Error] and ends the association; which record may come
// when is for the caller to check. PROTOCOL §8.8.
func ParseControl(b []byte) (rec Control, n int, err error) {
	fx, err := framing.ParseFixed(b)
	if err != nil {
		if errors.Is(err, framing.ErrIncomplete) {
			return rec, 0, nil
		}
		return rec, 0, controlError(err)
	}
	if err := checkControl(fx); err != nil {
		return rec, 0, err
	}
	if fx.WireLen(false) > int64(len(b)) {
		return rec, 0, nil
	}
	f, n, err := framing.Parse(b, MaxControl, framing.TrailerByFlag)
	if err != nil {
		return rec, 0, controlError(err)
	}
	rec.Type = f.Type
	switch f.Type {
	case framing.TypeData:
		rec.Data = f.Payload
	case framing.TypeErr:
		rec.Err = ParseErr(f)
	default:
		if rec.Header, err = controlHeader(f.Header); err == nil && f.Type == framing.TypeHello {
			err = rec.parseToken(f.Header)
		}
		if v, found := f.Header.Lookup(framing.KeyToken); found && f.Type == framing.TypeWelcome && len(v) > 0 && len(v) <= MaxToken {
			rec.Token = v
		}
		if err != nil {
			return Control{}, 0, err
		}
	}
	return rec, n, nil
}

// checkControl holds the rules for records that their fixed part shows.
func checkControl(fx framing.Fixed) error {
	switch fx.Type {
	case framing.TypeHello, framing.TypeWelcome:
		if fx.PayloadLen > 0 {
			return protocol(fx.Type.String() + " with a payload")
		}
	case framing.TypeData:
		if fx.HeaderLen > 0 {
			return protocol("DATA with a header")
		}
	case framing.TypeErr:
	default:
		return unexpected(fx.Type)
	}
	if fx.Flags != 0 {
		return protocol("flags in the control stream")
	}
	if fx.WireLen(false) > MaxControl {
		return &Error{Code: framing.CodeTooLarge, Reason: "a record of the control stream"}
	}
	return nil
}

// controlHeader decodes the metadata of a HELLO or WELCOME.
func controlHeader(h framing.RawHeader) (framing.Header, error) {
	n := 0
	for range h.All() {
		if n++; n > MaxFields {
			return nil, &Error{Code: framing.CodeTooLarge, Reason: "too many header fields"}
		}
	}
	return userHeader(h)
}

// parseToken takes the client's reset token out of a HELLO, if there is one.
func (c *Control) parseToken(h framing.RawHeader) error {
	for key, value := range h.All() {
		if string(key) != framing.KeyResetToken {
			continue
		}
		if c.HasResetToken || len(value) != len(c.ResetToken) {
			return protocol("bad reset token")
		}
		c.ResetToken, c.HasResetToken = [ResetTokenLen]byte(value), true
	}
	return nil
}

// controlError is the error for a record that is no frame.
func controlError(err error) error {
	code := framing.CodeProtocol
	switch {
	case errors.Is(err, framing.ErrVersion):
		code = framing.CodeVersion
	case errors.Is(err, framing.ErrType):
		code = framing.CodeUnexpected
	case errors.Is(err, framing.ErrHeader):
		code = framing.CodeHeader
	}
	return &Error{Code: code, Reason: "control stream", Err: err}
}
