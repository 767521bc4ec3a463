//! Reports as the mail servers of others write them.

use super::*;

/// As Postfix writes it.
const POSTFIX: &str = "\
    Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"4cK1Xq0Zz.1763780646/mx.relay.example\"\r\n\
    MIME-Version: 1.0\r\nFrom: MAILER-DAEMON@mx.relay.example (Mail Delivery System)\r\n\
    Subject: Undelivered Mail Returned to Sender\r\n\r\nThis is a MIME-encapsulated message.\r\n\r\n\
    --4cK1Xq0Zz.1763780646/mx.relay.example\r\nContent-Description: Notification\r\n\
    Content-Type: text/plain; charset=us-ascii\r\n\r\nThis is the mail system at host mx.relay.example.\r\n\r\n\
    --4cK1Xq0Zz.1763780646/mx.relay.example\r\nContent-Description: Delivery report\r\n\
    Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.relay.example\r\n\
    X-Postfix-Queue-ID: 4cK1Xq0Zz\r\nX-Postfix-Sender: rfc822; alice@here.example\r\n\
    Arrival-Date: Sat, 22 Nov 2025 03:04:06 +0000 (UTC)\r\n\r\n\
    Final-Recipient: rfc822; bob@remote.example\r\nOriginal-Recipient: rfc822;bob@remote.example\r\n\
    Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.remote.example\r\n\
    Diagnostic-Code: smtp; 550 5.1.1 <bob@remote.example>: Recipient address\r\n    rejected: User unknown\r\n\r\n\
    --4cK1Xq0Zz.1763780646/mx.relay.example\r\nContent-Type: message/rfc822\r\n\r\n\
    Subject: hello\r\n\r\nsecret\r\n--4cK1Xq0Zz.1763780646/mx.relay.example--\r\n";

/// As Exim writes it, which knows no better status.
const EXIM: &str = "\
    Auto-Submitted: auto-replied\r\nFrom: Mail Delivery System <Mailer-Daemon@exim.example>\r\n\
    Content-Type: multipart/report; report-type=delivery-status; boundary=1763780646-eximdsn-804289383\r\n\
    MIME-Version: 1.0\r\nSubject: Mail delivery failed: returning message to sender\r\n\r\n\
    --1763780646-eximdsn-804289383\r\nContent-type: text/plain; charset=us-ascii\r\n\r\n\
    This message was created automatically by mail delivery software.\r\n\r\n\
    --1763780646-eximdsn-804289383\r\nContent-type: message/delivery-status\r\n\r\n\
    Reporting-MTA: dns; exim.example\r\n\r\nAction: failed\r\nFinal-Recipient: rfc822;bob@remote.example\r\n\
    Status: 5.0.0\r\nRemote-MTA: dns; mx.remote.example\r\nDiagnostic-Code: smtp; 550 5.1.1 No such address here\r\n\r\n\
    --1763780646-eximdsn-804289383\r\nContent-type: message/rfc822\r\n\r\nSubject: hello\r\n\r\n\
    --1763780646-eximdsn-804289383--\r\n";

/// As Exchange Online writes it: HTML beside the text, and fields of its own.
const EXCHANGE: &str = "\
    From: <postmaster@outlook.example>\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\
    \tboundary=\"f0e1\"\r\nSubject: Undeliverable: hello\r\n\r\n--f0e1\r\n\
    Content-Type: multipart/alternative; differences=Content-Type;\r\n\tboundary=\"a2b3\"\r\n\r\n\
    --a2b3\r\nContent-Type: text/plain; charset=\"us-ascii\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
    bob wasn't found=\r\n at remote.example.\r\n--a2b3\r\nContent-Type: text/html\r\n\r\n<p>bob</p>\r\n--a2b3--\r\n\r\n\
    --f0e1\r\nContent-Type: message/delivery-status\r\n\r\n\
    Reporting-MTA: dns;AM0PR01MB0001.eurprd01.prod.outlook.example\r\n\
    Received-From-MTA: dns;mx.here.example\r\nArrival-Date: Sat, 22 Nov 2025 03:04:06 +0000\r\n\r\n\
    Original-Recipient: rfc822;bob@remote.example\r\nFinal-Recipient: rfc822;bob@remote.example\r\nAction: failed\r\n\
    Status: 5.1.10\r\nDiagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup\r\n\
    X-Display-Name: bob@remote.example\r\n\r\n--f0e1\r\nContent-Type: message/rfc822\r\n\r\nSubject: hello\r\n\r\n--f0e1--\r\n";

/// As Gmail writes it: the lines of the reply in one.
const GMAIL: &str = "\
    From: Mail Delivery Subsystem <mailer-daemon@googlemail.example>\r\nAuto-Submitted: auto-replied\r\n\
    Content-Type: multipart/report; boundary=\"0000\"; report-type=delivery-status\r\n\r\n--0000\r\n\
    Content-Type: multipart/related; boundary=\"1111\"\r\n\r\n--1111\r\nContent-Type: text/html; charset=\"UTF-8\"\r\n\r\n\
    <p>Address not found</p>\r\n--1111--\r\n--0000\r\nContent-Type: message/delivery-status\r\n\r\n\
    Reporting-MTA: dns; googlemail.example\r\nReceived-From-MTA: dns; alice@here.example\r\n\
    Arrival-Date: Fri, 21 Nov 2025 19:04:06 -0800 (PST)\r\n\
    X-Original-Message-ID: <m1@here.example>\r\n\r\nFinal-Recipient: rfc822; bob@remote.example\r\nAction: failed\r\n\
    Status: 5.1.1\r\nRemote-MTA: dns; gmail-smtp-in.l.google.example. (192.0.2.27, the\r\n server for the domain remote.example.)\r\n\
    Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n \
    550-5.1.1 double-checking the recipient's email address for typos. 550 5.1.1\r\n  https://support.example/NoSuchUser - gsmtp\r\n\
    Last-Attempt-Date: Fri, 21 Nov 2025 19:04:07 -0800 (PST)\r\n\r\n--0000\r\nContent-Type: message/rfc822\r\n\r\n\
    Subject: hello\r\n\r\n--0000--\r\n";

fn bob() -> EmailAddress {
    EmailAddress::parse("bob@remote.example").unwrap()
}

/// A report with these fields.
fn with_fields(fields: &str) -> String {
    format!(
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\n{fields}\r\n\r\n--b--\r\n"
    )
}

#[test]
fn reads_what_servers_write() {
    for (raw, reporter, status, code, text) in [
        (
            POSTFIX,
            "mx.relay.example",
            "5.1.1",
            "5.1.1",
            "<bob@remote.example>: Recipient address rejected: User unknown",
        ),
        (EXIM, "exim.example", "5.0.0", "5.1.1", "No such address here"),
        (
            EXCHANGE,
            "AM0PR01MB0001.eurprd01.prod.outlook.example",
            "5.1.10",
            "5.1.10",
            "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        ),
        (
            GMAIL,
            "googlemail.example",
            "5.1.1",
            "5.1.1",
            "The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking the \
             recipient's email address for typos. 550 5.1.1 https://support.example/NoSuchUser - gsmtp",
        ),
    ] {
        let report = DeliveryReport::parse(raw.as_bytes()).unwrap_or_else(|| panic!("{raw}"));
        assert_eq!(report.reporter.as_deref(), Some(reporter));
        let failure = report.failure(&bob()).unwrap();
        assert_eq!((failure.action, failure.tried.clone()), (ReportedAction::Failed, Some(bob())));
        assert_eq!(failure.status.to_string(), status);
        assert_eq!(failure.code().map(|code| code.to_string()).as_deref(), Some(code), "{reporter}");
        let reply = failure.reply.clone().unwrap();
        assert_eq!((reply.code(), reply.lines().join(" ").as_str()), (550, text));
        let bare = raw.replace("\r\n", "\n");
        assert_eq!(DeliveryReport::parse(bare.as_bytes()), Some(report), "with bare line feeds");
    }
}

#[test]
fn what_is_no_report_says_nothing() {
    let valid =
        with_fields("Reporting-MTA: dns; a\r\n\r\nFinal-Recipient: rfc822; a@b.c\r\nAction: failed\r\nStatus: 5.1.1");
    assert!(DeliveryReport::parse(valid.as_bytes()).is_some());
    for raw in [
        valid.replace("multipart/report", "multipart/mixed"),
        valid.replace("delivery-status; boundary", "disposition-notification; boundary"),
        valid.replace("message/delivery-status", "text/plain"),
        valid.replace("Action: failed", "Action: perhaps"),
        valid.replace("Action: failed\r\n", ""),
        valid.replace("Status: 5.1.1", "Status: five"),
        valid.replace("Status: 5.1.1", ""),
        format!("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n{valid}\r\n--x--\r\n"),
        format!("Content-Type: message/rfc822\r\n\r\n{valid}"),
        "Subject: I am away\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n".to_owned(),
        String::new(),
    ] {
        assert_eq!(DeliveryReport::parse(raw.as_bytes()), None, "{raw}");
    }
}

#[test]
fn one_who_was_reached_is_enough() {
    let group = |action: &str, address: &str, code: &str| {
        format!("Final-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: {code}\r\n\r\n")
    };
    let failure = |fields: &str| {
        let report = DeliveryReport::parse(with_fields(fields).as_bytes()).unwrap();
        report.failure(&bob()).map(|status| status.status.to_string())
    };
    for action in ["delayed", "delivered", "expanded", "relayed", "Relayed (to a stranger)"] {
        assert_eq!(failure(&group(action, "bob@remote.example", "2.0.0")), None);
        let both = group("failed", "eve@other.example", "5.1.1") + &group(action, "bob@remote.example", "2.0.0");
        assert_eq!(failure(&both), None, "{action}");
    }
    let other = group("FAILED", "eve@other.example", "4.4.1");
    assert_eq!(failure(&other).as_deref(), Some("4.4.1"), "given up, and whoever it went to in the end");
    let both = other + &group("failed", "Bob@Remote.example", "5.2.1");
    assert_eq!(failure(&both).as_deref(), Some("5.2.1"));
}

#[test]
fn reads_odd_fields() {
    let report = |diagnostic: &str| {
        let fields =
            format!("Final-Recipient: bob@remote.example\r\nAction: failed\r\nStatus: 5.1.1 (no)\r\n{diagnostic}");
        DeliveryReport::parse(with_fields(&fields).as_bytes()).unwrap().recipients.remove(0)
    };
    let none = report("X-Nothing: x");
    assert_eq!((none.reply.clone(), none.diagnostic.clone(), none.code()), (None, None, Some(EnhancedCode(5, 1, 1))));
    assert_eq!(none.tried, Some(bob()), "without its type");
    let unix = report("Diagnostic-Code: X-Unix; user\tunknown");
    assert_eq!((unix.reply.clone(), unix.diagnostic.as_deref()), (None, Some("user unknown")));
    let plain = report("Diagnostic-Code: SMTP; 550 mailbox unavailable");
    assert_eq!((plain.reply.clone(), plain.code()), (Some(Reply::plain(550, "mailbox unavailable")), None));
    for text in ["5.1.1 no", "55", "550x", "250 2.0.0 taken", "abc"] {
        assert_eq!(report(&format!("Diagnostic-Code: smtp; {text}")).reply, None, "{text}");
    }
    let odd = report("Diagnostic-Code: smtp; 550 4.1.1 odd");
    assert_eq!((odd.reply.clone(), odd.code()), (Some(Reply::plain(550, "4.1.1 odd")), None));
}

#[test]
fn what_is_kept_is_bounded() {
    let group = format!(
        "Final-Recipient: rfc822; bob@remote.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Remote-MTA: dns; {}\r\nDiagnostic-Code: smtp; 550 5.1.1 {}\r\n\r\n",
        "m".repeat(5_000),
        "é".repeat(5_000)
    );
    let report = DeliveryReport::parse(with_fields(&group.repeat(3)).as_bytes()).unwrap();
    let first = &report.recipients[0];
    assert_eq!(first.remote.as_ref().map(String::len), Some(MAX_TEXT));
    assert!(first.diagnostic.as_ref().is_some_and(|text| text.len() <= MAX_TEXT));
    let many = "Final-Recipient: rfc822; a@b.c\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n".repeat(500);
    let report = DeliveryReport::parse(with_fields(&many).as_bytes()).unwrap();
    assert_eq!(report.recipients.len(), MAX_RECIPIENTS);
    let late = with_fields(&format!("X: {}\r\n\r\n{many}", "x".repeat(READ_BYTES)));
    assert_eq!(DeliveryReport::parse(late.as_bytes()), None, "behind what is looked at");
}
