"""The same hooks as a process of their own, driven over the protocol."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mairust
import pytest
from mairust import signature

HERE = Path(__file__).parent
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
ENV = {**os.environ, "PYTHONPATH": str(Path(mairust.__file__).parents[1])}


class Worker:
    """A worker, and what it says."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([sys.executable, "-m", "mairust.plugin", *arguments], cwd=HERE, env=ENV,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def say(self, **frame):
        self.process.stdin.write(json.dumps(frame).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, kind):
        """The next frame of this kind."""
        while line := self.process.stdout.readline():
            frame = json.loads(line)
            assert line.startswith(b'{"type"')
            if frame["type"] == kind:
                return frame
        raise AssertionError(self.process.stderr.read().decode())

    def hello(self):
        self.say(type="hello", protocol=1, mairust="0.1.0", plugin_id="p", config={}, granted={}, max_inflight=4)
        return self.hear("ready")

    def end(self):
        self.process.stdin.close()
        code = self.process.wait(10)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def worker():
    worker = Worker("hooks_example:app")
    yield worker
    worker.process.kill()
    worker.process.wait()
    for stream in (worker.process.stdin, worker.process.stdout, worker.process.stderr):
        stream.close()


def test_a_worker_answers_and_ends_with_its_input(worker, make_request):
    assert worker.hello() == {"type": "ready", "protocol": 1, "sdk": "mairust-py/1", "max_inflight": 4}
    for subject, response in [
        ("Hello", {"verdict": "allow", "score": 0.5}),
        ("keep apart", {"verdict": "quarantine", "actions": [{"op": "tag.add", "tags": ["odd"]}]}),
        ("refuse", {"verdict": "reject", "smtp": {"code": 550, "enhanced": "5.7.1", "text": "Not this one"},
                    "reason": "the test wants it"}),
    ]:
        worker.say(type="hook", id="inv_1", request=make_request(subject))
        assert worker.hear("result") == {"type": "result", "id": "inv_1", "response": response}
    worker.say(type="hook", id="inv_2", request=make_request(hook="post_receive"))
    actions = [{"op": "tag.add", "tags": ["ticket:13"]}, {"op": "flag.add", "flags": ["\\Flagged"]}]
    assert worker.hear("result")["response"] == {"verdict": "allow", "actions": actions}
    worker.say(type="health", id="h1")
    assert worker.hear("health") == {"type": "health", "id": "h1", "status": "ok"}
    worker.say(type="something later versions say")
    assert worker.end() == 0


@pytest.mark.parametrize("subject, kind", [("fail", "RuntimeError"), ("exit", "SystemExit"), ("bool", "TypeError")])
def test_a_failure_is_an_error_and_the_worker_lives(worker, make_request, subject, kind):
    worker.hello()
    worker.say(type="hook", id="inv_1", request=make_request(subject, call="inv_01JABCDEFGHJKMNPQRSTVWXYZ1"))
    log = worker.hear("log")
    assert log["level"] == "error" and "Traceback" in log["msg"]
    assert log["fields"]["invocation_id"] == "inv_01JABCDEFGHJKMNPQRSTVWXYZ1"
    assert worker.hear("result") == {"type": "result", "id": "inv_1", "error": kind}
    worker.say(type="hook", id="inv_2", request=make_request())
    assert worker.hear("log")["msg"] == "looked at it"
    assert worker.hear("result")["response"]["verdict"] == "allow"


def test_a_call_can_be_cancelled_and_a_worker_told_to_end(worker, make_request):
    worker.hello()
    worker.say(type="hook", id="inv_1", request=make_request("wait"))
    worker.say(type="hook", id="inv_2", request=make_request())
    assert worker.hear("result")["id"] == "inv_2"
    worker.say(type="cancel", id="inv_1")
    worker.say(type="shutdown", grace_ms=5000)
    assert worker.process.wait(10) == 0


def test_another_version_of_the_protocol_is_refused(worker):
    worker.say(type="hello", protocol=2)
    assert worker.process.wait(10) == 1


def test_one_request(make_request):
    def answer(subject):
        return subprocess.run([sys.executable, "-m", "mairust.plugin", "hooks_example.py", "--oneshot"], cwd=HERE, env=ENV,
                              input=json.dumps(make_request(subject)).encode(), capture_output=True)

    good = answer("Hello")
    assert (good.returncode, json.loads(good.stdout)) == (0, {"verdict": "allow", "score": 0.5})
    bad = answer("fail")
    assert bad.returncode == 1 and bad.stdout == b"" and b"Traceback" in bad.stderr


def test_mistakes_are_told():
    def run(*arguments, **env):
        ran = subprocess.run([sys.executable, "-m", "mairust.plugin", *arguments], cwd=HERE, env={**ENV, **env},
                             capture_output=True, text=True)
        return ran.returncode, ran.stderr

    assert run("nothing:app") == (2, "error: there is no module nothing\n")
    assert run("nothing.py") == (2, "error: there is no file nothing.py\n")
    assert run("hooks_example:other")[0] == 2
    assert run("hooks_example:log") == (2, "error: log in hooks_example is no mairust.App, but Logger\n")
    assert run("hooks_example:app", "--http", "127.0.0.1:0", MAIRUST_SECRET="")[0] == 2


def test_hooks_tell_what_they_want():
    ran = subprocess.run([sys.executable, "-m", "mairust.plugin", "hooks_example:app", "--describe"], cwd=HERE, env=ENV,
                         capture_output=True, check=True)
    told = json.loads(ran.stdout)
    assert told["read"] == {"read_headers": True, "read_body": "full", "read_attachments": "metadata"}
    assert [hook["name"] for hook in told["hooks"]] == ["judge", "ticket"]


class UnixConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


@pytest.fixture(params=["tcp", "unix"])
def endpoint(request, tmp_path):
    """A connection to an endpoint, which is kept."""
    path = tmp_path / "hooks.sock"
    where = "127.0.0.1:0" if request.param == "tcp" else f"unix:{path}"
    env = {**ENV, "MAIRUST_SECRET": SECRET, "MAIRUST_PLUGIN_ID": "com.example.test"}
    process = subprocess.Popen([sys.executable, "-m", "mairust.plugin", "hooks_example:app", "--http", where], cwd=HERE,
                               env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    ready = process.stderr.readline().split()[-1]
    if request.param == "tcp":
        connection = http.client.HTTPConnection(ready.removeprefix("http://"), timeout=10)
    else:
        connection = UnixConnection(str(path), timeout=10)
    yield connection
    connection.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stderr.close()
    assert not path.exists()


def test_sockets_of_the_dead_are_removed_and_others_are_not(tmp_path):
    path = tmp_path / "hooks.sock"
    env = {**ENV, "MAIRUST_SECRET": SECRET}
    arguments = [sys.executable, "-m", "mairust.plugin", "hooks_example:app", "--http", f"unix:{path}"]
    for end in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(arguments, cwd=HERE, env=env, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr.readline().endswith(f"unix:{path}\n")
            second = subprocess.run(arguments, cwd=HERE, env=env, capture_output=True, text=True)
            assert (second.returncode, second.stderr) == (2, f"error: unix:{path}: Address already in use\n")
            process.send_signal(end)
    assert not path.exists()


def ask(connection, body, call, secret=SECRET, method="POST", **headers):
    now = str(int(time.time()))
    signed = signature.sign(signature.parse_secret(secret), call, now, body)
    headers = {"X-MaiRust-Request-Id": call, "X-MaiRust-Timestamp": now, "X-MaiRust-Signature": signed, **headers}
    connection.request(method, "/", body if method == "POST" else None, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status == 200:
        expected = signature.sign_response(signature.parse_secret(secret), call, now, content)
        assert response.headers["X-MaiRust-Response-Signature"] == expected
    return response.status, json.loads(content) if content else None


def test_an_endpoint_answers_who_knows_the_secret(endpoint, make_request):
    body = json.dumps(make_request()).encode()
    assert ask(endpoint, body, "inv_1") == (200, {"verdict": "allow", "score": 0.5})
    other = "whsec_" + "B" * 43 + "="
    assert ask(endpoint, body, "inv_1", secret=other) == (401, None)
    assert ask(endpoint, body, "inv_1", **{"X-MaiRust-Timestamp": "1"})[0] == 401
    assert ask(endpoint, b"", "inv_h", method="GET") == (200, {"status": "ok"})
    strange = make_request()
    strange["plugin"]["id"] = "com.example.other"
    assert ask(endpoint, json.dumps(strange).encode(), "inv_2") == (401, None)


def test_an_endpoint_answers_the_same_request_once(endpoint, make_request):
    assert ask(endpoint, json.dumps(make_request()).encode(), "inv_1")[1]["verdict"] == "allow"
    # By its id, which is signed, it is the same.
    assert ask(endpoint, json.dumps(make_request("refuse")).encode(), "inv_1")[1]["verdict"] == "allow"


@pytest.mark.parametrize("subject, status", [("fail", 500), ("exit", 500), ("bool", 500), ("wait", 504)])
def test_an_endpoint_tells_nothing_about_failures(endpoint, make_request, subject, status):
    body = json.dumps(make_request(subject)).encode()
    assert ask(endpoint, body, "inv_1", **{"X-MaiRust-Deadline-Ms": "300"}) == (status, None)
    assert ask(endpoint, json.dumps(make_request()).encode(), "inv_2")[0] == 200
