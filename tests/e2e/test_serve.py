"""`mairust serve` from a configuration that an operator would write, and the other commands."""

import json
import os
import pathlib
import signal
import smtplib
import socket
import ssl
import subprocess

import pytest
from conftest import BINARY, Api, run, self_signed

PASSWORD = "correct horse battery"


def configuration(tmp_path, **sections):
    settings = {
        "server": {"hostname": "mx.example.com", "data_dir": str(tmp_path / "data")},
        "smtp": {"listeners": [{"bind": "127.0.0.1:0", "kind": "mx"}, {"bind": "127.0.0.1:0", "kind": "submission"}]},
        "http": {"bind": "127.0.0.1:0"},
        "authentication": {"mode": "off"},  # the DNS of this machine is no part of these tests
        "log": {"format": "json", "level": "info"},
        **sections,
    }
    path = tmp_path / "mairust.yaml"
    path.write_text(json.dumps(settings, indent=2))  # JSON is YAML
    return path


def production(servers, tmp_path, binary=BINARY, **sections):
    """A server with one domain, one user and one API key, made by the commands of the manual."""
    config = configuration(tmp_path, **sections)
    run("migrate", "-c", config)
    run("domain", "add", "example.com", "-c", config)
    run("user", "add", "alice@example.com", "-c", config, "--password-stdin", input=PASSWORD)
    key = json.loads(run("apikey", "create", "tests", "-c", config, "-o", "json").stdout)["key"]
    return servers("-c", config, command="serve", binary=binary), key


def test_receives_only_what_is_ours(servers, tmp_path):
    server, key = production(servers, tmp_path)
    client = server.smtp()
    client.ehlo()
    for feature in ("pipelining", "size", "8bitmime", "enhancedstatuscodes", "starttls"):
        assert feature in client.esmtp_features
    client.mail("a@sender.example")
    code, text = client.rcpt("nobody@example.com")
    assert (code, text[:5]) == (550, b"5.1.1")
    for foreign in ("x@elsewhere.example", "x%elsewhere.example@another.example", '"x@example.com"@elsewhere.example',
                    "@example.com:x@elsewhere.example"):
        code, text = client.docmd(f"RCPT TO:<{foreign}>")
        assert (code, text[:5]) == (550, b"5.7.1"), foreign
    assert client.rcpt("Alice@Example.COM")[0] == 250
    assert client.data(b"Subject: for alice\r\n\r\nx\r\n")[0] == 250
    client.quit()
    api = Api(server.ready["http"], key)
    assert [message["address"] for message in api.messages()] == ["Alice@example.com"]
    line = next(json.loads(line) for line in server.log().splitlines() if "message stored" in line)
    assert line["component"] and line["session_id"] and line["message_id"] == api.messages()[0]["id"]
    assert server.stop() == 0


def test_users_send_only_as_themselves(servers, tmp_path):
    server, key = production(servers, tmp_path)
    client = server.submission("alice@example.com", PASSWORD)
    assert client.mail("eve@example.com")[0] == 553
    client.rset()
    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("alice@example.com", ["alice@example.com"], "From: eve@example.com\r\nSubject: x\r\n\r\nx\r\n")
    assert refused.value.smtp_code == 553
    client.sendmail("alice@example.com", ["alice@example.com"], "From: alice@example.com\r\nSubject: to myself\r\n\r\nx\r\n")
    client.quit()
    api = Api(server.ready["http"], key)
    assert sorted(message["folder"] for message in api.messages(subject="to myself")) == ["INBOX", "Sent"]
    refused = api.request("POST", "/api/v1/send", {"from": "eve@example.com", "to": ["a@b.example"], "text": "x"})
    assert refused.status == 403 and json.loads(refused.body)["code"] == "sender_not_allowed"


def test_a_changed_password_counts_at_once(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    run("user", "set-password", "alice@example.com", "-c", tmp_path / "mairust.yaml", "--password-stdin", input="another long one")
    server.submission("alice@example.com", "another long one").quit()
    with pytest.raises(smtplib.SMTPAuthenticationError):
        server.submission("alice@example.com", PASSWORD)


def test_sigterm_lets_a_message_in_progress_finish(servers, tmp_path):
    server, key = production(servers, tmp_path)
    client = server.smtp()
    client.ehlo()
    client.mail("a@sender.example")
    client.rcpt("alice@example.com")
    assert client.docmd("DATA")[0] == 354
    client.sock.sendall(b"Subject: in progress\r\n\r\nfirst half\r\n")
    idle = server.smtp()
    server.process.send_signal(signal.SIGTERM)
    assert idle.getreply()[0] == 421
    client.sock.sendall(b"second half\r\n.\r\n")
    assert client.getreply()[0] == 250
    client.close()
    assert server.process.wait(30) == 0
    server.start()
    assert [message["subject"] for message in Api(server.ready["http"], key).messages()] == ["in progress"]


def test_all_problems_of_a_configuration_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "server:\n  hostnam: mx.example.com\n  data_dir: /tmp\nsmtp:\n  max_message_size: huge\n"
        "log:\n  format: xml\ntls:\n  cert: /nowhere.pem\n"
    )
    result = run("config", "check", "-c", path, check=False)
    assert result.returncode == 3
    for problem in (":2:", "hostnam", "hostname", ":5:", "max_message_size", ":7:", "log.format", "tls.key"):
        assert problem in result.stderr, (problem, result.stderr)
    assert run("serve", "-c", path, check=False).returncode == 3
    assert run("config", "check", "-c", configuration(tmp_path)).returncode == 0
    assert run("serve", "-c", tmp_path / "missing.yaml", check=False).returncode == 3


def test_the_example_configuration_is_valid(tmp_path):
    (tmp_path / "example.yaml").write_text(run("config", "example").stdout)
    assert json.loads(run("config", "schema").stdout)["$schema"].endswith("2020-12/schema")


def test_migrate_says_what_it_did(tmp_path):
    config = configuration(tmp_path)
    assert "applied" in run("migrate", "-c", config).stdout
    status = run("migrate", "status", "-c", config).stdout
    assert "0001" in status or "1" in status


def test_mistakes_have_clear_answers(tmp_path):
    config = configuration(tmp_path)
    run("domain", "add", "example.com", "-c", config)
    again = run("domain", "add", "example.com", "-c", config, check=False)
    assert again.returncode == 6 and "example.com" in again.stderr
    missing = run("user", "set-password", "x@example.com", "-c", config, "--password-stdin", input=PASSWORD, check=False)
    assert missing.returncode == 5
    short = run("user", "add", "x@example.com", "-c", config, "--password-stdin", input="short", check=False)
    assert short.returncode == 2 and "12" in short.stderr
    foreign = run("user", "add", "x@other.example", "-c", config, "--password-stdin", input=PASSWORD, check=False)
    assert foreign.returncode == 5 and "domain add" in foreign.stderr
    assert run("serv", check=False).returncode == 2


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        result = run("dev", "--smtp", address, "--submission", "127.0.0.1:0", "--submissions", "127.0.0.1:0", "--http", "127.0.0.1:0",
                     "--data-dir", tmp_path / "data", check=False)
    assert result.returncode == 1 and address in result.stderr


def test_send_test(dev):
    host, port = dev.address()
    result = run("send-test", "--server", f"{host}:{port}", "--to", "tester@example.com")
    assert "250" in result.stdout
    assert len(dev.api.messages(to="tester@example.com")) == 1


def test_a_closed_pipe_is_no_error():
    shell = subprocess.run(["bash", "-c", f"set -o pipefail; {BINARY} config schema | head -1"], capture_output=True, text=True)
    assert shell.returncode == 0 and shell.stderr == ""


def test_a_configured_certificate_is_shown(servers, tmp_path):
    cert, key = self_signed(tmp_path, "localhost")
    server, _ = production(servers, tmp_path, tls={"cert": str(cert), "key": str(key)})
    trusting = ssl.create_default_context(cafile=cert)
    client = smtplib.SMTP("localhost", server.address("submission")[1], timeout=30)
    client.starttls(context=trusting)
    client.login("alice@example.com", PASSWORD)
    assert client.sock.version() == "TLSv1.3"
    client.quit()


def test_the_environment_wins_over_the_file(servers, tmp_path):
    config = configuration(tmp_path)
    server = servers("-c", config, command="serve", env={"MAIRUST__LOG__FORMAT": "text", "MAIRUST__SERVER__HOSTNAME": "env.example"})
    assert server.smtp().ehlo()[1].startswith(b"env.example")
    assert " INFO " in server.log()
    wrong = run("config", "check", "-c", config, check=False, env={**os.environ, "MAIRUST__LOG__FORMT": "text"})
    assert wrong.returncode == 3 and "did you mean MAIRUST__LOG__FORMAT?" in wrong.stderr
