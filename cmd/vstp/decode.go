package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp/cmd/vstp/internal/hexdump"
	"github.com/vstp-go/vstp/framing"
	"github.com/vstp-go/vstp/reliable"
)

// maxDecodeInput bounds the text or the capture that decode reads.
const maxDecodeInput = 256 << 20

func newDecode(*options) *cobra.Command {
	d := &decoder{}
	var file string
	var isBinary bool
	var trailer string
	cmd := &cobra.Command{
		Use:   "decode [HEX...]",
		Short: "Show what frames say",
		Long: `decode prints the frames found in hexadecimal text: the arguments, a file, or
standard input. The text may have white space, 0x, \x, commas and "#" comments, and
be the output of xxd, hexdump -C or tcpdump -x. With --binary the input is the bytes
themselves, such as one direction of a TCP stream saved to a file.

The packets of rudp and udp are shown chunk by chunk.

For a malformed frame decode says what is wrong and at which offset, and fails.`,
		Example: `  vstp decode 565401030000000000000568656c6c6ff3ac2614
  vstp decode --file stream.bin --binary
  xxd capture | vstp decode --resync`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch trailer {
			case "sniff":
				d.trailer = framing.TrailerSniff
			case "always":
				d.trailer = framing.TrailerAlways
			case "flag":
				d.trailer = framing.TrailerByFlag
			default:
				return usagef("--crc is sniff, always or flag, not %q", trailer)
			}
			if d.datagram && d.resync {
				return usagef("--datagram and --resync exclude each other")
			}
			in, err := decodeInput(cmd.InOrStdin(), args, file, isBinary)
			if err != nil {
				return err
			}
			d.out = cmd.OutOrStdout()
			return d.run(in)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&file, "file", "f", "", "read this `file` instead of arguments or standard input")
	fs.BoolVarP(&isBinary, "binary", "b", false, "the input is bytes, not hexadecimal text")
	fs.BoolVar(&d.datagram, "datagram", false, "the input is one datagram, which is exactly one frame")
	fs.BoolVar(&d.resync, "resync", false, "after a malformed frame go on at the next magic bytes")
	fs.StringVar(&trailer, "crc", "sniff", "where a CRC32 ends the frame: flag (the CRC flag says so), always, or sniff")
	fs.IntVar(&d.maxFrame, "max-frame", framing.DefaultMaxFrame, "largest frame accepted, in `bytes`")
	return cmd
}

// decodeInput returns the bytes to decode.
func decodeInput(stdin io.Reader, args []string, file string, isBinary bool) ([]byte, error) {
	var text []byte
	switch {
	case len(args) > 0 && (len(args) > 1 || args[0] != "-"):
		if file != "" || isBinary {
			return nil, usagef("unexpected argument %q: --file and --binary take no text", args[0])
		}
		text = []byte(strings.Join(args, " "))
	default:
		in := stdin
		if file != "" && file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		}
		var err error
		if text, err = io.ReadAll(io.LimitReader(in, maxDecodeInput+1)); err != nil {
			return nil, err
		}
		if len(text) > maxDecodeInput {
			return nil, fmt.Errorf("the input has more than %d MiB", maxDecodeInput>>20)
		}
	}
	if isBinary {
		return text, nil
	}
	b, err := hexdump.Parse(string(text))
	if err != nil {
		hint := ""
		if bytes.HasPrefix(text, []byte{framing.Magic0, framing.Magic1}) {
			hint = " (the input looks binary: --binary)"
		} else if len(args) == 1 {
			if _, serr := os.Stat(args[0]); serr == nil {
				hint = " (for a file: --file " + args[0] + ")"
			}
		}
		return nil, fmt.Errorf("reading hexadecimal: %w%s", err, hint)
	}
	return b, nil
}

// A decoder prints frames.
type decoder struct {
	out      io.Writer
	trailer  framing.Trailer
	maxFrame int
	datagram bool
	resync   bool
	buf      []byte
}

// run prints all frames in b. Its error speaks of the first one that is malformed.
func (d *decoder) run(b []byte) error {
	if len(b) == 0 {
		return errors.New("the input is empty")
	}
	if d.datagram {
		f, crc, err := framing.ParseDatagram(b)
		if err != nil {
			return frameError(1, 0, b, err)
		}
		return d.print(1, 0, len(b), f, crc)
	}
	var first error
	for off, n := 0, 1; off < len(b); n++ {
		f, size, err := d.next(b[off:])
		if err == nil {
			crc := size > framing.FixedLen+len(f.Header)+len(f.Payload)
			if err := d.print(n, off, size, f, crc); err != nil {
				return err
			}
			off += size
			continue
		}
		err = frameError(n, off, b[off:], err)
		if !d.resync {
			return err
		}
		if first == nil {
			first = err
		}
		fmt.Fprintf(d.out, "! %v\n", err)
		i := bytes.Index(b[off+1:], []byte{framing.Magic0, framing.Magic1, framing.Version})
		if i < 0 {
			break
		}
		off += 1 + i
		n--
	}
	return first
}

// next decodes the frame at the start of b.
func (d *decoder) next(b []byte) (framing.Frame, int, error) {
	f, n, err := framing.Parse(b, d.maxFrame, d.trailer)
	if err == framing.ErrIncomplete && d.trailer == framing.TrailerSniff {
		// Nothing follows, so a frame without the flag may end here without a CRC.
		if f, n, err := framing.Parse(b, d.maxFrame, framing.TrailerByFlag); err != nil || n == len(b) {
			return f, n, err
		}
	}
	return f, n, err
}

func (d *decoder) print(n, off, size int, f framing.Frame, crc bool) error {
	what := "no CRC"
	if crc {
		what = "CRC ok"
	}
	d.buf = fmt.Appendf(d.buf[:0], "#%d at offset %d, %d bytes, %s: ", n, off, size, what)
	d.buf = framing.AppendText(d.buf, f)
	d.buf = appendPacket(d.buf, f)
	_, err := d.out.Write(d.buf)
	return err
}

// packetField is the length of the one header field of a packet: connection id, number.
const packetField = 2 + len(framing.KeyPacket) + 8 + 4

// appendPacket appends what is in a frame that is a packet on UDP. PROTOCOL §7.1.
func appendPacket(b []byte, f framing.Frame) []byte {
	if len(f.Header) != packetField {
		return b
	}
	key, value, rest, err := f.Header.Next()
	if err != nil || len(rest) > 0 {
		return b
	}
	if f.Flags.Has(framing.FlagSealed) { // PROTOCOL §8.4
		switch {
		case string(key) == framing.KeySourceID && f.Type == framing.TypeHello:
			return fmt.Appendf(b, "  0-RTT packet, connection id of the sender %x; number masked, chunks encrypted\n", value[:8])
		case string(key) != framing.KeyPacket:
			return b
		case f.Type == framing.TypeHello, f.Type == framing.TypeWelcome:
			return fmt.Appendf(b, "  handshake packet, connection id %x; number masked, chunks encrypted\n", value[:8])
		}
		return fmt.Appendf(b, "  connection id %x; packet number and key phase masked, chunks encrypted\n", value[:8])
	}
	if f.Type != framing.TypeData || string(key) != framing.KeyPacket {
		return b
	}
	b = fmt.Appendf(b, "  connection id %x, packet number %d (its low 32 bits)\n", value[:8], binary.BigEndian.Uint32(value[8:]))
	return reliable.AppendChunksText(b, f.Payload)
}

// frameError says what is wrong with frame n, at the start of b, in detail.
func frameError(n, off int, b []byte, err error) error {
	detail := ""
	fx, ferr := framing.ParseFixed(b)
	switch {
	case errors.Is(err, framing.ErrMagic):
		detail = fmt.Sprintf(": % x instead of 56 54", b[:min(2, len(b))])
	case errors.Is(err, framing.ErrVersion) && len(b) > 2:
		detail = fmt.Sprintf(": %d at offset %d", b[2], off+2)
	case errors.Is(err, framing.ErrType) && len(b) > 3:
		detail = fmt.Sprintf(": %d at offset %d", b[3], off+3)
	case ferr != nil && len(b) < framing.FixedLen:
		detail = fmt.Sprintf(": %d of the %d bytes that every frame has", len(b), framing.FixedLen)
	case ferr != nil:
	case errors.Is(err, framing.ErrIncomplete) && int64(len(b)) >= fx.WireLen(false):
		detail = ": it ends inside the CRC"
	case errors.Is(err, framing.ErrIncomplete), errors.Is(err, framing.ErrFrameTooLarge):
		detail = fmt.Sprintf(": a %v frame of %d bytes (%d of header, %d of payload), of which %d are here",
			fx.Type, fx.WireLen(fx.Flags.Has(framing.FlagCRC)), fx.HeaderLen, fx.PayloadLen, len(b))
	case errors.Is(err, framing.ErrChecksum):
		end := fx.WireLen(false)
		if int64(len(b)) >= end+framing.TrailerLen {
			detail = fmt.Sprintf(": %08x at offset %d, computed %08x",
				binary.BigEndian.Uint32(b[end:]), int64(off)+end, framing.Checksum(0, b[:end]))
		}
	case errors.Is(err, framing.ErrHeader):
		detail = ": " + headerDetail(b[framing.FixedLen:framing.FixedLen+fx.HeaderLen], off+framing.FixedLen)
	}
	return fmt.Errorf("frame %d at offset %d: %w%s", n, off, err, detail)
}

// headerDetail says which field of a header block that begins at off is wrong.
func headerDetail(block framing.RawHeader, off int) string {
	for i, rest := 1, block; len(rest) > 0; i++ {
		_, _, next, err := rest.Next()
		if err != nil {
			return fmt.Sprintf("field %d at offset %d runs past the end of the block", i, off+len(block)-len(rest))
		}
		rest = next
	}
	return "the block is malformed"
}
