"""Every kind of client that speaks to a mail server, against `mairust serve` with all its listeners."""

import base64
import re
import smtplib
import ssl
import subprocess
import types
from email.message import EmailMessage

import pytest
from conftest import Api, Recorder, Server, run, self_signed, swaks, wait_until
from exim import Exim
from postfix import Postfix
from test_serve import PASSWORD, production

ALICE = "alice@example.com"
SATO = "佐藤@例え.jp"
# The same address as machines write it.
SATO_IN_FIELDS = "佐藤@xn--r8jz45g.jp"
LISTENERS = [{"bind": "127.0.0.1:0", "kind": kind} for kind in ("mx", "submission", "submissions", "lmtp")]

# Dots, an empty line, and every byte that a line may have: what 8BITMIME must keep.
EIGHT_BIT = bytes(byte for byte in range(256) if byte not in (0, 10, 13))
BODY = b"".join(line + b"\r\n" for line in (b".", b"..", b"", EIGHT_BIT, b".", b".x" * 400))


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A server, its API and the certificate that its clients trust. The domain inside.example gets its mail by LMTP."""
    folder = tmp_path_factory.mktemp("clients")
    cert, key = self_signed(folder, "localhost")

    def start(*arguments, **options):
        return Server(folder, *arguments, **options)

    server, api_key = production(start, folder, smtp={"listeners": LISTENERS}, tls={"cert": str(cert), "key": str(key)})
    for domain in ("inside.example", "例え.jp"):
        run("domain", "add", domain, "-c", folder / "mairust.yaml")
    for user in ("carol@inside.example", "dave@inside.example", SATO):
        run("user", "add", user, "-c", folder / "mairust.yaml", "--password-stdin", input=PASSWORD)
    yield types.SimpleNamespace(server=server, api=Api(server.ready["http"], api_key), certificate=cert,
                                trust=ssl.create_default_context(cafile=cert))
    assert server.stop() == 0, server.log()


@pytest.fixture(scope="module")
def postfix(office):
    """A Postfix in front of the server."""
    server = Postfix(office.server.address(), office.server.address("lmtp"), ["inside.example"])
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def exims():
    started = []

    def start(relay, **options):
        started.append(Exim(relay, **options))
        return started[-1]

    yield start
    for exim in started:
        exim.remove()


def letter(subject, sender="bob@sender.example", to=ALICE):
    head = f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: Sat, 22 Nov 2025 03:04:06 +0000\r\n"
    return f"{head}Message-ID: <{abs(hash(subject))}@sender.example>\r\n\r\n".encode() + BODY


def arrived(office, subject, **filters):
    """The bytes of the only message with this subject in an inbox."""
    listed = office.api.messages(subject=subject, folder="INBOX", **filters)
    found = [message for message in listed if message["subject"] == subject]  # the filter looks for parts
    assert len(found) == 1, (subject, found)
    return office.api.raw(found[0])


def head_of(raw):
    return raw.split(b"\r\n\r\n", 1)[0].decode().replace("\r\n\t", " ")


def connect(office, service):
    host, port = office.server.address(service)
    if service == "submissions":
        return smtplib.SMTP_SSL(host, port, timeout=30, context=office.trust)
    return (smtplib.LMTP if service == "lmtp" else smtplib.SMTP)(host, port, timeout=30)


def announced(client):
    client.ehlo_or_helo_if_needed()
    return {name.upper() for name in client.esmtp_features}


def test_what_each_listener_announces(office):
    everywhere = {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "BINARYMIME", "LIMITS"}
    for service, extra in [("smtp", {"REQUIRETLS"}), ("submission", {"DSN", "FUTURERELEASE", "AUTH", "REQUIRETLS"}),
                           ("lmtp", {"REQUIRETLS"})]:
        client = connect(office, service)
        in_plain_text = extra - {"REQUIRETLS", "AUTH"}
        assert announced(client) == everywhere | in_plain_text | {"STARTTLS"}, service
        client.starttls(context=office.trust)
        assert announced(client) == everywhere | extra, service
        client.quit()
    client = connect(office, "submissions")
    assert announced(client) == everywhere | {"DSN", "FUTURERELEASE", "AUTH", "REQUIRETLS"}
    assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
    client.quit()


USER = ["--auth-user", ALICE, "--auth-password", PASSWORD, "--from", ALICE]


@pytest.mark.parametrize("service, arguments, protocol", [
    ("smtp", [], "ESMTP"),
    ("smtp", ["--tls"], "ESMTPS"),
    ("smtp", ["--pipeline"], "ESMTP"),
    ("smtp", ["--protocol", "SMTP"], "SMTP"),
    ("submission", ["--tls", "--auth", "PLAIN", *USER], "ESMTPSA"),
    ("submission", ["--tls", "--auth", "LOGIN", "--pipeline", *USER], "ESMTPSA"),
    ("submissions", ["--tls-on-connect", "--auth", "PLAIN", *USER], "ESMTPSA"),
    ("lmtp", ["--protocol", "LMTP"], "LMTP"),
    ("lmtp", ["--protocol", "LMTP", "--tls", "--pipeline"], "LMTPS"),
])
def test_swaks(service, arguments, protocol, office, tmp_path):
    subject = " ".join(["swaks", service, *arguments[:4]]).replace("--", "")
    sender = ALICE if "--from" in arguments else "bob@sender.example"
    (tmp_path / "mail.eml").write_bytes(letter(subject, sender))
    verified = ["--tls-ca-path", office.certificate, "--tls-verify"] if "--tls" in " ".join(arguments) else []
    result = swaks(office.server, "--from", sender, "--to", ALICE, "--data", f"@{tmp_path}/mail.eml", *arguments, *verified,
                   service=service)
    assert "<** " not in result.stdout and "*** " not in result.stdout, result.stdout
    raw = arrived(office, subject)
    assert f" with {protocol} id " in head_of(raw)
    assert raw.removesuffix(b"\r\n").endswith(letter(subject, sender)), "swaks adds a line end"


def msmtp(office, tmp_path, service, mechanism, password, message):
    (tmp_path / "msmtprc").write_text(
        f"account default\nhost localhost\nport {office.server.address(service)[1]}\nfrom {ALICE}\n"
        f"tls on\ntls_starttls {'off' if service == 'submissions' else 'on'}\ntls_trust_file {office.certificate}\n"
        f'auth {mechanism.lower()}\nuser {ALICE}\npassword "{password}"\n')
    (tmp_path / "msmtprc").chmod(0o600)
    return subprocess.run(["msmtp", "-C", tmp_path / "msmtprc", "--", ALICE], input=message, capture_output=True, timeout=60)


@pytest.mark.parametrize("service", ["submission", "submissions"])
def test_msmtp_logs_in_by_every_mechanism(service, office, tmp_path):
    client = connect(office, service)
    if service == "submission":
        client.starttls(context=office.trust)
    client.ehlo()
    mechanisms = client.esmtp_features["auth"].split()
    client.quit()
    for mechanism in mechanisms:
        subject = f"msmtp {service} {mechanism}"
        done = msmtp(office, tmp_path, service, mechanism, PASSWORD, letter(subject, ALICE))
        assert done.returncode == 0, (mechanism, done.stderr)
        assert arrived(office, subject).endswith(BODY)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
def test_msmtp_is_refused_with_a_wrong_password(mechanism, office, tmp_path):
    refused = msmtp(office, tmp_path, "submission", mechanism, "wrong horse battery", letter("msmtp refused", ALICE))
    assert refused.returncode == 77 and b"535 5.7.8" in refused.stderr, refused.stderr
    assert office.api.messages(subject="msmtp refused") == []


@pytest.mark.parametrize("scheme, service, arguments, protocol", [
    ("smtp", "smtp", [], "ESMTP"),
    ("smtp", "smtp", ["--ssl-reqd"], "ESMTPS"),
    ("smtp", "submission", ["--ssl-reqd", "--user", f"{ALICE}:{PASSWORD}"], "ESMTPSA"),
    ("smtps", "submissions", ["--user", f"{ALICE}:{PASSWORD}", "--login-options", "AUTH=LOGIN"], "ESMTPSA"),
])
def test_curl(scheme, service, arguments, protocol, office, tmp_path):
    subject = f"curl {scheme} {service} {protocol}"
    sender = ALICE if "--user" in arguments else "bob@sender.example"
    (tmp_path / "mail.eml").write_bytes(letter(subject, sender))
    done = subprocess.run(
        ["curl", "--silent", "--show-error", f"{scheme}://localhost:{office.server.address(service)[1]}/curl.example",
         "--cacert", office.certificate, "--mail-from", sender, "--mail-rcpt", ALICE,
         "--upload-file", tmp_path / "mail.eml", *arguments],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    raw = arrived(office, subject)
    assert f"from curl.example ([127.0.0.1]) by mx.example.com (MaiRust) with {protocol} id " in head_of(raw)
    assert raw.endswith(letter(subject, sender))


def international_letter(subject):
    mail = EmailMessage()
    mail["From"] = mail["To"] = f"佐藤花子 <{SATO}>"
    mail["Subject"] = subject
    mail.set_content("お世話になっております。\n", cte="8bit")
    return mail


@pytest.mark.parametrize("service, protocol", [
    ("smtp", "UTF8SMTP"), ("submission", "UTF8SMTPSA"), ("submissions", "UTF8SMTPSA"), ("lmtp", "UTF8LMTP"),
])
def test_smtplib_with_international_addresses(service, protocol, office):
    subject = f"国際化 {service}"
    with connect(office, service) as client:
        if service == "submission":
            client.starttls(context=office.trust)
        if service.startswith("submission"):
            client.ehlo()
            # Python's login() knows names in ASCII only; RFC 4616 has them in UTF-8.
            response = base64.b64encode(f"\0{SATO}\0{PASSWORD}".encode()).decode()
            assert client.docmd("AUTH", f"PLAIN {response}")[0] == 235
        assert client.send_message(international_letter(subject)) == {}
    raw = arrived(office, subject, to=SATO)
    assert raw == arrived(office, subject, to=SATO_IN_FIELDS)
    head = head_of(raw)
    assert f" with {protocol} id " in head and head.startswith(f"Return-Path: <{SATO_IN_FIELDS}>\r\n")
    assert f"From: 佐藤花子 <{SATO}>".encode() in raw and "お世話になっております。".encode() in raw


def test_both_forms_of_a_domain_are_the_same_address(office):
    with connect(office, "smtp") as client:
        client.ehlo()
        assert client.docmd("MAIL FROM:<bob@sender.example> SMTPUTF8")[0] == 250
        client.command_encoding = "utf-8"
        assert client.docmd(f"RCPT TO:<{SATO}>")[0] == 250
        assert client.docmd(f"RCPT TO:<{SATO_IN_FIELDS}>")[0] == 250
        assert client.data(letter("both forms", to=SATO))[0] == 250
    assert f"for <{SATO_IN_FIELDS}>;" in head_of(arrived(office, "both forms")), "it is the only recipient"


def test_smtplib_by_lmtp(office):
    with connect(office, "lmtp") as client:
        assert client.sendmail("bob@sender.example", [ALICE], letter("smtplib lmtp"), ["BODY=8BITMIME"]) == {}
        assert client.sendmail("bob@sender.example", [ALICE, "nobody@example.com"], letter("smtplib lmtp again")).keys() == {
            "nobody@example.com"}
    raw = arrived(office, "smtplib lmtp again")
    assert " with LMTP id " in head_of(raw) and raw.endswith(BODY)


def test_postfix_relays_over_tls(office, postfix):
    with postfix.smtp() as client:
        client.sendmail("bob@sender.example", [ALICE], letter("postfix smtp"), ["BODY=8BITMIME"])
    wait_until(lambda: office.api.messages(subject="postfix smtp"), "delivery by Postfix")
    raw = arrived(office, "postfix smtp")
    assert "from postfix.example ([127.0.0.1]) by mx.example.com (MaiRust) with ESMTPS id " in head_of(raw)
    assert raw.endswith(b"\r\n\r\n" + BODY), "every byte survives"
    assert re.search(r"to=<alice@example.com>, relay=127.0.0.1.*, dsn=2.0.0, status=sent \(250 2.0.0 ", postfix.log())


def test_postfix_relays_international_mail(office, postfix):
    with postfix.smtp() as client:
        client.send_message(international_letter("国際化 postfix"))
    wait_until(lambda: office.api.messages(subject="国際化 postfix"), "delivery by Postfix")
    raw = arrived(office, "国際化 postfix")
    assert " with UTF8SMTPS id " in head_of(raw) and "お世話になっております。".encode() in raw


def test_postfix_delivers_by_lmtp(office, postfix):
    """One message for three: two get it, and the sender hears about the third."""
    with postfix.smtp() as client:
        client.sendmail(ALICE, ["carol@inside.example", "dave@inside.example", "nobody@inside.example"],
                        letter("postfix lmtp", ALICE), ["BODY=8BITMIME"])
    [notice] = wait_until(lambda: office.api.messages(subject="Undelivered Mail Returned to Sender"), "a notice of Postfix")
    assert notice["address"] == ALICE and b"550 5.1.1 No such address here" in office.api.raw(notice)
    for user in ("carol@inside.example", "dave@inside.example"):
        raw = arrived(office, "postfix lmtp", to=user)
        assert " with LMTPS id " in head_of(raw) and raw.endswith(b"\r\n\r\n" + BODY)
        assert "for <" not in head_of(raw).split(" by postfix.example")[0], "the recipients must not learn of one another"
    sent = re.findall(r"postfix/lmtp\[\d+\]: (\w+): to=<(\w+)@inside.example>.* status=(\w+)", postfix.log())
    assert len({queue_id for queue_id, _, _ in sent}) == 1
    assert {user: status for _, user, status in sent} == {"carol": "sent", "dave": "sent", "nobody": "bounced"}


def test_exim_sends_in_chunks(office, exims):
    """In plain text, so that everything it sends can be compared."""
    recorder = Recorder(office.server)
    large = letter("exim in plain text") + BODY * 300
    exims(recorder.address(), encrypts=False).send(large.replace(b"\r\n", b"\n"), "bob@sender.example", ALICE)
    chunks = recorder.chunks()
    assert b"\r\nDATA\r\n" not in recorder.sent and len(chunks) > 1
    raw = arrived(office, "exim in plain text")
    assert raw.endswith(b"".join(chunks)) and raw.endswith(BODY * 301)
    assert "from exim.example ([127.0.0.1]) by mx.example.com (MaiRust) with ESMTP id " in head_of(raw)


def test_exim_sends_in_chunks_over_tls(office, exims):
    said = exims(office.server.address()).send(letter("exim over tls").replace(b"\r\n", b"\n"), "bob@sender.example", ALICE)
    assert re.search(r"SMTP\S{2} BDAT \d+ LAST", said) and "> DATA" not in said, said
    raw = arrived(office, "exim over tls")
    assert " with ESMTPS id " in head_of(raw) and raw.endswith(BODY)


def test_binary_mail_comes_back_byte_for_byte(office):
    """BINARYMIME: bytes that DATA must refuse."""
    head = letter("binary").removesuffix(BODY).removesuffix(b"\r\n")
    head += b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    content = bytes(range(256)) + b"\n.\n\0\r.\r\n\r\n.\r\nQUIT\r\n" + bytes(range(255, -1, -1)) * 2_000 + b"\0no line end"
    message = head + content
    chunks = [message[:1], message[1:300], b"", message[300:]]
    with connect(office, "smtp") as client:
        client.ehlo()
        assert client.docmd("MAIL FROM:<bob@sender.example> BODY=BINARYMIME")[0] == 250
        assert client.rcpt(ALICE)[0] == 250
        assert client.docmd("DATA")[0] == 503
        for number, chunk in enumerate(chunks, 1):
            last = b" LAST" if number == len(chunks) else b""
            client.sock.sendall(b"BDAT %d%s\r\n%s" % (len(chunk), last, chunk))
            assert client.getreply()[0] == 250
    assert arrived(office, "binary").endswith(b"\r\n" + message)


def test_delivery_reports_are_asked_for_by_users_only(office):
    with connect(office, "submissions") as client:
        client.login(ALICE, PASSWORD)
        assert client.mail(ALICE, ["RET=HDRS", "ENVID=QQ314159"])[0] == 250
        asked = ["NOTIFY=SUCCESS,DELAY", f"ORCPT=rfc822;{ALICE.replace('a', '+61', 1)}"]
        assert client.rcpt(ALICE, asked)[0] == 250
        assert client.data(letter("with a wish for a report", ALICE))[0] == 250
    arrived(office, "with a wish for a report")
    with connect(office, "smtp") as client:
        client.ehlo()
        assert client.mail("bob@sender.example", ["RET=HDRS"]) == (555, b"5.5.4 Parameter not recognized")
        assert client.mail("bob@sender.example")[0] == 250
        assert client.rcpt(ALICE, ["NOTIFY=SUCCESS"]) == (555, b"5.5.4 Parameter not recognized")
