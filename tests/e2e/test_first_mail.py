"""Receive, keep, show: `mairust dev` with clients that we did not write."""

import hashlib
import json
import pathlib
import re
import smtplib
import socket
import subprocess
import threading
import urllib.parse
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.mime.application import MIMEApplication
from email.header import Header

import pytest
from conftest import Recorder, swaks

BINARY_ATTACHMENT = bytes(range(256)) * 40


def japanese_mail(subject="請求書のご案内", to="alice@example.com"):
    mail = MIMEMultipart()
    mail["From"] = "sato@sender.example"
    mail["To"] = to
    mail["Subject"] = Header(subject, "iso-2022-jp")
    mail.attach(MIMEText("お世話になっております。\n.\n請求書をお送りします。\n", "plain", "iso-2022-jp"))
    attachment = MIMEApplication(BINARY_ATTACHMENT)
    attachment.add_header("Content-Disposition", "attachment", filename="invoice.bin")
    mail.attach(attachment)
    return mail.as_bytes().replace(b"\n", b"\r\n")


def test_a_multipart_mail_with_a_japanese_subject(dev, tmp_path):
    (tmp_path / "mail.eml").write_bytes(japanese_mail())
    recorder = Recorder(dev)
    waited = {}

    def wait():
        query = urllib.parse.urlencode({"to": "alice@example.com", "timeout": 30})
        waited["response"] = dev.api.request("GET", f"/api/v1/messages/wait?{query}")

    waiter = threading.Thread(target=wait)
    waiter.start()
    swaks(recorder, "--from", "sato@sender.example", "--to", "alice@example.com", "--data", f"@{tmp_path}/mail.eml")
    sent = recorder.message()
    waiter.join(35)
    assert waited["response"].status == 200
    found = json.loads(waited["response"].body)
    assert found["subject"] == "請求書のご案内"

    listed = dev.api.messages(to="alice@example.com")[0]
    assert listed["id"] == found["id"]
    assert listed["subject"] == "請求書のご案内"
    assert listed["preview"].startswith("お世話になっております。")
    assert listed["has_attachments"] is True
    raw = dev.api.raw(listed)
    assert raw.endswith(sent)
    prefix = raw[: -len(sent)].decode()
    assert prefix.startswith("Return-Path: <sato@sender.example>\r\n") and "\r\nReceived: from " in prefix
    attachments = dev.api.json(f"/api/v1/messages/{listed['id']}/attachments")
    attachments = attachments.get("items", attachments) if isinstance(attachments, dict) else attachments
    assert attachments[0]["filename"] == "invoice.bin"
    assert attachments[0]["sha256"] == hashlib.sha256(BINARY_ATTACHMENT).hexdigest()
    content = dev.api.bytes(f"/api/v1/messages/{listed['id']}/attachments/0")
    assert content == BINARY_ATTACHMENT
    text = dev.api.bytes(f"/api/v1/messages/{listed['id']}/text").decode()
    assert "請求書をお送りします。" in text


def test_a_mail_that_swaks_makes(dev, tmp_path):
    (tmp_path / "a.bin").write_bytes(BINARY_ATTACHMENT)
    swaks(dev, "--from", "a@sender.example", "--to", "swaks@example.com", "--header", "Subject: made by swaks",
          "--body", "hello", "--attach-type", "application/octet-stream", "--attach", f"@{tmp_path}/a.bin")
    listed = dev.api.messages(subject="made by swaks")[0]
    one = dev.api.json(f"/api/v1/messages/{listed['id']}")
    assert one["attachments"][0]["sha256"] == hashlib.sha256(BINARY_ATTACHMENT).hexdigest()


def test_the_api_answers_curl(dev):
    swaks(dev, "--from", "a@sender.example", "--to", "curl@example.com", "--header", "Subject: for curl")
    url = f"{dev.ready['http']}/api/v1/messages?subject=for+curl"
    command = ["curl", "-sS", "--fail", "-H", f"Authorization: Bearer {dev.ready['api_key']}", url]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [message["subject"] for message in answer["items"]] == ["for curl"]
    refused = subprocess.run(["curl", "-sS", "-o", "-", "-w", "\n%{http_code}", url], capture_output=True, text=True)
    body, code = refused.stdout.rsplit("\n", 1)
    assert code == "401" and json.loads(body)["code"] == "unauthenticated"


def python_test_mails():
    folders = sorted(pathlib.Path("/usr/lib").glob("python3*/test/test_email/data"))
    return [path for folder in folders for path in sorted(folder.glob("msg_*.txt"))]


def test_real_mails_come_back_byte_for_byte(dev):
    mails = python_test_mails()
    assert len(mails) >= 40, "the package libpython3.11-testsuite is not installed"
    client = dev.smtp()
    for number, path in enumerate(mails):
        to = f"cpython{number}@example.com"
        sent = re.sub(rb"\r\n|\r|\n", b"\r\n", path.read_bytes())
        sent = sent if sent.endswith(b"\r\n") else sent + b"\r\n"
        client.sendmail("a@sender.example", [to], sent)
        listed = dev.api.messages(to=to)
        assert len(listed) == 1, path.name
        assert dev.api.raw(listed[0]).endswith(b"\r\n" + sent), path.name
        assert dev.api.request("GET", f"/api/v1/messages/{listed[0]['id']}").status == 200, path.name
        assert dev.api.request("GET", f"/api/v1/messages/{listed[0]['id']}/text").status in (200, 404), path.name
    client.quit()


@pytest.mark.parametrize("forged", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\r.\r", b"\r.\r\n"])
def test_a_forged_end_of_data_never_makes_two_messages(dev, forged):
    marker = "smuggle" + forged.hex()
    with socket.create_connection(dev.address(), timeout=10) as stream:
        reader = stream.makefile("rb")

        def reply():
            while (line := reader.readline())[3:4] == b"-":
                pass
            return line

        reply()
        for command in (b"EHLO evil.example", b"MAIL FROM:<a@evil.example>", b"RCPT TO:<one@example.com>", b"DATA"):
            stream.sendall(command + b"\r\n")
            assert reply()[:1] in b"23"
        stream.sendall(
            f"Subject: {marker}\r\n\r\nfirst".encode() + forged
            + f"MAIL FROM:<b@evil.example>\r\nRCPT TO:<two@example.com>\r\nDATA\r\nSubject: {marker}\r\n\r\nsecond\r\n.\r\n".encode()
        )
        assert reply().startswith(b"550 5.6.0")
        stream.sendall(b"QUIT\r\n")
        assert reply().startswith(b"221")
        assert reader.read() == b""
    assert dev.api.messages(subject=marker) == []


def test_a_message_without_content_and_one_of_dots(dev):
    client = dev.smtp()
    client.ehlo()
    for to, data in (("empty@example.com", b""), ("dots@example.com", b".\r\n..\r\n...x\r\n")):
        client.mail("a@sender.example")
        client.rcpt(to)
        assert client.docmd("DATA")[0] == 354
        client.sock.sendall(smtplib._quote_periods(data) + b".\r\n")
        assert client.getreply()[0] == 250
        listed = dev.api.messages(to=to)
        assert dev.api.raw(listed[0]).endswith(b"+0000\r\n" + data)
    client.quit()


def test_every_byte_survives(dev):
    body = b"Subject: bytes\r\n\r\n" + bytes(b for b in range(256) if b not in b"\r\n") + b"\r\n"
    client = dev.smtp()
    client.sendmail("a@sender.example", ["bytes@example.com"], body, mail_options=["BODY=8BITMIME"])
    client.quit()
    assert dev.api.raw(dev.api.messages(to="bytes@example.com")[0]).endswith(b"\r\n" + body)


def test_a_large_mail_goes_through_the_spool(dev):
    mail = EmailMessage()
    mail["Subject"], mail["To"] = "large", "large@example.com"
    mail.set_content("see attachment")
    blob = bytes(range(256)) * 40_000
    mail.add_attachment(blob, maintype="application", subtype="octet-stream", filename="blob")
    client = dev.smtp()
    client.send_message(mail, "a@sender.example", ["large@example.com"])
    client.quit()
    listed = dev.api.messages(to="large@example.com")[0]
    attachments = dev.api.json(f"/api/v1/messages/{listed['id']}")["attachments"]
    assert attachments[0]["sha256"] == hashlib.sha256(blob).hexdigest()
    response = dev.api.request("GET", f"/api/v1/messages/{listed['id']}/raw", headers={"Range": "bytes=0-10"})
    assert (response.status, response.body) == (206, b"Return-Path")


def test_a_message_over_the_limit_is_refused_and_the_session_goes_on(dev):
    client = dev.smtp()
    client.ehlo()
    limit = int(client.esmtp_features["size"])
    assert client.docmd(f"MAIL FROM:<a@b.example> SIZE={limit + 1}")[0] == 552
    client.mail("a@b.example")
    client.rcpt("big@example.com")
    assert client.docmd("DATA")[0] == 354
    client.sock.sendall(b"Subject: large\r\n\r\n" + b"x" * 70 * 1024 + b"\r\n")
    for _ in range(limit // (64 << 10)):
        client.sock.sendall((b"x" * 1022 + b"\r\n") * 64)
    client.sock.sendall(b".\r\n")
    assert client.getreply()[0] == 552
    client.sendmail("a@b.example", ["big@example.com"], "Subject: small\r\n\r\nx\r\n")
    client.quit()
    assert len(dev.api.messages(to="big@example.com")) == 1


def test_log_lines_carry_session_and_message_id(dev):
    swaks(dev, "--from", "a@sender.example", "--to", "log@example.com", "--header", "Subject: for the log")
    listed = dev.api.messages(subject="for the log")[0]
    text = dev.log()
    line = next(line for line in text.splitlines() if listed["id"] in line and "message stored" in line)
    assert "session_id" in line


def test_metrics(dev):
    dev.smtp().quit()
    text = dev.api.bytes("/metrics").decode()
    assert re.search(r'^mairust_smtp_sessions_opened_total\{service="mx"\} [1-9]', text, re.M)
    assert text.endswith("# EOF\n")
    assert json.loads(dev.api.bytes("/health/ready"))
    assert dev.api.request("GET", "/health/live").status == 200


def test_the_openapi_document_is_the_committed_one(dev):
    root = pathlib.Path(__file__).resolve().parents[2]
    assert dev.api.json("/api/v1/openapi.json") == json.loads((root / "docs/openapi.json").read_text())


def test_ephemeral_leaves_nothing_behind(servers, tmp_path):
    server = servers("--ephemeral", name="ephemeral")
    data = pathlib.Path(server.ready["data_dir"])
    swaks(server, "--from", "a@sender.example", "--to", "b@example.com")
    assert data.exists() and len(server.api.messages()) == 1
    assert server.stop() == 0
    assert not data.exists()
