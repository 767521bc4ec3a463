"""OpenSMTPD from Debian's package, in a mount namespace, because its paths are compiled in."""

import os
import shlex

from mailservers import Unavailable, debian_packages, run, user

PACKAGES = ("opensmtpd", "libevent-2.1-7", "libdb5.3")
ACCOUNTS = ("opensmtpd", "opensmtpq")


def root():
    return debian_packages("opensmtpd", PACKAGES)


def program():
    return root() / "usr/sbin/smtpd"


def environment():
    return {**os.environ, "LD_LIBRARY_PATH": f"{root()}/usr/lib/x86_64-linux-gnu"}


def install():
    if os.geteuid() != 0:
        raise Unavailable("needs root, because OpenSMTPD changes users and its paths are mounted")
    root()
    for account in ACCOUNTS:
        user(account)
    run("unshare", "--mount", "true")


def version():
    return run(program(), "-h", env=environment(), check=False).split("version: OpenSMTPD ")[-1].split()[0]


def command(folder, config, *options):
    """The command of a server that keeps its queue in `folder/spool`."""
    server = shlex.join(map(str, [program(), "-d", "-f", config, *options]))
    return ["unshare", "--mount", "sh", "-ec", mounts(folder) + f"exec {server}"]


def mounts(folder):
    """Puts the folders whose names are compiled in where OpenSMTPD looks for them; seen by it alone."""
    for path in ("spool/smtpd", "run", "lib/opensmtpd/empty"):
        (folder / path).mkdir(parents=True)
    (folder / "spool/smtpd").chmod(0o711)
    # It asks DNS for the name of every client, unless this file tells it not to.
    (folder / "resolv.conf").write_text("lookup file\n")
    lines = [
        f"mount --bind {folder}/resolv.conf /etc/resolv.conf",
        f"mount --bind {folder}/spool /var/spool",
        f"mount --bind {folder}/run /run",
        f"mount --bind {folder}/lib /var/lib",
        "mkdir -p /usr/libexec",
        f"mount --bind {root()}/usr/libexec /usr/libexec",
    ]
    return "".join(line + "\n" for line in lines)
