package vstp

import "strings"

// A networkKind is what a network's name promises.
type networkKind uint8

const (
	unknownNetwork  networkKind = iota
	streamNetwork               // a byte stream of the operating system
	messageNetwork              // messages on datagrams
	reliableNetwork             // a byte stream on datagrams
	autoNetwork                 // a byte stream that moves between both
)

// kindOf returns what network is.
func kindOf(network string) networkKind {
	switch network {
	case "tcp", "tcp4", "tcp6", "unix":
		return streamNetwork
	case "udp", "udp4", "udp6":
		return messageNetwork
	case "rudp", "rudp4", "rudp6":
		return reliableNetwork
	case "auto", "auto4", "auto6":
		return autoNetwork
	}
	return unknownNetwork
}

// udpNetwork returns the network of UDP underneath.
func udpNetwork(network string) string { return "udp" + addressFamily(network) }

// tcpNetwork returns the network of TCP underneath.
func tcpNetwork(network string) string { return "tcp" + addressFamily(network) }

// addressFamily returns the "4" or "6" at the end of network, if there is one.
func addressFamily(network string) string { return strings.TrimLeft(network, "acdoprtu") }
