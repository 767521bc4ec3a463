"""The hooks in examples/hooks: each in its own language, asked by requests of the protocol and by a mail server."""

import copy
import email.policy
import functools
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import pathlib
import secrets
import smtplib
import socket
import subprocess
import sys
import time
from email.message import EmailMessage

import jsonschema_rs
import pytest
from conftest import ROOT, Api, free_port, run, wait_until
from receiver import Receiver
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from test_serve import production

SAMPLES = ROOT / "examples/hooks"
EXAMPLES = os.environ.get("MAIRUST_EXAMPLES")
NODE_MODULES = os.environ.get("MAIRUST_NODE_MODULES") or str(pathlib.Path.home() / ".cache/mairust-node/node_modules")
RESPONSE = jsonschema_rs.Draft202012Validator(json.loads((ROOT / "docs/schema/hook-response-v1.json").read_text()))

# The vector of the hook protocol, as mairust-hooks/src/signature.rs has it.
KEY, SECRET = bytes(range(32)), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OLD_SECRET = "whsec_qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo="
ID, TIMESTAMP, PLUGIN = "inv_01JABCDEFGHJKMNPQRSTVWXYZ0", "1705312800", "com.example.mairust.spam-filter"
BODY = b'{"v":1,"hook":"pre_receive","plugin":{"id":"com.example.mairust.spam-filter"}}'
SIGNATURE = "sha256=5b793ad4b125134ab5f8d30ec2e41269fecd1b892c4035ce34b4a0e57305917f"
OLD_SIGNATURE = "sha256=8872836df88297e8cd9fd1219719f45b11eff514438c18ebebbd6dba0942d239"
ANSWER = b'{"v":1,"verdict":"allow"}'
ANSWER_SIGNATURE = "sha256=fd0e84f01f3087351ea14c7b1d599ca82a067de528ea2db10b4d539e35ea0757"


def sign(*parts):
    return "sha256=" + hmac.new(KEY, b".".join(parts), hashlib.sha256).hexdigest()


def example_binary(name):
    assert EXAMPLES, "MAIRUST_EXAMPLES names the folder of the built examples; tests/run sets it"
    return str(pathlib.Path(EXAMPLES) / name)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """How each sample is started."""

    @functools.cache
    def command(language):
        if language == "go":
            binary = tmp_path_factory.mktemp("go") / "hook"
            subprocess.run(["go", "build", "-o", binary, "."], cwd=SAMPLES / "go", check=True, timeout=170)
            return [binary]
        return {
            "python": [sys.executable, SAMPLES / "python/hook.py"],
            "node": ["node", SAMPLES / "node/hook.mjs"],
            "rust": [example_binary("http_hook_sample")],
        }[language]

    return command


class Sample:
    """A sample that runs."""

    def __init__(self, command, secret=f"{SECRET},{OLD_SECRET}", port=0):
        environment = os.environ | {"HOOK_SECRET": secret, "HOOK_PLUGIN_ID": PLUGIN}
        command = [*command, f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.address = line.split()[-1]

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def send(self, method, path, body, headers):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        octets = response.read()
        connection.close()
        return response.status, response.headers, octets

    def ask(self, request, method="POST", path="/hook", at=None, signature=None):
        """What is answered to a request that is signed as MaiRust does it; its signature is verified."""
        body = json.dumps(request).encode() if request is not None else b""
        identity = request["invocation_id"] if request else new_id()
        timestamp = str(int(time.time()) if at is None else at)
        signed = sign(identity.encode(), timestamp.encode(), body)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "X-MaiRust-Signature": signature(signed) if signature else signed,
            "X-MaiRust-Timestamp": timestamp,
            "X-MaiRust-Plugin-Id": PLUGIN,
            "X-MaiRust-Request-Id": identity,
            "X-MaiRust-Hook": request["hook"] if request else "health",
        }
        status, answered, octets = self.send(method, path, body, headers)
        if status == 200:
            assert answered["Content-Type"] == "application/json"
            wanted = sign(b"resp", identity.encode(), timestamp.encode(), octets)
            assert answered["X-MaiRust-Response-Signature"] == wanted
        return status, octets


LANGUAGES = ["python", "node", "go", "rust"]


@pytest.fixture(scope="module", params=LANGUAGES)
def sample(request, commands):
    sample = Sample(commands(request.param))
    yield sample
    sample.stop()


def new_id():
    return "inv_0" + "".join(secrets.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(25))


def example(name, change=lambda message: None):
    request = json.loads((ROOT / f"docs/schema/examples/request-{name}.json").read_text())
    request["invocation_id"] = new_id()
    change(request["message"])
    return request


def named(name, value):
    return lambda message: message["headers"].insert(0, {"name": name, "value": value})


def program(message):
    message["attachments"].append({"index": 1, "filename": "Photo.EXE", "content_type": "image/png", "size": 1})


TAGGED = {"verdict": "allow", "actions": [{"op": "tag.add", "tags": ["invoice"]}]}
CASES = {
    "as it is": (example("pre-receive"), {"verdict": "allow"}),
    "an invoice": (example("post-receive"), TAGGED),
    "an invoice in capitals": (example("pre-receive", named("subject", "Your INVOICE")), TAGGED),
    "a program": (example("pre-receive", program), {"verdict": "quarantine"}),
    "refused": (example("pre-receive", named("X-Test-Reject", "")), {"verdict": "reject"}),
    "octets instead of a text": (example("pre-receive", lambda m: m["headers"].append({"name": "Subject", "raw_b64": "/w=="})),
                                 {"verdict": "allow"}),
    "an attachment without a name": (example("pre-receive", lambda m: m["attachments"][0].pop("filename")), {"verdict": "allow"}),
    "nothing may be seen": (example("pre-receive", lambda m: [m.pop(name) for name in ("headers", "body", "attachments")]),
                            {"verdict": "allow"}),
}


@pytest.mark.parametrize("case", CASES)
def test_samples_decide(sample, case):
    request, wanted = CASES[case]
    status, octets = sample.ask(request)
    assert status == 200, octets
    answer = json.loads(octets)
    RESPONSE.validate(answer)
    assert {name: answer.get(name) for name in wanted} == wanted


def test_samples_answer_the_same_request_the_same(sample):
    request = example("pre-receive", named("X-Test-Reject", ""))
    first = sample.ask(request)
    other = copy.deepcopy(request)
    other["attempt"] = 2
    assert sample.ask(other) == first


@pytest.mark.parametrize("why, status, asked", [
    ("the signature is wrong", 401, {"signature": lambda signed: signed[:-1] + ("0" if signed[-1] != "0" else "1")}),
    ("there is none", 401, {"signature": lambda signed: ""}),
    ("it is cut off", 401, {"signature": lambda signed: signed[:20]}),
    ("it is old", 401, {"at": time.time() - 900}),
    ("it is early", 401, {"at": time.time() + 900}),
    ("it is another path", 404, {"path": "/other"}),
])
def test_samples_refuse(sample, why, status, asked):
    if "at" in asked:
        asked = asked | {"at": int(asked["at"])}
    assert sample.ask(example("pre-receive"), **asked)[0] == status


def test_samples_refuse_what_was_changed_or_is_for_another(sample):
    other = example("pre-receive")
    other["plugin"]["id"] = "com.example.other"
    assert sample.ask(other)[0] == 403
    now = str(int(time.time()))
    headers = {"X-MaiRust-Signature": sign(ID.encode(), now.encode(), BODY), "X-MaiRust-Timestamp": now, "X-MaiRust-Request-Id": ID}
    assert sample.send("POST", "/hook", BODY.replace(b"pre", b"Pre"), headers)[0] == 401
    assert sample.send("POST", "/hook", BODY, headers | {"X-MaiRust-Request-Id": new_id()})[0] == 401
    assert sample.send("POST", "/hook", BODY, headers | {"X-MaiRust-Timestamp": str(int(now) - 1)})[0] == 401
    # Signed, but no request of the protocol.
    assert sample.send("POST", "/hook", b"[]", headers | {"X-MaiRust-Signature": sign(ID.encode(), now.encode(), b"[]")})[0] in (400, 403)


def test_samples_know_both_keys_while_one_takes_over(sample):
    newer = "sha256=" + "0" * 64
    assert sample.ask(example("pre-receive"), signature=lambda signed: f"{newer}, {signed}")[0] == 200
    assert sample.ask(example("pre-receive"), signature=lambda signed: f"{newer}, {newer}")[0] == 401


def test_samples_tell_their_health(sample):
    status, octets = sample.ask(None, "GET", "/health")
    assert (status, json.loads(octets)["status"]) == (200, "ok")
    assert sample.ask(None, "GET", "/health", signature=lambda signed: "")[0] == 401


VECTOR_HEADERS = {"X-MaiRust-Request-Id": ID, "X-MaiRust-Timestamp": TIMESTAMP, "X-MaiRust-Signature": SIGNATURE}


def test_the_vector_in_python():
    spec = importlib.util.spec_from_file_location("hook", SAMPLES / "python/hook.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    keys = hook.read_keys(f"{SECRET},{OLD_SECRET}")
    for late in (0, 300, -300):
        assert hook.verify(keys, VECTOR_HEADERS, BODY, int(TIMESTAMP) + late) == KEY
    assert hook.verify(keys, VECTOR_HEADERS | {"X-MaiRust-Signature": OLD_SIGNATURE}, BODY, int(TIMESTAMP)) == b"\xaa" * 32
    for late in (301, -301):
        with pytest.raises(hook.Refused):
            hook.verify(keys, VECTOR_HEADERS, BODY, int(TIMESTAMP) + late)
    assert hook.sign(KEY, b"resp", ID.encode(), TIMESTAMP.encode(), ANSWER) == ANSWER_SIGNATURE


def node(script, *arguments):
    # What is imported takes the first argument for the program that was started.
    command = ["node", "--input-type=module", "--eval", script, "--", "-", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_vector_in_node():
    script = """
        const [path, given] = process.argv.slice(-2);
        const { readKeys, sign, verify } = await import(path);
        const { secrets, headers, old, body, timestamp, id, answer } = JSON.parse(given);
        const keys = readKeys(secrets);
        const by = (late, signature) => {
          try {
            const fields = { ...headers, "x-mairust-signature": signature };
            return keys.indexOf(verify(keys, fields, Buffer.from(body), Number(timestamp) + late));
          } catch (error) {
            return error.status;
          }
        };
        const current = headers["x-mairust-signature"];
        const verified = [by(0, current), by(300, current), by(-300, current), by(301, current), by(-301, current), by(0, old), by(0, "")];
        console.log(JSON.stringify([verified, sign(keys[0], "resp", id, timestamp, Buffer.from(answer))]));
    """
    given = {
        "secrets": f"{SECRET},{OLD_SECRET}", "headers": {name.lower(): value for name, value in VECTOR_HEADERS.items()},
        "old": OLD_SIGNATURE, "body": BODY.decode(), "timestamp": TIMESTAMP, "id": ID, "answer": ANSWER.decode(),
    }
    assert node(script, str(SAMPLES / "node/hook.mjs"), json.dumps(given)) == [[0, 0, 0, 401, 401, 1, 401], ANSWER_SIGNATURE]


@pytest.fixture
def server():
    """A mail server that asks a hook at this endpoint."""
    processes = []

    def start(endpoint):
        port = free_port()
        environment = os.environ | {"HOOK_SECRET": SECRET, "HOOK_PLUGIN_ID": PLUGIN}
        command = [example_binary("http_hook"), endpoint, f"127.0.0.1:{port}"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        processes.append(process)
        wait_until(lambda: process.poll() is not None or socket.socket().connect_ex(("127.0.0.1", port)) == 0, "start")
        assert process.poll() is None
        return port

    yield start
    for process in processes:
        process.terminate()
        process.wait(40)


def reply(port, message):
    """The reply to a message, after its dot."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo()
        client.mail("bob@sender.example")
        client.rcpt("alice@example.com")
        code, text = client.data(message.as_bytes())
        return code, text.decode()


def letter(subject="hello", **fields):
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"], message["Subject"] = "bob@sender.example", subject
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content("Hello!")
    return message


def test_samples_decide_about_mail(sample, server):
    port = server(f"http://{sample.address}/hook")
    assert reply(port, letter())[0] == 250
    assert reply(port, letter("Invoice"))[0] == 250
    attached = letter()
    attached.add_attachment(b"MZ", maintype="application", subtype="octet-stream", filename="run.exe")
    assert reply(port, attached)[0] == 250
    code, text = reply(port, letter(X_Test_Reject="yes"))
    assert code == 550 and text.startswith("5.7.1 refused by the sample hook [inv_"), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_samples_are_bound_to_the_shipped_binary(servers, tmp_path, commands, language):
    server, key = production(servers, tmp_path)
    smtp, api, port = server.address()[1], Api(server.ready["http"], key), free_port()

    def mairust(*arguments):
        return json.loads(run(*arguments, "--config", tmp_path / "mairust.yaml", "--output", "json").stdout)

    secret = mairust(
        "hook", "add", PLUGIN, "--on", "pre_receive", "--http", f"http://127.0.0.1:{port}/hook", "--health",
        f"http://127.0.0.1:{port}/health", "--private-address", "--required", "--grant", "read-headers", "--grant",
        "read-attachments=metadata", "--grant", "write-tags", "--grant", "decide=reject,quarantine",
    )["secret"]
    # From now on no mail passes without the hook.
    code, text = reply(smtp, letter())
    assert code == 451 and text.startswith("4.3.0 "), text
    sample = Sample(commands(language), secret, port)
    try:
        assert reply(smtp, letter("Invoice"))[0] == 250
        [invoice] = wait_until(lambda: api.messages(folder="INBOX"), "the message")
        assert (invoice["subject"], invoice["tags"]) == ("Invoice", ["invoice"])
        code, text = reply(smtp, letter(X_Test_Reject="yes"))
        assert code == 550 and text.startswith("5.7.1 refused by the sample hook [inv_"), text
        call = text[text.index("inv_"):text.index("]")]
        wait_until(lambda: any(one["id"] == call for one in mairust("hook", "deliveries", PLUGIN)), "the record of the call")
        told = mairust("hook", "explain", call)
        assert (told["outcome"], told["point"]) == ("reject", "pre_receive")
        # A new key, which the hook does not know yet, beside the one that it knows.
        mairust("hook", "rotate-secret", PLUGIN, "--grace", "1h")
        assert reply(smtp, letter(X_Test_Reject="yes"))[0] == 550
        mairust("hook", "rotate-secret", PLUGIN, "--revoke-previous")
        assert reply(smtp, letter("after the old key"))[0] == 451
        outcomes = [one["outcome"] for one in mairust("hook", "deliveries", PLUGIN)]
        wait_until(lambda: "auth" in [one["outcome"] for one in mairust("hook", "deliveries", PLUGIN)], f"a refusal: {outcomes}")
    finally:
        sample.stop()


def test_libraries_of_standard_webhooks_verify_what_hooks_are_asked(server):
    receiver = Receiver()
    port = server(receiver.url)
    # The answer is not signed, and so counts for nothing: mail waits for the hook.
    assert reply(port, letter())[0] == 451
    headers, body = receiver.wait_for(1)[0]
    receiver.stop()
    assert reply(port, letter())[0] == 451
    assert Webhook(SECRET).verify(body, headers)["hook"] == "pre_receive"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"Hello", b"hello"), headers)
    script = """
        import { createRequire } from "node:module";
        const [modules, secret, headers, body] = process.argv.slice(-4);
        const { Webhook } = createRequire(`${modules}/`)("standardwebhooks");
        const verify = (body) => {
          try {
            return new Webhook(secret).verify(body, JSON.parse(headers)).hook;
          } catch (error) {
            return error.constructor.name;
          }
        };
        console.log(JSON.stringify([verify(body), verify(body.replace("Hello", "hello"))]));
    """
    verified = node(script, NODE_MODULES, SECRET, json.dumps(headers), body.decode())
    assert verified == ["pre_receive", "WebhookVerificationError"]
