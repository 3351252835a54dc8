// Package remote takes apart what users write to name a file on a server or an end
// of a proxy.
package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// A File is a path on a server.
type File struct {
	Addr string // as vstp.Dial takes it
	Path string // a slash-separated path below the served directory; "." for itself
	Dir  bool   // written with a slash at the end
}

// String returns f as it could have been written.
func (f File) String() string {
	sep := "/"
	if strings.Contains(f.Addr, "/") {
		sep = "//"
	}
	if f.Path == "." {
		return f.Addr + sep
	}
	s := f.Addr + sep + f.Path
	if f.Dir {
		s += "/"
	}
	return s
}

// ParseFile takes apart ADDRESS/path. The address ends at the first "//", for
// addresses that have slashes themselves (the path of a Unix socket), otherwise at
// the first slash. "vstp://" may precede it.
func ParseFile(s string) (File, error) {
	rest := strings.TrimPrefix(s, "vstp://")
	addr, p, ok := strings.Cut(rest, "//")
	if !ok {
		if strings.HasPrefix(rest, "/") {
			return File{}, fmt.Errorf("%q: the address of a Unix socket ends in two slashes: /run/sock//path", s)
		}
		addr, p, ok = strings.Cut(rest, "/")
	}
	switch {
	case addr == "":
		return File{}, fmt.Errorf("%q: no address; it should be HOST/path or HOST:PORT/path", s)
	case !ok:
		return File{}, fmt.Errorf("%q: no path; it should be HOST/path, or HOST/ for everything", s)
	}
	f := File{Addr: addr, Dir: p == "" || strings.HasSuffix(p, "/")}
	f.Path = path.Clean(strings.Trim(p, "/"))
	if !fs.ValidPath(f.Path) {
		return File{}, fmt.Errorf("%q: the path leaves the served directory", s)
	}
	return f, nil
}

// An Endpoint is one end of a proxy.
type Endpoint struct {
	VSTP    bool   // the vstp side
	TLS     bool   // written as vstp+tls
	Network string // of a plain socket, for net.Dial and net.Listen
	Addr    string
}

// String returns e as a URL.
func (e Endpoint) String() string {
	switch {
	case e.TLS:
		return "vstp+tls://" + e.Addr
	case e.VSTP:
		return "vstp://" + e.Addr
	}
	return e.Network + "://" + e.Addr
}

// ParseEndpoint takes apart vstp://ADDRESS, vstp+tls://ADDRESS or, for plain
// sockets, NETWORK://ADDRESS, such as tcp://127.0.0.1:80 and unix:///run/sock.
func ParseEndpoint(s string) (Endpoint, error) {
	scheme, addr, ok := strings.Cut(s, "://")
	if !ok || scheme == "" {
		return Endpoint{}, fmt.Errorf("%q: should be like tcp://127.0.0.1:80, unix:///run/sock or vstp://host:6969", s)
	}
	if addr == "" {
		return Endpoint{}, fmt.Errorf("%q: no address", s)
	}
	if strings.ContainsAny(addr, "?#@") {
		return Endpoint{}, fmt.Errorf("%q: the address is HOST:PORT or a path, nothing else", s)
	}
	switch scheme {
	case "vstp":
		return Endpoint{VSTP: true, Addr: addr}, nil
	case "vstp+tls":
		return Endpoint{VSTP: true, TLS: true, Addr: addr}, nil
	}
	if !strings.HasPrefix(addr, "/") && !strings.Contains(addr, ":") {
		return Endpoint{}, fmt.Errorf("%q: a plain address needs a port", s)
	}
	return Endpoint{Network: scheme, Addr: addr}, nil
}

// ParsePair takes apart both ends of a proxy, one of which must be vstp's.
func ParsePair(listen, to string) (l, t Endpoint, err error) {
	if l, err = ParseEndpoint(listen); err != nil {
		return l, t, err
	}
	if t, err = ParseEndpoint(to); err != nil {
		return l, t, err
	}
	if !l.VSTP && !t.VSTP {
		return l, t, errors.New("one end must be vstp:// or vstp+tls://")
	}
	return l, t, nil
}
