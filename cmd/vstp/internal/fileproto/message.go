package fileproto

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/vstp-go/vstp"
)

// What a server says it is, in the metadata of its WELCOME.
const (
	ServiceKey = "vstp-service"
	Service    = "files/1"
)

// Bounds on what a peer may send or ask for.
const (
	MaxControl = 256 << 10 // bytes in a message
	MaxPath    = 4096      // bytes in a path, as on Linux
	MaxEntries = 1 << 20   // files and directories in a listing
	MaxEager   = 128 << 10 // bytes in a file that is put without asking first
	Window     = 16        // requests that may wait for an answer

	// entriesChunk is how many bytes of entries a message is filled with: well
	// below MaxControl, with room for one more entry of the longest kind.
	entriesChunk = 64 << 10
)

// DefaultStall is how long a peer may do nothing before the transfer is given up.
const DefaultStall = 60 * time.Second

// A Conn is what the protocol needs of a connection; *vstp.Conn has it.
type Conn interface {
	io.Reader
	io.Writer
	SendMessage(ctx context.Context, m *vstp.Message) error
	ReceiveMessage(ctx context.Context) (*vstp.Message, error)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	CloseWithError(code vstp.ErrorCode, reason string) error
}

// The operations.
const (
	opStat    = "stat"
	opList    = "list"
	opGet     = "get"
	opPut     = "put"
	opContent = "content"
	opMkdir   = "mkdir"

	opInfo    = "info"
	opEntries = "entries"
	opFile    = "file"
	opReady   = "ready"
	opDone    = "done"
	opStored  = "stored"
	opError   = "error"
)

const opKey = "op"

// An Entry is a file or a directory in a listing.
type Entry struct {
	Path  string `json:"path"` // below the path that was asked for; "." for itself
	Dir   bool   `json:"dir,omitempty"`
	Size  int64  `json:"size,omitempty"`
	MTime int64  `json:"mtime,omitempty"` // nanoseconds since 1970
	Mode  uint32 `json:"mode,omitempty"`  // permission bits
}

// ModTime returns MTime as a time.
func (e Entry) ModTime() time.Time { return time.Unix(0, e.MTime) }

// Perm returns the permission bits, which is all of the mode that travels.
func (e Entry) Perm() fs.FileMode { return fs.FileMode(e.Mode) & fs.ModePerm }

// body is the payload of every message; each operation has its own part of it.
type body struct {
	Path    string  `json:"path,omitempty"`
	Size    int64   `json:"size,omitempty"`
	MTime   int64   `json:"mtime,omitempty"`
	Mode    uint32  `json:"mode,omitempty"`
	Offset  int64   `json:"offset,omitempty"`
	SHA256  string  `json:"sha256,omitempty"`
	Eager   bool    `json:"eager,omitempty"`
	Entry   *Entry  `json:"entry,omitempty"`
	Entries []Entry `json:"entries,omitempty"`
	More    bool    `json:"more,omitempty"`
	Code    string  `json:"code,omitempty"`
	Text    string  `json:"text,omitempty"`
}

// A digest is a SHA-256 sum.
type digest [sha256.Size]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// parseDigest returns ok false for anything that is not a SHA-256 sum.
func parseDigest(s string) (d digest, ok bool) {
	if len(s) != 2*len(d) {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err == nil
}

// ErrProtocol is wrapped by every error that speaks of a peer that does not keep to
// the protocol.
var ErrProtocol = errors.New("fileproto: the peer breaks the file protocol")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// ErrDigest says that content does not have the SHA-256 that the sender announced:
// it changed while it was sent, or was damaged.
var ErrDigest = errors.New("the content does not match its SHA-256: it was changed while it was sent, or damaged; try again")

// errChanged ends a transfer of which the announced length cannot be kept.
var errChanged = errors.New("the file got shorter while it was sent")

// The codes of an error message.
const (
	CodeNotFound = "not-found"
	CodeDenied   = "denied"
	CodeReadOnly = "read-only"
	CodeInvalid  = "invalid"
	CodeBusy     = "busy"
	CodeTooLarge = "too-large"
	CodeDigest   = "digest"
	CodeFailed   = "failed"
)

// A RemoteError is a server's answer to a request that it cannot fulfil.
type RemoteError struct{ Code, Text string }

// Error implements error.
func (e *RemoteError) Error() string {
	if e.Text == "" {
		return "the server says: " + fmt.Sprintf("%.40q", e.Code)
	}
	return "the server says: " + fmt.Sprintf("%.512s", e.Text)
}

// Is lets errors.Is compare with fs.ErrNotExist and fs.ErrPermission.
func (e *RemoteError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Code == CodeNotFound
	case fs.ErrPermission:
		return e.Code == CodeDenied || e.Code == CodeReadOnly
	case ErrDigest:
		return e.Code == CodeDigest
	}
	return false
}

// ValidPath reports whether p may be sent or asked for.
func ValidPath(p string) bool { return len(p) <= MaxPath && fs.ValidPath(p) && !hasNUL(p) }

func hasNUL(p string) bool {
	for i := range len(p) {
		if p[i] == 0 {
			return true
		}
	}
	return false
}

// A peer is the other side, with a bound on how long it may do nothing.
type peer struct {
	Conn
	stall time.Duration
}

func newPeer(c Conn, stall time.Duration) peer {
	if stall <= 0 {
		stall = DefaultStall
	}
	return peer{c, stall}
}

func (p peer) send(ctx context.Context, op string, b body) error {
	payload, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if len(payload) > MaxControl {
		return fmt.Errorf("fileproto: a message of %d bytes", len(payload))
	}
	ctx, cancel := context.WithTimeout(ctx, p.stall)
	defer cancel()
	// Ordered is what every message is on streams; on datagrams they would overtake
	// each other without it.
	return p.SendMessage(ctx, &vstp.Message{Header: vstp.Header{{Key: opKey, Value: op}}, Payload: payload, Ordered: true})
}

// receive returns the next message. It waits no longer than wait.
func (p peer) receive(ctx context.Context, wait time.Duration) (op string, b body, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	m, err := p.ReceiveMessage(ctx)
	if err != nil {
		return "", body{}, err
	}
	if len(m.Payload) > MaxControl {
		return "", body{}, protocolError("a message of %d bytes", len(m.Payload))
	}
	op = m.Header.Get(opKey)
	if err := json.Unmarshal(m.Payload, &b); err != nil {
		return "", body{}, protocolError("message %.40q: %v", op, err)
	}
	return op, b, nil
}

// expect returns the next message, which must be a want or an error.
func (p peer) expect(ctx context.Context, want string) (body, error) {
	op, b, err := p.receive(ctx, p.stall)
	switch {
	case err == io.EOF:
		return body{}, io.ErrUnexpectedEOF // mid-conversation
	case err != nil:
		return body{}, err
	case op == opError:
		return body{}, &RemoteError{b.Code, b.Text}
	case op != want:
		return body{}, protocolError("got %.40q instead of %q", op, want)
	}
	return b, nil
}

// fail ends the connection, telling the peer why, and returns err.
func (p peer) fail(err error) error {
	text := err.Error()
	if !errors.Is(err, ErrProtocol) && err != errChanged {
		text = asRequestError(err).text // without the names of this side's files
	}
	p.CloseWithError(vstp.CodeApplication, text)
	return err
}
