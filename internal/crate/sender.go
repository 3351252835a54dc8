package crate

import (
	"github.com/vstp-go/vstp/framing"
)

// A Sender makes the datagrams of messages to crate peers. It counts ids, so there is
// one for all peers of a socket or one for each. The zero Sender is ready to use.
type Sender struct {
	lastID   uint64
	lastFrag uint8
}

// A Packet is a message, ready to be sent.
type Packet struct {
	ID        uint64   // of the message, if an ACK was asked for; else 0
	Datagrams [][]byte // in this order, each as it is; the caller's
}

// Encode makes the datagrams of a message: one if it fits, otherwise fragments. It
// keeps neither h nor payload. With reqAck it asks for an ACK; see [Pending]. The
// errors are [ErrTooLarge], [ErrKey] and those of [framing.Header.Validate].
func (s *Sender) Encode(h framing.Header, payload []byte, reqAck bool) (Packet, error) {
	return Packet{}, ErrTooLarge
}

// MaxPayload returns the largest payload that Encode takes beside h, or -1 if there is
// none.
func MaxPayload(h framing.Header, reqAck bool) int { return -1 }
