package endpoint

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/vstp-go/vstp/internal/udpio"
	"github.com/vstp-go/vstp/reliable"
)

// resetToken is what proves to the peer of the association id that this end does not
// know it any more. PROTOCOL §8.10.
//
// It depends on the address too at which the peer reaches this socket. Sockets that share a
// key, as those of one certificate do, would give away each other's tokens otherwise: to
// whoever sees an id, and sends a packet with it where it is not known. RFC 9000 §21.11.
func (e *Endpoint) resetToken(id reliable.ConnID, local udpio.Local) (token [16]byte) {
	h := hmac.New(sha256.New, e.resetKey[:])
	h.Write(id[:])
	if e.cfg.ServerTLS != nil { // of a socket that only dials the key is its own, see New
		addr, port := local.Addr, uint16(0)
		if u, ok := e.LocalAddr().(*net.UDPAddr); ok {
			port = uint16(u.Port)
			if ip, ok := netip.AddrFromSlice(u.IP); ok && !addr.IsValid() && !ip.IsUnspecified() {
				addr = ip.Unmap() // a socket at one address need not look where packets arrive
			}
		}
		h.Write(binary.BigEndian.AppendUint16(nil, port))
		h.Write(addr.AsSlice())
	}
	copy(token[:], h.Sum(nil))
	return token
}

// resetBy reports whether an ERR about an unknown id ends s: with TLS, only one with the
// token that the peer has given. Session.mu is held.
func (s *Session) resetBy(token *[16]byte, hasToken bool) bool {
	if s.tls == nil {
		return true
	}
	return hasToken && s.hasPeerToken && subtle.ConstantTimeCompare(token[:], s.peerToken[:]) == 1
}
