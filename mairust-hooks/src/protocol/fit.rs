//! The bound of a request.

use super::request::{AttachmentView, BodyView, HeaderView, HookRequest, MessageView};
use crate::handler::HookPoint;

/// Octets of a request whose answer somebody waits for.
const SYNC_BYTES: usize = 1 << 20;

/// Octets of a request whose answer nobody waits for.
const ASYNC_BYTES: usize = 4 << 20;

/// Octets of text that stay.
const TEXT_BYTES: usize = 4 << 10;

/// A request is too large whatever of the message is left out: its settings or its envelope are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request has {size} octets without all that may be left out of it; {limit} are allowed")]
pub struct TooLarge {
    /// The octets that are left.
    pub size: usize,
    /// The octets that are allowed.
    pub limit: usize,
}

/// Leaves out so many octets of one kind, or all that there are; tells how many are gone at least.
type Step = fn(&mut MessageView, usize) -> usize;

/// What gives way, one after the other.
const STEPS: [Step; 6] = [contents, html, text, header_octets, attachments, headers];

impl HookRequest {
    /// The octets that are sent: JSON of at most 1 MiB or, for `post_receive`, 4 MiB.
    ///
    /// When there is too much, this gives way, one after the other and no more than needed: contents of attachments,
    /// the last one first; the end of the HTML; the end of the text, beyond 4 KiB; octets of header fields, the last
    /// ones first; attachments, the last ones first; header fields, the last ones first. What is cut says so.
    ///
    /// # Errors
    /// When there is still too much.
    pub fn to_json(mut self) -> Result<Vec<u8>, TooLarge> {
        let limit = limit(self.hook);
        let mut json = self.encode();
        for step in STEPS {
            while json.len() > limit && step(&mut self.view.message, json.len() - limit) > 0 {
                json = self.encode();
            }
        }
        if json.len() > limit { Err(TooLarge { size: json.len(), limit }) } else { Ok(json) }
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and JSON values always serialise")
    }
}

/// How many octets a request may have.
fn limit(hook: HookPoint) -> usize {
    if hook.is_async() { ASYNC_BYTES } else { SYNC_BYTES }
}

fn contents(message: &mut MessageView, over: usize) -> usize {
    let mut freed = 0;
    for view in message.attachments.iter_mut().flatten().rev() {
        if freed >= over {
            break;
        }
        if let Some(content) = view.content_b64.take() {
            view.truncated = Some(view.size > 0);
            freed += content.len() + "\"content_b64\":\"\",".len();
        }
    }
    freed
}

fn html(message: &mut MessageView, over: usize) -> usize {
    let Some(BodyView::Full { text, html: Some(html), facts, .. }) = &mut message.body else { return 0 };
    let freed = shorten(html, over, 0);
    facts.count(html.len() + text.as_ref().map_or(0, String::len));
    freed
}

fn text(message: &mut MessageView, over: usize) -> usize {
    let (text, html, facts) = match &mut message.body {
        Some(BodyView::Full { text: Some(text), html, facts, .. }) => (text, html.as_ref(), facts),
        Some(BodyView::Preview { text: Some(text), facts }) => (text, None, facts),
        _ => return 0,
    };
    let freed = shorten(text, over, TEXT_BYTES);
    facts.count(text.len() + html.map_or(0, String::len));
    freed
}

/// Cuts off the end, but leaves so many octets; tells how much room there is then.
fn shorten(text: &mut String, over: usize, least: usize) -> usize {
    let (mut end, mut freed) = (text.len(), 0);
    for (start, character) in text.char_indices().rev() {
        if freed >= over || start < least {
            break;
        }
        (end, freed) = (start, freed + width(character));
    }
    text.truncate(end);
    freed
}

fn header_octets(message: &mut MessageView, over: usize) -> usize {
    let mut freed = 0;
    for view in message.headers.iter_mut().flatten().rev() {
        if freed >= over {
            break;
        }
        freed += view.raw.take().map_or(0, |raw| room(&raw) + "\"raw\":\"\",".len());
        freed += view.raw_b64.take().map_or(0, |raw| raw.len() + "\"raw_b64\":\"\",".len());
    }
    message.headers_truncated |= freed > 0;
    freed
}

fn attachments(message: &mut MessageView, over: usize) -> usize {
    let taken = |view: &AttachmentView| {
        let texts = [&view.filename, &view.sha256, &view.href].into_iter().flatten();
        room(&view.content_type) + texts.map(|text| room(text)).sum::<usize>()
    };
    let freed = pop(&mut message.attachments, over, taken);
    message.attachments_truncated |= freed > 0;
    freed
}

fn headers(message: &mut MessageView, over: usize) -> usize {
    let freed = pop(&mut message.headers, over, |view: &HeaderView| room(&view.name) + room(&view.value));
    message.headers_truncated |= freed > 0;
    freed
}

/// How many octets a text takes in JSON.
fn room(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// How many octets a character takes in JSON.
fn width(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// Removes the last ones, each of which takes so much room, and some more around it.
fn pop<T>(list: &mut Option<Vec<T>>, over: usize, taken: fn(&T) -> usize) -> usize {
    let mut freed = 0;
    while freed < over
        && let Some(last) = list.as_mut().and_then(Vec::pop)
    {
        freed += taken(&last) + "{},".len();
    }
    freed
}
