package stream

import (
	"io"
	"time"

	"github.com/vstp-go/vstp/framing"
)

const (
	// minDirect is the size from which bytes of a packet are read past the buffer.
	minDirect = 4 << 10

	// beginLen is how much of a packet is read to find out where its bytes belong, while
	// packets go past the buffer: all that can be in front of them.
	beginLen = 48
)

// readPast reads the bytes of a packet that begin at b.buf[b.r+at], as far as they are there,
// to p, and the trailer, and of the next packet what comes with that, to the buffer. After
// an error everything that has come is in the buffer.
func (b *Bearer) readPast(p []byte, at, trailer int) (packet, tail []byte, err error) {
	have := copy(p, b.buf[b.r+at:b.w])
	rest := b.buf[b.r+at+have : b.w] // a part of the trailer
	if b.r > 0 {
		copy(b.buf, b.buf[b.r:b.r+at])
		b.r = 0
	}
	b.w = at + copy(b.buf[at:], rest)
	ahead := beginLen
	if !b.car.CanReadv() {
		ahead = 0
	}
	for have < len(p) || b.w-at < trailer {
		n, err := b.readBoth(p[have:], b.buf[b.w:at+trailer+ahead])
		k := min(n, len(p)-have)
		have += k
		b.w += n - k
		if err != nil && n == 0 {
			b.unread(p[:have], at)
			return nil, nil, b.readError(err)
		}
	}
	b.filled = false
	b.last = at + trailer
	return b.buf[:at:at], b.buf[at : at+trailer : at+trailer], nil
}

// readBoth reads once: to p, and what there is more to q.
func (b *Bearer) readBoth(p, q []byte) (n int, err error) {
	for range maxEmptyReads {
		switch {
		case len(p) == 0:
			n, err = b.car.Read(q)
		case b.car.CanReadv():
			n, err = b.car.Readv(p, q)
		default:
			n, err = b.car.Read(p)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// unread puts p, which belongs at b.buf[at], in front of what is there.
func (b *Bearer) unread(p []byte, at int) {
	var rest [framing.TrailerLen + beginLen]byte
	n := copy(rest[:], b.buf[at:b.w])
	b.w = at
	if b.large == nil {
		b.borrow()
	}
	b.w += copy(b.buf[at:], p)
	b.w += copy(b.buf[b.w:], rest[:n])
	b.direct = false
}

// SetReadDeadline ends a ReadPacket or ReadPacketTo that waits, which may be called again
// then.
func (b *Bearer) SetReadDeadline(t time.Time) error { return b.car.SetReadDeadline(t) }
