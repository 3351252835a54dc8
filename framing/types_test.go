package framing

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStrings(t *testing.T) {
	for _, tt := range []struct {
		v    fmt.Stringer
		want string
	}{
		{TypeHello, "HELLO"}, {TypeWelcome, "WELCOME"}, {TypeData, "DATA"}, {TypePing, "PING"},
		{TypePong, "PONG"}, {TypeBye, "BYE"}, {TypeAck, "ACK"}, {TypeErr, "ERR"},
		{Type(0), "Type(0)"}, {Type(9), "Type(9)"}, {Type(255), "Type(255)"},

		{Flags(0), "0"}, {FlagReqAck, "REQ_ACK"}, {FlagCRC, "CRC"}, {FlagFrag, "FRAG"}, {FlagComp, "COMP"},
		{KnownFlags, "REQ_ACK|CRC|FRAG|COMP"}, {FlagSealed | FlagPhase, "SEALED|PHASE"}, {Flags(0x04), "0x4"}, {FlagCRC | 0x4c, "CRC|SEALED|0xc"},

		{CodeProtocol, "protocol violation"}, {CodeInternal, "internal error"}, {CodeAlert, "alert"},
		{ErrorCode(0), "ErrorCode(0)"}, {ErrorCode(255), "ErrorCode(255)"},
		{CodeApplication, "application error 0"}, {CodeApplication + 7, "application error 7"},

		{TrailerByFlag, "by flag"}, {TrailerAlways, "always"}, {TrailerSniff, "sniff"}, {Trailer(3), "Trailer(3)"},
	} {
		require.Equal(t, tt.want, tt.v.String())
	}
}

// "Any unknown flag bit: the crate sets flags to empty."
func TestFlagsLegacy(t *testing.T) {
	for i := range 256 {
		f := Flags(i)
		want := f
		if f&0xcc != 0 {
			want = 0
		}
		require.Equal(t, want, f.Legacy(), "%02x", i)
	}
}

func TestTypeValid(t *testing.T) {
	for i := range 256 {
		require.Equal(t, i >= 1 && i <= 8, Type(i).Valid(), "%d", i)
	}
}
