//! What the fields of an answer say.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use mairust_core::Timestamp;

/// Nobody can ask for a longer wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// How long the other side wants to be left alone: seconds, or until a date (RFC 9110 §10.2.3), and an hour at most.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Timestamp::from_unix(mail_parser::DateTime::parse_rfc822(value)?.to_timestamp()).since(now),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The type of the body, without its parameters; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_when_to_come_again() {
        let now = Timestamp::from_unix(784_111_777);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("86400"), Some(LONGEST_WAIT));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:48:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("Sun, 06 Nov 2044 08:48:37 GMT"), Some(LONGEST_WAIT));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_type_has_no_parameters() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            media_type(&headers).to_owned()
        };
        assert_eq!(read("application/json; charset=utf-8"), "application/json");
        assert_eq!(read(" text/plain"), "text/plain");
        assert_eq!(media_type(&HeaderMap::new()), "");
    }
}
