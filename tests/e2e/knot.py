"""Starts a real name server, Knot DNS, with one zone of our own on a loopback port."""

import pathlib
import shutil
import subprocess
import tempfile

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
template:
  - id: default
    storage: "{folder}"
    file: "%s.zone"
    journal-content: none
    zonefile-load: whole
zone:
{zones}
"""

# What the owner of a domain has already; the records of its mail are in a file of their own.
ZONE = """
$TTL 1
@ IN SOA ns.{domain}. hostmaster.{domain}. {serial} 3600 900 604800 1
@ IN NS ns.{domain}.
ns IN A 127.0.0.1
mail IN A 127.0.0.1
$INCLUDE {folder}/{domain}.mail
"""


class Knot:
    """A running knotd. `publish` puts records into its zone."""

    def __init__(self, domain, broken=()):
        """`broken`: zones that it is to serve and has no file of, so that the answer is SERVFAIL until `mend`."""
        assert shutil.which("knotd") and shutil.which("knotc"), "Knot DNS is missing: install the Debian package knot"
        self.domain, self.port, self.serial = domain, free_port(), 1
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mairust-knot-", dir="/tmp"))
        self.address = f"127.0.0.1:{self.port}"
        self.config = self.folder / "knot.conf"
        self.config.write_text(CONFIG.format(folder=self.folder, port=self.port, zones="\n".join(
            f"  - domain: {zone}" for zone in (domain, *broken))))
        self._write(domain, "")
        self.log = open(self.folder / "log.txt", "wb")
        self.process = subprocess.Popen(["knotd", "-c", self.config], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)
        wait_until(lambda: self.process.poll() is not None or self.query(f"ns.{domain}", "A"), "start of Knot")
        assert self.process.poll() is None, (self.folder / "log.txt").read_text()

    def publish(self, records):
        """Serves these lines of a zone file, and none of those before."""
        self._reload(self.domain, records)

    def mend(self, zone, records):
        """Serves a zone that was broken."""
        self._reload(zone, records)

    def status(self, name, kind):
        """The code of the response, by its name."""
        answer = dnslib.DNSRecord.question(name, kind).send("127.0.0.1", self.port, tcp=True, timeout=5)
        return dnslib.RCODE[dnslib.DNSRecord.parse(answer).header.rcode]

    def query(self, name, kind):
        """The answers as text, strings of TXT records joined."""
        question = dnslib.DNSRecord.question(name, kind)
        try:
            answer = dnslib.DNSRecord.parse(question.send("127.0.0.1", self.port, tcp=True, timeout=5))
        except OSError:
            return []
        if kind == "TXT":
            return [b"".join(record.rdata.data).decode() for record in answer.rr]
        return [str(record.rdata) for record in answer.rr]

    def remove(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reload(self, zone, records):
        self.serial += 1
        self._write(zone, records)
        done = subprocess.run(["knotc", "-c", self.config, "-b", "zone-reload", zone], capture_output=True,
                              text=True, timeout=30)
        assert done.returncode == 0, (done.stdout, done.stderr, (self.folder / "log.txt").read_text())
        wait_until(lambda: any(f" {self.serial} " in answer for answer in self.query(zone, "SOA")), "the new zone")

    def _write(self, zone, records):
        (self.folder / f"{zone}.mail").write_text(records)
        text = ZONE.format(domain=zone, folder=self.folder, serial=self.serial)
        (self.folder / f"{zone}.zone").write_text(text)
