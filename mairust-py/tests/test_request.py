"""Messages as requests show them: what is not granted is not empty."""

import pytest
from mairust import Address, Message, NotGranted


def test_what_is_granted_is_there(make_request):
    message = Message.from_request(make_request(subject="請求書"))
    assert message.subject == "請求書"
    assert message.headers["x-odd"] == "\ufffd" and message.headers.fields[3].raw == b"\x93\xfa"
    assert message.headers.get_all("RECEIVED") == ["first", "second"]
    assert list(message.headers) == ["Received", "X-Odd", "To", "From", "Subject"] or len(message.headers) == 5
    assert message.from_ == Address("Doe, Jané", "jane@sender.example")
    assert (message.from_.local, message.from_.domain) == ("jane", "sender.example")
    assert [str(one) for one in message.to] == ["one@example.com", "two@example.com"]
    assert message.cc == ()
    assert (message.text, message.text_is_cut) == ("the beginning", True)
    assert [one.filename for one in message.attachments] == ["a.exe"]
    assert (message.auth.spf, message.auth.dkim, message.auth.dmarc) == ("pass", "fail", "fail")
    assert message.auth.dmarc_policy == "reject"
    assert str(message.envelope.sender) == "a@sender.example"
    assert [one.address for one in message.envelope.recipients] == ["support@example.com"]
    assert message.session.client.ip == "192.0.2.7" and message.session.tls.version == "TLSv1.3"
    assert message.config["threshold"] == 0.8 and message.tenant_id == "t1" and message.policy_score == 0.1


@pytest.mark.parametrize(
    "redacted, part, read",
    [
        ("message.headers", "headers", lambda message: message.subject),
        ("message.headers", "headers", lambda message: message.from_),
        ("message.body", "body", lambda message: message.text),
        ("message.body.full", None, lambda message: message.html),
        ("message.attachments", "attachments", lambda message: message.attachments),
        (None, None, lambda message: message.attachments[0].content),
        (None, None, lambda message: message.raw),
        (None, None, lambda message: message.as_email()),
        ("envelope", "envelope", lambda message: message.envelope),
        ("session", "session", lambda message: message.session),
        ("auth_results", "auth_results", lambda message: message.auth),
        ("policy", "policy", lambda message: message.policy_score),
        ("message.fingerprint", "fingerprint", lambda message: message.fingerprint),
    ],
)
def test_what_is_not_granted_says_so(make_request, redacted, part, read):
    request = make_request()
    request["redacted"] += [redacted] if redacted else []
    request.pop(part, None)
    request["message"].pop(part, None)
    with pytest.raises(NotGranted, match="is not granted to this hook"):
        read(Message.from_request(request))


def test_header_fields_that_are_not_granted_are_not_missing(make_request):
    request = make_request()
    request["granted"]["read_headers_only"] = ["Subject"]
    request["message"]["headers"] = request["message"]["headers"][:1]
    message = Message.from_request(request)
    assert message.subject == "Hello"
    for read in (lambda: message.headers.get("List-Id"), lambda: message.headers.get_all("To"), lambda: message.to):
        with pytest.raises(NotGranted):
            read()


def test_contents_that_are_shown_are_there(make_request):
    part = {"index": 0, "filename": None, "content_type": "text/csv", "size": 3, "content_b64": "YSxi", "truncated": False}
    attachment = Message.from_request(make_request(attachments=[part])).attachments[0]
    assert (attachment.content, attachment.filename) == (b"a,b", "")


def test_a_message_can_t_be_changed(make_request):
    message = Message.from_request(make_request())
    with pytest.raises(AttributeError):
        message.subject = "other"
    with pytest.raises(AttributeError):
        del message.text
    with pytest.raises(AttributeError):
        message.new = 1
