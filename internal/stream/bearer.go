package stream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/carrier"
	"github.com/vstp-go/vstp/internal/handshake"
)

const (
	// MaxPacket is the largest frame on a byte stream that carries packets. PROTOCOL §7.14.
	MaxPacket = 64 << 10

	// smallPackets is the buffer of a Bearer on which little comes, where there has to be
	// one before something has come.
	smallPackets = 1 << 10

	// largePackets is what it borrows otherwise: the largest packet, and some of the next.
	largePackets = MaxPacket + 4<<10

	// packetHeader is the length of the header block of a packet, its one field.
	packetHeader = 3 + len(handshake.ConnID{}) + 4
)

var packetPool = sync.Pool{New: func() any { return new([largePackets]byte) }}

// A Bearer is a byte stream behind its handshake that carries the packets of a session
// (PROTOCOL §7.14). One goroutine may read; the rest is for all. While nothing comes it
// has next to no memory, no timer, and no goroutine of its own.
type Bearer struct {
	car    *carrier.Carrier
	done   chan struct{} // closed by Close
	closed atomic.Bool

	// Writing.
	wtok chan struct{} // held by the one who writes

	// Reading.
	rerr   error // final
	raw    rawReader
	small  []byte
	large  *[largePackets]byte
	buf    []byte // small or large
	r, w   int    // buf[r:w] has not been returned
	last   int    // length of what the last call has returned, buf[r:]
	filled bool   // the last read has filled buf: more is to be expected
}

// newBearer returns a Bearer over car, from which ahead was read already.
func newBearer(car *carrier.Carrier, ahead []byte) *Bearer {
	b := &Bearer{car: car, done: make(chan struct{}), wtok: make(chan struct{}, 1)}
	b.raw.init(car.RawConn())
	if len(ahead) > 0 {
		b.room(len(ahead))
		b.w = copy(b.buf, ahead)
	}
	if tc, ok := car.NetConn().(*net.TCPConn); ok {
		tune(tc)
	}
	return b
}

// ReadPacket returns the next packet, a whole frame, valid until the next call. Whose
// packet it is, and whether its CRC is right, is not looked at. At the end of the stream
// the error is io.EOF between two packets, after an ERR a [*handshake.RemoteError], and
// for what is no packet a [*handshake.Error]. All errors are final.
func (b *Bearer) ReadPacket() ([]byte, error) {
	b.r += b.last
	b.last = 0
	if b.closed.Load() && b.rerr == nil {
		b.rerr = net.ErrClosed
	}
	for b.rerr == nil {
		n, err := checkPacket(b.buf[b.r:b.w])
		if err != nil {
			b.rerr = err
			break
		}
		if n <= b.w-b.r {
			p := b.buf[b.r : b.r+n : b.r+n]
			if framing.Type(p[3]) == framing.TypeErr {
				b.rerr = remoteError(p)
				break
			}
			b.last = n
			return p, nil
		}
		b.rerr = b.fill(n)
	}
	b.release()
	b.small, b.buf, b.r, b.w = nil, nil, 0, 0
	if b.closed.Load() {
		return nil, net.ErrClosed
	}
	return nil, b.rerr
}

// Buffered reports whether ReadPacket has another packet without reading from the carrier.
// It is for who reads.
func (b *Bearer) Buffered() bool {
	ahead := b.buf[b.r+b.last : b.w]
	n, err := checkPacket(ahead)
	return err == nil && n <= len(ahead)
}

// checkPacket looks at the beginning of a frame, and returns how long the frame is, or at
// least is: that many bytes are to be had for more. What cannot become a packet is an
// error as early as it shows.
func checkPacket(b []byte) (int, error) {
	f, err := framing.ParseFixed(b)
	switch {
	case err == framing.ErrIncomplete:
		return framing.FixedLen, nil
	case err != nil:
		return 0, violation(err)
	}
	n := f.WireLen(f.Flags.Has(framing.FlagCRC))
	switch {
	case f.Type != framing.TypeData && f.Type != framing.TypeErr:
		return 0, protocolError(framing.CodeUnexpected, f.Type.String()+" among packets")
	case n > MaxPacket:
		return 0, protocolError(framing.CodeTooLarge, "packet")
	case f.Flags&^framing.FlagCRC != 0:
		return 0, protocolError(framing.CodeProtocol, "packet with flags other than CRC")
	case f.Type == framing.TypeErr:
		return int(n), nil
	case f.HeaderLen != packetHeader:
		return 0, protocolError(framing.CodeProtocol, "not a packet")
	case len(b) < framing.FixedLen+3:
		return framing.FixedLen + 3, nil
	case string(b[framing.FixedLen:framing.FixedLen+3]) != "\x01\x0c"+framing.KeyPacket:
		return 0, protocolError(framing.CodeProtocol, "not a packet")
	}
	return int(n), nil
}

// remoteError decodes the frame of an ERR.
func remoteError(p []byte) error {
	f, _, err := framing.Parse(p, 0, framing.TrailerByFlag)
	if err != nil {
		return violation(err)
	}
	return handshake.ParseErr(f)
}

// fill reads once. After as many calls as it takes there are n bytes.
func (b *Bearer) fill(n int) error {
	if b.r == b.w {
		b.r, b.w = 0, 0
		if b.raw.ok() {
			return b.fillRaw()
		}
		if !b.filled {
			b.release()
		}
	}
	b.room(n)
	if b.raw.ok() {
		return b.fillRaw()
	}
	for range maxEmptyReads {
		m, err := b.car.Read(b.buf[b.w:])
		b.w += m
		b.filled = b.w == len(b.buf)
		if m > 0 {
			return nil // an error comes again
		}
		if err != nil {
			return b.readError(err)
		}
	}
	return io.ErrNoProgress
}

// maxEmptyReads bounds how often a carrier may return neither bytes nor an error.
const maxEmptyReads = 100

// fillRaw reads once from a socket. While nothing comes, and nothing is there of a packet,
// there is no buffer.
func (b *Bearer) fillRaw() error {
	n, err := b.raw.read(b)
	b.w += n
	if err != nil {
		return b.readError(err)
	}
	return nil
}

// room makes buf one that holds n bytes from r on, and more.
func (b *Bearer) room(n int) {
	switch {
	case b.large == nil && (b.r+n > smallPackets || b.w == smallPackets || b.filled):
		b.borrow()
	case b.large != nil:
		if b.r+n > largePackets || b.w == largePackets {
			b.w = copy(b.buf, b.buf[b.r:b.w])
			b.r = 0
		}
	case b.small == nil:
		b.small = make([]byte, smallPackets)
		b.buf = b.small
	}
}

// borrow goes on in the large buffer.
func (b *Bearer) borrow() {
	b.large = packetPool.Get().(*[largePackets]byte)
	b.w = copy(b.large[:], b.buf[b.r:b.w])
	b.r = 0
	b.buf = b.large[:]
}

// release gives the large buffer back.
func (b *Bearer) release() {
	if b.large != nil {
		packetPool.Put(b.large)
		b.large = nil
		b.buf = b.small
	}
}

// readError is err as ReadPacket returns it.
func (b *Bearer) readError(err error) error {
	if err == io.EOF && b.r < b.w {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write sends whole frames. It blocks for as long as that takes; only Close ends it
// before. An error is final.
func (b *Bearer) Write(p []byte) error {
	select {
	case b.wtok <- struct{}{}:
	case <-b.done:
		return net.ErrClosed
	}
	if b.closed.Load() {
		<-b.wtok
		return net.ErrClosed
	}
	err := b.car.WriteAll(p)
	<-b.wtok
	if err != nil && b.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// Close ends the byte stream. Blocked calls return net.ErrClosed. What was written is on
// its way, but may be lost if something of the peer's is unread.
func (b *Bearer) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	close(b.done)
	err := b.car.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Abort is Close for a byte stream that takes nothing: what was written is dropped, so that
// the system does not go on trying to send it.
func (b *Bearer) Abort() error {
	if tc, ok := b.car.NetConn().(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
	return b.Close()
}

// TLSState returns the state of the TLS connection, nil in plaintext.
func (b *Bearer) TLSState() *tls.ConnectionState { return tlsState(b.car) }

// LocalAddr returns the address of the carrier.
func (b *Bearer) LocalAddr() net.Addr { return b.car.LocalAddr() }

// RemoteAddr returns the peer's address on the carrier.
func (b *Bearer) RemoteAddr() net.Addr { return b.car.RemoteAddr() }

// NetConn returns the carrier's connection.
func (b *Bearer) NetConn() net.Conn { return b.car.NetConn() }
