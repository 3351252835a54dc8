// An unmodified net/http server and client over vstp: the server gets a
// vstp.Listener, the client's Transport a vstp.Dialer, and nothing else changes.
//
//	go run ./examples/http -serve 127.0.0.1:6969 -dir .
//	go run ./examples/http http://127.0.0.1:6969/README.md
//
// With -network unix, -serve takes the path of a socket, and the client finds it with
// -socket; the host in the URL is then only a name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/vstp-go/vstp"
)

var (
	network = flag.String("network", "tcp", "network of both sides")
	serveAt = flag.String("serve", "", "serve at this address instead of fetching a URL")
	dir     = flag.String("dir", ".", "the directory to serve")
	socket  = flag.String("socket", "", "dial this address whatever the URL says")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *serveAt != "":
		err = serve(ctx)
	case flag.NArg() == 1:
		err = get(ctx, flag.Arg(0))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	ln, err := vstp.Listen(*network, *serveAt)
	if err != nil {
		return err
	}
	log.Printf("serving on %s", ln.Addr())
	srv := &http.Server{Handler: http.FileServer(http.Dir(*dir)), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func get(ctx context.Context, url string) error {
	var d vstp.Dialer
	tr := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		if *socket != "" {
			addr = *socket
		}
		return d.DialContext(ctx, *network, addr)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintln(os.Stderr, resp.Proto, resp.Status)
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
