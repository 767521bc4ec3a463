"""Starts a real Postfix that passes on everything it gets, or throws it away, with queue, log and ports of its own."""

import os
import pathlib
import pwd
import shutil
import smtplib
import subprocess
import tempfile

from conftest import free_port, wait_until

# Where Debian puts the commands of an administrator, which the path of a user may lack.
PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"

COMMON = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log.txt
maillog_file_prefixes = {folder}
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
alias_maps =
local_recipient_maps =
local_transport = error:nobody lives here
"""

# Mail goes to the relay by SMTP, and for some domains to an LMTP server; never without TLS.
MAIN = COMMON + """\
smtputf8_enable = yes
relayhost = [{relay[0]}]:{relay[1]}
smtp_tls_security_level = encrypt
transport_maps = inline:{{ {transports} }}
lmtp_tls_security_level = encrypt
"""

# Takes everything for everybody, and throws it away.
RECEIVER = COMMON + """\
default_transport = discard:
smtpd_tls_security_level = {level}
smtpd_tls_chain_files = {chain}
smtpd_tls_loglevel = 1
"""

# Takes everything from this machine, passes it on to the host of its domain, and reports to senders what fails.
HOP = COMMON + """\
default_transport = error:there is no way
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
transport_maps = inline:{{ {transports} }}
smtp_tls_security_level = may
"""

MASTER = """
{host}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A running Postfix. The process that is held is its master, which ends all others."""

    host = "127.0.0.1"

    def __init__(self, relay, lmtp, lmtp_domains):
        transports = ", ".join("{ %s = lmtp:inet:%s:%d }" % (domain, *lmtp) for domain in lmtp_domains)
        self._prepare(MAIN, relay=relay, transports=transports)

    @classmethod
    def receiver(cls, certificate, key, level="may", host="127.0.0.1"):
        """A Postfix that takes mail and throws it away, under this certificate, at this address."""
        server = cls.__new__(cls)
        server.host = host
        server._prepare(RECEIVER, chain=f"{key}, {certificate}", level=level)
        return server

    @classmethod
    def hop(cls, routes):
        """A Postfix between us and the hosts of these domains, by their ports on this machine."""
        server = cls.__new__(cls)
        transports = ", ".join("{ %s = smtp:[127.0.0.1]:%d }" % route for route in routes.items())
        server._prepare(HOP, transports=transports)
        return server

    def _prepare(self, main, **settings):
        assert shutil.which("postconf", path=PATH), "Postfix is missing: install the Debian package postfix"
        assert os.geteuid() == 0, "Postfix starts as root only"
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mairust-postfix-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.process = None
        etc, data = self.folder / "etc", self.folder / "data"
        for path in (etc, data, self.folder / "queue"):
            path.mkdir()
        shutil.chown(data, pwd.getpwnam("postfix").pw_uid)
        (etc / "main.cf").write_text(main.format(folder=self.folder, **settings))
        (etc / "master.cf").write_text(MASTER.format(host=self.host, port=self.port))

    def start(self):
        etc = self.folder / "etc"
        self._command("postfix", "-c", etc, "check")
        daemons = self._command("postconf", "-c", etc, "-h", "daemon_directory").strip()
        self.process = subprocess.Popen([f"{daemons}/master", "-c", etc, "-d"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        wait_until(lambda: self.process.poll() is not None or self._greets(), "start of Postfix")
        assert self.process.poll() is None, self.log()
        return self

    def smtp(self):
        """A client of this Postfix."""
        return smtplib.SMTP(self.host, self.port, timeout=30)

    def log(self):
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, *arguments):
        done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PATH": PATH})
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def _greets(self):
        try:
            self.smtp().quit()
            return True
        except (OSError, smtplib.SMTPException):
            return False
