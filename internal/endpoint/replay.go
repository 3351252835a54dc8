package endpoint

import (
	"encoding/binary"
	"time"

	"github.com/vstp-go/vstp/internal/handshake"
)

// acceptsEarly reports whether the 0-RTT of a client may begin with what it remembers of
// this server: it must not have more room then than it gets now, and it must not be a
// replay. For that the ticket has to be one of this socket, and so young that all 0-RTT
// that has begun with it is remembered.
func (e *Endpoint) acceptsEarly(c *client, sent *handshake.SealedParams, note []byte) bool {
	if len(note) != ticketNoteLen || [16]byte(note) != e.instance {
		return false
	}
	at := time.Now()
	age := at.Sub(e.epoch) - time.Duration(binary.BigEndian.Uint64(note[16:]))
	if age < 0 || age >= replayWindow {
		return false
	}
	now := e.params(c.sealed.id, false)
	if sent.MaxDatagram > now.MaxDatagram || sent.MaxMessage > now.MaxMessage ||
		sent.Credit.MaxData > now.Credit.MaxData || sent.Credit.MaxStreamData > now.Credit.MaxStreamData ||
		sent.Credit.MaxStreams > now.Credit.MaxStreams || sent.Credit.MaxMessages > now.Credit.MaxMessages {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.replays.first(at, c.key.id)
}

const ticketNoteLen = 16 + 8

// ticketNote is what a session ticket says about itself, for acceptsEarly: the socket that
// has made it, and when by a clock that nobody sets.
func (e *Endpoint) ticketNote(now time.Time) []byte {
	return binary.BigEndian.AppendUint64(e.instance[:], uint64(now.Sub(e.epoch)))
}

// A replayFilter remembers who has begun with 0-RTT lately, so that the same datagrams
// do not begin again. RFC 8446 §8.2. Endpoint.mu guards it.
type replayFilter struct {
	now, before map[handshake.ConnID]struct{}
	since       time.Time
}

// A filter remembers for replayWindow at least, and twice as long at most; tickets that
// are older are not good for 0-RTT. When maxReplays have begun in that time, there is no
// 0-RTT until it is over.
const (
	replayWindow = 10 * time.Minute
	maxReplays   = 1 << 16
)

// first reports whether id has not begun with 0-RTT before, as far as is known.
func (f *replayFilter) first(now time.Time, id handshake.ConnID) bool {
	switch d := now.Sub(f.since); {
	case f.now == nil || d >= 2*replayWindow:
		f.now, f.before, f.since = make(map[handshake.ConnID]struct{}), nil, now
	case d >= replayWindow:
		f.now, f.before, f.since = make(map[handshake.ConnID]struct{}), f.now, now
	}
	_, a := f.now[id]
	_, b := f.before[id]
	if a || b || len(f.now) >= maxReplays {
		return false
	}
	f.now[id] = struct{}{}
	return true
}
