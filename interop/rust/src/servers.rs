//! The crate's servers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{json, Value};
use tokio::sync::mpsc;
use vstp::easy::VstpServer;
use vstp::tcp::server::VstpTcpConnection;
use vstp::{VstpError, VstpTcpServer, VstpUdpServer};

use crate::{content, done, say, Commands, Options};

/// A TCP server: connections are numbered from 0.
pub async fn tcp(o: Options, mut cmds: Commands) {
    let server = VstpTcpServer::bind(&o.addr).await.expect("bind");
    say(json!({"event": "ready", "addr": server.local_addr().unwrap().to_string()}));
    let mut conns: HashMap<u64, mpsc::UnboundedSender<Value>> = HashMap::new();
    let mut next = 0;
    loop {
        tokio::select! {
            conn = server.accept() => {
                let (tx, rx) = mpsc::unbounded_channel();
                conns.insert(next, tx);
                tokio::spawn(connection(conn.expect("accept"), next, rx));
                next += 1;
            }
            Some(cmd) = cmds.recv() => {
                let to = cmd["conn"].as_u64().unwrap_or(0);
                match conns.get(&to) {
                    Some(tx) if !tx.is_closed() => { let _ = tx.send(cmd); }
                    _ => done(&cmd, Err("no such connection")),
                }
            }
        }
    }
}

async fn connection(mut conn: VstpTcpConnection, id: u64, mut cmds: Commands) {
    say(json!({"event": "accepted", "conn": id, "peer": conn.peer_addr().to_string()}));
    loop {
        tokio::select! {
            r = conn.recv() => match r {
                Ok(Some(f)) => {
                    let mut v = content::frame("frame", &f);
                    v["conn"] = json!(id);
                    say(v);
                }
                Ok(None) => return say(json!({"event": "end", "conn": id})),
                Err(e) => return say(json!({"event": "end", "conn": id, "error": e.to_string()})),
            },
            Some(cmd) = cmds.recv() => match cmd["op"].as_str() {
                Some("close") => return done(&cmd, Ok::<(), VstpError>(())),
                _ => done(&cmd, conn.send(content::frame_of(&cmd)).await),
            }
        }
    }
}

/// A UDP server.
pub async fn udp(o: Options, mut cmds: Commands) {
    let server = Arc::new(VstpUdpServer::bind(&o.addr).await.expect("bind"));
    say(json!({"event": "ready", "addr": server.local_addr().unwrap().to_string()}));
    let receiver = server.clone();
    tokio::spawn(async move {
        loop {
            match receiver.recv().await {
                Ok((f, from)) => {
                    let mut v = content::frame("frame", &f);
                    v["peer"] = json!(from.to_string());
                    say(v);
                }
                Err(e) => say(json!({"event": "trouble", "error": e.to_string()})),
            }
        }
    });
    while let Some(cmd) = cmds.recv().await {
        let to: SocketAddr = cmd["to"].as_str().expect("to").parse().expect("an address");
        match cmd["op"].as_str() {
            Some("fragments") => done(&cmd, fragments(&server, &cmd, to).await),
            _ => done(&cmd, server.send(content::frame_of(&cmd), to).await),
        }
    }
}

/// See content::fragments.
async fn fragments(server: &VstpUdpServer, cmd: &Value, to: SocketAddr) -> Result<(), VstpError> {
    for (i, f) in content::fragments(cmd)?.into_iter().enumerate() {
        content::pace(i).await;
        server.send(f, to).await?;
    }
    Ok(())
}

/// Servers of `easy`, on one address. They answer {"reply": LEN, "seed": SEED} with such a
/// value, and every other value with itself, or with 0 if they are to be quiet.
pub async fn easy(o: Options, _: Commands, on_tcp: bool, on_udp: bool) {
    let mut servers = Vec::new();
    for (on, name) in [(on_tcp, "tcp"), (on_udp, "udp")] {
        if on {
            let server = match name {
                "tcp" => VstpServer::bind_tcp(o.addr.clone()).await,
                _ => VstpServer::bind_udp(o.addr.clone()).await,
            };
            match server {
                Ok(s) => servers.push((name, s)),
                Err(e) => return say(json!({"event": "failed", "error": e.to_string()})),
            }
        }
    }
    for (name, server) in servers {
        tokio::spawn(server.serve(move |v: Value| async move {
            let mut said = content::payload(&serde_json::to_vec(&v).unwrap());
            said["event"] = json!("value");
            said["on"] = json!(name);
            say(said);
            Ok(match v["reply"].as_u64() {
                Some(n) => content::value(n as usize, v["seed"].as_u64().unwrap_or(0) as u32),
                None if o.quiet => json!(0),
                None => v,
            })
        }));
    }
    say(json!({"event": "ready", "addr": o.addr}));
}
