"""Hooks of tenants in the flow of mail: bound by the command line, called by the server that runs."""

import json
import re
import smtplib
import socket
import subprocess
import sys
from email.message import EmailMessage

import pytest
from conftest import ROOT, free_port, run, wait_until
from test_policy import ALICE, CAROL, Site
from test_serve import PASSWORD

SAMPLES = ROOT / "examples/hooks"
BOB = "bob@remote.example"
GRANTS = [f"--grant={grant}" for grant in (
    "read-headers", "read-attachments=metadata", "write-tags", "decide=reject,quarantine")]


@pytest.fixture
def site(servers, tmp_path):
    return Site(servers, tmp_path)


class Sample:
    """The sample hook in Python, over HTTP."""

    name = "com.example.sample"

    def __init__(self):
        self.port, self.process, self.secret = free_port(), None, None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, SAMPLES / "python/hook.py", f"127.0.0.1:{self.port}"], stderr=subprocess.DEVNULL,
            env={"HOOK_SECRET": self.secret, "HOOK_PLUGIN_ID": self.name})
        wait_until(lambda: reachable(self.port), "the sample to listen")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(30)


@pytest.fixture
def sample():
    sample = Sample()
    yield sample
    sample.stop()


def reachable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def letter(subject, attachment=None, **fields):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = BOB, ALICE, subject
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content("Hello!\n")
    if attachment:
        message.add_attachment(b"MZ", maintype="application", subtype="octet-stream", filename=attachment)
    return message


def receive(site, message, to=ALICE):
    """The code and the text of a refusal, or 250."""
    with site.server.smtp() as client:
        try:
            assert client.send_message(message, BOB, [to]) == {}
            return 250, ""
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code, refused.smtp_error.decode()


def bind_program(site, name, *options, program):
    run("hook", "add", name, *options, "-c", site.config, "--", *program)


def found(site, subject):
    return next(message for message in site.api.messages() if message["subject"] == subject)


def test_a_hook_over_http_decides(site, sample):
    made = site.json(
        "hook", "add", sample.name, "--on", "pre_receive", "--http", f"http://127.0.0.1:{sample.port}/hook",
        "--private-address", "--health", f"http://127.0.0.1:{sample.port}/health", "--required", *GRANTS)
    sample.secret = made["secret"]
    sample.start()
    # Bound by another process while the server runs: the next message is shown to it.
    assert receive(site, letter("an invoice"))[0] == 250
    assert found(site, "an invoice")["tags"] == ["invoice"]
    assert receive(site, letter("a program", attachment="a.exe"))[0] == 250
    assert found(site, "a program")["folder"] == "Quarantine"
    code, text = receive(site, letter("unwanted", X_Test_Reject="1"))
    assert code == 550
    call = re.fullmatch(r"5\.7\.1 refused by the sample hook \[(inv_[0-9A-Z]{26})\]", text)[1]

    explained = site.run("hook", "explain", call).stdout
    assert "the hook said reject: X-Test-Reject" in explained and "so the message was refused for good" in explained
    assert f"a message from {BOB} to {ALICE}" in explained
    calls = site.json("hook", "deliveries", sample.name)
    assert [entry["outcome"] for entry in calls] == ["reject", "quarantine", "allow"]
    stored = found(site, "an invoice")["id"]
    assert [entry["message_id"] for entry in calls] == [None, found(site, "a program")["id"], stored]
    assert calls[2]["actions"] == [{"op": "tag.add", "result": "applied"}]
    trace = site.api.json(f"/api/v1/messages/{stored}/trace")["entries"]
    shown = next(entry for entry in trace if entry["kind"] == "hook")
    assert (shown["hook"], shown["outcome"], shown["id"]) == (sample.name, "allow", calls[2]["id"])

    path = f"/api/v1/hooks/{made['id']}"
    tried = site.api.request("POST", f"{path}/test", {"message_id": stored})
    trial = json.loads(tried.body)
    assert tried.status == 200 and trial["response"]["actions"] == [{"op": "tag.add", "tags": ["invoice"]}], trial
    assert trial["request"]["mode"] == "test" and "body" not in trial["request"]["message"]
    assert json.loads(site.api.request("POST", f"{path}/test", {}).body)["response"]["verdict"] == "allow"

    # While it is away, nothing passes; its breaker sees to it that nobody waits for it.
    sample.stop()
    for number in range(4):
        code, text = receive(site, letter(f"number {number}"))
        assert (code, text.split(" [")[0]) == (451, "4.3.0 Policy service unavailable, please try again later")
    circuit = site.api.json(f"{path}/circuit")
    assert circuit["points"][0]["state"] == "open", circuit
    assert site.json("hook", "deliveries", sample.name)[0]["outcome"] == "breaker_open"
    sample.start()
    assert receive(site, letter("still open"))[0] == 451
    site.run("hook", "circuit", sample.name, "reset")
    assert receive(site, letter("closed again"))[0] == 250

    # With a new key, and without the old one, the sample does not know us any more.
    site.run("hook", "rotate-secret", sample.name, "--grace", "24h")
    assert receive(site, letter("both keys"))[0] == 250
    site.run("hook", "rotate-secret", sample.name, "--grace", "0s", check=False)
    site.run("hook", "disable", sample.name)
    assert receive(site, letter("nobody asks"))[0] == 250
    metrics_key = site.json("apikey", "create", "metrics", "--scope", "metrics:read")["key"]
    response = site.api.request("GET", "/metrics", headers={"Authorization": f"Bearer {metrics_key}"})
    assert 'mairust_hook_calls_total{point="pre_receive",hook="com.example.sample",outcome="reject"} 1' in response.body.decode()


def test_a_hook_that_may_fail_lets_mail_pass_and_says_so(site):
    site.run("hook", "add", "com.example.away", "--on", "pre_receive", "--http", f"http://127.0.0.1:{free_port()}/",
             "--private-address", "--grant=read-headers")
    assert receive(site, letter("passes"))[0] == 250
    call = site.json("hook", "deliveries", "com.example.away")[0]
    assert (call["outcome"], call["let_pass"]) == ("connect", True)
    site.run("hook", "change", "com.example.away", "--on-failure", "quarantine")
    # By what counted then.
    became = "so the message went on as if the hook had allowed it, as --on-failure said then\n"
    assert became in site.run("hook", "explain", call["id"]).stdout
    assert receive(site, letter("is put aside"))[0] == 250
    assert found(site, "is put aside")["folder"] == "Quarantine"
    site.run("hook", "change", "com.example.away", "--mode", "shadow")
    assert receive(site, letter("is on trial"))[0] == 250
    assert found(site, "is on trial")["folder"] == "INBOX"


def test_a_worker_sees_mail_before_and_after_it_is_stored(site):
    bind_program(site, "com.example.worker", "--on", "pre_receive,post_receive", *GRANTS,
                 "--plugin-config", '{"word": "receipt"}', program=[sys.executable, SAMPLES / "stdin/worker.py"])
    # Until the interpreter is there, mail passes without it.
    wait_until(lambda: receive(site, letter("unwanted", X_Test_Reject="1"))[0] == 550, "the worker to be ready")
    assert receive(site, letter("a receipt"))[0] == 250
    assert found(site, "a receipt")["tags"] == ["receipt"]
    calls = lambda: site.json("hook", "deliveries", "com.example.worker")
    wait_until(lambda: any(call["point"] == "post_receive" and call["outcome"] == "allow" for call in calls()), "the job")
    site.run("hook", "rm", "com.example.worker")
    assert receive(site, letter("not asked any more", X_Test_Reject="1"))[0] == 250


PRE_SEND = """
import json, sys
request = json.load(sys.stdin)
subject = {field["name"]: field["value"] for field in request["message"]["headers"]}["Subject"]
answer = {"verdict": "allow", "actions": [{"op": "header.add", "name": "X-Looked-At", "value": request["session"]["origin"]}]}
if subject == "secret":
    answer = {"verdict": "reject", "smtp": {"code": 550, "text": "Not this"}}
if subject == "later":
    answer = {"verdict": "tempfail", "smtp": {"code": 451, "text": "Not now"}}
if subject == "odd":
    answer = {"verdict": "quarantine", "reason": "odd"}
if subject == "broken":
    sys.exit(3)
json.dump(answer, sys.stdout)
"""


def test_hooks_see_mail_before_it_is_sent(site, tmp_path):
    script = tmp_path / "look.py"
    script.write_text(PRE_SEND)
    bind_program(site, "com.example.dlp", "--on", "pre_send", "--process", "oneshot", "--required",
                 "--grant=read-headers", "--grant=add-headers=X-Looked-At", "--grant=decide=reject,tempfail,quarantine",
                 "--timeout", "5s", program=[sys.executable, script])

    def submit(subject):
        with site.server.submission(ALICE, PASSWORD) as client:
            try:
                client.sendmail(ALICE, [CAROL], f"From: {ALICE}\r\nSubject: {subject}\r\n\r\nx\r\n")
                return 250, ""
            except smtplib.SMTPDataError as refused:
                return refused.smtp_code, refused.smtp_error.decode()

    def post(subject):
        response = site.api.request("POST", "/api/v1/send", {"from": ALICE, "to": [CAROL], "subject": subject, "text": "x"})
        return response.status, json.loads(response.body)

    assert submit("fine")[0] == 250
    raw = site.api.raw(next(m for m in site.api.messages() if m["subject"] == "fine" and m["direction"] == "inbound"))
    assert b"\r\nX-Looked-At: submission\r\n" in raw
    code, text = submit("secret")
    assert code == 550 and text.startswith("5.7.1 Not this [inv_"), text
    status, problem = post("secret")
    assert (status, problem["code"]) == (403, "policy_denied") and "Not this" in problem["message"]
    code, text = submit("later")
    assert code == 451 and text.startswith("4.7.1 Not now [inv_"), text
    status, problem = post("later")
    assert (status, problem["code"]) == (503, "policy_deferred") and "Not now" in problem["message"]
    code, text = submit("broken")
    assert code == 451 and text.startswith("4.3.0 Policy service unavailable"), text
    status, problem = post("broken")
    assert (status, problem["code"]) == (503, "hook_unavailable")
    # A program that sends without the server is seen by the same hook.
    calls = len(site.json("hook", "deliveries", "com.example.dlp"))
    sent = run("send", "-c", site.config, input=f"From: {ALICE}\nTo: {CAROL}\nSubject: secret\n\nx\n", check=False)
    assert sent.returncode != 0 and "Not this [inv_" in sent.stderr, sent
    assert len(site.json("hook", "deliveries", "com.example.dlp")) == calls + 1
    assert submit("odd")[0] == 250
    held = site.json("queue", "list")
    assert [item["held_because"] for item in held] == ["hook"], held
    assert not any(m["subject"] == "odd" and m["direction"] == "inbound" for m in site.api.messages())
    site.run("queue", "release", held[0]["id"])
    wait_until(lambda: any(m["subject"] == "odd" and m["direction"] == "inbound" for m in site.api.messages()), "the mail")
