package udpio

import "syscall"

func newFast(*Conn, syscall.RawConn) socketIO { return nil }
