//! Plays a role of the crate vstp: `peer ROLE [--addr IP:PORT] [--clients N] [--no-frag]
//! [--quiet] [--ack-timeout MS] [--retry-delay MS]`.
//!
//! Commands come as JSON lines on standard input; what happens goes as JSON lines to
//! standard output. It ends with its input. Roles: tcp-, udp-, easy-tcp-, easy-udp- and
//! auto-, each with server and client.
//!
//! A command has `op` (send, ack, fragments, raw, receive, hello, close), `seq`, which its
//! answer repeats, `client`, `conn`, `to` or `on` to say who and where, and a message: `type`,
//! `flags`, `headers` (pairs in hex), and as payload `len` and `seed` of made-up content, with
//! `json` of a JSON string, or `marker`, a number, or `ask`, a request for an answer of that
//! length. Payloads are reported by length and FNV-1a.

mod clients;
mod content;
mod servers;

use std::time::Duration;

use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

/// What the command line says.
#[derive(Clone)]
pub struct Options {
    pub addr: String,
    pub clients: usize,
    pub no_frag: bool,
    pub quiet: bool,
    pub ack_timeout: Duration,
    pub retry_delay: Duration,
}

/// Commands for one client or connection.
pub type Commands = mpsc::UnboundedReceiver<Value>;

/// Prints one line of what happened.
pub fn say(v: Value) {
    println!("{v}");
}

/// Says what became of a command.
pub fn done<E: std::fmt::Display>(cmd: &Value, r: Result<(), E>) {
    match r {
        Ok(()) => say(json!({"event": "done", "seq": cmd["seq"]})),
        Err(e) => say(json!({"event": "failed", "seq": cmd["seq"], "error": e.to_string()})),
    }
}

fn options(args: &[String]) -> Options {
    let mut o = Options {
        addr: "127.0.0.1:0".into(),
        clients: 1,
        no_frag: false,
        quiet: false,
        ack_timeout: Duration::from_secs(2),
        retry_delay: Duration::from_millis(100),
    };
    let mut it = args.iter();
    while let Some(a) = it.next() {
        let mut value = || it.next().unwrap_or_else(|| panic!("{a} needs a value"));
        match a.as_str() {
            "--no-frag" => o.no_frag = true,
            "--quiet" => o.quiet = true,
            "--addr" => o.addr = value().clone(),
            "--clients" => o.clients = value().parse().expect("a number"),
            "--ack-timeout" => {
                o.ack_timeout = Duration::from_millis(value().parse().expect("a number"))
            }
            "--retry-delay" => {
                o.retry_delay = Duration::from_millis(value().parse().expect("a number"))
            }
            _ => panic!("no option {a}"),
        }
    }
    o
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let role = args.first().expect("a role").clone();
    let o = options(&args[1..]);

    let (tx, rx) = mpsc::unbounded_channel();
    match role.as_str() {
        "tcp-server" => tokio::spawn(servers::tcp(o, rx)),
        "udp-server" => tokio::spawn(servers::udp(o, rx)),
        "easy-tcp-server" => tokio::spawn(servers::easy(o, rx, true, false)),
        "easy-udp-server" => tokio::spawn(servers::easy(o, rx, false, true)),
        "auto-server" => tokio::spawn(servers::easy(o, rx, true, true)),
        "tcp-client" | "udp-client" | "easy-tcp-client" | "easy-udp-client" | "auto-client" => {
            tokio::spawn(clients::all(role, o, rx))
        }
        _ => panic!("no role {role}"),
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let cmd: Value = serde_json::from_str(&line).expect("a command in JSON");
        if tx.send(cmd).is_err() {
            break;
        }
    }
}
