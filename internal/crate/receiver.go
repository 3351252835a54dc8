package crate

import (
	"net/netip"
	"time"
)

// Config bounds what a Receiver keeps. A zero field means its default.
type Config struct {
	MaxMessage int64 // largest payload of a message; if zero, 1 MiB; never more than 255 fragments can carry
	MaxSources int   // addresses that are remembered; if zero, 4096
	MaxBytes   int   // of fragments and ids, in all; if zero, 16 MiB. One source has at most an eighth
}

// A Receiver understands the datagrams of crate peers.
type Receiver struct {
	cfg Config
}

// NewReceiver returns a Receiver that keeps to c.
func NewReceiver(c Config) *Receiver { return &Receiver{cfg: c} }

// Receive takes a datagram that came from an address; it keeps nothing of it. Room is
// how many bytes of [Message.Size] the application's queue still takes: a message that
// is larger is not delivered and not acknowledged, so that its sender may try again.
func (r *Receiver) Receive(now time.Time, from netip.AddrPort, datagram []byte, room int64) Result {
	return Result{Drop: DropMalformed}
}

// Timeout returns when Advance has to be called; zero if there is nothing to expire.
func (r *Receiver) Timeout() time.Time { return time.Time{} }

// Advance forgets what has expired.
func (r *Receiver) Advance(now time.Time) {}

// Size returns the memory that a message takes, about, with its decoded header.
func (m *Message) Size() int64 { return int64(len(m.Payload)) }
