"""The plugins in examples/plugins, bound and started as their documents say, and what they do with mail."""

import importlib.util
import ipaddress
import json
import os
import re
import shlex
import shutil
import socket
import sqlite3
import sys

import pytest
from conftest import ROOT, Api, free_port, run, swaks, wait_until
from receiver import Receiver
from rspamd import Rspamd
from standardwebhooks.webhooks import Webhook
from test_hook_processes import lines
from test_hooks import BOB, found, letter, receive
from test_policy import ALICE, Site
from test_python_hooks import python  # noqa: F401, a fixture
from test_serve import PASSWORD, configuration
from test_spam import GTUBE, deliver, message

PLUGINS = ROOT / "examples/plugins"
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def command(plugin, marker, replace):
    """The words of a command in the document of a plugin, with these replaced."""
    text = (PLUGINS / plugin / "README.md").read_text()
    line = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", text, re.DOTALL)[1].replace("\\\n", " ")
    for old, new in replace.items():
        assert old in line, f"the document of {plugin} does not say {old}"
        line = line.replace(old, str(new))
    return shlex.split(line)


@pytest.fixture
def site(servers, tmp_path):
    return Site(servers, tmp_path)


@pytest.fixture
def plugins(tmp_path):
    """What the documents call /opt/mairust-plugins, with the Python files of the package beside the one that needs them."""
    shutil.copytree(PLUGINS, tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "plugins/echo/mairust").symlink_to(ROOT / "mairust-py/python/mairust")
    return tmp_path / "plugins"


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


def bind(site, plugin, replace):
    """Binds a plugin by the command of its document."""
    program, *arguments = command(plugin, "commands: bind", replace)
    assert program == "mairust"
    return run(*arguments, env=os.environ | {"MAIRUST_CONFIG": str(site.config)})


@pytest.fixture
def package(servers, tmp_path, python):  # noqa: F811
    """Starts the server of the Python package, with one user, and gives its API, too."""

    def start(command, *arguments, env=None):
        config = configuration(tmp_path, spam={"engine": "none"})
        run("domain", "add", "example.com", "-c", config)
        run("user", "add", ALICE, "-c", config, "--password-stdin", input=PASSWORD)
        scopes = [f"--scope={scope}" for scope in ("messages:read", "messages:content", "metrics:read")]
        key = json.loads(run("apikey", "create", "tests", *scopes, "-c", config, "-o", "json").stdout)["key"]
        server = servers(*arguments, command=command, binary=python.parent / "mairust", env=env)
        return server, Api(server.ready["http"], key)

    return start


def calls(site, plugin):
    return site.json("hook", "deliveries", f"com.example.{plugin}")


# echo


def test_echo_says_what_it_saw_and_leaves_a_tag(site, plugins):
    bind(site, "echo", {"/opt/mairust-plugins": plugins, "/usr/bin/python3": sys.executable})
    swaks(site.server, "--from", BOB, "--to", ALICE, "--header", "Subject: ご案内")
    wait_until(lambda: found(site, "ご案内")["tags"] == ["seen"], "the tag")
    said = f"{found(site, 'ご案内')['id']} from {BOB} to {ALICE}: ご案内"
    assert lines(site, component="plugin", plugin="com.example.echo", message=said), site.server.log()


def test_echo_says_what_it_may_not_see(site, plugins):
    bind(site, "echo", {"/opt/mairust-plugins": plugins, "/usr/bin/python3": sys.executable})
    site.run("hook", "change", "com.example.echo", "--revoke", "read-envelope", "--revoke", "write-tags",
             "--revoke", "read-headers", "--plugin-config", "{}")
    assert receive(site, letter("for nobody's eyes"))[0] == 250
    said = f"{found(site, 'for nobody' + chr(39) + 's eyes')['id']} from (not granted) to (not granted): (not granted)"
    wait_until(lambda: lines(site, component="plugin", message=said), "the line")
    wait_until(lambda: calls(site, "echo"), "the record of the call")
    assert [call["outcome"] for call in calls(site, "echo")] == ["allow"] and "eyes" not in said


def test_echo_runs_in_the_process_of_the_server(package, plugins, tmp_path):
    server, api = package("serve", "-c", tmp_path / "mairust.yaml", "--hooks", plugins / "echo/echo.py")
    assert deliver(server, message("within"), sender=BOB)[0] == 250
    [stored] = api.messages()
    wait_until(lambda: f"{stored['id']} from {BOB} to {ALICE}: within" in server.log(), "the line in the log")
    assert api.messages()[0]["tags"] == []


# webhook


def bind_webhook(site, plugins, url, *arguments):
    secret = plugins / "webhook.secret"
    secret.write_text(f"{SECRET}\n")
    bind(site, "webhook", {
        "/opt/mairust-plugins": plugins, "https://hooks.example.com/mail": url,
        "/etc/mairust/webhook.secret": shlex.join([str(secret), *arguments]),
    })


def test_webhook_posts_a_signed_summary(site, plugins, receiver):
    bind_webhook(site, plugins, receiver.url, "--allow-private")
    assert receive(site, letter("請求書", attachment="請求書.pdf"))[0] == 250
    [(headers, body)] = receiver.wait_for(1)
    told = Webhook(SECRET).verify(body, headers)
    stored = found(site, "請求書")
    call = wait_until(lambda: calls(site, "webhook"), "the record of the call")[0]
    assert (call["outcome"], call["message_id"], headers["webhook-id"]) == ("allow", stored["id"], call["id"])
    assert headers["content-type"] == "application/json" and headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (told["type"], told["mode"]) == ("message.received", "enforce")
    data = told["data"]
    assert (data["message_id"], data["size"], data["has_attachments"]) == (stored["id"], stored["size"], True)
    assert data["envelope"]["mail_from"] == BOB and data["envelope"]["rcpt_to"] == [{"address": ALICE}]
    assert (data["mailbox"]["address"], data["mailbox"]["folder"]) == (ALICE, "INBOX")
    assert data["headers"] == {"from": BOB, "to": ALICE, "subject": "請求書"}
    assert data["attachments"] == [{"filename": "請求書.pdf", "content_type": "application/octet-stream", "size": 2}]
    # What it may not see is left out.
    site.run("hook", "change", "com.example.webhook", "--revoke", "read-headers", "--revoke", "read-envelope",
             "--revoke", "read-attachments")
    assert receive(site, letter("nothing is told"))[0] == 250
    data = json.loads(receiver.wait_for(2)[1][1])["data"]
    assert set(data) == {"message_id", "size", "has_attachments", "mailbox"} and set(data["mailbox"]) == {"id"}


def test_webhook_is_tried_again_with_the_same_id(site, plugins, receiver, tmp_path):
    receiver.answers = [500]
    bind_webhook(site, plugins, receiver.url, "--allow-private")
    assert receive(site, letter("again"))[0] == 250
    call = wait_until(lambda: calls(site, "webhook"), "the record of the call")[0]
    assert call["outcome"] == "crash" and len(receiver.requests) == 1
    wait_until(lambda: lines(site, component="plugin", message="the target answered 500"), "the reason in the log")
    # Its time comes while the server is away.
    assert site.server.stop() == 0
    with sqlite3.connect(tmp_path / "data/mairust.db") as database:
        moved = database.execute("UPDATE jobs SET not_before = created_at WHERE kind = 'post_receive' AND state = 'waiting'")
        assert moved.rowcount == 1
    site.server.start()
    first, second = receiver.wait_for(2)
    assert first[0]["webhook-id"] == second[0]["webhook-id"] == call["id"] and first[1] == second[1]
    wait_until(lambda: [one["outcome"] for one in calls(site, "webhook")] == ["allow"], "the same call, done")
    assert calls(site, "webhook")[0]["attempt"] == 2


@pytest.mark.parametrize("url, why", [
    ("https://127.0.0.1:{}/in", "127.0.0.1 is at 127.0.0.1, which is not public"),
    ("https://localhost:{}/in", "which is not public"),
    ("https://2130706433:{}/in", "2130706433 is at 127.0.0.1, which is not public"),
    ("https://[::ffff:127.0.0.1]:{}/in", "which is not public"),
    ("http://127.0.0.1:{}/in", "http is for private targets only"),
    ("https://user:password@127.0.0.1:{}/in", "write https://host/path"),
])
def test_webhook_reaches_nothing_behind_the_server(site, plugins, receiver, url, why):
    bind_webhook(site, plugins, url.format(receiver.port))
    assert receive(site, letter("to nobody"))[0] == 250
    call = wait_until(lambda: calls(site, "webhook"), "the record of the call")[0]
    assert call["outcome"] == "crash"
    said = wait_until(lambda: lines(site, component="plugin", stream="stderr"), "the reason in the log")
    assert why in said[0]["message"] and receiver.requests == []


@pytest.fixture
def webhook():
    spec = importlib.util.spec_from_file_location("webhook", PLUGINS / "webhook/webhook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_webhook_tells_what_its_document_shows(webhook):
    shown = re.search(r"```json\n(.*?)```", (PLUGINS / "webhook/README.md").read_text(), re.DOTALL)[1]
    request = json.loads((ROOT / "docs/schema/examples/request-post-receive.json").read_text())
    assert webhook.summary(request) == json.loads(shown)


def resolved(monkeypatch, *answers):
    """Has names lead to these addresses, one list for each time that somebody asks."""
    asked = []

    def look_up(host, port, **options):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers[len(asked) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_webhook_judges_addresses_as_the_server_does(webhook):
    """The table of mairust/core/src/network.rs."""
    public = ("8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.17.0.1", "2606:4700::1111",
              "2001:200::1", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8")
    private = ("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
               "192.0.0.8", "192.0.2.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
               "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "fc00::1", "fe80::1", "ff02::1", "2001::1",
               "2001:db8::1", "3fff::1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1")
    judged = {one: webhook.is_public(ipaddress.ip_address(one)) for one in (*public, *private)}
    assert judged == {one: True for one in public} | {one: False for one in private}


def test_webhook_judges_all_addresses_of_a_name(webhook, monkeypatch):
    connected = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, place: connected.append(place))
    resolved(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(webhook.Refused, match="10.0.0.1, which is not public"):
        webhook.post("https://hooks.example/", "inv_1", b"{}")
    assert connected == []
    # A name that leads elsewhere when it is asked for again: it is not.
    asked = resolved(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    webhook.dial("hooks.example", 443, False).close()
    assert (asked, connected) == (["hooks.example"], [("8.8.8.8", 443)])
    with pytest.raises(webhook.Refused, match="port 25"):
        webhook.post("https://hooks.example:25/", "inv_1", b"{}")


def test_webhook_verifies_tls_for_the_name(webhook, monkeypatch, authority, receiver):
    names, context = [], authority.context("hooks.example")
    context.sni_callback = lambda _, name, __: names.append(name)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    resolved(monkeypatch, *[["127.0.0.1"]] * 2)
    assert webhook.post(f"https://hooks.example:{receiver.port}/in?a=b", "inv_1", b"{}", allow_private=True) == 204
    assert names == ["hooks.example"] and receiver.requests[0][0]["host"] == f"hooks.example:{receiver.port}"
    with pytest.raises(OSError, match="certificate is not valid for 'other.example'"):
        webhook.post(f"https://other.example:{receiver.port}/in", "inv_1", b"{}", allow_private=True)
    assert len(receiver.requests) == 1


def test_webhook_follows_no_redirect(webhook, receiver):
    elsewhere = Receiver()
    try:
        receiver.answers, receiver.fields = [307], {"Location": elsewhere.url}
        assert webhook.post(receiver.url, "inv_1", b"{}", allow_private=True) == 307
        assert len(receiver.requests) == 1 and elsewhere.requests == []
    finally:
        elsewhere.stop()


# rspamd


@pytest.fixture(scope="module")
def rspamd():
    server = Rspamd()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def filtered(package, tmp_path, plugins):
    """A server whose mail the plugin sees."""

    def start(url, **settings):
        setting, program, *arguments = command("rspamd", "commands: start", {
            "http://127.0.0.1:11333": url, "mairust.yaml": tmp_path / "mairust.yaml", "/opt/mairust-plugins": plugins,
        })
        assert program == "mairust"
        return package(*arguments, env=dict([setting.split("=", 1)]) | settings)

    return start


def test_rspamd_refuses_gtube_and_lets_clean_mail_pass(rspamd, filtered, tmp_path):
    server, api = filtered(rspamd.url)
    refused = swaks(server, "--to", ALICE, "--from", BOB, "--body", GTUBE, check=False)
    call = re.search(r"<\*\* 550 5\.7\.1 Gtube pattern \[(inv_[0-9A-Z]{26})\]", refused.stdout)
    assert call, refused.stdout
    assert api.messages() == []
    explain = lambda: run("hook", "explain", call[1], "-c", tmp_path / "mairust.yaml", check=False).stdout
    assert re.search(r"the hook said reject, score [\d.]+: reject: .*GTUBE", wait_until(explain, "the record of the call"))
    assert deliver(server, message("clean", X_Spam="forged"), sender=BOB)[0] == 250
    [clean] = api.messages(subject="clean")
    assert (clean["folder"], clean["tags"]) == ("INBOX", []) and b"X-Spam: Yes" not in api.raw(clean)
    # What rspamd was told and said, in the line that it writes about each message.
    told = [line for line in rspamd_log(rspamd).splitlines() if "rspamd_task_write_log" in line]
    assert f"qid: <{call[1]}>" in told[0]
    assert re.search(rf"qid: <inv_[0-9A-Z]{{26}}>, ip: 127\.0\.0\.1, from: <{BOB}>", told[-1]), told
    assert f"rcpts: <{ALICE}>" in told[-1]
    kept = api.json(f"/api/v1/messages/{clean['id']}")["metadata"]["rspamd"]
    assert kept["action"] == "no action" and f"(no action): [{kept['score']:.2f}/" in told[-1]
    assert kept["symbols"] and all(f"{name}(" in told[-1] for name in kept["symbols"]), told[-1]


def rspamd_log(rspamd):
    return (rspamd.folder / "log.txt").read_text()


def test_rspamd_says_what_becomes_of_mail(rspamd, filtered):
    server, api = filtered(rspamd.url)
    for action, code in [("no action", 250), ("greylist", 250), ("add header", 250), ("rewrite subject", 250),
                         ("quarantine", 250), ("discard", 250), ("soft reject", 451), ("reject", 550)]:
        answer, text = deliver(server, message(action, X_Test_Action=action), sender=BOB)
        assert answer == code, (action, text)
        if code != 250:
            assert re.fullmatch(rf"[45]\.7\.1 forced: {action} \[inv_\w+\]", text), text
            assert api.messages(subject=action) == []
            continue
        [stored] = api.messages(subject=action)
        is_marked = action not in ("no action", "greylist")
        assert stored["tags"] == (["spam"] if is_marked else []), action
        assert (b"X-Spam: Yes\r\n" in api.raw(stored)) == is_marked, action
        assert stored["folder"] == ("Quarantine" if action in ("quarantine", "discard") else "INBOX"), action
        assert api.json(f"/api/v1/messages/{stored['id']}")["metadata"]["rspamd"]["action"] == action


def test_rspamd_means_what_its_settings_say(rspamd, filtered):
    server, api = filtered(rspamd.url, RSPAMD_MARKED="quarantine", RSPAMD_REJECTED="quarantine")
    for action in ("add header", "reject"):
        assert deliver(server, message(action, X_Test_Action=action), sender=BOB)[0] == 250
        [stored] = api.messages(subject=action)
        assert (stored["folder"], stored["tags"]) == ("Quarantine", ["spam"])


def test_rspamd_that_does_not_answer_is_a_failure(filtered):
    own = Rspamd()
    try:
        server, api = filtered(own.url, RSPAMD_ON_FAILURE="tempfail")
        code, text = deliver(server, message("nobody there"), sender=BOB)
        assert code == 451 and text.startswith("4.3.0 Policy service unavailable"), text
        own.start()
        assert deliver(server, message("there"), sender=BOB)[0] == 250
        own.freeze()
        assert deliver(server, message("frozen"), sender=BOB)[0] == 451
        assert "TimeoutError" in server.log()
        # The call ended by itself, so no thread is lost.
        assert b"\nmairust_py_stuck_threads 0\n" in api.bytes("/metrics")
        own.thaw()
        assert deliver(server, message("thawed"), sender=BOB)[0] == 250
        assert sorted(one["subject"] for one in api.messages()) == ["thawed", "there"]
    finally:
        own.remove()


@pytest.mark.parametrize("name, value, said", [
    ("RSPAMD_URL", "https://rspamd.example", "rspamd speaks no TLS"),
    ("RSPAMD_MARKED", "drop", "RSPAMD_MARKED is one of tag, quarantine"),
    ("RSPAMD_ON_FAILURE", "hope", "on_failure is one of"),
])
def test_rspamd_does_not_start_with_a_wrong_setting(filtered, name, value, said):
    with pytest.raises(AssertionError, match=said):
        filtered(f"http://127.0.0.1:{free_port()}", **{name: value})
