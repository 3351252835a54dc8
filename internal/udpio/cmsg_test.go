package udpio

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
)

// TestControlBytes has the bytes of a little-endian 64-bit machine.
func TestControlBytes(t *testing.T) {
	if cmsgAlign != 8 || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("another machine")
	}
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"v4", appendSource(nil, Local{netip.MustParseAddr("127.0.0.2"), 7}), "1c00000000000000" + "00000000" + "08000000" + "00000000" + "7f000002" + "00000000" + "00000000"},
		{"v6", appendSource(nil, Local{netip.MustParseAddr("2001:db8::1"), 7}), "2400000000000000" + "29000000" + "32000000" + "20010db8000000000000000000000001" + "00000000" + "00000000"},
		{"link-local", appendSource(nil, Local{netip.MustParseAddr("fe80::1"), 7}), "2400000000000000" + "29000000" + "32000000" + "fe800000000000000000000000000001" + "07000000" + "00000000"},
		{"segment", appendSegmentSize(nil, 1200), "1200000000000000" + "11000000" + "67000000" + "b004000000000000"},
	}
	for _, test := range tests {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("%s:\n%s, want\n%s", test.name, got, test.want)
		}
	}
}

func TestControlFits(t *testing.T) {
	b := appendSegmentSize(appendSource(nil, Local{Addr: netip.MustParseAddr("::1")}), 1)
	if len(b) > controlSpace {
		t.Errorf("%d bytes", len(b))
	}
}

func gro(data ...byte) []byte {
	b, to := appendCmsg(nil, levelUDP, typeGRO, len(data))
	copy(to, data)
	return b
}

func TestParseControl(t *testing.T) {
	v4 := Local{Addr: netip.MustParseAddr("127.0.0.2")}
	ll := Local{netip.MustParseAddr("fe80::1"), 7}
	int1200 := binary.NativeEndian.AppendUint32(nil, 1200)
	unknown, _ := appendCmsg(nil, 1, 29, 16)
	mapped, data := appendCmsg(nil, levelIPv6, typePktinfo6, 20)
	a := netip.MustParseAddr("::ffff:127.0.0.2").As16()
	copy(data, a[:])
	short, _ := appendCmsg(nil, levelIP, typePktinfo4, 11)
	huge := append([]byte(nil), gro(int1200...)...)
	for i := range cmsgAlign {
		huge[i] = 0xff
	}
	cat := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	tests := []struct {
		name    string
		b       []byte
		local   Local
		segSize int
	}{
		{"nothing", nil, Local{}, 0},
		{"v4", appendSource(nil, v4), v4, 0},
		{"v6", appendSource(nil, ll), ll, 0},
		{"mapped, trap U7", mapped, v4, 0},
		{"gro int", gro(int1200...), Local{}, 1200},
		{"gro uint16", gro(binary.NativeEndian.AppendUint16(nil, 1200)...), Local{}, 1200},
		{"gro one byte", gro(1), Local{}, 0},
		{"all", cat(unknown, gro(int1200...), appendSource(nil, v4)), v4, 1200},
		{"too short", cat(short, gro(int1200...)), Local{}, 1200},
		{"cut", gro(int1200...)[:cmsgHeader+2], Local{}, 0},
		{"huge", huge, Local{}, 0},
		{"zeros", make([]byte, 64), Local{}, 0},
	}
	for _, test := range tests {
		if local, segSize := parseControl(test.b); local != test.local || segSize != test.segSize {
			t.Errorf("%s: %+v, %d", test.name, local, segSize)
		}
	}
}

func FuzzControl(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendSegmentSize(appendSource(nil, Local{netip.MustParseAddr("fe80::1"), 7}), 1200))
	f.Add(append(gro(1, 2, 3, 4), appendSource(nil, Local{Addr: netip.MustParseAddr("1.2.3.4")})...))
	f.Fuzz(func(t *testing.T, b []byte) {
		local, _ := parseControl(b)
		if local.Addr.Is4In6() || local.Addr.Zone() != "" {
			t.Errorf("%v is no key", local.Addr)
		}
		if local.Addr.IsValid() {
			back, _ := parseControl(appendSource(nil, local))
			if back.Addr != local.Addr {
				t.Errorf("%v came back as %v", local, back)
			}
		}
	})
}

func TestFirstBatch(t *testing.T) {
	tests := []struct{ size, segSize, want int }{
		{0, 0, 0}, {10, 0, 10}, {10, 10, 10}, {10, 11, 10}, {10, 3, 10},
		{100_000, 1000, 64_000}, {64_000, 1000, 64_000}, {64_001, 1000, 64_000},
		{100_000, 1452, 45 * 1452}, {100_000, maxPayload, maxPayload}, {100_000, 40_000, 40_000},
	}
	for _, test := range tests {
		batch, rest := firstBatch(make([]byte, test.size), test.segSize)
		if len(batch) != test.want || len(batch)+len(rest) != test.size {
			t.Errorf("%+v: %d, %d", test, len(batch), len(rest))
		}
	}
}

// FuzzSegments checks that batches of segments are the segments.
func FuzzSegments(f *testing.F) {
	f.Add(uint32(100_000), uint16(1200))
	f.Add(uint32(0), uint16(0))
	f.Add(uint32(maxPayload), uint16(maxPayload))
	f.Fuzz(func(t *testing.T, size uint32, seg uint16) {
		data, segSize := numbered(int(size%1_000_000)), min(int(seg), maxPayload)
		whole := data
		for rest := data; ; {
			var batch []byte
			batch, rest = firstBatch(rest, segSize)
			if n := len(batch); segSize > 0 && (n > maxPayload || n > maxSegments*segSize || len(rest) > 0 && n%segSize != 0) {
				t.Fatalf("a batch of %d bytes, segments of %d", n, segSize)
			}
			for {
				var a, b []byte
				a, batch = firstSegment(batch, segSize)
				b, whole = firstSegment(whole, segSize)
				if string(a) != string(b) {
					t.Fatal("segments differ")
				}
				if len(batch) == 0 {
					break
				}
			}
			if len(rest) == 0 {
				break
			}
		}
		if len(whole) != 0 {
			t.Fatalf("%d bytes missing", len(whole))
		}
	})
}

func TestVersions(t *testing.T) {
	tests := []struct {
		s        string
		v        version
		gso, gro bool
	}{
		{"4.19.0-26-amd64", version{4, 19, 0}, false, false},
		{"5.0", version{5, 0, 0}, true, false},
		{"5.11.22", version{5, 11, 22}, true, false},
		{"5.12.0-rc1", version{5, 12, 0}, true, true},
		{"6.6.44-generic", version{6, 6, 44}, true, true},
		{"6.18.44-x-v657", version{6, 18, 44}, true, true},
		{"7.0-rc3", version{7, 0, 0}, false, true},
		{"7.1.4", version{7, 1, 4}, false, true},
		{"7.1.5", version{7, 1, 5}, true, true},
		{"nonsense", version{}, false, false},
		{"", version{}, false, false},
	}
	for _, test := range tests {
		v := parseVersion(test.s)
		if v != test.v || gsoWorks(v) != test.gso || groWorks(v) != test.gro {
			t.Errorf("%q: %v, GSO %v, GRO %v", test.s, v, gsoWorks(v), groWorks(v))
		}
	}
}
