package vstp_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// An sshServer has one command, "cat", and forwards ports (direct-tcpip).
type sshServer struct{ config *ssh.ServerConfig }

func newSSHServer(t *testing.T) (*sshServer, ssh.PublicKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	config := &ssh.ServerConfig{PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if string(password) != "secret" {
			return nil, fmt.Errorf("no")
		}
		return nil, nil
	}}
	config.AddHostKey(signer)
	return &sshServer{config}, signer.PublicKey()
}

// serve serves one connection to its end.
func (s *sshServer) serve(c net.Conn) error {
	conn, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		c.Close()
		return err
	}
	go ssh.DiscardRequests(requests)
	var wg sync.WaitGroup
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			wg.Go(func() { serveExec(ch) })
		case "direct-tcpip":
			wg.Go(func() { serveForward(ch) })
		default:
			ch.Reject(ssh.UnknownChannelType, "")
		}
	}
	wg.Wait()
	conn.Close()
	return nil
}

func serveExec(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	for r := range requests {
		var command struct{ Value string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
			r.Reply(false, nil)
			continue
		}
		r.Reply(true, nil)
		status := struct{ Status uint32 }{127}
		if command.Value == "cat" {
			io.Copy(ch, ch)
			status.Status = 3
		}
		ch.SendRequest("exit-status", false, ssh.Marshal(&status))
		return
	}
}

func serveForward(nc ssh.NewChannel) {
	var target struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if ssh.Unmarshal(nc.ExtraData(), &target) != nil {
		nc.Reject(ssh.ConnectionFailed, "")
		return
	}
	c, err := net.Dial("tcp", net.JoinHostPort(target.Host, fmt.Sprint(target.Port)))
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		c.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(ch, c); ch.CloseWrite() })
	wg.Go(func() { io.Copy(c, ch); c.(*net.TCPConn).CloseWrite() })
	wg.Wait()
	ch.Close()
	c.Close()
}

// SSH over vstp: login, commands with input and exit status, a forwarded port with
// half-close, several at a time on one connection.
func TestSSH(t *testing.T) {
	server, hostKey := newSSHServer(t)
	target, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer target.Close()
	go echoAll(target)
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		served := async(func() error { return server.serve(s) })
		conn, channels, requests, err := ssh.NewClientConn(c, "vstp.test:22", &ssh.ClientConfig{
			User:            "user",
			Auth:            []ssh.AuthMethod{ssh.Password("secret")},
			HostKeyCallback: ssh.FixedHostKey(hostKey),
		})
		require.NoError(t, err)
		client := ssh.NewClient(conn, channels, requests)

		data := contentBytes(sized(4_000_000, 1_000_000))
		var g group
		for range 4 {
			g.Go(func() error {
				session, err := client.NewSession()
				if err != nil {
					return err
				}
				defer session.Close()
				session.Stdin = bytes.NewReader(data)
				out, err := session.Output("cat")
				exit, ok := err.(*ssh.ExitError)
				if !ok || exit.ExitStatus() != 3 {
					return fmt.Errorf("exit: %v", err)
				}
				if !bytes.Equal(out, data) {
					return errEcho
				}
				return nil
			})
			g.Go(func() error {
				fc, err := client.Dial("tcp", target.Addr().String())
				if err != nil {
					return err
				}
				defer fc.Close()
				k := talk{first: int64(len(data)), second: int64(len(data))}
				sent := async(func() error {
					if _, err := fc.Write(data); err != nil {
						return err
					}
					return fc.(halfCloser).CloseWrite()
				})
				if err := k.expect(fc, k.second); err != nil {
					return err
				}
				return <-sent
			})
		}
		g.Wait(t)
		require.NoError(t, client.Close())
		require.NoError(t, receive(t, served))
	})
}

// A login that fails is an SSH error on both ends, not one of the connection.
func TestSSHRefused(t *testing.T) {
	server, hostKey := newSSHServer(t)
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		served := async(func() error { return server.serve(s) })
		_, _, _, err := ssh.NewClientConn(c, "vstp.test:22", &ssh.ClientConfig{
			User:            "user",
			Auth:            []ssh.AuthMethod{ssh.Password("wrong")},
			HostKeyCallback: ssh.FixedHostKey(hostKey),
		})
		require.ErrorContains(t, err, "unable to authenticate")
		var refused *ssh.ServerAuthError
		require.ErrorAs(t, receive(t, served), &refused)
	})
}
