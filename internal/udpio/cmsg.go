package udpio

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Control messages as Linux has them: cmsghdr is a length (size_t), a level and a
// type (int), then the data; everything is aligned to size_t (cmsg(3)). They are put
// together and taken apart here, without system packages, to be tested everywhere.
const (
	cmsgAlign  = strconv.IntSize / 8
	cmsgHeader = cmsgAlign + 8

	levelIP   = 0
	levelUDP  = 17
	levelIPv6 = 41

	typePktinfo4 = 8   // IP_PKTINFO: int index, in_addr spec_dst, in_addr addr
	typePktinfo6 = 50  // IPV6_PKTINFO: in6_addr addr, uint index
	typeSegment  = 103 // UDP_SEGMENT: uint16
	typeGRO      = 104 // UDP_GRO: int
)

// controlSpace holds what is received with one packet or sent with it.
const controlSpace = 128

func align(n int) int { return (n + cmsgAlign - 1) &^ (cmsgAlign - 1) }

// parseControl takes from control messages what it knows and skips the rest.
func parseControl(b []byte) (local Local, segSize int) {
	for len(b) >= cmsgHeader {
		size := cmsgSize(b)
		if size < cmsgHeader || size > len(b) {
			return local, segSize
		}
		level := int32(binary.NativeEndian.Uint32(b[cmsgAlign:]))
		kind := int32(binary.NativeEndian.Uint32(b[cmsgAlign+4:]))
		data := b[cmsgHeader:size]
		switch {
		case level == levelIP && kind == typePktinfo4 && len(data) >= 12:
			// spec_dst, not addr: for a broadcast it is the address to answer from.
			local.Index = int(int32(binary.NativeEndian.Uint32(data)))
			local.Addr = netip.AddrFrom4([4]byte(data[4:8]))
		case level == levelIPv6 && kind == typePktinfo6 && len(data) >= 20:
			local.Addr = netip.AddrFrom16([16]byte(data[:16])).Unmap()
			local.Index = int(int32(binary.NativeEndian.Uint32(data[16:])))
		case level == levelUDP && kind == typeGRO && len(data) >= 4:
			segSize = int(int32(binary.NativeEndian.Uint32(data)))
		case level == levelUDP && kind == typeGRO && len(data) >= 2:
			segSize = int(binary.NativeEndian.Uint16(data))
		}
		b = b[min(align(size), len(b)):]
	}
	return local, segSize
}

// cmsgSize is the length that a message has by its header, -1 if that is nonsense.
func cmsgSize(b []byte) int {
	if cmsgAlign == 4 {
		return int(int32(binary.NativeEndian.Uint32(b)))
	}
	return int(int64(binary.NativeEndian.Uint64(b)))
}

// appendCmsg appends a message with n bytes of zeros as data, and returns these too.
func appendCmsg(b []byte, level, kind uint32, n int) (control, data []byte) {
	if cmsgAlign == 4 {
		b = binary.NativeEndian.AppendUint32(b, uint32(cmsgHeader+n))
	} else {
		b = binary.NativeEndian.AppendUint64(b, uint64(cmsgHeader+n))
	}
	b = binary.NativeEndian.AppendUint32(b, level)
	b = binary.NativeEndian.AppendUint32(b, kind)
	start := len(b)
	for range align(n) {
		b = append(b, 0)
	}
	return b, b[start : start+n]
}

// appendSource has a packet sent from an address. The interface is left to the routing
// table, except where an address means nothing without one: a packet may well arrive
// at one interface and be answered through another.
func appendSource(b []byte, from Local) []byte {
	var data []byte
	if from.Addr.Is4() {
		b, data = appendCmsg(b, levelIP, typePktinfo4, 12)
		a := from.Addr.As4()
		copy(data[4:], a[:])
		return b
	}
	b, data = appendCmsg(b, levelIPv6, typePktinfo6, 20)
	a := from.Addr.As16()
	copy(data, a[:])
	if hasScope(from.Addr) {
		binary.NativeEndian.PutUint32(data[16:], uint32(from.Index))
	}
	return b
}

// appendSegmentSize has the kernel cut what is sent.
func appendSegmentSize(b []byte, segSize int) []byte {
	b, data := appendCmsg(b, levelUDP, typeSegment, 2)
	binary.NativeEndian.PutUint16(data, uint16(segSize))
	return b
}
