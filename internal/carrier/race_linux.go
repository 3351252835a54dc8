//go:build race

package carrier

import "syscall"

// syncWrite tells the race detector, which does not follow package unix, that what was done
// before is known to who reads what is written now; syncRead is the other half.
func syncWrite(fd int) { syscall.Write(fd, nil) }

func syncRead(fd int) { syscall.Read(fd, nil) }
