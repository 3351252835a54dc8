//go:build amd64 && !purego

package framing

import "golang.org/x/sys/cpu"

// wide reports whether the CPU multiplies polynomials four at a time. hash/crc32 does one
// at a time, which on a fast carrier is a sixth of what a transfer costs.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasPCLMULQDQ

// foldBy are the factors with which 128 bits move to where others lie, by that many bits:
// x^(n+32) for their first half and x^(n-32) for the second, modulo the CRC's polynomial,
// with the bits in the order of the wire.
var foldBy = [...][2]uint64{
	{0x11542778a, 0x1322d1430}, // 2048 bits
	{0x154442bd4, 0x1c6e41596}, // 512
	{0x1751997d0, 0x0ccaa009e}, // 128
	{0x163cd6124, 0},           // x^64: 96 bits to 64
	{0x1f7011641, 0x1db710641}, // x^64 divided by the polynomial, and the polynomial
}

// checksumWide continues the state of a CRC, which is the CRC inverted, over p: at least 256
// bytes, and a multiple of 16.
//
//go:noescape
func checksumWide(state uint32, p []byte) uint32
