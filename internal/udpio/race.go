//go:build race

package udpio

import "sync/atomic"

// poison has handed out memory overwritten when it is used again, to find those who
// keep it.
const poison = true

// ioSync orders what was done before a datagram was sent before what is done after one
// was received, as package syscall does for its own reads and writes: programs whose two
// ends are in one process rely on it without knowing.
var ioSync atomic.Uint64

func ioRelease() { ioSync.Add(1) }
func ioAcquire() { ioSync.Load() }
