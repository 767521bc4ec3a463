"""Hands log lines of the server to `logging`, on a thread of their own."""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._mairust import Logs

_lock = threading.Lock()
_installed = False


def bridge(level: str) -> None:
    """Has lines of this level and above appear as those of loggers named ``mairust.…``. The first call counts."""
    from ._mairust import Logs

    global _installed
    with _lock:
        if _installed:
            return
        logs = Logs.install(level)
        _installed = True
    if logs is not None:
        thread = threading.Thread(target=_hand_over, args=(logs,), name="mairust-log", daemon=True)
        thread.start()
        _ends.append((logs, thread))


def _hand_over(logs: Logs) -> None:
    while lines := logs.next():
        for level, component, text in lines:
            logging.getLogger(f"mairust.{component}").log(level, "%s", text)


_ends: list[tuple[Logs, threading.Thread]] = []


@atexit.register
def _end() -> None:
    for logs, thread in _ends:
        logs.close()
        thread.join(5)
