"""The callback API: hooks over HTTP that ask for more about a message, and tell results later, with a Python server."""

import http.server
import json
import os
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
import uuid
from email.message import EmailMessage

import pytest
from conftest import Api, run, wait_until
from test_hook_guide import block
from test_hooks import bind_program, receive
from test_policy import ALICE, Site

BOB = "bob@remote.example"
ALL = [f"--grant={grant}" for grant in (
    "read-headers", "read-body=full", "read-attachments=full", "write-tags", "write-flags", "move-message",
    "write-metadata", "decide=reject,quarantine")]


class Program:
    """A hook over HTTP. What it does with a request is up to `act`, which returns a status and an answer."""

    def __init__(self):
        self.requests, self.act = [], lambda request: (202, None)
        program = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = program.act(request)
                body = json.dumps(answer).encode() if answer else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                program.requests.append(request)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def got(self, count=1):
        wait_until(lambda: len(self.requests) >= count, f"{count} calls")
        return self.requests[count - 1]


class Callback:
    """What a program does with `callback`: nothing but what the guide says."""

    def __init__(self, request):
        self.base, self.token = request["callback"]["base"], request["callback"]["token"]
        self.call = request["invocation_id"]

    def __call__(self, path, body=None, **fields):
        """The status, the header fields and the body."""
        fields = {"Authorization": f"Bearer {self.token}", **fields}
        if body is not None:
            fields = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4()), **fields}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/{path}", data, fields)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def complete(self, **result):
        return self(f"invocations/{self.call}/complete", {"status": "done", **result})[0]


@pytest.fixture
def site(servers, tmp_path):
    return Site(servers, tmp_path)


@pytest.fixture
def program():
    program = Program()
    yield program
    program.stop()


def bind(site, program, *options):
    return site.json("hook", "add", "com.example.asks", "--http", program.url, "--private-address", *options)


def letter():
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = BOB, ALICE, "見積もりの件"
    message.set_content("本文です。\n" * 3, charset="utf-8")
    message.add_attachment(bytes(range(256)) * 512, maintype="application", subtype="pdf", filename="見積.pdf")
    return message


def only(site):
    return site.api.messages()[0]


def test_a_program_reads_what_is_granted_while_the_sender_waits(site, program):
    bind(site, program, "--on", "pre_receive", *ALL)
    read = {}

    def look(request):
        ask, message = Callback(request), request["message"]
        read["raw"] = ask(message["raw"]["href"])[2]
        read["part"] = ask(message["raw"]["href"], Range="bytes=0-9")
        read["text"] = ask(message["body"]["href"])[2].decode()
        read["file"] = ask(message["attachments"][0]["href"])
        read["late"] = ask.complete()
        read["act"] = ask(f"{message['raw']['href'].removesuffix('/raw')}/actions", {"actions": []})[0]
        return 200, {"verdict": "allow", "actions": [{"op": "tag.add", "tags": ["read"]}]}

    program.act = look
    assert receive(site, letter())[0] == 250
    request = program.got()
    assert read["text"].startswith("本文です。") and len(read["raw"]) == request["message"]["size"]
    assert read["part"][0] == 206 and read["part"][2] == read["raw"][:10]
    status, fields, octets = read["file"]
    assert (status, octets) == (200, bytes(range(256)) * 512)
    assert fields["Content-Disposition"].startswith("attachment;") and fields["X-Content-Type-Options"] == "nosniff"
    assert read["late"] == 409 and read["act"] == 409, "somebody waits: what there is to say belongs into the answer"
    assert only(site)["tags"] == ["read"]
    # Its token is good for as long as the call.
    assert Callback(request)("self")[0] == 401
    assert only(site)["id"] != request["message"]["id"] is None


def test_a_result_comes_later_over_a_crash(site, program, tmp_path):
    bind(site, program, "--on", "post_receive", *ALL)
    assert receive(site, letter())[0] == 250
    request = program.got()
    ask = Callback(request)
    wait_until(lambda: site.json("hook", "deliveries", "com.example.asks"), "the call to be written down")
    site.server.kill()
    site.server.start()
    ask.base = f"{site.server.ready['http'].rstrip('/')}/api/plugin/v1"
    status, _, own = ask("self")
    assert status == 200 and json.loads(own)["invocation_id"] == request["invocation_id"]
    assert ask(f"messages/{request['message']['id']}/raw")[2].count(b"Subject:") == 1
    assert ask("logs", [{"level": "warn", "msg": "half way through", "fields": {"pages": 3}}])[0] == 200
    assert ask(f"messages/{request['message']['id']}/actions", {"actions": [{"op": "tag.add", "tags": ["soon"]}]})[0] == 200
    assert only(site)["tags"] == ["soon"]
    assert json.loads(ask(f"invocations/{ask.call}/progress", {})[2])["result_by"]
    wanted = [{"op": "tag.add", "tags": ["scanned"]}, {"op": "move", "folder": "Junk"},
              {"op": "metadata.set", "key": "pages", "value": 3}]
    assert ask.complete(score=7.5, reason="it has pages", actions=wanted) == 200
    wait_until(lambda: only(site)["folder"] == "Junk", "the result to be taken up")
    assert sorted(only(site)["tags"]) == ["scanned", "soon"]
    assert ask.complete(actions=[]) == 409, "once"
    assert len(program.requests) == 1
    call = wait_until(lambda: [call for call in site.json("hook", "deliveries", "com.example.asks")
                               if call["outcome"] == "allow"], "the result to be written down")[0]
    assert (call["id"], call["score"], call["detail"]) == (ask.call, 7.5, "it has pages")
    acted = [entry["event_type"] for entry in site.json("audit", "list")
             if entry["actor"] == {"type": "plugin", "id": "com.example.asks", "ip": None}]
    assert sorted(acted) == ["callback.actions", "callback.completed", "callback.progressed"]
    assert "half way through" in site.server.log()
    key = site.json("apikey", "create", "metrics", "--scope", "metrics:read")["key"]
    metrics = Api(site.server.ready["http"], key).bytes("/metrics").decode()
    assert ('mairust_plugin_callback_requests_total{plugin="com.example.asks",'
            'route="/invocations/{id}/complete",status="200"} 1') in metrics


def test_a_result_that_is_told_before_202_counts(site, program):
    bind(site, program, "--on", "post_receive", "--grant=read-headers", "--grant=write-tags")

    def hurry(request):
        assert Callback(request).complete(actions=[{"op": "tag.add", "tags": ["early"]}]) == 200
        return 202, None

    program.act = hurry
    assert receive(site, letter())[0] == 250
    wait_until(lambda: only(site)["tags"] == ["early"], "the result to be taken up")
    assert len(program.requests) == 1


def test_the_command_of_the_guide_tells_a_result(site, program):
    bind(site, program, "--on", "post_receive", "--grant=read-headers", "--grant=write-tags")
    assert receive(site, letter())[0] == 250
    request = program.got()
    callback, call = request["callback"], request["invocation_id"]
    done = subprocess.run(
        ["sh", "-c", "\n".join(block("callback: later"))], capture_output=True, text=True, check=True,
        env={**os.environ, "BASE": callback["base"], "TOKEN": callback["token"], "CALL": call})
    assert json.loads(done.stdout) == {"invocation_id": call, "status": "done"}
    wait_until(lambda: only(site)["tags"] == ["scanned"], "the result to be taken up")


def test_a_process_reads_all_of_a_message(site, tmp_path):
    script = tmp_path / "size.py"
    script.write_text(textwrap.dedent("""\
        import json, sys, urllib.request
        request = json.load(sys.stdin)
        callback, raw = request["callback"], request["message"]["raw"]
        asked = urllib.request.Request(f"{callback['base']}/{raw['href']}",
                                       headers={"Authorization": "Bearer " + callback["token"]})
        with urllib.request.urlopen(asked) as response:
            assert len(response.read()) == raw["size"]
        json.dump({"verdict": "allow", "actions": [{"op": "tag.add", "tags": [f"octets:{raw['size']}"]}]}, sys.stdout)
    """))
    bind_program(site, "com.example.size", "--on", "pre_receive", "--process", "oneshot", "--timeout", "3s", "--required",
                 *ALL, program=[sys.executable, script])
    assert receive(site, letter())[0] == 250
    assert only(site)["tags"][0].startswith("octets:17")


def test_what_was_given_up_is_made_once_more(site, program):
    made = bind(site, program, "--on", "post_receive", "--grant=read-headers", "--grant=write-tags")
    program.act = lambda request: (410, None)
    assert receive(site, letter())[0] == 250
    call = program.got()["invocation_id"]
    wait_until(lambda: not site.json("hook", "show", made["id"])["enabled"], "the hook to be disabled")
    wait_until(lambda: site.json("hook", "deliveries", made["id"]), "the call to be written down")
    site.run("hook", "enable", made["id"])
    program.act = lambda request: (200, {"verdict": "allow", "actions": [{"op": "tag.add", "tags": ["at-last"]}]})
    wait_until(lambda: site.json("hook", "retry", made["id"], "--call", call)["retried"], "the job to be given up")
    wait_until(lambda: only(site)["tags"] == ["at-last"], "the call to be made once more")
    assert program.got(2)["invocation_id"] == call and program.requests[1]["attempt"] == 2
    path = f"/api/v1/hooks/{made['id']}"
    again = site.api.request("POST", f"{path}/deliveries/{call}/retry")
    assert (again.status, json.loads(again.body)["code"]) == (409, "invalid_state")
    several = site.api.request("POST", f"{path}/retry", {"since": "2026-01-01T00:00:00Z"})
    assert (several.status, json.loads(several.body)) == (202, {"retried": 0})
    assert site.api.request("POST", f"{path}/retry", {"since": "yesterday"}).status == 422
    assert len(site.events("hook.retried")) == 1


def test_tokens_and_keys_are_no_use_for_each_other(site, program):
    bind(site, program, "--on", "post_receive", "--grant=read-headers", "--grant=write-tags")
    assert receive(site, letter())[0] == 250
    ask = Callback(program.got())
    assert Api(site.server.ready["http"], ask.token).request("GET", "/api/v1/messages").status == 401
    assert Api(site.server.ready["http"], site.key).request("GET", "/api/plugin/v1/self").status == 401
    assert Api(site.server.ready["http"], ask.token).request("GET", "/api/plugin/v1/self").status == 200


def test_a_trial_waits_for_nothing(site, program):
    made = bind(site, program, "--on", "post_receive", "--grant=read-headers", "--grant=write-tags")
    tried = site.api.request("POST", f"/api/v1/hooks/{made['id']}/test", {})
    trial = json.loads(tried.body)
    assert (tried.status, trial["outcome"], trial["request"]["callback"]) == (200, "accepted", None)
    ask = Callback(program.got())
    assert ask.complete(actions=[{"op": "tag.add", "tags": ["x"]}]) == 200
    assert run("hook", "test", "com.example.asks", "-c", site.config).returncode == 0
    assert program.got(2)["callback"] is None, "a command serves no API"


def test_where_programs_call_back_can_be_said(servers, tmp_path, program):
    site = Site(servers, tmp_path, hooks={"callback_url": "https://mail.example.com/behind/a/proxy/"})
    bind(site, program, "--on", "pre_receive")
    program.act = lambda request: (204, None)
    assert receive(site, letter())[0] == 250
    assert program.got()["callback"]["base"] == "https://mail.example.com/behind/a/proxy/api/plugin/v1"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("hooks:\n  callback_url: ftp://x\n  pre_receive_budget: 31s\n")
    checked = run("config", "check", "-c", wrong, check=False)
    assert checked.returncode != 0
    assert "hooks.callback_url" in checked.stderr + checked.stdout
    assert "hooks.pre_receive_budget" in checked.stderr + checked.stdout
