// Package crate speaks the datagrams of peers that do not negotiate: what the
// original Rust crate vstp 0.2.1 sends and understands on UDP. PROTOCOL §6.5 to §6.9.
//
// It has no socket, clock, goroutine or lock. A [Receiver] serves one socket and all
// of its crate peers; a [Sender] makes the datagrams of messages to them; a [Pending]
// says when one of these has to be sent again.
//
// # Usage
//
//	res := r.Receive(now, from, datagram, room)
//	if res.Message != nil {
//		queue(res.Message)
//	}
//	if res.Reply != nil {
//		send(res.Reply, from)
//	}
//
// # Guarantees
//
// Nothing is sent in answer to anything but DATA and PING, at most one datagram for
// one, and never a larger one. So no peer, no pair of peers and no forged address is
// kept busy. What peers can make a Receiver keep is bounded: by source, in all, and in
// time, if Advance is called when Timeout says so.
//
// # Limitations
//
// There is no congestion control and no flow control, as the crate has none. Addresses
// can be forged by anyone, and the CRC is none of security.
//
// Nothing here is safe for concurrent use.
package crate

import (
	"errors"

	"github.com/vstp-go/vstp/framing"
)

// Sizes of the crate. PROTOCOL §6.8.
const (
	MaxDatagram     = 1200 // a larger datagram is never sent
	MaxPeerDatagram = 2400 // a larger one never reaches the crate
	MaxFragments    = 255  // of one message
)

// ErrTooLarge says that a message does not fit into MaxFragments datagrams.
var ErrTooLarge = errors.New("crate: message too large")

// ErrKey says that metadata has a key that the profile needs for itself.
var ErrKey = errors.New("crate: reserved header key")

// A Message is what a peer has sent for the application. All of it is the caller's.
type Message struct {
	Header  framing.Header // without msg-id, if it is an id, and without the fields of fragments
	Payload []byte
	ReqAck  bool // the peer wanted an ACK, and Result.Reply has it
}

// A Result is what came of a datagram. The zero Result says that there is nothing to
// do, be it that the datagram was dropped or that more of its message has to come.
type Result struct {
	Message *Message // to be delivered; nil if there is none
	Reply   []byte   // to be sent to where the datagram came from; nil if there is none; valid until the next call

	Acked bool   // the peer has message ID of ours
	ID    uint64 // if Acked

	Drop Drop // why the datagram was of no use; 0 if it was of any
}
