package vstp_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/internal/handshake"
)

// With TLS, an ERR on UDP that anybody can have sent does not end a dial: TCP decides.
func TestAutoForgedRefusal(t *testing.T) {
	for _, code := range []vstp.ErrorCode{vstp.CodeRefused, vstp.CodeTLS, vstp.CodeOverload, vstp.CodeInternal} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			var ln net.Listener
			var pc net.PacketConn
			for try := 0; pc == nil; try++ { // until a port is free on both
				var err error
				ln, err = net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				if pc, err = net.ListenPacket("udp", ln.Addr().String()); err != nil {
					ln.Close()
					require.Less(t, try, 10)
				}
			}
			defer pc.Close()
			go func() {
				b := make([]byte, 2048)
				for {
					n, from, err := pc.ReadFrom(b)
					if err != nil {
						return
					}
					if id, _, kind := handshake.RouteID(b[:n]); kind == handshake.KindHello {
						forged, _ := handshake.AppendRefusal(nil, id, code, "I am the server", nil)
						pc.WriteTo(forged, from)
					}
				}
			}()
			cc, sc := transport{tls: true}.configs(t)
			l := vstp.NewListener(ln, sc)
			defer l.Close()
			c, err := (&vstp.Dialer{Config: cc}).Dial("auto", ln.Addr().String())
			require.NoError(t, err)
			require.Equal(t, "tcp+tls", c.(*vstp.Conn).ConnectionState().Carrier)
			require.NoError(t, c.Close())
		})
	}
}
