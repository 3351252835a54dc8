package interop_test

import (
	"strings"

	"github.com/vstp-go/vstp"
)

// A size is a column of the matrix.
type size struct {
	name string
	n    int
}

// wholeFrame stands for the payload with which a frame has exactly 8 MiB.
const wholeFrame = -1

var sizes = []size{
	{"0", 0}, {"1", 1}, {"1,185", 1185}, {"1,186", 1186}, {"2,000", 2000}, {"2,349", 2349},
	{"50 KB", 50_000}, {"290 KB", 290_000}, {"1 MB", 1_000_000},
	{"8 MiB frame", wholeFrame}, {"8 MiB", 8 << 20},
}

// A fieldSet is a set of header fields with its name in the matrix.
type fieldSet struct {
	name string
	h    vstp.Header
}

var fieldSets = []fieldSet{
	{"none", nil},
	{"one", vstp.Header{{Key: "k", Value: "v"}}},
	{"ten", ten()},
	{"255 bytes", vstp.Header{{Key: "v", Value: allBytes()}, {Key: strings.Repeat("k", 255), Value: allBytes()}}},
}

func ten() (h vstp.Header) {
	for _, c := range "0123456789" {
		h = append(h, vstp.Field{Key: "key-" + string(c), Value: "value-" + string(c)})
	}
	return h
}

// allBytes is a value of 255 bytes, no text among them.
func allBytes() string {
	b := make([]byte, 255)
	for i := range b {
		b[i] = byte(255 - i)
	}
	return string(b)
}

// What the crate and PROTOCOL §6.7 allow, in bytes.
const (
	frameLen    = 11 + 4
	maxFrame    = 8 << 20
	maxDatagram = 1200  // what the crate sends in one, and vstp at all
	maxReceived = 2400  // what the crate receives
	maxUDP      = 65507 // what UDP carries
	fragFields  = 3*(2+3) + len("frag-idfrag-indexfrag-total")
	maxParts    = 255
)

// A state is what became of a message.
type state int

const (
	lost        state = iota // or anything but what was sent
	payloadOnly              // byte for byte, but the application gets no fields
	whole                    // byte for byte
)

// wireFields returns the fields that h has on the wire.
func wireFields(d direction, tr transport, h vstp.Header) vstp.Header {
	crate := d == fromClient || d == aloneToServer
	if tr.isEasy() && crate {
		return withContentType(h)
	}
	return h
}

// wireLen returns the length of a frame with a message, without fields that depend on
// how many went before.
func wireLen(d direction, tr transport, n int, h vstp.Header) int {
	l := frameLen + wireFields(d, tr, h).EncodedLen() + n
	if tr == overAck {
		l += 2 + len("msg-id") + 2
	}
	return l
}

// expected returns what has to become of a message, and why if it is lost or loses its
// fields; d may be one of the crate alone.
func expected(d direction, tr transport, n int, h vstp.Header) (state, reason) {
	l := wireLen(d, tr, n, h)
	vstpSends := d == toClient || d == toServer
	toEasyHandler := tr.isEasy() && (d == toServer || d == aloneToServer)
	toEasyReceive := (tr == overEasyTCP || tr == overEasyUDP) && (d == toClient || d == aloneFromServer)
	fromEasyHandler := tr.isEasy() && (d == fromServer || d == aloneFromServer)

	// easy.
	switch {
	case tr.isEasy() && n == 0 && (toEasyHandler || toEasyReceive && vstpSends):
		return lost, pick(toEasyHandler, pick(tr == overEasyTCP, easyNoJSONTCP, easyNoJSONUDP), easyNoJSONReceive)
	case tr.isEasy() && n == 0 && (d == fromClient || fromEasyHandler):
		return lost, pick(fromEasyHandler, easyEmptyReply, easyEmpty)
	case fromEasyHandler && len(h) > 0:
		return lost, pick(tr == overEasyTCP, easyReplyTCP, easyReplyUDP)
	}

	if st, why := carried(d, tr, l, n, h); st == lost {
		return lost, why
	}
	if len(h) > 0 && (toEasyHandler || toEasyReceive) {
		return payloadOnly, pick(toEasyHandler, pick(tr == overEasyUDP, easyFieldsUDP, easyFieldsTCP), easyFieldsReceive)
	}
	return whole, ""
}

func pick(c bool, a, b reason) reason {
	if c {
		return a
	}
	return b
}

// carried returns what becomes of a frame of l bytes.
func carried(d direction, tr transport, l, n int, h vstp.Header) (state, reason) {
	vstpSends := d == toClient || d == toServer
	crateOnly := d >= aloneToServer
	if tr.isStream() {
		if l > maxFrame && d != fromClient && d != fromServer { // ours has a Config for that
			return lost, frameLimit
		}
		return whole, ""
	}
	if tr == overAuto {
		// UDP, and then TCP; only TCP if UDP refuses.
		if st, why := carried(d, overEasyTCP, l, n, h); st == lost {
			return st, why
		}
		st, why := carried(d, overUDP, l, n, h)
		if refused := why == copiesLimit || why == serverLimit || why == partsLimit; st == lost && !refused {
			return lost, why
		}
		return whole, ""
	}
	if tr == overAck && (d == toClient || d == aloneFromServer) {
		return lost, clientNoAck
	}
	parts := n <= maxParts*(maxDatagram-frameLen-fragFields-h.EncodedLen())
	if tr == overAck {
		parts = n <= maxParts*(maxDatagram-frameLen-fragFields-h.EncodedLen()-len("..msg-id")-20)
	}
	switch {
	case vstpSends && l <= maxDatagram:
		return whole, ""
	case vstpSends || tr == overFragments:
		if !parts {
			return lost, partsLimit
		}
		return whole, ""
	case d == fromServer || d == aloneFromServer: // one datagram
		if l > maxUDP {
			return lost, serverLimit
		}
		if crateOnly && l > maxReceived {
			return lost, received
		}
		return whole, ""
	}
	switch { // the crate's clients send copies
	case l <= maxDatagram:
		return whole, ""
	case l+fragFields > maxUDP: // near enough: no size is in between
		return lost, copiesLimit
	case crateOnly:
		return lost, copies
	}
	return whole, ""
}
