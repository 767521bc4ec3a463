"""Postfix as installed by apt, and the tools that come with it."""

import os
import pathlib
import shutil

from mailservers import Unavailable, apt_get, run


def install():
    if os.geteuid() != 0:
        raise Unavailable("needs root, because Postfix changes users")
    if not shutil.which("postconf"):
        apt_get("install", "-y", "--no-install-recommends", "postfix")


def master(config):
    """The command of the server whose configuration is in this folder."""
    folder = pathlib.Path(run("postconf", "-c", config, "-h", "daemon_directory").strip())
    return [folder / "master", "-c", config, "-d"]


def version():
    return run("postconf", "-h", "mail_version").strip()
