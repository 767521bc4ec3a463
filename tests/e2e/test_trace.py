"""What happened to a message, and why it is still here: by the API and on the command line."""

import json
import re

import pytest
from conftest import Api, insecure_tls, run, wait_until
from test_serve import PASSWORD, configuration

LATE = "451 4.3.2 busy"


@pytest.fixture
def site(servers, sinks, tmp_path):
    sink = sinks(refuse={"late@remote.example": LATE})
    config = configuration(tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}", "retry_first": "1h", "retry_max": "2h"})
    run("domain", "add", "example.com", "-c", config)
    run("user", "add", "alice@example.com", "-c", config, "--password-stdin", input=PASSWORD)
    run("tenant", "add", "other", "-c", config)
    run("domain", "add", "other.example", "--tenant", "other", "-c", config)
    run("user", "add", "carol@other.example", "--tenant", "other", "-c", config, "--password-stdin", input=PASSWORD)
    keys = {tenant: json.loads(run("apikey", "create", "tests", "--tenant", tenant, "-c", config, "-o", "json").stdout)["key"]
            for tenant in ("default", "other")}
    server = servers("-c", config, command="serve")
    server.config, server.sink, server.keys = config, sink, keys
    return server


def api(site, tenant="default"):
    return Api(site.ready["http"], site.keys[tenant])


def told(site, message):
    return api(site).json(f"/api/v1/messages/{message}/trace")


def last(site, message):
    return told(site, message)["entries"][-1]


def trace(site, message):
    """As the API tells it when nothing changes any more; the command tells the same."""
    shown = told(site, message)
    assert json.loads(run("message", "trace", message, "-c", site.config, "-o", "json").stdout) == shown
    return shown["entries"]


def kinds(entries):
    return [entry["kind"] for entry in entries]


def test_a_message_that_is_still_here(site):
    client = site.submission("alice@example.com", PASSWORD)
    client.sendmail("alice@example.com", ["late@remote.example", "bob@remote.example"],
                    "From: alice@example.com\r\nSubject: hello\r\n\r\nthe text\r\n")
    client.quit()
    [sent] = api(site).messages(folder="Sent")
    site.sink.wait_for(1)
    wait_until(lambda: len(api(site).json(f"/api/v1/sends/{sent['id']}")["attempts"]) == 2, "two attempts")
    wait_until(lambda: last(site, sent["id"]).get("state") == "waiting", "the time of the next attempt")
    entries = trace(site, sent["id"])
    assert api(site).json(f"/api/v1/sends/{sent['id']}/events")["entries"] == entries
    assert kinds(entries) == ["received", "policy", "stored", "queued", "attempt", "attempt", "next_attempt"]
    received, policy, stored, queued, *attempts, following = entries
    assert policy["decision"] == "allow"
    assert (received["service"], received["protocol"], received["user"]) == ("submission", "ESMTPSA", "alice@example.com")
    assert received["client"] == "127.0.0.1" and received["tls"]["version"].startswith("TLSv1")
    assert received["listener"] == site.ready["submission"]
    assert stored["folder"] == "Sent" and sorted(queued["recipients"]) == ["bob@remote.example", "late@remote.example"]
    outcomes = {one["recipient"]: (one["outcome"], one["result"]) for one in attempts}
    assert outcomes == {"late@remote.example": ("deferred", LATE), "bob@remote.example": ("delivered", "250 2.0.0 taken")}
    for one in attempts:
        facts = one["facts"]
        assert facts["address"] == f"127.0.0.1:{site.sink.port}" and facts["source"] == "127.0.0.1"
        assert facts["tls"]["state"] == "not_offered" and "8BITMIME" in facts["offered"] and facts["ms"] >= 0
    assert following["recipients"] == ["late@remote.example"] and following["reason"] == LATE
    assert following["at"] > attempts[0]["at"] and following["attempts"] == 1
    text = run("message", "trace", sent["id"], "-c", site.config).stdout
    lines = text.splitlines()
    assert len(lines) == 7 and re.search(r"Z  policy +allow, score 0", lines[1])
    assert re.match(r"\S+Z  received +by submission \(ESMTPSA\) from 127\.0\.0\.1.*, as alice@example\.com$", lines[0])
    assert lines[-1].startswith(following["at"]) and f"for late@remote.example (waiting, 1 so far): {LATE}" in lines[-1]
    assert api(site, "other").request("GET", f"/api/v1/messages/{sent['id']}/trace").status == 404
    other = run("message", "trace", sent["id"], "--tenant", "other", "-c", site.config, check=False)
    assert other.returncode == 5, other


def test_a_message_that_came_and_one_that_is_through(site):
    client = site.smtp()
    client.starttls(context=insecure_tls())
    client.ehlo("mx.sender.example")
    client.sendmail("bob@sender.example", ["alice@example.com"], "Subject: in\r\n\r\nx\r\n")
    [came] = api(site).messages(folder="INBOX")
    entries = trace(site, came["id"])
    assert kinds(entries) == ["received", "scan", "stored"]
    assert (entries[0]["service"], entries[0]["protocol"], entries[0]["helo"]) == ("mx", "ESMTPS", "mx.sender.example")
    assert "user" not in entries[0]
    assert entries[1]["engine"] == "builtin" and entries[1]["rules"]

    message = api(site).send({"from": "alice@example.com", "to": ["bob@remote.example"], "subject": "out", "text": "x"})
    site.sink.wait_for(1)
    wait_until(lambda: last(site, message["id"])["kind"] == "settled", "the end")
    entries = trace(site, message["id"])
    assert kinds(entries) == ["received", "policy", "stored", "queued", "attempt", "settled"]
    assert entries[0]["service"] == "http" and entries[0]["user"].startswith("API key ")
    assert entries[-1]["status"] == "sent"


def test_another_tenant_does_not_learn_who_logged_in(site):
    client = site.submission("alice@example.com", PASSWORD)
    client.sendmail("alice@example.com", ["carol@other.example"], "From: alice@example.com\r\n\r\nx\r\n")
    client.quit()
    [sent] = api(site).messages(folder="Sent")
    [came] = api(site, "other").messages(folder="INBOX")
    there = api(site, "other").json(f"/api/v1/messages/{came['id']}/trace")["entries"]
    entries = trace(site, sent["id"])
    assert kinds(there) == ["received", "stored"] and kinds(entries) == ["received", "policy", "stored", "settled"]
    assert entries[0].pop("user") == "alice@example.com" and entries[0] == there[0]
