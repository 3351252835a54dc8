package endpoint

import (
	"errors"
	"io"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/reliable"
)

// A bearer is a byte stream that is attached to a session. Session.mu guards what it
// has beside the Bearer.
type bearer struct {
	Bearer
	writing bool      // a goroutine has what there is to send
	since   time.Time // when it has begun with what it is writing
	begun   time.Time // when it was attached
	closing bool      // it is closed when what is being written has gone out, or soon
}

// flushStream sends what the engine has for the byte stream. A goroutine does it, as that
// may take long, which ends when nothing is left. Session.mu is held.
func (s *Session) flushStream(now time.Time) {
	b := s.mob.bearer
	if b == nil || b.writing {
		return
	}
	buf := streamBatches.Get().(*[streamBatch]byte)
	p := s.fillStream(now, buf[:0])
	if len(p) == 0 {
		streamBatches.Put(buf)
		return
	}
	b.writing, b.since = true, now
	go s.pump(b, buf, p)
}

// fillStream makes the frames of one write. Session.mu is held.
func (s *Session) fillStream(now time.Time, p []byte) []byte {
	m := s.mob
	if len(m.asideFrame) > 0 {
		p = append(p, m.asideFrame...)
		m.asideFrame = nil
		s.stats.pktsOut++
	}
	for len(p)+reliable.MaxFrame <= streamBatch {
		n := len(p)
		if p = s.eng.AppendFrame(now, p); len(p) == n {
			break
		}
		s.stats.pktsOut++
	}
	s.stats.wireOut += uint64(len(p))
	return p
}

// pump writes p, in buf, and what comes meanwhile to b.
func (s *Session) pump(b *bearer, buf *[streamBatch]byte, p []byte) {
	for len(p) > 0 {
		err := b.Write(p)
		s.mu.Lock()
		now := time.Now()
		if err != nil {
			b.writing = false
			s.streamGone(now, b, err)
			s.flush(now)
			break
		}
		if s.mob.bearer != b || s.removed {
			b.writing = false
			break
		}
		if p = s.fillStream(now, buf[:0]); len(p) > 0 {
			b.since = now
			s.mu.Unlock()
			continue
		}
		b.writing = false
		s.events()
		s.arm(now)
	}
	streamBatches.Put(buf)
	gone := s.gone()
	s.mu.Unlock()
	if gone {
		s.ep.remove(s)
	}
}

// Why this side ends a byte stream.
var (
	errStalled     = errors.New("it is stalled")
	errDeadStandby = errors.New("the standby does not answer")
)

// errStranger ends a byte stream with packets of somebody else.
var errStranger = &handshake.Error{Code: framing.CodeProtocol, Reason: "packet of another association"}

// maxReadAhead is how many packets that came at once are taken at once.
const maxReadAhead = 64

// readStream gives the engine what comes on b, until that ends.
func (s *Session) readStream(b *bearer) {
	for {
		p, err := b.ReadPacket()
		s.mu.Lock()
		now := time.Now()
		for n := 1; ; n++ {
			if err == nil && s.mob.bearer == b && !s.removed {
				err = s.receiveFrame(now, b, p)
			} else if err == nil {
				err = io.EOF // it is not ours any more
			}
			if err != nil || n == maxReadAhead || !b.Buffered() {
				break
			}
			p, err = b.ReadPacket()
		}
		if err != nil {
			s.streamGone(now, b, err)
		}
		s.events()
		if !s.removed {
			s.watchIfDue(now)
			s.flush(now)
		}
		gone := s.gone()
		s.mu.Unlock()
		if gone {
			s.ep.remove(s)
		}
		if err != nil {
			b.Close()
			return
		}
	}
}

// receiveFrame takes a packet of the byte stream. Session.mu is held.
func (s *Session) receiveFrame(now time.Time, b *bearer, p []byte) error {
	if id, _, kind := handshake.RouteID(p); kind != handshake.KindPacket || reliable.ConnID(id) != s.id {
		return errStranger
	}
	s.stats.pktsIn++
	s.stats.wireIn += uint64(len(p))
	if got := s.eng.ReceiveFrame(now, p); !got.Opened {
		return errStranger
	}
	s.arrived(now, reliable.ByteStream)
	s.heard = now
	return nil
}

// streamGone notes that a byte stream has ended. The session goes on without it.
// Session.mu is held.
func (s *Session) streamGone(now time.Time, b *bearer, err error) {
	m := s.mob
	if err == errStalled || err == errDeadStandby {
		go b.Abort()
	} else {
		go b.Close()
	}
	if m.bearer != b {
		return
	}
	m.bearer = nil
	m.lost = true
	m.probes[reliable.ByteStream] = probing{}
	m.asideFrame = nil
	s.eng.SetAttached(now, reliable.ByteStream, false)
	if s.ended == nil && !errors.Is(err, io.EOF) {
		s.ep.warn("vstp: a byte stream has ended", "err", err)
	}
	a := &m.attach
	if now.Sub(b.begun) >= steadyStream {
		a.delay = 0
	}
	a.after = now.Add(a.delay)
	s.slower(firstAgain)
	s.wantAttach(now)
	s.watch(now)
}
