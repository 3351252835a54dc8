package vstp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A netnsPair is a server and a client at the ends of a link.
type netnsPair struct {
	*netnsLink
	s, c *netnsPeer
	both NetnsConfig // what is said to both
	cert authority   // if TLS is used
}

func newNetnsPair(t *testing.T, both NetnsConfig, sealed bool) *netnsPair {
	t.Helper()
	p := &netnsPair{netnsLink: newNetnsLink(t, 12), both: both}
	if sealed {
		p.cert = newAuthority(t)
	}
	p.s, p.c = p.server.peer(t), p.client.peer(t)
	p.s.listen(p.serverConfig())
	return p
}

func (p *netnsPair) serverConfig() NetnsConfig {
	c := p.both
	if p.cert.cert != nil {
		c.Cert, c.Key = p.cert.cert.CertPEM, p.cert.cert.KeyPEM
	}
	return c
}

func (p *netnsPair) clientConfig() NetnsConfig {
	c := p.both
	c.Addr = p.address()
	if p.cert.cert != nil {
		c.Root, c.ServerName = p.cert.cert.CAPEM, "localhost"
	}
	return c
}

// connect dials and accepts.
func (p *netnsPair) connect(t *testing.T) NetnsDialed {
	t.Helper()
	d, err := p.c.dial(p.clientConfig())
	require.NoError(t, err)
	p.s.accept()
	return d
}

// transfer begins to send both ways.
func (p *netnsPair) transfer() {
	p.t.Helper()
	p.s.transfer(true)
	p.c.transfer(true)
	p.flows(128 << 10)
}

// until waits until both ends are as they should be.
func (p *netnsPair) until(what string, timeout time.Duration, f func(c, s NetnsState) bool) (c, s NetnsState) {
	p.t.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(10 * time.Millisecond) {
		c, s = p.c.state(), p.s.state()
		if f(c, s) {
			return c, s
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %v: %s\nclient: %+v\nserver: %+v", timeout, what, c, s)
		}
	}
}

// flows waits until n bytes more have come at either end, and returns how long after now the
// first of them came at the end that waited longest.
func (p *netnsPair) flows(n int64) {
	p.t.Helper()
	c0, s0 := p.c.state(), p.s.state()
	p.until("bytes both ways", 20*time.Second, func(c, s NetnsState) bool {
		return c.Received >= c0.Received+n && s.Received >= s0.Received+n
	})
}

// finish ends the transfer, and finds that all has come that was sent.
func (p *netnsPair) finish(t *testing.T) (c, s NetnsResult) {
	t.Helper()
	var cerr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, cerr = p.c.finish()
	}()
	s, err := p.s.finish()
	<-done
	require.NoError(t, err, "server")
	require.NoError(t, cerr, "client")
	require.NotZero(t, c.State.Sent)
	require.Equal(t, c.State.Sent, s.State.Received)
	require.Equal(t, s.State.Sent, c.State.Received)
	require.Equal(t, c.SentHash, s.ReceivedHash)
	require.Equal(t, s.SentHash, c.ReceivedHash)
	return c, s
}

// TestNetnsFaults: the faults are what they should be, as "rudp" and "tcp" see them.
func TestNetnsFaults(t *testing.T) {
	needNetns(t)
	t.Parallel()
	t.Run("udp blocked", func(t *testing.T) {
		p := newNetnsPair(t, NetnsConfig{Network: "rudp", Idle: time.Second}, true)
		p.connect(t)
		p.transfer()
		p.fault(udpBlocked)
		p.until("both have given up", 5*time.Second, func(c, s NetnsState) bool {
			return strings.HasPrefix(c.ReadEnd, "ErrIdleTimeout") && strings.HasPrefix(s.ReadEnd, "ErrIdleTimeout")
		})
		c := p.clientConfig()
		c.Handshake = 500 * time.Millisecond
		_, err := p.c.dial(c)
		require.ErrorContains(t, err, "ErrHandshakeTimeout")
		p.fault()
		p.connect(t)
	})
	t.Run("udp comes back", func(t *testing.T) {
		p := newNetnsPair(t, NetnsConfig{Network: "rudp"}, false)
		p.connect(t)
		p.transfer()
		for _, rule := range []string{udpBlocked, udpRejected} {
			from := time.Now()
			p.fault(rule)
			p.until("silence", 5*time.Second, func(c, s NetnsState) bool { return time.Since(from) > time.Second })
			p.fault()
			p.flows(64 << 10)
		}
		p.fault(udpLoss40)
		p.flows(256 << 10)
		p.fault(udpSmall)
		p.until("silence", 5*time.Second, func(c, s NetnsState) bool {
			return time.Since(c.LastRead) > 300*time.Millisecond && time.Since(s.LastRead) > 300*time.Millisecond
		})
		p.fault()
		p.finish(t)
	})
	t.Run("udp at 1 Mbit/s", func(t *testing.T) {
		p := newNetnsPair(t, NetnsConfig{Network: "rudp"}, false)
		p.connect(t)
		p.transfer()
		p.fault(udpMegabit)
		time.Sleep(time.Second)
		from, at := time.Now(), p.s.state().Received
		time.Sleep(time.Second)
		rate := float64(p.s.state().Received-at) * 8 / 1e6 / time.Since(from).Seconds()
		t.Logf("%.2f Mbit/s", rate)
		p.fault()
		p.finish(t)
	})
	t.Run("tcp", func(t *testing.T) {
		p := newNetnsPair(t, NetnsConfig{Network: "tcp"}, true)
		p.connect(t)
		p.transfer()
		p.fault(p.tcpStalled())
		_, s := p.until("silence", 5*time.Second, func(c, s NetnsState) bool { return time.Since(s.LastRead) > 500*time.Millisecond })
		require.Empty(t, s.ReadEnd)
		p.fault()
		p.flows(256 << 10)
		p.fault(tcpReset)
		p.until("reset", 5*time.Second, func(c, s NetnsState) bool { return c.ReadEnd != "" && s.ReadEnd != "" })
		_, err := p.c.dial(p.clientConfig())
		require.ErrorContains(t, err, "ECONNREFUSED")
	})
}
