// An unmodified net/http server and client over vstp: the server gets a
// vstp.Listener, the client's Transport a vstp.Dialer, and nothing else changes.
// Without arguments both sides run in one process, for a look:
//
//	go run ./examples/http
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
	case flag.NArg() == 0 && *socket == "":
		err = demo(ctx)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// demo serves one page and fetches it, over TCP on loopback, and shows what carried it.
func demo(ctx context.Context) error {
	ln, err := vstp.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	states := make(chan vstp.ConnectionState, 1)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello from net/http, %s %s from %s\n", r.Method, r.URL.Path, r.RemoteAddr)
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			states <- c.(*vstp.Conn).ConnectionState()
			return ctx
		},
		ReadHeaderTimeout: 10 * time.Second,
	}
	go srv.Serve(ln)
	defer srv.Close()
	fmt.Println("http.Server on a vstp.Listener at", ln.Addr())
	if err := get(ctx, "http://"+ln.Addr().String()+"/demo"); err != nil {
		return err
	}
	cs := <-states
	fmt.Printf("carried by VSTP over %s, session %x, checksum %v\n", cs.Carrier, cs.SessionID, cs.Checksum)
	return nil
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
