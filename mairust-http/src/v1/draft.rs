//! From the JSON of a client to a [`Draft`]: all that is wrong is reported at once.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mairust_core::{EmailAddress, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::{ErrorCode, FieldError, Problem};
use crate::submit::{Draft, DraftAddress, DraftAttachment};
use crate::v1::send::{AddressInput, AttachmentInput, Disposition, SendRequest};

const MAX_RECIPIENTS: usize = 100;
const MAX_HEADERS: usize = 50;
/// Keeps lists without a limit of their own from growing as large as a body may be.
const MAX_LIST: usize = 100;
/// Texts and attachments together, before any transfer encoding.
const MAX_CONTENT: usize = 25 * 1024 * 1024;

/// Fields that MaiRust writes itself, from other parts of the request or on its own.
const RESERVED_HEADERS: [&str; 16] = [
    "From",
    "To",
    "Cc",
    "Bcc",
    "Sender",
    "Date",
    "Subject",
    "MIME-Version",
    "DKIM-Signature",
    "Return-Path",
    "Received",
    "Authentication-Results",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Reply-To",
];

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Checks the fields of a request body: the draft, and whether nothing is to be sent.
pub(super) fn check(fields: Map<String, Value>) -> Result<(Draft, bool), Problem> {
    let mut checker = Checker::default();
    let request = checker.request(fields);
    let dry_run = request.dry_run;
    let draft = checker.draft(request);
    if !checker.errors.is_empty() {
        return Err(Problem::validation(&checker.errors));
    }
    // Without an error there is a draft: a missing sender is an error.
    let draft = draft.ok_or_else(|| Problem::new(ErrorCode::UnprocessableMessage, "the message is not complete"))?;
    if content_size(&draft) > MAX_CONTENT {
        let problem = Problem::new(ErrorCode::PayloadTooLarge, "texts and attachments are over 25 MiB");
        return Err(problem.detail("limit", MAX_CONTENT));
    }
    Ok((draft, dry_run))
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Checker {
    errors: Vec<FieldError>,
}

impl Checker {
    /// Notes a fault, up to a number that somebody may read.
    fn error(&mut self, path: impl Into<String>, code: &'static str, message: impl Into<String>) {
        if self.errors.len() < MAX_LIST {
            self.errors.push(FieldError { path: path.into(), code, message: message.into() });
        }
    }

    /// The types of all fields.
    fn request(&mut self, mut fields: Map<String, Value>) -> SendRequest {
        let request = SendRequest {
            from: self.take(&mut fields, "from"),
            to: self.take_list(&mut fields, "to"),
            cc: self.take_list(&mut fields, "cc"),
            bcc: self.take_list(&mut fields, "bcc"),
            reply_to: self.take_list(&mut fields, "reply_to"),
            subject: self.take(&mut fields, "subject"),
            text: self.take(&mut fields, "text"),
            html: self.take(&mut fields, "html"),
            headers: self.take(&mut fields, "headers").unwrap_or_default(),
            attachments: self.take_list(&mut fields, "attachments"),
            in_reply_to: self.take(&mut fields, "in_reply_to"),
            references: self.take_list(&mut fields, "references"),
            send_at: self.take(&mut fields, "send_at"),
            dry_run: self.take(&mut fields, "dry_run").unwrap_or_default(),
        };
        for name in fields.keys() {
            self.error(pointer("", name), "unknown_field", "there is no such field");
        }
        request
    }

    /// Takes a field out; `null` is the same as nothing.
    fn take<T: DeserializeOwned>(&mut self, fields: &mut Map<String, Value>, name: &str) -> Option<T> {
        match fields.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.typed(&format!("/{name}"), value),
        }
    }

    /// Takes a list out; its entries keep their places even if they are wrong.
    fn take_list<T: DeserializeOwned>(&mut self, fields: &mut Map<String, Value>, name: &str) -> Vec<Option<T>> {
        let entries: Vec<Value> = self.take(fields, name).unwrap_or_default();
        if entries.len() > MAX_LIST {
            self.error(format!("/{name}"), "too_many", format!("at most {MAX_LIST} entries"));
            return Vec::new();
        }
        let numbered = entries.into_iter().enumerate();
        numbered.map(|(index, value)| self.typed(&format!("/{name}/{index}"), value)).collect()
    }

    fn typed<T: DeserializeOwned>(&mut self, path: &str, value: Value) -> Option<T> {
        let wrong = |error: serde_json::Error| {
            // The text repeats the value, which may be large.
            let message: String = error.to_string().chars().take(200).collect();
            self.error(path, "invalid_type", message);
        };
        serde_json::from_value(value).map_err(wrong).ok()
    }

    /// What the fields say.
    fn draft(&mut self, request: SendRequest) -> Option<Draft> {
        self.completeness(&request);
        let in_reply_to = request.in_reply_to.and_then(|id| self.message_id("/in_reply_to", &id));
        let references = request.references.iter().flatten().enumerate();
        let references = references.filter_map(|(index, id)| self.message_id(&format!("/references/{index}"), id));
        let references: Vec<_> = references.collect();
        let subject = request.subject.unwrap_or_default();
        self.line("/subject", &subject);
        let (to, cc, bcc) = (self.list("to", request.to), self.list("cc", request.cc), self.list("bcc", request.bcc));
        let reply_to = self.list("reply_to", request.reply_to);
        let headers = self.headers(request.headers);
        let attachments = self.attachments(request.attachments);
        let send_at = request.send_at.and_then(|text| self.time("/send_at", &text));
        let from = self.address("/from", request.from?)?;
        let (text, html) = (request.text, request.html);
        Some(Draft {
            from,
            to,
            cc,
            bcc,
            reply_to,
            subject,
            text,
            html,
            headers,
            attachments,
            in_reply_to,
            references,
            send_at,
        })
    }

    fn time(&mut self, path: &str, text: &str) -> Option<Timestamp> {
        let time = Timestamp::parse_rfc3339(text);
        if time.is_none() {
            self.error(path, "invalid_value", "must be a time with its offset, for example 2026-12-01T09:00:00+09:00");
        }
        time
    }

    fn completeness(&mut self, request: &SendRequest) {
        let reported = |errors: &[FieldError], path: &str| errors.iter().any(|error| error.path.starts_with(path));
        if request.from.is_none() && !reported(&self.errors, "/from") {
            self.error("/from", "required", "a sender is needed");
        }
        let recipients = request.to.len() + request.cc.len() + request.bcc.len();
        if recipients == 0 && !["/to", "/cc", "/bcc"].iter().any(|path| reported(&self.errors, path)) {
            self.error("/to", "required", "at least one recipient is needed");
        }
        if recipients > MAX_RECIPIENTS {
            self.error("/to", "too_many", format!("at most {MAX_RECIPIENTS} recipients in to, cc and bcc"));
        }
        if request.text.is_none() && request.html.is_none() && request.attachments.is_empty() {
            self.error("/text", "required", "one of text, html and attachments is needed");
        }
        if request.headers.len() > MAX_HEADERS {
            self.error("/headers", "too_many", format!("at most {MAX_HEADERS} fields"));
        }
    }

    fn list(&mut self, name: &str, entries: Vec<Option<AddressInput>>) -> Vec<DraftAddress> {
        let numbered = entries.into_iter().enumerate();
        let checked = numbered.filter_map(|(index, entry)| self.address(&format!("/{name}/{index}"), entry?));
        checked.collect()
    }

    fn address(&mut self, path: &str, input: AddressInput) -> Option<DraftAddress> {
        let (path, name, text) = match input {
            AddressInput::Address(text) => (path.to_owned(), None, text),
            AddressInput::Named(named) => {
                self.line(&format!("{path}/name"), named.name.as_deref().unwrap_or_default());
                (format!("{path}/email"), named.name.filter(|name| !name.is_empty()), named.email)
            }
        };
        let parsed = EmailAddress::parse(&text);
        let address = parsed.map_err(|error| self.error(path, "invalid_address", error.to_string())).ok()?;
        Some(DraftAddress { name, address })
    }

    fn headers(&mut self, fields: Map<String, Value>) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (name, value) in fields {
            let path = pointer("/headers", &name);
            // RFC 5322 §3.6.8 ftext: printable ASCII except the colon.
            if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b'!'..=b'9' | b';'..=b'~')) {
                self.error(&path, "invalid_header_name", "a name holds printable ASCII without spaces and colons");
            } else if is_reserved(&name) {
                self.error(&path, "reserved_header", "this field can't be set here");
            }
            if let Some(value) = self.typed::<String>(&path, value) {
                self.line(&path, &value);
                headers.push((name, value));
            }
        }
        headers
    }

    fn attachments(&mut self, entries: Vec<Option<AttachmentInput>>) -> Vec<DraftAttachment> {
        let numbered = entries.into_iter().enumerate();
        numbered.filter_map(|(index, entry)| self.attachment(&format!("/attachments/{index}"), entry?)).collect()
    }

    fn attachment(&mut self, path: &str, input: AttachmentInput) -> Option<DraftAttachment> {
        self.line(&format!("{path}/filename"), &input.filename);
        if !is_media_type(&input.content_type) {
            let message = "must have the form type/subtype, perhaps with parameters";
            self.error(format!("{path}/content_type"), "invalid_media_type", message);
        }
        let content_id = input.content_id.and_then(|id| self.message_id(&format!("{path}/content_id"), &id));
        let inline = input.disposition == Some(Disposition::Inline);
        let decoded = BASE64.decode(&input.content);
        let content =
            decoded.map_err(|error| self.error(format!("{path}/content"), "invalid_base64", error.to_string()));
        let (filename, content_type) = (input.filename, input.content_type);
        Some(DraftAttachment { filename, content_type, content: content.ok()?, content_id, inline })
    }

    /// A Message-ID or Content-ID, with or without its angle brackets.
    fn message_id(&mut self, path: &str, text: &str) -> Option<String> {
        let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
        let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>');
        if !inner.is_empty() && inner.bytes().all(legal) {
            return Some(inner.to_owned());
        }
        self.error(path, "invalid_message_id", "must be a message id such as <x@example.com>");
        None
    }

    /// A text that will stand in a header field.
    fn line(&mut self, path: &str, text: &str) {
        if text.chars().any(char::is_control) {
            self.error(path, "control_character", "must not hold line ends or other control characters");
        }
    }
}

fn is_reserved(name: &str) -> bool {
    let mime = name.get(.."Content-".len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case("Content-"));
    mime || RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// RFC 2045 §5.1: `type/subtype`, then parameters.
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    printable && essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

fn content_size(draft: &Draft) -> usize {
    let texts = [&draft.text, &draft.html].into_iter().flatten().map(String::len).sum::<usize>();
    texts + draft.attachments.iter().map(|attachment| attachment.content.len()).sum::<usize>()
}

/// A JSON pointer (RFC 6901 §3) of a base and one escaped step.
fn pointer(base: &str, step: &str) -> String {
    format!("{base}/{}", step.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(body: Value) -> Vec<(String, &'static str)> {
        let Value::Object(fields) = body else { panic!("tests hand in objects") };
        let mut checker = Checker::default();
        let request = checker.request(fields);
        let _ = checker.draft(request);
        checker.errors.into_iter().map(|error| (error.path, error.code)).collect()
    }

    #[test]
    fn header_names_are_escaped_in_pointers() {
        let body = serde_json::json!({"from": "a@b.c", "to": ["a@b.c"], "text": "", "headers": {"X/~": "a\nb"}});
        assert_eq!(errors(body), [("/headers/X~1~0".to_owned(), "control_character")]);
    }

    #[test]
    fn reserved_names_are_found_in_any_case() {
        for name in ["from", "CONTENT-TYPE", "Content-", "dkim-signature", "received"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["X-From", "Contents", "List-Unsubscribe", "コンテント"] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn media_types() {
        for text in ["text/plain", "text/csv; charset=utf-8", "application/vnd.ms-excel"] {
            assert!(is_media_type(text), "{text}");
        }
        for text in ["", "text", "text/", "text/plain\r\nX: y", "a b/c", "a/b/c"] {
            assert!(!is_media_type(text), "{text:?}");
        }
    }
}
