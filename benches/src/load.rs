//! A load of messages over several SMTP sessions at once.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Sessions at the same time.
    pub sessions: usize,
    /// Messages over all.
    pub messages: usize,
    /// Messages in one connection.
    pub per_connection: usize,
    /// Size of a message in bytes, about.
    pub size: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the first connection to the last reply.
    pub took: Duration,
    /// From the final dot to its reply, for each message, sorted.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// Sends everything; every message must be answered with 250.
    ///
    /// # Errors
    /// When a session fails or a message is refused.
    pub fn run(self, address: &str) -> Result<Outcome, String> {
        let begin = Instant::now();
        let share = self.messages / self.sessions;
        let sessions: Vec<_> = (0..self.sessions)
            .map(|_| {
                let address = address.to_owned();
                std::thread::spawn(move || session(self, share, &address).map_err(|error| error.to_string()))
            })
            .collect();
        let mut latencies = Vec::with_capacity(self.messages);
        for session in sessions {
            latencies.extend(session.join().map_err(|_| "a session panicked".to_owned())??);
        }
        let took = begin.elapsed();
        latencies.sort_unstable();
        Ok(Outcome { took, latencies })
    }
}

impl Outcome {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency that this share of the messages stayed below.
    pub fn percentile(&self, share: f64) -> Duration {
        let index = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(index.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

fn session(load: Load, share: usize, address: &str) -> std::io::Result<Vec<Duration>> {
    let mut data = b"Subject: load\r\nFrom: a@sender.example\r\nTo: b@example.com\r\n\r\n".to_vec();
    while data.len() < load.size {
        data.extend_from_slice(b"All work and no play makes a dull mailbox, line after line after line.\r\n");
    }
    data.extend_from_slice(b".\r\n");
    let mut latencies = Vec::with_capacity(share);
    while latencies.len() < share {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut replies = BufReader::new(stream.try_clone()?);
        expect(&mut replies, '2')?;
        stream.write_all(b"EHLO load.example\r\n")?;
        expect(&mut replies, '2')?;
        for _ in 0..load.per_connection.min(share - latencies.len()) {
            stream.write_all(b"MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")?;
            for class in ['2', '2', '3'] {
                expect(&mut replies, class)?;
            }
            stream.write_all(&data)?;
            let dot = Instant::now();
            expect(&mut replies, '2')?;
            latencies.push(dot.elapsed());
        }
        stream.write_all(b"QUIT\r\n")?;
        expect(&mut replies, '2')?;
    }
    Ok(latencies)
}

/// Opens sessions that have greeted and are silent from then on.
///
/// # Errors
/// When one is refused.
pub fn idle_sessions(address: &str, count: usize) -> std::io::Result<Vec<TcpStream>> {
    let open = |_| {
        let mut stream = TcpStream::connect(address)?;
        let mut replies = BufReader::new(stream.try_clone()?);
        expect(&mut replies, '2')?;
        stream.write_all(b"EHLO load.example\r\n")?;
        expect(&mut replies, '2')?;
        Ok(stream)
    };
    (0..count).map(open).collect()
}

fn expect(replies: &mut impl BufRead, class: char) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        replies.read_line(&mut line)?;
        if !line.starts_with(class) {
            return Err(std::io::Error::other(format!("expected {class}yz, got {line:?}")));
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
