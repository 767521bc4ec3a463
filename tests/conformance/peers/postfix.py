"""Postfix as installed by apt, with a configuration, a queue and ports of its own."""

import base64
import contextlib
import os
import pwd
import socketserver
import threading

from mailservers import free_port, postfix, process, run
from peers import HOSTNAME, IDN_DOMAIN, MAX_SIZE, PASSWORD, USER, Peer, certificate

NAME = "Postfix"
SETTINGS = (
    "`smtpd_forbid_bare_newline=yes`, `smtpd_forbid_unauth_pipelining=yes`, `smtpd_helo_required=yes`, "
    "`strict_rfc821_envelopes=yes`, `strict_smtputf8=yes`, `smtpd_tls_protocols=>=TLSv1.2`"
)
install = postfix.install


@contextlib.contextmanager
def start(folder):
    ports = {"mx": free_port(), "submission": free_port()}
    cert, key = certificate(folder)
    config = folder / "etc"
    for path in (config, folder / "spool", folder / "data", folder / "mail"):
        path.mkdir()
    owner = pwd.getpwnam("postfix")
    os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
    os.chown(folder / "mail", owner.pw_uid, owner.pw_gid)
    addresses = (
        "alice@example.com",
        "bob@example.com",
        "postmaster@example.com",
        f"alice@{IDN_DOMAIN}",
        "alice@grün.example",
    )
    (config / "mailboxes").write_text("".join(f"{address} {address.partition('@')[0]}/\n" for address in addresses))
    with authentication() as auth_port:
        (config / "main.cf").write_text(
            MAIN.format(
                folder=folder,
                hostname=HOSTNAME,
                idn=IDN_DOMAIN,
                limit=MAX_SIZE,
                cert=cert,
                key=key,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
                auth=auth_port,
            )
        )
        (config / "master.cf").write_text(MASTER.format(mx=ports["mx"], submission=ports["submission"]))
        run("postfix", "-c", config, "check")
        with process(postfix.master(config), folder / "log", ports.values()):
            yield Peer(postfix.version(), f"maildir:{folder}/mail", ports)


class Authentication(socketserver.StreamRequestHandler):
    """Dovecot's authentication protocol, as far as Postfix speaks it: Postfix itself knows no passwords."""

    def handle(self):
        self.say(
            "VERSION\t1\t2",
            "MECH\tPLAIN\tplaintext",
            "MECH\tLOGIN\tplaintext",
            "SPID\t1",
            "CUID\t1",
            f"COOKIE\t{'0' * 32}",
            "DONE",
        )
        waiting = {}
        for line in self.rfile:
            verb, *words = line.decode().rstrip("\n").split("\t")
            if verb == "AUTH":
                response = next((word[5:] for word in words if word.startswith("resp=")), None)
                waiting[words[0]] = (words[1].upper(), [])
                self.answer(words[0], waiting, response)
            elif verb == "CONT":
                self.answer(words[0], waiting, words[1])

    def answer(self, identifier, waiting, response):
        mechanism, given = waiting[identifier]
        if response is not None:
            try:
                given.append(base64.b64decode(response, validate=True).decode())
            except ValueError:
                return self.say(f"FAIL\t{identifier}\treason=Invalid base64 data")
        if mechanism == "LOGIN" and len(given) < 2:
            prompt = base64.b64encode((b"Username:", b"Password:")[len(given)]).decode()
            return self.say(f"CONT\t{identifier}\t{prompt}")
        if not given:
            return self.say(f"CONT\t{identifier}\t")
        words = given[0].split("\0") if mechanism == "PLAIN" else ["", *given]
        right = words[1:] == [USER, PASSWORD] and words[0] in ("", USER)
        return self.say(f"OK\t{identifier}\tuser={USER}" if right else f"FAIL\t{identifier}")

    def say(self, *lines):
        self.wfile.write("".join(line + "\n" for line in lines).encode())


@contextlib.contextmanager
def authentication():
    """Answers questions about passwords on the port that it gives."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Authentication) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = {hostname}
myorigin = example.com
mydestination =
mynetworks = 192.0.2.1/32
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
default_transport = discard:
local_transport = error:no local delivery
alias_maps =
virtual_mailbox_domains = example.com, {idn}, grün.example
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = texthash:{folder}/etc/mailboxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
message_size_limit = {limit}
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_tls_protocols = >=TLSv1.2
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth}
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_helo_required = yes
strict_rfc821_envelopes = yes
strict_smtputf8 = yes
smtpd_forbid_bare_newline = yes
smtpd_forbid_bare_newline_exclusions =
smtpd_forbid_unauth_pipelining = yes
"""

MASTER = """
127.0.0.1:{mx} inet n - n - - smtpd
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
