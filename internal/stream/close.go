package stream

import (
	"io"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
	"github.com/vstp-go/vstp/internal/session"
)

// drainBuffer is the size of the buffer with which a closed session reads what the
// peer still sends.
const drainBuffer = 4 << 10

// Close ends the session. What Write and SendMessage have accepted is handed to the
// carrier, with BYE behind it, which takes at most Config.Linger; the error is
// ErrUnsent if that was not enough. What the peer still sends is read and dropped in
// the background for as long again, because closing a TCP connection with unread
// data in it would destroy what is on its way to the peer.
func (s *Session) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	s.stopService()
	s.changed()
	established := s.hsDone.Load()
	if established {
		s.armRead(aLongTimeAgo)
		s.armWrite(aLongTimeAgo)
	}
	s.mu.Unlock()
	if !established {
		s.hsEnd(errClosed)
		if s.hsStarted.CompareAndSwap(false, true) {
			s.hsErr = errClosed
			close(s.hsCh)
		}
		return s.car.Close()
	}
	if s.auto != nil {
		return s.closePackets(nil)
	}
	return s.end(nil)
}

// CloseWithError ends the session and tells the peer why, with an ERR frame.
func (s *Session) CloseWithError(code framing.ErrorCode, reason string) error {
	if !s.hsDone.Load() {
		return s.Close()
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	s.stopService()
	s.changed()
	s.armRead(aLongTimeAgo)
	s.armWrite(aLongTimeAgo)
	s.mu.Unlock()
	cause := &handshake.Error{Code: code, Reason: reason}
	if s.auto != nil {
		return s.closePackets(cause)
	}
	return s.end(cause)
}

// fail ends the session because of err. If local is not nil the peer is told; an ERR
// of the peer's is not answered.
func (s *Session) fail(err error, local *handshake.Error) {
	s.mu.Lock()
	s.endReading(err)
	if s.werr == nil || s.werr == session.ErrWriteClosed || s.werr == session.ErrPeerClosed {
		s.werr = err
	}
	s.stopService()
	closed := s.closed
	if !closed {
		s.armRead(aLongTimeAgo)
		s.armWrite(aLongTimeAgo)
	}
	s.mu.Unlock()
	if closed {
		return // Close is at it
	}
	if local == nil || s.result.Legacy { // the crate would take ERR for data
		if done := s.beginEnd(); done != nil {
			s.car.Close()
			close(done)
		}
		return
	}
	go s.end(local)
}

// beginEnd returns a channel for the first one who ends the carrier to close when
// that is done. It waits for the first one and returns nil for everybody else. No
// sync.Once: in a synctest bubble, time stands still while its mutex is waited for.
func (s *Session) beginEnd() chan struct{} {
	s.mu.Lock()
	done, first := s.ending, s.ending == nil
	if first {
		done = make(chan struct{})
		s.ending = done
	}
	s.mu.Unlock()
	if first {
		return done
	}
	<-done
	return nil
}

// end ends the carrier, once: with BYE, or with ERR if cause is not nil.
func (s *Session) end(cause *handshake.Error) error {
	done := s.beginEnd()
	if done == nil {
		return nil
	}
	defer close(done)
	if s.cfg.Linger <= 0 {
		return s.car.Close()
	}
	limit := time.Now().Add(s.cfg.Linger)
	// §5.9: "An end MUST read on while its own sending is stopped". Two ends that
	// close at once with full carriers would wait for each other.
	written := make(chan struct{})
	if !s.noDrain() {
		go s.drain(limit, written)
	}
	err := s.endWriting(cause, limit)
	if err != nil || s.noDrain() {
		s.car.Close()
		close(written)
		return err
	}
	finish := func() {
		if !s.car.CloseWrite() {
			s.car.Close()
		}
		close(written)
	}
	if s.car.CloseWriteBlocks() {
		go finish() // the peer has BYE, close_notify is a courtesy
	} else {
		finish()
	}
	return nil
}

// endWriting sends the last frame, and before it what is left over. Whoever gets wtok
// after it finds that writing has ended.
func (s *Session) endWriting(cause *handshake.Error, limit time.Time) error {
	o := &op{closing: true, limit: limit, limitErr: session.ErrUnsent}
	if _, err := s.acquire(s.wtok, o, nil); err != nil {
		return err
	}
	defer func() { <-s.wtok }()
	var b []byte
	switch {
	case s.result.Legacy:
		b = s.appendControl(nil, framing.TypeBye, nil, nil)
	case cause != nil:
		b, _ = handshake.AppendErr(nil, cause.Code, cause.Reason, nil)
	default:
		b = s.appendControl(nil, framing.TypeBye, framing.Header{{Key: framing.KeyClose}}, nil)
	}
	owing := s.car.Pending()
	sent := false
	for {
		if err := s.holdWrite(o); err != nil {
			return err
		}
		var err error
		if !sent {
			s.mu.Lock()
			s.ctl.ping, s.ctl.bye = 0, false // of no use any more
			s.mu.Unlock()
			if err = s.writeControl(false); err == nil {
				err = s.car.WriteFrame(b, nil, nil)
				sent = err == nil
			}
		}
		if err == nil {
			err = s.car.Flush()
		}
		if err == nil || !isTimeout(err) {
			if err != nil && (!owing || s.carrierGone()) {
				err = nil // nothing is lost, and nobody is left to be told
			}
			return err
		}
	}
}

// carrierGone reports whether the carrier has ended from the other side.
func (s *Session) carrierGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rerr != nil || s.peerBye
}

// noDrain reports whether nothing that the peer may have sent since is worth an
// orderly end: it has closed, and does not read what a reset would destroy.
func (s *Session) noDrain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peerGone
}

// drain reads and drops what the peer still sends, until it ends its side and ours is
// written, then closes the carrier.
func (s *Session) drain(limit time.Time, written <-chan struct{}) {
	defer func() {
		<-written
		s.car.Close()
	}()
	o := &op{closing: true, limit: limit, limitErr: session.ErrUnsent}
	// Whoever holds rtok is about to leave, and nobody after it reads the carrier.
	if _, err := s.acquire(s.rtok, o, nil); err != nil {
		return
	}
	s.mu.Lock()
	ended := s.rerr == io.EOF || s.rerr == io.ErrUnexpectedEOF
	s.draining = true // from here on the read deadline is ours
	s.car.SetReadDeadline(limit)
	s.mu.Unlock()
	<-s.rtok
	if ended {
		return
	}
	s.car.Discard(make([]byte, drainBuffer))
}
