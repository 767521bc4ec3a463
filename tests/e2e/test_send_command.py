"""`mairust send`: mail of the machine itself, with and without a server that runs."""

import base64
import email
import email.policy
import json

import pytest
from conftest import Api, run
from test_serve import PASSWORD, production

ALICE, BOB = "alice@example.com", "bob@remote.example"
LETTER = f"""From: Alice <{ALICE}>
To: Bob <{BOB}>, {ALICE}
Bcc: secret@remote.example
Subject: =?utf-8?b?6KuL5rGC5pu4?=

A line.
.
"""


@pytest.fixture
def site(servers, sinks, tmp_path):
    sink = sinks()
    server, key = production(servers, tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}"})
    server.config, server.sink, server.api_key = tmp_path / "mairust.yaml", sink, key
    run("domain", "dkim", "rotate", "example.com", "--activate", "-c", server.config)
    return server


def send(site, *arguments, letter=LETTER, **options):
    return run("send", *arguments, "-c", site.config, input=letter, **options)


def test_a_message_of_the_command_line_is_delivered(site, tmp_path):
    answer = json.loads(send(site, "-o", "json").stdout)
    assert answer["status"] == "queued"
    assert {to["email"] for to in answer["recipients"]} == {BOB, ALICE, "secret@remote.example"}
    [came] = site.sink.wait_for(1)
    assert came["from"] == ALICE and sorted(came["to"]) == [BOB, "secret@remote.example"]
    message = email.message_from_bytes(came["data"], policy=email.policy.default)
    assert message["Subject"] == "請求書" and message["Bcc"] is None and message["Message-ID"] and message["Date"]
    assert len(message.get_all("DKIM-Signature")) == 2 and message.get_content() == "A line.\r\n.\r\n"
    api = Api(site.ready["http"], site.api_key)
    assert [mail["subject"] for mail in api.messages(folder="INBOX")] == ["請求書"]
    trace = run("message", "trace", answer["id"], "-c", site.config).stdout
    assert "by command (local), as the command line" in trace and "policy" in trace
    log = json.loads(run("audit", "list", "-o", "json", "-c", site.config).stdout)
    [entry] = [entry for entry in log if entry["event_type"] == "message.submitted"]
    assert entry["target"]["id"] == answer["id"] and entry["actor"]["type"] == "operator"


def test_what_was_sent_without_a_server_leaves_with_the_next_one(site, tmp_path):
    site.stop()
    file = tmp_path / "letter.eml"
    file.write_bytes(LETTER.replace("\n", "\r\n").encode())
    sent = send(site, "--file", file, "--to", BOB).stdout
    assert sent.rstrip().endswith("queued") and site.sink.received == []
    site.start()
    assert site.sink.wait_for(1)[0]["to"] == [BOB]


def test_a_dry_run_shows_what_would_be_sent(site):
    shown = json.loads(send(site, "--dry-run", "--send-at", "2999-01-01T00:00:00Z", "-o", "json", check=False).stdout or "{}")
    assert shown == {}, "too far ahead"
    shown = json.loads(send(site, "--dry-run", "-o", "json").stdout)
    raw = base64.b64decode(shown["raw_base64"])
    assert len(raw) == shown["size"] and raw.startswith(b"DKIM-Signature:") and b"secret" not in raw
    assert shown["policy"]["decision"] == "allow"
    assert [(to["email"], to["kept"], to["sent_to"]) for to in shown["recipients"]] == [
        (BOB, False, [BOB]), (ALICE, True, []), ("secret@remote.example", False, ["secret@remote.example"])]
    text = send(site, "--dry-run").stdout
    assert text.startswith("policy: allow, score 0.0") and f"{ALICE}: kept here\n" in text
    assert "\n\nDKIM-Signature:" in text and text.endswith("A line.\n.\n")
    api = Api(site.ready["http"], site.api_key)
    assert api.messages() == [] and site.sink.received == []


@pytest.mark.parametrize(("arguments", "letter", "code", "said"), [
    ([], LETTER.replace(ALICE, "eve@other.example"), 1, "553 5.7.1 You may not send as eve@other.example"),
    (["--from", "eve@other.example"], LETTER, 1, "553 5.7.1"),
    ([], "", 2, "there is no message"),
    ([], f"From: {ALICE}\n\nx\n", 2, "write --to"),
    ([], f"From: {ALICE}\nTo: nobody\n\nx\n", 2, "valid addresses"),
    (["--file", "/nowhere"], LETTER, 2, "/nowhere can't be read"),
    (["--to", "nobody@example.com"], LETTER, 1, "550 5.1.1"),
    (["--send-at", "2001-01-01T00:00:00Z"], LETTER, 2, "must lie ahead"),
    (["--tenant", "none"], LETTER, 5, "none"),
])
def test_what_can_not_be_sent_says_why(site, arguments, letter, code, said):
    answer = send(site, *arguments, letter=letter, check=False)
    assert (answer.returncode, said in answer.stderr) == (code, True), answer
    assert Api(site.ready["http"], site.api_key).messages() == []


def test_who_is_suspended_or_suppressed(site):
    run("suppression", "add", BOB, "-c", site.config)
    assert "on the suppression list" in send(site, check=False).stderr
    run("user", "suspend-sending", ALICE, "--reason", "x", "-c", site.config)
    assert "550 5.7.1 Sending is suspended" in send(site, "--to", ALICE, check=False).stderr
    assert PASSWORD not in send(site, "--to", ALICE, "--dry-run", check=False).stderr
