// Package wireshark_test checks vstp.lua by tshark: real traffic on loopback is relayed
// and recorded, written as a capture with made-up headers, and what the dissector shows is
// compared with what was sent.
package wireshark_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/reliable"
	"github.com/vstp-go/vstp/tlsvstp"
)

// TestMain leaves the tests out where tshark is not asked for.
func TestMain(m *testing.M) {
	if os.Getenv("VSTP_TSHARK") == "" {
		skipReason = "set VSTP_TSHARK=1 to test the dissector with tshark, or run docs/wireshark/check"
	} else if _, err := exec.LookPath("tshark"); err != nil {
		skipReason = "no tshark: " + err.Error()
	}
	os.Exit(m.Run())
}

var skipReason string

// needTshark skips a test if there is none, and bounds it in time.
func needTshark(t *testing.T) context.Context {
	t.Helper()
	if skipReason != "" {
		t.Skip(skipReason)
	}
	_, err := os.Stat("vstp.lua") // so that go test takes no result for one of another dissector
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// oddCuts are lengths of segments that have nothing to do with frames.
var oddCuts = []int{1, 2, 3, 5, 1, 11, 7, 100, 1, 1460, 13, 700, 1460, 1460, 4}

// echoServer takes one connection, and sends back what comes: the stream and the messages.
func echoServer(t *testing.T, network string, config *vstp.Config) (addr string, done <-chan struct{}) {
	t.Helper()
	ln, err := (&vstp.ListenConfig{Config: config}).Listen(t.Context(), network, "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		c := nc.(*vstp.Conn)
		messages := make(chan struct{})
		go func() {
			defer close(messages)
			for {
				m, err := c.ReceiveMessage(context.Background())
				if err != nil {
					return
				}
				m.RequireAck = false
				if c.SendMessage(context.Background(), m) != nil {
					return
				}
			}
		}()
		io.Copy(c, c)
		<-messages
	}()
	return ln.Addr().String(), ended
}

// talk sends a stream and messages to an echo server, and reads until all is back.
func talk(ctx context.Context, t *testing.T, nc net.Conn, stream []byte, messages ...*vstp.Message) {
	t.Helper()
	c := nc.(*vstp.Conn)
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	for _, m := range messages {
		require.NoError(t, c.SendMessage(ctx, m))
	}
	back := make(chan error, 1)
	go func() {
		b, err := io.ReadAll(c)
		if err == nil && !bytes.Equal(b, stream) {
			err = io.ErrUnexpectedEOF
		}
		back <- err
	}()
	_, err := c.Write(stream)
	require.NoError(t, err)
	for range messages {
		_, err := c.ReceiveMessage(ctx)
		require.NoError(t, err)
	}
	require.NoError(t, c.CloseWrite())
	require.NoError(t, <-back)
	require.NoError(t, c.Close())
}

// someBytes returns bytes that do not compress.
func someBytes(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// streamTraffic records a connection over TCP with all that the stream profile has.
func streamTraffic(ctx context.Context, t *testing.T, config *vstp.Config) *recording {
	t.Helper()
	addr, done := echoServer(t, "tcp", config)
	relay, rec := relayTCP(t, addr)
	c, err := (&vstp.Dialer{Config: config}).DialContext(ctx, "tcp", relay)
	require.NoError(t, err)
	_, err = c.(*vstp.Conn).Ping(ctx)
	require.NoError(t, err)
	talk(ctx, t, c, append(someBytes(10_000), bytes.Repeat([]byte("stream "), 3000)...),
		&vstp.Message{Payload: []byte("small"), RequireAck: true, Header: vstp.Header{{Key: "kind", Value: "a1"}}},
		&vstp.Message{},
		&vstp.Message{Payload: someBytes(300_000), RequireAck: true, Header: vstp.Header{{Key: "kind", Value: "large"}}})
	<-done
	rec.done.Wait()
	return rec
}

// Plain TCP: byte stream, messages, fragments, ACK, PING, BYE; PROTOCOL §4, §5.
func TestStream(t *testing.T) {
	ctx := needTshark(t)
	rec := streamTraffic(ctx, t, &vstp.Config{Header: vstp.Header{{Key: "route", Value: "eu-1"}}})
	c := newCapture()
	whole := c.add(rec)
	rec.cuts = oddCuts
	cut := c.add(rec)
	ps := dissect(t, c.write(t))
	compare(t, ps, rec, whole, framing.TrailerByFlag, false)
	compare(t, ps, rec, cut, framing.TrailerByFlag, false)

	// What is compared there is all of it: the fragments of the large message are there.
	last := 0
	types := map[string]int{}
	for _, n := range framesOf(ps, cut, toServer) {
		types[n.child("vstp.type").Show]++
		require.Equal(t, "1", n.child("vstp.profile").Show)
		require.Empty(t, n.experts())
		if len(n.shows("vstp.message.total")) > 0 {
			require.Equal(t, "300000", n.shows("vstp.message.total")[0])
			last += len(n.shows("vstp.message.last"))
		}
	}
	require.Equal(t, 1, last)
	for _, want := range []string{"1", "3", "4", "6"} { // HELLO, DATA, PING, BYE
		require.NotZero(t, types[want], "type %s", want)
	}
}

// Without CRC, and compressed: §4.3, §5.5.
func TestStreamWithoutCRC(t *testing.T) {
	ctx := needTshark(t)
	rec := streamTraffic(ctx, t, &vstp.Config{Checksum: vstp.ChecksumOff, Compression: vstp.CompressionZstd})
	rec.cuts = oddCuts
	c := newCapture()
	port := c.add(rec)
	ps := dissect(t, c.write(t))
	compare(t, ps, rec, port, framing.TrailerByFlag, false)
	compressed := 0
	for _, n := range framesOf(ps, port, toServer)[1:] {
		require.Equal(t, "3", n.child("vstp.crc.status").Show)
		if n.child("vstp.payload.compressed").Value != "" {
			compressed++
		}
	}
	require.NotZero(t, compressed)
}

// On another port it is found by its bytes, or by Decode As, even if the first segment has
// one byte only.
func TestOtherPort(t *testing.T) {
	ctx := needTshark(t)
	rec := streamTraffic(ctx, t, nil)
	rec.serverPort = 7777
	rec.cuts = []int{5, 6, 1, 2000, 700}
	c := newCapture()
	port := c.add(rec)
	compare(t, dissect(t, c.write(t)), rec, port, framing.TrailerByFlag, false)
	require.Empty(t, dissect(t, c.write(t), "-o", "vstp.heuristic:FALSE"))

	rec.cuts = []int{1, 2, 1, 3000}
	c = newCapture()
	port = c.add(rec)
	compare(t, dissect(t, c.write(t), "-d", "tcp.port==7777,vstp"), rec, port, framing.TrailerByFlag, false)
	compare(t, dissect(t, c.write(t), "-o", "vstp.ports:7000-8000"), rec, port, framing.TrailerByFlag, false)
}

// Random access, as in the program with windows: a second pass shows the same.
func TestTwoPasses(t *testing.T) {
	ctx := needTshark(t)
	rec := streamTraffic(ctx, t, nil)
	rec.cuts = oddCuts
	c := newCapture()
	port := c.add(rec)
	compare(t, dissect(t, c.write(t), "-2"), rec, port, framing.TrailerByFlag, false)
}

// Inside TLS, with the keys: by ALPN, also on the default port, where TLS is not ours; §8.
func TestTLS(t *testing.T) {
	ctx := needTshark(t)
	dev, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{Hosts: []string{"127.0.0.1"}})
	require.NoError(t, err)
	addr, done := echoServer(t, "tcp", &vstp.Config{TLS: &tls.Config{Certificates: []tls.Certificate{dev.Certificate}}})
	relay, rec := relayTCP(t, addr)
	var keys bytes.Buffer
	config := &vstp.Config{TLS: &tls.Config{RootCAs: dev.Pool, KeyLogWriter: &keys}}
	nc, err := (&vstp.Dialer{Config: config}).DialContext(ctx, "tcp", relay)
	require.NoError(t, err)
	talk(ctx, t, nc, someBytes(100_000), &vstp.Message{Payload: []byte("secret"), Header: vstp.Header{{Key: "kind", Value: "a1"}}})
	<-done
	rec.done.Wait()
	keyFile := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(keyFile, keys.Bytes(), 0o600))

	c := newCapture()
	port := c.add(rec)
	file := c.write(t)
	ps := dissect(t, file, "-o", "tls.keylog_file:"+keyFile)
	sent := framesOf(ps, port, toServer)
	require.NotEmpty(t, sent)
	var lines []string
	stream := 0
	for _, n := range sent {
		require.Empty(t, n.experts())
		lines = append(lines, n.Text)
		if strings.HasPrefix(n.Text, "VSTP, DATA len=") {
			stream += len(n.child("vstp.payload").Value) / 2
		}
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{"VSTP, HELLO", "VSTP, DATA message=0 len=6", "VSTP, BYE"} {
		require.Contains(t, all, want)
	}
	require.Equal(t, 100_000, stream)
	require.Empty(t, dissect(t, file), "without the keys there is nothing to see, and nothing to complain about")
}

// rudp: a byte stream and messages in packets of an association, §7.
func TestReliableStream(t *testing.T) {
	ctx := needTshark(t)
	addr, done := echoServer(t, "rudp", nil)
	relay, rec := relayUDP(t, addr)
	nc, err := vstp.Dial("rudp", relay)
	require.NoError(t, err)
	talk(ctx, t, nc, someBytes(60_000),
		&vstp.Message{Payload: []byte("small"), Header: vstp.Header{{Key: "kind", Value: "a1"}}, RequireAck: true},
		&vstp.Message{Payload: []byte("in order"), Ordered: true, Channel: 3},
		&vstp.Message{Payload: someBytes(100_000)})
	<-done
	rec.waitForClose(t)
	c := newCapture()
	port := c.add(rec)
	ps := dissect(t, c.write(t))
	compare(t, ps, rec, port, framing.TrailerByFlag, false)
	seen := map[string]bool{}
	for _, p := range ps {
		for _, n := range p.frames {
			require.Empty(t, n.experts())
			for _, s := range n.shows("vstp.chunk.name") {
				seen[s] = true
			}
			for _, s := range n.shows("vstp.message.channel") {
				seen["channel "+s] = true
			}
			for _, s := range n.all("vstp.meta") {
				seen[s.Text] = true
			}
		}
	}
	for _, want := range []string{"ACK", "STREAM", "FRAGMENT", "CLOSE", "channel 3", "kind = a1"} {
		require.True(t, seen[want], "%s in %v", want, seen)
	}
}

// waitForClose waits until a CLOSE of the client has been recorded.
func (r *recording) waitForClose(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, d := range r.sent(toServer) {
			f, _, err := framing.ParseDatagram(d)
			if err == nil && f.Type == framing.TypeData && strings.Contains(string(reliable.AppendChunksText(nil, f.Payload)), "CLOSE ") {
				return true
			}
		}
		return false
	}, 10*time.Second, 5*time.Millisecond)
}

// udp: messages, with and without repair, and a HELLO in parts; §7.3, §7.8.
func TestMessages(t *testing.T) {
	ctx := needTshark(t)
	server, err := vstp.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	relay, rec := relayUDP(t, server.LocalAddr().String())
	long := vstp.Header{{Key: "route", Value: "eu-1"}}
	for range 8 {
		long = append(long, vstp.Field{Key: "filler", Value: strings.Repeat("x", 250)})
	}
	nc, err := (&vstp.Dialer{Config: &vstp.Config{Header: long}}).DialContext(ctx, "udp", relay)
	require.NoError(t, err)
	c := nc.(*vstp.Conn)
	for _, m := range []*vstp.Message{
		{Payload: []byte("may be lost"), Header: vstp.Header{{Key: "kind", Value: "a1"}}},
		{Payload: []byte("is repaired"), Repair: true},
		{Payload: []byte("is acknowledged"), RequireAck: true},
		{Payload: someBytes(50_000), RequireAck: true, Ordered: true, Channel: 7},
	} {
		require.NoError(t, c.SendMessage(ctx, m))
		_, _, err := server.(*vstp.PacketConn).ReceiveMessage(ctx)
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	rec.waitForClose(t)

	f := newCapture()
	port := f.add(rec)
	ps := dissect(t, f.write(t))
	compare(t, ps, rec, port, framing.TrailerByFlag, false)
	var info []string
	for _, n := range framesOf(ps, port, toServer) {
		require.Empty(t, n.experts(), n.Text)
		info = append(info, n.Text)
	}
	all := strings.Join(info, "\n")
	for _, want := range []string{"HELLO part off=0", "MESSAGE len=", "FRAGMENT msg=0", "channel=7 seq=0", "CLOSE code=0"} {
		require.Contains(t, all, want)
	}
	// The block that the parts make is shown once.
	var blocks int
	for _, n := range framesOf(ps, port, toServer) {
		if hs := n.all("vstp.header"); len(hs) == 2 && strings.HasPrefix(hs[1].Text, "Block of all parts") {
			blocks++
			require.Len(t, hs[1].all("vstp.meta"), len(long))
			require.Equal(t, "eu-1", hs[1].shows("vstp.meta.value")[0])
		}
	}
	require.Equal(t, 1, blocks)
}

// The crate profile on TCP: a trailer without the flag, and msg-id; §6.1 to §6.4.
func TestCrateStream(t *testing.T) {
	ctx := needTshark(t)
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serving, stop := context.WithCancel(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		ln.(*vstp.Listener).Serve(serving, func(ctx context.Context, c *vstp.Conn, m *vstp.Message) error {
			return c.SendMessage(ctx, &vstp.Message{Header: m.Header, Payload: m.Payload})
		})
	}()
	relay, rec := relayTCP(t, ln.Addr().String())
	nc, err := (&vstp.Dialer{Config: &vstp.Config{Legacy: true}}).DialContext(ctx, "tcp", relay)
	require.NoError(t, err)
	c := nc.(*vstp.Conn)
	for _, m := range []*vstp.Message{
		{Payload: []byte("hello")},
		{Payload: []byte("with an ACK"), RequireAck: true, Header: vstp.Header{{Key: "kind", Value: "a1"}, {Key: "empty", Value: ""}}},
		{Payload: someBytes(20_000), RequireAck: true},
	} {
		require.NoError(t, c.SendMessage(ctx, m))
		_, err := c.ReceiveMessage(ctx)
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	rec.done.Wait()
	stop()
	<-served
	f := newCapture()
	whole := f.add(rec)
	rec.cuts = oddCuts
	cut := f.add(rec)
	ps := dissect(t, f.write(t))
	compare(t, ps, rec, whole, framing.TrailerAlways, true)
	compare(t, ps, rec, cut, framing.TrailerAlways, true)
	require.Equal(t, []string{"2", "3"}, framesText(framesOf(ps, cut, toClient), "7", "vstp.msg_id"))
}

// framesText returns what fields of frames of a type show.
func framesText(frames []*node, typ, field string) []string {
	var s []string
	for _, n := range frames {
		if n.child("vstp.type").Show == typ {
			s = append(s, n.shows(field)...)
		}
	}
	return s
}

// The crate profile without trailers: the flag decides, §6.2.
func TestCrateStreamByFlag(t *testing.T) {
	needTshark(t)
	rec := &recording{serverPort: defaultPort, cuts: oddCuts}
	for i := range 5 {
		f := framing.Frame{Type: framing.TypeData, Payload: someBytes(i * 10)}
		if i == 4 {
			f.Flags = framing.FlagCRC
		}
		b, err := framing.AppendFrame(nil, f, framing.TrailerByFlag)
		require.NoError(t, err)
		rec.add(toServer, b)
	}
	c := newCapture()
	port := c.add(rec)
	compare(t, dissect(t, c.write(t)), rec, port, framing.TrailerByFlag, false)
}

// The crate profile in datagrams, with fragments; §6.5 to §6.8.
func TestCrateDatagrams(t *testing.T) {
	ctx := needTshark(t)
	server, err := vstp.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	relay, rec := relayUDP(t, server.LocalAddr().String())
	nc, err := (&vstp.Dialer{Config: &vstp.Config{Legacy: true}}).DialContext(ctx, "udp", relay)
	require.NoError(t, err)
	c := nc.(*vstp.Conn)
	for _, m := range []*vstp.Message{
		{Payload: []byte("hello")},
		{Payload: []byte("with an ACK"), RequireAck: true, Header: vstp.Header{{Key: "kind", Value: "a1"}}},
		{Payload: someBytes(5_000), RequireAck: true},
	} {
		require.NoError(t, c.SendMessage(ctx, m))
		_, _, err := server.(*vstp.PacketConn).ReceiveMessage(ctx)
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	f := newCapture()
	port := f.add(rec)
	ps := dissect(t, f.write(t))
	compare(t, ps, rec, port, framing.TrailerByFlag, true)
	sent := framesOf(ps, port, toServer)
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, framesText(sent, "3", "vstp.frag_index"))
	require.Equal(t, []string{"5", "5", "5", "5", "5"}, framesText(sent, "3", "vstp.frag_total"))
	require.Equal(t, []string{"1", "2"}, framesText(framesOf(ps, port, toClient), "7", "vstp.msg_id"))
}
