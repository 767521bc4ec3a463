"""Makes the signed messages of this folder, and dns.json with the keys, by dkimpy and opendkim.

Run it in this folder with `dkimpy`, `pynacl` and `authres` installed, and `opendkim`, `miltertest` and
`openssl` in the path. Keys are made anew and thrown away, so that all files change.
"""

import base64
import json
import pathlib
import re
import subprocess
import tempfile

import dkim
import nacl.signing

MESSAGE = (
    b"Received: from a by b; Sat, 22 Nov 2025 03:04:06 +0000\r\n"
    b"From: Bob <bob@sender.example>\r\nTo: alice@example.com\r\n"
    b"Subject: A  folded\r\n\tsubject \r\nDate: Sat, 22 Nov 2025 03:04:06 +0000\r\nMessage-ID: <1@sender.example>\r\n"
    b"\r\nHello  Alice, \t\r\n\r\n\xe8\xab\x8b\xe6\xb1\x82\xe6\x9b\xb8 in UTF-8, \x82\xa0 in Shift_JIS.\r\n"
)
BLANKS = b" \r\n\t\r\n \t \r\n\r\n"
HEADERS = [b"from", b"from", b"to", b"subject", b"date", b"message-id"]
dns, keys = {}, {}


def publish(selector, domain, text):
    dns[f"{selector}._domainkey.{domain}"] = text


def rsa_key(selector, domain, bits):
    key = subprocess.run(["openssl", "genrsa", "-traditional", str(bits)], capture_output=True, check=True).stdout
    public = subprocess.run(
        ["openssl", "rsa", "-pubout", "-outform", "DER"], input=key, capture_output=True, check=True).stdout
    publish(selector, domain, "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode())
    keys[selector, domain] = key


def ed25519_key(selector, domain):
    key = nacl.signing.SigningKey.generate()
    publish(selector, domain, "v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(key.verify_key)).decode())
    keys[selector, domain] = base64.b64encode(bytes(key))


def sign(message, selector, domain="sender.example", forms=b"relaxed/relaxed", **options):
    header = dkim.sign(
        message, selector.encode(), domain.encode(), keys[selector, domain], include_headers=HEADERS,
        canonicalize=tuple(forms.split(b"/")), **options)
    return header + message


OPENDKIM = """
mt.startfilter("/usr/sbin/opendkim", "-f", "-x", "{folder}/conf")
connection = mt.connect("unix:{folder}/socket", 200, 0.05)
mt.conninfo(connection, "localhost", "127.0.0.1")
mt.mailfrom(connection, "bob@sender.example")
mt.rcptto(connection, "alice@example.com")
{headers}
mt.eoh(connection)
mt.bodystring(connection, {body})
mt.eom(connection)
file = io.open("{folder}/signature", "wb")
file:write(mt.getheader(connection, "DKIM-Signature", 0))
file:close()
mt.disconnect(connection)
"""


def by_opendkim(message, selector, domain):
    """Signs as a mail server would that runs opendkim as its milter."""
    def lua(data):
        return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'

    header, body = message.split(b"\r\n\r\n", 1)
    fields = [field.split(b":", 1) for field in re.split(rb"\r\n(?![ \t])", header)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "key").write_bytes(keys[selector, domain])
        (path / "key").chmod(0o600)
        (path / "conf").write_text(
            f"Mode s\nDomain {domain}\nSelector {selector}\nKeyFile {folder}/key\nSocket local:{folder}/socket\n"
            "Canonicalization relaxed/relaxed\nSignatureAlgorithm rsa-sha256\nInternalHosts 127.0.0.1\n"
            "RequireSafeKeys no\nOversignHeaders From\n")
        headers = "\n".join(
            f"mt.header(connection, {lua(name)}, {lua(value.lstrip().replace(chr(13).encode(), b''))})"
            for name, value in fields)
        script = OPENDKIM.format(folder=folder, headers=headers, body=lua(body))
        (path / "script.lua").write_text(script)
        subprocess.run(["miltertest", "-s", path / "script.lua"], check=True, timeout=60)
        signature = (path / "signature").read_bytes().replace(b"\r", b"").replace(b"\n", b"\r\n")
    return b"DKIM-Signature: " + signature + b"\r\n" + message


def seal(message, selector, domain, results="spf=pass smtp.mailfrom=bob@sender.example"):
    authserv_id = f"mx.{domain}"
    message = f"Authentication-Results: {authserv_id}; {results}\r\n".encode() + message
    fields = dkim.arc_sign(
        message, selector.encode(), domain.encode(), keys[selector, domain], authserv_id.encode(),
        include_headers=[b"from", b"to", b"subject", b"date"])
    return b"".join(fields) + message


def write(name, message):
    pathlib.Path(f"{name}.eml").write_bytes(message)


rsa_key("rsa", "sender.example", 2048)
rsa_key("weak", "sender.example", 768)
rsa_key("rsa", "list.example", 1024)
rsa_key("rsa", "forward.example", 2048)
ed25519_key("ed", "sender.example")

write("rsa-relaxed", sign(MESSAGE + BLANKS, "rsa"))
write("rsa-simple", sign(MESSAGE + b"\r\n\r\n", "rsa", forms=b"simple/simple"))
write("ed25519", sign(MESSAGE, "ed", signature_algorithm=b"ed25519-sha256"))
write("two", sign(sign(MESSAGE, "rsa"), "ed", signature_algorithm=b"ed25519-sha256", forms=b"relaxed/simple"))
write("empty", sign(MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 4], "rsa"))
write("weak", sign(MESSAGE, "weak"))
write("sha1", sign(MESSAGE, "rsa", signature_algorithm=b"rsa-sha1"))
write("length", sign(MESSAGE, "rsa", length=True))
write("opendkim", by_opendkim(MESSAGE + BLANKS, "rsa", "sender.example"))
write("arc", seal(sign(MESSAGE, "rsa"), "rsa", "list.example"))
write("arc-two", seal(seal(sign(MESSAGE, "rsa"), "rsa", "list.example"), "rsa", "forward.example", "arc=pass"))
pathlib.Path("dns.json").write_text(json.dumps(dns, indent=2) + "\n")
