"""Signing by DKIM: what we sign verifies elsewhere, after a real Postfix has relayed it, with the keys that a
real name server publishes from our zone file."""

import email
import email.policy
import json
import pathlib
import re
import smtplib
import ssl
import subprocess
import tempfile

import dkim
import pytest
from conftest import Api, run, self_signed, wait_until
from knot import Knot
from postfix import Postfix
from test_serve import PASSWORD, configuration

HEAD = ("From: =?utf-8?q?Alice?= <alice@example.com>\r\nTo: Bob\r\n\t<bob@remote.example>\r\nSubject: {subject}\r\n"
        "Date: Sat, 22 Nov 2025 03:04:06 +0000\r\nMessage-ID: <{subject}@example.com>\r\nMIME-Version: 1.0\r\n")
PLAIN = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {}\r\n\r\n"
LONG = "<p>" + "長い行 long line " * 200 + "</p>"
MESSAGES = {
    "8bit": PLAIN.format("8bit") + "Hello  Bob,\t \r\n\r\n.\r\n..dots\r\n請求書を送ります。 \r\n\r\n\r\n",
    "quoted-printable": PLAIN.format("quoted-printable") + "caf=C3=A9 =\r\ngoes on =20\r\nFrom here\r\n",
    "998": PLAIN.format("7bit") + "x" * 998 + "\r\n",
    "long-line": PLAIN.format("8bit").replace("plain", "html") + LONG + "\r\n",
    "long-parts": ("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
                   + LONG + "\r\n--b\r\nContent-Type: application/json\r\n\r\n\"" + "0123456789" * 150
                   + "\"\r\n--b--\r\n"),
    "folded": ("References: " + " ".join(f"<{number}@example.com>" for number in range(120)) + "\r\n"
               + PLAIN.format("7bit") + "x\r\n"),
    "empty": "\r\n",
}


@pytest.fixture(scope="module")
def knot():
    server = Knot("example.com")
    yield server
    server.remove()


@pytest.fixture
def site(servers, sinks, tmp_path, knot):
    """A server whose mail goes by Postfix to a sink; example.com is published as it says itself."""
    class Site:
        def __init__(self):
            cert, key = self_signed(tmp_path, "sink.test")
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(cert, key)
            self.sink = sinks(tls=tls)
            self.postfix = Postfix(("127.0.0.1", self.sink.port), ("127.0.0.1", 1), ["unused.example"]).start()
            self.config = configuration(
                tmp_path, delivery={"relay": f"127.0.0.1:{self.postfix.port}", "retry_first": "1s"},
                dns={"servers": [knot.address]},
                server={"hostname": "mail.example.com", "data_dir": str(tmp_path / "data")})
            run("domain", "add", "example.com", "-c", self.config)
            run("user", "add", "alice@example.com", "-c", self.config, "--password-stdin", input=PASSWORD)
            self.key = json.loads(run("apikey", "create", "tests", "-c", self.config, "-o", "json").stdout)["key"]
            self.server = servers("-c", self.config, command="serve")

        def dkim(self, command, *arguments):
            return json.loads(run("domain", "dkim", command, "example.com", *arguments, "-c", self.config,
                                  "-o", "json").stdout)

        def publish(self):
            knot.publish(run("domain", "dns", "example.com", "--zone", "-c", self.config).stdout)

        def check(self):
            """The exit code, and the status of each record."""
            done = run("domain", "dns", "example.com", "--check", "-c", self.config, "-o", "json", check=False)
            return done.returncode, {(one["purpose"], one["name"]): one["status"] for one in json.loads(done.stdout)}

        def send(self, raw):
            """What arrives at the sink."""
            count = len(self.sink.received)
            client = self.server.submission("alice@example.com", PASSWORD)
            client.sendmail("alice@example.com", ["bob@remote.example"], raw, ["BODY=8BITMIME"])
            client.quit()
            return self.sink.wait_for(count + 1)[count]["data"]

        def send_until(self, condition):
            """Sends until a message is signed in this way: other processes change keys, and a server notices
            within seconds."""
            return wait_until(lambda: (raw := self.send(letter("empty"))) and condition(raw) and raw, "such a signature")

    made = Site()
    yield made
    made.postfix.remove()


def letter(subject):
    return (HEAD.format(subject=subject) + MESSAGES[subject]).encode()


def selectors(raw):
    """Those of the signatures, from the top."""
    fields = email.message_from_bytes(raw).get_all("DKIM-Signature", [])
    return [re.search(r"\bs=([^;]+);", field)[1] for field in fields]


def verify_by_dkimpy(raw, knot):
    """What dkimpy says of each signature."""
    def txt(name, timeout=5):
        found = knot.query(name.decode().rstrip("."), "TXT")
        return found[0].encode() if found else None

    def verify(index):
        try:
            return dkim.DKIM(raw).verify(index, dnsfunc=txt)
        except dkim.ValidationError:
            return False

    return [verify(index) for index in range(len(selectors(raw)))]


def verify_by_opendkim(raw, knot):
    """What opendkim says of each signature."""
    return [one_by_opendkim(only(raw, selector), knot) for selector in selectors(raw)]


def only(raw, selector):
    """The message with one of its signatures."""
    header, body = raw.split(b"\r\n\r\n", 1)
    fields = re.split(rb"\r\n(?![ \t])", header)
    kept = [field for field in fields
            if not field.lower().startswith(b"dkim-signature:") or f"s={selector};".encode() in field]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


def one_by_opendkim(raw, knot):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "unbound.conf").write_text(
            f"server:\n do-not-query-localhost: no\nforward-zone:\n name: \".\"\n forward-addr: 127.0.0.1@{knot.port}\n")
        (folder / "conf").write_text(
            f"Mode v\nSocket local:{folder}/socket\nResolverConfiguration {folder}/unbound.conf\n")
        (folder / "message").write_bytes(raw)
        done = subprocess.run(["/usr/sbin/opendkim", "-x", folder / "conf", "-t", folder / "message"],
                              capture_output=True, text=True, timeout=60)
    [result] = re.findall(r": verification \(s=.*\) (succeeded|failed)", done.stdout)
    return result


def test_what_is_signed_verifies_behind_a_relay(site, knot):
    made = site.dkim("rotate", "--activate")
    assert [(key["algorithm"], key["state"]) for key in made] == [("rsa", "active"), ("ed25519", "active")]
    site.publish()
    expected = [key["selector"] for key in made]
    for subject in MESSAGES:
        raw = site.send(letter(subject))
        assert b"by postfix.example" in raw
        assert selectors(raw) == expected, subject
        assert verify_by_dkimpy(raw, knot) == [True, True], (subject, raw)
        assert verify_by_opendkim(raw, knot) == ["succeeded", "succeeded"], (subject, raw)
        assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
        # What was sent is what is read, whatever it was encoded with on the way.
        sent, got = (email.message_from_bytes(one, policy=email.policy.default) for one in (letter(subject), raw))
        parts = [[part.get_content() for part in one.walk() if not part.is_multipart()] for one in (sent, got)]
        assert parts[0] == parts[1], subject
    # Whoever changes anything breaks both.
    for old, new in ((b"Bob", b"Eve"), (b"\r\nFrom: ", b"\r\nFrom: eve@example.com\r\nFrom: "), (b"Hello", b"Hullo")):
        # The last one: a signature may hold these letters by chance.
        before, _, after = site.send(letter("8bit")).rpartition(old)
        raw = before + new + after
        assert verify_by_dkimpy(raw, knot) == [False, False]
        assert verify_by_opendkim(raw, knot) == ["failed", "failed"]


def test_mail_of_the_api_is_signed(site, knot):
    site.dkim("rotate", "--activate")
    site.publish()
    api = Api(site.server.ready["http"], site.key)
    api.send({"from": "alice@example.com", "to": ["bob@remote.example"], "subject": "API",
              "text": "x" * 2_000 + "\n請求書", "html": "<p>é</p>"})
    raw = site.sink.wait_for(1)[0]["data"]
    assert len(selectors(raw)) == 2 and verify_by_dkimpy(raw, knot) == [True, True]
    [kept] = api.messages(folder="Sent")
    assert verify_by_dkimpy(api.raw(kept), knot) == [True, True], "what is kept is what was sent"


def test_keys_are_rotated_without_a_gap(site, knot):
    assert selectors(site.send(letter("empty"))) == []
    first = [key["selector"] for key in site.dkim("rotate")]
    site.publish()
    assert selectors(site.send(letter("empty"))) == [], "pending keys do not sign"
    assert [key["selector"] for key in site.dkim("activate")] == first
    old = site.send_until(lambda raw: selectors(raw) == first)
    second = [key["selector"] for key in site.dkim("rotate")]
    assert not set(first) & set(second)
    site.publish()
    assert selectors(site.send(letter("empty"))) == first
    site.dkim("activate")
    new = site.send_until(lambda raw: selectors(raw) == second)
    # The old keys stay published while their mail is on its way.
    site.publish()
    for raw in (old, new):
        assert verify_by_dkimpy(raw, knot) == [True, True]
        assert verify_by_opendkim(raw, knot) == ["succeeded", "succeeded"]
    states = {key["selector"]: key["state"] for key in site.dkim("list")}
    assert states == dict.fromkeys(first, "retired") | dict.fromkeys(second, "active")
    refused = run("domain", "dkim", "remove", "example.com", second[0], "-c", site.config, check=False)
    assert refused.returncode == 6 and "signs mail" in refused.stderr
    assert run("domain", "dkim", "remove", "example.com", "nothing", "-c", site.config, check=False).returncode == 5
    site.dkim("remove", *first)
    site.publish()
    assert [key["selector"] for key in site.dkim("list")] == second
    site.dkim("retire", *second)
    site.send_until(lambda raw: selectors(raw) == [])
    events = json.loads(run("audit", "list", "-c", site.config, "-o", "json").stdout)
    kinds = [event["event_type"] for event in events if event["event_type"].startswith("dkim_key.")]
    assert sorted(set(kinds)) == ["dkim_key." + what for what in ("activated", "created", "removed", "retired")]
    assert "PRIVATE" not in json.dumps(events) and len(kinds) == 12


def test_retired_keys_are_forgotten(servers, tmp_path):
    config = configuration(tmp_path, retention={"retired_dkim_keys_days": 0})
    run("domain", "add", "example.com", "-c", config)
    [key] = json.loads(run("domain", "dkim", "rotate", "example.com", "--algorithm", "ed25519", "--activate", "-c",
                           config, "-o", "json").stdout)

    def listed(command):
        return json.loads(run(*command, "-c", config, "-o", "json").stdout)

    secrets = listed(("keys", "list"))[0]["secrets"]
    run("domain", "dkim", "retire", "example.com", key["selector"], "-c", config)
    server = servers("-c", config, command="serve")
    wait_until(lambda: listed(("domain", "dkim", "list", "example.com")) == [], "the end of the key")
    wait_until(lambda: listed(("keys", "list"))[0]["secrets"] == secrets - 1, "the end of the private key")
    assert "a retired DKIM key was removed" in server.log()


def test_without_its_key_no_mail_leaves(site, tmp_path):
    """Whatever happens to a private key: 451 and 503, and what it was in the log."""
    import sqlite3

    site.dkim("rotate", "--activate", "--algorithm", "ed25519")
    with sqlite3.connect(tmp_path / "data" / "mairust.db") as database:
        assert database.execute("UPDATE secrets SET sealed = x'00' WHERE kind = 'dkim'").rowcount == 1
    client = site.server.submission("alice@example.com", PASSWORD)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("alice@example.com", ["bob@remote.example"], letter("empty"))
    assert refused.value.smtp_code == 451
    api = Api(site.server.ready["http"], site.key)
    answer = api.request("POST", "/api/v1/send", {"from": "alice@example.com", "to": ["bob@remote.example"],
                                                  "subject": "x", "text": "x"})
    assert answer.status == 503, answer.body
    assert api.messages() == [] and "mail of this domain can't be signed" in site.server.log()


def test_notices_are_signed(site, knot, tmp_path):
    site.dkim("rotate", "--activate")
    site.publish()
    site.sink.refuse["bob@remote.example"] = "550 5.1.1 no such user"
    site.postfix.remove()
    # Straight to the sink, so that the notice is ours.
    text = site.config.read_text().replace(f"127.0.0.1:{site.postfix.port}", f"127.0.0.1:{site.sink.port}")
    site.config.write_text(text)
    assert site.server.stop() == 0
    site.server.start()
    client = site.server.submission("alice@example.com", PASSWORD)
    client.sendmail("alice@example.com", ["bob@remote.example"], letter("empty"))
    api = Api(site.server.ready["http"], site.key)
    [notice] = wait_until(lambda: api.messages(subject="Undelivered Mail Returned to Sender"), "a notice")
    raw = api.raw(notice)
    assert b"From: \"Mail Delivery System\" <postmaster@mail.example.com>" in raw
    assert verify_by_dkimpy(raw, knot) == [True, True]


def test_dns_says_whether_all_is_published(site, knot):
    site.dkim("rotate")
    knot.publish("")
    code, found = site.check()
    assert code == 8 and set(found.values()) == {"missing"}
    site.publish()
    code, found = site.check()
    assert (code, set(found.values())) == (0, {"ok"}), found
    purposes = [purpose for purpose, _ in found]
    assert sorted(purposes) == ["dkim", "dkim", "dmarc", "mx", "spf", "tls-reports"]
    zone = run("domain", "dns", "example.com", "--zone", "-c", site.config).stdout
    name = next(name for purpose, name in found if purpose == "dkim" and name.split(".")[0].endswith("-rsa"))
    for old, new, purpose in [
        ("v=spf1 mx", "v=spf1 ip4:192.0.2.1", ("spf", "example.com")),
        ("10 mail.example.com.", "10 mx.other.example.", ("mx", "example.com")),
        ("p=MII", "p=MIJ", ("dkim", name)),
        ("p=quarantine", "p=nothing", ("dmarc", "_dmarc.example.com")),
    ]:
        assert old in zone
        knot.publish(zone.replace(old, new, 1))
        code, found = site.check()
        wrong = {key: status for key, status in found.items() if status != "ok"}
        assert (code, wrong) == (8, {purpose: "differs"}), (old, found)
    told = run("domain", "dns", "example.com", "--check", "-c", site.config, check=False)
    assert told.returncode == 8 and "found: v=DMARC1; p=nothing" in told.stdout and "p= must be" in told.stdout
    assert run("domain", "dns", "nobody.example", "-c", site.config, check=False).returncode == 5
