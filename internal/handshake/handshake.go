// Package handshake is the opening exchange of a VSTP connection: HELLO, WELCOME
// and refusal, PROTOCOL §4, and the ERR frame, §5.8.
//
// A [Client] and a [Server] are state machines without input or output. Frames go
// in decoded, go out as bytes appended to a buffer, and nothing else happens: no
// socket, goroutine, lock, clock or random number is used here, so that a run can
// be repeated byte for byte. They are not safe for concurrent use.
//
//	Client                              Server
//	idle                                awaiting
//	  │ AppendHello   ──── HELLO ───▶     │ Receive
//	sent                                received ── (VerifyHello is asked here)
//	  │ Receive       ◀── WELCOME ───     │ AppendWelcome
//	done                                done
//
// Any error ends the machine: what follows is refused with CodeUnexpected. A
// server that does not want a client it has received calls [AppendErr] instead of
// AppendWelcome. After done, the frames of the connection are not given to the
// machine any more, but for a HELLO or a WELCOME, which it refuses in its words.
//
// [Client.Offer] and [Server.AllowAuto] are for sessions that move between carriers, and an
// [Attach] brings a byte stream to one that is there, PROTOCOL §7.14.
//
// What a peer sends makes this package allocate a small multiple of the size of
// the frame received, and never according to a number in it.
package handshake

import (
	"fmt"
	"time"

	"github.com/vstp-go/vstp/framing"
)

// Limits and defaults of the handshake. PROTOCOL §4.3.
const (
	// MinMaxFrame is the smallest acceptable MaxFrame: a payload of 64 KiB, the
	// largest header block, the fixed header and the trailer.
	MinMaxFrame = 64<<10 + framing.MaxHeaderLen + framing.FixedLen + framing.TrailerLen

	DefaultMaxFrame   = framing.DefaultMaxFrame // where KeyMaxFrame is absent
	DefaultMaxMessage = 100 << 20               // where KeyMaxMessage is absent

	MaxVersions = 32        // in KeyVersions
	MaxIdle     = 1<<43 - 1 // milliseconds in KeyIdle: what a time.Duration can hold
	MaxFields   = 1024      // key/value pairs in a HELLO or WELCOME
)

// Version1 is the version described by PROTOCOL.
const Version1 = 1

// CompressZstd is the number of zstd in KeyCompress. PROTOCOL §5.5.
const CompressZstd = 1

// Params is what one side brings to the handshake. In a Params that goes to
// [NewClient] or [NewServer] a zero field means its default; a received one, as in
// [Hello], holds the defaults for keys that were absent.
type Params struct {
	// Versions are those this side speaks, best first. If empty, Version1.
	Versions []uint64

	MaxFrame   int64 // largest frame accepted; if zero, DefaultMaxFrame
	MaxMessage int64 // largest message accepted; if zero, DefaultMaxMessage

	Checksum    bool   // asks for the CRC
	Compression []byte // the algorithms known, best first

	// Idle is the idle timeout, taken in whole milliseconds, rounded up. Zero or
	// less means none.
	Idle time.Duration

	// Header is the user's metadata. It is read when the frame is made.
	Header framing.Header
}

// Result is what both sides know after the handshake.
type Result struct {
	Version        uint64 // 0 for a crate peer
	SessionID      [16]byte
	PeerMaxFrame   int64         // the largest frame the peer accepts
	PeerMaxMessage int64         // the largest message the peer accepts
	Checksum       bool          // every frame has the CRC
	Compression    byte          // the algorithm chosen, or 0
	Idle           time.Duration // the smaller one of both sides, or 0
	PeerHeader     framing.Header
	Legacy         bool // the peer speaks the crate profile, PROTOCOL §6
}

// Hello is what a server learns from the first frame.
type Hello struct {
	Params // of the peer

	// Auto is what a client offers on a byte stream who would move between carriers,
	// nil otherwise. Its Params are those above. PROTOCOL §7.14.
	Auto *DatagramParams

	// Attach says that the client has a session already, to which it attaches this byte
	// stream. Nothing else is in its HELLO.
	Attach *Attach

	// Legacy says that the frame was not a negotiating HELLO: the peer speaks the
	// crate profile. A crate HELLO has done its work then and its metadata is in
	// Header; a frame of another type is the first one of the connection, and the
	// caller still has to act on it.
	Legacy bool
}

// LegacyResult is the Result of a connection in the crate profile, where nothing
// is negotiated. PROTOCOL §6.3.
func LegacyResult() Result {
	return Result{
		PeerMaxFrame:   framing.DefaultMaxFrame,
		PeerMaxMessage: framing.DefaultMaxFrame - framing.FixedLen - framing.TrailerLen,
		Checksum:       true,
		Legacy:         true,
	}
}

// An Error is what this side found wrong. Unless it says otherwise, the peer
// should be told with [AppendErr] before the carrier is closed. PROTOCOL §4.5.
type Error struct {
	Code   framing.ErrorCode
	Reason string // for people, of fixed wording
	Err    error  // what a decoder found, or nil
}

// Error implements error.
func (e *Error) Error() string {
	s := "handshake: " + e.Code.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// A RemoteError is an ERR frame received. It is never answered.
type RemoteError struct {
	Code   framing.ErrorCode // 0 where the frame has none
	Reason string            // for people, written by the peer; valid UTF-8
	Header framing.Header    // the user's
}

// Error implements error.
func (e *RemoteError) Error() string {
	s := "handshake: peer reports: " + e.Code.String()
	if e.Reason != "" {
		s += ": " + fmt.Sprintf("%.256q", e.Reason)
	}
	return s
}

// unexpected is the error for a frame that may not come now.
func unexpected(t framing.Type) *Error {
	return &Error{Code: framing.CodeUnexpected, Reason: t.String()}
}

// misuse is the error for a caller who broke the rules of this package.
func misuse(reason string) *Error {
	return &Error{Code: framing.CodeInternal, Reason: reason}
}

// protocol is the error for a value that PROTOCOL §4 does not allow.
func protocol(reason string) *Error {
	return &Error{Code: framing.CodeProtocol, Reason: reason}
}
