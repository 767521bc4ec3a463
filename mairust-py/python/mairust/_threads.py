"""Runs functions on threads that keep no process from ending."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any


class Threads:
    """At most `limit` threads, made when they are needed."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit, self._name = limit, name
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._count = self._busy = 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs the function on a thread. Whoever gives up waiting does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def work() -> None:
            try:
                result, error = function(*arguments), None
            except BaseException as raised:
                result, error = None, raised
            loop.call_soon_threadsafe(self._done, future, result, error)

        self._busy += 1
        if self._busy > self._count and self._count < self._limit:
            self._count += 1
            threading.Thread(target=self._loop, name=f"{self._name}-{self._count}", daemon=True).start()
        self._work.put(work)
        return await future

    def _loop(self) -> None:
        while True:
            self._work.get()()

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            future.set_exception(error)
        else:
            # asyncio would let these end the loop.
            future.set_exception(RuntimeError(f"the hook raised {type(error).__name__}"))
