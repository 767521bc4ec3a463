"""The machine that is measured on."""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import shutil
import tempfile

from mailservers import Unavailable, run
from subjects import BUILT

IN_MEMORY = ("tmpfs", "ramfs")
# Room for what one load leaves behind.
FRESH_BYTES = 8 << 30


def check(data):
    """Raises `Unavailable` when nothing could be measured with the data in this folder."""
    if os.geteuid() != 0:
        raise Unavailable("needs root, because the servers change users")
    for program in ("load", "probe"):
        if not (BUILT / program).exists():
            raise Unavailable(f"{BUILT / program} does not exist; run cargo build --release -p mairust-benches")
    kind = file_system(data)["type"]
    if kind in IN_MEMORY:
        raise Unavailable(f"{data} is on {kind}, which is no disk; choose another folder by --data")


@contextlib.contextmanager
def fresh_folder(data):
    """An empty folder on a new file system, which lies in a file on the disk of `data`.

    What was removed a moment ago slows the making of files down on some file systems, and whoever is measured
    next would pay for it. ext4 with a journal, as Debian makes it; nothing is left to be initialised later.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mairust-side-by-side-", dir=data))
    image = folder.with_suffix(".image")
    try:
        with open(image, "wb") as file:
            file.truncate(FRESH_BYTES)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        run("mount", "-o", "loop", image, folder)
        try:
            # Servers drop privileges and must reach their files.
            folder.chmod(0o755)
            shutil.rmtree(folder / "lost+found")
            yield folder
        finally:
            run("umount", "--lazy", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        image.unlink(missing_ok=True)


def describe(data):
    """Its parts, and what its disk allows."""
    with fresh_folder(data) as folder:
        disk = {"file_system": file_system(folder), "disk": json.loads(run(BUILT / "probe", folder))}
    return {
        "date": datetime.date.today().isoformat(),
        "processors": os.cpu_count(),
        "processor": field("/proc/cpuinfo", "model name"),
        "memory_mib": int(field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        **disk,
    }


def file_system(folder):
    kind, options = run("findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", folder).split()
    return {"type": kind, "options": options}


def field(file, name):
    for line in pathlib.Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
