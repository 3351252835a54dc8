package vstp_test

import (
	"crypto/tls"
	"flag"
	"sync"
	"time"

	"github.com/vstp-go/vstp"
	"github.com/vstp-go/vstp/tlsvstp"
)

// sealAll has the tests over simulated networks use TLS where they use plaintext:
//
//	go test -run 'Stack|Sim|Lossy' . -sealed
var sealAll = flag.Bool("sealed", false, "simulated networks carry TLS")

// simCert is good for all hosts of simulated networks, whose time is another one.
var simCert = sync.OnceValue(func() *tls.Config {
	cert, err := tlsvstp.SelfSigned(tlsvstp.DevOptions{
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		ValidFor:  100 * 365 * 24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{cert.Certificate},
		RootCAs:            cert.Pool,
		ServerName:         "localhost",
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
})

// simConfig returns config, with TLS if that is asked for.
func simConfig(config *vstp.Config) *vstp.Config {
	if !*sealAll || config != nil && (config.TLS != nil || config.Legacy) {
		return config
	}
	return sealedConfig(config)
}

// sealedConfig returns config with TLS, for both roles.
func sealedConfig(config *vstp.Config) *vstp.Config {
	c := vstp.Config{}
	if config != nil {
		c = *config
	}
	c.TLS = simCert()
	return &c
}
