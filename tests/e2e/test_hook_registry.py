"""Hooks of tenants: bound by the command line and the REST API, which show the same ones, and what their calls came to."""

import http.server
import json
import re
import smtplib
import sqlite3
import threading
import uuid

import pytest
from conftest import Api, free_port, run, wait_until

URL = "https://spam.example/hook"
NOBODY = "0193b3f4-0000-7000-8000-000000000000"


@pytest.fixture
def config(tmp_path):
    config = tmp_path / "mairust.yaml"
    config.write_text(f"""
server: {{hostname: mx.here.example, data_dir: {tmp_path}/data}}
smtp: {{listeners: [{{bind: "127.0.0.1:{free_port()}", kind: mx}}]}}
http: {{bind: "127.0.0.1:{free_port()}"}}
log: {{format: text}}
""")
    return config


@pytest.fixture
def hook(config):
    """`mairust hook`, with what it prints as JSON."""

    def command(*arguments, program=(), **options):
        behind = ["--", *program] if program else []
        result = run("hook", *arguments, "--config", config, "--output", "json", *behind, **options)
        return json.loads(result.stdout) if result.returncode == 0 else result

    return command


def test_a_hook_is_bound_changed_and_removed(config, hook):
    made = hook(
        "add", "com.example.spam", "--on", "pre_receive,post-receive", "--http", URL, "--health", f"{URL}/health",
        "--timeout", "800ms", "--required", "--on-open", "quarantine", "--mode", "shadow", "--priority", 7,
        "--recipients", r".*@here\.example", "--grant", "read-headers", "--grant", "read-body=preview",
        "--grant", "write-tags", "--grant", "decide=tempfail,quarantine", "--grant", "add-headers=X-Spam-*,X-Other",
        "--plugin-config", '{"threshold": 0.8}',
    )
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made["secret"])
    assert made["points"] == ["pre_receive", "post_receive"]
    assert made["transport"] == {
        "kind": "http", "endpoint": URL, "health_endpoint": f"{URL}/health", "response_signature": None,
        "private_address": False,
    }
    assert (made["timeout_ms"], made["required"], made["on_failure"], made["on_open"]) == (800, True, None, "quarantine")
    grants = {name: value for name, value in made["grants"].items() if value not in (False, "none")}
    assert grants == {
        "read_headers": True, "read_body": "preview", "write_tags": True, "decide": ["tempfail", "quarantine"],
        "add_headers": True, "add_headers_only": ["X-Spam-*", "X-Other"],
    }
    assert made["config"] == {"threshold": 0.8} and made["generation"] == 1 and made["enabled"]
    secret = made.pop("secret")
    # Nobody has asked it yet how it does.
    known = made | {"health": None}
    assert hook("list") == [known] and hook("show", "com.example.spam") == hook("show", made["id"]) == known
    shown = run("hook", "show", "com.example.spam", "--config", config).stdout
    assert f"reached by  {URL}\n" in shown and "on failure  tempfail\n" in shown and "timeout  800ms\n" in shown
    assert run("hook", "list", "--config", config).stdout.startswith("com.example.spam  pre_receive,post_receive")

    changed = hook(
        "change", "com.example.spam", "--mode", "enforce", "--required=false", "--revoke", "write-tags", "--revoke",
        "add-headers", "--grant", "read-headers=From,Subject", "--unset", "timeout", "--unset", "health",
        "--http", "https://other.example/",
    )
    assert (changed["mode"], changed["required"], changed["timeout_ms"]) == ("enforce", False, None)
    assert changed["transport"]["endpoint"] == "https://other.example/"
    assert changed["transport"]["health_endpoint"] is None
    assert changed["grants"]["read_headers_only"] == ["From", "Subject"] and changed["grants"]["read_body"] == "preview"
    assert not changed["grants"]["write_tags"] and "add_headers_only" not in changed["grants"]
    assert changed["config"] == {"threshold": 0.8} and changed["generation"] == 2
    everything = hook("change", "com.example.spam", "--grants", '{"read_attachments": "full"}')["grants"]
    assert (everything["read_attachments"], everything["read_headers"], everything["decide"]) == ("full", False, [])

    assert hook("disable", "com.example.spam")["disabled_because"] == "disabled by an operator"
    assert hook("enable", "com.example.spam")["enabled"]
    assert hook("circuit", "com.example.spam", "force-open")["circuit"] == "forced_open"
    before = hook("circuit", "com.example.spam", "automatic")
    assert hook("circuit", "com.example.spam", "reset")["generation"] == before["generation"] + 1

    second = hook("rotate-secret", "com.example.spam", "--grace", "1h")
    assert second["secret"] != secret and second["previous_until"]
    refused = hook("rotate-secret", "com.example.spam", check=False)
    assert refused.returncode == 6 and "--revoke-previous" in refused.stderr
    assert hook("rotate-secret", "com.example.spam", "--revoke-previous") == {"revoked": True}
    assert hook("rotate-secret", "com.example.spam", "--revoke-previous") == {"revoked": False}
    assert hook("rotate-secret", "com.example.spam", "--grace", "0s")["previous_until"] is None

    hook("rm", "com.example.spam")
    assert hook("list") == [] and hook("show", "com.example.spam", check=False).returncode == 5
    audit = json.loads(run("audit", "list", "--config", config, "--output", "json").stdout)
    types = [entry["event_type"].removeprefix("hook.") for entry in audit if entry["target"]["type"] == "hook"][::-1]
    assert types == [
        "created", "changed", "changed", "disabled", "enabled", "circuit_changed", "circuit_changed", "circuit_reset",
        "secret_rotated", "secret_revoked", "secret_rotated", "removed",
    ]
    assert "whsec_" not in json.dumps(audit)


def test_a_program_of_this_machine_needs_no_key(hook):
    made = hook("add", "local", "--on", "pre_send", "--before-policy", "--process", "oneshot", program=["/opt/hook", "-v"])
    assert made["transport"] == {"kind": "process", "command": ["/opt/hook", "-v"], "directory": None, "mode": "oneshot"}
    assert "secret" not in made and made["before_policy"]
    refused = hook("rotate-secret", "local", check=False)
    assert refused.returncode == 6 and "has no key" in refused.stderr
    refused = hook("change", "local", "--http", URL, check=False)
    assert refused.returncode == 2 and "bind another hook" in refused.stderr
    local = hook("add", "near", "--on", "pre_receive", "--http", "http://127.0.0.1:8081/", "--private-address")
    assert local["transport"]["private_address"]


@pytest.mark.parametrize("arguments, said", [
    (["Bad Name", "--on", "pre_receive", "--http", URL], "a name has labels"),
    (["a"], "points: must name one of pre_receive, post_receive, pre_send"),
    (["a", "--on", "pre_receive"], "transport.endpoint: write https://"),
    (["a", "--on", "somewhere", "--http", URL], "points: unknown variant `somewhere`"),
    (["a", "--on", "pre_receive", "--http", "http://127.0.0.1/"], "--private-address"),
    (["a", "--on", "pre_receive", "--http", "https://10.0.0.1/"], "--private-address"),
    (["a", "--on", "pre_receive", "--http", URL, "--health", "https://else.example/"], "same scheme, host and port"),
    (["a", "--on", "pre_receive", "--http", URL, "--timeout", "4s"], "timeout_ms: must be from 100 to 3000 at pre_receive"),
    (["a", "--on", "pre_receive", "--http", URL, "--timeout", "soon"], "a duration is a number"),
    (["a", "--on", "pre_receive", "--http", URL, "--priority", "2000"], "priority: must be a number from 0 to 1000"),
    (["a", "--on", "pre_receive", "--http", URL, "--required", "--on-failure", "allow"], "on_failure: a required hook"),
    (["a", "--on", "pre_receive", "--http", URL, "--on-failure", "reject"], "i_know_this_bounces_mail"),
    (["a", "--on", "pre_receive", "--http", URL, "--grant", "write-tags"], "E_PERM_DEP: write_tags needs read_headers"),
    (["a", "--on", "pre_receive", "--http", URL, "--grant", "move-message", "--grant", "read-headers"], "E_PERM_DEP"),
    (["a", "--on", "pre_receive", "--http", URL, "--grant", "read-body"], "--grant read-body: say what"),
    (["a", "--on", "pre_receive", "--http", URL, "--grant", "read-mind"], "there is no such grant"),
    (["a", "--on", "pre_receive", "--http", URL, "--grants", '{"read_boddy": "full"}'], "grants.read_boddy: is no grant"),
    (["a", "--on", "pre_receive", "--http", URL, "--grants", "[]"], "write a JSON object, or @FILE"),
    (["a", "--on", "pre_receive", "--http", URL, "--plugin-config", "@/nowhere"], "/nowhere"),
    (["a", "--on", "pre_receive", "--http", URL, "--recipients", "("], "recipients: is no regular expression"),
    (["a", "--on", "pre_receive", "--http", URL, "--before-policy"], "before_policy: is about pre_send"),
])
def test_bad_input_is_told(hook, arguments, said):
    refused = hook("add", *arguments, check=False)
    assert refused.returncode == 2 and said in refused.stderr, refused.stderr
    assert hook("list") == []


def test_the_command_line_and_the_api_show_the_same(servers, config, hook):
    server = servers("--config", config, command="serve")
    key = json.loads(run("apikey", "create", "hooks", "--scope", "hooks:write", "-c", config, "-o", "json").stdout)["key"]
    api = Api(server.ready["http"], key)
    hook("add", "by.command", "--on", "pre_receive", program=["/bin/true"])
    body = {"plugin_id": "by.api", "points": ["post_receive"], "transport": {"kind": "http", "endpoint": URL}}
    response = api.request("POST", "/api/v1/hooks", body)
    assert response.status == 201, response.body
    made = json.loads(response.body)
    assert made.pop("secret").startswith("whsec_")
    assert response.headers["Location"] == f"/api/v1/hooks/{made['id']}" and response.headers["ETag"] == '"1"'
    assert {one["plugin_id"] for one in api.json("/api/v1/hooks")["items"]} == {"by.api", "by.command"}
    assert hook("show", "by.api")["id"] == made["id"]
    changed = hook("change", "by.api", "--timeout", "9s")
    at = f"/api/v1/hooks/{made['id']}"
    assert api.json(at)["timeout_ms"] == 9000
    stale = api.request("PATCH", at, {"priority": 1}, {"If-Match": '"1"'})
    assert (stale.status, json.loads(stale.body)["code"]) == (412, "precondition_failed")
    assert api.request("PATCH", at, {"priority": 1}, {"If-Match": f'"{changed["generation"]}"'}).status == 200
    assert hook("show", "by.api")["priority"] == 1

    # A tenant must not start programs, nor reach what lies behind the server.
    program = {"kind": "process", "command": ["/bin/sh"]}
    for fields, status in [
        ({"transport": program}, 403),
        ({"transport": {"kind": "http", "endpoint": "http://127.0.0.1:25/"}}, 422),
        ({"transport": {"kind": "http", "endpoint": "http://127.0.0.1:25/", "private_address": True}}, 403),
        ({"grants": {"decide": ["reject"]}}, 403),
        ({"points": ["pre_send"], "before_policy": True}, 403),
    ]:
        refused = api.request("POST", "/api/v1/hooks", {**body, "plugin_id": "evil", **fields})
        assert refused.status == status, refused.body
    local = next(one for one in api.json("/api/v1/hooks")["items"] if one["plugin_id"] == "by.command")
    refused = api.request("PATCH", f"/api/v1/hooks/{local['id']}", {"transport": program})
    assert (refused.status, json.loads(refused.body)["code"]) == (403, "forbidden")
    assert api.request("PATCH", f"/api/v1/hooks/{local['id']}", {"priority": 3}).status == 200
    assert api.request("DELETE", at).status == 204
    assert [one["plugin_id"] for one in hook("list")] == ["by.command"]


def test_what_a_call_came_to_is_explained(tmp_path, config, hook):
    made = hook("add", "com.example.spam", "--on", "pre_receive", "--http", URL)
    message, call = uuid.uuid4(), "inv_01JABCDEFGHJKMNPQRSTVWXYZ0"
    report = {
        "mode": "enforce", "attempt": 1, "mail_from": "a@sender.example", "rcpt_to": ["b@here.example"],
        "verdict": "quarantine", "let_pass": False, "duration_ms": 12, "request_bytes": 3456, "status": 200,
        "detail": "model=v3\np=0.98", "score": 7.5, "actions": [{"op": "tag.add", "result": "applied"}],
        "denied": ["move"], "response": '{"verdict":"quarantine"}',
    }
    late = {**report, "verdict": None, "let_pass": True, "detail": "no answer within 2s", "actions": [], "denied": []}
    with sqlite3.connect(tmp_path / "data/mairust.db") as database:
        [tenant] = database.execute("SELECT tenant_id FROM hook_bindings").fetchone()
        for id_, outcome, facts, stored in [(call, "quarantine", report, message.bytes), (call[:-1] + "1", "timeout", late, None)]:
            database.execute(
                "INSERT INTO hook_invocations VALUES (?, ?, 'com.example.spam', ?, 'pre_receive', ?, ?, ?, 1764000000000000)",
                [tenant, id_, uuid.UUID(made["id"]).bytes, outcome, stored, json.dumps(facts)],
            )
    calls = hook("deliveries", "com.example.spam")
    assert [one["outcome"] for one in calls] == ["timeout", "quarantine"]
    assert [one["id"] for one in hook("deliveries", "--message", message)] == [call]
    assert [one["id"] for one in hook("deliveries", made["id"], "--outcome", "timeout")] == [call[:-1] + "1"]
    text = run("hook", "explain", call, "--config", config).stdout
    assert text.splitlines() == [
        f"{call}: com.example.spam at pre_receive, 2025-11-24T16:00:00.000Z",
        "mode enforce, attempt 1, 12 ms, a request of 3456 octets, HTTP status 200",
        f"a message from a@sender.example to b@here.example, stored as {message}",
        "the hook said quarantine, score 7.5: model=v3 p=0.98",
        "so the message was taken into quarantine, unless another hook refused it",
        "tag.add: applied",
        "it has no leave for move, which was left out",
        'it answered {"verdict":"quarantine"}',
    ]
    text = run("hook", "explain", call[:-1] + "1", "--config", config).stdout
    assert "the hook did not answer in time: no answer within 2s\n" in text
    assert "so the message went on as if the hook had allowed it\n" in text
    as_json = json.loads(run("hook", "explain", call, "--json", "--config", config).stdout)
    assert (as_json["message_id"], as_json["score"]) == (str(message), 7.5)
    # What a hook did is known after it went.
    hook("rm", "com.example.spam")
    assert "quarantine" in run("hook", "explain", call, "--config", config).stdout
    assert hook("explain", "inv_x", check=False).returncode == 5
    assert hook("deliveries", NOBODY, check=False).returncode == 5


class Program(http.server.BaseHTTPRequestHandler):
    """A hook that says `verdict`, and keeps what it was asked."""

    verdict, asked = "allow", []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
        answer = json.dumps({"verdict": self.verdict, "reason": "as told"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def program():
    class Own(Program):
        asked = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Own.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield Own
    server.shutdown()


def test_a_message_is_shown_to_a_hook(tmp_path, hook, program):
    hook(
        "add", "com.example.spam", "--on", "pre_receive,pre_send", "--http", program.url, "--private-address",
        "--grant", "read-headers", "--grant", "decide=quarantine", "--plugin-config", '{"a": 1}',
    )
    program.verdict = "quarantine"
    said = hook("test", "com.example.spam")
    assert (said["outcome"], said["response"]["reason"], said["error"]) == ("quarantine", "as told", None)
    headers, request = program.asked[-1]
    assert headers["x-mairust-request-id"] == said["delivery_id"] and headers["x-mairust-signature"]
    assert (request["hook"], request["mode"], request["plugin"]["config"]) == ("pre_receive", "test", {"a": 1})
    mail = tmp_path / "mail.eml"
    mail.write_bytes(b"From: a@b.example\r\nSubject: from a file\r\n\r\nx\r\n")
    hook("test", "com.example.spam", "--on", "pre-send", "--file", mail)
    request = program.asked[-1][1]
    assert request["hook"] == "pre_send" and {"name": "Subject", "value": "from a file"} in request["message"]["headers"]
    assert [(one["mode"], one["outcome"]) for one in hook("deliveries", "com.example.spam")] == [("test", "quarantine")] * 2
    assert hook("test", "com.example.spam", "--on", "post_receive", check=False).returncode == 2
    assert hook("test", "com.example.spam", "--message", NOBODY, check=False).returncode == 5
    # Nobody listens there.
    hook("change", "com.example.spam", "--http", f"http://127.0.0.1:{free_port()}/")
    refused = hook("test", "com.example.spam", check=False)
    assert refused.returncode == 7 and json.loads(refused.stdout)["outcome"] == "connect", refused.stderr


def test_mail_is_refused_explained_and_shown_again(servers, config, hook, program):
    """What the command line changes holds for the next message of a server that runs."""
    run("domain", "add", "here.example", "--config", config)
    run("user", "add", "bob@here.example", "--password-stdin", "--config", config, input="correct horse battery")
    server = servers("--config", config, command="serve")

    def send(subject):
        with server.smtp() as client:
            client.sendmail("a@sender.example", ["bob@here.example"], f"Subject: {subject}\r\n\r\nx\r\n")

    send("before")
    hook(
        "add", "com.example.spam", "--on", "pre_receive,post_receive", "--http", program.url, "--private-address",
        "--grant", "read-headers", "--grant", "decide=reject,quarantine",
    )
    program.verdict = "reject"
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send("refused")
    assert refused.value.smtp_code == 550
    [call] = re.findall(r"inv_[0-9A-Z]{26}", refused.value.smtp_error.decode())
    # It is written down beside the flow of mail.
    wait_until(lambda: hook("deliveries", "com.example.spam", "--outcome", "reject"), "the call to be written down")
    text = run("hook", "explain", call, "--config", config).stdout
    assert "a message from a@sender.example to bob@here.example" in text
    assert "the hook said reject: as told\nso the message was refused for good" in text
    program.verdict = "allow"
    send("taken")
    taken = lambda: [one for one in hook("deliveries", "com.example.spam") if one["point"] == "post_receive"]
    [after] = wait_until(taken, "the stored message to be shown")
    again = hook("replay", after["id"])
    request = program.asked[-1][1]
    assert (request["mode"], request["message"]["id"]) == ("replay", after["message_id"])
    assert again["outcome"] == "allow" and again["delivery_id"] != after["id"]
    refused = hook("replay", call, check=False)
    assert refused.returncode == 6 and "was not kept" in refused.stderr
    hook("disable", "com.example.spam")
    program.verdict = "reject"
    send("after")
