"""What senders ask about delivery (RFC 3461), and what they are told (RFC 3464)."""

import email
import email.policy
import json
import smtplib

import pytest
from conftest import Api, run, wait_until
from test_serve import PASSWORD, configuration

MESSAGE = "From: alice@example.com\r\nTo: somebody@example.com\r\nSubject: {}\r\n\r\nthe text\r\n"


@pytest.fixture
def site(servers, sinks, tmp_path):
    sink = sinks(refuse={"gone@remote.example": "550 5.1.1 no such user here"})
    # Each message is to fail on its way.
    config = configuration(tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}", "retry_first": "1s"},
                           policy={"suppress_bounced": False})
    run("domain", "add", "example.com", "-c", config)
    for user in ("alice", "bob"):
        run("user", "add", f"{user}@example.com", "-c", config, "--password-stdin", input=PASSWORD)
    run("alias", "add", "away@example.com", "carol@remote.example", "-c", config)
    key = json.loads(run("apikey", "create", "tests", "-c", config, "-o", "json").stdout)["key"]
    server = servers("-c", config, command="serve")
    server.sink, server.key = sink, key
    return server


def send(site, to, subject, mail=(), rcpt=()):
    client = site.submission("alice@example.com", PASSWORD)
    client.sendmail("alice@example.com", to, MESSAGE.format(subject), mail, rcpt)
    client.quit()


def notices(site):
    found = Api(site.ready["http"], site.key).messages(folder="INBOX", to="alice@example.com")
    raw = Api(site.ready["http"], site.key).raw
    return [email.message_from_bytes(raw(one), policy=email.policy.default) for one in found]


def the_notice(site):
    wait_until(lambda: len(notices(site)) == 1, "a notice")
    [notice] = notices(site)
    assert notice.get_content_type() == "multipart/report" and notice["Auto-Submitted"] == "auto-replied"
    status = notice.get_payload(1).as_string().replace("\r\n", "\n")
    return notice, status


def test_success_is_reported_where_the_next_host_does_not(site):
    send(site, "carol@remote.example", "one", ["ENVID=QQ+2B1", "RET=FULL"],
         ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;info+2Bx@example.com"])
    site.sink.wait_for(1)
    notice, status = the_notice(site)
    assert notice["Subject"] == "Successful Mail Delivery Report"
    for line in ("Original-Envelope-Id: QQ+1", "Original-Recipient: rfc822;info+x@example.com",
                 "Final-Recipient: rfc822; carol@remote.example", "Action: relayed", "Status: 2.0.0"):
        assert f"{line}\n" in status, status
    assert notice.get_payload(2).get_content_type() == "text/rfc822-headers"


def test_delivery_into_a_mailbox_here_is_reported(site):
    send(site, "bob@example.com", "two", rcpt=["NOTIFY=SUCCESS"])
    _, status = the_notice(site)
    assert "Final-Recipient: rfc822; bob@example.com\nAction: delivered\n" in status


def test_a_failure_returns_the_message_where_that_is_asked(site):
    send(site, "gone@remote.example", "three", ["RET=FULL"], ["NOTIFY=FAILURE"])
    notice, status = the_notice(site)
    assert "Action: failed\nStatus: 5.1.1\n" in status
    returned = notice.get_payload(2)
    assert returned.get_content_type() == "message/rfc822"
    assert "the text" in returned.get_payload(0).get_payload()


def test_who_wants_to_hear_nothing_hears_nothing(site):
    send(site, "gone@remote.example", "four", rcpt=["NOTIFY=NEVER"])
    send(site, "gone@remote.example", "five", rcpt=["NOTIFY=SUCCESS"])
    send(site, "bob@example.com", "six", rcpt=["NOTIFY=FAILURE"])
    # The one that is reported comes last, and alone.
    send(site, "gone@remote.example", "seven")
    notice, _ = the_notice(site)
    assert "Subject: seven" in notice.get_payload(2).as_string()


def test_what_is_asked_goes_on_with_forwarded_mail(site):
    send(site, "away@example.com", "eight", rcpt=["NOTIFY=SUCCESS"])
    site.sink.wait_for(1)
    _, status = the_notice(site)
    assert "Final-Recipient: rfc822; carol@remote.example\nAction: relayed\n" in status


def test_other_servers_can_not_ask(site):
    client = site.smtp()
    client.ehlo()
    assert "dsn" not in client.esmtp_features
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        client.sendmail("a@sender.example", "bob@example.com", MESSAGE.format("x"), (), ["NOTIFY=SUCCESS"])
    assert refused.value.recipients["bob@example.com"][0] == 555


def test_a_tenant_decides_about_senders(site, tmp_path):
    config = tmp_path / "mairust.yaml"
    run("sender", "block", "blocked.example", "-c", config)
    run("sender", "allow", "friend@blocked.example", "-c", config)
    assert run("sender", "block", "no such pattern", "-c", config, check=False).returncode == 2

    def refused(sender):
        client = site.smtp()
        try:
            client.sendmail(sender, "bob@example.com", MESSAGE.format("x"))
        except smtplib.SMTPDataError as error:
            return error.smtp_code
        return None

    assert refused("x@blocked.example") == 550
    assert refused("friend@blocked.example") is None
    run("sender", "rm", "blocked.example", "-c", config)
    assert refused("x@blocked.example") is None
