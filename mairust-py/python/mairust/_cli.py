"""The program `mairust`, with hooks in Python."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Sequence

from . import _mairust
from ._call import invocation_id
from ._load import load, loading
from ._reload import reload
from ._runtime import Runtime
from .server import _no_forks


def main() -> int:
    """Runs the command line of the process, as the program `mairust` does."""
    arguments = ["mairust", *sys.argv[1:]]
    if "--reload" in arguments:
        return reload([argument for argument in arguments[1:] if argument != "--reload"])
    return run(arguments)


def run(arguments: Sequence[str]) -> int:
    """Runs a command line, the name of the program first, until it ends, and returns its exit code. Other Python threads
    go on meanwhile. Unlike the program, it knows `--hooks FILE[:APP]`, for `serve` and `dev`."""
    runtimes: list[Runtime] = []

    def start(target: str) -> _mairust.Calls:
        logging.basicConfig(handlers=[ServerLog()], level=logging.INFO, format="%(message)s")
        _no_forks()
        runtime = Runtime([load(target)])
        runtime.start()
        runtimes.append(runtime)
        return runtime.calls

    # The server itself hears Ctrl-C. Python would raise it again once the server has ended.
    former = signal.signal(signal.SIGINT, _interrupt) if threading.current_thread() is threading.main_thread() else None
    try:
        return _mairust.run(arguments, start)
    finally:
        for runtime in runtimes:
            runtime.stop()
        if former is not None:
            signal.signal(signal.SIGINT, former)


def _interrupt(*_: object) -> None:
    if loading.get():
        raise KeyboardInterrupt


class ServerLog(logging.Handler):
    """Writes log records into the log of the server."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _mairust.log(record.levelno, record.name, self.format(record), invocation_id.get())
        except Exception:
            self.handleError(record)
