//go:build !race

package udpio

const poison = false

func ioRelease() {}
func ioAcquire() {}
