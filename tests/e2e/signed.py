"""A small Internet of signed zones: Knot DNS as the root and as all that is below it."""

import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

import dnslib
from conftest import free_port, wait_until

CONFIG = """
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
log:
  - target: stderr
    any: info
database:
    storage: "{folder}"
policy:
  - id: own
    manual: on
    single-type-signing: on
    algorithm: ecdsap256sha256
    nsec3: {nsec3}
template:
  - id: default
    storage: "{folder}"
    journal-content: none
    zonefile-load: whole
    zonefile-sync: -1
    dnssec-policy: own
zone:
{zones}
"""

ROOT = """
$TTL 60
. IN SOA ns. hostmaster. 1 3600 900 604800 60
. IN NS ns.
ns. IN A 127.0.0.1
"""

ZONE = """
$ORIGIN {zone}.
$TTL 60
@ IN SOA ns. hostmaster. 1 3600 900 604800 60
@ IN NS ns.
@ IN MX 10 mx
mx IN A 127.0.0.1
"""


class Internet:
    """Zones with one exchanger each, `mx`, at this machine. `anchors` is the file with the key of the root."""

    def __init__(self, signed, unsigned=(), broken=(), nsec3=True):
        """`signed`, `unsigned`: zone to further lines. The parent of those that are `broken` has another key of them."""
        assert shutil.which("knotd") and shutil.which("keymgr"), "Knot DNS is missing: install the Debian package knot"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mairust-signed-", dir="/tmp"))
        self.config, self.anchors = self.folder / "knot.conf", self.folder / "anchors"
        zones = {**signed, **dict(unsigned)}
        entry = "  - domain: {zone}\n    file: \"{file}.zone\"\n    dnssec-signing: {signing}"
        entries = [entry.format(zone=".", file="root", signing="on")]
        entries += [entry.format(zone=zone, file=zone, signing="on" if zone in signed else "off") for zone in zones]
        self.config.write_text(CONFIG.format(folder=self.folder, port=self.port, zones="\n".join(entries),
                                             nsec3="on" if nsec3 else "off"))
        root = ROOT + self._delegations(signed, zones, broken)
        (self.folder / "root.zone").write_text(root)
        for zone, lines in zones.items():
            (self.folder / f"{zone}.zone").write_text(ZONE.format(zone=zone) + "\n".join(lines) + "\n")
        self.anchors.write_text(self._keymgr(".", "dnskey").replace(" DNSKEY ", " IN DNSKEY "))
        self.log = open(self.folder / "log.txt", "wb")
        self.process = subprocess.Popen(["knotd", "-c", self.config], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)
        ready = lambda: all(self._answers(zone) for zone in (".", *zones))
        wait_until(lambda: self.process.poll() is not None or ready(), "start of Knot")
        assert self.process.poll() is None, (self.folder / "log.txt").read_text()

    def dns(self):
        """What a configuration says to live there."""
        return {"servers": [self.address], "trust_anchors": str(self.anchors)}

    def remove(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _delegations(self, signed, zones, broken):
        lines = [f"{zone}. IN NS ns." for zone in zones]
        self._key(".")
        for zone in signed:
            self._key(zone)
            digest = next(line for line in self._keymgr(zone, "ds").splitlines() if " 13 2 " in line)
            if zone in broken:
                digest = digest[:-8] + ("00000000" if digest[-8:] != "00000000" else "11111111")
            lines.append(digest)
        return "\n".join(lines) + "\n"

    def _key(self, zone):
        self._keymgr(zone, "generate", "ksk=true", "zsk=true", "algorithm=ecdsap256sha256")

    def _keymgr(self, zone, *arguments):
        done = subprocess.run(["keymgr", "-c", self.config, zone, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def _answers(self, zone):
        question = dnslib.DNSRecord.question(zone, "SOA")
        try:
            answer = dnslib.DNSRecord.parse(question.send("127.0.0.1", self.port, tcp=True, timeout=5))
        except OSError:
            return False
        return bool(answer.rr)


class Attacker:
    """Stands between a resolver and the Internet, and lies about the TLSA records and the alias of one name.

    `lie` gets the question and a way to ask the Internet, and returns an answer.
    """

    def __init__(self, internet, name, lie):
        self.internet, self.lie, self.lies = internet, lie, 0
        self.name = dnslib.DNSLabel(name)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def ask(self, request):
        """The true answer, over TCP."""
        with socket.create_connection(("127.0.0.1", self.internet.port), timeout=5) as connection:
            connection.sendall(struct.pack("!H", len(request)) + request)
            stream = connection.makefile("rb")
            return stream.read(struct.unpack("!H", stream.read(2))[0])

    def remove(self):
        self.socket.close()

    def _serve(self):
        while True:
            try:
                request, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            question = dnslib.DNSRecord.parse(request)
            if question.q.qname == self.name and dnslib.QTYPE[question.q.qtype] in ("TLSA", "CNAME"):
                self.lies += 1
                answer = self.lie(question, self.ask)
            else:
                answer = self.ask(request)
            self.socket.sendto(answer, peer)
