"""Sends mail by a real Exim, unpacked beside whatever mail server is installed: Debian allows only one."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

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


class Exim:
    """An Exim that sends everything to one server. No process of it stays: each message has its own."""

    def __init__(self, relay, encrypts=True):
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
        tls = "hosts_require_tls" if encrypts else "hosts_avoid_tls"
        host, port = relay
        (self.folder / "exim.conf").write_text(CONFIGURATION.format(folder=self.folder, host=host, port=port, tls=tls))

    def send(self, message, sender, *recipients):
        """Delivers at once, and returns what Exim says about its dialogue with the server."""
        command = [self.folder / "exim4", "-C", self.folder / "exim.conf", "-odf", "-oi", "-d-all+transport", "-f", sender]
        done = subprocess.run([*map(str, command), *recipients], input=message, capture_output=True, timeout=60,
                              env={**os.environ, "LD_LIBRARY_PATH": str(self.folder)})
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, said
        return said

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
