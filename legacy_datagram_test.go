package vstp_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// Peers of the crate vstp 0.2.1 on datagrams, with bytes recorded from it. PROTOCOL §6.

const (
	crateHi      = "56540103000000000000026869291147a3" // "hi"
	crateReqAck  = "56540103010a000000000206026d73672d6964343268699d057947"
	crateAck42   = "56540107000a000000000006026d73672d69643432b2bbc562"
	crateProbe   = "565401040118000000000006016d73672d6964390c01782d6175746f2d70726f626531b635e56a"
	crateAck9    = "565401070009000000000006016d73672d696439e8e72b8a"
	crateFrag77a = "56540103112e000000000406026d73672d696437370701667261672d6964350a01667261672d696e646578300a01667261672d746f74616c32616161618275095c"
	crateFrag77b = "56540103112e000000000406026d73672d696437370701667261672d6964350a01667261672d696e646578310a01667261672d746f74616c3262626262cff0ac73"
	crateAck77   = "56540107000a000000000006026d73672d69643737e9fc622e"
	crateFrag5a  = "5654010310280000000004010178790701667261672d6964350a01667261672d696e646578300a01667261672d746f74616c3361616161a2fcf17b"
	crateFrag5b  = "5654010310280000000004010178790701667261672d6964350a01667261672d696e646578310a01667261672d746f74616c3362626262ef795454"
	crateFrag5c  = "5654010310280000000004010178790701667261672d6964350a01667261672d696e646578320a01667261672d746f74616c3363636363d29d85b3"
)

// rawUDP is a socket without a protocol.
type rawUDP struct {
	*net.UDPConn
	t testing.TB
}

func newRawUDP(t testing.TB) rawUDP {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return rawUDP{c, t}
}

func (r rawUDP) send(to net.Addr, datagrams ...string) {
	r.t.Helper()
	for _, d := range datagrams {
		_, err := r.WriteTo(unhex(r.t, d), to)
		require.NoError(r.t, err)
	}
}

// want receives a datagram.
func (r rawUDP) want(hexed string) net.Addr {
	r.t.Helper()
	b := make([]byte, 65536)
	n, from, err := r.ReadFrom(b)
	require.NoError(r.t, err)
	require.Equal(r.t, hexed, hex.EncodeToString(b[:n]))
	return from
}

// "Received crate traffic is understood without configuration", and answered in kind.
func TestCrateToPacketConn(t *testing.T) {
	tr := packetTransport{listen: listenPacket("udp", "127.0.0.1:0")}
	pc := tr.open(t)
	limited(t, pc)
	crate := newRawUDP(t)
	to := pc.LocalAddr()
	want := func(payload string, reqAck bool, h ...vstp.Field) net.Addr {
		t.Helper()
		m, from, err := pc.ReceiveMessage(t.Context())
		require.NoError(t, err)
		require.Equal(t, payload, string(m.Payload))
		require.Equal(t, reqAck, m.RequireAck)
		require.Equal(t, len(h), len(m.Header))
		for i := range h {
			require.Equal(t, h[i], m.Header[i])
		}
		return from
	}
	crate.send(to, crateHi)
	from := want("hi", false)
	require.Equal(t, crate.LocalAddr().String(), from.String())
	_, err := pc.WriteTo([]byte("hello"), from)
	require.NoError(t, err)
	crate.want(crateData)
	crate.send(to, crateReqAck)
	want("hi", true)
	crate.want(crateAck42)
	crate.send(to, crateReqAck) // the ACK was lost: R1, delivered once
	crate.want(crateAck42)
	crate.send(to, crateProbe)
	crate.want(crateAck9)
	crate.send(to, crateFrag77a, crateFrag77b)
	want("aaaabbbb", true)
	crate.want(crateAck77)
	crate.send(to, crateFrag5c, crateFrag5a, crateFrag5a, crateFrag5b) // F4: twice is no error
	want("aaaabbbbcccc", false, vstp.Field{Key: "x", Value: "y"})

	// Garbage, errors and echoes end nothing, and are not answered (interop rule 8).
	crate.send(to, "", "56", "565401030000000000000568656c6c6ff3ac2615", "56540108000000000000006f", crateAck1, "565401090004000000000501016b7668656c6c6f7472f835")
	crate.send(to, crateHi)
	want("hi", false)
	require.NoError(t, crate.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, _, err = crate.ReadFrom(make([]byte, 100))
	require.Error(t, err)
}

// "To start towards a crate peer a Config option says so."
func TestDialCrate(t *testing.T) {
	crate, stranger := newRawUDP(t), newRawUDP(t)
	d := &vstp.Dialer{Config: &vstp.Config{Legacy: true, AckTimeout: 50 * time.Millisecond, RetryDelay: 10 * time.Millisecond}}
	nc, err := d.Dial("udp", crate.LocalAddr().String())
	require.NoError(t, err)
	defer nc.Close()
	c := nc.(*vstp.Conn)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	cs := c.ConnectionState()
	require.True(t, cs.HandshakeComplete && cs.Legacy && cs.Checksum)
	require.Equal(t, crate.LocalAddr().String(), c.RemoteAddr().String())

	n, err := c.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	from := crate.want(crateData)
	stranger.send(from, crateHi) // U9
	crate.send(from, crateData)
	b := make([]byte, 100)
	n, err = c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))

	sent := async(func() error {
		return c.SendMessage(t.Context(), &vstp.Message{Payload: []byte("hi"), RequireAck: true})
	})
	crate.want(crateReqAck1)
	crate.want(crateReqAck1) // the first ACK is lost
	crate.send(from, crateAck1)
	require.NoError(t, receive(t, sent))

	err = c.SendMessage(t.Context(), &vstp.Message{RequireAck: true})
	require.ErrorIs(t, err, vstp.ErrAckTimeout)
	_, err = c.Ping(t.Context())
	require.ErrorIs(t, err, vstp.ErrNotSupported)
	require.ErrorIs(t, c.CloseWrite(), vstp.ErrNotSupported)
	_, err = c.Write(make([]byte, 1<<20))
	require.ErrorIs(t, err, vstp.ErrMessageTooLarge)
	st := c.Stats()
	require.EqualValues(t, 2, st.MessagesSent)
	require.EqualValues(t, 1, st.MessagesReceived)

	require.NoError(t, c.SetReadDeadline(time.Now()))
	_, err = c.Read(b)
	isTimeoutOf(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	for _, err := range everyError(c) {
		require.True(t, errors.Is(err, net.ErrClosed) || errors.Is(err, vstp.ErrNotSupported), "%v", err)
	}
}

// "Fragments that vstp sends are really split, so a crate receiver reassembles them",
// and another vstp does.
func TestCrateFragments(t *testing.T) {
	legacy := packetTransport{listen: listenPacket("udp", "127.0.0.1:0"), config: vstp.Config{Legacy: true}}
	tr := packetTransport{listen: listenPacket("udp", "127.0.0.1:0")}
	a, b := legacy.open(t), tr.open(t)
	limited(t, a, b)
	for _, n := range []int{0, 1185, 1186, 50_000, 250_000} {
		require.NoError(t, a.SendMessage(t.Context(), &vstp.Message{Payload: contentBytes(n), Header: vstp.Header{{Key: "k", Value: "v"}}, RequireAck: true}, b.LocalAddr()))
		m, _, err := b.ReceiveMessage(t.Context())
		require.NoError(t, err)
		require.True(t, bytes.Equal(contentBytes(n), m.Payload), "%d of %d bytes", len(m.Payload), n)
		require.Equal(t, vstp.Header{{Key: "k", Value: "v"}}, m.Header)
	}
}
