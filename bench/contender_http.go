package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
)

func http1Contender() *contender {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return httpContender("http1", "HTTP/1.1 over TCP, net/http", "http", p)
}

func http2Contender() *contender {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	return httpContender("http2", "HTTP/2 over TLS 1.3, net/http", "https", p)
}

// http2StreamContender exchanges over one open request with both bodies
// streaming, instead of a request each time.
func http2StreamContender() *contender {
	c := http2Contender()
	c.name = "http2-stream"
	c.what = "HTTP/2 over TLS 1.3, one request with both bodies open"
	c.tests = []string{"rr"}
	c.exchange = nil
	return c
}

func httpContender(name, what, scheme string, protocols *http.Protocols) *contender {
	return &contender{
		name: name, what: what, base: "tcp",
		listen: func(e *env, host string) (acceptor, error) {
			ln, err := listenTCP(host)
			if err != nil {
				return nil, err
			}
			h := &httpHandler{interactive: e.interactive}
			server := &http.Server{Handler: h, Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0)}
			h.acceptor = newChanAcceptor(ln.Addr().String(), server.Close)
			if scheme == "https" {
				server.TLSConfig = cloneTLS(e.serverTLS)
				go server.ServeTLS(ln, "", "")
			} else {
				go server.Serve(ln)
			}
			return h.acceptor, nil
		},
		dial: func(e *env, addr string) (stream, error) {
			return dialHTTP(e, scheme, addr, protocols)
		},
		exchange: func(e *env, addr string) (exchanger, error) {
			return &httpExchanger{
				transport: httpTransport(e, protocols),
				url:       scheme + "://" + addr + "/exchange",
			}, nil
		},
	}
}

// cloneTLS copies a config for net/http, which adds its own ALPN protocols.
func cloneTLS(config *tls.Config) *tls.Config {
	if config == nil {
		return nil
	}
	return config.Clone()
}

func httpTransport(e *env, protocols *http.Protocols) *http.Transport {
	return &http.Transport{
		Protocols:          protocols,
		TLSClientConfig:    cloneTLS(e.clientTLS),
		DisableCompression: true,
	}
}

// An httpHandler turns requests for /stream into streams and answers those for
// /exchange with their body.
type httpHandler struct {
	acceptor    *chanAcceptor
	interactive bool
	buffers     sync.Pool
}

func (h *httpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/exchange" {
		h.exchange(w, r)
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := rc.Flush(); err != nil {
		return
	}
	s := &httpServerStream{r: r.Body, w: w, rc: rc, flush: h.interactive, done: make(chan struct{})}
	if h.acceptor.put(s) {
		<-s.done
	}
}

func (h *httpHandler) exchange(w http.ResponseWriter, r *http.Request) {
	buf, _ := h.buffers.Get().(*bytes.Buffer)
	if buf == nil {
		buf = new(bytes.Buffer)
	}
	defer h.buffers.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(r.Body); err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(buf.Len()))
	w.Write(buf.Bytes())
}

// An httpServerStream reads the request's body and writes the response's.
type httpServerStream struct {
	r     io.Reader
	w     io.Writer
	rc    *http.ResponseController
	flush bool
	once  sync.Once
	done  chan struct{}
}

func (s *httpServerStream) Read(p []byte) (int, error) { return s.r.Read(p) }

func (s *httpServerStream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil && s.flush {
		err = s.rc.Flush()
	}
	return n, err
}

func (s *httpServerStream) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// An httpClientStream writes the request's body and reads the response's.
type httpClientStream struct {
	io.Reader // the response's body
	io.Writer // the request's, nil in bulk tests
	close     func() error
}

func (s *httpClientStream) Close() error { return s.close() }

func dialHTTP(e *env, scheme, addr string, protocols *http.Protocols) (stream, error) {
	transport := httpTransport(e, protocols)
	method, body, pw := http.MethodGet, io.Reader(nil), (*io.PipeWriter)(nil)
	if e.interactive {
		method = http.MethodPost
		body, pw = io.Pipe()
	}
	req, err := http.NewRequest(method, scheme+"://"+addr+"/stream", body)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return &httpClientStream{
		Reader: resp.Body,
		Writer: pw,
		close: func() error {
			if pw != nil {
				pw.Close()
			}
			err := resp.Body.Close()
			transport.CloseIdleConnections()
			return err
		},
	}, nil
}

// An httpExchanger sends a request for each exchange, all on one connection.
type httpExchanger struct {
	transport *http.Transport
	url       string
}

func (x *httpExchanger) Exchange(req, resp []byte) error {
	r, err := http.NewRequest(http.MethodPost, x.url, bytes.NewReader(req))
	if err != nil {
		return err
	}
	answer, err := x.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.ReadFull(answer.Body, resp); err != nil {
		return err
	}
	// Reading up to io.EOF gives the connection back for the next request.
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && n != 0 {
		err = fmt.Errorf("%d bytes too many in the response", n)
	}
	return err
}

func (x *httpExchanger) Close() error {
	x.transport.CloseIdleConnections()
	return nil
}
