//go:build !amd64 || purego

package framing

const wide = false

func checksumWide(state uint32, p []byte) uint32 { panic("BUG: there is none") }
