package framing_test

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vstp-go/vstp/framing"
)

func ExampleAppendFrame() {
	hdr, err := framing.AppendHeader(nil, framing.Header{
		{Key: "content-type", Value: "application/json"},
	})
	if err != nil {
		panic(err)
	}
	b, err := framing.AppendFrame(nil, framing.Frame{
		Type:    framing.TypeData,
		Flags:   framing.FlagCRC,
		Header:  hdr,
		Payload: []byte("{}"),
	}, framing.TrailerByFlag)
	fmt.Printf("%x %v\n", b, err)
	// Output: 56540103021e00000000020c10636f6e74656e742d747970656170706c69636174696f6e2f6a736f6e7b7df0ae409e <nil>
}

func ExampleParse() {
	b := []byte("VT\x01\x03\x00\x0f\x00\x00\x00\x00\x05\x04\x02langen\x04\x01modexhello" + "VT\x01\x06")
	for len(b) > 0 {
		f, n, err := framing.Parse(b, framing.DefaultMaxFrame, framing.TrailerByFlag)
		if errors.Is(err, framing.ErrIncomplete) {
			fmt.Println(len(b), "bytes of the next frame")
			return
		}
		if err != nil {
			panic(err)
		}
		fmt.Printf("%v %q\n", f.Type, f.Payload)
		for key, value := range f.Header.All() {
			fmt.Printf("%s=%s\n", key, value)
		}
		b = b[n:]
	}
	// Output:
	// DATA "hello"
	// lang=en
	// mode=x
	// 4 bytes of the next frame
}

func ExampleParseDatagram() {
	// As the original crate sends it: a trailer without the flag.
	f, trailer, err := framing.ParseDatagram([]byte("VT\x01\x03\x00\x00\x00\x00\x00\x00\x05hello\xf3\xac\x26\x14"))
	fmt.Printf("%v %q %v %v\n", f.Type, f.Payload, trailer, err)
	// Output: DATA "hello" true <nil>
}

func ExampleAppendText() {
	hdr, _ := framing.AppendHeader(nil, framing.Header{{Key: framing.KeyMessage, Value: "\x05"}, {Key: "lang", Value: "en"}})
	fmt.Printf("%s", framing.AppendText(nil, framing.Frame{
		Type:    framing.TypeData,
		Flags:   framing.FlagReqAck,
		Header:  hdr,
		Payload: []byte("hello"),
	}))
	// Output:
	// DATA flags=REQ_ACK header=12 payload=5
	//   message: 5
	//   "lang": "en"
	//   payload: "hello"
}

func ExampleWriter() {
	var buf bytes.Buffer
	w := framing.NewWriter(&buf, framing.TrailerAlways)
	err := w.WriteFrame(framing.Frame{Type: framing.TypeHello})
	fmt.Printf("%x %v\n", buf.Bytes(), err)
	// Output: 565401010000000000000090a29464 <nil>
}

func ExampleHeader() {
	var h framing.Header
	h.Add("lang", "en")
	h.Add("lang", "fr")
	fmt.Println(h.Get("lang"), h.Values("lang"))
	h.Set("lang", "de")
	fmt.Println(h)
	// Output:
	// en [en fr]
	// [{lang de}]
}
