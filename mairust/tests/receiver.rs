//! A program elsewhere that is told something by HTTP, and answers by a script.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mairust::{Clock, ManualClock, Timestamp};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An HTTP server that answers by a script, and with 204 behind its end.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    script: Arc<Mutex<VecDeque<String>>>,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) at: Timestamp,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Receiver {
    pub(crate) async fn start(clock: Arc<ManualClock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (got, script) = (Arc::<Mutex<Vec<Got>>>::default(), Arc::<Mutex<VecDeque<String>>>::default());
        let receiver = Self { address: listener.local_addr().unwrap(), got: got.clone(), script: script.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = || script.lock().unwrap().pop_front().unwrap_or_else(|| "204 No Content\r\n".to_owned());
                if let Some((head, body)) = read(stream, answer).await {
                    got.lock().unwrap().push(Got { at: clock.now(), head, body });
                }
            }
        });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/in?x=1", self.address)
    }

    /// What it answers next: a status with its header fields.
    pub(crate) fn answer(&self, answers: &[&str]) {
        self.script.lock().unwrap().extend(answers.iter().map(|answer| format!("{answer}\r\n")));
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn read(mut stream: TcpStream, answer: impl Fn() -> String) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length: usize = field(&head, "content-length").parse().unwrap();
        if bytes.len() >= end + 4 + length {
            let body = bytes[end + 4..].to_vec();
            let answer = format!("HTTP/1.1 {}content-length: 2\r\nconnection: close\r\n\r\nhm", answer());
            stream.write_all(answer.as_bytes()).await.ok()?;
            return Some((head, body));
        }
    }
}

fn field(head: &str, name: &str) -> String {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> String {
        field(&self.head, name)
    }
}
