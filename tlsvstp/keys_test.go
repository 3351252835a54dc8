package tlsvstp

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var suites = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func testKeys(t testing.TB, suite uint16, fill byte) *Keys {
	t.Helper()
	k, err := NewKeys(suite, bytes.Repeat([]byte{fill}, suiteOf(suite).hashLen))
	require.NoError(t, err)
	return k
}

// packet makes an unsealed packet of the layout of PROTOCOL §8.4, with room for the tag.
func packet(chunks []byte, pn uint64) []byte {
	b := make([]byte, 0, HeaderLen+len(chunks)+tagLen)
	b = append(b, 0x56, 0x54, 0x01, 0x03, 0x40, 0x0f, 0x00)
	b = binary.BigEndian.AppendUint32(b, uint32(len(chunks)+tagLen))
	b = append(b, 0x01, 0x0c, 0x01)
	b = append(b, "12345678"...)
	b = binary.BigEndian.AppendUint32(b, uint32(pn))
	return append(b, chunks...)
}

// The secrets of RFC 9001, Appendix A.1.
func initialKeys(t *testing.T) (client, server *Keys) {
	t.Helper()
	s := suiteOf(tls.TLS_AES_128_GCM_SHA256)
	initial, err := hkdf.Extract(sha256.New, unhex("8394c8f03e515708"), unhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"))
	require.NoError(t, err)
	require.Equal(t, unhex("7db5df06e7a69e432496adedb00851923595221596ae2ae9fb8115c1e9ed0a44"), initial)
	keys := func(label, secret string) *Keys {
		b := s.expand(hmac.New(s.hash, initial), label, 32)
		require.Equal(t, unhex(secret), b)
		k, err := NewKeys(s.id, b)
		require.NoError(t, err)
		return k
	}
	return keys("client in", "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"),
		keys("server in", "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b")
}

// RFC 9001, Appendix A.1.
func TestVectorKeys(t *testing.T) {
	client, server := initialKeys(t)
	for _, tt := range []struct {
		k           *Keys
		key, iv, hp string
	}{
		{client, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"},
		{server, "cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e", "c206b8d9b9f0f37644430b490eeaa314"},
	} {
		for label, want := range map[string]string{"quic key": tt.key, "quic iv": tt.iv, "quic hp": tt.hp} {
			got := tt.k.suite.expand(hmac.New(tt.k.suite.hash, tt.k.secret()), label, len(want)/2)
			require.Equal(t, unhex(want), got, label)
		}
		require.Equal(t, unhex(tt.iv), tt.k.iv[:])
	}
}

// RFC 9001, Appendix A.2. The tag covers all of the ciphertext, of which only both
// ends stand here.
func TestVectorClientInitial(t *testing.T) {
	k, _ := initialKeys(t)
	header := unhex("c300000001088394c8f03e5157080000449e00000002")
	payload := append(unhex(`
		060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868
		04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578
		616d706c652e636f6dff01000100000a00080006001d00170018001000070005
		04616c706e000500050100000000003300260024001d00209370b2c9caa47fba
		baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400
		0d0010000e0403050306030203080408050806002d00020101001c0002400100
		3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000
		75300901100f088394c8f03e51570806048000ffff`), make([]byte, 917)...)
	require.Len(t, payload, 1162)

	sealed := k.Seal(nil, header, payload, 2)
	require.Equal(t, unhex("d1b1c98dd7689fb8ec11d242b123dc9b"), sealed[:16])
	require.Equal(t, unhex("7e78bfe706ca4cf5e9c5453e9f7cfd2b8b4c8d169a44e55c88d4a9a7f9474241 e221af44860018ab0856972e194cd934"),
		sealed[len(sealed)-48:])
	mask := k.Mask(sealed[:16])
	require.Equal(t, unhex("437b9aec36"), mask[:])

	opened, err := k.Open(nil, header, sealed, 2)
	require.NoError(t, err)
	require.Equal(t, payload, opened)
}

// RFC 9001, Appendix A.3.
func TestVectorServerInitial(t *testing.T) {
	_, k := initialKeys(t)
	header := unhex("c1000000010008f067a5502a4262b50040750001")
	payload := unhex(`
		02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf739
		88cfc79825df566dc5430b9a045a1200130100002e00330024001d00209d3c94
		0d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00
		020304`)
	sealed := k.Seal(nil, header, payload, 1)
	require.Equal(t, unhex(`
		                                        5a482cd0991cd25b0aac406a
		5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3
		dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84
		022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc4
		2158407dd074ee`), sealed)
	mask := k.Mask(unhex("2cd0991cd25b0aac406a5816b6394100"))
	require.Equal(t, unhex("2ec0d8356a"), mask[:])
}

// RFC 9001, Appendix A.4 and §5.8: the tag of a Retry is that of an empty packet
// with number 0 under the keys of a fixed secret.
func TestVectorRetry(t *testing.T) {
	k, err := NewKeys(tls.TLS_AES_128_GCM_SHA256, unhex("d9c9943e6101fd200021506bcc02814c73030f25c79d71ce876eca876e6fca8e"))
	require.NoError(t, err)
	pseudo := unhex("08 8394c8f03e515708 ff000000010008f067a5502a4262b5746f6b656e")
	require.Equal(t, unhex("04a265ba2eff4d829058fb3f0f2496ba"), k.Seal(nil, pseudo, nil, 0))
}

// RFC 9001, Appendix A.5.
func TestVectorChaCha20(t *testing.T) {
	k, err := NewKeys(tls.TLS_CHACHA20_POLY1305_SHA256, unhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b"))
	require.NoError(t, err)
	for label, want := range map[string]string{
		"quic key": "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
		"quic iv":  "e0459b3474bdd0e44a41c144",
		"quic hp":  "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
		"quic ku":  "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9",
	} {
		got := k.suite.expand(hmac.New(k.suite.hash, k.secret()), label, len(want)/2)
		require.Equal(t, unhex(want), got, label)
	}
	require.Equal(t, unhex("1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9"), k.Next().secret())
	require.Equal(t, unhex("e0459b3474bdd0e46d417eb0"), k.number(654360564))

	sealed := k.Seal(nil, unhex("4200bff4"), []byte{1}, 654360564)
	require.Equal(t, unhex("655e5cd55c41f69080575d7999c25a5bfb"), sealed)
	mask := k.Mask(sealed[1:])
	require.Equal(t, unhex("aefefe7d03"), mask[:])

	// "The key for header protection stays the same" (RFC 9001 §6.1).
	mask = k.Next().Mask(sealed[1:])
	require.Equal(t, unhex("aefefe7d03"), mask[:])
}

// RFC 9000, Appendix A.3, with 32 bits; the expected numbers are the nearest ones.
func TestPacketNumber(t *testing.T) {
	const w = 1 << 32
	for _, tt := range []struct{ next, want uint64 }{
		{0, 0}, {0, 1}, {0, w/2 - 1}, {0, w - 1}, {1, 0}, {w, w}, {w, w - 1}, {w, w/2 + 1},
		{w + 5, w + 4}, {w - 1, w + 3}, {2*w - 1, 2 * w}, {3*w + w/2, 3*w + 1}, {3*w + 7, 3*w + 7 + w/2},
		{maxNumber, maxNumber}, {maxNumber, maxNumber - 1}, {maxNumber, maxNumber - w/2 + 1}, {maxNumber + 1, maxNumber},
	} {
		require.Equal(t, tt.want, packetNumber(packet(nil, tt.want), tt.next), "next %x", tt.next)
	}
	// Between two that are as near, the upper one is meant.
	require.Equal(t, uint64(w+w/2), packetNumber(packet(nil, w/2), w))
	require.Equal(t, uint64(2*w), packetNumber(packet(nil, w), w+w/2))
}

func TestNewKeysErrors(t *testing.T) {
	_, err := NewKeys(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, make([]byte, 32))
	require.Error(t, err)
	for _, id := range suites {
		for _, n := range []int{0, suiteOf(id).hashLen - 1, suiteOf(id).hashLen + 1} {
			_, err = NewKeys(id, make([]byte, n))
			require.Error(t, err)
		}
	}
}

func TestPacketRoundTrip(t *testing.T) {
	for _, id := range suites {
		k := testKeys(t, id, 1)
		require.Equal(t, tagLen, k.Overhead())
		for _, n := range []int{0, 1, 15, 16, 17, 1158, 65000} {
			for _, pn := range []uint64{0, 1, 1<<32 - 1, 1 << 32, 1<<40 + 7, maxNumber} {
				chunks := bytes.Repeat([]byte{0xa5}, n)
				plain := packet(chunks, pn)
				// In the middle of a buffer, with a wrong number that is put right.
				b := append(make([]byte, 3, 3+len(plain)+tagLen), plain...)
				b[3+numberOffset] ^= 0xff
				room := &b[0]
				b = k.SealPacket(b, 3, pn)
				require.Same(t, room, &b[0])
				require.Equal(t, []byte{0, 0, 0}, b[:3])
				p := b[3:]
				require.Len(t, p, HeaderLen+n+tagLen)
				require.Equal(t, plain[:flagsOffset], p[:flagsOffset])
				require.Equal(t, plain[flagsOffset]&^phaseBit, p[flagsOffset]&^phaseBit)
				require.Equal(t, plain[flagsOffset+1:numberOffset], p[flagsOffset+1:numberOffset])

				// "A packet that opens once opens again": replay is not found here.
				for range 2 {
					got, opened, err := k.OpenPacket(bytes.Clone(p), pn)
					require.NoError(t, err)
					require.Equal(t, pn, got)
					require.True(t, bytes.Equal(chunks, opened))
				}
			}
		}
	}
}

// Wrong keys, numbers, lengths and bits.
func TestPacketDoesNotOpen(t *testing.T) {
	for _, id := range suites {
		k := testKeys(t, id, 1)
		p := k.SealPacket(packet([]byte("chunks"), 5), 0, 5)
		fails := func(k *Keys, p []byte, next uint64) {
			t.Helper()
			_, chunks, err := k.OpenPacket(bytes.Clone(p), next)
			require.ErrorIs(t, err, ErrOpen)
			require.Nil(t, chunks)
		}
		fails(testKeys(t, id, 2), p, 5)
		fails(k.Next(), p, 5)
		fails(k, p, 1<<33)
		for i := range p {
			fails(k, p[:i], 5)
		}
		fails(k, append(bytes.Clone(p), 0), 5)
		for bit := range len(p) * 8 {
			q := bytes.Clone(p)
			q[bit/8] ^= 1 << (bit % 8)
			fails(k, q, 5)
		}
		b := packet([]byte("chunks"), 5)
		b[flagsOffset] |= phaseBit
		fails(k, k.SealPacket(b, 0, 5), 5)

		_, _, err := k.OpenPacket(p, 5)
		require.NoError(t, err)
	}
}

// The counter of a mask by ChaCha20 can be at its end.
func TestMaskCounterEnd(t *testing.T) {
	k := testKeys(t, tls.TLS_CHACHA20_POLY1305_SHA256, 1)
	require.NotPanics(t, func() { k.Mask(bytes.Repeat([]byte{0xff}, sampleLen)) })
}

func TestPacketAllocs(t *testing.T) {
	for _, id := range suites {
		k := testKeys(t, id, 1)
		plain := packet(make([]byte, 1158), 0)
		b := make([]byte, 0, 2048)
		pn := uint64(0)
		n := testing.AllocsPerRun(100, func() {
			b = k.SealPacket(append(b[:0], plain...), 0, pn)
			if _, _, err := k.OpenPacket(b, pn); err != nil {
				t.Fatal(err)
			}
			pn++
		})
		require.Zero(t, n, tls.CipherSuiteName(id))
	}
}

func BenchmarkSealPacket(b *testing.B) { benchPackets(b, false) }
func BenchmarkOpenPacket(b *testing.B) { benchPackets(b, true) }

func benchPackets(b *testing.B, open bool) {
	for _, id := range suites {
		for _, size := range []int{1200, 9000, 65000} {
			b.Run(fmt.Sprintf("%s/%d", strings.TrimPrefix(tls.CipherSuiteName(id), "TLS_"), size), func(b *testing.B) {
				k := testKeys(b, id, 1)
				plain := packet(make([]byte, size-HeaderLen-tagLen), 0)
				buf := make([]byte, 0, size)
				sealed := k.SealPacket(bytes.Clone(plain), 0, 0)
				if len(sealed) != size {
					b.Fatal(len(sealed))
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				// Both copy the packet to its place first, as a socket would.
				for b.Loop() {
					if !open {
						buf = k.SealPacket(append(buf[:0], plain...), 0, 0)
					} else if _, _, err := k.OpenPacket(append(buf[:0], sealed...), 0); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
