package tlsvstp

import (
	"bytes"
	"crypto/tls"
	"slices"
)

// What is kept with a session beside what crypto/tls keeps, each with a prefix of its
// own, for others may add to [tls.SessionState.Extra] too.
const (
	// extraPeer is for what the server has sent: a client remembers it, for 0-RTT.
	extraPeer = "vstp/1 peer parameters\x00"

	// extraSent is the same in the ticket, for the server.
	extraSent = "vstp/1 sent parameters\x00"

	// extraNote is for HandshakeConfig.Note.
	extraNote = "vstp/1 note\x00"
)

// extra returns what was kept with a prefix.
func extra(s *tls.SessionState, prefix string) (data []byte, ok bool) {
	for _, x := range s.Extra {
		if data, ok = bytes.CutPrefix(x, []byte(prefix)); ok {
			return data, true
		}
	}
	return nil, false
}

// resume is called when crypto/tls is about to resume a session.
func (h *Handshake) resume(s *tls.SessionState) {
	if h.client {
		h.resumed, _ = extra(s, extraPeer) // earlyCache has seen to EarlyData
		return
	}
	sent, ok := extra(s, extraSent)
	note, _ := extra(s, extraNote)
	if !h.c.EarlyData || !ok || h.c.AcceptEarly != nil && !h.c.AcceptEarly(bytes.Clone(h.peerParams), bytes.Clone(sent), bytes.Clone(note)) {
		s.EarlyData = false
	}
}

// store keeps a session that the server has offered.
func (h *Handshake) store(s *tls.SessionState) error {
	if h.conn.ConnectionState().HelloRetryRequest {
		s.EarlyData = false // see forget
	}
	s.Extra = append(s.Extra, append([]byte(extraPeer), h.peerParams...))
	return h.conn.StoreSession(s)
}

// forget drops the session with which 0-RTT was offered to a server that has answered
// by a HelloRetryRequest. Up to Go 1.26 at least, crypto/tls makes the binders of the
// second ClientHello before it takes early_data out of it, and so no server that knows
// the ticket accepts it. The handshake is lost, but not the ones after it too.
func (h *Handshake) forget() {
	if h.cache != nil && !h.handshakeKeys { // a ServerHello would have given them
		h.cache.Put(h.cache.key, nil)
	}
}

// An earlyCache gives out sessions for 0-RTT only if that was asked for and can be
// done. A session that must not be used so is copied: the one in the cache is shared
// with other connections.
type earlyCache struct {
	tls.ClientSessionCache
	early bool
	key   string // of the last Get
}

func (c *earlyCache) Get(key string) (*tls.ClientSessionState, bool) {
	c.key = key
	cs, ok := c.ClientSessionCache.Get(key)
	if !ok || cs == nil {
		return cs, ok
	}
	ticket, s, err := cs.ResumptionState()
	if err != nil || s == nil {
		return nil, false
	}
	if _, known := extra(s, extraPeer); !s.EarlyData || c.early && known {
		return cs, true
	}
	b, err := s.Bytes()
	if err != nil {
		return nil, false
	}
	if s, err = tls.ParseSessionState(b); err != nil {
		return nil, false
	}
	s.EarlyData = false
	if cs, err = tls.NewResumptionState(slices.Clone(ticket), s); err != nil {
		return nil, false
	}
	return cs, true
}
