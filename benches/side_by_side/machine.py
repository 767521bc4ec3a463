"""The machine that is measured on."""

import datetime
import json
import os
import pathlib
import platform

from mailservers import Unavailable, run
from subjects import BUILT

IN_MEMORY = ("tmpfs", "ramfs")


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


def describe(data):
    """Its parts, and what its disk allows."""
    return {
        "date": datetime.date.today().isoformat(),
        "processors": os.cpu_count(),
        "processor": field("/proc/cpuinfo", "model name"),
        "memory_mib": int(field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "file_system": file_system(data),
        "disk": json.loads(run(BUILT / "probe", data)),
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
