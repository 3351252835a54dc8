package simnet

import (
	"net/netip"
	"time"

	"github.com/pion/transport/v3/vnet"
)

// Dependency says on what of the other end a NAT's mapping or filter depends (RFC 4787,
// sections 4.1 and 5).
type Dependency uint8

const (
	EndpointIndependent Dependency = iota
	AddressDependent
	AddressAndPortDependent
)

// NATOptions are the behaviour of a NAT. The zero value is a "full cone".
type NATOptions struct {
	Mapping Dependency // which packets of one socket leave from the same port
	Filter  Dependency // who can send to that port

	// Lifetime is how long a mapping lasts without a packet from the inside. If zero,
	// it is 30 s. Afterwards the socket gets another port, as in a NAT rebinding.
	Lifetime time.Duration
}

// NAT is a router that translates the addresses of the hosts behind it to its own.
type NAT struct {
	net    *Net
	addr   netip.Addr
	router *vnet.Router
}

// NAT adds a NAT with a public address, for hosts in a private network such as
// "192.168.1.0/24". It needs Options.VNet, and panics if something is wrong. Private
// addresses must not occur twice in a network.
//
// The way out is the path from a host behind the NAT to the other end; the way back is
// the path from there to the NAT. Hairpinning and preserving ports are not there.
func (n *Net) NAT(public, private string, o NATOptions) *NAT {
	if n.vnet == nil {
		panic("simnet: NAT needs Options.VNet")
	}
	x := &NAT{net: n, addr: netip.MustParseAddr(public)}
	var err error
	x.router, err = n.vnet.newRouter(&vnet.RouterConfig{
		CIDR:      private,
		StaticIPs: []string{public},
		NATType: &vnet.NATType{
			MappingBehavior:   vnet.EndpointDependencyType(o.Mapping),
			FilteringBehavior: vnet.EndpointDependencyType(o.Filter),
			MappingLifeTime:   o.Lifetime,
		},
	})
	if err == nil {
		err = n.vnet.router.AddRouter(x.router)
	}
	if err == nil {
		err = x.router.Start() // the one it belongs to runs already
	}
	if err != nil {
		panic("simnet: " + err.Error())
	}
	n.tableMu.Lock()
	defer n.tableMu.Unlock()
	n.nats[x.addr] = x
	return x
}

// Addr returns the public address.
func (x *NAT) Addr() netip.Addr { return x.addr }

// Host returns the host with that private address, which it adds if it is not there.
func (x *NAT) Host(addr string) *Host { return x.net.host(addr, x.router) }
