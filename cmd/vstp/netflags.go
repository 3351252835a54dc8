package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// idleFactor is how many keep-alive intervals without any sign end a connection.
const idleFactor = 4

// defaultKeepAlive is the keep-alive interval on streams. On datagrams the library's
// own defaults hold.
const defaultKeepAlive = 30 * time.Second

// defaultNetwork works wherever one of the others does.
const defaultNetwork = "auto"

// netFlags are the flags of commands that dial or listen.
type netFlags struct {
	*options

	network    string
	netGiven   func() bool // whether the network was chosen
	auto       autoFlags
	roles      role
	tls        bool
	cert, key  string
	ca         string
	clientCA   string
	insecure   bool
	serverName string
	checksum   string
	compress   bool
	timeout    time.Duration
	keepAlive  keepAliveFlag
	congestion string
	headers    []string
}

// A role says which flags a command has.
type role uint8

const (
	dials role = 1 << iota
	listens
	talks // messages too, so "udp" is a network for it
)

// isMessages reports whether the network has messages and no byte stream.
func (f *netFlags) isMessages() bool {
	return f.network == "udp" || f.network == "udp4" || f.network == "udp6"
}

// isDatagrams reports whether the network is one on UDP, or on UDP too.
func (f *netFlags) isDatagrams() bool {
	return f.isMessages() || strings.HasPrefix(f.network, "rudp") || f.isAuto()
}

// A keepAliveFlag is a time, or what is best for the network if the flag is not given.
type keepAliveFlag struct {
	interval time.Duration
	set      bool
}

func (k *keepAliveFlag) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("it cannot be negative")
	}
	k.interval, k.set = d, err == nil
	return err
}

func (k *keepAliveFlag) Type() string { return "duration" }

func (k *keepAliveFlag) String() string {
	if !k.set {
		return ""
	}
	return k.interval.String()
}

// apply sets the times of c. Zero means never on streams, and a default on datagrams.
func (k *keepAliveFlag) apply(c *vstp.Config, datagrams bool) {
	switch {
	case !k.set && datagrams:
	case !k.set:
		c.KeepAlive, c.IdleTimeout = defaultKeepAlive, idleFactor*defaultKeepAlive
	case k.interval > 0:
		c.KeepAlive, c.IdleTimeout = k.interval, idleFactor*k.interval
	default:
		c.KeepAlive, c.IdleTimeout = -1, -1
	}
}

func addNetFlags(cmd *cobra.Command, o *options, r role) *netFlags {
	f := &netFlags{options: o, roles: r}
	fs := cmd.Flags()
	fs.SortFlags = false
	networks := "auto, auto4, auto6 (a stream over UDP or TCP, whichever is better, moving while open; a server" +
		" takes clients of both), or rudp, rudp4, rudp6 (over UDP), or tcp, tcp4, tcp6, unix"
	if r&talks != 0 {
		networks += ", or udp, udp4, udp6 (messages)"
	}
	fs.StringVar(&f.network, "network", defaultNetwork, "network by `name`: "+networks)
	f.netGiven = func() bool { return fs.Changed("network") }
	fs.BoolVar(&f.tls, "tls", false, "TLS 1.3, on every network; implied by the flags below that need it")
	fs.StringVar(&f.cert, "cert", "", "own certificate, a PEM `file`")
	fs.StringVar(&f.key, "key", "", "its private key, a PEM `file`")
	if r&dials != 0 {
		fs.StringVar(&f.ca, "ca", "", "trust servers with certificates of the authorities in this PEM `file`")
		fs.BoolVar(&f.insecure, "insecure", false, "do not check the server's certificate (for tests)")
		fs.StringVar(&f.serverName, "server-name", "", "`name` expected in the server's certificate, if not the host dialed")
	}
	if r&dials != 0 {
		f.auto.add(cmd)
	}
	if r&listens != 0 {
		fs.StringVar(&f.clientCA, "client-ca", "", "demand client certificates of the authorities in this PEM `file`")
	}
	fs.StringVar(&f.checksum, "checksum", "auto", "CRC32 of every frame: auto (on without TLS), on, off")
	fs.BoolVar(&f.compress, "compress", false, "zstd, if the other side has the flag too; on TCP only, which is --network tcp where none is given")
	fs.StringVar(&f.congestion, "congestion", "", "on UDP, congestion `control`: bbr (if not given) or cubic")
	fs.DurationVar(&f.timeout, "timeout", 10*time.Second, "for dialing and the handshake")
	fs.Var(&f.keepAlive, "keepalive", fmt.Sprintf("ask a silent peer for a sign of life after this; give up after %d times as long; 0 for never"+
		" (if not given, %v, and %v on tcp and unix)", idleFactor, vstp.DefaultKeepAlive, defaultKeepAlive))
	fs.StringArrayVar(&f.headers, "header", nil, "metadata `key=value` for the handshake; repeatable")
	return f
}

// usesTLS reports whether any flag asks for TLS. A flag that means nothing without
// it must not be ignored: the user would think the connection private.
func (f *netFlags) usesTLS() bool {
	return f.tls || f.cert != "" || f.key != "" || f.ca != "" || f.clientCA != "" || f.insecure || f.serverName != ""
}

// config is what client and server configurations have in common. log gets the
// library's messages with -v.
func (f *netFlags) config(log io.Writer) (*vstp.Config, error) {
	if f.quiet && f.verbose {
		return nil, usagef("--quiet and --verbose exclude each other")
	}
	c := &vstp.Config{HandshakeTimeout: f.timeout, Logger: f.logger(log)}
	if f.timeout <= 0 {
		return nil, usagef("--timeout must be positive")
	}
	if f.compress && !f.netGiven() {
		f.network = "tcp"
	}
	if err := f.checkNetwork(); err != nil {
		return nil, err
	}
	if f.isAuto() {
		f.auto.apply(f, c, log)
	}
	f.keepAlive.apply(c, f.isDatagrams())
	if f.congestion == "cubic" {
		c.CongestionControl = vstp.CUBIC
	}
	switch f.checksum {
	case "auto":
	case "on":
		c.Checksum = vstp.ChecksumOn
	case "off":
		c.Checksum = vstp.ChecksumOff
	default:
		return nil, usagef("--checksum is auto, on or off, not %q", f.checksum)
	}
	if f.compress {
		c.Compression = vstp.CompressionZstd
	}
	for _, h := range f.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok || k == "" {
			return nil, usagef("--header is key=value, not %q", h)
		}
		c.Header = append(c.Header, vstp.Field{Key: k, Value: v})
	}
	if err := c.Header.Validate(); err != nil {
		return nil, &usageError{fmt.Errorf("--header: %w", err)}
	}
	if c.Header.HasReserved() {
		return nil, &usageError{fmt.Errorf("--header: %w", vstp.ErrReservedKey)}
	}
	return c, nil
}

// checkNetwork refuses flags that mean nothing on the network.
func (f *netFlags) checkNetwork() error {
	switch {
	case f.isMessages() && f.roles&talks == 0:
		return usagef("--network %s has messages only, and this needs a byte stream: --network r%s has both", f.network, f.network)
	case f.congestion != "" && f.congestion != "bbr" && f.congestion != "cubic":
		return usagef("--congestion is bbr or cubic, not %q", f.congestion)
	case f.congestion != "" && !f.isDatagrams():
		return usagef("--congestion is for networks on UDP such as rudp; on %s the system decides", f.network)
	case f.compress && f.isDatagrams():
		return usagef("--compress does not work on %s: compress before, or use --network tcp", f.network)
	}
	return f.auto.check(f)
}

// client returns the configuration for dialing.
func (f *netFlags) client(log io.Writer) (*vstp.Config, error) { return f.clientTLS(log, f.usesTLS()) }

func (f *netFlags) clientTLS(log io.Writer, useTLS bool) (*vstp.Config, error) {
	c, err := f.config(log)
	if err != nil || !useTLS {
		return c, err
	}
	t := &tls.Config{
		ServerName: f.serverName, InsecureSkipVerify: f.insecure,
		ClientSessionCache: tls.NewLRUClientSessionCache(0), // for commands that dial more than once
	}
	if f.ca != "" {
		if t.RootCAs, err = tlsvstp.LoadPool(f.ca); err != nil {
			return nil, err
		}
	}
	if t.Certificates, err = f.certificates(); err != nil {
		return nil, err
	}
	c.TLS = t
	return c, nil
}

// server returns the configuration for listening.
func (f *netFlags) server(log io.Writer) (*vstp.Config, error) { return f.serverTLS(log, f.usesTLS()) }

func (f *netFlags) serverTLS(log io.Writer, useTLS bool) (*vstp.Config, error) {
	c, err := f.config(log)
	if err != nil || !useTLS {
		return c, err
	}
	t := &tls.Config{}
	if t.Certificates, err = f.certificates(); err != nil {
		return nil, err
	}
	if len(t.Certificates) == 0 {
		return nil, usagef("a server with TLS needs --cert and --key; \"vstp cert localhost\" makes them")
	}
	if f.clientCA != "" {
		if t.ClientCAs, err = tlsvstp.LoadPool(f.clientCA); err != nil {
			return nil, err
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c.TLS = t
	return c, nil
}

// certificates loads --cert and --key, of which both or none must be given.
func (f *netFlags) certificates() ([]tls.Certificate, error) {
	switch {
	case f.cert == "" && f.key == "":
		return nil, nil
	case f.cert == "" || f.key == "":
		return nil, usagef("--cert and --key belong together")
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("loading --cert and --key: %w", err)
	}
	return []tls.Certificate{cert}, nil
}
