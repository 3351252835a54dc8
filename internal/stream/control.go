package stream

import (
	"context"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/session"
)

// control is what waits to be sent that is not data. Session.mu guards it. It is
// bounded: of PONGs only the last counts (PROTOCOL §5.6), acks by maxPendingAcks,
// the rest occurs once.
type control struct {
	pong      bool
	pongToken []byte
	ping      uint64   // token, 0 for none
	acks      []uint64 // message ids
	cancel    bool
	cancelID  uint64
	bye       bool
}

func (c *control) pending() bool {
	return c.pong || c.ping != 0 || len(c.acks) > 0 || c.cancel || c.bye
}

// writeControl sends what is queued, in one piece; BYE only for who has no DATA to
// send behind it. The holder of wtok calls it. After a timeout it is still queued.
func (s *Session) writeControl(bye bool) error {
	s.mu.Lock()
	c := s.ctl
	c.bye = c.bye && bye
	if !c.pending() {
		s.mu.Unlock()
		return nil
	}
	s.byeSent = s.byeSent || c.bye
	acks := len(c.acks)
	s.mu.Unlock()

	var b []byte
	frames := 0
	add := func(t framing.Type, h framing.Header) {
		b = s.appendControl(b, t, h, nil)
		frames++
	}
	for _, id := range c.acks {
		if s.result.Legacy {
			add(framing.TypeAck, framing.Header{{Key: framing.LegacyKeyMsgID, Value: strconv.FormatUint(id, 10)}})
		} else {
			add(framing.TypeAck, framing.Header{{Key: framing.KeyMessage, Value: varint(id)}})
		}
	}
	if c.pong {
		var h framing.Header
		if len(c.pongToken) > 0 {
			h = framing.Header{{Key: framing.KeyPing, Value: string(c.pongToken)}}
		}
		add(framing.TypePong, h)
	}
	if c.ping != 0 {
		var token [8]byte
		binary.BigEndian.PutUint64(token[:], c.ping)
		add(framing.TypePing, framing.Header{{Key: framing.KeyPing, Value: string(token[:])}})
	}
	if c.cancel {
		add(framing.TypeData, framing.Header{{Key: framing.KeyCancel, Value: varint(c.cancelID)}})
	}
	if c.bye {
		add(framing.TypeBye, nil)
	}
	if err := s.car.WriteFrame(b, nil, nil); err != nil {
		if isTimeout(err) {
			return err
		}
		return s.writeFailed(err)
	}
	s.stats.framesOut.Add(uint64(frames))
	s.stats.wireOut.Add(uint64(len(b)))

	s.mu.Lock()
	defer s.mu.Unlock()
	// What was queued since stays.
	if acks >= len(s.ctl.acks) {
		s.ctl.acks = nil
	} else {
		s.ctl.acks = append([]uint64(nil), s.ctl.acks[acks:]...)
	}
	if c.pong && string(c.pongToken) == string(s.ctl.pongToken) {
		s.ctl.pong, s.ctl.pongToken = false, nil
	}
	if c.ping == s.ctl.ping {
		s.ctl.ping = 0
	}
	if c.cancel && c.cancelID == s.ctl.cancelID {
		s.ctl.cancel = false
	}
	s.ctl.bye = s.ctl.bye && !c.bye
	s.changed() // there is room for ACKs again
	return nil
}

// appendControl appends a frame without, or with a short, payload.
func (s *Session) appendControl(b []byte, t framing.Type, h framing.Header, payload []byte) []byte {
	block, err := framing.AppendHeader(nil, h)
	if err != nil {
		panic("BUG: control frame: " + err.Error())
	}
	f := framing.Frame{Type: t, Header: block, Payload: payload}
	mode := framing.TrailerByFlag
	switch {
	case s.result.Legacy:
		mode = framing.TrailerAlways
	case s.sum || !s.hsDone.Load():
		f.Flags |= framing.FlagCRC
	}
	b, err = framing.AppendFrame(b, f, mode)
	if err != nil {
		panic("BUG: control frame: " + err.Error())
	}
	return b
}

func varint(v uint64) string { return string(framing.AppendVarint(nil, v)) }

// receivePing queues the answer to the current frame. In the crate profile a PING
// with REQ_ACK and msg-id is a probe, which wants an ACK. PROTOCOL §5.6, §6.4.
func (s *Session) receivePing() {
	s.mu.Lock()
	id, isProbe := legacyID(s.cur.header)
	if s.result.Legacy && isProbe && s.cur.flags.Has(framing.FlagReqAck) {
		if len(s.ctl.acks) < maxPendingAcks {
			s.ctl.acks = append(s.ctl.acks, id)
		}
	} else {
		s.ctl.pong = true
		s.ctl.pongToken = s.cur.token
	}
	s.mu.Unlock()
	s.kick()
}

// receivePong notes that all PINGs up to the one answered have been.
func (s *Session) receivePong() {
	if len(s.cur.token) != 8 {
		return
	}
	n := binary.BigEndian.Uint64(s.cur.token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.pings || n <= s.pongs {
		return // not asked for
	}
	if at, ok := s.pingSent[n]; ok {
		s.rtt = time.Since(at)
	}
	s.pongs = n
	for k := range s.pingSent {
		if k <= n {
			delete(s.pingSent, k)
		}
	}
	s.changed()
}

// maxPings is how many PINGs may be unanswered; from there on the last one is sent
// again, which keeps the peer from thinking that we are gone.
const maxPings = 64

// queuePing queues a PING and returns its token. Session.mu is held.
func (s *Session) queuePing() uint64 {
	if len(s.pingSent) < maxPings {
		s.pings++
		if s.pingSent == nil {
			s.pingSent = make(map[uint64]time.Time)
		}
		s.pingSent[s.pings] = time.Now()
	}
	s.ctl.ping = s.pings
	return s.pings
}

// Ping sends a PING and waits for its PONG. It returns the time between.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	o := &op{ctx: ctx}
	if err := s.ready(o); err != nil {
		return 0, err
	}
	if s.result.Legacy {
		return 0, session.ErrNotSupported // an easy server answers with a data frame
	}
	stop := s.watch(o)
	defer stop()
	start := time.Now()
	s.mu.Lock()
	err := s.expired(o)
	if err == nil && !softEnd(s.werr) {
		err = s.werr
	}
	if err != nil {
		s.mu.Unlock()
		return 0, err
	}
	token := s.queuePing()
	s.mu.Unlock()
	s.kick()
	if err := s.await(o, func() bool { return s.pongs >= token }); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}
