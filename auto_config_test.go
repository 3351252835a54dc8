package vstp_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// Whatever both ends ask for, a connection is the same on either carrier, and wherever it
// began.
func TestAutoConfigs(t *testing.T) {
	sums := []vstp.Checksum{vstp.ChecksumAuto, vstp.ChecksumOn, vstp.ChecksumOff}
	for _, tls := range []bool{false, true} {
		for _, mine := range sums {
			for _, theirs := range sums {
				for _, pin := range []vstp.Carrier{vstp.CarrierUDP, vstp.CarrierTCP} {
					t.Run(fmt.Sprintf("tls=%v,%v,%v,%v", tls, mine, theirs, pin), func(t *testing.T) {
						cc, sc := transport{tls: tls}.configs(t)
						cc.Checksum, sc.Checksum = mine, theirs
						cc.Compression, sc.Compression = vstp.CompressionZstd, vstp.CompressionZstd
						cc.Auto.Pin = pin
						cc.Header = vstp.Header{{Key: "user", Value: "gopher"}}
						sc.Header = vstp.Header{{Key: "server", Value: "mole"}}
						cc.MaxMessageSize, sc.MaxMessageSize = 1<<20, 2<<20
						cc.IdleTimeout = 40 * time.Second
						ln, err := (&vstp.ListenConfig{Config: sc}).Listen(t.Context(), "auto", "127.0.0.1:0")
						require.NoError(t, err)
						defer ln.Close()
						c, s := connect(t, ln, &vstp.Dialer{Config: cc})
						require.NoError(t, c.Handshake(t.Context()))
						require.NoError(t, s.Handshake(t.Context()))
						a, b := c.ConnectionState(), s.ConnectionState()
						on := !tls && (mine != vstp.ChecksumOff || theirs != vstp.ChecksumOff)
						require.Equal(t, on, a.Checksum)
						require.Equal(t, on, b.Checksum)
						require.Equal(t, a.SessionID, b.SessionID)
						require.NotZero(t, a.SessionID)
						require.Equal(t, "mole", a.PeerHeader.Get("server"))
						require.Equal(t, "gopher", b.PeerHeader.Get("user"))
						require.Equal(t, 2<<20, a.MaxMessageSize)
						require.Equal(t, 1<<20, b.MaxMessageSize)
						require.Equal(t, 40*time.Second, a.IdleTimeout)
						require.Equal(t, 40*time.Second, b.IdleTimeout)
						require.Zero(t, a.Compression)
						require.Zero(t, b.Compression)
						require.Equal(t, pin, c.Carrier())
						require.NoError(t, c.Pin(vstp.CarrierAny))
						for range 2 {
							echoes(t, c, s)
							require.NoError(t, c.SendMessage(t.Context(), &vstp.Message{Payload: contentBytes(100_000), RequireAck: true}))
							m, err := s.ReceiveMessage(t.Context())
							require.NoError(t, err)
							isContent(t, 100_000, m.Payload)
							require.NoError(t, c.Move(t.Context(), vstp.CarrierAny))
						}
					})
				}
			}
		}
	}
}

// A client of the crate on "auto" is one on TCP.
func TestAutoLegacy(t *testing.T) {
	ln, err := vstp.Listen("auto", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := (&vstp.Dialer{Config: &vstp.Config{Legacy: true}}).Dial("auto", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.(*vstp.Conn).SendMessage(t.Context(), &vstp.Message{Payload: []byte("hello")}))
	s, err := ln.Accept()
	require.NoError(t, err)
	defer s.Close()
	m, err := s.(*vstp.Conn).ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hello", string(m.Payload))
	for _, e := range []net.Conn{c, s} {
		st := e.(*vstp.Conn).ConnectionState()
		require.True(t, st.Legacy)
		require.Equal(t, "auto", st.Network)
		require.Equal(t, "tcp", st.Carrier)
	}
}

// Sessions of TLS are resumed, wherever the next connection begins, and 0-RTT is only for
// who knows that there is UDP.
func TestAutoResumption(t *testing.T) {
	cc, sc := transport{tls: true}.configs(t)
	cc.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	cc.EarlyData, sc.EarlyData = true, true
	ln, err := (&vstp.ListenConfig{Config: sc}).Listen(t.Context(), "auto", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	resumed := map[vstp.Carrier]int{}
	early := map[vstp.Carrier]int{}
	for i := range 12 {
		pin := []vstp.Carrier{vstp.CarrierAny, vstp.CarrierUDP, vstp.CarrierTCP}[i/4]
		config := *cc
		config.Auto.Pin = pin
		c, s := connect(t, ln, &vstp.Dialer{Config: &config})
		require.NoError(t, c.Handshake(t.Context()))
		echoes(t, c, s)
		st := c.ConnectionState()
		if st.TLS.DidResume {
			resumed[pin]++
		}
		if st.EarlyData {
			early[pin]++
		}
		require.NoError(t, c.Move(t.Context(), vstp.CarrierAny))
		echoes(t, c, s)
		_, err := c.Ping(t.Context()) // the ticket comes behind
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, s.Close())
	}
	t.Log(resumed, early)
	require.Zero(t, early[vstp.CarrierAny])
	require.Zero(t, early[vstp.CarrierTCP])
}
