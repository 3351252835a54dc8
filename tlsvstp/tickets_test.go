package tlsvstp

import (
	"crypto/tls"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// session runs a handshake, hands over a ticket, and returns both ends.
func session(t testing.TB, client, server HandshakeConfig) (c, s *end) {
	t.Helper()
	c, s = newClient(t, client), newServer(t, server)
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.NoError(t, s.h.SendTicket())
	s.collect()
	run(s, c, 13)
	requireDone(t, c, s)
	return c, s
}

func early(c HandshakeConfig) HandshakeConfig {
	c.EarlyData = true
	return c
}

// earlyPair are configurations with tickets.
func earlyPair(t testing.TB) (client, server *tls.Config) {
	t.Helper()
	client, server = testPair(t)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	return client, server
}

func TestHandshakeResumption(t *testing.T) {
	cc, sc := earlyPair(t)
	for i := range 4 {
		c, s := session(t, clientSide(cc), serverSide(sc))
		require.Equal(t, i > 0, c.h.State().DidResume)
		require.NotEmpty(t, s.sent[LevelApplication])
		require.Nil(t, c.write[LevelEarly])
		require.Nil(t, s.read[LevelEarly])
		require.NotEmpty(t, c.h.State().PeerCertificates)
	}
	require.Error(t, func() error {
		_, s := session(t, clientSide(cc), serverSide(sc))
		return s.h.SendTicket()
	}(), "once")
}

func TestSendTicketDisabled(t *testing.T) {
	cc, sc := earlyPair(t)
	sc.SessionTicketsDisabled = true
	for range 2 {
		c, s := session(t, early(clientSide(cc)), early(serverSide(sc)))
		require.False(t, c.h.State().DidResume)
		require.Empty(t, s.sent[LevelApplication])
	}
}

// A client without a cache has no use for a ticket.
func TestTicketWithoutCache(t *testing.T) {
	cc, sc := testPair(t)
	session(t, early(clientSide(cc)), early(serverSide(sc)))
}

func TestSendTicketTooEarly(t *testing.T) {
	_, sc := testPair(t)
	s := newServer(t, serverSide(sc))
	require.Error(t, s.h.SendTicket())
}

func TestEarlyAccepted(t *testing.T) {
	cc, sc := earlyPair(t)
	first := early(serverSide(sc))
	first.Note = []byte("note")
	session(t, early(clientSide(cc)), first)

	server := early(serverSide(sc))
	asked := 0
	server.AcceptEarly = func(peer, sent, note []byte) bool {
		asked++
		require.Equal(t, "note", string(note))
		require.Equal(t, "client's", string(peer))
		require.Equal(t, "server's", string(sent))
		return true
	}
	c, s := newClient(t, early(clientSide(cc))), newServer(t, server)
	// All that 0-RTT needs is there before the first answer.
	require.Equal(t, "server's", string(c.resumed))
	require.NotNil(t, c.write[LevelEarly])
	require.Less(t, slices.Index(c.kinds, EventResumed), slices.Index(c.kinds, EventWriteKeys))
	require.False(t, c.h.EarlyAccepted())
	pass(c, s, 1<<16)
	requireKeys(t, c.write[LevelEarly], s.read[LevelEarly])
	require.True(t, s.h.EarlyAccepted())
	require.NotNil(t, s.write[LevelApplication]) // for answers
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.Equal(t, 1, asked)
	require.True(t, c.h.EarlyAccepted())
	require.False(t, c.has(EventEarlyRejected))
}

// Whatever the reason, the handshake goes on without 0-RTT.
func TestEarlyRejected(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(client, server *HandshakeConfig, sc *tls.Config)
		resumes bool
		offered bool
	}{
		{"server does not want to", func(_, s *HandshakeConfig, _ *tls.Config) { s.EarlyData = false }, true, true},
		{"AcceptEarly", func(_, s *HandshakeConfig, _ *tls.Config) {
			s.AcceptEarly = func(_, _, _ []byte) bool { return false }
		}, true, true},
		{"other ticket keys", func(_, _ *HandshakeConfig, sc *tls.Config) { sc.SetSessionTicketKeys([][32]byte{{1}}) }, false, true},
		{"no tickets any more", func(_, s *HandshakeConfig, _ *tls.Config) {
			s.TLS = s.TLS.Clone()
			s.TLS.SessionTicketsDisabled = true
		}, false, true},
		{"client does not want to", func(c, _ *HandshakeConfig, _ *tls.Config) { c.EarlyData = false }, true, false},
		{"client without tickets", func(c, _ *HandshakeConfig, _ *tls.Config) {
			c.TLS = c.TLS.Clone()
			c.TLS.SessionTicketsDisabled = true
		}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cc, sc := earlyPair(t)
			session(t, early(clientSide(cc)), early(serverSide(sc)))
			client, server := early(clientSide(cc)), early(serverSide(sc))
			tt.change(&client, &server, sc)
			c, s := newClient(t, client), newServer(t, server)
			require.Equal(t, tt.offered, c.write[LevelEarly] != nil)
			require.Equal(t, tt.offered, c.has(EventResumed))
			run(c, s, 1<<16)
			requireDone(t, c, s)
			require.Equal(t, tt.resumes, c.h.State().DidResume)
			require.Equal(t, tt.offered, c.has(EventEarlyRejected))
			require.Nil(t, s.read[LevelEarly])
			require.False(t, c.h.EarlyAccepted())
			require.False(t, s.h.EarlyAccepted())

			// The session in the cache is as good as before.
			if !tt.offered {
				c, s = newClient(t, early(clientSide(cc))), newServer(t, early(serverSide(sc)))
				run(c, s, 1<<16)
				require.True(t, c.h.EarlyAccepted())
				require.True(t, s.h.EarlyAccepted())
			}
		})
	}
}

// A server that asks for another key share when 0-RTT is offered: crypto/tls may not
// get through that, but only once, and never with a server that always does so.
func TestEarlyRetryRequest(t *testing.T) {
	cc, sc := earlyPair(t)
	cc.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
	session(t, early(clientSide(cc)), early(serverSide(sc)))
	sc.CurvePreferences = []tls.CurveID{tls.CurveP384}

	c, s := newClient(t, early(clientSide(cc))), newServer(t, early(serverSide(sc)))
	require.NotNil(t, c.write[LevelEarly])
	run(c, s, 1<<16)
	require.True(t, c.has(EventEarlyRejected))
	for i := range 3 {
		c, s = session(t, early(clientSide(cc)), early(serverSide(sc)))
		require.True(t, s.h.State().HelloRetryRequest)
		require.Nil(t, c.write[LevelEarly])
		if i > 0 {
			require.True(t, c.h.State().DidResume)
		}
	}
}

// A ticket of a server that does not permit 0-RTT is none for it later.
func TestEarlyNotPermitted(t *testing.T) {
	cc, sc := earlyPair(t)
	session(t, early(clientSide(cc)), serverSide(sc))
	c, s := newClient(t, early(clientSide(cc))), newServer(t, early(serverSide(sc)))
	require.Nil(t, c.write[LevelEarly])
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.True(t, c.h.State().DidResume)
}

// A session of another user of QUIC in the same cache, without our parameters, is
// resumed without 0-RTT.
func TestEarlyWithoutParameters(t *testing.T) {
	cc, sc := earlyPair(t)
	session(t, early(clientSide(cc)), early(serverSide(sc)))
	cs, ok := cc.ClientSessionCache.Get("localhost")
	require.True(t, ok)
	ticket, state, err := cs.ResumptionState()
	require.NoError(t, err)
	require.True(t, state.EarlyData)
	state.Extra = [][]byte{[]byte("other")}
	cs, err = tls.NewResumptionState(ticket, state)
	require.NoError(t, err)
	cc.ClientSessionCache.Put("localhost", cs)

	c, s := newClient(t, early(clientSide(cc))), newServer(t, early(serverSide(sc)))
	require.Nil(t, c.write[LevelEarly])
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.True(t, c.h.State().DidResume)
	require.True(t, state.EarlyData, "the session of the other is not touched")
}

// A session cache and ticket keys that are shared with TLS over TCP, in both directions.
func TestSessionsOfStreams(t *testing.T) {
	for _, opt := range []func(HandshakeConfig) HandshakeConfig{early, func(c HandshakeConfig) HandshakeConfig { return c }} {
		cc, sc := earlyPair(t)
		overTCP := func() tls.ConnectionState {
			c, _, cerr, serr := handshake(t, ClientConfig(cc, "localhost"), ServerConfig(sc))
			require.NoError(t, cerr)
			require.NoError(t, serr)
			return c
		}
		require.False(t, overTCP().DidResume)
		c, s := session(t, opt(clientSide(cc)), opt(serverSide(sc)))
		require.True(t, c.h.State().DidResume)
		require.Nil(t, c.write[LevelEarly])
		require.Nil(t, s.read[LevelEarly])
		require.True(t, overTCP().DidResume)

		session(t, opt(clientSide(cc)), opt(serverSide(sc)))
		sc.SetSessionTicketKeys([][32]byte{{1}})
		require.False(t, overTCP().DidResume)
		sc.SetSessionTicketKeys([][32]byte{{2}})
		c, _ = session(t, opt(clientSide(cc)), opt(serverSide(sc)))
		require.False(t, c.h.State().DidResume)
	}
}

// Clients with and without 0-RTT use one session at the same time; for -race.
func TestSessionShared(t *testing.T) {
	cc, sc := earlyPair(t)
	session(t, early(clientSide(cc)), early(serverSide(sc)))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 5 {
				client := clientSide(cc)
				client.EarlyData = i%2 == 0
				c, s := newClient(t, client), newServer(t, early(serverSide(sc)))
				run(c, s, 1<<16)
				if c.h.EarlyAccepted() != client.EarlyData || !c.h.State().DidResume {
					t.Error("not resumed as wanted")
				}
			}
		})
	}
	wg.Wait()
}

// Tickets with own sealing, and such that are too old.
func TestTicketLifetime(t *testing.T) {
	cc, sc := earlyPair(t)
	session(t, early(clientSide(cc)), early(serverSide(sc)))
	later := func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	cc.Time, sc.Time = later, later
	c, s := newClient(t, early(clientSide(cc))), newServer(t, early(serverSide(sc)))
	run(c, s, 1<<16)
	requireDone(t, c, s)
	require.False(t, c.h.State().DidResume)
}

// Garbage from the peer at each level and moment fails the handshake or is waited for,
// and nothing else.
func FuzzHandshakeReceive(f *testing.F) {
	cc, sc := earlyPair(f)
	server := early(serverSide(sc))
	c, s := session(f, early(clientSide(cc)), server)
	for step := range uint8(3) {
		f.Add(true, step, uint8(LevelInitial), c.sent[LevelInitial])
		f.Add(false, step, uint8(LevelInitial), s.sent[LevelInitial])
		f.Add(false, step, uint8(LevelHandshake), s.sent[LevelHandshake])
		f.Add(true, step, uint8(LevelHandshake), c.sent[LevelHandshake])
		f.Add(false, step, uint8(LevelApplication), s.sent[LevelApplication])
		f.Add(true, step, uint8(LevelApplication), []byte{24, 0, 0, 1, 0}) // KeyUpdate
	}
	f.Fuzz(func(t *testing.T, toServer bool, steps, level uint8, data []byte) {
		c, s := newClient(t, early(clientSide(cc))), newServer(t, server)
		for range steps % 4 {
			pass(c, s, 1<<16)
			pass(s, c, 1<<16)
		}
		e := c
		if toServer {
			e = s
		}
		err := e.h.Receive(Level(level%5), data)
		e.collect()
		require.ErrorIs(t, err, e.err)
		if err != nil {
			var alert tls.AlertError
			require.ErrorAs(t, err, &alert)
			require.Equal(t, err, e.h.Receive(LevelInitial, []byte{1}))
		}
		c.h.Close()
		s.h.Close()
	})
}
