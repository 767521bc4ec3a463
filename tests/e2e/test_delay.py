"""Senders of mail that is late are told so, once (RFC 3464, RFC 3461)."""

import datetime
import email
import email.policy
import email.utils
import json

import pytest
from conftest import Api, run, wait_until
from test_serve import PASSWORD, configuration

MESSAGE = "From: alice@example.com\r\nTo: somebody@remote.example\r\nSubject: {}\r\n\r\nthe text\r\n"
LATE = "451 4.3.2 busy"


class Site:
    """A server whose mail to `late@` and `other@remote.example` is put off at each attempt."""

    def __init__(self, server, sink, key):
        self.server, self.sink, self.key = server, sink, key

    @property
    def api(self):
        return Api(self.server.ready["http"], self.key)

    def send(self, to, subject, sender="alice@example.com", mail=(), rcpt=()):
        client = self.server.submission("alice@example.com", PASSWORD)
        client.sendmail(sender, to, MESSAGE.format(subject), mail, rcpt)
        client.quit()
        return next(one["id"] for one in self.api.messages(folder="Sent", subject=subject))

    def attempts(self, message):
        return min(one["attempts"] for one in self.api.json(f"/api/v1/sends/{message}")["recipients"])

    def notices(self):
        """The oldest first."""
        found = self.api.messages(folder="INBOX", to="alice@example.com")
        return [email.message_from_bytes(self.api.raw(one), policy=email.policy.default) for one in reversed(found)]


@pytest.fixture
def site(servers, sinks, tmp_path):
    sink = sinks(refuse={"late@remote.example": LATE, "other@remote.example": LATE})
    delivery = {"relay": f"127.0.0.1:{sink.port}", "retry_first": "1s", "retry_max": "1s", "lease": "1s",
                "delay_notice_after": "2s"}
    config = configuration(tmp_path, delivery=delivery)
    run("domain", "add", "example.com", "-c", config)
    run("user", "add", "alice@example.com", "-c", config, "--password-stdin", input=PASSWORD)
    key = json.loads(run("apikey", "create", "tests", "-c", config, "-o", "json").stdout)["key"]
    return Site(servers("-c", config, command="serve"), sink, key)


def parts(notice):
    """The fields of a notice about the message, and those about each recipient."""
    assert notice.get_content_type() == "multipart/report" and notice["Auto-Submitted"] == "auto-replied"
    assert notice.get_param("report-type") == "delivery-status"
    message, *recipients = notice.get_payload(1).get_payload()
    return message, [one for one in recipients if one.items()]


def test_a_delay_is_told_once_also_over_a_crash(site):
    message = site.send(["late@remote.example", "other@remote.example"], "one", mail=["RET=FULL", "ENVID=QQ+2B1"])
    wait_until(site.notices, "a notice")
    [notice] = site.notices()
    assert notice["Subject"] == "Delayed Mail (still being tried)"
    about, recipients = parts(notice)
    assert about["Original-Envelope-Id"] == "QQ+1"
    arrived = email.utils.parsedate_to_datetime(about["Arrival-Date"])
    addresses = {one["Final-Recipient"] for one in recipients}
    assert addresses == {"rfc822; late@remote.example", "rfc822; other@remote.example"}
    for one in recipients:
        assert (one["Action"], one["Status"], one["Diagnostic-Code"]) == ("delayed", "4.3.2", f"smtp; {LATE}")
        assert one["Remote-MTA"].startswith("dns; ")
        until = email.utils.parsedate_to_datetime(one["Will-Retry-Until"])
        assert until - arrived == datetime.timedelta(days=5)
    # A whole message goes back with failures only (RFC 3461 section 4.3).
    assert notice.get_payload(2).get_content_type() == "text/rfc822-headers"
    before = site.attempts(message)
    wait_until(lambda: site.attempts(message) >= before + 2, "more attempts")
    site.server.kill()
    site.server.start()
    wait_until(lambda: site.attempts(message) >= before + 5, "attempts after the crash", timeout=60)
    assert len(site.notices()) == 1
    site.sink.refuse = dict.fromkeys(site.sink.refuse, "550 5.1.1 gone")
    wait_until(lambda: len(site.notices()) == 2, "the notice about the failure")
    _, recipients = parts(site.notices()[1])
    assert {one["Action"] for one in recipients} == {"failed"}
    assert all(one["Will-Retry-Until"] is None for one in recipients)


def test_who_did_not_ask_or_can_not_hear_is_told_nothing(site):
    quiet = [
        site.send("late@remote.example", "failures only", rcpt=["NOTIFY=SUCCESS,FAILURE"]),
        site.send("late@remote.example", "nothing", rcpt=["NOTIFY=NEVER"]),
        site.send("late@remote.example", "no sender", sender=""),
    ]
    site.send("late@remote.example", "delays", rcpt=["NOTIFY=DELAY"])
    # Long after all of them are late.
    wait_until(lambda: min(map(site.attempts, quiet)) >= 5, "five attempts for each")
    wait_until(site.notices, "a notice")
    [notice] = site.notices()
    assert "Subject: delays" in notice.get_payload(2).as_string()
