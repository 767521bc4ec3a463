"""Exim from Debian's packages, unpacked beside whatever mail server is installed."""

import contextlib
import os

from mailservers import exim, free_port, process, user
from peers import HOSTNAME, IDN_DOMAIN, MAX_SIZE, PASSWORD, USER, Peer, certificate

NAME = "Exim"
SETTINGS = "`allow_domain_literals`; HELO required by an ACL; TLS 1.2 and newer; the recipient ACL of Debian's configuration (no `@ % ! /` in local parts)"
install = exim.install


@contextlib.contextmanager
def start(folder):
    uid, gid = user(exim.ACCOUNT)
    ports = {"mx": free_port(), "submission": free_port()}
    cert, key = certificate(folder)
    program, environment = exim.copy_into(folder)
    config = folder / "exim.conf"
    config.write_text(
        CONFIGURATION.format(
            folder=folder,
            hostname=HOSTNAME,
            idn=IDN_DOMAIN,
            limit=MAX_SIZE,
            mx=ports["mx"],
            submission=ports["submission"],
            cert=cert,
            key=key,
            account=exim.ACCOUNT,
            user=USER,
            password=PASSWORD,
        )
    )
    config.chmod(0o644)
    own = [folder / "spool", folder / "mail", folder / "logs"]
    for path in own:
        path.mkdir()
    for path in (cert, key, *own):
        os.chown(path, uid, gid)
    with process([program, "-C", config, "-bdf"], folder / "log", ports.values(), env=environment):
        yield Peer(exim.version(program, environment), f"maildir:{folder}/mail", ports)


CONFIGURATION = r"""
exim_path = {folder}/exim4
exim_user = {account}
exim_group = {account}
deliver_drop_privilege = true
keep_environment = LD_LIBRARY_PATH
primary_hostname = {hostname}
qualify_domain = example.com
domainlist local_domains = example.com : {idn} : grün.example
spool_directory = {folder}/spool
log_file_path = {folder}/logs/%slog
pid_file_path = {folder}/logs/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {mx} : {submission}
allow_domain_literals = true
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
tls_require_ciphers = NORMAL:-VERS-TLS1.0:-VERS-TLS1.1
message_size_limit = {limit}
recipients_max = 1000
queue_run_max = 0
host_lookup =
rfc1413_hosts =
bounce_return_message = false
acl_smtp_mail = check_mail
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept

begin acl
check_mail:
  deny condition = ${{if eq{{$sender_helo_name}}{{}}}}
       message = 503 EHLO or HELO first
  deny condition = ${{if eq{{$received_port}}{{{submission}}}}}
       !authenticated = *
       message = 530 Authentication required
  accept

check_rcpt:
  deny domains = +local_domains
       local_parts = ^[.] : ^.*[@%!/|]
       message = restricted characters in address
  deny domains = !+local_domains
       local_parts = ^[./|] : ^.*[@%!] : ^.*/\\.\\./
       message = restricted characters in address
  accept domains = +local_domains
         verify = recipient
  accept authenticated = *
  deny domains = +local_domains
       message = Unknown user
  deny message = relay not permitted

begin routers
local:
  driver = accept
  domains = +local_domains
  local_parts = alice : bob : postmaster
  transport = maildir
nobody:
  driver = redirect
  domains = +local_domains
  allow_fail
  data = :fail: Unknown user
elsewhere:
  driver = accept
  transport = nowhere

begin transports
maildir:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
  return_path_add
  user = {account}
nowhere:
  driver = appendfile
  file = /dev/null
  user = {account}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{or{{{{eq{{$auth1}}{{}}}}{{eq{{$auth1}}{{$auth2}}}}}}}}{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if and{{{{def:tls_in_cipher}}{{eq{{$received_port}}{{{submission}}}}}}}}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
  server_advertise_condition = ${{if and{{{{def:tls_in_cipher}}{{eq{{$received_port}}{{{submission}}}}}}}}}
"""
