"""Hooks that are processes of the server: what becomes of mail, and of them, when one of both ends."""

import json
import os
import pathlib
import signal
import sys

import pytest
from conftest import wait_until
from test_hooks import bind_program, letter, receive
from test_policy import Site

NAME = "com.example.worker"

# Says who it is, writes where it should not, and refuses nothing. It never ends by itself but with its input.
WORKER = """
import json, os, pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[1])
if (folder / "broken").exists():
    sys.exit("not today")
started = subprocess.Popen(["sleep", "1000"])
print("a forgotten print")
print("café, and \\x1b[31mred", file=sys.stderr)
for line in sys.stdin:
    frame = json.loads(line)
    if frame["type"] == "hello":
        (folder / "pids").write_text(f"{os.getpid()} {started.pid}")
        print('{"type":"ready","protocol":1,"max_inflight":4}')
    elif frame["type"] == "hook":
        reason = " ".join([*frame["request"]["plugin"]["config"], str(os.getpid())])
        print('{"type":"result","id":"%s","response":{"verdict":"allow","reason":"%s"}}' % (frame["id"], reason))
    elif frame["type"] == "health":
        print('{"type":"health","id":"%s","status":"ok"}' % frame["id"])
    elif frame["type"] == "shutdown":
        (folder / "goodbye").write_text("")
        break
"""


@pytest.fixture
def site(servers, tmp_path):
    return Site(servers, tmp_path)


@pytest.fixture
def bound(site, tmp_path):
    """A worker that is bound, and has been asked once."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    bind_program(site, NAME, "--on", "pre_receive", "--required", "--timeout", "3s",
                 program=[sys.executable, script, tmp_path])
    assert receive(site, letter("first"))[0] == 250
    return site


def processes(folder):
    """The worker and what it has started."""
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def lives(pid):
    """Whether it runs; who has ended and waits for its parent does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def gone(pids):
    return lambda: not any(map(lives, pids))


def lines(site, **fields):
    """The lines of the log that have these fields."""
    entries = (json.loads(line) for line in site.server.log().splitlines() if line.startswith("{"))
    return [entry for entry in entries if fields.items() <= entry.items()]


def metric(site, name):
    key = site.json("apikey", "create", "metrics", "--scope", "metrics:read")["key"]
    text = site.api.request("GET", "/metrics", headers={"Authorization": f"Bearer {key}"}).body.decode()
    found = [line for line in text.splitlines() if line.startswith(f'mairust_{name}{{plugin="{NAME}"')]
    return int(found[0].split()[-1]) if found else 0


def test_a_worker_that_is_killed_is_started_again(bound, tmp_path):
    old = processes(tmp_path)
    os.kill(old[0], signal.SIGKILL)
    wait_until(gone(old), "the end of the worker and of what it has started")
    # It waits for a second before it is started again, and the message for no longer than its time.
    assert receive(bound, letter("second"))[0] == 250
    new = processes(tmp_path)
    assert not set(old) & set(new)
    assert metric(bound, "plugin_restarts_total") == 1
    call = bound.json("hook", "deliveries", NAME)[0]
    assert call["outcome"] == "allow" and str(new[0]) in bound.run("hook", "explain", call["id"]).stdout
    # What it printed is in the log, where it can do no harm.
    said = {(line["stream"], line["message"]) for line in lines(bound, component="plugin", plugin=NAME) if "stream" in line}
    assert {("stdout", "a forgotten print"), ("stderr", "café, and \\u{1b}[31mred")} <= said
    assert metric(bound, "plugin_lines_ignored_total") == 2


def test_a_worker_ends_with_its_binding_and_with_the_server(bound, tmp_path):
    old = processes(tmp_path)
    bound.run("hook", "change", NAME, "--plugin-config", '{"new": 1}')
    assert receive(bound, letter("second"))[0] == 250
    assert "new " in bound.run("hook", "explain", bound.json("hook", "deliveries", NAME)[0]["id"]).stdout
    wait_until(gone(old), "the end of the worker with the old settings")
    (tmp_path / "goodbye").unlink()
    last = processes(tmp_path)
    assert bound.server.stop() == 0
    assert (tmp_path / "goodbye").exists() and gone(last)(), "all have ended before the server"


def test_a_worker_ends_with_a_server_that_is_killed(bound, tmp_path):
    worker, _ = processes(tmp_path)
    bound.server.kill()
    wait_until(gone([worker]), "the end of the worker")


def test_a_program_that_does_not_start_is_given_up_until_somebody_resets_it(bound, tmp_path):
    (tmp_path / "broken").touch()
    os.kill(processes(tmp_path)[0], signal.SIGKILL)
    wait_until(lambda: lines(bound, message="a worker ended too often and is given up"), "giving up", timeout=60)
    assert lines(bound, component="plugin", plugin=NAME, message="not today")
    # One message is enough to open the breaker.
    assert receive(bound, letter("second"))[0] == 451
    hook = bound.json("hook", "show", NAME)["id"]
    point = bound.api.json(f"/api/v1/hooks/{hook}/circuit")["points"][0]
    assert (point["state"], point["reason"]) == ("open", "crash_loop")
    (tmp_path / "broken").unlink()
    bound.run("hook", "circuit", NAME, "reset")
    assert receive(bound, letter("third"))[0] == 250
