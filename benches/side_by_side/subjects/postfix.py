"""Postfix: messages are put on hold, so they stay in its queue and no delivery is tried."""

import contextlib
import os
import pwd

from mailservers import free_port, postfix, process, run
from subjects import HOSTNAME, Running

TITLE = "Postfix"
KEEPS = (
    "in the queue `hold`; `smtpd_client_connection_count_limit=0`, `default_process_limit=300`, `in_flow_delay=0`, "
    "`smtpd_peername_lookup=no`"
)
install = postfix.install


@contextlib.contextmanager
def start(folder, group):
    with serve(folder, group, HOLD) as running:
        yield running


@contextlib.contextmanager
def serve(folder, group, settings):
    """The server, with these settings of main.cf beside its own."""
    port = free_port()
    config, spool, data = folder / "etc", folder / "spool", folder / "data"
    for path in (config, spool, data):
        path.mkdir()
    owner = pwd.getpwnam("postfix")
    os.chown(data, owner.pw_uid, owner.pw_gid)
    (config / "main.cf").write_text(MAIN.format(folder=folder, hostname=HOSTNAME) + settings)
    (config / "master.cf").write_text(MASTER.format(port=port))
    run("postfix", "-c", config, "check")

    def stored():
        return sum(len(names) for _, _, names in os.walk(spool / "hold"))

    with process(group("server").command(*postfix.master(config)), folder / "log", [port]):
        yield Running(postfix.version(), port, stored)


MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = {hostname}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
alias_maps =
"""

# For mail that is taken only.
HOLD = """
relay_domains = example.com
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access static:HOLD
default_process_limit = 300
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
in_flow_delay = 0
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
smtp unix - - n - - smtp
relay unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
