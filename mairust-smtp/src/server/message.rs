//! A message within a session: spooled as it comes in, handed over, and answered.

use std::io;

use mairust_core::{EnhancedCode, Rejection, Reply};
use tokio::time::Instant;

use super::config::Service;
use super::connection::{Driver, guarded};
use super::handler::{Received, Recipient};
use super::hang_up::{HangUp, Line};
use super::spool::Spool;
use crate::proto::Transaction;

/// A message that is being received.
pub(super) struct Reception {
    spool: Spool,
    pub(super) deadline: Instant,
}

impl Reception {
    /// How much has come so far.
    pub(super) fn len(&self) -> u64 {
        self.spool.len()
    }
}

impl Driver {
    pub(super) fn begin_message(&mut self) {
        let config = &self.server.config;
        let spool = Spool::new(config.spool_threshold, config.spool_dir.clone());
        self.message = Some(Reception { spool, deadline: Instant::now() + config.data_deadline });
    }

    pub(super) async fn store(&mut self, bytes: &[u8]) {
        if let Some(message) = &mut self.message
            && let Err(error) = message.spool.write(bytes).await
        {
            tracing::error!(%error, "can't spool the message");
            self.session.fail_message(&spool_failed());
        }
    }

    pub(super) async fn end_message(&mut self, transaction: Transaction) -> io::Result<()> {
        let started = Instant::now();
        let sender = transaction.sender.to_string();
        let recipients = transaction.recipients.len();
        let size = self.message.as_ref().map_or(0, Reception::len);
        let answers = self.deliver(transaction).await;
        let replies: Vec<Reply> = answers
            .iter()
            .map(|answer| match answer {
                Ok(reply) => {
                    tracing::info!(%sender, recipients, size, %reply, "message accepted");
                    reply.clone()
                }
                Err(rejection) => {
                    let reply = rejection.reply();
                    tracing::info!(%sender, recipients, size, %reply, reason = rejection.reason(), "message refused");
                    reply.clone()
                }
            })
            .collect();
        match (self.info.peer.service, &answers[..]) {
            (Service::Lmtp, _) => self.session.answer_each(&replies),
            (_, [Ok(reply)]) => self.session.accept_with(reply),
            (_, [Err(rejection)]) => self.session.refuse(rejection.reply()),
            _ => self.session.refuse(Rejection::unavailable("there is not one answer").reply()),
        }
        let code = self.session.activity().replies.last().copied().unwrap_or_default();
        self.flush().await?;
        self.unheard = answers.iter().any(Result::is_ok);
        self.server.observer.message(self.info.peer.service, code, started.elapsed());
        Ok(())
    }

    /// Hands the message to the handler; the answer, or for LMTP the answer for each recipient,
    /// is sent only after this.
    async fn deliver(&mut self, transaction: Transaction) -> Vec<Result<Reply, Rejection>> {
        let asked = transaction.recipients.len();
        let (line, hang_up) = Line::new();
        let message = match self.finish_message(transaction, hang_up).await {
            Ok(message) => message,
            Err(rejection) => return vec![Err(rejection); if self.is_lmtp() { asked } else { 1 }],
        };
        let is_lmtp = self.is_lmtp();
        let Self { server, stream, session, info, .. } = self;
        let answering = async {
            if !is_lmtp {
                return vec![guarded(server.handler.message(info, message)).await];
            }
            let answers = async { Ok(server.handler.message_for_each(info, message).await) };
            guarded(answers).await.unwrap_or_else(|rejection| vec![Err(rejection); asked])
        };
        // Who has sent more already wants to be answered, even if nothing comes after that.
        if session.has_input() {
            return answering.await;
        }
        let (answers, ahead) = line.watched(stream, answering).await;
        session.receive(&ahead);
        answers
    }

    async fn finish_message(&mut self, transaction: Transaction, hang_up: HangUp) -> Result<Received, Rejection> {
        let Some(message) = self.message.take() else {
            return Err(Rejection::unavailable("a message ended that never began"));
        };
        let unreadable = |error: io::Error| Rejection::from_reply(spool_failed()).because(error);
        let body = message.spool.finish().await.map_err(unreadable)?;
        let grants = std::mem::take(&mut self.info.granted);
        let recipients = transaction.recipients.into_iter().zip(grants);
        Ok(Received {
            sender: transaction.sender,
            options: transaction.options,
            recipients: recipients.map(|(to, grant)| Recipient { path: to.path, options: to.options, grant }).collect(),
            body,
            hang_up,
        })
    }

    fn is_lmtp(&self) -> bool {
        self.info.peer.service == Service::Lmtp
    }
}

/// 452 4.3.1 (RFC 3463 §3.4).
fn spool_failed() -> Reply {
    Reply::new(452, EnhancedCode(4, 3, 1), "Insufficient system storage")
}
