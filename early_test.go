package vstp_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// With Config.EarlyData at both ends the second connection begins with 0-RTT, and both
// ends know. Without it at one of them it does not, and nothing is lost.
func TestEarlyData(t *testing.T) {
	cert, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{})
	require.NoError(t, err)
	for _, tt := range []struct {
		name                 string
		client, server, want bool
	}{{"both", true, true, true}, {"client alone", true, false, false}, {"server alone", false, true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			cache := storedCache{tls.NewLRUClientSessionCache(1), make(chan struct{}, 8)}
			sc := &vstp.Config{EarlyData: tt.server, TLS: &tls.Config{Certificates: []tls.Certificate{cert.Certificate}}}
			cc := &vstp.Config{EarlyData: tt.client, TLS: &tls.Config{RootCAs: cert.Pool, ClientSessionCache: cache}}
			ln, err := (&vstp.ListenConfig{Config: sc}).Listen(t.Context(), "rudp", "localhost:0")
			require.NoError(t, err)
			defer ln.Close()
			served := make(chan *vstp.Conn, 2)
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					served <- c.(*vstp.Conn)
					go func() {
						io.Copy(c, c)
						c.Close()
					}()
				}
			}()
			_, port, err := net.SplitHostPort(ln.Addr().String())
			require.NoError(t, err)
			for i := range 2 {
				c, err := (&vstp.Dialer{Config: cc}).Dial("rudp", net.JoinHostPort("localhost", port))
				require.NoError(t, err)
				vc := c.(*vstp.Conn)
				_, err = c.Write([]byte("ping"))
				require.NoError(t, err)
				_, err = io.ReadFull(c, make([]byte, 4))
				require.NoError(t, err)
				require.NoError(t, vc.Handshake(t.Context()))
				s := <-served
				require.NoError(t, s.Handshake(t.Context()))
				require.Equal(t, i > 0 && tt.want, vc.ConnectionState().EarlyData)
				require.Equal(t, i > 0 && tt.want, s.ConnectionState().EarlyData)
				require.Equal(t, i > 0, vc.ConnectionState().TLS.DidResume)
				vc.CloseWrite()
				_, err = io.ReadAll(c) // the ticket comes before the end
				require.NoError(t, err)
				receive(t, cache.stored) // though TLS may take a moment to look at it
				require.NoError(t, c.Close())
			}
		})
	}
}

// A storedCache tells when it has got a session.
type storedCache struct {
	tls.ClientSessionCache
	stored chan struct{}
}

func (c storedCache) Put(key string, cs *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, cs)
	c.stored <- struct{}{}
}
