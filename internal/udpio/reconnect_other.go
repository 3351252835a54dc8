//go:build !linux

package udpio

import (
	"errors"
	"net"
	"syscall"
)

const canReconnect = false

func reconnect(syscall.RawConn, *net.UDPAddr, bool) (*net.UDPAddr, error) {
	return nil, errors.ErrUnsupported
}
