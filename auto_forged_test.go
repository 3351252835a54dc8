package vstp_test

import (
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
			ln, pc := bothPorts(t)
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
