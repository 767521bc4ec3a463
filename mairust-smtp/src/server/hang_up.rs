//! Clients that hang up while their message is looked at.

use std::future::pending;
use std::pin::pin;

use tokio::sync::watch;

use crate::stream::Stream;

/// How much is read of what a client sends while its message is looked at. More waits in the socket.
const READ_AHEAD: usize = 1 << 10;

/// Tells that the client of a message has hung up, so that nobody works for it in vain.
///
/// A client has hung up when it has ended its side of the connection, or broken it off, with nothing unread before that.
/// One that has sent a command behind its message, such as QUIT, waits for the replies, even if it sends nothing more:
/// whether it is still there is not known.
#[derive(Debug, Clone)]
pub struct HangUp(watch::Receiver<bool>);

/// The other end of a [`HangUp`].
pub(super) struct Line(watch::Sender<bool>);

impl HangUp {
    /// Of somebody who does not hang up.
    pub fn never() -> Self {
        Line::new().1
    }

    /// Waits until the client has hung up; without end if it stays, or was answered. May be waited for any number of
    /// times, and be dropped.
    pub async fn wait(&self) {
        if self.0.clone().wait_for(|hung_up| *hung_up).await.is_err() {
            pending().await
        }
    }
}

impl Line {
    pub(super) fn new() -> (Self, HangUp) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), HangUp(receiver))
    }

    /// Does work for a client from whom all was looked at that came so far, and tells it if the client hangs up. The work
    /// is done to its end in any case. What comes with its result was sent meanwhile, and has to be looked at after it.
    pub(super) async fn watched<T>(self, stream: &mut Stream, work: impl Future<Output = T>) -> (T, Vec<u8>) {
        let (mut work, mut ahead) = (pin!(work), vec![0; READ_AHEAD]);
        let read = tokio::select! {
            biased;
            result = &mut work => return (result, Vec::new()),
            read = stream.read(&mut ahead) => read.unwrap_or(0),
        };
        if read == 0 {
            self.0.send_replace(true);
        }
        ahead.truncate(read);
        (work.await, ahead)
    }
}
