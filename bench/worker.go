package main

import (
	"bufio"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"
)

// workerEnv is the environment variable that holds the spec of a worker process.
const workerEnv = "VSTP_BENCH_WORKER"

// A spec tells a worker process what to do. It is also what a cell of a table is.
type spec struct {
	Role      string // server, client or spin
	Contender string
	Names     []string // of all contenders, in a fine test
	Test      string
	Size      int           // of a Write, or of a request and its answer
	Duration  time.Duration // of the measurement, without warm-up
	Count     int           // of exchanges, of connections, of rounds of a fine test
	Parallel  int           // dials at a time
	Resume    bool          // handshakes resume a TLS session
	Reader    bool          // each idle connection has a goroutine blocked in Read

	Addrs     []string // of the server, for the client
	CertPEM   []byte
	KeyPEM    []byte
	Dir       string // for unix sockets
	Profile   string // file name prefix for CPU profiles; "" for none
	GiveUp    time.Duration
	Addresses int // how many addresses the server listens on

	// Of the test over a link.
	Host  string        // where the server listens
	Delay time.Duration // before the client dials
	Skip  time.Duration // from the first byte to the measurement
	// Of the link, for tests that need to know.
	RTT     time.Duration
	Goodput float64 // bytes a second that it can carry

	// Of the flood test.
	Flood, Target, Direction string
	Rate                     int     // datagrams a second
	Limit                    float64 // of the transfer, in MB/s; 0 for none
}

// values are the figures a worker measured, by name.
type values map[string]float64

// A line is one line from a worker to the controller, in JSON.
type line struct {
	Addrs  []string            `json:",omitempty"` // the server is ready
	Values values              `json:",omitempty"` // the worker has measured
	Fine   map[string][]values `json:",omitempty"` // the same for a fine test
	Error  string              `json:",omitempty"`
}

// warmup is how long a stream is used before anything is measured.
func (s *spec) warmup() time.Duration { return min(150*time.Millisecond, s.Duration) }

// workerMain runs a worker: it talks JSON lines on stdout and ends when stdin does.
func workerMain(text string) {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, "bench worker:", err)
		os.Exit(2)
	}
	// Nothing here runs without an end, whatever becomes of the controller.
	time.AfterFunc(s.GiveUp, func() {
		fmt.Fprintln(os.Stderr, "bench worker: out of time")
		os.Exit(3)
	})
	stop := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadByte()
		close(stop)
	}()
	out := json.NewEncoder(os.Stdout)
	var err error
	switch s.Role {
	case "spin":
		err = spin(stop)
	case "flood":
		err = floodMain(&s, out, stop)
	case "server":
		err = serverMain(&s, out, stop)
	case "client":
		err = clientMain(&s, out, stop)
	default:
		err = fmt.Errorf("unknown role %q", s.Role)
	}
	if err != nil {
		out.Encode(line{Error: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

func serverMain(s *spec, out *json.Encoder, stop <-chan struct{}) error {
	if s.Test == "flood" {
		return floodServer(s, out, stop)
	}
	c, e, err := s.prepare()
	if err != nil {
		return err
	}
	srv := newServer(s)
	defer srv.profile.stop()
	var addrs []string
	for _, name := range s.Names {
		a, err := contenderNamed(name).listen(e, "127.0.0.1")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		addrs = append(addrs, a.Addr())
		srv.acceptors = append(srv.acceptors, a)
	}
	for i := range s.Addresses {
		a, err := c.listen(e, cmp.Or(s.Host, fmt.Sprintf("127.0.0.%d", 1+i)))
		if err != nil {
			return err
		}
		addrs = append(addrs, a.Addr())
		srv.acceptors = append(srv.acceptors, a)
	}
	for _, a := range srv.acceptors {
		go srv.acceptLoop(a)
	}
	if err := out.Encode(line{Addrs: addrs}); err != nil {
		return err
	}
	<-stop
	v, err := srv.finish()
	if err != nil {
		return err
	}
	return out.Encode(line{Values: v})
}

func clientMain(s *spec, out *json.Encoder, stop <-chan struct{}) error {
	c, e, err := s.prepare()
	if err != nil {
		return err
	}
	var l line
	var hold any
	if len(s.Names) > 0 {
		l.Fine, err = clientFine(s, e)
	} else {
		l.Values, hold, err = runClient(s, c, e)
	}
	if err != nil {
		return err
	}
	if err := out.Encode(l); err != nil {
		return err
	}
	<-stop
	runtime.KeepAlive(hold)
	return nil
}

// prepare finds the contender and makes its environment.
func (s *spec) prepare() (*contender, *env, error) {
	c := contenderNamed(s.Contender)
	if c == nil && len(s.Names) == 0 {
		return nil, nil, fmt.Errorf("unknown contender %q", s.Contender)
	}
	e := &env{dir: s.Dir, interactive: s.Test != "bulk"}
	var err error
	e.serverTLS, e.clientTLS, err = tlsConfigs(s.CertPEM, s.KeyPEM)
	if err == nil && s.Resume {
		e.clientTLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return c, e, err
}

// serverName is the name in the certificate of the TLS contenders.
const serverName = "bench.test"

// newCertificate returns a self-signed certificate for serverName and its key.
func newCertificate() (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: serverName},
		DNSNames:     []string{serverName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// tlsConfigs returns configs that do full handshakes and verify the certificate.
func tlsConfigs(certPEM, keyPEM []byte) (server, client *tls.Config, err error) {
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certPEM) {
		return nil, nil, errors.New("the certificate cannot be used")
	}
	server = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	client = &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS13}
	return server, client, nil
}

// A profile is a CPU profile that runs while something is measured. The zero
// profile writes nothing.
type profile struct {
	path string
	f    *os.File
}

func newProfile(s *spec) profile {
	if s.Profile == "" {
		return profile{}
	}
	return profile{path: s.Profile + "-" + s.Role + ".pprof"}
}

func (p *profile) start() {
	if p.path == "" || p.f != nil {
		return
	}
	f, err := os.Create(filepath.Clean(p.path))
	if err == nil && pprof.StartCPUProfile(f) == nil {
		p.f = f
	}
}

func (p *profile) stop() {
	if p.f != nil {
		pprof.StopCPUProfile()
		p.f.Close()
		p.f = nil
	}
}

// heapProfile writes what is on the heap, beside the CPU profiles.
func heapProfile(s *spec) {
	if s.Profile == "" {
		return
	}
	f, err := os.Create(filepath.Clean(s.Profile + "-" + s.Role + ".heap.pprof"))
	if err != nil {
		return
	}
	defer f.Close()
	pprof.WriteHeapProfile(f)
}

// A meter measures what this process used between start and stop.
type meter struct {
	at      time.Time
	cpu     time.Duration
	mallocs uint64
	bytes   uint64
}

func startMeter() meter {
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return meter{mallocs: ms.Mallocs, bytes: ms.TotalAlloc, cpu: cpuTime(), at: time.Now()}
}

// A usage is the difference between two points in time.
type usage struct {
	wall, cpu      time.Duration
	mallocs, bytes uint64
}

func (m meter) stop() usage {
	u := usage{wall: time.Since(m.at), cpu: cpuTime() - m.cpu}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	u.mallocs = ms.Mallocs - m.mallocs
	u.bytes = ms.TotalAlloc - m.bytes
	return u
}

// echo reads n requests of len(buf) bytes and writes them back.
func echo(s stream, buf []byte, n int) error {
	for range n {
		if _, err := io.ReadFull(s, buf); err != nil {
			return err
		}
		if _, err := s.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
