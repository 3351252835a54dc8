package udpio

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
)

var errAddr = errors.New("udpio: not an address")

// An Addr is the address of a peer. Its AddrPort is the key to keep peers by: an IPv4
// address is never mapped to IPv6, and only link-local addresses have a zone.
type Addr struct {
	netip.AddrPort

	// Other is set for a peer whose address is no *net.UDPAddr. AddrPort then is a
	// stand-in that only this address has.
	Other net.Addr
}

// standIn is in the discard prefix, RFC 6666: no packet comes from there. AddrOf takes
// the zone from every real address in it, so that none looks like a stand-in.
var standIn = netip.MustParseAddr("100::")

// AddrOf returns the Addr of a.
func AddrOf(a net.Addr) (Addr, error) {
	switch u := a.(type) {
	case nil:
		return Addr{}, errAddr
	case *net.UDPAddr:
		if u == nil {
			return Addr{}, errAddr
		}
		ap := canonical(u.AddrPort())
		if !ap.IsValid() {
			return Addr{}, errAddr
		}
		return Addr{AddrPort: ap}, nil
	}
	zone := a.Network() + " " + a.String()
	return Addr{AddrPort: netip.AddrPortFrom(standIn.WithZone(zone), 0), Other: a}, nil
}

// NetAddr returns a *net.UDPAddr, or Other if that is set.
func (a Addr) NetAddr() net.Addr {
	if a.Other != nil {
		return a.Other
	}
	// As net.UDPAddrFromAddrPort, in one piece of memory: there is one for each message.
	u := new(struct {
		net.UDPAddr
		ip [16]byte
	})
	ip := a.Addr()
	switch {
	case ip.Is4():
		b := ip.As4()
		u.IP = u.ip[:copy(u.ip[:], b[:]):4]
	case ip.IsValid():
		u.ip = ip.As16()
		u.IP = u.ip[:]
	}
	u.Port, u.Zone = int(a.Port()), ip.Zone()
	return &u.UDPAddr
}

// canonical gives each address the one form that is used as key, trap U8.
func canonical(ap netip.AddrPort) netip.AddrPort {
	ip := ap.Addr()
	if ip.Is4() {
		return ap
	}
	ip = ip.Unmap()
	if zone := ip.Zone(); zone != "" {
		ip = ip.WithZone("")
		if hasScope(ip) {
			ip = ip.WithZone(canonicalZone(zone))
		}
	}
	return netip.AddrPortFrom(ip, ap.Port())
}

// hasScope reports whether an address means something only on one interface, RFC 4007
// section 4.
func hasScope(ip netip.Addr) bool {
	return ip.Is6() && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsInterfaceLocalMulticast())
}

// canonicalZone names an interface given by its number, as packet addresses are.
func canonicalZone(zone string) string {
	if index, err := strconv.Atoi(zone); err == nil && index > 0 {
		return zoneName(index)
	}
	return zone
}

// zoneName is the name of an interface, or its number if it has none.
func zoneName(index int) string {
	if ifi, err := net.InterfaceByIndex(index); err == nil {
		return ifi.Name
	}
	return strconv.Itoa(index)
}
