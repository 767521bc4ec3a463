"""Messages in S3: the shipped binary against a real server, which is stopped and started."""

import json
import re
import signal
import smtplib
import sqlite3

import pytest
from conftest import Api, swaks, wait_until
from seaweed import BUCKET, SECRET, Seaweed
from test_serve import production

ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
def seaweed(tmp_path):
    server = Seaweed(tmp_path / "seaweed")
    yield server
    server.kill()


@pytest.fixture
def mail(servers, tmp_path, seaweed, monkeypatch):
    """A server whose messages are in S3, and its API."""
    server, key = production(servers, tmp_path, storage=seaweed.storage(monkeypatch))
    return server, Api(server.ready["http"], key)


def send(server, subject, body="x"):
    return swaks(server, "--from", "a@sender.example", "--to", "alice@example.com", "--header", f"Subject: {subject}",
                 "--body", body, check=False)


def spooled(folder):
    """How many bodies wait in the database."""
    database = sqlite3.connect(f"file:{folder}/data/mairust.db?mode=ro", uri=True)
    (count,) = database.execute("SELECT count(*) FROM spooled_bodies").fetchone()
    database.close()
    return count


def test_messages_are_objects(mail, seaweed):
    server, api = mail
    assert send(server, "small").returncode == 0
    large = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 4 * 1024 * 144 + b"\r\n"
    large = b"\r\n".join(large[start:start + 900] for start in range(16, len(large), 900))
    server.smtp().sendmail("a@sender.example", ["alice@example.com"], b"Subject: large\r\n\r\n" + large + b"\r\n")
    messages = {message["subject"]: message for message in api.messages()}
    assert messages.keys() == {"small", "large"}
    keys = wait_until(lambda: len(seaweed.objects()) == 2 and seaweed.objects(), "two objects")
    assert all(re.fullmatch(f"{ID}/{ID}/{ID}\\.eml", key) for key in keys), keys
    for subject, message in messages.items():
        (key,) = [key for key in keys if key.endswith(f"/{message['id']}.eml")]
        kept = seaweed.client().get_object(Bucket=BUCKET, Key=key)
        assert kept["ServerSideEncryption"] == "AES256"
        assert kept["ContentType"] == "message/rfc822"
        assert kept["Body"].read() == api.raw(message), subject
        # Written in parts, which the last one's name tells: the number of parts behind a hyphen.
        assert ("-2" in kept["ETag"]) == (subject == "large"), kept["ETag"]
    assert api.raw(messages["large"]).endswith(large + b"\r\n")


def test_an_outage_is_told_and_passes(mail, seaweed, tmp_path):
    server, api = mail
    assert send(server, "before").returncode == 0
    (before,) = api.messages()
    raw = api.raw(before)
    wait_until(lambda: seaweed.objects() and not spooled(tmp_path), "object")

    def is_down():
        # What comes before anybody has noticed may still be taken: it is in the database first.
        wait_until(lambda: "<** 451 4.3.0" in send(server, "meanwhile").stdout, "refusal")
        ready = api.request("GET", "/health/ready")
        assert ready.status == 503
        components = json.loads(ready.body)["components"]
        assert (components["database"]["status"], components["bodies"]["status"]) == ("up", "down")
        assert "before" in [message["subject"] for message in api.messages()]
        detail = api.json(f"/api/v1/messages/{before['id']}")
        assert (detail["subject"], detail["headers"], detail["attachments"]) == ("before", None, None)
        body = api.request("GET", f"/api/v1/messages/{before['id']}/raw")
        assert body.status == 503 and json.loads(body.body)["code"] == "storage_unavailable"

    def is_up():
        wait_until(lambda: api.request("GET", "/health/ready").status == 200, "recovery")
        wait_until(lambda: send(server, "after").returncode == 0, "acceptance")
        # An object store that has just started takes writes before it finds what it had.
        path = f"/api/v1/messages/{before['id']}/raw"
        wait_until(lambda: api.request("GET", path).status == 200, "reading")
        assert api.raw(before) == raw

    seaweed.signal(signal.SIGSTOP)
    is_down()
    seaweed.signal(signal.SIGCONT)
    is_up()
    seaweed.kill()
    is_down()
    seaweed.start()
    is_up()
    messages = api.messages()
    assert [message["subject"] for message in messages].count("after") == 2
    # A put whose answer was lost may have left an object that no message has; that does no harm.
    kept = lambda: {key.rsplit("/", 1)[1].removesuffix(".eml") for key in seaweed.objects()}
    wait_until(lambda: kept() >= {message["id"] for message in messages}, "objects of all that was taken")
    assert SECRET not in server.log()


def test_a_server_starts_while_s3_is_down(mail, seaweed):
    server, api = mail
    seaweed.kill()
    assert server.stop() == 0
    server.start()
    api = Api(server.ready["http"], api.key)
    assert api.request("GET", "/health/ready").status == 503
    with pytest.raises(smtplib.SMTPDataError) as refused:
        server.smtp().sendmail("a@sender.example", ["alice@example.com"], "Subject: x\r\n\r\nx\r\n")
    assert refused.value.smtp_code == 451
    seaweed.start()
    wait_until(lambda: send(server, "after").returncode == 0, "acceptance")
    assert len(api.messages()) == 1
    wait_until(seaweed.objects, "object")


def test_what_waits_for_s3_is_told(servers, tmp_path, seaweed, monkeypatch):
    storage = {**seaweed.storage(monkeypatch), "when_bodies_down": "spool"}
    server, key = production(servers, tmp_path, storage=storage)
    api = Api(server.ready["http"], key)

    def gauge(name):
        return int(re.search(rf"^mairust_storage_{name} (\d+)$", api.bytes("/metrics").decode(), re.MULTILINE)[1])

    seaweed.kill()
    for subject in ("first", "second"):
        assert send(server, subject).returncode == 0
    wait_until(lambda: (gauge("spooled_bodies"), gauge("spool_oldest_seconds") > 0) == (2, True), "what waits")
    assert gauge("spooled_bytes") == sum(len(api.raw(message)) for message in api.messages())
    seaweed.start()
    wait_until(lambda: (gauge("spooled_bodies"), gauge("spool_oldest_seconds")) == (0, 0), "nothing that waits")
    assert gauge("spooled_bytes") == 0 and len(seaweed.objects()) == 2
