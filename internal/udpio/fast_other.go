//go:build !linux

package udpio

import "syscall"

// newFast returns nil: there is no fast path on this system.
func newFast(*Conn, syscall.RawConn) socketIO { return nil }
