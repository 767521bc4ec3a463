//! Authentication-Results fields that claim to be ours, in mail from strangers (RFC 8601 §5).

use std::io::{self, BufReader};
use std::ops::Range;

use mairust_core::Body;
use mairust_core::auth_results::authserv_id;

use crate::signed::FieldReader;

/// Where a message has Authentication-Results fields under one of these authserv-ids, or under
/// none that can be read; in the order of the message (blocking).
///
/// Whoever adds such fields has to cut these out ([`Body::without`]) before anybody reads the
/// message, for nobody can tell them from real ones.
///
/// # Errors
/// When the body can't be read.
pub fn forged_results(body: &Body, authserv_ids: &[&str]) -> io::Result<Vec<Range<u64>>> {
    let mut reader = FieldReader::new(BufReader::new(body.reader()));
    let mut forged = Vec::new();
    while let Some(found) = reader.next_field()? {
        if found.field.name == "authentication-results" && claims(&found.field.value(), authserv_ids) {
            forged.push(found.field.offset..found.field.offset + found.length);
        }
    }
    Ok(forged)
}

fn claims(value: &str, authserv_ids: &[&str]) -> bool {
    let Some(claimed) = authserv_id(value) else { return true };
    let claimed = super::ascii_domain(&claimed).unwrap_or(claimed);
    authserv_ids.iter().any(|id| claimed.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_claim_wherever_it_hides() {
        let forged = [
            "Authentication-Results: mx.example.com; spf=pass\r\n",
            "authentication-results :\r\n\t(x) MX.example.COM 1;\r\n dkim=pass\r\n",
            "AUTHENTICATION-RESULTS: \"mx.example.com\"; spf=pass\r\n",
            "Authentication-Results: bücher.example; spf=pass\r\n",
            "Authentication-Results:\r\n",
        ];
        let kept = "Authentication-Results: other.example; spf=fail\r\nX: Authentication-Results: mx.example.com\r\n";
        let wall = "X: y\r\n".repeat(5_000);
        let body = "\r\nAuthentication-Results: mx.example.com; in the body\r\n";
        let text = format!("{}{kept}{wall}{}{body}", forged[0], forged[1..].concat());
        let message = Body::from(text.into_bytes());
        let ids = ["mx.example.com", "xn--bcher-kva.example"];
        let found = forged_results(&message, &ids).unwrap();
        assert_eq!(found.len(), forged.len());
        let clean = message.without(found).read_all().unwrap();
        assert_eq!(clean, format!("{kept}{wall}{body}").as_bytes());
        assert_eq!(forged_results(&Body::from(Vec::new()), &ids).unwrap(), []);
    }
}
