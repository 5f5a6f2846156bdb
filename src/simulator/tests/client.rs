//! A client for tests: one connection a call, read until it ends.

use crate::clock::Clock;
use crate::simulator::{Config, Handle, Simulator};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back before the connection ended.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// 0 when nothing came.
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) bytes: Vec<u8>,
    /// The connection was reset, or ended before the body was complete.
    pub(super) broken: bool,
}

pub(super) fn start(config: Config) -> Handle {
    Simulator::start(config, "127.0.0.1:0".parse().unwrap(), Clock::system()).unwrap()
}

pub(super) fn body(prompt: &str, max_tokens: u64) -> Value {
    json!({
        "model": "claude-sonnet-5",
        "max_tokens": max_tokens,
        "messages": [{ "role": "user", "content": prompt }],
    })
}

/// Sends a request and reads nothing.
pub(super) async fn send(sim: &Handle, body: &Value) -> TcpStream {
    let head = "POST /v1/messages HTTP/1.1\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\n";
    write(sim, head, body.to_string().as_bytes()).await
}

pub(super) async fn call(sim: &Handle, body: &Value) -> Reply {
    read(&mut send(sim, body).await).await
}

pub(super) async fn request(sim: &Handle, head: &str, body: &[u8]) -> Reply {
    read(&mut write(sim, head, body).await).await
}

async fn write(sim: &Handle, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(sim.addr()).await.unwrap();
    let length = body.len();
    let head = format!("{head}host: sim\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

pub(super) async fn read(stream: &mut TcpStream) -> Reply {
    let mut all = Vec::new();
    let mut broken = stream.read_to_end(&mut all).await.is_err();
    let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Reply { broken: true, ..Reply::default() };
    };
    let mut bytes = all.split_off(end + 4);
    let head = String::from_utf8(all).unwrap();
    if head.contains("transfer-encoding: chunked") {
        let (whole, complete) = unchunk(&bytes);
        broken |= !complete;
        bytes = whole;
    }
    let mut reply = Reply { status: head[9..12].parse().unwrap(), head, bytes, broken };
    let announced = reply.header("content-length").parse::<usize>();
    reply.broken |= announced.is_ok_and(|length| length != reply.bytes.len());
    reply
}

fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut whole = Vec::new();
    while let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") {
        let text = std::str::from_utf8(&bytes[..line]).unwrap();
        let length = usize::from_str_radix(text, 16).unwrap();
        if length == 0 {
            return (whole, true);
        }
        let rest = &bytes[line + 2..];
        whole.extend(&rest[..length.min(rest.len())]);
        bytes = rest.get(length + 2..).unwrap_or_default();
    }
    (whole, false)
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map_or("", |(_, value)| {
            // Times and dates keep their letters' meaning, but not their case.
            value
        })
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The data of all events.
    pub(super) fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// Waits for a condition, at most ten seconds.
pub(super) async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came true");
}
