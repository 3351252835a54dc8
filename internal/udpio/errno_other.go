//go:build !windows

package udpio

import "syscall"

func kindOfErrno(e syscall.Errno) errorKind {
	switch e {
	case syscall.ECONNREFUSED, syscall.ECONNRESET:
		return kindRefused
	case syscall.EMSGSIZE:
		return kindTooLarge
	case syscall.EAGAIN, syscall.ENOBUFS:
		return kindAgain
	case syscall.EPERM:
		return kindPermission
	case syscall.EBADF:
		return kindClosed
	case syscall.ENOTSOCK, syscall.EFAULT:
		return kindFatal
	}
	return kindOther
}
