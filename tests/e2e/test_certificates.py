"""TLS of the shipped binary: certificates by name, their renewal, and what is too old to be spoken."""

import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import xml.etree.ElementTree

import pytest
from conftest import Api, run, self_signed, wait_until
from test_serve import PASSWORD, production

LISTENERS = [{"bind": "127.0.0.1:0", "kind": kind} for kind in ("mx", "submission", "submissions")]


@pytest.fixture
def pairs(tmp_path):
    """Certificates and keys: of the server itself, of another name, and of all names below a domain."""
    return [self_signed(tmp_path, name) for name in ("mx.example.com", "mail.other.example", "*.wild.example")]


def serve(servers, tmp_path, pairs):
    first, *more = [{"cert": str(cert), "key": str(key)} for cert, key in pairs]
    server, key = production(servers, tmp_path, smtp={"listeners": LISTENERS}, tls={**first, "additional": more})
    return server, Api(server.ready["http"], key)


def shown(server, service, name):
    """The certificate that OpenSSL's client gets when it asks for this name."""
    host, port = server.address(service)
    starttls = [] if service == "submissions" else ["-starttls", "smtp"]
    asked = ["-servername", name] if name else ["-noservername"]
    done = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", *starttls, *asked],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", done.stdout, re.DOTALL)[0]


@pytest.mark.parametrize("service", ["smtp", "submission", "submissions"])
def test_the_name_that_is_asked_for_picks_the_certificate(service, servers, tmp_path, pairs):
    server, _ = serve(servers, tmp_path, pairs)
    own, other, wild = [cert.read_text() for cert, _ in pairs]
    for name, certificate in [("mx.example.com", own), ("mail.other.example", other), ("MAIL.Other.Example", other),
                              ("a.wild.example", wild), ("a.b.wild.example", own), ("unknown.example", own), (None, own),
                              ("127.0.0.1", own)]:
        assert shown(server, service, name) == certificate, name
    assert '"WARN"' not in server.log(), "what a client does is no reason to warn"


def test_renewed_certificates_are_used_at_once(servers, tmp_path, pairs):
    server, api = serve(servers, tmp_path, pairs)
    old = pairs[0][0].read_text()
    open_session = smtplib.SMTP("127.0.0.1", server.address("submission")[1], timeout=30)
    open_session.starttls(context=ssl.create_default_context(cafile=pairs[0][0]))
    open_session.login("alice@example.com", PASSWORD)

    def renew(said):
        before = server.log().count(said)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.log().count(said) > before, said)

    (tmp_path / "renewed").mkdir()
    for made, path in zip(self_signed(tmp_path / "renewed", "mx.example.com"), pairs[0]):
        shutil.copy(made, path)
    new = pairs[0][0].read_text()
    assert new != old and shown(server, "submission", "mx.example.com") == old, "nobody has told the server"
    renew("certificates were read again")
    for service in ("smtp", "submission", "submissions"):
        assert shown(server, service, "mx.example.com") == new
        assert shown(server, service, "mail.other.example") == pairs[1][0].read_text()

    shutil.copy(pairs[1][1], pairs[0][1])  # a key of another certificate
    refused = run("config", "check", "-c", tmp_path / "mairust.yaml", check=False)
    assert refused.returncode == 3 and "tls.key" in refused.stderr, refused.stderr
    renew("the old certificates stay in use")
    pairs[0][0].write_text("no certificate")
    refused = run("config", "check", "-c", tmp_path / "mairust.yaml", check=False)
    assert refused.returncode == 3 and "tls.cert" in refused.stderr, refused.stderr
    renew("the old certificates stay in use")
    assert shown(server, "submission", "mx.example.com") == new

    assert open_session.sock.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(old)
    open_session.sendmail("alice@example.com", ["alice@example.com"],
                          "From: alice@example.com\r\nSubject: in the old session\r\n\r\nx\r\n")
    open_session.quit()
    assert len(api.messages(subject="in the old session", folder="INBOX")) == 1


def test_hangup_leaves_a_server_without_certificates_running(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "nothing was read again" in server.log(), "an answer to SIGHUP")
    assert server.smtp().noop()[0] == 250


@pytest.mark.parametrize("service, arguments", [
    ("smtp", ["--starttls-smtp"]), ("submission", ["--starttls-smtp"]), ("submissions", []),
])
def test_old_versions_and_weak_ciphers_are_refused(service, arguments, servers, tmp_path, pairs):
    server, _ = serve(servers, tmp_path, pairs)
    host, port = server.address(service)
    done = subprocess.run(
        ["sslscan", "--xml=-", "--no-groups", "--no-heartbleed", "--no-check-certificate", "--no-cipher-details", *arguments,
         f"{host}:{port}"], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    found = xml.etree.ElementTree.fromstring(done.stdout)
    versions = {each.get("type").upper() + each.get("version"): each.get("enabled") for each in found.iter("protocol")}
    assert versions == {"SSL2": "0", "SSL3": "0", "TLS1.0": "0", "TLS1.1": "0", "TLS1.2": "1", "TLS1.3": "1"}
    ciphers = {each.get("cipher") for each in found.iter("cipher")}
    assert ciphers and all(re.search("GCM|CHACHA20", cipher) for cipher in ciphers), ciphers
    assert all(cipher.startswith(("TLS_", "ECDHE-")) for cipher in ciphers), "all of them have forward secrecy"
