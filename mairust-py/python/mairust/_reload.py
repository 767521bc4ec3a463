"""`mairust dev --reload`: starts the server anew when a file of its hooks changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

#: How often files are looked at, in seconds.
INTERVAL = 0.3
#: How long the server may take to end, in seconds.
PATIENCE = 40.0


def reload(arguments: Sequence[str]) -> int:
    """Runs the command line in a process of its own, again and again."""
    folder = _folder(arguments)
    if folder is None or "dev" not in arguments:
        print("error: --reload goes with mairust dev --hooks FILE", file=sys.stderr)
        return 2
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    code = 0
    while not told.is_set():
        before = _state(folder)
        # Ctrl-C is for this process, which then ends the other one.
        child = subprocess.Popen([sys.executable, "-m", "mairust", *arguments], start_new_session=True)
        # One that could not start is started anew when the mistake is put right.
        while not told.is_set() and _state(folder) == before:
            told.wait(INTERVAL)
        code = _end(child)
        if not told.is_set():
            print("hooks have changed, starting anew", file=sys.stderr, flush=True)
    return code


def _end(child: subprocess.Popen[bytes]) -> int:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        return child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _folder(arguments: Sequence[str]) -> Path | None:
    for place, argument in enumerate(arguments):
        name = argument.removeprefix("--hooks=") if argument.startswith("--hooks=") else None
        if argument == "--hooks" and place + 1 < len(arguments):
            name = arguments[place + 1]
        if name is not None:
            target = name.partition(":")[0]
            return Path(target).resolve().parent if target.endswith(".py") else Path.cwd()
    return None


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all Python files of the folder."""
    found = {}
    for path in folder.rglob("*.py"):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        found[str(path)] = (status.st_mtime_ns, status.st_size)
    return found
