//! A load of messages over several SMTP sessions at once.
//!
//! It shares the machine with the server that it measures, so it takes little of it: one thread for
//! all sessions, one buffer for the text of all messages. No message is like another, because a
//! server may keep one of two equal ones only; they differ in their Message-ID, which is always as
//! long. Commands are sent together where the server announces PIPELINING (RFC 2920).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

const LINE: &[u8] = b"All work and no play makes a dull mailbox, line after line after line.\r\n";
const EHLO: &[u8] = b"EHLO load.example\r\n";
const ENVELOPE: [&[u8]; 3] = [b"MAIL FROM:<a@sender.example>\r\n", b"RCPT TO:<b@example.com>\r\n", b"DATA\r\n"];
/// A server that takes longer than this for everything is stuck.
const DEADLINE: Duration = Duration::from_secs(600);
/// Who is not greeted by then connects again, and waits twice as long the next time: where the backlog
/// of a server is too short, the kernel forgets connections that the client believes in. Each session
/// waits a little longer than the one before it, so that they don't all come back at once.
const GREETING: Duration = Duration::from_secs(2);

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Sessions at the same time.
    pub sessions: usize,
    /// How much over all.
    pub amount: Amount,
    /// Messages in one connection.
    pub per_connection: usize,
    /// Size of a message in bytes, about.
    pub size: usize,
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// After so many messages, in equal shares for each session.
    Messages(usize),
    /// After this time. What was begun then is finished, and not counted in the rate.
    Time(Duration),
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Messages a second, with the time for connections.
    pub rate: f64,
    /// From the final dot to its reply, for each accepted message, sorted.
    pub latencies: Vec<Duration>,
    /// Connections that were never greeted, and made again.
    pub ungreeted: usize,
}

impl Load {
    /// Sends everything; every message must be answered with 250.
    ///
    /// # Errors
    /// When a session fails, a message is refused, or nothing comes to an end within ten minutes.
    pub fn run(self, server: SocketAddr) -> io::Result<Outcome> {
        let begin = Instant::now();
        let text = Rc::new(Text::new(self.size));
        let (replies, ungreeted) = runtime()?.block_on(LocalSet::new().run_until(async {
            let sessions: Vec<_> = (0..self.sessions)
                .map(|number| {
                    let session = Session::new(self, number, begin, Rc::clone(&text));
                    tokio::task::spawn_local(tokio::time::timeout(DEADLINE, session.run(server)))
                })
                .collect();
            let (mut replies, mut ungreeted) = (Vec::new(), 0);
            for session in sessions {
                let session = session.await.map_err(io::Error::other)???;
                replies.extend(session.replies);
                ungreeted += session.ungreeted;
            }
            io::Result::Ok((replies, ungreeted))
        }))?;
        Ok(Outcome::new(&replies, ungreeted, self.amount, begin))
    }
}

impl Outcome {
    fn new(replies: &[Reply], ungreeted: usize, amount: Amount, begin: Instant) -> Self {
        let (counted, took) = match amount {
            Amount::Messages(_) => (replies.len(), begin.elapsed()),
            Amount::Time(time) => (replies.iter().filter(|reply| reply.at <= begin + time).count(), time),
        };
        let mut latencies: Vec<Duration> = replies.iter().map(|reply| reply.latency).collect();
        latencies.sort_unstable();
        Self { rate: counted as f64 / took.as_secs_f64(), latencies, ungreeted }
    }

    /// The latency that this share of the messages stayed below.
    pub fn percentile(&self, share: f64) -> Duration {
        let index = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(index.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Opens sessions that have greeted and are silent from then on.
///
/// # Errors
/// When one is refused.
pub fn idle_sessions(server: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpStream>> {
    runtime()?.block_on(async {
        let mut open = Vec::with_capacity(count);
        for _ in 0..count {
            open.push(Connection::open(server).await?.stream.into_std()?);
        }
        Ok(open)
    })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// An accepted message.
#[derive(Debug, Clone, Copy)]
struct Reply {
    at: Instant,
    latency: Duration,
}

/// One client, with one connection after the other.
struct Session {
    load: Load,
    number: usize,
    begin: Instant,
    text: Rc<Text>,
    replies: Vec<Reply>,
    ungreeted: usize,
}

impl Session {
    fn new(load: Load, number: usize, begin: Instant, text: Rc<Text>) -> Self {
        Self { load, number, begin, text, replies: Vec::new(), ungreeted: 0 }
    }

    async fn run(mut self, server: SocketAddr) -> io::Result<Self> {
        let mut patience = GREETING;
        while self.goes_on() {
            let wait = patience.mul_f64(1.0 + self.number as f64 / self.load.sessions as f64);
            let Ok(connection) = tokio::time::timeout(wait, Connection::open(server)).await else {
                self.ungreeted += 1;
                patience *= 2;
                continue;
            };
            let mut connection = connection?;
            patience = GREETING;
            for _ in 0..self.load.per_connection {
                if !self.goes_on() {
                    break;
                }
                let head = self.text.head(self.number, self.replies.len());
                self.replies.push(connection.deliver(&head, &self.text.body).await?);
            }
            connection.quit().await?;
        }
        Ok(self)
    }

    fn goes_on(&self) -> bool {
        match self.load.amount {
            Amount::Messages(all) => self.replies.len() < all / self.load.sessions,
            Amount::Time(time) => self.begin.elapsed() < time,
        }
    }
}

/// The text of the messages of one run.
struct Text {
    /// Tells the messages of this run from those of others.
    run: u64,
    body: Vec<u8>,
}

impl Text {
    fn new(size: usize) -> Self {
        let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let mut text = Self { run, body: Vec::with_capacity(size + LINE.len()) };
        let head = text.head(0, 0).len();
        while head + text.body.len() < size {
            text.body.extend_from_slice(LINE);
        }
        text.body.extend_from_slice(b".\r\n");
        text
    }

    fn head(&self, session: usize, message: usize) -> Vec<u8> {
        format!(
            "Message-ID: <{:016x}.{session:08}.{message:08}@load.example>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
             Subject: load\r\nFrom: a@sender.example\r\nTo: b@example.com\r\n\r\n",
            self.run
        )
        .into_bytes()
    }
}

/// A connection that has greeted.
struct Connection {
    stream: TcpStream,
    pipelining: bool,
    /// Received, and not yet taken.
    received: Vec<u8>,
}

impl Connection {
    async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, pipelining: false, received: Vec::with_capacity(1024) };
        connection.reply(b'2').await?;
        connection.stream.write_all(EHLO).await?;
        let extensions = connection.reply(b'2').await?;
        connection.pipelining = extensions.lines().any(|line| line.get(4..) == Some("PIPELINING"));
        Ok(connection)
    }

    async fn deliver(&mut self, head: &[u8], body: &[u8]) -> io::Result<Reply> {
        if self.pipelining {
            self.stream.write_all(&ENVELOPE.concat()).await?;
            for class in *b"223" {
                self.reply(class).await?;
            }
        } else {
            for (command, class) in ENVELOPE.into_iter().zip(*b"223") {
                self.stream.write_all(command).await?;
                self.reply(class).await?;
            }
        }
        self.write_both(head, body).await?;
        let dot = Instant::now();
        self.reply(b'2').await?;
        Ok(Reply { at: Instant::now(), latency: dot.elapsed() })
    }

    /// Writes both together, without a copy of either.
    async fn write_both(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let parts = [io::IoSlice::new(head), io::IoSlice::new(body)];
        let written = self.stream.write_vectored(&parts).await?;
        if let Some(rest) = head.get(written..) {
            self.stream.write_all(rest).await?;
        }
        self.stream.write_all(&body[written.saturating_sub(head.len())..]).await
    }

    async fn quit(mut self) -> io::Result<()> {
        self.stream.write_all(b"QUIT\r\n").await?;
        self.reply(b'2').await.map(drop)
    }

    /// The next reply, with all its lines; it must begin with this digit.
    async fn reply(&mut self, class: u8) -> io::Result<String> {
        loop {
            if let Some(length) = reply_length(&self.received) {
                let reply: Vec<u8> = self.received.drain(..length).collect();
                let reply = String::from_utf8_lossy(&reply).into_owned();
                let fits = reply.as_bytes()[0] == class;
                return if fits { Ok(reply) } else { Err(unexpected(class, &reply)) };
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(unexpected(class, "the end of the connection"));
            }
        }
    }
}

/// The length of the first reply in here, if it is complete (RFC 5321 section 4.2).
fn reply_length(received: &[u8]) -> Option<usize> {
    let mut length = 0;
    for line in received.split_inclusive(|octet| *octet == b'\n') {
        length += line.len();
        if line.ends_with(b"\n") && line.get(3) != Some(&b'-') {
            return Some(length);
        }
    }
    None
}

fn unexpected(class: u8, got: &str) -> io::Error {
    io::Error::other(format!("expected a reply {}yz, got {got:?}", char::from(class)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert_eq!(reply_length(b"250-one\r\n250 two\r\n354 go"), Some(18));
        assert_eq!(reply_length(b"250-one\r\n250 tw"), None);
        assert_eq!(reply_length(b""), None);
    }

    #[test]
    fn messages_differ_and_are_as_long_as_each_other() {
        let text = Text::new(5 << 10);
        let (first, second) = (text.head(0, 1), text.head(99, 12_345));
        assert_ne!(first, second);
        assert_eq!(first.len(), second.len());
        let length = first.len() + text.body.len();
        assert!((5 << 10..(5 << 10) + 2 * LINE.len()).contains(&length), "{length}");
    }

    #[test]
    fn what_ends_after_the_time_is_not_in_the_rate() {
        let begin = Instant::now();
        let reply = |at: u64| Reply { at: begin + Duration::from_millis(at), latency: Duration::from_millis(at) };
        let replies = [reply(30), reply(10), reply(2_500)];
        let outcome = Outcome::new(&replies, 0, Amount::Time(Duration::from_secs(2)), begin);
        assert!((outcome.rate - 1.0).abs() < f64::EPSILON);
        assert_eq!(outcome.percentile(0.5), Duration::from_millis(30));
        assert_eq!(outcome.percentile(1.0), Duration::from_millis(2_500));
    }
}
