//! Clients that hang up, or don't, while their message is looked at.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use mairust_core::{EnhancedCode, ForwardPath, Rejection, Reply};
use mairust_smtp::server::{Grant, RcptOptions, Received, Server, Service, SessionHandler, SessionInfo, bind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::live::{LineStream, ask, last_line, read_line, tls_over};
use crate::support::{PATIENCE, config, with_tls};

/// Looks at each message until it may take it, or its client has hung up.
#[derive(Debug)]
struct Slow {
    asked: Semaphore,
    may_take: Semaphore,
    gone: Semaphore,
    taken: AtomicU32,
}

#[async_trait]
impl SessionHandler for Slow {
    async fn recipient(&self, _: &SessionInfo, _: &ForwardPath, _: &RcptOptions) -> Result<Grant, Rejection> {
        Ok(Grant::none())
    }

    async fn message(&self, _: &SessionInfo, message: Received) -> Result<Reply, Rejection> {
        self.asked.add_permits(1);
        tokio::select! {
            biased;
            () = message.hang_up.wait() => {
                // It stays so.
                message.hang_up.wait().await;
                self.gone.add_permits(1);
                Err(Rejection::new(451, EnhancedCode(4, 4, 2), "gone"))
            }
            permit = self.may_take.acquire() => {
                permit.unwrap().forget();
                self.taken.fetch_add(1, Ordering::SeqCst);
                Ok(Reply::new(250, EnhancedCode(2, 0, 0), "taken"))
            }
        }
    }
}

fn start(service: Service) -> (SocketAddr, Arc<Slow>) {
    let none = || Semaphore::new(0);
    let handler = Arc::new(Slow { asked: none(), may_take: none(), gone: none(), taken: AtomicU32::new(0) });
    let server = Server::new(with_tls(config()), handler.clone());
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { server.run(listener, service, std::future::pending()).await });
    (address, handler)
}

/// Waits until this has happened once more.
async fn happened(what: &Semaphore) {
    timeout(PATIENCE, what.acquire()).await.expect("it happens").unwrap().forget();
}

/// A session that has greeted.
async fn plain(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(read_line(&mut stream).await.starts_with("220 "));
    let hello = ask(&mut stream, "EHLO c.test").await;
    if !hello.starts_with("250 ") {
        assert!(ask(&mut stream, "LHLO c.test").await.starts_with("250 "));
    }
    stream
}

async fn secured(address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut stream = plain(address).await;
    assert!(ask(&mut stream, "STARTTLS").await.starts_with("220 "));
    let mut stream = tls_over(stream).await;
    assert!(ask(&mut stream, "EHLO c.test").await.starts_with("250 "));
    stream
}

/// Brings a message, and `behind` with its last octets.
async fn bring(stream: &mut impl LineStream, behind: &str) {
    assert!(ask(stream, "MAIL FROM:<a@b.c>").await.starts_with("250 "));
    assert!(ask(stream, "RCPT TO:<x@y.z>").await.starts_with("250 "));
    assert!(ask(stream, "DATA").await.starts_with("354 "));
    stream.write_all(format!("hi\r\n.\r\n{behind}").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// The server has seen all that came to it before: it has answered somebody who came later.
async fn seen(address: SocketAddr) {
    plain(address).await;
}

/// All that comes until the end.
async fn rest(stream: &mut impl LineStream) -> String {
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("the server ends").unwrap();
    text
}

#[tokio::test]
async fn a_handler_hears_that_its_client_has_hung_up() {
    for service in [Service::Mx, Service::Lmtp] {
        let (address, handler) = start(service);
        for is_reset in [false, true] {
            let mut stream = plain(address).await;
            bring(&mut stream, "").await;
            happened(&handler.asked).await;
            if is_reset {
                stream.set_zero_linger().unwrap();
            }
            drop(stream);
            happened(&handler.gone).await;
        }
    }
    let (address, handler) = start(Service::Mx);
    for says_goodbye in [false, true] {
        let mut stream = secured(address).await;
        bring(&mut stream, "").await;
        happened(&handler.asked).await;
        if says_goodbye {
            // A close_notify; the connection stays.
            stream.shutdown().await.unwrap();
            happened(&handler.gone).await;
            assert_eq!(last_line(&mut stream).await, "451 4.4.2 gone", "it may read on");
        } else {
            drop(stream);
            happened(&handler.gone).await;
        }
    }
    assert_eq!(handler.taken.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn who_sends_more_and_ends_its_side_is_answered() {
    let (address, handler) = start(Service::Mx);
    for is_at_once in [true, false] {
        let mut stream = plain(address).await;
        bring(&mut stream, if is_at_once { "QUIT\r\n" } else { "" }).await;
        happened(&handler.asked).await;
        if !is_at_once {
            stream.write_all(b"QUIT\r\n").await.unwrap();
        }
        stream.shutdown().await.unwrap();
        seen(address).await;
        handler.may_take.add_permits(1);
        assert_eq!(rest(&mut stream).await, "250 2.0.0 taken\r\n221 2.0.0 Goodbye\r\n");
    }
    for is_at_once in [true, false] {
        let mut stream = secured(address).await;
        bring(&mut stream, if is_at_once { "QUIT\r\n" } else { "" }).await;
        happened(&handler.asked).await;
        if !is_at_once {
            stream.write_all(b"QUIT\r\n").await.unwrap();
        }
        stream.shutdown().await.unwrap();
        seen(address).await;
        handler.may_take.add_permits(1);
        assert_eq!(rest(&mut stream).await, "250 2.0.0 taken\r\n221 2.0.0 Goodbye\r\n");
    }
    assert_eq!((handler.taken.load(Ordering::SeqCst), handler.gone.available_permits()), (4, 0));
}

#[tokio::test]
async fn nothing_is_lost_that_comes_while_a_message_is_looked_at() {
    let (address, handler) = start(Service::Mx);
    let more = format!(
        "NOOP {}\r\nMAIL FROM:<a@b.c>\r\n{}RCPT TO:<x@y.z>\r\nDATA\r\n",
        "x".repeat(400),
        "RCPT TO:<nobody@y.z>\r\n".repeat(60)
    );
    let replies = 1 + 1 + 60 + 1;
    let mut clients: [Box<dyn LineStream>; 2] = [Box::new(plain(address).await), Box::new(secured(address).await)];
    for stream in &mut clients {
        bring(stream, "").await;
        happened(&handler.asked).await;
        // More than is read ahead, and an octet at a time at first.
        let (first, others) = more.split_at(5);
        for octet in first.as_bytes() {
            stream.write_all(&[*octet]).await.unwrap();
            stream.flush().await.unwrap();
            seen(address).await;
        }
        stream.write_all(others.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        seen(address).await;
        handler.may_take.add_permits(2);
        assert_eq!(last_line(stream).await, "250 2.0.0 taken");
        for _ in 0..replies {
            assert!(last_line(stream).await.starts_with("250 "));
        }
        assert!(last_line(stream).await.starts_with("354 "));
        assert_eq!(ask(stream, "hi\r\n.").await, "250 2.0.0 taken");
        assert_eq!(ask(stream, "QUIT").await, "221 2.0.0 Goodbye");
        happened(&handler.asked).await;
    }
    assert_eq!(handler.taken.load(Ordering::SeqCst), 4);
}
