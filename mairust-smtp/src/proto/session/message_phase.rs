//! What a session does between DATA or BDAT and the end of the message.

use bytes::Bytes;
use mairust_core::{EnhancedCode, Reply};

use super::{Event, Phase, Protocol, Question, Session, Step, Transaction};
use crate::proto::chunk::ChunkReader;
use crate::proto::data::{DataReader, Flaw, Progress};

/// A message that is being received.
#[derive(Debug)]
pub(super) struct Incoming {
    transaction: Transaction,
    reader: Reader,
    /// The answer to the message, once it is clear that it can't be kept.
    failure: Option<Reply>,
    /// The end of the message, or of a chunk, was read.
    complete: bool,
}

#[derive(Debug)]
enum Reader {
    Chunks { reader: ChunkReader, size: u64, last: bool },
    Data(DataReader),
}

impl Incoming {
    /// A message that follows DATA.
    pub(super) fn data(transaction: Transaction, limit: u64) -> Self {
        Self { transaction, reader: Reader::Data(DataReader::new(limit)), failure: None, complete: false }
    }

    /// A message that comes in chunks, before the first one.
    pub(super) fn chunks(transaction: Transaction, limit: u64) -> Self {
        let reader = ChunkReader::new(limit, transaction.options.body);
        Self { transaction, reader: Reader::Chunks { reader, size: 0, last: false }, failure: None, complete: false }
    }

    /// Another chunk comes next.
    pub(super) fn begin_chunk(&mut self, length: u64, ends: bool) {
        if let Reader::Chunks { reader, size, last } = &mut self.reader {
            reader.begin(length);
            (*size, *last, self.complete) = (length, ends, false);
        }
    }

    /// The first failure is the one that is answered.
    pub(super) fn fail(&mut self, reply: Reply) {
        self.failure.get_or_insert(reply);
    }
}

impl Reader {
    fn read(&mut self, input: &mut bytes::BytesMut, output: &mut Vec<u8>) -> Progress {
        match self {
            Self::Data(reader) => reader.read(input, output),
            Self::Chunks { reader, last, .. } => {
                let progress = reader.read(input, output);
                if progress == Progress::End && *last {
                    reader.finish();
                }
                progress
            }
        }
    }

    fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Data(reader) => reader.flaw(),
            Self::Chunks { reader, .. } => reader.flaw(),
        }
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

    fn finish_message(&mut self, mut incoming: Incoming) -> (Phase, Step) {
        let is_last = !matches!(incoming.reader, Reader::Chunks { last: false, .. });
        if let Some(reply) = incoming.failure.take() {
            let copies = if is_last { self.answers(&incoming.transaction).len() } else { 1 };
            self.reply_to_each(std::iter::repeat_n(&reply, copies));
            return (Phase::Ready, Step::Tell(Event::MessageRefused(incoming.transaction, reply)));
        }
        if let Reader::Chunks { size, last: false, .. } = incoming.reader {
            self.reply(&Reply::new(250, EnhancedCode(2, 0, 0), format!("{size} octets received")));
            return (Phase::Chunks(incoming), Step::Again);
        }
        let answers = self.answers(&incoming.transaction);
        (Phase::Asking(Question::Message(answers)), Step::Tell(Event::MessageEnd(incoming.transaction)))
    }

    /// The recipient of each reply to a message: SMTP has one reply for all.
    fn answers(&self, transaction: &Transaction) -> Vec<usize> {
        match self.config.protocol {
            Protocol::Lmtp => transaction.answers.clone(),
            Protocol::Smtp => vec![0],
        }
    }
}

/// 552 5.3.4, to SIZE and to a message.
pub(super) fn too_large() -> Reply {
    Reply::new(552, EnhancedCode(5, 3, 4), "Message too big")
}
