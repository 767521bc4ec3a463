"""The audit log of the shipped binary: what it records, how it is read, and how tampering shows."""

import hashlib
import json
import smtplib
import sqlite3
import struct
import urllib.parse
import uuid
from datetime import datetime, timezone

import pytest
from conftest import Api, insecure_tls, run, wait_until
from test_serve import PASSWORD, configuration, production


def audit(config, *arguments, **options):
    return json.loads(run("audit", *arguments, "-c", config, "-o", "json", **options).stdout)


def types(entries):
    return [entry["event_type"] for entry in entries]


def test_every_change_by_command_is_recorded_without_secrets(tmp_path):
    config = configuration(tmp_path)
    do = lambda *arguments, **options: run(*arguments, "-c", config, **options)
    do("tenant", "add", "other")
    do("tenant", "suspend", "other")
    do("domain", "add", "example.com")
    do("user", "add", "alice@example.com", "--password-stdin", input=PASSWORD)
    do("user", "set-password", "alice@example.com", "--password-stdin", input=PASSWORD + "2")
    do("user", "lock", "alice@example.com")
    do("user", "set-quota", "alice@example.com", "5GiB")
    do("domain", "set", "example.com", "--catch-all", "alice@example.com")
    do("alias", "add", "info@example.com", "alice@example.com")
    do("alias", "set", "info@example.com", "--disable")
    do("alias", "rm", "info@example.com")
    do("sender", "block", "*.spam.example")
    do("sender", "rm", "*.spam.example")
    key = json.loads(do("apikey", "create", "tests", "--scope", "audit:read", "-o", "json").stdout)["key"]
    assert types(audit(config, "list", "--installation")) == ["tenant.changed", "tenant.created"]
    entries = audit(config, "list")
    assert types(entries)[::-1] == [
        "domain.created", "user.created", "user.password_set", "user.changed", "user.changed", "domain.changed",
        "alias.created", "alias.changed", "alias.removed", "sender_rule.set", "sender_rule.removed", "api_key.created",
    ]
    by_type = {entry["event_type"]: entry for entry in entries}
    lock = entries[::-1][3]
    assert (lock["before"]["enabled"], lock["after"]["enabled"]) == (True, False)
    assert lock["target"] == {"type": "user", "id": "alice@example.com"}
    assert lock["actor"]["type"] == "operator" and lock["actor"]["id"].startswith("uid ")
    assert by_type["alias.removed"]["before"]["targets"] == ["alice@example.com"]
    assert by_type["api_key.created"]["after"]["scopes"] == ["audit:read"]
    everything = run("audit", "export", "-c", config).stdout
    assert len(everything.splitlines()) == len(entries)
    for secret in (PASSWORD, key, key.rsplit("_", 1)[1], "argon2", "SCRAM"):
        assert secret not in everything
    # A command that changes nothing records nothing.
    assert do("alias", "rm", "nobody@example.com", check=False).returncode == 5
    do("user", "list")
    assert len(audit(config, "list")) == len(entries)
    filtered = audit(config, "list", "--type", "user.changed", "--target", "alice@example.com", "--limit", "1")
    assert types(filtered) == ["user.changed"] and filtered[0]["sequence"] == 5
    assert {chain["whole"] for chain in audit(config, "verify")} == {True}


def test_a_server_records_logins_views_and_its_own_life(servers, tmp_path):
    server, key = production(servers, tmp_path, log={"format": "json", "level": "warn"})
    config, api = tmp_path / "mairust.yaml", Api(server.ready["http"], key)
    for password in (PASSWORD, "wrong", "wrong", "wrong"):
        client = server.smtp("submission")
        client.starttls(context=insecure_tls())
        if password == PASSWORD:
            client.login("alice@example.com", password)
        else:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("alice@example.com", password)
    nobody = server.smtp("submission")
    nobody.starttls(context=insecure_tls())
    with pytest.raises(smtplib.SMTPAuthenticationError):
        nobody.login("nobody@example.com", "guess")
    key_id, secret = key.removeprefix("mrk_").rsplit("_", 1)
    assert Api(server.ready["http"], f"mrk_{key_id}_{secret[::-1]}").request("GET", "/api/v1/messages").status == 401
    sender = server.smtp()
    sender.sendmail("a@sender.example", "alice@example.com", b"Subject: private\r\n\r\nx\r\n")
    message = wait_until(api.messages, "the message")[0]
    for _ in range(3):
        response = api.request("GET", f"/api/v1/messages/{message['id']}/raw", headers={"X-Request-Id": "viewing-1"})
        assert response.status == 200

    def of(event_type):
        query = urllib.parse.urlencode({"type": event_type})
        return api.json(f"/api/v1/audit?{query}")["items"]

    login = wait_until(lambda: of("login.succeeded"), "the login")[0]
    assert login["after"] == {"address": "alice@example.com", "protocol": "smtp"} and login["actor"]["ip"] == "127.0.0.1"
    viewed = wait_until(lambda: of("message.content_viewed"), "the view")
    assert len(viewed) == 1, "the same key and message within an hour"
    assert viewed[0]["target"] == {"type": "message", "id": message["id"]}
    assert viewed[0]["actor"] == {"type": "api_key", "id": key_id, "ip": "127.0.0.1"}
    assert viewed[0]["request_id"] == "viewing-1"
    failures = wait_until(lambda: len(of("login.failed")) == 2 and of("login.failed"), "the failures")
    assert {failure["after"]["protocol"] for failure in failures} == {"smtp", "api"}
    assert all("wrong" not in json.dumps(failure["after"]).replace("is wrong", "") for failure in failures)
    assert server.stop() == 0, server.log()
    own = audit(config, "list", "--installation")
    assert {"server.started", "server.stopped", "login.failed"} <= set(types(own))
    started = next(entry for entry in own if entry["event_type"] == "server.started")
    assert len(started["after"]["configuration"]) == 64
    assert next(entry for entry in own if entry["event_type"] == "login.failed")["actor"]["id"] == "nobody@example.com"
    # What came again was counted, and is told at the end: smtplib tries two mechanisms for each password, and
    # after five failures none is looked at.
    repeated = [e["after"]["repeated"] for e in audit(config, "list", "--type", "login.failed") if "repeated" in e["after"]]
    assert repeated == [4]
    # The stream has all of it, whatever the level of the log.
    stream = [json.loads(line) for line in server.log().splitlines() if '"component":"audit"' in line]
    stream = [json.loads(line["entry"]) for line in stream if "entry" in line]
    assert {"login.succeeded", "login.failed", "message.content_viewed", "server.stopped"} <= set(types(stream))
    assert secret not in server.log() and PASSWORD not in server.log()
    assert {chain["whole"] for chain in audit(config, "verify")} == {True}


def test_tenants_see_their_own_chains_only(servers, tmp_path):
    config = configuration(tmp_path)
    run("tenant", "add", "other", "-c", config)
    keys = {}
    for tenant, domain in (("default", "example.com"), ("other", "other.example")):
        run("domain", "add", domain, "-c", config, "--tenant", tenant)
        made = run("apikey", "create", "tests", "-c", config, "--tenant", tenant, "-o", "json").stdout
        keys[tenant] = json.loads(made)["key"]
    server = servers("-c", config, command="serve")
    ours, theirs = (Api(server.ready["http"], keys[tenant]) for tenant in ("default", "other"))
    for api, domain in ((ours, "example.com"), (theirs, "other.example")):
        items = api.json("/api/v1/audit")["items"]
        assert types(items) == ["api_key.created", "domain.created"] and items[1]["target"]["id"] == domain
        assert api.json(f"/api/v1/audit/{items[0]['id']}") == items[0]
        lines = api.bytes("/api/v1/audit/export").decode().splitlines()
        assert [json.loads(line) for line in lines] == items[::-1]
        report = api.json("/api/v1/audit/verify")
        assert (report["whole"], report["entries"], report["hash"]) == (True, 2, items[0]["hash"])
    foreign = theirs.json("/api/v1/audit")["items"][0]["id"]
    assert ours.request("GET", f"/api/v1/audit/{foreign}").status == 404


def text(value):
    octets = value.encode()
    return struct.pack(">Q", len(octets)) + octets


def optional(value):
    return b"\0" if value is None else b"\1" + text(value)


def test_hashes_can_be_checked_by_anybody(tmp_path):
    """An implementation of our own that knows nothing but an export and the description of the hash."""
    config = configuration(tmp_path)
    run("domain", "add", "example.com", "-c", config)
    run("alias", "add", "佐藤@example.com", "someone@elsewhere.example", "-c", config)
    run("alias", "rm", "佐藤@example.com", "-c", config)
    database = sqlite3.connect(tmp_path / "data" / "mairust.db")
    rows = database.execute("SELECT tenant_id, at, before, after FROM audit_entries ORDER BY sequence").fetchall()
    previous = bytes(32)
    entries = [json.loads(line) for line in run("audit", "export", "-c", config).stdout.splitlines()]
    assert len(entries) == 3
    for entry, (tenant, at, before, after) in zip(entries, rows):
        moment = datetime.fromtimestamp(at / 1e6, timezone.utc)
        assert moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") == entry["timestamp"]
        target = entry["target"] or {"type": None, "id": None}
        octets = b"".join([
            b"mairust audit entry 1: ", previous, tenant, struct.pack(">Q", entry["sequence"]),
            uuid.UUID(entry["id"]).bytes, struct.pack(">q", at), text(entry["event_type"]),
            text(entry["actor"]["type"]), optional(entry["actor"]["id"]), optional(entry["actor"]["ip"]),
            optional(target["type"]), optional(target["id"]), optional(before), optional(after),
            optional(entry["request_id"]),
        ])
        previous = hashlib.sha256(octets).digest()
        assert previous.hex() == entry["hash"]


@pytest.mark.parametrize("statement, problem", [
    ("UPDATE audit_entries SET after = '{}' WHERE sequence = 1", "entry 1 or its link to the one before was changed"),
    ("DELETE FROM audit_entries WHERE sequence = 2", "entries 2 to 2 are missing"),
    ("DELETE FROM audit_entries WHERE sequence = 3", "entries 3 to 3 are missing at the end"),
    ("DELETE FROM audit_heads", "the head is missing"),
])
def test_tampering_is_found(tmp_path, statement, problem):
    config = configuration(tmp_path)
    for domain in ("a.example", "b.example", "c.example"):
        run("domain", "add", domain, "-c", config)
    database = sqlite3.connect(tmp_path / "data" / "mairust.db", isolation_level=None)
    assert database.execute(statement).rowcount > 0
    database.close()
    result = run("audit", "verify", "-c", config, check=False)
    assert (result.returncode, problem in result.stdout) == (8, True), result.stdout
    # To go on does not make it good.
    run("domain", "add", "d.example", "-c", config)
    assert run("audit", "verify", "-c", config, check=False).returncode == 8
