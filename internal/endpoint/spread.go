package endpoint

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/bpf"

	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/internal/udpio"
)

// MaxSockets is how many sockets with one port there may be.
const MaxSockets = 64

// A Spread says for each connection id which one of several sockets with one port its
// datagrams are for. Its key is random, so that nobody else can tell from an id, and of the
// id's 64 bits only the logarithm of the number of sockets is no longer free.
//
// The system is told with Attach. What is for nobody in particular, such as a HELLO, goes
// where the system's own hash of both addresses says, so that it goes there again when it
// is repeated.
type Spread struct {
	sockets uint32
	xor     uint32
	mul     [2]uint32 // odd
}

// NewSpread returns one for n sockets. random fills its argument with random bytes.
func NewSpread(n int, random func([]byte)) *Spread {
	var key [12]byte
	random(key[:])
	return &Spread{
		sockets: uint32(min(max(n, 1), MaxSockets)),
		xor:     binary.BigEndian.Uint32(key[:]),
		mul:     [2]uint32{binary.BigEndian.Uint32(key[4:]) | 1, binary.BigEndian.Uint32(key[8:]) | 1},
	}
}

// Of returns the index of the socket for an id. It is what program computes.
func (s *Spread) Of(id [8]byte) int {
	h := (binary.BigEndian.Uint32(id[:]) ^ s.xor) * s.mul[0]
	h = (h>>15 ^ h ^ binary.BigEndian.Uint32(id[4:])) * s.mul[1]
	return int(h >> 16 * s.sockets >> 16)
}

// elsewhere is an index that no socket has: the system chooses.
const elsewhere = 1<<32 - 1

// Where a datagram with a connection id of its receiver has what: the first field of its
// header is key 01 with 12 bytes, or with 8 in WELCOME and ERR. PROTOCOL §7.1.
const (
	versionAt = 2
	fieldAt   = framing.FixedLen // length of the key, length of the value, key
	idAt      = fieldAt + 3
	idLen     = 8
	longField = 0x010c
	idField   = 0x0108
)

// program returns what the kernel runs for each datagram: its result is the index of a
// socket. The program sees the payload of UDP, whose first byte is at 0.
func (s *Spread) program() []bpf.Instruction {
	p := []bpf.Instruction{
		// A load beyond the end would end the program with 0.
		bpf.LoadExtension{Num: bpf.ExtLen},
		unless(bpf.JumpGreaterOrEqual, idAt+idLen),
		bpf.LoadAbsolute{Off: 0, Size: 2},
		unless(bpf.JumpEqual, uint32(framing.Magic0)<<8|uint32(framing.Magic1)),
		bpf.LoadAbsolute{Off: versionAt, Size: 1},
		unless(bpf.JumpEqual, framing.Version),
		bpf.LoadAbsolute{Off: fieldAt + 2, Size: 1},
		unless(bpf.JumpEqual, uint32(framing.KeyPacket[0])),
		bpf.LoadAbsolute{Off: fieldAt, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: longField, SkipTrue: 1},
		unless(bpf.JumpEqual, idField),

		// As Of.
		bpf.LoadAbsolute{Off: idAt, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpXor, Val: s.xor},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: s.mul[0]},
		bpf.TAX{},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 15},
		bpf.ALUOpX{Op: bpf.ALUOpXor},
		bpf.TAX{},
		bpf.LoadAbsolute{Off: idAt + 4, Size: 4},
		bpf.ALUOpX{Op: bpf.ALUOpXor},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: s.mul[1]},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 16},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: s.sockets},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 16},
		bpf.RetA{},

		bpf.RetConstant{Val: elsewhere},
	}
	for i, in := range p { // those of unless go to the end
		if j, ok := in.(bpf.JumpIf); ok && j.SkipTrue == 0 {
			j.SkipFalse = uint8(len(p) - 2 - i)
			p[i] = j
		}
	}
	return p
}

// Attach tells the kernel, through one of the sockets.
func (s *Spread) Attach(pc net.PacketConn) error {
	program, err := bpf.Assemble(s.program())
	if err != nil {
		return err
	}
	return udpio.Steer(pc, program)
}

// unless goes on if the condition holds, and otherwise, when program has put in where that
// is, to the end.
func unless(cond bpf.JumpTest, val uint32) bpf.Instruction {
	return bpf.JumpIf{Cond: cond, Val: val}
}
