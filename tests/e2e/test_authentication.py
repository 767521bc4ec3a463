"""Who mail really comes from: signatures by dkimpy and opendkim, records from a DNS server of our own."""

import base64
import json
import pathlib
import re
import shutil
import smtplib
import subprocess
import tempfile

import dkim
import dnslib
import nacl.signing
import pytest
from conftest import Api, free_port, swaks
from dnslib.server import BaseResolver, DNSServer
from test_serve import production

LETTER = (
    "From: Bob <bob@{domain}>\r\nTo: alice@example.com\r\nSubject: {subject}\r\n"
    "Date: Sat, 22 Nov 2025 03:04:06 +0000\r\nMessage-ID: <1@{domain}>\r\n\r\n"
    "Hello  Alice,\r\n請求書 \r\n \r\n\t\r\n"
)
SIGNED = [b"from", b"from", b"to", b"subject", b"date", b"message-id"]


class Zone(BaseResolver):
    """Answers from a table. What is in `broken` gets SERVFAIL, what is in no table NXDOMAIN."""

    def __init__(self):
        self.records = {}
        self.broken = set()

    def add(self, name, kind, *values):
        self.records.setdefault(name.lower(), {})[kind] = values

    def resolve(self, request, handler):
        answer = request.reply()
        name = str(request.q.qname).rstrip(".").lower()
        kind = dnslib.QTYPE[request.q.qtype]
        if name in self.broken:
            answer.header.rcode = dnslib.RCODE.SERVFAIL
        elif name not in self.records:
            answer.header.rcode = dnslib.RCODE.NXDOMAIN
        for value in self.records.get(name, {}).get(kind, ()):
            # A string of a TXT record has 255 octets at most.
            data = [value[i:i + 255] for i in range(0, len(value), 255)] if kind == "TXT" else value
            data = data if isinstance(data, dnslib.RD) else getattr(dnslib, kind)(data)
            answer.add_answer(dnslib.RR(name, request.q.qtype, rdata=data, ttl=1))
        return answer


@pytest.fixture(scope="module")
def keys():
    """A key of each kind: what signs, and what is published."""
    with tempfile.TemporaryDirectory() as folder:
        private = pathlib.Path(folder) / "key.pem"
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", private, "2048"], check=True, capture_output=True)
        public = subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-outform", "DER"],
                                check=True, capture_output=True).stdout
        rsa = private.read_bytes()
    ed25519 = nacl.signing.SigningKey.generate()
    return {
        "rsa": (rsa, "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()),
        "ed": (base64.b64encode(bytes(ed25519)),
               "v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(ed25519.verify_key)).decode()),
    }


@pytest.fixture
def zone(keys):
    """Domains whose mail may come from this machine, and some whose mail may not."""
    zone = Zone()
    zone.add("mx.sender.example", "A", "127.0.0.1")
    zone.add("sender.example", "TXT", "v=spf1 a:mx.sender.example -all", "unrelated")
    zone.add("elsewhere.example", "TXT", "v=spf1 ip4:192.0.2.0/24 -all exp=why.elsewhere.example")
    zone.add("why.elsewhere.example", "TXT", "%{c} is not ours")
    for domain in ("sender.example", "a.co.jp", "b.co.jp"):
        for selector, (_, record) in keys.items():
            zone.add(f"{selector}._domainkey.{domain}", "TXT", record)
    for domain in ("sender.example", "elsewhere.example", "a.co.jp", "b.co.jp"):
        zone.add(f"_dmarc.{domain}", "TXT", "v=DMARC1; p=reject")
    port = free_port()
    servers = [DNSServer(zone, port=port, address="127.0.0.1", tcp=tcp) for tcp in (False, True)]
    for server in servers:
        server.start_thread()
    zone.address = f"127.0.0.1:{port}"
    yield zone
    for server in servers:
        server.stop()


@pytest.fixture
def mx(servers, tmp_path, zone):
    """Starts a server that asks this zone; gives a function that sends a message to it and returns
    what was stored."""
    def start(**authentication):
        server, key = production(servers, tmp_path, dns={"servers": [zone.address]},
                                 authentication={"timeout": "5s", **authentication})
        api = Api(server.ready["http"], key)

        def deliver(message, sender="bob@sender.example"):
            before = {stored["id"] for stored in api.messages()}
            with server.smtp() as client:
                client.ehlo("mx.sender.example")
                client.sendmail(sender, ["alice@example.com"], message)
            [stored] = [stored for stored in api.messages() if stored["id"] not in before]
            stored["raw"] = api.raw(stored)
            stored["results"] = results(stored["raw"])
            return stored

        deliver.server, deliver.api = server, api
        return deliver

    return start


def letter(domain="sender.example", subject="a letter"):
    return LETTER.format(domain=domain, subject=subject).encode()


def sign(keys, message, selector="rsa", domain="sender.example", **options):
    algorithm = b"rsa-sha256" if selector == "rsa" else b"ed25519-sha256"
    return dkim.sign(message, selector.encode(), domain.encode(), keys[selector][0], signature_algorithm=algorithm,
                     include_headers=SIGNED, canonicalize=(b"relaxed", b"relaxed"), **options) + message


def results(raw):
    """The results of our Authentication-Results field, each as a text on one line."""
    header = re.sub(rb"\r\n[ \t]+", b" ", raw.split(b"\r\n\r\n", 1)[0]).decode("utf-8", "replace")
    fields = [line for line in header.split("\r\n") if line.lower().startswith("authentication-results:")]
    ours = [field.split(";") for field in fields if field.split(";")[0].split()[-1] == "mx.example.com"]
    assert len(ours) == 1, header
    return [result.strip() for result in ours[0][1:]]


def words(stored):
    """Methods and outcomes, in order."""
    return [result.split()[0] for result in stored["results"]]


def test_signed_mail_passes_and_changed_mail_fails(mx, keys):
    deliver = mx()
    for selector in ("rsa", "ed"):
        message = sign(keys, letter(), selector)
        stored = deliver(message)
        assert words(stored) == ["iprev=pass", "spf=none", "spf=pass", "dkim=pass", "dmarc=pass", "arc=none"]
        assert stored["folder"] == "INBOX"
        assert stored["raw"].endswith(message), "stored as it was received"
        changed = deliver(message.replace(b"Hello", b"Hullo"), sender="bob@elsewhere.example")
        assert words(changed)[3:5] == ["dkim=fail", "dmarc=fail"]
        assert 'reason="the body was changed"' in changed["results"][3]
        assert changed["folder"] == "Quarantine" and changed["status"] == "quarantined"
        changed = deliver(message.replace(b"Subject: a", b"Subject: A"), sender="bob@elsewhere.example")
        assert words(changed)[3:5] == ["dkim=fail", "dmarc=fail"]


def test_several_signatures_each_have_a_result(mx, keys):
    both = sign(keys, sign(keys, letter()), "ed")
    deliver = mx()
    assert words(deliver(both))[3:6] == ["dkim=pass", "dkim=pass", "dmarc=pass"]
    one_is_gone = deliver(both.replace(b"s=ed;", b"s=gone;", 1), sender="")
    assert words(one_is_gone)[2:5] == ["dkim=permerror", "dkim=pass", "dmarc=pass"]


def test_at_most_ten_signatures_are_looked_at(mx, keys):
    signature = sign(keys, letter())[: -len(letter())]
    stored = mx()(signature * 25 + letter())
    assert words(stored).count("dkim=pass") == 10


def test_large_signed_mail_passes(mx, keys):
    message = sign(keys, letter() + b"another line  of text\r\n" * 100_000)
    stored = mx()(message)
    assert "dkim=pass" in words(stored) and stored["raw"].endswith(message)


def test_mail_signed_by_opendkim_passes(mx, keys):
    assert shutil.which("miltertest") and pathlib.Path("/usr/sbin/opendkim").exists(), "install opendkim and miltertest"
    signature = sign_with_opendkim(keys["rsa"][0], "sender.example", "rsa", letter())
    deliver = mx()
    assert "dkim=pass" in words(deliver(signature + letter()))
    assert "dkim=fail" in words(deliver(signature + letter(subject="another letter")))


def sign_with_opendkim(key, domain, selector, message):
    """The DKIM-Signature that opendkim adds as the milter of a mail server."""
    def lua(data):
        return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'

    header, body = message.split(b"\r\n\r\n", 1)
    fields = [field.split(b": ", 1) for field in header.split(b"\r\n")]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "key").write_bytes(key)
        (folder / "key").chmod(0o600)
        (folder / "conf").write_text(
            f"Mode s\nDomain {domain}\nSelector {selector}\nKeyFile {folder}/key\nSocket local:{folder}/socket\n"
            "Canonicalization relaxed/relaxed\nSignatureAlgorithm rsa-sha256\nInternalHosts 127.0.0.1\n"
            "RequireSafeKeys no\nOversignHeaders From\n")
        (folder / "script.lua").write_text("\n".join([
            f'mt.startfilter("/usr/sbin/opendkim", "-f", "-x", "{folder}/conf")',
            f'connection = mt.connect("unix:{folder}/socket", 200, 0.05)',
            'mt.conninfo(connection, "localhost", "127.0.0.1")',
            'mt.mailfrom(connection, "bob@sender.example")',
            'mt.rcptto(connection, "alice@example.com")',
            *(f"mt.header(connection, {lua(field)}, {lua(value)})" for field, value in fields),
            "mt.eoh(connection)",
            f"mt.bodystring(connection, {lua(body)})",
            "mt.eom(connection)",
            f'file = io.open("{folder}/signature", "wb")',
            'file:write(mt.getheader(connection, "DKIM-Signature", 0))',
            "file:close()",
            "mt.disconnect(connection)",
        ]))
        subprocess.run(["miltertest", "-s", folder / "script.lua"], check=True, timeout=60)
        signature = (folder / "signature").read_bytes()
    return b"DKIM-Signature: " + signature.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"


def test_spf_in_all_its_ways(mx, zone):
    deliver = mx()
    for sender, result in [
        ("bob@sender.example", "spf=pass"),
        ("bob@elsewhere.example", "spf=fail"),
        ("bob@nobody.example", "spf=none"),
        ("bob@two.example", "spf=permerror"),
        ("bob@down.example", "spf=temperror"),
    ]:
        zone.add("two.example", "TXT", "v=spf1 -all", "v=spf1 +all")
        zone.broken.add("down.example")
        stored = deliver(letter("other.example"), sender)
        assert words(stored)[2] == result, stored["results"]
        assert f"smtp.mailfrom={sender}" in stored["results"][2]
        assert stored["folder"] == "INBOX", "a result alone does nothing"


def test_a_domain_that_asks_to_refuse_is_obeyed_where_configured(mx, zone):
    deliver = mx(dmarc_reject="reject", spf_fail="reject")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        deliver(letter("elsewhere.example"))
    assert refused.value.smtp_code == 550
    assert refused.value.smtp_error.startswith(b"5.7.1 Refused by the policy of elsewhere.example")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        deliver(letter("other.example"), "bob@elsewhere.example")
    assert refused.value.smtp_error.startswith(b"5.7.23 elsewhere.example does not let your host use its name")
    assert b"elsewhere.example explains: 127.0.0.1 is not ours" in refused.value.smtp_error
    zone.add("_dmarc.tested.example", "TXT", "v=DMARC1; p=reject; t=y")
    assert deliver(letter("tested.example"))["folder"] == "Quarantine"
    zone.broken.add("_dmarc.down.example")
    stored = deliver(letter("down.example"))
    assert "dmarc=temperror" in words(stored) and stored["folder"] == "INBOX"


def test_two_organisations_below_co_jp_do_not_vouch_for_one_another(mx, keys):
    deliver = mx()
    other = deliver(sign(keys, letter("a.co.jp"), domain="b.co.jp"))
    assert words(other)[3:5] == ["dkim=pass", "dmarc=fail"] and other["folder"] == "Quarantine"
    own = deliver(sign(keys, letter("a.co.jp"), domain="a.co.jp"))
    assert words(own)[3:5] == ["dkim=pass", "dmarc=pass"] and own["folder"] == "INBOX"


def test_nobody_else_speaks_in_our_name(mx):
    forged = (b"Authentication-Results: mx.example.com;\r\n\tdmarc=pass header.from=elsewhere.example\r\n"
              b"authentication-results: (x) MX.EXAMPLE.COM 1; spf=pass\r\n")
    foreign = b"Authentication-Results: mx.other.example; dmarc=fail\r\n"
    deliver = mx()
    stored = deliver(forged + foreign + letter("elsewhere.example"))
    assert "dmarc=fail" in words(stored)
    assert stored["raw"].lower().count(b"authentication-results: ") == 2
    assert stored["raw"].endswith(foreign + letter("elsewhere.example"))
    metrics = deliver.api.bytes("/metrics").decode()
    assert 'mairust_authentication_results_total{method="dmarc",result="fail"} 1' in metrics
    line = next(json.loads(line) for line in deliver.server.log().splitlines() if "sender verified" in line)
    logged = json.loads(line["auth_results"])
    assert logged["dmarc"]["result"] == "fail" and logged["spf"] == {"result": "pass", "domain": "sender.example"}


def test_dns_that_is_dead_holds_nobody_up_for_long(servers, tmp_path):
    """Nobody listens there."""
    server, key = production(servers, tmp_path, dns={"servers": [f"127.0.0.1:{free_port()}"]},
                             authentication={"timeout": "500ms", "dmarc_reject": "reject", "spf_fail": "reject"})
    swaks(server, "--from", "bob@elsewhere.example", "--to", "alice@example.com", "--ehlo", "mx.elsewhere.example",
          "--header", "From: bob@elsewhere.example")
    api = Api(server.ready["http"], key)
    [stored] = api.messages()
    found = {result.split()[0] for result in results(api.raw(stored))}
    # The name of 127.0.0.1 is known without DNS.
    assert found == {"iprev=pass", "spf=temperror", "dkim=none", "dmarc=temperror", "arc=none"}
    assert stored["folder"] == "INBOX"


def test_it_can_be_switched_off(mx):
    deliver = mx(mode="off")
    server = deliver.server
    with server.smtp() as client:
        client.sendmail("bob@elsewhere.example", ["alice@example.com"], letter("elsewhere.example"))
    [stored] = deliver.api.messages()
    assert b"Authentication-Results" not in deliver.api.raw(stored) and stored["folder"] == "INBOX"
