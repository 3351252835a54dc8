//! What is in messages: content that both ends can make, and how it is reported.

use serde_json::{json, Value};
use vstp::udp::reassembly::{add_fragment_headers, Fragment, MAX_DATAGRAM_SIZE, MAX_FRAGMENTS};
use vstp::{encode_frame, Flags, Frame, FrameType, VstpError};

fn next(x: &mut u32) -> u8 {
    *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*x >> 24) as u8
}

/// Bytes for a length and a seed.
pub fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len).map(|_| next(&mut x)).collect()
}

/// A JSON value of len bytes when written: a string, or a digit.
pub fn value(len: usize, seed: u32) -> Value {
    match len {
        0 => Value::Null, // nothing is no JSON: easy cannot send it
        1 => json!(seed % 10),
        _ => {
            let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
            let s: String = (0..len - 2)
                .map(|_| (b'a' + next(&mut x) % 26) as char)
                .collect();
            Value::String(s)
        }
    }
}

/// FNV-1a with 64 bits.
fn fnv(b: &[u8]) -> String {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for &c in b {
        h = (h ^ c as u64).wrapping_mul(0x100_0000_01b3);
    }
    format!("{h:016x}")
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|c| format!("{c:02x}")).collect()
}

fn unhex(s: &str) -> Vec<u8> {
    (0..s.len() / 2)
        .map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).expect("hex"))
        .collect()
}

/// Length and checksum of a payload, and how it begins.
pub fn payload(b: &[u8]) -> Value {
    json!({"len": b.len(), "fnv": fnv(b), "head": hex(&b[..b.len().min(32)])})
}

/// What is told of a frame.
pub fn frame(event: &str, f: &Frame) -> Value {
    let mut v = payload(&f.payload);
    v["event"] = json!(event);
    v["type"] = json!(f.typ as u8);
    v["flags"] = json!(f.flags.bits());
    v["headers"] = f
        .headers
        .iter()
        .map(|h| json!([hex(&h.key), hex(&h.value)]))
        .collect();
    v
}

fn number(cmd: &Value, key: &str, default: u64) -> u64 {
    cmd[key].as_u64().unwrap_or(default)
}

/// A value that is written out: a marker, or a request to a server of `easy`.
fn special(cmd: &Value) -> Value {
    match cmd["ask"].is_u64() && !cmd["marker"].is_u64() {
        true => json!({"reply": cmd["ask"], "seed": cmd["seed"]}),
        false => cmd["marker"].clone(),
    }
}

/// The content of a command, as bytes, or as JSON text where the command says so.
pub fn of(cmd: &Value) -> Vec<u8> {
    if !special(cmd).is_null() {
        return special(cmd).to_string().into_bytes();
    }
    let (len, seed) = (
        number(cmd, "len", 0) as usize,
        number(cmd, "seed", 0) as u32,
    );
    match cmd["json"].as_bool() {
        Some(true) if len > 0 => serde_json::to_vec(&value(len, seed)).expect("JSON"),
        _ => bytes(len, seed),
    }
}

/// The value of a command for `easy`.
pub fn value_of(cmd: &Value) -> Value {
    if !special(cmd).is_null() {
        return special(cmd);
    }
    value(
        number(cmd, "len", 0) as usize,
        number(cmd, "seed", 0) as u32,
    )
}

/// The frame that a command asks for.
pub fn frame_of(cmd: &Value) -> Frame {
    let typ = FrameType::from_u8(number(cmd, "type", 3) as u8).expect("a type");
    let mut f = Frame::new(typ).with_payload(of(cmd));
    f.flags = Flags::from_bits(number(cmd, "flags", 0) as u8).expect("flags");
    for h in cmd["headers"].as_array().into_iter().flatten() {
        f.headers.push(vstp::Header::new(
            unhex(h[0].as_str().expect("a key")),
            unhex(h[1].as_str().expect("a value")),
        ));
    }
    f
}

/// The message of a command in fragments as the crate's receiver takes them, in datagrams of
/// at most 1,200 bytes. The crate's senders do not cut: they put the whole into each.
pub fn fragments(cmd: &Value) -> Result<Vec<Frame>, VstpError> {
    let mut whole = frame_of(cmd);
    let payload = std::mem::take(&mut whole.payload);
    let fields = 3 * (2 + 3) + "frag-idfrag-indexfrag-total".len();
    let size = MAX_DATAGRAM_SIZE - encode_frame(&whole)?.len() - fields;
    let total = payload.len().div_ceil(size).max(1);
    if total > MAX_FRAGMENTS {
        return Err(VstpError::Protocol("more than 255 fragments".into()));
    }
    let frag_id = number(cmd, "id", 0) as u8;
    whole.flags.insert(Flags::FRAG);
    Ok((0..total)
        .map(|i| {
            let mut f = whole.clone();
            let data = &payload[i * size..payload.len().min((i + 1) * size)];
            f.payload = data.to_vec();
            let (frag_index, frag_total) = (i as u8, total as u8);
            add_fragment_headers(
                &mut f,
                &Fragment {
                    frag_id,
                    frag_index,
                    frag_total,
                    data: vec![],
                },
            );
            f
        })
        .collect())
}

/// Waits before datagram i of a message now and then: a socket holds about 90 of them.
pub async fn pace(i: usize) {
    if i > 0 && i % 32 == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
