// A file over a vstp connection with io.Copy: the sender opens a connection, tells
// name and size in its metadata, copies the file and closes. The receiver knows that
// it has all of it: io.EOF comes only after the sender has said so, anything else is an
// error.
//
//	go run ./examples/filetransfer -receive 127.0.0.1:6969 -dir /tmp
//	go run ./examples/filetransfer -send file.iso 127.0.0.1:6969
//
// "vstp serve", "vstp get" and "vstp put" are the grown-up version of this.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/vstp-go/vstp"
)

var (
	receiveAt = flag.String("receive", "", "receive files at this address")
	dir       = flag.String("dir", ".", "the directory to put them in")
	file      = flag.String("send", "", "send this file to the address in the arguments")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *receiveAt != "":
		err = receive(ctx)
	case *file != "" && flag.NArg() == 1:
		err = send(ctx, *file, flag.Arg(0))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func send(ctx context.Context, name, addr string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	d := &vstp.Dialer{Config: &vstp.Config{Header: vstp.Header{{Key: "file", Value: filepath.Base(name)}}}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := io.Copy(c, f)
	if err != nil {
		return err
	}
	if err := c.(*vstp.Conn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 1000))
	if err != nil {
		return err
	}
	fmt.Printf("sent %d bytes; the receiver says: %s\n", n, answer)
	return nil
}

func receive(ctx context.Context) error {
	root, err := os.OpenRoot(*dir) // nothing outside of it can be written
	if err != nil {
		return err
	}
	defer root.Close()
	ln, err := vstp.Listen("tcp", *receiveAt)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	log.Printf("receiving on %s", ln.Addr())
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			c := c.(*vstp.Conn)
			defer c.Close()
			n, err := store(root, c)
			if err != nil {
				log.Printf("%s: %v", c.RemoteAddr(), err)
				c.CloseWithError(vstp.CodeApplication, "not stored")
				return
			}
			fmt.Fprintf(c, "stored %d bytes", n)
		}()
	}
}

// store writes what comes to the file that the sender has named.
func store(root *os.Root, c *vstp.Conn) (int64, error) {
	name := c.ConnectionState().PeerHeader.Get("file")
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, c)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		root.Remove(name) // half a file is no file
		return n, err
	}
	log.Printf("%s: %q, %d bytes", c.RemoteAddr(), name, n)
	return n, nil
}
