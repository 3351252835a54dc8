package framing

import "hash/crc32"

// Checksum continues a CRC32 (IEEE), begun with 0, over p. The trailer of a frame is
// the checksum of all bytes before it.
func Checksum(crc uint32, p []byte) uint32 {
	if len(p) >= minWide && wide {
		n := len(p) &^ 15
		crc = ^checksumWide(^crc, p[:n])
		if p = p[n:]; len(p) == 0 {
			return crc
		}
	}
	return crc32.Update(crc, crc32.IEEETable, p)
}

// minWide is the length from which checksumWide is worth its beginning and end.
const minWide = 256
