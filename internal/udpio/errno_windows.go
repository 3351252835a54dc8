package udpio

import "syscall"

// Codes of Winsock that package syscall does not name.
const (
	wsaEWOULDBLOCK  syscall.Errno = 10035
	wsaENOTSOCK     syscall.Errno = 10038
	wsaEMSGSIZE     syscall.Errno = 10040
	wsaENETRESET    syscall.Errno = 10052
	wsaECONNRESET   syscall.Errno = 10054
	wsaENOBUFS      syscall.Errno = 10055
	wsaECONNREFUSED syscall.Errno = 10061
)

func kindOfErrno(e syscall.Errno) errorKind {
	switch e {
	case wsaECONNRESET, wsaENETRESET, wsaECONNREFUSED:
		return kindRefused
	case wsaEMSGSIZE:
		return kindTooLarge
	case wsaEWOULDBLOCK, wsaENOBUFS:
		return kindAgain
	case wsaENOTSOCK:
		return kindClosed
	}
	return kindOther
}
