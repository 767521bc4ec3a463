"""Answers calls of the server: coroutines on one asyncio loop with a thread of its own, other functions on a pool of
threads. The server puts calls into queues and never enters the interpreter itself."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Sequence

from . import _mairust
from ._call import ask, ask_sync, invocation_id
from ._source import NativeSource
from .app import App, Hook
from .errors import ServerError
from .message import Message
from .verdicts import Verdict

_log = logging.getLogger("mairust.hooks")

#: How long `on_shutdown` and threads may take to end, in seconds.
PATIENCE = 5.0


class Runtime:
    """The hooks of some apps, ready to be called."""

    def __init__(self, apps: Sequence[App], *, threads: int = 8) -> None:
        self.apps = apps
        self.hooks: list[Hook] = [hook for app in apps for hook in app.hooks]
        #: Hooks may block as many threads for good as work; then their calls wait.
        self.calls = _mairust.Calls(threads, threads)
        for hook in self.hooks:
            self.calls.add(
                hook.name,
                hook.point,
                is_async=hook.is_async,
                priority=hook.priority,
                timeout=hook.timeout,
                on_failure=hook.on_failure,
                on_open=hook.on_open,
                required=hook.required,
                max_inflight=hook.max_inflight,
                recipients=hook.recipients,
            )
        self._count = threads if any(not hook.is_async for hook in self.hooks) else 0
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def start(self) -> None:
        """Starts the threads, and calls what `on_startup` collected."""
        self._loop.add_reader(self.calls.fd, self._wake)
        self._looping = self._thread(self._run_loop, "mairust-asyncio")
        self._threads = [self._thread(self._work, f"mairust-hook-{number}") for number in range(self._count)]
        self._threads.append(self._thread(self._replace, "mairust-hooks"))
        try:
            for app in self.apps:
                asyncio.run_coroutine_threadsafe(_guarded(app.startup()), self._loop).result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Calls what `on_shutdown` collected, and ends the threads. Those that hooks block are left alone."""
        for app in reversed(self.apps):
            try:
                asyncio.run_coroutine_threadsafe(_guarded(app.shutdown()), self._loop).result(PATIENCE)
            except Exception:
                _log.exception("on_shutdown failed")
        self._stopping = True
        self.calls.close()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._looping.join(PATIENCE)
        if not self._looping.is_alive():
            self._loop.close()
        for thread in self._threads:
            # Whoever is stuck has been counted as such.
            thread.join(0 if self.calls.stuck else PATIENCE)

    def _thread(self, target: object, name: str) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    # The loop.

    async def _end(self) -> None:
        """Ends what hooks have begun, and then the loop."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=PATIENCE / 2)
        await self._loop.shutdown_asyncgens()
        self._loop.stop()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopping:
            try:
                self._loop.run_forever()
            except BaseException:
                # SystemExit of a task that a hook has started, for example.
                _log.exception("a task wanted to end the loop; it goes on")

    def _wake(self) -> None:
        for call, id in self.calls.take():
            if call is not None:
                task = self._tasks[id] = self._loop.create_task(self._answer(call))
                task.add_done_callback(functools.partial(self._forget, id))
            elif task := self._tasks.get(id):  # type: ignore[assignment]
                task.cancel()

    def _forget(self, id: str, task: asyncio.Task[None]) -> None:
        # Another attempt has the same id.
        if self._tasks.get(id) is task:
            del self._tasks[id]

    async def _answer(self, call: _mairust.Call) -> None:
        invocation_id.set(call.id)
        hook = self.hooks[call.hook]
        try:
            _finish(call, await ask(hook, Message(NativeSource(call.mail))))
        except asyncio.CancelledError:
            call.fail("it was cancelled")
        except BaseException as error:
            _failed(hook, call, error)

    # The pool.

    def _work(self) -> None:
        while (call := self.calls.next()) is not None:
            invocation_id.set(call.id)
            hook = self.hooks[call.hook]
            try:
                _finish(call, ask_sync(hook, Message(NativeSource(call.mail))))
            except BaseException as error:
                _failed(hook, call, error)
            del call

    def _replace(self) -> None:
        """Has new threads work instead of those that hooks have blocked."""
        while self.calls.vacancy():
            self._threads.append(self._thread(self._work, f"mairust-hook-{len(self._threads)}"))


def _finish(call: _mairust.Call, verdict: Verdict) -> None:
    call.finish(verdict.to_json())


def _failed(hook: Hook, call: _mairust.Call, error: BaseException) -> None:
    # What it was is for the log: senders are told the id of the call.
    call.fail(f"it raised {type(error).__name__}")
    _log.error("the hook %s failed", hook.name, exc_info=error)


async def _guarded(coroutine: object) -> None:
    try:
        await coroutine  # type: ignore[misc]
    except (KeyboardInterrupt, SystemExit) as error:
        raise ServerError(f"{type(error).__name__} at startup or shutdown") from error
