package endpoint

import (
	"errors"
	"io"
	"net"
	"sync"
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
	turns   streamTurns
}

// A streamWrite is what one write to a byte stream carries.
type streamWrite struct {
	vec  reliable.FrameVector
	all  net.Buffers // memory of bufs
	bufs net.Buffers // what has not been written
	mem  [streamBatch]byte
}

// streamBatch is how many bytes one write to a byte stream carries, at most.
const streamBatch = 4 * reliable.MaxFrame

// inlineWrites is how many writes flushStream does itself. Then a goroutine takes over:
// whoever flushes has something else to do.
const inlineWrites = 4

var streamWrites = sync.Pool{New: func() any { return new(streamWrite) }}

// flushStream sends what the engine has for the byte stream. What there is no room for at
// once is for a goroutine, as that may take long, which ends when nothing is left. Session.mu
// is held, and is released for each write.
func (s *Session) flushStream(now time.Time) {
	b := s.mob.bearer
	if b == nil || b.writing {
		return
	}
	w := streamWrites.Get().(*streamWrite)
	for n := 0; s.fillStream(now, w); n++ {
		b.writing, b.since = true, now
		if n == inlineWrites {
			go s.pump(b, w)
			return
		}
		s.mu.Unlock()
		done, err := b.TryWrite(&w.bufs)
		s.mu.Lock()
		if !done || err != nil { // the error comes again
			go s.pump(b, w)
			return
		}
		now = time.Now()
		s.eng.Written(&w.vec)
		b.writing = false
		if s.mob.bearer != b || s.removed {
			break
		}
	}
	streamWrites.Put(w)
}

// fillStream makes the frames of one write, and reports whether there are any. Session.mu is
// held.
func (s *Session) fillStream(now time.Time, w *streamWrite) bool {
	m, v := s.mob, &w.vec
	v.Init(w.mem[:])
	if len(m.asideFrame) > 0 {
		v.Append(m.asideFrame)
		m.asideFrame = nil
		s.stats.pktsOut++
	}
	for v.Len()+reliable.MaxFrame <= streamBatch && s.eng.AppendFrames(now, v) {
		s.stats.pktsOut++
	}
	if v.Len() == 0 {
		return false
	}
	s.stats.wireOut += uint64(v.Len())
	w.all = v.Pieces(w.all[:0])
	w.bufs = w.all
	return true
}

// pump writes w, and what comes meanwhile, to b.
func (s *Session) pump(b *bearer, w *streamWrite) {
	for {
		err := b.WriteBuffers(&w.bufs)
		s.mu.Lock()
		now := time.Now()
		s.eng.Written(&w.vec)
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
		if s.fillStream(now, w) {
			b.since = now
			s.mu.Unlock()
			continue
		}
		b.writing = false
		s.events()
		s.arm(now)
		break
	}
	clear(w.all)
	streamWrites.Put(w)
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
	s.letGo(b)
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
