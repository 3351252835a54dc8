//go:build !linux && !darwin && !freebsd && !windows

package udpio

import "syscall"

// tune leaves the socket as it is.
func tune(syscall.RawConn, int) socketInfo { return socketInfo{} }
