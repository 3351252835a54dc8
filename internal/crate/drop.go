package crate

import "strconv"

// A Drop is a reason for which a datagram was of no use.
type Drop uint8

// The reasons.
const (
	DropNone      Drop = iota
	DropMalformed      // no frame, or a damaged one
	DropNoTrailer      // a frame without CRC trailer: not of the crate
	DropType           // a frame that says nothing here: HELLO, PONG, BYE, ERR, WELCOME, a stray ACK
	DropDuplicate      // delivered before
	DropFragment       // a fragment that contradicts itself
	DropTooLarge       // a message above MaxMessage
	DropFull           // the application takes no more, or no memory is left for fragments
)

var dropNames = [...]string{"none", "malformed", "no trailer", "type", "duplicate", "fragment", "too large", "full"}

// String returns a short English name.
func (d Drop) String() string {
	if int(d) < len(dropNames) {
		return dropNames[d]
	}
	return strconv.Itoa(int(d))
}
