//go:build amd64 && !purego

#include "textflag.h"

// A CRC is the remainder of a division by a polynomial. A part of the dividend may be moved
// to where a later part lies, multiplied by what it moves by, and be added to that: the
// remainder stays the same. So all of the input is folded into its last 128 bits.
// V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", 2009.

// FOLD moves acc by the factors k, and adds src.
#define FOLD(src, k, acc, tmp) \
	VPCLMULQDQ  $0x00, k, acc, tmp \
	VPCLMULQDQ  $0x11, k, acc, acc \
	VPTERNLOGD  $0x96, src, tmp, acc

// func checksumWide(state uint32, p []byte) uint32
TEXT ·checksumWide(SB), NOSPLIT, $0-36
	MOVL state+0(FP), AX
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), CX
	LEAQ ·foldBy(SB), DX

	VMOVD      AX, X8
	VMOVDQU64  0(SI), Z0
	VMOVDQU64  64(SI), Z1
	VMOVDQU64  128(SI), Z2
	VMOVDQU64  192(SI), Z3
	VPXORQ     Z8, Z0, Z0
	ADDQ       $256, SI
	SUBQ       $256, CX

	VBROADCASTI32X4 0(DX), Z9
	CMPQ            CX, $256
	JLT             gather

loop256:
	FOLD(0(SI), Z9, Z0, Z4)
	FOLD(64(SI), Z9, Z1, Z5)
	FOLD(128(SI), Z9, Z2, Z6)
	FOLD(192(SI), Z9, Z3, Z7)
	ADDQ $256, SI
	SUBQ $256, CX
	CMPQ CX, $256
	JGE  loop256

gather:
	VBROADCASTI32X4 16(DX), Z9
	FOLD(Z1, Z9, Z0, Z4)
	FOLD(Z2, Z9, Z0, Z4)
	FOLD(Z3, Z9, Z0, Z4)
	CMPQ CX, $64
	JLT  lanes

loop64:
	FOLD(0(SI), Z9, Z0, Z4)
	ADDQ $64, SI
	SUBQ $64, CX
	CMPQ CX, $64
	JGE  loop64

lanes:
	VMOVDQU       32(DX), X9
	VEXTRACTI32X4 $1, Z0, X1
	VEXTRACTI32X4 $2, Z0, X2
	VEXTRACTI32X4 $3, Z0, X3
	FOLD(X1, X9, X0, X4)
	FOLD(X2, X9, X0, X4)
	FOLD(X3, X9, X0, X4)
	CMPQ CX, $16
	JLT  reduce

loop16:
	FOLD(0(SI), X9, X0, X4)
	ADDQ $16, SI
	SUBQ $16, CX
	CMPQ CX, $16
	JGE  loop16

reduce:
	// 128 bits to 96: x^96 is the second factor of 128.
	VPCLMULQDQ $0x10, X9, X0, X4
	VPSRLDQ    $8, X0, X0
	VPXOR      X4, X0, X0

	// To 64.
	VPCMPEQD   X8, X8, X8
	VPSRLQ     $32, X8, X8
	VMOVDQU    48(DX), X9
	VPSRLDQ    $4, X0, X4
	VPAND      X8, X0, X0
	VPCLMULQDQ $0x00, X9, X0, X0
	VPXOR      X4, X0, X0

	// To 32: the quotient, times the polynomial, leaves the remainder.
	VMOVDQU    64(DX), X9
	VPAND      X8, X0, X4
	VPCLMULQDQ $0x00, X9, X4, X4
	VPAND      X8, X4, X4
	VPCLMULQDQ $0x10, X9, X4, X4
	VPXOR      X4, X0, X0
	VPEXTRD    $1, X0, AX
	VZEROUPPER
	MOVL AX, ret+32(FP)
	RET
