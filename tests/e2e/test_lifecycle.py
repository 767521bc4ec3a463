"""What becomes of messages: deleted, restored, held, archived, purged. From outside: API, commands, files."""

import itertools
import json
import sqlite3

import pytest
from conftest import Api, free_port, run, swaks, wait_until
from seaweed import Seaweed
from test_search import metric, subjects
from test_serve import PASSWORD, production

NAMES = itertools.count()


class Mail:
    """A server with two users, its API, its commands and its files."""

    def __init__(self, servers, tmp_path, database=None, **sections):
        self.database = database
        if database:
            self.url = database.database(f"lifecycle{next(NAMES)}")
            sections["database"] = {"backend": "postgres", "url": self.url}
        self.config, self.folder = tmp_path / "mairust.yaml", tmp_path / "data" / "mail"
        self.server, self.key = production(servers, tmp_path, **sections)
        self.do("user", "add", "bob@example.com", "--password-stdin", input=PASSWORD)
        self.api = Api(self.server.ready["http"], self.key)

    def do(self, *arguments, **options):
        return run(*arguments, "-c", self.config, **options)

    def send(self, subject, *to):
        with self.server.smtp() as client:
            client.sendmail("a@sender.example", list(to or ["alice@example.com"]),
                            f"From: a@sender.example\r\nSubject: {subject}\r\n\r\nabout the {subject}\r\n")

    def only(self, **filters):
        (message,) = self.api.messages(**filters)
        return message

    def call(self, method, message, path="", status=(200, 204)):
        response = self.api.request(method, f"/api/v1/messages/{message['id']}{path}")
        assert response.status in status, (method, path, response.status, response.body)
        return response

    def files(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*.eml")}

    def settled(self, count):
        """The files, once there are so many: bodies are in the database first."""
        return wait_until(lambda: len(self.files()) == count and self.files(), f"{count} files")

    def keep_no_longer(self):
        self.do("tenant", "set", "default", "--deleted-messages-days", "0")

    def indexed(self):
        """How many messages the search index has words of, looked up behind its back."""
        if self.database:
            return int(self.database.sql("SELECT count(*) FROM search_documents", self.url.rsplit("/", 1)[1]))
        index = sqlite3.connect(f"file:{self.folder.parent / 'mairust.db-search'}?mode=ro", uri=True)
        try:
            return index.execute("SELECT count(*) FROM documents").fetchone()[0]
        finally:
            index.close()

    def audited(self, event_type):
        return json.loads(self.do("audit", "list", "--type", event_type, "-o", "json").stdout)

    def restart(self):
        self.server.start()
        self.api = Api(self.server.ready["http"], self.key)


@pytest.fixture(params=["sqlite", "postgresql"])
def mail(request, servers, tmp_path):
    database = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    return Mail(servers, tmp_path, database)


def test_deleted_is_hidden_then_restored_then_purged(mail):
    swaks(mail.server, "--from", "a@sender.example", "--to", "alice@example.com", "--header", "Subject: aardvark",
          "--body", "a rare animal")
    mail.send("badger")
    files = mail.settled(2)
    wait_until(lambda: subjects(mail.api, "animal") == {"aardvark"}, "aardvark is found")
    wait_until(lambda: mail.indexed() == 2, "both are indexed")
    aardvark = mail.only(subject="aardvark")
    raw = mail.api.raw(aardvark)
    size = json.loads(mail.do("user", "list", "-o", "json").stdout)[0]["used"]

    def is_hidden():
        assert [message["subject"] for message in mail.api.messages()] == ["badger"]
        assert subjects(mail.api, "animal") == set()
        for path in ("", "/raw", "/text", "/attachments"):
            mail.call("GET", aardvark, path, status=(404,))
        assert mail.only(deleted="true")["id"] == aardvark["id"]

    assert mail.call("DELETE", aardvark).status == 204
    is_hidden()
    users = json.loads(mail.do("user", "list", "-o", "json").stdout)
    assert users[0]["used"] == size - aardvark["size"]
    wait_until(lambda: mail.indexed() == 1, "the index forgets it")
    mail.server.kill()
    mail.restart()
    is_hidden()
    restored = json.loads(mail.call("POST", aardvark, "/restore").body)
    assert restored["deleted_at"] is None and restored["id"] == aardvark["id"]
    assert mail.api.raw(aardvark) == raw
    wait_until(lambda: subjects(mail.api, "animal") == {"aardvark"}, "it is found again")
    assert json.loads(mail.do("user", "list", "-o", "json").stdout)[0]["used"] == size
    mail.call("DELETE", aardvark)
    assert mail.files() == files  # kept for 30 days
    mail.keep_no_longer()
    left = wait_until(lambda: len(mail.files()) == 1 and mail.files(), "its file is removed", timeout=90)
    assert left == {file for file in files if aardvark["id"] not in file}
    assert mail.api.messages(deleted="true") == []
    mail.call("POST", aardvark, "/restore", status=(404,))
    wait_until(lambda: mail.indexed() == 1, "nothing of it is in the index")
    assert metric(mail.api, "mairust_messages_purged_total") == 1
    assert metric(mail.api, "mairust_objects_removed_total") == 1
    (change,) = json.loads(mail.do("audit", "list", "--installation", "--type", "tenant.changed", "-o", "json").stdout)
    assert (change["before"]["deleted_messages_days"], change["after"]["deleted_messages_days"]) == (None, 0)


def test_a_body_stays_as_long_as_one_message_has_it(mail):
    mail.send("shared", "alice@example.com", "bob@example.com")
    alice, bob = sorted(mail.api.messages(), key=lambda message: message["address"])
    (file,) = mail.settled(1)
    mail.call("DELETE", alice, "?permanent=true")
    mail.call("DELETE", alice, "?permanent=true", status=(404,))
    assert mail.files() == {file}
    assert b"about the shared" in mail.api.raw(bob)
    mail.call("DELETE", bob)
    assert mail.files() == {file}
    mail.call("DELETE", bob, "?permanent=true")
    assert mail.files() == set()
    purged = wait_until(lambda: len(mail.audited("message.purged")) == 2 and mail.audited("message.purged"), "entries")
    assert {entry["target"]["id"] for entry in purged} == {alice["id"], bob["id"]}
    assert all(entry["actor"]["type"] == "api_key" and entry["before"]["size"] for entry in purged)
    users = json.loads(mail.do("user", "list", "-o", "json").stdout)
    assert [user["used"] for user in users] == [0, 0]


def test_what_is_on_hold_is_not_purged(mail):
    mail.send("by itself", "alice@example.com")
    mail.send("of bob", "bob@example.com")
    mail.send("of nobody", "alice@example.com")
    held, of_bob, free = (mail.only(subject=subject) for subject in ("by itself", "of bob", "of nobody"))
    assert "on legal hold" in mail.do("message", "hold", held["id"]).stdout
    assert "(legal hold)" in mail.do("user", "hold", "bob@example.com").stdout
    for message in (held, of_bob):
        refused = json.loads(mail.call("DELETE", message, "?permanent=true", status=(409,)).body)
        assert (refused["code"], refused["details"]["state"]) == ("invalid_state", "legal_hold")
        refused = mail.do("message", "delete", "--permanent", message["id"], check=False)
        assert refused.returncode == 6 and "on legal hold" in refused.stderr
        mail.call("DELETE", message)
    mail.settled(3)
    mail.keep_no_longer()
    mail.call("DELETE", free)
    # What nothing holds goes, and when it has gone the others were looked at.
    wait_until(lambda: len(mail.files()) == 2, "purge", timeout=90)
    assert {message["subject"] for message in mail.api.messages(deleted="true")} == {"by itself", "of bob"}
    assert "(legal hold)" in mail.do("tenant", "hold", "default").stdout
    mail.do("message", "release", held["id"])
    mail.do("user", "release", "bob@example.com")
    mail.call("DELETE", held, "?permanent=true", status=(409,))
    mail.do("tenant", "release", "default")
    wait_until(lambda: not mail.files(), "purge of what was on hold", timeout=90)
    assert mail.api.messages(deleted="true") == []
    for event_type in ("message.held", "message.released"):
        (entry,) = mail.audited(event_type)
        assert entry["target"] == {"type": "message", "id": held["id"]} and entry["actor"]["type"] == "operator"
    holds = [entry["after"]["legal_hold"] for entry in mail.audited("user.changed")]
    assert holds == [False, True]


def test_archived_messages_lie_elsewhere_and_read_as_before(mail):
    mail.send("old", "alice@example.com", "bob@example.com")
    mail.send("older")
    mail.settled(2)
    shared, other = mail.api.messages(subject="old", to="alice@example.com")
    shared, other = (other, shared) if shared["subject"] == "older" else (shared, other)
    raw = mail.api.raw(shared)
    done = json.loads(mail.do("message", "archive", shared["id"], other["id"], "-o", "json").stdout)
    assert [(entry["id"], entry["changed"], entry["archived"]) for entry in done] == [
        (shared["id"], True, True), (other["id"], True, True)]
    assert all(file.startswith("archive/") for file in mail.files()) and len(mail.files()) == 2
    assert mail.api.raw(shared) == raw
    assert all(message["archived"] for message in mail.api.messages())
    assert json.loads(mail.call("POST", shared, "/archive").body)["archived"]
    assert "was archived before" in mail.do("message", "archive", shared["id"]).stdout
    mail.call("DELETE", other, "?permanent=true")
    assert len(mail.files()) == 1
    assert len(mail.audited("message.archived")) == 2


def test_encrypted_messages_are_archived_and_removed(servers, tmp_path):
    mail = Mail(servers, tmp_path, storage={"client_side_encryption": True})
    mail.send("secret")
    secret = mail.only()
    raw = mail.api.raw(secret)
    mail.call("POST", secret, "/archive")
    assert mail.api.raw(secret) == raw
    (file,) = mail.files()
    assert file.startswith("archive/") and b"secret" not in (mail.folder / file).read_bytes()
    mail.call("DELETE", secret, "?permanent=true")
    assert mail.files() == set()


def test_commands_say_what_they_did(mail):
    mail.send("one")
    mail.send("two")
    one, two = mail.api.messages()
    assert mail.do("message", "delete", one["id"], two["id"]).stdout.splitlines() == [
        f"{one['id']} deleted", f"{two['id']} deleted"]
    assert mail.do("message", "delete", one["id"]).stdout == f"{one['id']} was deleted before\n"
    assert mail.do("message", "restore", one["id"]).stdout == f"{one['id']} restored\n"
    assert mail.do("message", "restore", one["id"]).stdout == f"{one['id']} was not deleted\n"
    assert mail.do("message", "delete", "--permanent", two["id"]).stdout == f"{two['id']} removed for good\n"
    # What comes before the one that fails is done, and told.
    failed = mail.do("message", "delete", one["id"], two["id"], check=False)
    assert (failed.returncode, failed.stdout) == (5, f"{one['id']} deleted\n")
    assert f"has no message {two['id']}" in failed.stderr
    mail.do("tenant", "add", "other")
    foreign = mail.do("message", "restore", one["id"], "--tenant", "other", check=False)
    assert foreign.returncode == 5 and mail.api.messages() == []
    assert mail.do("message", "hold", "nonsense", check=False).returncode == 2
    for days in ("36501", "-1", "many"):
        assert mail.do("tenant", "set", "other", f"--deleted-messages-days={days}", check=False).returncode == 2
    assert "deleted messages: 7 days" in mail.do("tenant", "set", "other", "--deleted-messages-days", "7").stdout
    assert "days" not in mail.do("tenant", "set", "other", "--deleted-messages-days", "default").stdout


def test_a_message_on_its_way_arrives_though_it_was_deleted(servers, sinks, tmp_path):
    port = free_port()
    delivery = {"relay": f"127.0.0.1:{port}", "retry_first": "1s", "retry_max": "1s"}
    mail = Mail(servers, tmp_path, delivery=delivery, retention={"deleted_messages_days": 0})
    sent = mail.api.send({"from": "alice@example.com", "to": ["far@away.example"], "subject": "bon voyage", "text": "x"})
    mail.call("DELETE", sent)
    refused = json.loads(mail.call("DELETE", sent, "?permanent=true", status=(409,)).body)
    assert refused["details"]["state"] == "in_use"
    state = lambda: mail.api.json(f"/api/v1/sends/{sent['id']}")["status"]
    assert state() == "queued"
    sink = sinks(port=port)
    sink.wait_for(1)
    assert b"bon voyage" in sink.received[0]["data"]
    wait_until(lambda: mail.api.messages(deleted="true") == [] and not mail.files(), "purge", timeout=90)
    assert mail.api.request("GET", f"/api/v1/sends/{sent['id']}").status == 404


@pytest.mark.timeout(400)
def test_a_crash_in_the_middle_of_purging_leaves_nothing_behind(mail):
    for _ in range(3):
        with mail.server.smtp() as client:
            for _ in range(100):
                client.sendmail("a@sender.example", ["alice@example.com", "bob@example.com"], "Subject: x\r\n\r\nx\r\n")
    mail.send("survivor")
    mail.settled(301)
    for message in mail.api.messages(subject="x"):
        mail.call("DELETE", message)
    mail.keep_no_longer()
    # At the start it is looked for what is to be done.
    for _ in range(3):
        mail.server.kill()
        before = len(mail.files())
        mail.restart()
        wait_until(lambda: len(mail.files()) < before or before == 1, "some are gone", timeout=120)
    survivor = mail.only()
    # What was begun before a crash is done again after a minute.
    wait_until(lambda: len(mail.files()) == 1, "only one is left", timeout=180)
    assert b"about the survivor" in mail.api.raw(survivor)
    assert mail.api.messages(deleted="true") == []


@pytest.mark.timeout(300)
def test_objects_are_moved_and_removed_in_s3(servers, tmp_path, monkeypatch):
    seaweed = Seaweed(tmp_path / "seaweed")
    try:
        mail = Mail(servers, tmp_path, storage=seaweed.storage(monkeypatch, request_timeout="2s", deadline="6s"))
        mail.send("shared", "alice@example.com", "bob@example.com")
        mail.send("other")
        wait_until(lambda: len(seaweed.objects()) == 2, "objects")
        other = mail.only(subject="other")
        shared = mail.api.messages(subject="shared")
        raw = mail.api.raw(shared[0])
        mail.call("POST", shared[0], "/archive")
        wait_until(lambda: sum(key.startswith("archive/") for key in seaweed.objects()) == 1, "an archived object")
        assert mail.api.raw(shared[1]) == raw
        wait_until(lambda: len(seaweed.objects()) == 2, "the original is removed")
        mail.call("DELETE", shared[0], "?permanent=true")
        assert mail.api.raw(shared[1]) == raw
        mail.call("DELETE", shared[1], "?permanent=true")
        wait_until(lambda: len(seaweed.objects()) == 1, "the archived object is removed")
        # What is purged while the object store is away is gone for all who ask, and the object goes later.
        seaweed.kill()
        mail.call("DELETE", other, "?permanent=true")
        mail.call("GET", other, "/raw", status=(404,))
        assert mail.api.messages() == []
        seaweed.start()
        wait_until(lambda: not seaweed.objects(), "removal of the last object", timeout=120)
    finally:
        seaweed.kill()
