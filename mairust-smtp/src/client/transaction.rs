//! One message over one connection: MAIL, RCPT, DATA or BDAT, and what the host says to them.

use std::io;

use bytes::Bytes;
use mairust_core::{Body, EnhancedCode, Reply, TlsWish};

use super::chunk::{CHUNK, read_chunk};
use super::connection::{Conversation, Lost};
use super::handover::{BeforeFinalDot, Handover};
use super::message::Outgoing;
use super::parameters::{Octets, mail_command, rcpt_command};
use super::peer::Protocol;
use super::report::{Notices, Outcome, Verdict};
use crate::proto::stuff::DotStuffer;

/// Commands that are sent without waiting for replies; more could fill the buffers of both sides
/// (RFC 2920 §3.1).
const PIPELINE: usize = 100;

/// A message, looked through, and who is to know when it is handed over.
#[derive(Clone, Copy)]
pub(super) struct Letter<'a> {
    pub(super) message: &'a Outgoing,
    pub(super) octets: Octets,
    pub(super) before: &'a dyn BeforeFinalDot,
}

/// How a transaction ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// One for each recipient.
    pub(super) verdicts: Vec<Verdict>,
    /// Nobody has the message, and no recipient was decided about: another host may be asked.
    pub(super) elsewhere: bool,
    pub(super) connection: After,
}

/// What a transaction leaves of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It can be used for another message.
    Usable,
    /// The host wants to end it.
    Over,
    /// It broke before the end of the message was sent: nobody has it.
    Broken,
    /// It is of no use any more.
    Useless,
}

/// Why a transaction did not get to its end.
enum Stopped {
    /// The host can't keep to what the message needs, and another one may; nothing was said yet.
    Unfit(Verdict),
    /// The sender was refused. The connection may be in order or not.
    Sender(Verdict, bool),
    /// The connection broke before the end of the message was sent.
    Before(Lost),
    /// It broke after the end of the message was sent.
    After(Lost),
    /// The end of the message must not be sent.
    Ours(String),
}

impl From<Lost> for Stopped {
    fn from(lost: Lost) -> Self {
        Self::Before(lost)
    }
}

/// What is sent, and for whom it is: MAIL for nobody in particular.
type Command = (Option<usize>, String);

impl Conversation {
    /// Brings one message to its end.
    pub(super) async fn transact(&mut self, letter: Letter<'_>) -> Ending {
        self.transactions += 1;
        let mut answers = vec![None; letter.message.recipients.len()];
        let stopped = self.run(letter, &mut answers).await;
        let none_decided = answers.iter().all(Option::is_none);
        let (rest, elsewhere, connection) = match stopped {
            Ok(verdict) => (verdict, false, After::Usable),
            Err(Stopped::Unfit(verdict)) => (verdict, true, After::Usable),
            Err(Stopped::Sender(verdict, in_order)) => {
                answers.fill(None);
                let elsewhere = verdict.outcome == Outcome::Deferred;
                (verdict, elsewhere, if in_order { After::Usable } else { After::Useless })
            }
            Err(Stopped::Before(lost)) => {
                (Verdict::deferred_at(&self.label, lost.to_string()), none_decided, After::Broken)
            }
            Err(Stopped::After(lost)) => {
                let detail = format!("sent to its end, and then {lost}");
                (Verdict::in_doubt(&self.label, detail), false, After::Useless)
            }
            Err(Stopped::Ours(reason)) => (Verdict::deferred_at(&self.label, reason), false, After::Useless),
        };
        let verdicts: Vec<Verdict> = answers.into_iter().map(|answer| answer.unwrap_or_else(|| rest.clone())).collect();
        let over = connection == After::Usable && verdicts.iter().any(Verdict::ends_the_connection);
        Ending { verdicts, elsewhere, connection: if over { After::Over } else { connection } }
    }

    /// Fills in the recipients that have an answer of their own; the verdict is for the others.
    async fn run(&mut self, letter: Letter<'_>, answers: &mut [Option<Verdict>]) -> Result<Verdict, Stopped> {
        let Letter { message, octets, .. } = letter;
        if let Some(reply) = octets.refusal(&self.extensions, &message.sender) {
            return Ok(Verdict::unable(&self.label, reply));
        }
        if !self.keeps_to_tls(message) {
            // RFC 8689 §4.2.1.
            let reply = Reply::new(550, EnhancedCode(5, 7, 30), "The next host does not know REQUIRETLS");
            return Err(Stopped::Unfit(Verdict::unable(&self.label, reply)));
        }
        let mail = mail_command(&self.extensions, message, octets, self.is_verified());
        let mut commands: Vec<Command> = vec![(None, mail)];
        for (index, recipient) in message.recipients.iter().enumerate() {
            match rcpt_command(&self.extensions, recipient) {
                Ok(command) => commands.push((Some(index), command)),
                Err(reply) => answers[index] = Some(Verdict::unable(&self.label, reply)),
            }
        }
        if commands.len() == 1 {
            return Ok(Verdict::deferred_at(&self.label, "no recipient could be asked for"));
        }
        self.envelope(&commands, answers).await?;
        let open = answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
        let accepted: Vec<usize> = open.map(|(index, _)| index).collect();
        if accepted.is_empty() {
            return Ok(Verdict::deferred_at(&self.label, "no recipient was accepted"));
        }
        let refused = if octets.binary {
            self.chunks(letter, &accepted).await?;
            None
        } else {
            self.data(letter, &accepted).await?
        };
        match refused {
            Some(reply) => Ok(Verdict::refusal(&self.label, reply)),
            None => self.results(&accepted, answers).await,
        }
    }

    /// Whether the host keeps to TLS as the message needs it; one that is spoken to by LMTP sends nothing on.
    fn keeps_to_tls(&self, message: &Outgoing) -> bool {
        message.wish() != TlsWish::Required
            || self.endpoint.terms.protocol == Protocol::Lmtp
            || (self.is_verified() && self.extensions.require_tls)
    }

    /// MAIL and RCPT.
    async fn envelope(&mut self, commands: &[Command], answers: &mut [Option<Verdict>]) -> Result<(), Stopped> {
        let group = if self.extensions.pipelining { PIPELINE } else { 1 };
        for commands in commands.chunks(group) {
            self.send(commands.iter().map(|(_, command)| command.as_str())).await?;
            for (position, (recipient, _)) in commands.iter().enumerate() {
                let reply = self.reply(self.config.command_timeout).await?;
                if reply.is_positive() {
                    continue;
                }
                let verdict = Verdict::refusal(&self.label, reply);
                match recipient {
                    Some(recipient) => answers[*recipient] = Some(verdict),
                    // What is said to RCPT without a sender means nothing.
                    None => {
                        let rest = commands.len() - position - 1;
                        let in_order = !verdict.ends_the_connection() && self.skip_replies(rest).await;
                        return Err(Stopped::Sender(verdict, in_order));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether all of these replies came.
    async fn skip_replies(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.reply(self.config.command_timeout).await.is_err() {
                return false;
            }
        }
        true
    }

    /// DATA, the message and the final dot; or the reply by which the host refuses DATA.
    async fn data(&mut self, letter: Letter<'_>, accepted: &[usize]) -> Result<Option<Reply>, Stopped> {
        let reply = self.command("DATA").await?;
        if reply.code() != 354 {
            return if reply.is_positive() { Err(Lost::Turn(reply).into()) } else { Ok(Some(reply)) };
        }
        let (mut stuffer, mut offset) = (DotStuffer::new(), 0);
        let mut wire = Vec::with_capacity(CHUNK + CHUNK / 16);
        loop {
            // Without the final dot, a body that can't be read to its end is no message.
            let chunk = read(&letter.message.body, offset).await?;
            if chunk.is_empty() {
                break;
            }
            offset += chunk.len() as u64;
            stuffer.encode(&chunk, &mut wire);
            self.write(&wire).await?;
            wire.clear();
        }
        stuffer.finish(&mut wire);
        self.hand_over(letter, accepted, &wire).await?;
        Ok(None)
    }

    /// The message as one chunk, byte for byte (RFC 3030 §2).
    async fn chunks(&mut self, letter: Letter<'_>, accepted: &[usize]) -> Result<(), Stopped> {
        let body = &letter.message.body;
        let (mut held_back, mut offset) = (Bytes::from(format!("BDAT {} LAST\r\n", body.len())), 0);
        while offset < body.len() {
            // A chunk that is cut short is no message, whatever the peer makes of it.
            let chunk = read(body, offset).await?;
            if chunk.is_empty() {
                return Err(unreadable(&io::ErrorKind::UnexpectedEof.into()));
            }
            offset += chunk.len() as u64;
            self.write(&held_back).await?;
            held_back = chunk;
        }
        self.hand_over(letter, accepted, &held_back).await
    }

    /// Sends the end of a message. From then on, the host may have it.
    async fn hand_over(&mut self, letter: Letter<'_>, accepted: &[usize], end: &[u8]) -> Result<(), Stopped> {
        let facts = self.facts();
        let handover = Handover { host: &self.label, accepted, facts: &facts };
        letter.before.permit(&handover).await.map_err(Stopped::Ours)?;
        self.write(end).await.map_err(Stopped::After)
    }

    /// What the host says to the end of a message; under LMTP, for each recipient that it accepted.
    async fn results(&mut self, accepted: &[usize], answers: &mut [Option<Verdict>]) -> Result<Verdict, Stopped> {
        let notices = if self.extensions.dsn { Notices::PassedOn } else { Notices::StayHere };
        let each: &[usize] = match self.endpoint.terms.protocol {
            Protocol::Smtp => &accepted[..1],
            Protocol::Lmtp => accepted,
        };
        let mut last = Verdict::deferred_at(&self.label, "there was nobody to answer for");
        for recipient in each {
            let reply = self.reply(self.config.final_dot_timeout).await.map_err(Stopped::After)?;
            last = Verdict { notices, ..Verdict::from_reply(&self.label, reply) };
            if self.endpoint.terms.protocol == Protocol::Lmtp {
                answers[*recipient] = Some(last.clone());
            }
        }
        Ok(last)
    }
}

async fn read(body: &Body, offset: u64) -> Result<Bytes, Stopped> {
    read_chunk(body, offset).await.map_err(|error| unreadable(&error))
}

fn unreadable(error: &io::Error) -> Stopped {
    Stopped::Ours(format!("the message can't be read: {error}"))
}
