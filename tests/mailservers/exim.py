"""Exim from Debian's packages, unpacked beside whatever mail server is installed."""

import os

from mailservers import Unavailable, debian_packages, run, user

PACKAGES = ("exim4-daemon-light", "exim4-base", "libidn12", "libgnutls-dane0", "libunbound8")
ACCOUNT = "Debian-exim"


def root():
    return debian_packages("exim", PACKAGES)


def libraries():
    return root() / "usr/lib/x86_64-linux-gnu"


def install():
    if os.geteuid() != 0:
        raise Unavailable("needs root, because Exim changes users")
    user(ACCOUNT)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries())}
    run(root() / "usr/sbin/exim4", "-C", "/dev/null", "-bV", env=environment)


def copy_into(folder):
    """Copies the program and its libraries; the program, and the environment that it needs.

    Exim starts itself anew for deliveries, as another user that cannot read the cache.
    """
    program = folder / "exim4"
    program.write_bytes((root() / "usr/sbin/exim4").read_bytes())
    for path in libraries().glob("*.so.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    program.chmod(0o755)
    return program, {**os.environ, "LD_LIBRARY_PATH": str(folder)}


def version(program, environment):
    return run(program, "-C", "/dev/null", "-bV", env=environment).split()[2]
