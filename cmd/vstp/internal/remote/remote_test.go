package remote

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseFile(t *testing.T) {
	tests := []struct {
		in   string
		want File
	}{
		{"host/a", File{"host", "a", false}},
		{"host:1/a/b", File{"host:1", "a/b", false}},
		{"host/a/", File{"host", "a", true}},
		{"host/", File{"host", ".", true}},
		{"host//", File{"host", ".", true}},
		{"host//a//b", File{"host", "a/b", false}},
		{"[::1]:6969/a", File{"[::1]:6969", "a", false}},
		{"vstp://host/a", File{"host", "a", false}},
		{"/run/sock//a/b/", File{"/run/sock", "a/b", true}},
		{"/run/sock//", File{"/run/sock", ".", true}},
		{"./sock//a", File{"./sock", "a", false}},
		{"host/a/../b", File{"host", "b", false}},
		{"host/./b", File{"host", "b", false}},
	}
	for _, tt := range tests {
		got, err := ParseFile(tt.in)
		require.NoError(t, err, tt.in)
		require.Equal(t, tt.want, got, tt.in)
		again, err := ParseFile(got.String())
		require.NoError(t, err, tt.in)
		require.Equal(t, got, again)
	}
	for _, bad := range []string{"", "host", "/a", "/run/sock", "host/..", "host/../a", "host/a/../../b", "vstp://"} {
		_, err := ParseFile(bad)
		require.Error(t, err, bad)
	}
}

func TestParseEndpoint(t *testing.T) {
	tests := []struct {
		in   string
		want Endpoint
	}{
		{"tcp://127.0.0.1:80", Endpoint{Network: "tcp", Addr: "127.0.0.1:80"}},
		{"tcp6://[::1]:80", Endpoint{Network: "tcp6", Addr: "[::1]:80"}},
		{"unix:///run/sock", Endpoint{Network: "unix", Addr: "/run/sock"}},
		{"vstp://host", Endpoint{VSTP: true, Addr: "host"}},
		{"vstp://:6969", Endpoint{VSTP: true, Addr: ":6969"}},
		{"vstp:///run/sock", Endpoint{VSTP: true, Addr: "/run/sock"}},
		{"vstp+tls://host:1", Endpoint{VSTP: true, TLS: true, Addr: "host:1"}},
	}
	for _, tt := range tests {
		got, err := ParseEndpoint(tt.in)
		require.NoError(t, err, tt.in)
		require.Equal(t, tt.want, got, tt.in)
		require.Equal(t, tt.in, got.String())
	}
	for _, bad := range []string{"", "host:80", "://x", "tcp://", "tcp://host", "tcp://u@host:80", "vstp://host?x"} {
		_, err := ParseEndpoint(bad)
		require.Error(t, err, bad)
	}
	_, _, err := ParsePair("tcp://:1", "tcp://:2")
	require.ErrorContains(t, err, "one end")
	_, _, err = ParsePair("x", "vstp://a")
	require.Error(t, err)
	_, _, err = ParsePair("vstp://a", "x")
	require.Error(t, err)
	l, to, err := ParsePair("vstp://a", "vstp+tls://b")
	require.NoError(t, err)
	require.True(t, l.VSTP && to.TLS)
}
