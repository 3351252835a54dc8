package vstp

import "strings"

// A networkKind is what a network's name promises.
type networkKind uint8

const (
	unknownNetwork  networkKind = iota
	streamNetwork               // a byte stream of the operating system
	messageNetwork              // messages on datagrams
	reliableNetwork             // a byte stream on datagrams
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
	}
	return unknownNetwork
}

// udpNetwork returns the network underneath one of the two datagram kinds.
func udpNetwork(network string) string { return strings.TrimPrefix(network, "r") }
