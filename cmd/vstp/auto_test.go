package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// autoSite is what commands do that are told nothing.
var autoSite = site{network: "auto", listen: "127.0.0.1:0"}

// Without --network, a server takes clients of all networks, and a client finds servers of
// all.
func TestDefaultNetwork(t *testing.T) {
	dir := t.TempDir()
	addr, _ := autoSite.serve(t, "serve", dir)
	for _, c := range []struct{ flags, want string }{
		{"", `^connected by auto to \S+ via udp in `},
		{"--network auto4", `^connected by auto4 to \S+ via udp in `},
		{"--pin udp", `^connected by auto to \S+ via udp in `},
		{"--pin tcp", `^connected by auto to \S+ via tcp in `},
		{"--prefer tcp", `^connected by auto to \S+ via tcp in `},
		{"--no-standby", `^connected by auto to \S+ via udp in `},
		{"--network tcp", `^connected by tcp to \S+ in `},
		{"--network rudp", `^connected by rudp to \S+ in `},
		{"--compress", `^connected by tcp to \S+ in `},
	} {
		require.Regexp(t, c.want, vstpOK(t, append([]string{"ping", "-c", "1", addr}, strings.Fields(c.flags)...)...))
	}
	for network, want := range map[string]string{"tcp": "via tcp", "rudp": "via udp"} {
		addr, _ := site{network: network, listen: "127.0.0.1:0", server: []string{"--network", network}}.serve(t, "serve", dir)
		require.Contains(t, vstpOK(t, "ping", "-c", "1", addr), want)
	}
	addr, _ = site{listen: "127.0.0.1:0", server: []string{"--compress"}}.serve(t, "serve", dir)
	require.Contains(t, vstpOK(t, "ping", "-c", "1", addr), "via tcp")
}

// What is said of carriers.
func TestCarrierOutput(t *testing.T) {
	src := t.TempDir()
	writeFile(t, src+"/f", randomBytes(1, 1000))
	s := autoSite.withTLS(t)
	addr, server := s.serve(t, "serve", "-v", src)
	p := start(t, nil, s.args("get", "-v", addr+"/f", t.TempDir())...)
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Regexp(t, `connected by auto\+tls to \S+ via udp\+tls; TLS 1\.3`, p.stderr.String())
	require.Regexp(t, `(?m)^vstp: 1 file, .* via udp\+tls$`, p.stderr.String())
	server.stderr.wait(t, `connected by auto\+tls to \S+ via udp\+tls`)

	out := vstpOK(t, s.args("ping", "-c", "2", "-i", "1ms", "--pin", "tcp", addr)...)
	require.Equal(t, 2, strings.Count(out, " via tcp+tls\n"))
	var rep pingReport
	require.NoError(t, json.Unmarshal([]byte(vstpOK(t, s.args("ping", "--json", "-c", "1", addr)...)), &rep))
	require.Equal(t, "auto+tls", rep.Network)
	require.Equal(t, "udp+tls", rep.Carrier)

	require.Equal(t, "moved from udp to tcp: silence; nothing came for 312ms; 1.2 KiB sent again",
		moveText(vstp.Move{From: "udp", To: "tcp", Reason: "silence", Gap: 312 * time.Millisecond, Resent: 1229}))
	require.Equal(t, "moved from tcp to udp: forced", moveText(vstp.Move{From: "tcp", To: "udp", Reason: "forced"}))
}

// A connection whose TCP breaks goes on, without any retry, where the other side is one
// that can move: on another TCP connection if there is no UDP.
func TestAutoSurvivesCuts(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	writeFile(t, src+"/big", randomBytes(1, 8<<20))
	addr, _ := autoSite.serve(t, "serve", "--writable", src)
	cut := newCutter(t, addr, 3<<20, 1<<20).Addr().String() // has no UDP
	p := start(t, strings.NewReader(""), "get", "-v", cut+"/big", dst)
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Contains(t, p.stderr.String(), "via tcp")
	require.NotContains(t, p.stderr.String(), "resumed")
	require.Equal(t, tree(t, src), tree(t, dst))
	cut = newCutter(t, addr, 3<<20, 1<<20).Addr().String()
	p = start(t, strings.NewReader(""), "put", dst+"/big", cut+"/up")
	require.Equal(t, exitOK, p.wait(), p.stderr.String())
	require.Equal(t, readFile(t, src+"/big"), readFile(t, src+"/up"))
}

// What is wrong on both carriers is one line, and the more telling half has the advice.
func TestExplainCarriers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	ln.Close()
	require.Regexp(t, `^vstp: dial auto \S+: on udp and tcp: connect: connection refused \(is a vstp server running there\?\)$`, vstpFails(t, exitFailure, "ping", addr))

	both := func(errs ...error) error { return &net.OpError{Op: "dial", Err: errors.Join(errs...)} }
	require.Contains(t, explain(both(syscall.ECONNREFUSED, io.ErrUnexpectedEOF)), "hung up")
	require.Contains(t, explain(both(errors.New("x"), errors.New("tls: expired certificate"))), "expired")
}
