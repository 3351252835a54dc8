//go:build unix && !solaris && !illumos && !aix

package fileproto

import (
	"os"
	"syscall"
)

// openNonblock keeps open from waiting for the other end of a FIFO.
const openNonblock = syscall.O_NONBLOCK

// closeBeforeRename would open a gap in which another transfer can lock a partial
// file that is about to get its final name.
const closeBeforeRename = false

// lockFile locks f as long as it is open, or returns errBusy.
func lockFile(f *os.File) error {
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return nil
	case syscall.EWOULDBLOCK:
		return errBusy
	default:
		return nil // some network file systems have no locks
	}
}
