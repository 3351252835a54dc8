package crate

import (
	"strconv"

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

// What the profile adds to a datagram, in bytes.
const (
	frameLen = framing.FixedLen + framing.TrailerLen

	maxIDText   = 20 // digits of 64 bits
	maxByteText = 3  // digits of 8 bits

	msgIDLen = 2 + len(framing.LegacyKeyMsgID) + maxIDText
	fragsLen = 3*(2+maxByteText) + len(framing.LegacyKeyFragID+framing.LegacyKeyFragIndex+framing.LegacyKeyFragTotal)
)

// Encode makes the datagrams of a message: one if it fits, otherwise fragments. It
// keeps neither h nor payload. With reqAck it asks for an ACK; see [Pending]. The
// errors are [ErrTooLarge], [ErrKey] and those of [framing.Header.Validate]; nothing
// is counted then.
func (s *Sender) Encode(h framing.Header, payload []byte, reqAck bool) (Packet, error) {
	if err := checkHeader(h, reqAck); err != nil {
		return Packet{}, err
	}
	var p Packet
	f := framing.Frame{Type: framing.TypeData, Payload: payload}
	block, err := framing.AppendHeader(make([]byte, 0, h.EncodedLen()+msgIDLen+fragsLen), h)
	if err != nil {
		return Packet{}, err
	}
	if reqAck {
		p.ID = s.lastID + 1
		f.Flags = framing.FlagReqAck
		block = appendNumber(block, framing.LegacyKeyMsgID, p.ID)
	}
	f.Header = block
	if n := frameLen + len(block) + len(payload); n <= MaxDatagram {
		d, err := framing.AppendFrame(make([]byte, 0, n), f, framing.TrailerAlways)
		if err != nil {
			return Packet{}, err
		}
		p.Datagrams = [][]byte{d}
	} else if p.Datagrams, err = fragments(f, s.lastFrag+1, fragmentLen(blockLen(h, reqAck))); err != nil {
		return Packet{}, err
	} else {
		s.lastFrag++
	}
	s.lastID = max(s.lastID, p.ID)
	return p, nil
}

// Again returns the datagrams of a message for another attempt: fragments get a new
// frag-id. One that comes a second time ends the reception of a receiver of the crate,
// which forgets what it has of a message only after 30 s.
func (s *Sender) Again(datagrams [][]byte) [][]byte {
	if len(datagrams) < 2 {
		return datagrams
	}
	s.lastFrag++
	ds := make([][]byte, len(datagrams))
	for i, d := range datagrams {
		f, _, err := framing.Parse(d, 0, framing.TrailerAlways)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		h := make([]byte, 0, len(f.Header)+maxByteText)
		for k, v := range f.Header.All() {
			if string(k) == framing.LegacyKeyFragID {
				h = appendNumber(h, framing.LegacyKeyFragID, uint64(s.lastFrag))
				continue
			}
			h, _ = framing.AppendField(h, string(k), v) // which it was before
		}
		f.Header = h
		if ds[i], err = framing.AppendFrame(nil, f, framing.TrailerAlways); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	return ds
}

// checkHeader reports whether h can be metadata of a crate peer.
func checkHeader(h framing.Header, reqAck bool) error {
	if h.HasReserved() {
		return ErrKey
	}
	for _, f := range h {
		if isFragKey(f.Key) || reqAck && f.Key == framing.LegacyKeyMsgID {
			return ErrKey
		}
	}
	return h.Validate()
}

// fragments cuts the payload of f into pieces of size bytes. Each has all the header
// fields: it is not known of which one the crate takes them, and a receiver can tell by
// them, the msg-id above all, what belongs together. PROTOCOL §6.7.
func fragments(f framing.Frame, id uint8, size int) ([][]byte, error) {
	if size <= 0 || len(f.Payload) > MaxFragments*size {
		return nil, ErrTooLarge
	}
	total := (len(f.Payload) + size - 1) / size
	payload, block := f.Payload, f.Header
	f.Flags |= framing.FlagFrag

	// One piece of memory for all of them.
	buf := make([]byte, 0, len(payload)+total*(frameLen+len(block)+fragsLen))
	ds := make([][]byte, 0, total)
	for i := range total {
		h := appendNumber(block[:len(block):cap(block)], framing.LegacyKeyFragID, uint64(id))
		h = appendNumber(h, framing.LegacyKeyFragIndex, uint64(i))
		f.Header = appendNumber(h, framing.LegacyKeyFragTotal, uint64(total))
		f.Payload = payload[:min(size, len(payload))]
		payload = payload[len(f.Payload):]
		begin := len(buf)
		var err error
		if buf, err = framing.AppendFrame(buf, f, framing.TrailerAlways); err != nil {
			return nil, err
		}
		ds = append(ds, buf[begin:len(buf):len(buf)])
	}
	return ds, nil
}

// blockLen returns the length of the header block of a message, with the longest id, so
// that limits do not depend on how many messages went before.
func blockLen(h framing.Header, reqAck bool) int {
	if reqAck {
		return h.EncodedLen() + msgIDLen
	}
	return h.EncodedLen()
}

// fragmentLen returns the payload bytes of a fragment beside a header block of n bytes.
// With it no fragment can look like a copy of a whole message; see isCopy.
func fragmentLen(n int) int {
	return MaxDatagram - frameLen - n - fragsLen
}

// MaxPayload returns the largest payload that Encode takes beside h, or -1 if it takes
// none.
func MaxPayload(h framing.Header, reqAck bool) int {
	if checkHeader(h, reqAck) != nil {
		return -1
	}
	n := blockLen(h, reqAck)
	return max(MaxFragments*fragmentLen(n), MaxDatagram-frameLen-n, -1)
}

// appendNumber appends a field with a number as decimal text.
func appendNumber(b []byte, key string, v uint64) []byte {
	var text [maxIDText]byte
	b, err := framing.AppendField(b, key, strconv.AppendUint(text[:0], v, 10))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

// isFragKey reports whether key is one of those that fragments have.
func isFragKey[K ~string | ~[]byte](key K) bool {
	switch string(key) {
	case framing.LegacyKeyFragID, framing.LegacyKeyFragIndex, framing.LegacyKeyFragTotal:
		return true
	}
	return false
}
