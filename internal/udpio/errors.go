package udpio

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// errorKind is what an error of the socket means to us.
type errorKind int

const (
	kindNone       errorKind = iota
	kindOther                // transient
	kindClosed               // the conn was closed, by us or its owner
	kindFatal                // there is no socket any more
	kindRefused              // ICMP told of an earlier datagram
	kindTooLarge             // the datagram, read or written, is too large
	kindAgain                // no room in the send buffer or the device's queue
	kindPermission           // EPERM: a packet filter, or a kernel's mistake, trap U5
)

func kindOf(err error) errorKind {
	switch {
	case err == nil:
		return kindNone
	case err == ErrAgain:
		return kindAgain
	case err == ErrTooLarge:
		return kindTooLarge
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return kindOfErrno(errno)
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return kindClosed
	}
	return kindOther
}
