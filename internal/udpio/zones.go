package udpio

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// zones knows the names of interfaces: asking the system for each packet of a
// link-local address is far too slow. The zero value is ready; it is safe for
// concurrent use.
type zones struct {
	mu      sync.Mutex
	expires time.Time
	names   map[int]string
	indexes map[string]int
}

const (
	zonesLife = time.Minute // names and numbers change when interfaces come and go
	maxZones  = 256
)

// refresh is called with mu held.
func (z *zones) refresh() {
	now := time.Now()
	if z.names == nil || now.After(z.expires) || len(z.names) > maxZones || len(z.indexes) > maxZones {
		z.names, z.indexes = make(map[int]string), make(map[string]int)
		z.expires = now.Add(zonesLife)
	}
}

func (z *zones) name(index int) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refresh()
	name, ok := z.names[index]
	if !ok {
		name = zoneName(index)
		z.names[index] = name
	}
	return name
}

// index returns 0 for a zone that there is not.
func (z *zones) index(name string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refresh()
	index, ok := z.indexes[name]
	if !ok {
		if ifi, err := net.InterfaceByName(name); err == nil {
			index = ifi.Index
		} else {
			index, _ = strconv.Atoi(name)
		}
		z.indexes[name] = index
	}
	return index
}

// addrPort is what a packet's source address is to us, see canonical.
func (z *zones) addrPort(ip netip.Addr, index int, port uint16) netip.AddrPort {
	ip = ip.Unmap()
	if index > 0 && hasScope(ip) {
		ip = ip.WithZone(z.name(index))
	}
	return netip.AddrPortFrom(ip, port)
}
