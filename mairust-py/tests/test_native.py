"""Messages as the server reads them, and a server inside this process."""

import asyncio
import json
import logging
import os
import smtplib
import subprocess
import sys
import threading
import urllib.request

import mairust
import pytest
from mairust import Address, Message, Reject, allow, quarantine

JAPANESE = (
    "From: =?ISO-2022-JP?B?GyRCO0VNTRsoQg==?= <a@b.example>\r\nTo: One <one@example.com>, two@example.com\r\n"
    "Subject: =?ISO-2022-JP?B?GyRCQEE1YT1xGyhC?=\r\nMIME-Version: 1.0\r\nReceived: one\r\nReceived: two\r\n"
    'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    "--b\r\nContent-Type: text/plain; charset=shift_jis\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
).encode() + "日本語の本文".encode("shift_jis") + (
    b"\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>one &amp; two</p>"
    b'\r\n--b\r\nContent-Type: application/x-msdownload; name="=?utf-8?q?=C3=A9.exe?="\r\n'
    b"Content-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAA==\r\n--b--\r\n"
)


@pytest.fixture
def app():
    return mairust.App()


def test_everything_is_decoded_by_the_server_itself():
    message = Message.from_bytes(JAPANESE, mail_from="a@b.example", rcpt_to=["one@example.com"], dmarc="fail", client="192.0.2.1")
    assert message.subject == "請求書"
    assert message.from_ == Address("仕様", "a@b.example")
    assert message.to == (Address("One", "one@example.com"), Address("", "two@example.com"))
    assert message.text.strip() == "日本語の本文"
    assert message.html == "<p>one &amp; two</p>"
    assert not message.text_is_cut and message.has_attachments
    (part,) = message.attachments
    assert (part.filename, part.content_type, part.size, part.content) == ("é.exe", "application/x-msdownload", 4, b"MZ\x90\x00")
    assert message.headers.get_all("received") == ["one", "two"]
    assert message.headers.fields[2].raw == b"=?ISO-2022-JP?B?GyRCQEE1YT1xGyhC?="
    assert message.raw == JAPANESE and message.raw_view.obj is message.raw
    assert message.as_email()["Received"] == "one"
    assert message.size == len(JAPANESE) and message.fingerprint.startswith("sha256:")
    assert (message.auth.dmarc, message.auth.spf, message.session.client.ip) == ("fail", "none", "192.0.2.1")
    assert str(message.envelope.sender) == "a@b.example"


def test_a_message_can_come_from_a_file(tmp_path):
    (tmp_path / "a.eml").write_bytes(JAPANESE)
    assert Message.from_file(tmp_path / "a.eml").raw == JAPANESE


@pytest.mark.parametrize(
    "verdict",
    [allow(tags=["no spaces here"]), allow(score=101), mairust.reject("line\nbreak"), mairust.reject("no", code=450),
     allow(headers={"Subject": "forged"})],
)
def test_what_no_hook_may_say_is_an_error_in_tests(app, verdict):
    app.pre_receive(name="hook")(lambda msg: verdict)
    with pytest.raises(mairust.InvalidAnswer):
        app.test(Message.from_bytes(b"Subject: x\r\n\r\nx\r\n"))


def refused(server, subject="x"):
    with pytest.raises(smtplib.SMTPDataError) as error:
        server.receive("a@b.example", "alice@example.com", f"Subject: {subject}\r\n\r\nx\r\n")
    return error.value.smtp_code, error.value.smtp_error.decode()


def test_hooks_decide_about_mail(app, mairust_server):
    seen = []

    @app.pre_receive(priority=1)
    async def judge(msg):
        seen.append((msg.subject, str(msg.envelope.sender), msg.session.origin, mairust.invocation_id.get() == msg.invocation_id))
        await asyncio.sleep(0)
        if "no" in msg.subject:
            raise Reject("not here", code=554, enhanced="5.7.9")

    @app.pre_receive(priority=2, recipients="alice@*")
    def tag(msg):
        seen.append(threading.current_thread().name[:13])
        msg.add_header("X-Looked-At", "yes")
        return quarantine("odd", tags=["odd"]) if "odd" in msg.subject else allow(tags=["seen"])

    @app.post_receive
    def file(msg):
        msg.add_tag(f"size:{len(msg.raw)}")

    server = mairust_server(app)
    code, text = refused(server, "no")
    assert code == 554 and text.startswith("5.7.9 not here [inv_")
    assert seen.pop() == ("no", "a@b.example", "smtp", True)
    for subject in ("fine", "odd"):
        server.receive("a@b.example", "alice@example.com", f"Subject: {subject}\r\n\r\nx\r\n")
    fine, odd = server.wait_for(
        lambda: [one for one in server.messages("alice@example.com") if len(one.tags) == 2][1:] and server.messages("alice@example.com")
    )
    assert (fine.folder, odd.folder) == ("INBOX", "Quarantine")
    assert "seen" in fine.tags and "odd" in odd.tags and any(tag.startswith("size:") for tag in fine.tags)
    assert b"X-Looked-At: yes\r\n" in fine.raw
    assert "mairust-hook-" in seen
    assert server.messages("alice@example.com", folder="Quarantine") == [odd]


def test_what_a_hook_raises_is_told_to_the_log_only(app, mairust_server, caplog):
    failures = [RuntimeError("secret"), SystemExit("secret"), KeyboardInterrupt("secret"), GeneratorExit("secret"),
                asyncio.CancelledError("secret"), BaseException("secret")]

    @app.pre_receive(on_failure="tempfail", timeout=2, name="sync")
    def sync_hook(msg):
        if msg.subject.startswith("sync"):
            raise failures[int(msg.subject[-1])]

    @app.pre_receive(on_failure="tempfail", timeout=2, name="async")
    async def async_hook(msg):
        if msg.subject.startswith("async"):
            raise failures[int(msg.subject[-1])]
        return True if msg.subject == "bool" else None

    server = mairust_server(app)
    for subject in ["sync 0", "sync 1", "bool"]:
        code, text = refused(server, subject)
        assert code == 451 and text.startswith("4.3.0 Policy service unavailable") and "[inv_" in text
        assert "secret" not in text and "Traceback" not in text
        server.receive("a@b.example", "alice@example.com", b"Subject: fine\r\n\r\nx\r\n")
    assert "secret" in caplog.text and "returned bool, not a verdict" in caplog.text
    for kind in ("sync", "async"):
        for number in range(1, len(failures)):
            assert refused(server, f"{kind} {number}")[0] == 451
            server.receive("a@b.example", "alice@example.com", b"Subject: fine\r\n\r\nx\r\n")


def test_a_task_can_t_end_the_loop(app, mairust_server, caplog):
    async def leave():
        raise SystemExit(3)

    @app.pre_receive(on_failure="tempfail")
    async def hook(msg):
        app.state.task = asyncio.create_task(leave())
        await asyncio.wait([app.state.task])

    server = mairust_server(app)
    for _ in range(2):
        server.receive("a@b.example", "alice@example.com", b"Subject: x\r\n\r\nx\r\n")
        assert isinstance(app.state.task.exception(), SystemExit)
    assert "it goes on" in caplog.text


def test_a_thread_that_is_stuck_is_replaced(app, mairust_server):
    release = threading.Event()

    @app.pre_receive(timeout=0.3, on_failure="tempfail")
    def hook(msg):
        if msg.subject == "stuck":
            release.wait()

    server = mairust_server(app, threads=1)
    assert refused(server, "stuck")[0] == 451
    assert server.server.stuck_threads == 1
    # Another thread answers.
    server.receive("a@b.example", "alice@example.com", b"Subject: fine\r\n\r\nx\r\n")
    release.set()
    server.wait_for(lambda: server.server.stuck_threads == 0)
    server.receive("a@b.example", "alice@example.com", b"Subject: fine\r\n\r\nx\r\n")


def test_a_coroutine_is_cancelled_at_its_deadline(app, mairust_server):
    cancelled = threading.Event()

    @app.pre_receive(timeout=0.3, on_failure="tempfail")
    async def hook(msg):
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    server = mairust_server(app)
    assert refused(server)[0] == 451
    assert cancelled.wait(5)


def test_what_users_send_is_looked_at(app, mairust_server):
    @app.pre_send
    async def no_secrets(msg):
        if "secret" in msg.text:
            raise Reject("no secrets")
        assert msg.session.user == "alice@example.com"

    server = mairust_server(app)
    message = "From: alice@example.com\r\nSubject: x\r\n\r\n{}\r\n"
    server.submit("alice@example.com", "correct horse", "bob@elsewhere.example", message.format("hello"))
    with pytest.raises(smtplib.SMTPDataError, match="no secrets"):
        server.submit("alice@example.com", "correct horse", "bob@elsewhere.example", message.format("a secret"))


def test_the_server_starts_after_startup_and_ends_before_shutdown(app, mairust_server):
    order = []
    app.on_startup(lambda: order.append("startup"))
    app.on_shutdown(lambda: order.append("shutdown"))
    server = mairust.Server("mx.test", storage=mairust.memory()).listen_smtp("127.0.0.1:0").mount(app)
    with server:
        assert order == ["startup"] and server.addresses["smtp"][1] > 0
    assert order == ["startup", "shutdown"]
    with pytest.raises(mairust.ServerError):
        server.addresses
    with server:
        assert order == ["startup", "shutdown", "startup"]


def test_a_failed_startup_keeps_the_server_down(app):
    @app.on_startup
    async def fail():
        raise RuntimeError("no database")

    server = mairust.Server("mx.test", storage=mairust.memory()).listen_smtp("127.0.0.1:0").mount(app)
    with pytest.raises(RuntimeError, match="no database"):
        server.start()


def test_mistakes_are_told(app, tmp_path):
    app.pre_receive(name="hook")(lambda msg: None)
    server = mairust.Server("mx.test", storage=mairust.memory()).mount(app)
    other = mairust.App()
    other.post_receive(name="hook")(lambda msg: None)
    with pytest.raises(mairust.ConfigurationError, match="two hooks named 'hook'"):
        server.mount(other)
    with pytest.raises(mairust.ServerError, match="listens nowhere"):
        server.start()
    with pytest.raises(mairust.NotFound):
        server.messages("nobody@example.com")
    with pytest.raises(mairust.InvalidArgument):
        server.add_user("no address", "x")
    with pytest.raises(mairust.ConfigurationError, match="32 octets"):
        mairust.Server("mx.test", storage=mairust.memory(), server_key=b"short")
    with pytest.raises(mairust.StorageError):
        mairust.sqlite(tmp_path / "missing" / "mail.db", bodies=tmp_path / "mail").add_user("a@b.example", "x")


def test_the_api_is_served():
    server = mairust.Server("mx.test", storage=mairust.memory(), server_key=bytes(range(32)), verify_senders=False)
    server.add_user("alice@example.com", "correct horse").listen_smtp("127.0.0.1:0").listen_http("127.0.0.1:0")
    with server:
        with smtplib.SMTP(*server.addresses["smtp"]) as client:
            client.sendmail("a@b.example", ["alice@example.com"], "Subject: hello\r\n\r\nx\r\n")
        host, port = server.addresses["http"]
        headers = {"Authorization": f"Bearer {server.create_api_key('test')}"}

        def get(path):
            with urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}{path}", headers=headers)) as response:
                return response.read()

        assert json.loads(get("/api/v1/messages"))["items"][0]["subject"] == "hello"
        assert b"mairust_py_stuck_threads 0" in get("/metrics")


def test_lines_of_the_server_come_to_logging(mairust_server, caplog):
    caplog.set_level(logging.INFO, "mairust")
    server = mairust_server()
    server.receive("a@b.example", "alice@example.com", b"Subject: x\r\n\r\nx\r\n")
    server.wait_for(lambda: any(record.name.startswith("mairust.") for record in caplog.records))


def test_a_process_with_a_server_does_not_fork(mairust_server):
    mairust_server()
    with pytest.raises(mairust.ForkRefused):
        os.fork()
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout == b"1\n"
