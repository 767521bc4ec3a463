//! One message to one address: over a connection that is there already, or a new one.

use tokio::time::Instant;

use super::Client;
use super::connection::{Conversation, Stop};
use super::peer::Endpoint;
use super::pool::Turn;
use super::report::Verdict;
use super::transaction::{After, Ending, Letter};

/// What one address led to.
#[derive(Debug)]
pub(super) enum Attempt {
    /// One verdict for each recipient.
    Each(Vec<Verdict>),
    /// One for all.
    Everyone(Verdict),
    /// Nothing is decided: another host may take the message.
    NextHost(Verdict),
}

impl Client {
    /// Waits for a connection, and tries one address.
    pub(super) async fn attempt(&self, endpoint: &Endpoint, letter: Letter<'_>) -> Attempt {
        let turn = self.pool.turn(endpoint.address).await;
        let began = Instant::now();
        while let Some(mut conversation) = turn.idle(endpoint) {
            if !conversation.is_ready().await {
                continue;
            }
            let ending = conversation.transact(letter).await;
            // It was about to die when it was used, and nobody has the message.
            if ending.connection != After::Broken {
                return settle(turn, conversation, ending, began).await;
            }
        }
        turn.make_room();
        match self.connect(endpoint).await {
            Ok(mut conversation) => {
                let ending = conversation.transact(letter).await;
                settle(turn, conversation, ending, began).await
            }
            Err(attempt) => attempt.took(began),
        }
    }

    /// A new connection, ready for MAIL: under TLS if the terms say so, or if the peer can do that.
    async fn connect(&self, endpoint: &Endpoint) -> Result<Conversation, Attempt> {
        let mut tls_failed = None;
        loop {
            let mut conversation = Conversation::open(&self.config, endpoint).await.map_err(|lost| {
                let verdict = Verdict::deferred_at(&endpoint.label(), lost.to_string());
                Attempt::NextHost(Verdict { facts: Box::new(endpoint.facts()), ..verdict })
            })?;
            let Err(stop) = conversation.greet(tls_failed.as_deref()).await else { return Ok(conversation) };
            let facts = Box::new(conversation.facts());
            match stop {
                Stop::Everyone(verdict) => {
                    conversation.quit().await;
                    return Err(Attempt::Everyone(Verdict { facts, ..verdict }));
                }
                Stop::NextHost(verdict) => {
                    conversation.quit().await;
                    return Err(Attempt::NextHost(Verdict { facts, ..verdict }));
                }
                Stop::WithoutTls(lost) => {
                    tracing::info!(host = conversation.label, error = %lost, "TLS failed, going on without it");
                    tls_failed = Some(lost.to_string());
                }
            }
        }
    }
}

impl Attempt {
    fn took(self, began: Instant) -> Self {
        let timed = |mut verdict: Verdict| {
            verdict.facts.elapsed = began.elapsed();
            verdict
        };
        match self {
            Self::Each(verdicts) => Self::Each(verdicts.into_iter().map(timed).collect()),
            Self::Everyone(verdict) => Self::Everyone(timed(verdict)),
            Self::NextHost(verdict) => Self::NextHost(timed(verdict)),
        }
    }
}

/// What a transaction that has ended says about the message, and what becomes of its connection.
async fn settle(turn: Turn, conversation: Conversation, ending: Ending, began: Instant) -> Attempt {
    let mut facts = Box::new(conversation.facts());
    facts.elapsed = began.elapsed();
    match ending.connection {
        After::Usable => turn.keep(conversation).await,
        After::Over => conversation.quit().await,
        After::Broken | After::Useless => drop(conversation),
    }
    let mut verdicts: Vec<Verdict> =
        ending.verdicts.into_iter().map(|verdict| Verdict { facts: facts.clone(), ..verdict }).collect();
    match verdicts.pop() {
        Some(verdict) if ending.elsewhere => Attempt::NextHost(verdict),
        last => {
            verdicts.extend(last);
            Attempt::Each(verdicts)
        }
    }
}
