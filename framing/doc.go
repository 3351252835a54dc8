// Package framing is the frame codec of VSTP: it encodes frames by appending to a
// buffer, and decodes them as views of their input. It knows bytes and nothing else:
// no sockets, no clocks, and no opinion on which frame may come when.
//
// # Layout
//
// PROTOCOL §2. HDR_LEN is little-endian; all other integers are big-endian.
//
//	 0       1       2       3       4       5               7
//	+-------+-------+-------+-------+-------+-------+-------+-------+
//	|  'V'  |  'T'  | VER 1 | TYPE  | FLAGS |    HDR_LEN    |PAY_LEN
//	+-------+-------+-------+-------+-------+-------+-------+-------+
//	   PAY_LEN (cont.)      | header block, HDR_LEN bytes ...
//	+-------+-------+-------+-------+-------+-------+-------+-------+
//	| payload, PAY_LEN bytes ...                                    |
//	+-------+-------+-------+-------+-------------------------------+
//	|   CRC32 of all before it      |   if there is a trailer
//	+-------+-------+-------+-------+
//
// A header block is a sequence of fields, without a count:
//
//	+---------+---------+-----------------+-------------------+
//	| KEY_LEN | VAL_LEN | key, KEY_LEN .. | value, VAL_LEN .. |
//	+---------+---------+-----------------+-------------------+
//
// The trailer is there when [FlagCRC] is set. The original crate appends it always,
// whatever the flag says; [Trailer] tells the functions here which of the two it is.
//
// # Usage
//
// To send, encode the header block, then the frame around it; both buffers can be
// used again:
//
//	hdr, err = framing.AppendHeader(hdr[:0], header)
//	buf, err = framing.AppendFrame(buf[:0], framing.Frame{
//		Type:    framing.TypeData,
//		Flags:   framing.FlagCRC,
//		Header:  hdr,
//		Payload: payload,
//	}, framing.TrailerByFlag)
//
// Where the payload is better sent from where it lies, [AppendFixed], [Checksum] and
// [AppendTrailer] make the parts around it. A [Writer] sends frames to an io.Writer.
//
// To receive, use [ParseDatagram] for a datagram, a [Reader] for a byte stream, and
// [Parse] for bytes that are already here. [RawHeader] reads fields in place;
// [RawHeader.AppendUser] decodes those of the application.
//
// # Guarantees
//
// Decoding never panics, whatever the input, and never allocates by a length that was
// claimed: Parse and ParseDatagram do not allocate at all, and decoding a header block
// takes one string of the length of the block and one slice of the fields found in
// it. A frame that was accepted, encoded again, gives the same bytes. Views end where
// their part ends: an append to one does not reach the next.
//
// Errors are fixed values, to be compared with [errors.Is]. Functions that append
// return their buffer as it was when they fail.
//
// # Limitations
//
// A header block has at most [MaxHeaderLen] bytes, a key and a value at most 255 bytes
// each, a payload less than 4 GiB. Parse and AppendFrame want a frame in one piece.
// A Reader and a Writer each serve one goroutine at a time; everything else is free
// of shared state.
//
// # Security
//
// The CRC finds damage, not malice: anyone can compute it, and nothing here says who
// sent a frame. Keys and values are binary, and come from the peer; quote them before
// they reach a terminal or a log, as [AppendText] does. A field takes two bytes on the
// wire and sixteen times as much as a [Field]: a full block of empty fields, decoded,
// is 1 MiB. Those who keep headers of many peers count that in.
package framing
