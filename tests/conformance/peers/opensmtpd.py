"""OpenSMTPD from Debian's package, in a mount namespace, because its paths are compiled in."""

import contextlib
import os
import shlex

from peers import HOSTNAME, IDN_DOMAIN, MAX_SIZE, Peer, Unavailable, debian_packages, free_port, process, run, user

NAME = "OpenSMTPD"
SETTINGS = (
    "tables of virtual users; without TLS, and so without submission: this version fails every handshake with "
    "OpenSSL 3 ([issue 1171](https://github.com/OpenSMTPD/OpenSMTPD/issues/1171))"
)
PACKAGES = ("opensmtpd", "libevent-2.1-7", "libdb5.3")
ACCOUNTS = ("opensmtpd", "opensmtpq")


def root():
    return debian_packages("opensmtpd", PACKAGES)


def install():
    if os.geteuid() != 0:
        raise Unavailable("needs root, because OpenSMTPD changes users and its paths are mounted")
    root()
    for account in ACCOUNTS:
        user(account)
    run("unshare", "--mount", "true")


@contextlib.contextmanager
def start(folder):
    port = free_port()
    uid, gid = user(ACCOUNTS[0])
    (folder / "mail").mkdir()
    os.chown(folder / "mail", uid, gid)
    addresses = (
        "alice@example.com",
        "bob@example.com",
        "postmaster@example.com",
        f"postmaster@{HOSTNAME}",
        f"alice@{IDN_DOMAIN}",
        "alice@grün.example",
    )
    (folder / "addresses").write_text("".join(f"{address} delivered\n" for address in addresses))
    (folder / "users").write_text(f"delivered {uid}:{gid}:{folder}\n")
    config = folder / "smtpd.conf"
    config.write_text(CONFIGURATION.format(folder=folder, hostname=HOSTNAME, idn=IDN_DOMAIN, limit=MAX_SIZE, port=port))
    program = root() / "usr/sbin/smtpd"
    environ = {**os.environ, "LD_LIBRARY_PATH": f"{root()}/usr/lib/x86_64-linux-gnu"}
    command = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        mounts(folder) + f"exec {shlex.quote(str(program))} -d -f {shlex.quote(str(config))}",
    ]
    version = run(program, "-h", env=environ, check=False).split("version: OpenSMTPD ")[-1].split()[0]
    with process(command, folder / "log", [port], env=environ):
        yield Peer(version, f"maildir:{folder}/mail", {"mx": port}, tls=False)


def mounts(folder):
    """Puts the folders whose names are compiled in where OpenSMTPD looks for them; seen by it alone."""
    for path in ("spool/smtpd", "run", "lib/opensmtpd/empty"):
        (folder / path).mkdir(parents=True)
    (folder / "spool/smtpd").chmod(0o711)
    lines = [
        f"mount --bind {folder}/spool /var/spool",
        f"mount --bind {folder}/run /run",
        f"mount --bind {folder}/lib /var/lib",
        "mkdir -p /usr/libexec",
        f"mount --bind {root()}/usr/libexec /usr/libexec",
    ]
    return "".join(line + "\n" for line in lines)


CONFIGURATION = """
table addresses file:{folder}/addresses
table users file:{folder}/users
smtp max-message-size {limit}
listen on 127.0.0.1 port {port} hostname {hostname}
action "deliver" maildir "{folder}/mail" virtual <addresses> userbase <users>
match from any for domain {{ "example.com", "{hostname}", "{idn}", "grün.example" }} action "deliver"
"""
