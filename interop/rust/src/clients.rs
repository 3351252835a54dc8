//! The crate's clients.

use std::net::SocketAddr;

use serde_json::{json, Value};
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use vstp::easy::VstpClient;
use vstp::udp::client::UdpConfig;
use vstp::{Flags, Frame, FrameType, VstpError, VstpTcpClient, VstpUdpClient};

use crate::{content, done, say, Commands, Options};

/// Runs the clients of a role; commands say which one they are for.
pub async fn all(role: String, o: Options, mut cmds: Commands) {
    let mut clients = Vec::new();
    for id in 0..o.clients {
        let (tx, rx) = mpsc::unbounded_channel();
        clients.push(tx);
        let o = o.clone();
        match role.as_str() {
            "tcp-client" => tokio::spawn(tcp(o, id, rx)),
            "udp-client" => tokio::spawn(udp(o, id, rx)),
            "easy-tcp-client" => tokio::spawn(easy(o, id, rx, true)),
            "easy-udp-client" => tokio::spawn(easy(o, id, rx, false)),
            _ => tokio::spawn(auto(o, id, rx)),
        };
    }
    while let Some(cmd) = cmds.recv().await {
        let id = cmd["client"].as_u64().unwrap_or(0) as usize;
        if clients[id].send(cmd.clone()).is_err() {
            done(&cmd, Err("that client has ended"));
        }
    }
}

fn heard(id: usize, via: &str, from: Option<SocketAddr>, f: &Frame) {
    let mut v = content::frame("frame", f);
    v["client"] = json!(id);
    v["on"] = json!(via);
    v["peer"] = json!(from.map(|a| a.to_string()));
    say(v);
}

async fn tcp(o: Options, id: usize, mut cmds: Commands) {
    let mut c = match VstpTcpClient::connect(&o.addr).await {
        Ok(c) => c,
        Err(e) => return say(json!({"event": "end", "client": id, "error": e.to_string()})),
    };
    say(json!({"event": "ready", "client": id}));
    loop {
        tokio::select! {
            r = c.recv() => match r {
                Ok(Some(f)) => heard(id, "tcp", None, &f),
                Ok(None) => return say(json!({"event": "end", "client": id})),
                Err(e) => return say(json!({"event": "end", "client": id, "error": e.to_string()})),
            },
            Some(cmd) = cmds.recv() => match cmd["op"].as_str() {
                Some("hello") => done(&cmd, c.send_hello().await),
                Some("close") => done(&cmd, c.close().await),
                _ => done(&cmd, c.send(content::frame_of(&cmd)).await),
            }
        }
    }
}

fn udp_config(o: &Options) -> UdpConfig {
    UdpConfig {
        allow_frag: !o.no_frag,
        ack_timeout: o.ack_timeout,
        retry_delay: o.retry_delay,
        ..UdpConfig::default()
    }
}

async fn udp(o: Options, id: usize, mut cmds: Commands) {
    let mut c = VstpUdpClient::bind_with_config("127.0.0.1:0", udp_config(&o))
        .await
        .expect("bind");
    say(json!({"event": "ready", "client": id, "addr": c.local_addr().unwrap().to_string()}));
    loop {
        tokio::select! {
            // Never given up between taking a datagram and handing it on.
            r = unconstrained(c.recv()) => match r {
                Ok((f, from)) => heard(id, "udp", Some(from), &f),
                Err(e) => say(json!({"event": "trouble", "client": id, "error": e.to_string()})),
            },
            Some(cmd) = cmds.recv() => {
                let to = cmd["to"].as_str().unwrap_or(&o.addr).parse().expect("an address");
                match cmd["op"].as_str() {
                    Some("ack") => done(&cmd, c.send_with_ack(content::frame_of(&cmd), to).await),
                    Some("fragments") => done(&cmd, fragments(&c, &cmd, to).await),
                    _ => done(&cmd, c.send(content::frame_of(&cmd), to).await),
                }
            }
        }
    }
}

/// See content::fragments.
async fn fragments(c: &VstpUdpClient, cmd: &Value, to: SocketAddr) -> Result<(), VstpError> {
    for (i, f) in content::fragments(cmd)?.into_iter().enumerate() {
        content::pace(i).await;
        c.send(f, to).await?;
    }
    Ok(())
}

/// A client of `easy`. It reads only when it is told to.
async fn easy(o: Options, id: usize, mut cmds: Commands, on_tcp: bool) {
    let c = match on_tcp {
        true => VstpClient::connect_tcp(o.addr.clone()).await,
        false => VstpClient::connect_udp(o.addr.clone()).await,
    };
    let c = match c {
        Ok(c) => c,
        Err(e) => return say(json!({"event": "end", "client": id, "error": e.to_string()})),
    };
    say(json!({"event": "ready", "client": id}));
    while let Some(cmd) = cmds.recv().await {
        match cmd["op"].as_str() {
            Some("ack") => done(&cmd, c.send_with_ack(content::value_of(&cmd)).await),
            Some("raw") => done(&cmd, c.send_raw(content::frame_of(&cmd)).await),
            Some("receive") => match c.receive::<Value>().await {
                Ok(v) => {
                    let mut said = content::payload(&serde_json::to_vec(&v).unwrap());
                    said["event"] = json!("value");
                    said["client"] = json!(id);
                    said["seq"] = cmd["seq"].clone();
                    say(said);
                }
                Err(e) => done(&cmd, Err(e)),
            },
            _ => done(&cmd, c.send(content::value_of(&cmd)).await),
        }
    }
}

/// The client that `easy` got after 0.2.1, with the frames that it sends: two rounds of
/// probes, then messages on the transport that the command names.
async fn auto(o: Options, id: usize, mut cmds: Commands) {
    let to: SocketAddr = o.addr.parse().expect("an address");
    let mut udp = VstpUdpClient::bind_with_config("0.0.0.0:0", udp_config(&o))
        .await
        .expect("bind");
    let mut tcp = None;
    for round in 0..2 {
        let probe = Frame::new(FrameType::Ping)
            .with_flag(Flags::REQ_ACK)
            .with_header("x-auto-probe", "1");
        let (t, u) = tokio::join!(
            VstpTcpClient::connect(&o.addr),
            udp.send_with_ack(probe, to)
        );
        say(json!({"event": "probed", "client": id, "round": round,
            "tcp": t.is_ok(), "udp": u.map_err(|e: VstpError| e.to_string()).err()}));
        tcp = tcp.or(t.ok()); // the connection of the second round is dropped
    }
    let mut tcp = match tcp {
        Some(c) => c,
        None => return say(json!({"event": "end", "client": id})),
    };
    say(json!({"event": "ready", "client": id}));
    let mut open = true;
    loop {
        tokio::select! {
            r = tcp.recv(), if open => match r {
                Ok(Some(f)) => heard(id, "tcp", None, &f),
                _ => {
                    open = false;
                    say(json!({"event": "end", "client": id}));
                }
            },
            r = unconstrained(udp.recv()) => match r {
                Ok((f, from)) => heard(id, "udp", Some(from), &f),
                Err(e) => say(json!({"event": "trouble", "client": id, "error": e.to_string()})),
            },
            Some(cmd) = cmds.recv() => {
                let f = content::frame_of(&cmd);
                match (cmd["on"].as_str(), cmd["op"].as_str()) {
                    (Some("tcp"), _) => done(&cmd, tcp.send(f).await),
                    (_, Some("ack")) => done(&cmd, udp.send_with_ack(f, to).await),
                    _ => done(&cmd, udp.send(f, to).await),
                }
            }
        }
    }
}
