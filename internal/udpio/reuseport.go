package udpio

import "errors"

// Several sockets may have one port (SO_REUSEPORT), so that more than one goroutine reads
// what comes there. Which socket gets what, a program decides that the kernel runs for each
// datagram. It can on Linux; elsewhere there is one socket.

// errNoSteering says that a system cannot have a datagram go to one of several sockets.
var errNoSteering = errors.New("udpio: no choice among sockets that share a port here")
