//! What a session does between DATA and the end of the message.

use bytes::Bytes;
use mairust_core::{EnhancedCode, Reply};

use super::command_phase::too_large;
use super::{Event, Phase, Question, Session, Step, Transaction};
use crate::proto::data::{DataReader, Flaw, Progress};

/// A message that is being received.
#[derive(Debug)]
pub(super) struct Incoming {
    transaction: Transaction,
    reader: DataReader,
    /// The answer to the message, once it is clear that it can't be kept.
    failure: Option<Reply>,
    /// The end mark was read.
    complete: bool,
}

impl Incoming {
    pub(super) fn new(transaction: Transaction, limit: u64) -> Self {
        Self { transaction, reader: DataReader::new(limit), failure: None, complete: false }
    }

    /// The first failure is the one that is answered.
    pub(super) fn fail(&mut self, reply: Reply) {
        self.failure.get_or_insert(reply);
    }
}

impl Session {
    /// Reads message octets; at the end it decides.
    pub(super) fn read_message(&mut self, mut incoming: Incoming) -> (Phase, Step) {
        if incoming.complete {
            return self.finish_message(incoming);
        }
        let mut chunk = Vec::with_capacity(self.input.len());
        incoming.complete = incoming.reader.read(&mut self.input, &mut chunk) == Progress::End;
        match incoming.reader.flaw() {
            Some(Flaw::TooLarge) => incoming.fail(too_large()),
            Some(Flaw::BareLineEnd) => {
                incoming.fail(Reply::new(550, EnhancedCode(5, 6, 0), "Lines of a message end in CRLF"));
            }
            None => {}
        }
        let step = if incoming.failure.is_none() && !chunk.is_empty() {
            Step::Tell(Event::Chunk(Bytes::from(chunk)))
        } else if incoming.complete {
            Step::Again
        } else {
            Step::Blocked
        };
        (Phase::Message(incoming), step)
    }

    fn finish_message(&mut self, incoming: Incoming) -> (Phase, Step) {
        match incoming.failure {
            None => (Phase::Asking(Question::Message), Step::Tell(Event::MessageEnd(incoming.transaction))),
            Some(reply) => {
                self.reply(&reply);
                (Phase::Ready, Step::Tell(Event::MessageRefused(incoming.transaction, reply)))
            }
        }
    }
}
