"""Exim: messages stay in its spool, for no delivery is started."""

import contextlib
import os

from mailservers import exim, free_port, process, user
from subjects import HOSTNAME, Running

TITLE = "Exim"
KEEPS = (
    "in the spool; `queue_only`, `split_spool_directory`, `message_logs=false`, `smtp_accept_max=0`, "
    "`smtp_connect_backlog=1024`, no lookups of names"
)
install = exim.install


@contextlib.contextmanager
def start(folder, group):
    uid, gid = user(exim.ACCOUNT)
    port = free_port()
    program, environment = exim.copy_into(folder)
    config, spool, logs = folder / "exim.conf", folder / "spool", folder / "logs"
    config.write_text(CONFIGURATION.format(folder=folder, hostname=HOSTNAME, port=port, account=exim.ACCOUNT))
    config.chmod(0o644)
    for path in (spool, logs):
        path.mkdir()
        os.chown(path, uid, gid)

    def stored():
        """A message is a pair of files: its envelope (-H) and its text (-D)."""
        names = [name for _, _, names in os.walk(spool / "input") for name in names]
        envelopes = {name[:-2] for name in names if name.endswith("-H")}
        return sum(name[:-2] in envelopes for name in names if name.endswith("-D"))

    command = group("server").command(program, "-C", config, "-bdf")
    with process(command, folder / "log", [port], env=environment):
        yield Running(exim.version(program, environment), port, stored)


CONFIGURATION = """
exim_path = {folder}/exim4
exim_user = {account}
exim_group = {account}
keep_environment = LD_LIBRARY_PATH
primary_hostname = {hostname}
spool_directory = {folder}/spool
log_file_path = {folder}/logs/%slog
pid_file_path = {folder}/logs/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
queue_only = true
split_spool_directory = true
message_logs = false
queue_run_max = 0
smtp_accept_max = 0
smtp_connect_backlog = 1024
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
acl_smtp_rcpt = accept

begin routers
elsewhere:
  driver = accept
  transport = nowhere

begin transports
nowhere:
  driver = appendfile
  file = /dev/null
  user = {account}
"""
