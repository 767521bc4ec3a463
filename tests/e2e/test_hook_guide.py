"""The commands of docs/hooks.md, as they are written there, against the server that is shipped."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import pytest
from conftest import BINARY, ROOT, free_port, run, wait_until
from test_hooks import found, letter, reachable, receive
from test_policy import Site

GUIDE = (ROOT / "docs/hooks.md").read_text()
INVOCATION = "inv_01JABCDEFGHJKMNPQRSTVWXYZ0"


@pytest.fixture
def site(servers, tmp_path):
    return Site(servers, tmp_path)


@pytest.fixture
def programs(tmp_path):
    """What the guide calls /opt/hooks: the samples, and the file of docs/python.md with the package beside it."""
    folder = tmp_path / "hooks"
    folder.mkdir()
    for name in ("worker.py", "oneshot.py"):
        shutil.copy(ROOT / "examples/hooks/stdin" / name, folder)
    (folder / "mairust").symlink_to(ROOT / "mairust-py/python/mairust")
    python = (ROOT / "docs/python.md").read_text()
    (folder / "my_hooks.py").write_text(re.search(r"<!-- example: my_hooks.py -->\n```python\n(.*?)```", python, re.DOTALL)[1])
    (folder / "crm.py").write_text("def create(address, text):\n    return 1\n")
    return folder


def block(marker):
    """The lines of a block, with those joined that go on."""
    text = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", GUIDE, re.DOTALL)[1]
    return text.replace("\\\n", " ").splitlines()


def follow(site, name, replace=()):
    """Runs the commands of a block, as somebody would who copies them; what each prints, as JSON."""
    printed = []
    for line in block(f"commands: {name}"):
        for old, new in dict(replace).items():
            assert any(old in other for other in block(f"commands: {name}")), f"the guide does not say {old}"
            line = line.replace(old, str(new))
        program, *arguments = shlex.split(line, comments=True)
        assert program == "mairust"
        place = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[place:place] = ["--output", "json"]
        printed.append(json.loads(run(*arguments, env=os.environ | {"MAIRUST_CONFIG": str(site.config)}).stdout))
    return printed


def wait_for_call(site, hook, point, outcome):
    called = lambda: [one for one in site.json("hook", "deliveries", hook) if (one["point"], one["outcome"]) == (point, outcome)]
    return wait_until(called, f"{outcome} at {point}")[0]


def test_every_command_is_one():
    """What other blocks show, too, has subcommands and options that are there."""
    for line in re.findall(r"^mairust .*", GUIDE.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(line, comments=True)[1:]
        words = words[:words.index("--")] if "--" in words else words
        levels = 1 if words[0] == "serve" else 2
        shown = subprocess.run([BINARY, *words[:levels], "--help"], capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0, line
        if words[0] == "hook":
            missing = [word for word in words if word.startswith("--") and word not in shown.stdout]
            assert not missing, (line, missing)


def test_the_closure_is_the_one_that_is_run():
    """By test_examples.py."""
    shown = re.search(r"```rust,ignore\n(.*?)```", GUIDE, re.DOTALL)[1]
    assert textwrap.indent(shown, " " * 8) in (ROOT / "examples/rust/hello.rs").read_text()


def test_programs(site, programs):
    follow(site, "programs", {"/opt/hooks": programs})
    assert receive(site, letter("unwanted", X_Test_Reject="1"))[0] == 550
    assert receive(site, letter("a receipt"))[0] == 250
    assert found(site, "a receipt")["tags"] == ["receipt"]
    wait_for_call(site, "com.example.worker", "pre_receive", "reject")
    wait_for_call(site, "com.example.oneshot", "pre_receive", "allow")


def test_python(site, programs):
    follow(site, "python", {"/opt/hooks": programs, "/usr/bin/python3": sys.executable})
    assert receive(site, letter("hello"))[0] == 250
    assert receive(site, letter("a program", attachment="setup.exe"))[0] == 250
    wait_for_call(site, "com.example.my-hooks", "post_receive", "allow")
    kept = found(site, "a program")
    assert (kept["folder"], kept["tags"]) == ("Quarantine", ["exe"])
    assert found(site, "hello")["folder"] == "INBOX"


@pytest.fixture
def sample(site):
    """The hook over HTTP, bound and started as the guide says."""
    port = free_port()
    [made] = follow(site, "http", {"127.0.0.1:8081": f"127.0.0.1:{port}"})
    code, text = receive(site, letter("too early"))
    assert code == 451 and text.startswith("4.3.0 Policy service unavailable"), text
    [line] = block("start: http")
    line = line.replace("whsec_…", made["secret"]).replace("python3", sys.executable).replace(":8081", f":{port}")
    words = shlex.split(line)
    settings = dict(word.split("=", 1) for word in words[:2])
    process = subprocess.Popen(words[2:], cwd=ROOT, env=os.environ | settings, stderr=subprocess.DEVNULL)
    wait_until(lambda: reachable(port), "the sample to listen")
    yield made
    process.kill()
    process.wait(30)


def test_http_and_breakers_by_hand(site, sample):
    assert receive(site, letter("an invoice"))[0] == 250
    assert found(site, "an invoice")["tags"] == ["invoice"]
    states = [made["circuit"] for made in follow(site, "circuit")]
    assert states == ["forced_open", "disabled", "automatic", "automatic"]
    run("hook", "circuit", "com.example.sample", "force-open", "-c", site.config)
    assert receive(site, letter("not now"))[0] == 451
    wait_for_call(site, "com.example.sample", "pre_receive", "breaker_open")


def test_from_the_shadow_to_the_end(site, sample):
    _, tried, *_ = follow(site, "trial")
    assert (tried["outcome"], tried["request"]["mode"]) == ("allow", "test")
    assert receive(site, letter("on trial", X_Test_Reject="1"))[0] == 250
    assert wait_for_call(site, "com.example.sample", "pre_receive", "reject")["mode"] == "shadow"
    follow(site, "enforce")
    code, text = receive(site, letter("unwanted", X_Test_Reject="1"))
    assert code == 550
    call = re.search(r"\[(inv_[0-9A-Z]{26})\]$", text)[1]
    explained = site.run("hook", "explain", call).stdout
    assert "so the message was refused for good" in explained
    assert receive(site, letter("an invoice"))[0] == 250
    kept = wait_for_call(site, "com.example.sample", "pre_receive", "allow")
    explained, replayed = follow(site, "explain", {INVOCATION: kept["id"]})
    assert explained["message_id"] == found(site, "an invoice")["id"]
    assert (replayed["outcome"], replayed["request"]["mode"]) == ("allow", "replay")
    assert follow(site, "retry") == [{"retried": 0}, {"retried": 0}], "nobody asks at post_receive here"
    follow(site, "end")
    assert site.json("hook", "list") == []
    assert receive(site, letter("nobody asks", X_Test_Reject="1"))[0] == 250
