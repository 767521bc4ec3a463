"""One message for recipients of several tenants, as the hook of one of them sees it."""

import smtplib
import sys

import pytest
from conftest import Api
from test_hooks import BOB, bind_program, letter
from test_policy import ALICE, Site
from test_serve import PASSWORD

DAN, EVE = "dan@other.example", "eve@other.example"
NAME = "com.example.strict"

# Does what the subject says, and tells whom the message is for.
LOOK = """
import json, sys
request = json.load(sys.stdin)
fields = {field["name"]: field["value"] for field in request["message"]["headers"]}
seen = [one["address"] for one in request["envelope"]["rcpt_to"]]
known = ("reject", "tempfail", "quarantine")
said = next((word for word in known if word in fields.get("Subject", "")), "allow")
json.dump({"verdict": said, "reason": " ".join(seen), "actions": [
    {"op": "header.add", "name": "X-Seen", "value": " ".join(seen)}, {"op": "tag.add", "tags": ["seen"]}]}, sys.stdout)
"""

SPLIT = {
    "listeners": [{"bind": "127.0.0.1:0", "kind": kind} for kind in ("mx", "submission", "lmtp")],
    "cross_tenant": "split",
}


@pytest.fixture
def site(servers, tmp_path):
    site = Site(servers, tmp_path, smtp=SPLIT)
    site.run("tenant", "add", "other")
    site.run("domain", "add", "other.example", "--tenant", "other")
    for user in (DAN, EVE):
        site.run("user", "add", user, "--tenant", "other", "--password-stdin", input=PASSWORD)
    key = site.json("apikey", "create", "tests", "--tenant", "other")["key"]
    site.other = Api(site.server.ready["http"], key)
    script = tmp_path / "look.py"
    script.write_text(LOOK)
    bind_program(site, NAME, "--tenant", "other", "--on", "pre_receive", "--process", "oneshot", "--timeout", "3s",
                 "--required", "--grant=read-headers", "--grant=write-tags", "--grant=add-headers",
                 "--grant=decide=reject,tempfail,quarantine", program=[sys.executable, script])
    return site


def folders(api, subject):
    return sorted(message["folder"] for message in api.messages() if message["subject"] == subject)


def send(server, subject, to):
    """The code of the one answer."""
    with server.smtp() as connection:
        try:
            assert connection.send_message(letter(subject), BOB, to) == {}
            return 250
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code


def test_a_hook_of_one_tenant_decides_about_its_copy(site):
    both = [DAN, ALICE, EVE]
    assert send(site.server, "hello", both) == 250
    assert (folders(site.api, "hello"), folders(site.other, "hello")) == (["INBOX"], ["INBOX", "INBOX"])
    ours, *theirs = [next(one for one in api.messages() if one["subject"] == "hello") for api in (site.api, site.other)]
    assert b"X-Seen" not in site.api.raw(ours) and ours["tags"] == []
    assert f"X-Seen: {DAN} {EVE}\r\n".encode() in site.other.raw(theirs[0]) and theirs[0]["tags"] == ["seen"]
    assert DAN.encode() not in site.api.raw(ours).split(b"\r\n\r\n")[0], "nobody learns of the others"

    # What only one tenant refuses is not sent back; what one wants later comes again for all.
    assert send(site.server, "please reject", both) == 250
    assert folders(site.api, "please reject") == ["INBOX"]
    assert folders(site.other, "please reject") == ["Quarantine", "Quarantine"]
    assert send(site.server, "please tempfail", both) == 451
    assert folders(site.api, "please tempfail") == folders(site.other, "please tempfail") == []
    assert send(site.server, "please reject", [EVE]) == 550

    calls = site.json("hook", "deliveries", NAME, "--tenant", "other")
    assert [(call["outcome"], call["detail"]) for call in calls] == [
        ("reject", EVE), ("tempfail", f"{DAN} {EVE}"), ("reject", f"{DAN} {EVE}"), ("allow", f"{DAN} {EVE}")]
    assert [call["message_id"] is None for call in calls] == [True, True, False, False]


def test_lmtp_answers_for_each_tenant(site):
    host, port = site.server.address("lmtp")
    client = smtplib.LMTP(host, port)
    client.ehlo()
    assert client.mail(BOB)[0] == 250
    assert [client.rcpt(to)[0] for to in (ALICE, DAN)] == [250, 250]
    assert client.docmd("DATA")[0] == 354
    client.send(letter("please reject").as_bytes().replace(b"\n", b"\r\n") + b"\r\n.\r\n")
    assert [client.getreply()[0] for _ in range(2)] == [250, 550]
    client.quit()
    assert (folders(site.api, "please reject"), folders(site.other, "please reject")) == (["INBOX"], [])
