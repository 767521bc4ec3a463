"""Haraka from npm."""

import shutil

from mailservers import CACHE, Unavailable, run

VERSION = "3.3.4"
FOLDER = CACHE / "haraka"
PROGRAM = FOLDER / "node_modules/Haraka/bin/haraka"


def install():
    if not shutil.which("npm"):
        raise Unavailable("needs npm")
    if not PROGRAM.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"Haraka@{VERSION}", cwd=FOLDER)


def command(home):
    """The command of an instance whose configuration is in `home/config`."""
    return ["node", PROGRAM, "-c", home]
