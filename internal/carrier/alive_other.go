//go:build !linux

package carrier

import "time"

// Responsive reports whether the peer's host still answers although its application
// takes nothing. Only Linux tells; elsewhere the TCP retransmission timeout has to do.
func (c *Carrier) Responsive(time.Duration) bool { return true }
