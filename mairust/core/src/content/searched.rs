//! What of a message can be searched for, apart from its header fields.

use mail_parser::decoders::html::html_to_text;
use mail_parser::{Message, MimeHeaders, PartType};

use super::{bounded, with_message};

/// What of a message can be searched for, apart from its header fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchText {
    /// All text parts one after the other, HTML reduced to what a reader sees; at most
    /// [`SEARCH_TEXT_BYTES`] octets of UTF-8, cut at a character. What is attached as a message is
    /// left out.
    pub body: String,
    /// Names of attached files, decoded.
    pub file_names: Vec<String>,
    /// Whether a part is HTML.
    pub html: bool,
    /// Whether HTML loads something from another server when it is shown.
    pub remote: bool,
}

/// The length limit of [`SearchText::body`].
pub const SEARCH_TEXT_BYTES: usize = 256 << 10;

/// Octets of an HTML part that are looked at: markup takes more room than text.
const HTML_BYTES: usize = 4 * SEARCH_TEXT_BYTES;

/// Names of files that are kept.
const MAX_FILE_NAMES: usize = 100;

impl SearchText {
    /// Reads a message.
    pub fn parse(raw: &[u8]) -> Self {
        with_message(raw, Self::of).unwrap_or_default()
    }

    fn of(message: &Message<'_>) -> Self {
        let mut searched = Self::default();
        for part in &message.parts {
            match &part.body {
                PartType::Text(text) => searched.add(text),
                PartType::Html(html) => {
                    let html = &html[..html.floor_char_boundary(HTML_BYTES)];
                    searched.html = true;
                    searched.remote |= loads_from_elsewhere(html);
                    searched.add(&html_to_text(html));
                }
                _ => {}
            }
            if let Some(name) = part.attachment_name().filter(|_| searched.file_names.len() < MAX_FILE_NAMES) {
                searched.file_names.push(bounded(name));
            }
        }
        searched
    }

    /// Adds a part, as far as there is room.
    fn add(&mut self, text: &str) {
        let room = SEARCH_TEXT_BYTES.saturating_sub(self.body.len() + 1);
        self.body.push_str(&text[..text.floor_char_boundary(room)]);
        if room > 0 {
            self.body.push('\n');
        }
    }
}

/// Whether an attribute that is followed when the page is shown, or `url(…)` of CSS, names a server.
/// A link that waits for a click does not count.
fn loads_from_elsewhere(html: &str) -> bool {
    const LOADED: [&str; 5] = ["background=", "poster=", "src=", "srcset=", "url("];
    let html = html.to_ascii_lowercase();
    let names_server = |at: usize| {
        let target = html[at..].trim_start_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\''));
        ["//", "http://", "https://"].iter().any(|scheme| target.starts_with(scheme))
    };
    LOADED.iter().any(|mark| html.match_indices(mark).any(|(at, mark)| names_server(at + mark.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_every_text_part_and_the_names_of_files() {
        let raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B@A5a=q\x1b(B\r\n\
            --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\
            <style>p { color: red }</style><p>see <b>this</b> &amp; <img src='HTTPS://x.test/a.png'>that</p>\r\n\
            --b\r\nContent-Type: application/pdf\r\n\
            Content-Disposition: attachment; filename*=UTF-8''%E8%A6%8B%E7%A9%8D.pdf\r\n\r\nx\r\n--b--\r\n";
        let searched = SearchText::parse(raw);
        assert_eq!(searched.body.split_whitespace().collect::<Vec<_>>(), ["請求書", "see", "this", "&", "that"]);
        assert_eq!(searched.file_names, ["見積.pdf"]);
        assert!(searched.html && searched.remote);
    }

    #[test]
    fn a_link_is_not_loaded() {
        assert!(!loads_from_elsewhere("<a href=\"https://x.test/\">x</a><img src=\"cid:a\">"));
        for html in ["<img src=//x.test/a>", "<p style=\"background: url( 'http://x.test/')\">"] {
            assert!(loads_from_elsewhere(html), "{html}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let raw = format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{}", "会".repeat(SEARCH_TEXT_BYTES));
        let body = SearchText::parse(raw.as_bytes()).body;
        assert!(body.len() <= SEARCH_TEXT_BYTES && body.len() > SEARCH_TEXT_BYTES - 5, "{}", body.len());
        assert_eq!(SearchText::parse(b""), SearchText::default());
    }
}
