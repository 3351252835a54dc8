package endpoint

import (
	"bytes"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/handshake"
)

// control works through the control stream. PROTOCOL §8.8. Session.mu is held.
func (s *Session) control() {
	for s.ended == nil {
		rec, n, err := handshake.ParseControl(s.eng.ReadControl())
		if err == nil && n == 0 {
			return
		}
		if err == nil {
			err = s.controlRecord(&rec)
			s.eng.ConsumeControl(n)
		}
		if err != nil {
			s.controlFailed(time.Now(), err)
			return
		}
	}
}

var errControl = &handshake.Error{Code: framing.CodeUnexpected, Reason: "a frame of the control stream that must not come"}

func (s *Session) controlRecord(rec *handshake.Control) error {
	switch {
	case rec.Type == framing.TypeHello && !s.client && !s.helloed:
		s.helloed = true
		s.peerToken, s.hasPeerToken = rec.ResetToken, rec.HasResetToken
		s.ep.controlHello(s, rec.Header)
	case rec.Type == framing.TypeWelcome && s.client && !s.helloed:
		s.helloed = true
		s.result.PeerHeader = rec.Header
		s.keepToken(bytes.Clone(rec.Token))
		s.others.wake()
		if !s.connected {
			s.clientConnected(time.Now())
		}
	case rec.Type == framing.TypeErr && s.client && !s.helloed:
		s.ended = rec.Err
		s.eng.Close(time.Now(), 0, "")
		s.wakeAll()
	case rec.Type == framing.TypeData && s.client:
		if t := s.sealed; t != nil && t.m != nil && len(t.ticket)+len(rec.Data) <= maxTickets {
			t.ticket = append(t.ticket, rec.Data...)
			if t.begin() {
				go s.runSealed()
			}
		}
	case rec.Type == framing.TypeData: // of a client: nothing of it is of use
	default:
		return errControl
	}
	return nil
}

// maxTickets bounds the TLS bytes of a server that wait to be looked at.
const maxTickets = 64 << 10

// controlFailed ends an association whose peer breaks the rules. Session.mu is held.
func (s *Session) controlFailed(now time.Time, err error) {
	if s.ended == nil {
		s.ended = err
		code := framing.CodeProtocol
		if own, ok := err.(*handshake.Error); ok {
			code = own.Code
		}
		s.eng.Close(now, uint64(code), "")
		s.wakeAll()
	}
}
