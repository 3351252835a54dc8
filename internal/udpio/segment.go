package udpio

// firstSegment cuts the first datagram off b. segSize 0 means that b is one.
func firstSegment(b []byte, segSize int) (segment, rest []byte) {
	if segSize <= 0 || segSize >= len(b) {
		return b, nil
	}
	return b[:segSize:segSize], b[segSize:]
}

// firstBatch cuts as many whole datagrams off b as one call with UDP_SEGMENT carries:
// at most maxSegments and maxPayload bytes, but at least one.
func firstBatch(b []byte, segSize int) (batch, rest []byte) {
	if segSize <= 0 || segSize >= len(b) {
		return b, nil
	}
	n := max(1, min(maxSegments, maxPayload/segSize)) * segSize
	if n >= len(b) {
		return b, nil
	}
	return b[:n:n], b[n:]
}
