"""The wheel in a fresh virtual environment: what docs/python.md promises, under clients of somebody else's."""

import email.message
import json
import os
import pathlib
import re
import signal
import smtplib
import socket
import statistics
import subprocess
import sys
import threading
import time

import pytest
from conftest import BINARY, DEV_PORTS, ROOT, Api, Server, free_port, run, wait_until

DOCUMENT = (ROOT / "docs/python.md").read_text()
USER = "support@example.com"
CRM = "def create(address, text):\n    assert '@' in address\n    return 1\n"


def example(name):
    """An example as it is written."""
    return re.search(rf"<!-- example: {re.escape(name)} -->\n```python\n(.*?)```", DOCUMENT, re.DOTALL)[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A fresh virtual environment with the wheel in it: its Python."""
    wheel = os.environ.get("MAIRUST_WHEEL")
    if not wheel:
        pytest.fail("MAIRUST_WHEEL names no built wheel; tests/run builds it")
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "-q", "--no-index", wheel], check=True)
    return folder / "bin/python"


@pytest.fixture
def program(python, tmp_path):
    """Runs programs in the folder of the test, and ends them."""
    processes = []

    def start(*arguments, ready=None, env=None):
        with open(tmp_path / "log.txt", "ab") as log:
            process = subprocess.Popen([python, *map(str, arguments)], cwd=tmp_path, stdout=log, stderr=log,
                                       env={**os.environ, **(env or {})})
        processes.append(process)
        if ready:
            wait_until(lambda: ready() or process.poll() is not None, "start", 60)
        assert process.poll() is None, (tmp_path / "log.txt").read_text()
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def accepts(port):
    def connected():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return connected


def message(subject="hello", attachment=None):
    made = email.message.EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@sender.example", USER, subject
    made.set_content("the text\n")
    if attachment:
        made.add_attachment(b"MZ", maintype="application", subtype="octet-stream", filename=attachment)
    return made.as_bytes(policy=made.policy.clone(linesep="\r\n"))


def send(port, octets, recipient=USER):
    """The reply to a message."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        try:
            client.sendmail("a@sender.example", [recipient], octets)
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code, refused.smtp_error.decode()
        return 250, ""


def stored(python, folder):
    """What the storage of the example has."""
    code = ("import json, mairust; print(json.dumps([[one.subject, one.folder, one.tags] for one in "
            f"mairust.sqlite('mail.db', bodies='mail').messages({USER!r})]))")
    return json.loads(subprocess.run([python, "-c", code], cwd=folder, check=True, capture_output=True).stdout)


def add_user(python, folder):
    code = f"import mairust; mairust.sqlite('mail.db', bodies='mail').add_user({USER!r}, 'correct horse')"
    subprocess.run([python, "-c", code], cwd=folder, check=True)


def test_the_example_runs_as_it_is_written(python, program, tmp_path):
    (tmp_path / "my_hooks.py").write_text(example("my_hooks.py"))
    (tmp_path / "crm.py").write_text(CRM)
    add_user(python, tmp_path)
    server = program("my_hooks.py", ready=accepts(2525))
    assert send(2525, message("hello"))[0] == 250
    assert send(2525, message("a program", "setup.exe"))[0] == 250
    wait_until(lambda: all("ticket:1" in tags for _, _, tags in stored(python, tmp_path)), "tickets")
    server.send_signal(signal.SIGINT)
    assert server.wait(40) == 0, (tmp_path / "log.txt").read_text()
    assert stored(python, tmp_path) == [["hello", "INBOX", ["ticket:1"]], ["a program", "Quarantine", ["exe", "ticket:1"]]]


def test_its_tests_pass(python, tmp_path):
    (tmp_path / "my_hooks.py").write_text(example("my_hooks.py").replace("server.run()", 'if __name__ == "__main__":\n    server.run()'))
    (tmp_path / "test_my_hooks.py").write_text(example("test_my_hooks.py"))
    (tmp_path / "crm.py").write_text(CRM)
    (tmp_path / "invoice.eml").write_bytes(message("請求書のご案内"))
    (tmp_path / "program.eml").write_bytes(message("a program", "setup.exe"))
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(pytest.__file__).parents[1])}
    ran = subprocess.run([python, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"], cwd=tmp_path, env=env,
                         capture_output=True, text=True)
    assert ran.returncode == 0 and "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_example_is_a_worker_and_needs_no_native_module(python, tmp_path):
    (tmp_path / "my_hooks.py").write_text(example("my_hooks.py"))
    (tmp_path / "crm.py").write_text(CRM)
    block = "import sys; sys.modules['mairust._mairust'] = None; sys.argv[0:1] = []; import runpy; "
    worker = subprocess.Popen([python, "-c", block + "runpy.run_module('mairust.plugin', run_name='__main__')", "plugin", "my_hooks:app"],
                              cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    request = json.loads((ROOT / "docs/schema/examples/request-pre-receive.json").read_text())
    request["auth_results"]["dmarc"]["result"] = "fail"
    assert "請求書" in next(one["value"] for one in request["message"]["headers"] if one["name"] == "Subject")
    frames = [{"type": "hello", "protocol": 1, "max_inflight": 4}, {"type": "hook", "id": "inv_1", "request": request}]
    try:
        worker.stdin.write("".join(json.dumps(frame) + "\n" for frame in frames).encode())
        worker.stdin.flush()
        assert json.loads(worker.stdout.readline())["type"] == "ready"
        smtp = {"code": 550, "enhanced": "5.7.1", "text": "Lookalike invoice"}
        assert json.loads(worker.stdout.readline())["response"]["smtp"] == smtp
        worker.stdin.close()
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()


HOSTILE = """
import logging, sys
import mairust

app = mairust.App()
logging.basicConfig(format="%(levelname)s %(name)s %(invocation_id)s %(message)s")
for handler in logging.getLogger().handlers:
    handler.addFilter(mairust.InvocationFilter())

@app.pre_receive(priority=1, timeout=0.5, on_failure="ON_FAILURE")
def sync_hook(msg):
    if msg.subject == "sync loop":
        while True:
            pass
    if msg.subject == "exit":
        sys.exit("a secret")
    if msg.subject == "raise":
        raise RuntimeError("a secret")
    if msg.subject == "wrong":
        return "reject"

@app.pre_receive(priority=2, timeout=0.5, on_failure="ON_FAILURE")
async def async_hook(msg):
    if msg.subject == "async loop":
        while True:
            pass

server = mairust.Server("mx.example.com", storage=mairust.memory(), server_key=bytes(range(32)), verify_senders=False)
server.add_user("support@example.com", "correct horse")
server.listen_smtp("127.0.0.1:PORT").listen_http("127.0.0.1:HTTP").mount(app)
print("key", server.create_api_key("test"), flush=True)
server.run()
"""


@pytest.fixture
def hostile(program, tmp_path):
    def start(on_failure):
        port, http = free_port(), free_port()
        text = HOSTILE.replace("PORT", str(port)).replace("HTTP", str(http)).replace("ON_FAILURE", on_failure)
        (tmp_path / "hostile.py").write_text(text)
        process = program("hostile.py", ready=lambda: accepts(port)() and accepts(http)())
        key = re.search(r"^key (\S+)$", (tmp_path / "log.txt").read_text(), re.MULTILINE)[1]
        return process, port, Api(f"http://127.0.0.1:{http}", key)

    return start


@pytest.mark.parametrize("on_failure, code", [("tempfail", 451), ("reject", 550), ("quarantine", 250), ("allow", 250)])
def test_a_failure_is_what_on_failure_says(hostile, tmp_path, on_failure, code):
    process, port, api = hostile(on_failure)
    for subject in ("raise", "exit", "wrong"):
        reply, text = send(port, message(subject))
        assert reply == code and "secret" not in text and "Traceback" not in text
        assert code == 250 or re.search(r"\[inv_[0-9A-Z]{26}\]$", text)
        assert send(port, message("fine"))[0] == 250
    log = (tmp_path / "log.txt").read_text()
    assert re.search(r"ERROR mairust.hooks inv_[0-9A-Z]{26} the hook sync_hook failed\nTraceback", log) and "a secret" in log
    folders = {one["subject"]: one["folder"]["name"] if isinstance(one["folder"], dict) else one["folder"] for one in api.messages()}
    assert folders.pop("fine") == "INBOX"
    assert set(folders.values()) == {"tempfail": set(), "reject": set(), "quarantine": {"Quarantine"}, "allow": {"INBOX"}}[on_failure]
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0


def banners(port, count=60):
    """How long it takes until the server greets, in seconds."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            assert client.recv(3) == b"220"
        times.append(time.monotonic() - began)
    return statistics.median(times), sorted(times)[int(count * 0.99) - 1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hook_that_never_ends_delays_no_other_session(hostile, capsys, kind):
    process, port, api = hostile("tempfail")
    assert send(port, message("fine"))[0] == 250
    before = banners(port)
    replies = []
    sender = threading.Thread(target=lambda: replies.append(send(port, message(f"{kind} loop"))))
    sender.start()
    during = banners(port)
    sender.join()
    after = banners(port)
    with capsys.disabled():
        print(f"\nbanners, p50/p99 in ms, {kind} hook that never ends:",
              *(f"{name} {p50 * 1000:.1f}/{p99 * 1000:.1f}" for name, (p50, p99) in
                (("before", before), ("during", during), ("after", after))))
    assert replies[0][0] == 451
    for p50, p99 in (during, after):
        assert p50 < max(0.05, 3 * before[0]) and p99 < max(0.5, 3 * before[1])
    stuck = re.search(r"^mairust_py_stuck_threads (\d+)$", api.bytes("/metrics").decode(), re.MULTILINE)[1]
    if kind == "sync":
        # Another thread works in place of the one that is blocked.
        assert stuck == "1"
        assert send(port, message("fine"))[0] == 250
    else:
        # All coroutines share one loop: those hooks have no answer any more, and their breaker opens.
        assert stuck == "0"
        assert send(port, message("fine"))[0] == 451
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0


DEV_HOOKS = """
import logging
import mairust

app = mairust.App()

@app.pre_receive
async def hook(msg):
    logging.getLogger("my.hooks").warning("saw %s", msg.subject)
    raise mairust.Reject("VERDICT")
"""


def test_the_program_has_hooks(python, tmp_path):
    (tmp_path / "my_hooks.py").write_text(DEV_HOOKS.replace("VERDICT", "no"))
    server = Server(tmp_path, *DEV_PORTS, "--ephemeral", "--hooks", "my_hooks.py", binary=python.parent / "mairust")
    try:
        code, text = send(server.address()[1], message("hello"))
        assert code == 550 and text.startswith("5.7.1 no [inv_")
        id = re.search(r"\[(inv_\w+)\]", text)[1]
        wait_until(lambda: re.search(rf"saw hello.*{id}", server.log()), "the line in the log of the server")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(40) == 0 and "KeyboardInterrupt" not in server.log()
    finally:
        server.kill()


def test_the_same_file_is_an_endpoint(program, tmp_path):
    examples = os.environ.get("MAIRUST_EXAMPLES")
    assert examples, "MAIRUST_EXAMPLES names the folder of the built examples; tests/run sets it"
    (tmp_path / "my_hooks.py").write_text(DEV_HOOKS.replace("VERDICT", "not by HTTP"))
    secret, plugin, http, smtp = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "com.example.python", free_port(), free_port()
    endpoint = program("-m", "mairust.plugin", "my_hooks:app", "--http", f"127.0.0.1:{http}", ready=accepts(http),
                       env={"MAIRUST_SECRET": secret, "MAIRUST_PLUGIN_ID": plugin})
    env = {**os.environ, "HOOK_SECRET": secret, "HOOK_PLUGIN_ID": plugin}
    server = subprocess.Popen([pathlib.Path(examples) / "http_hook", f"http://127.0.0.1:{http}/", f"127.0.0.1:{smtp}"], env=env,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: accepts(smtp)() or server.poll() is not None, "start")
        code, text = send(smtp, message("hello"), "alice@example.com")
        assert code == 550 and text.startswith("5.7.1 not by HTTP [inv_")
        endpoint.kill()
        endpoint.wait()
        # Nobody answers in its name, and it is required.
        assert send(smtp, message("hello"), "alice@example.com")[0] == 451
    finally:
        server.terminate()
        server.wait(40)


def test_the_same_file_is_a_program_that_a_tenant_binds(python, servers, tmp_path):
    """The program without Python starts it, and asks it by its standard input."""
    (tmp_path / "my_hooks.py").write_text(DEV_HOOKS.replace("VERDICT", "not by standard input"))
    config = tmp_path / "mairust.yaml"
    config.write_text(f"""
server: {{hostname: mx.here.example, data_dir: {tmp_path}/data}}
smtp: {{listeners: [{{bind: "127.0.0.1:{free_port()}", kind: mx}}]}}
http: {{bind: "127.0.0.1:{free_port()}"}}
authentication: {{mode: "off"}}
log: {{format: text}}
""")
    run("domain", "add", "here.example", "--config", config)
    run("user", "add", "alice@here.example", "--config", config, "--password-stdin", input="correct horse\n")
    run("hook", "add", "com.example.python", "--on", "pre_receive", "--required", "--timeout", "3s", "--directory", tmp_path,
        "--grant", "read-headers", "--grant", "decide=reject", "--config", config, "--", python, "-m", "mairust.plugin", "my_hooks:app")
    server = servers("--config", config, command="serve")
    code, text = wait_until(
        lambda: (reply := send(server.address()[1], message(), "alice@here.example"))[0] != 451 and reply, "the worker is ready"
    )
    assert code == 550 and text.startswith("5.7.1 not by standard input [inv_"), text
    assert "saw hello" in server.log()
    assert server.stop() == 0


def test_the_program_starts_anew_when_hooks_change(python, tmp_path):
    (tmp_path / "my_hooks.py").write_text(DEV_HOOKS.replace("VERDICT", "one"))
    server = Server(tmp_path, *DEV_PORTS, "--ephemeral", "--hooks", "my_hooks.py", "--reload", binary=python.parent / "mairust")
    try:
        assert "one" in send(server.address()[1], message())[1]
        server.ready_file.unlink()
        (tmp_path / "my_hooks.py").write_text("a mistake")
        wait_until(lambda: "SyntaxError" in server.log(), "the mistake in the log")
        (tmp_path / "my_hooks.py").write_text(DEV_HOOKS.replace("VERDICT", "the second"))
        wait_until(server.ready_file.exists, "the new start")
        server.ready = json.loads(server.ready_file.read_text())
        assert "the second" in send(server.address()[1], message())[1]
        assert server.stop() == 0
    finally:
        server.kill()


def test_mistakes_are_told(python, tmp_path):
    def program(*arguments, binary=python.parent / "mairust"):
        ran = subprocess.run([binary, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return ran.returncode, ran.stderr

    code, error = program("dev", "--ephemeral", *DEV_PORTS, "--hooks", "missing.py")
    assert code != 0 and "there is no file missing.py" in error
    code, error = program("dev", "--ephemeral", *DEV_PORTS, "--hooks", "missing.py", binary=BINARY)
    assert code != 0 and "pip install mairust" in error
    code, error = program("dev", "--reload")
    assert code == 2 and "--hooks" in error


def test_the_types_of_the_native_module_are_right(python):
    # mypy is not in the fresh environment, but that of the tests has it.
    site = subprocess.run([python, "-c", "import mairust, os; print(os.path.dirname(os.path.dirname(mairust.__file__)))"],
                          capture_output=True, text=True, check=True).stdout.strip()
    env = {**os.environ, "PYTHONPATH": site}
    for check in (["mypy.stubtest", "mairust._mairust"], ["mypy", "--strict", "-p", "mairust"]):
        ran = subprocess.run([sys.executable, "-m", *check], env=env, capture_output=True, text=True, cwd=site)
        assert ran.returncode == 0, ran.stdout + ran.stderr
