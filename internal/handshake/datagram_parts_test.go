package handshake

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vstp-go/vstp/framing"
)

// hellos returns the datagrams of a HELLO with a cookie and so much metadata, and
// its client.
func hellos(t testing.TB, metadata int) (*DatagramClient, [][]byte) {
	t.Helper()
	p := richClient
	p.Header = bigHeader(metadata)
	c := newDatagramClient(t, p)
	if o := c.retry(testKey.Append(nil, testNow, testAddr, clientID)); o != Again {
		t.Fatal(o)
	}
	return c, c.AppendHello(nil)
}

// TestPartSizes: every datagram has at most 1200 bytes, all but the last are full,
// and the number follows the size of the block.
func TestPartSizes(t *testing.T) {
	for _, n := range []int{0, 900, 1000, 1050, 1100, 1104, 1105, 1106, 1107, 1108, 1110, 1200, 2300, 5000, 30000, 65000} {
		c, parts := hellos(t, n)
		want := 1
		if rest := len(c.block); rest+54 > MaxHandshakeDatagram {
			want = (rest + 1136) / 1137
		}
		// The part field has two lengths of four bytes at most.
		if len(parts) < want || len(parts) > want+1 {
			t.Errorf("%d bytes of metadata, block of %d: %d parts, not %d", n, len(c.block), len(parts), want)
		}
		for i, p := range parts {
			if len(p) > MaxHandshakeDatagram || i < len(parts)-1 && len(p) < MaxHandshakeDatagram {
				t.Errorf("%d bytes of metadata: part %d has %d bytes", n, i, len(p))
			}
		}
	}
}

// permutations calls f with every order of n numbers.
func permutations(n int, f func([]int)) {
	order := make([]int, 0, n)
	var rec func()
	rec = func() {
		if len(order) == n {
			f(order)
			return
		}
		for i := range n {
			if !slices.Contains(order, i) {
				order = append(order, i)
				rec()
				order = order[:len(order)-1]
			}
		}
	}
	rec()
}

// TestPartOrders: parts of HELLO and WELCOME in every order, each of them twice:
// the end is reached once, with the last one that is new.
func TestPartOrders(t *testing.T) {
	client, hello := hellos(t, 3000)
	sp := richServer
	sp.Header = bigHeader(4000)
	var sample DatagramServer
	for _, b := range hello {
		h, err := ParseHello(b)
		if err != nil {
			t.Fatal(err)
		}
		sample.Receive(&h)
	}
	if _, err := sample.Welcome(sp, goldenID, nil); err != nil {
		t.Fatal(err)
	}
	welcome := sample.Answer()
	if len(hello) != 3 || len(welcome) != 4 {
		t.Fatalf("%d, %d parts", len(hello), len(welcome))
	}
	permutations(len(hello), func(order []int) {
		var s DatagramServer
		for i, x := range order {
			h, err := ParseHello(hello[x])
			if err != nil {
				t.Fatal(err)
			}
			want := Taken
			if i == len(order)-1 {
				want = Done
			}
			if o, err := s.Receive(&h); err != nil || o != want {
				t.Fatalf("%v, %d: %v, %v", order, i, o, err)
			}
			if i < len(order)-1 {
				want = Taken
			} else {
				want = Ignored
			}
			if o, err := s.Receive(&h); err != nil || o != want {
				t.Fatalf("%v, %d again: %v, %v", order, i, o, err)
			}
		}
		if !slices.Equal(s.Hello().Header, client.p.Header) {
			t.Fatalf("%v: other metadata", order)
		}
	})
	permutations(len(welcome), func(order []int) {
		c := newDatagramClient(t, client.p)
		for i, x := range order {
			want := Taken
			if i == len(order)-1 {
				want = Done
			}
			if o, err := c.Receive(welcome[x]); err != nil || o != want {
				t.Fatalf("%v, %d: %v, %v", order, i, o, err)
			}
			if i == len(order)-1 {
				want = Ignored
			}
			if o, err := c.Receive(welcome[x]); err != nil || o != want {
				t.Fatalf("%v, %d again: %v, %v", order, i, o, err)
			}
		}
		if !slices.Equal(c.Result().PeerHeader, sp.Header) {
			t.Fatalf("%v: other metadata", order)
		}
	})
}

// TestDatagramLoss: over a network that loses, repeats, reorders and invents, the
// handshake ends as soon as everything has come through, and both ends know the
// same.
func TestDatagramLoss(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			cp, sp := richClient, richServer
			cp.Header = bigHeader(min(60000, rng.IntN(1<<rng.IntN(17))))
			sp.Header = bigHeader(min(60000, rng.IntN(1<<rng.IntN(17))))
			c, e := newDatagramClient(t, cp), newEndpoint(sp)
			loss := rng.Float64() * 0.5
			spoil := func(ds [][]byte) (out [][]byte) {
				for _, d := range ds {
					for range 1 + rng.IntN(2) {
						if rng.Float64() >= loss {
							out = append(out, d)
						}
					}
					if rng.IntN(4) == 0 { // damage
						d = bytes.Clone(d)
						d[rng.IntN(len(d))] ^= byte(1 + rng.IntN(255))
						out = append(out, d[:rng.IntN(len(d)+1)], d)
					}
				}
				rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
				return out
			}
			toServer := c.AppendHello(nil)
			done := 0
			for range 200 {
				var toClient [][]byte
				for _, d := range spoil(toServer) {
					toClient = append(toClient, e.receive(t, d)...)
				}
				toServer = nil
				for _, d := range spoil(toClient) {
					switch o, err := c.Receive(d); {
					case err != nil:
						t.Fatal(err)
					case o == Again:
						toServer = c.AppendHello(toServer)
					case o == Done:
						done++
					}
				}
				if done > 0 {
					break
				}
				toServer = c.AppendHello(toServer) // the timer
			}
			if done != 1 || len(e.servers) != 1 || len(e.results) != 1 {
				t.Fatalf("done %d times, %d servers, %d results", done, len(e.servers), len(e.results))
			}
			cr, sr := c.Result(), e.results[clientID]
			if !slices.Equal(cr.PeerHeader, sp.Header) || !slices.Equal(sr.PeerHeader, cp.Header) || cr.PeerID != serverID ||
				cr.Idle != sr.Idle || cr.Checksum != sr.Checksum || cr.SessionID != sr.SessionID || cr.Stream != sr.Stream {
				t.Fatalf("client %+v\nserver %+v", cr, sr)
			}
		})
	}
}

// TestAssembly: pieces of any size and order, overlapping or not, become the block,
// exactly when the last byte of it is there.
func TestAssembly(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 2))
		total := 1 + rng.IntN(1<<(1+rng.IntN(11)))
		want := make([]byte, total)
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		var a assembly
		there := make([]bool, total)
		for step := 0; ; step++ {
			offset := rng.IntN(total)
			n := 1 + rng.IntN(total-offset)
			if step > 100 { // come to an end
				offset = slices.Index(there, false)
				n = total - offset
			}
			data := bytes.Clone(want[offset : offset+n])
			complete := a.add(part{total, offset}, data)
			clear(data) // nothing of it is kept
			for i := range n {
				there[offset+i] = true
			}
			if got := !slices.Contains(there, false); got != complete {
				t.Fatalf("seed %d: complete %v, should be %v", seed, complete, got)
			}
			if complete {
				break
			}
			if a.add(part{total + 1, offset}, want[:1]) || a.total != total {
				t.Fatalf("seed %d: another total", seed)
			}
		}
		if got := a.block(); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %x, want %x", seed, got, want)
		}
	}
}

// TestAssemblyBound: a peer that sends a byte here and a byte there does not make
// the list of pieces grow without end (trap S3).
func TestAssemblyBound(t *testing.T) {
	var a assembly
	for offset := 0; offset < 65535; offset += 2 {
		if a.add(part{65535, offset}, []byte{1}) {
			t.Fatal("complete")
		}
	}
	if len(a.pieces) != maxPieces || a.have != maxPieces {
		t.Fatalf("%d pieces, %d bytes", len(a.pieces), a.have)
	}
}

// TestPartsMemory: a part makes the receiver keep what has arrived, not what it
// claims (trap F2).
func TestPartsMemory(t *testing.T) {
	h := framing.RawHeader(appendPart(nil, 65535, 65534))
	payload := []byte{1}
	if n := testing.AllocsPerRun(100, func() {
		var a assembly
		p, _, ok := cutPart(h, payload)
		if !ok || a.add(p, payload) {
			t.Fatal(ok)
		}
		if cap(a.pieces[0].data) > 64 {
			t.Fatal("too large")
		}
	}); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

func appendPart(b []byte, total, offset uint64) []byte {
	v := framing.AppendVarint(framing.AppendVarint(nil, total), offset)
	b = append(b, 1, byte(len(v)), framing.KeyPart[0])
	return append(b, v...)
}

// TestMalformedParts: parts that do not fit together are dropped.
func TestMalformedParts(t *testing.T) {
	for name, tt := range map[string]struct {
		h       []byte
		payload string
	}{
		"empty part":              {appendPart(nil, 10, 0), ""},
		"total 0":                 {appendPart(nil, 0, 0), "x"},
		"offset at total":         {appendPart(nil, 10, 10), "x"},
		"offset beyond total":     {appendPart(nil, 10, 11), "x"},
		"longer than total":       {appendPart(nil, 10, 9), "xy"},
		"offset near 2^62":        {appendPart(nil, 10, framing.MaxVarint), "x"},
		"total too large":         {appendPart(nil, 65536, 0), "x"},
		"total near 2^62":         {appendPart(nil, framing.MaxVarint, 0), "x"},
		"no value":                {[]byte{1, 0, 0x19}, "x"},
		"one number":              {[]byte{1, 1, 0x19, 10}, "x"},
		"three numbers":           {[]byte{1, 3, 0x19, 10, 0, 0}, "x"},
		"number cut off":          {[]byte{1, 2, 0x19, 10, 0x40}, "x"},
		"payload without a part":  {nil, "x"},
		"payload, another key":    {[]byte{1, 1, 0x10, 1}, "x"},
		"field that does not end": {[]byte{1, 9, 0x19, 10, 0}, "x"},
	} {
		if p, _, ok := cutPart(tt.h, []byte(tt.payload)); ok {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p, rest, ok := cutPart(appendPart(nil, 65535, 65534), []byte("x")); !ok || p != (part{65535, 65534}) || len(rest) != 0 {
		t.Error(p, rest, ok)
	}
}

// TestServerStartsAnew: parts of two WELCOMEs are not mixed.
func TestServerStartsAnew(t *testing.T) {
	client, hello := hellos(t, 10)
	answers := func(id ConnID, header framing.Header) [][]byte {
		var s DatagramServer
		h, err := ParseHello(hello[0])
		if err != nil {
			t.Fatal(err)
		}
		s.Receive(&h)
		p := richServer
		p.SourceID, p.Header = id, header
		if _, err := s.Welcome(p, goldenID, nil); err != nil {
			t.Fatal(err)
		}
		return s.Answer()
	}
	header := bigHeader(2000)
	old, anew := answers(ConnID{1}, bigHeader(2000)), answers(ConnID{2}, header)
	for _, d := range [][]byte{old[0], anew[1]} {
		if o, err := client.Receive(d); o != Taken || err != nil {
			t.Fatal(o, err)
		}
	}
	if o, err := client.Receive(anew[0]); o != Done || err != nil || client.Result().PeerID != (ConnID{2}) {
		t.Fatal(o, err)
	}
}
