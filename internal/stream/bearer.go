package stream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/carrier"
	"github.com/vstp-go/vstp/internal/handshake"
)

const (
	// MaxPacket is the largest frame on a byte stream that carries packets. PROTOCOL §7.14.
	MaxPacket = 64<<10 + 1<<10

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
	wtok   chan struct{} // held by the one who writes
	one    [1][]byte     // backing store of bufs
	bufs   net.Buffers
	unsent unsent

	// Reading.
	rerr   error // final
	raw    rawReader
	small  []byte
	large  *[largePackets]byte
	buf    []byte // small or large
	r, w   int    // buf[r:w] has not been returned
	last   int    // length of what the last call has returned, buf[r:]
	filled bool   // the last read has filled buf: more is to be expected
	direct bool   // the last packet went past buf: the next one may, too
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
		limitUnsent(tc, minUnsent)
	}
	return b
}

// ReadPacket returns the next packet, a whole frame, valid until the next call. Whose
// packet it is, and whether its CRC is right, is not looked at. At the end of the stream
// the error is io.EOF between two packets, after an ERR a [*handshake.RemoteError], and
// for what is no packet a [*handshake.Error]. All errors are final but that of a deadline.
func (b *Bearer) ReadPacket() ([]byte, error) {
	b.direct = false
	p, _, _, err := b.ReadPacketTo(nil, nil)
	return p, err
}

// ReadPacketTo is ReadPacket, but where plan says that n bytes of the packet from at on, all
// that there are but for the CRC, are to be in p, they are read to there. Then n is not 0, and
// packet is what is in front of them, and trailer what is behind. Plan gets the beginning
// of a packet. If nothing is to be in p, n is 0, and whatever p holds means nothing.
func (b *Bearer) ReadPacketTo(p []byte, plan func(begin []byte) (at, n int)) (packet []byte, n int, trailer []byte, err error) {
	b.r += b.last
	b.last = 0
	if b.closed.Load() && b.rerr == nil {
		b.rerr = net.ErrClosed
	}
	for b.rerr == nil {
		begin := b.buf[b.r:b.w]
		size, err := checkPacket(begin)
		if err != nil {
			b.rerr = err
			break
		}
		if size <= len(begin) {
			packet := begin[:size:size]
			if framing.Type(packet[3]) == framing.TypeErr {
				b.rerr = remoteError(packet)
				break
			}
			b.last, b.direct = size, false
			return packet, 0, nil, nil
		}
		if size >= minDirect && len(p) >= minDirect && len(begin) > framing.FixedLen+packetHeader {
			at, n := plan(begin)
			if b.direct = n >= minDirect && n <= len(p); b.direct {
				packet, trailer, err = b.readPast(p[:n], at, size-at-n)
				if err == nil {
					return packet, n, trailer, nil
				}
			}
		}
		if err == nil {
			err = b.fill(size)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !b.closed.Load() {
			return nil, 0, nil, err
		}
		b.rerr = err
	}
	b.release()
	b.small, b.buf, b.r, b.w = nil, nil, 0, 0
	if b.closed.Load() {
		return nil, 0, nil, net.ErrClosed
	}
	return nil, 0, nil, b.rerr
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

// limit is where a read into buf ends.
func (b *Bearer) limit() int {
	if b.direct && b.w-b.r < beginLen {
		return min(len(b.buf), b.r+beginLen)
	}
	return len(b.buf)
}

// fill reads once. After as many calls as it takes there are n bytes.
func (b *Bearer) fill(n int) error {
	if b.direct {
		n = min(n, beginLen)
		b.filled = false
	}
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
		m, err := b.car.Read(b.buf[b.w:b.limit()])
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
	if err := b.beginWrite(); err != nil {
		return err
	}
	b.one[0] = p
	b.bufs = b.one[:]
	err := b.car.WriteAll(&b.bufs)
	b.one[0] = nil
	<-b.wtok
	return b.writeError(err)
}

// WriteBuffers is Write for frames in pieces. It uses bufs and its elements up.
func (b *Bearer) WriteBuffers(bufs *net.Buffers) error {
	if err := b.beginWrite(); err != nil {
		return err
	}
	b.unsent.begin(time.Now())
	b.unsent.bytes += buffered(*bufs)
	err := b.car.WriteAll(bufs)
	b.measureUnsent()
	<-b.wtok
	return b.writeError(err)
}

// beginWrite takes wtok.
func (b *Bearer) beginWrite() error {
	select {
	case b.wtok <- struct{}{}:
	case <-b.done:
		return net.ErrClosed
	}
	if b.closed.Load() {
		<-b.wtok
		return net.ErrClosed
	}
	return nil
}

// TryWrite sends what there is room for at once, and takes it from the front of bufs. If that
// is not all, it is not done, and WriteBuffers has to be called with the rest, even if bufs is
// empty, before anything else is written.
func (b *Bearer) TryWrite(bufs *net.Buffers) (done bool, err error) {
	select {
	case b.wtok <- struct{}{}:
	default:
		return false, nil
	}
	if b.closed.Load() {
		<-b.wtok
		return false, net.ErrClosed
	}
	b.unsent.bytes += buffered(*bufs)
	done, err = b.car.TryWrite(bufs)
	b.unsent.bytes -= buffered(*bufs)
	<-b.wtok
	return done, b.writeError(err)
}

func (b *Bearer) writeError(err error) error {
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
