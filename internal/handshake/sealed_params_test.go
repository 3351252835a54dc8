package handshake

import (
	"reflect"
	"testing"
	"time"

	"github.com/vstp-go/vstp/framing"
)

var (
	sealedClient = SealedParams{DatagramParams: goldenClient}
	sealedServer = SealedParams{
		DatagramParams: DatagramParams{
			Params:      Params{MaxMessage: 1 << 30, Idle: 20 * time.Second},
			SourceID:    serverID,
			MaxDatagram: MaxMaxDatagram,
			Credit:      goldenServer.Credit,
			AckDelay:    time.Millisecond,
		},
		ClientID: clientID, SessionID: goldenID, ResetToken: testToken, HasResetToken: true, Confirm: true,
	}
)

// exchange gives the parameters of both ends to each other.
func exchange(t testing.TB, client, server SealedParams) (c, s *SealedParams) {
	t.Helper()
	cb, err := AppendClientParams(nil, &client)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = ParseClientParams(cb); err != nil {
		t.Fatal(err)
	}
	sb, err := AppendServerParams(nil, &server)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = ParseServerParams(sb); err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestSealedParams: what is sent is what is understood, and both ends come to the same.
func TestSealedParams(t *testing.T) {
	c, s := exchange(t, sealedClient, sealedServer)
	want := sealedClient
	want.Versions, want.MaxFrame, want.MaxMessage, want.AckDelay, want.Checksum = []uint64{1}, DefaultMaxFrame, DefaultMaxMessage, DefaultAckDelay, false
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("%+v\nwant %+v", *c, want)
	}
	want = sealedServer
	want.Versions, want.MaxFrame = []uint64{1}, DefaultMaxFrame
	if !reflect.DeepEqual(*s, want) {
		t.Errorf("%+v\nwant %+v", *s, want)
	}
	cr, err := Negotiate(&sealedClient, s, true)
	if err != nil {
		t.Fatal(err)
	}
	sr, err := Negotiate(c, &sealedServer, false)
	if err != nil {
		t.Fatal(err)
	}
	if cr.PeerID != serverID || sr.PeerID != clientID || cr.SessionID != goldenID || sr.SessionID != goldenID || cr.Version != 1 || sr.Version != 1 ||
		!cr.Stream || !sr.Stream || cr.Idle != 20*time.Second || sr.Idle != 20*time.Second || cr.Checksum || sr.Checksum || cr.Peer != s.limits() || sr.Peer != c.limits() ||
		cr.PeerMaxMessage != 1<<30 || sr.PeerMaxMessage != DefaultMaxMessage {
		t.Errorf("client %+v\nserver %+v", cr, sr)
	}
	// What is absent.
	c, s = exchange(t, SealedParams{DatagramParams: DatagramParams{SourceID: clientID}}, SealedParams{DatagramParams: DatagramParams{SourceID: serverID}, ClientID: clientID})
	for _, p := range []*SealedParams{c, s} {
		if p.limits() != (DatagramLimits{MinMaxDatagram, Credit{}, DefaultMaxMessage, DefaultAckDelay, false}) || p.HasResetToken || p.Confirm || p.Stream || p.Idle != 0 {
			t.Errorf("%+v", p)
		}
	}
}

// TestNegotiateVersions: §4.3, and the ids of §8.6.
func TestNegotiateVersions(t *testing.T) {
	with := func(p SealedParams, versions ...uint64) *SealedParams {
		p.Versions = versions
		return &p
	}
	r, err := Negotiate(with(sealedClient, 7, 3, 1), with(sealedServer, 1, 3), false)
	if err != nil || r.Version != 3 {
		t.Fatal(r.Version, err)
	}
	_, err = Negotiate(with(sealedClient, 7), &sealedServer, false)
	wantError(t, "none known", err, framing.CodeVersion)
	_, err = Negotiate(&sealedClient, with(sealedServer, 3), true)
	wantError(t, "not offered", err, framing.CodeVersion)
	other := *with(sealedServer, 1)
	other.ClientID[0]++
	_, err = Negotiate(&sealedClient, &other, true)
	wantError(t, "another client", err, framing.CodeProtocol)
	bad := sealedClient
	bad.MaxDatagram = 1
	_, err = Negotiate(&bad, with(sealedServer, 1), true)
	wantError(t, "own", err, framing.CodeInternal)
	_, err = AppendClientParams(nil, &bad)
	wantError(t, "own", err, framing.CodeInternal)
	_, err = AppendServerParams(nil, &bad)
	wantError(t, "own", err, framing.CodeInternal)
	_, err = AppendServerParams(nil, with(sealedServer, 1, 3))
	wantError(t, "several", err, framing.CodeInternal)
}
