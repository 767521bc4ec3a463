//! The rules of RFC 5321 §4.1.1.4 and §4.5.2 by searching and splitting the whole text: slow, and
//! easy to believe. For the tests of the reader, and for its fuzz target.

/// A message and what came after it.
pub(crate) struct Message {
    /// The lines, dots unstuffed.
    pub(crate) body: Vec<u8>,
    /// Whether there is a CR without LF, or an LF without CR.
    pub(crate) flawed: bool,
    /// What is behind the end of the message.
    pub(crate) rest: Vec<u8>,
}

/// What follows DATA; `None` if the message does not end.
pub(crate) fn message(input: &[u8]) -> Option<Message> {
    let text = [b"\r\n", input].concat();
    let end = text.windows(5).position(|part| part == b"\r\n.\r\n")?;
    let rest = text[end + 5..].to_vec();
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 2);
    while at < end + 2 {
        if text[at..].starts_with(b"\r\n") {
            lines.push(std::mem::take(&mut line));
            at += 2;
        } else {
            line.push(text[at]);
            at += 1;
        }
    }
    let flawed = lines.iter().flatten().any(|byte| matches!(byte, b'\r' | b'\n'));
    let mut body = Vec::new();
    for line in lines {
        body.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        body.extend_from_slice(b"\r\n");
    }
    Some(Message { body, flawed, rest })
}
