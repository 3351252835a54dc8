package vstp

import (
	"context"
	"errors"
	"net"
	"time"
)

// Dial connects to the address on the named network, as [net.Dial].
func Dial(network, address string) (net.Conn, error) { return (&Dialer{}).Dial(network, address) }

// DialTimeout is Dial with a bound on the time.
func DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return (&Dialer{NetDialer: &net.Dialer{Timeout: timeout}}).Dial(network, address)
}

// A Dialer holds the options for connecting to an address.
type Dialer struct {
	Config    *Config
	NetDialer *net.Dialer
}

func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return nil, errors.New("skeleton")
}
