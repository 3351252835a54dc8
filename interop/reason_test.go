package interop_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A reason is a place in the crate's source.
type reason string

const (
	frameLimit        reason = "src/codec.rs:18"
	clientNoAck       reason = "src/udp/client.rs:182"
	copies            reason = "src/udp/client.rs:211"
	copiesLimit       reason = "src/udp/client.rs:216"
	partsLimit        reason = "src/udp/reassembly.rs:28"
	serverLimit       reason = "src/udp/server.rs:75"
	received          reason = "src/udp/server.rs:81"
	easyEmpty         reason = "src/easy.rs:59"
	easyNoJSONTCP     reason = "src/easy.rs:231"
	easyNoJSONUDP     reason = "src/easy.rs:279"
	easyNoJSONReceive reason = "src/easy.rs:117"
	easyEmptyReply    reason = "src/easy.rs:318"
	easyReplyTCP      reason = "src/easy.rs:248"
	easyReplyUDP      reason = "src/easy.rs:296"
	easyFieldsTCP     reason = "src/easy.rs:236"
	easyFieldsUDP     reason = "src/easy.rs:284"
	easyFieldsReceive reason = "src/easy.rs:117"
)

// reasons says what stands there, and what that means.
var reasons = []struct {
	at          reason
	line, means string
}{
	{frameLimit, "Self::new(8 * 1024 * 1024)", "it takes no frame above 8 MiB and ends the connection; so vstp refuses to send one"},
	{clientNoAck, "return Ok((frame, from_addr));", "recv of a client hands on what asks for an ACK and sends none: the message arrives, but its sender cannot know"},
	{copies, "let mut frag_frame = frame.clone();", "each of its \"fragments\" has the whole payload: its own receiver joins them or cannot take them"},
	{copiesLimit, "self.socket.send_to(&frag_encoded, dest).await?;", "each of its \"fragments\" has the whole payload, and UDP carries 65,507 bytes: its sender gets EMSGSIZE"},
	{partsLimit, "pub frag_index: u8,", "at most 255 fragments: more would not be put together, but handed on one by one; so vstp refuses"},
	{serverLimit, "self.socket.send_to(&encoded, dest).await?;", "a server sends one datagram, whatever its size: above 65,507 bytes it gets EMSGSIZE, which easy throws away"},
	{received, "let mut buf = vec![0u8; MAX_DATAGRAM_SIZE * 2];", "2,400 bytes of a datagram are received"},
	{easyEmpty, "let payload = serde_json::to_vec(&data)", "easy sends JSON, and no JSON text is empty"},
	{easyNoJSONTCP, "match serde_json::from_slice::<T>(&frame.payload()) {", "easy takes JSON, and no JSON text is empty: it answers \"Invalid data\""},
	{easyNoJSONUDP, "match serde_json::from_slice::<T>(&frame.payload()) {", "the same over UDP"},
	{easyNoJSONReceive, "serde_json::from_slice(frame.payload())", "receive returns the JSON value of the payload: an error if that is empty, and nothing of the fields"},
	{easyEmptyReply, "if let Ok(response_data) = serde_json::to_vec(&response) {", "an answer of easy is JSON, and no JSON text is empty"},
	{easyReplyTCP, "Frame::new(FrameType::Data).with_payload(response);", "an answer of easy has no fields"},
	{easyReplyUDP, "Frame::new(FrameType::Data).with_payload(response);", "the same over UDP"},
	{easyFieldsTCP, "data: frame.payload().to_vec(),", "the handler of easy gets the payload, and no fields"},
	{easyFieldsUDP, "data: frame.payload().to_vec(),", "the same over UDP"},
}

// TestReasons finds each line that README.md cites in the source of the crate.
func TestReasons(t *testing.T) {
	need(t)
	cmd := exec.Command("cargo", "metadata", "--locked", "--format-version", "1")
	cmd.Dir = "rust"
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Packages []struct {
			Name, Version string
			Manifest      string `json:"manifest_path"`
		}
	}
	if err := json.Unmarshal(out, &meta); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for _, p := range meta.Packages {
		if p.Name == "vstp" && p.Version == "0.2.1" {
			dir = filepath.Dir(p.Manifest)
		}
	}
	for _, r := range reasons {
		file, line, _ := strings.Cut(string(r.at), ":")
		src, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(src), "\n")
		if i := atoi(t, line) - 1; i >= len(lines) || !strings.Contains(lines[i], r.line) {
			t.Errorf("%s is not %q, but %q", r.at, r.line, lines[min(i, len(lines)-1)])
		}
	}
}
