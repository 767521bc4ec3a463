//! Requests to the REST API, one after the other on one connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A connection to the REST API.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Client {
    /// Connects to `http://ip:port`; `key` is an API key.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(base: &str, key: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(base.trim_start_matches("http://"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), key: key.to_owned() })
    }

    /// The body of the answer.
    ///
    /// # Errors
    /// When the answer is no 200, or the connection is lost.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        let (status, body) = self.ask(path).map_err(|error| format!("{path}: {error}"))?;
        match status.contains(" 200 ") {
            true => Ok(body),
            false => Err(format!("{path}: {} {}", status.trim(), String::from_utf8_lossy(&body))),
        }
    }

    /// The answer as JSON.
    ///
    /// # Errors
    /// As for [`get`](Self::get), and when it is none.
    pub fn json(&mut self, path: &str) -> Result<serde_json::Value, String> {
        serde_json::from_slice(&self.get(path)?).map_err(|error| format!("{path}: {error}"))
    }

    fn ask(&mut self, path: &str) -> io::Result<(String, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n", self.key);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            match line.trim().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }
}
