"""Sends and takes mail by a real Exim, unpacked beside whatever mail server is installed: Debian allows only one."""

import os
import pathlib
import pwd
import shutil
import smtplib
import subprocess
import tempfile

from conftest import wait_until

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
PACKAGES = CACHE / "mairust-peers/exim"
ACCOUNT = "Debian-exim"

CONFIGURATION = """
exim_path = {folder}/exim4
keep_environment = LD_LIBRARY_PATH
primary_hostname = exim.example
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
host_lookup =
rfc1413_hosts =
begin routers
relay:
  driver = manualroute
  route_list = * {host}
  self = send
  transport = relay
begin transports
relay:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_try_chunking = *
  {tls} = *
"""

# Takes everything for everybody, and throws it away.
RECEIVER = """
exim_path = {folder}/exim4
keep_environment = LD_LIBRARY_PATH
primary_hostname = exim.example
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/log/pid
local_interfaces = {host}
daemon_smtp_ports = {port}
host_lookup =
rfc1413_hosts =
tls_advertise_hosts = *
tls_certificate = {folder}/certificate.pem
tls_privatekey = {folder}/key.pem
acl_smtp_rcpt = accept
acl_smtp_data = accept
begin routers
all:
  driver = accept
  transport = nowhere
begin transports
nowhere:
  driver = appendfile
  file = /dev/null
  user = {account}
"""


class Exim:
    """An Exim that sends everything to one server. No process of it stays: each message has its own."""

    def __init__(self, relay, encrypts=True):
        tls = "hosts_require_tls" if encrypts else "hosts_avoid_tls"
        host, port = relay
        self._prepare(CONFIGURATION, host=host, port=port, tls=tls)

    def _prepare(self, configuration, **settings):
        found = PACKAGES / "usr/sbin/exim4"
        assert found.exists(), f"Exim is missing: {found}; ./tests/run unpacks it there"
        assert os.geteuid() == 0, "Exim wants to change users, so it is started by root only"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mairust-exim-", dir="/tmp"))
        self.folder.chmod(0o755)
        # It starts itself anew as another user, who can't read the cache.
        shutil.copy(found, self.folder)
        for library in PACKAGES.glob("usr/lib/*/lib*.so.*"):
            shutil.copy(library, self.folder)
        account = pwd.getpwnam(ACCOUNT)
        for name in ("spool", "log"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, account.pw_uid, account.pw_gid)
        (self.folder / "exim.conf").write_text(configuration.format(folder=self.folder, **settings))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(self.folder)}

    def send(self, message, sender, *recipients):
        """Delivers at once, and returns what Exim says about its dialogue with the server."""
        command = [self.folder / "exim4", "-C", self.folder / "exim.conf", "-odf", "-oi", "-d-all+transport", "-f", sender]
        done = subprocess.run([*map(str, command), *recipients], input=message, capture_output=True, timeout=60,
                              env=self.environment)
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, said
        return said

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class EximReceiver(Exim):
    """A running Exim that takes mail and throws it away, under this certificate, at this address and port."""

    def __init__(self, certificate, key, host, port):
        self._prepare(RECEIVER, host=host, port=port, account=ACCOUNT)
        account = pwd.getpwnam(ACCOUNT)
        for path, name in ((certificate, "certificate.pem"), (key, "key.pem")):
            shutil.copy(path, self.folder / name)
            os.chown(self.folder / name, account.pw_uid, account.pw_gid)
        self.address = host, port
        with open(self.folder / "output.txt", "wb") as output:
            command = [self.folder / "exim4", "-C", self.folder / "exim.conf", "-bdf"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            env=self.environment)
        wait_until(lambda: self.process.poll() is not None or self._greets(), "start of Exim")
        assert self.process.poll() is None, self.log()

    def log(self):
        return "".join(path.read_text() for path in (self.folder / "output.txt", self.folder / "log/mainlog")
                       if path.exists())

    def remove(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        super().remove()

    def _greets(self):
        try:
            smtplib.SMTP(*self.address, timeout=30).quit()
            return True
        except (OSError, smtplib.SMTPException):
            return False
