"""The stdin protocol: a worker, and one request."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any

from ._call import InvocationFilter, invocation_id
from ._threads import Threads
from .app import App
from .message import Message

SDK = "mairust-py/1"
#: Calls at the same time, if the server does not say less.
MAX_INFLIGHT = 16

_log = logging.getLogger("mairust.plugin")


def run(app: App) -> int:
    """Serves until standard input ends, or the server says so."""
    # What hooks print goes to the log of the server, not in between our lines.
    output = os.dup(1)
    os.dup2(2, 1)
    worker = Worker(app, output)
    handler = Frames(worker)
    handler.addFilter(InvocationFilter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(message)s", force=True)
    code = asyncio.run(worker.serve(0))
    sys.stderr.flush()
    # Threads of hooks that never end are no reason to stay.
    os._exit(code)


def oneshot(app: App) -> int:
    """Answers one request."""
    output = os.dup(1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    async def answer() -> bytes:
        message = Message.from_request(request)
        await app.startup()
        try:
            return (await app.ask(message, request["hook"])).to_json()
        finally:
            await app.shutdown()

    try:
        request = json.loads(sys.stdin.buffer.read())
        _write(output, asyncio.run(answer()) + b"\n")
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Worker:
    """One conversation."""

    def __init__(self, app: App, output: int) -> None:
        self.app, self.output = app, output
        self.threads = Threads(MAX_INFLIGHT, "mairust-hook")
        self.calls: dict[str, asyncio.Task[None]] = {}
        self.writing = threading.Lock()
        self.grace = 0.0

    async def serve(self, source: int) -> int:
        """Reads frames until there are no more. Returns the code to exit with."""
        frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=_read, args=(source, loop, frames), name="mairust-stdin", daemon=True).start()
        started = False
        try:
            while (line := await frames.get()) is not None:
                frame = json.loads(line)
                if frame["type"] == "hello":
                    if frame["protocol"] != 1:
                        _log.error("the server speaks version %s of the protocol, this is 1", frame["protocol"])
                        return 1
                    await self.app.startup()
                    started = True
                    inflight = min(MAX_INFLIGHT, frame.get("max_inflight", MAX_INFLIGHT))
                    self.send({"type": "ready", "protocol": 1, "sdk": SDK, "max_inflight": inflight})
                elif frame["type"] == "shutdown":
                    self.grace = frame.get("grace_ms", 0) / 1000
                    break
                else:
                    self.take(frame)
            if self.calls and self.grace:
                await asyncio.wait(self.calls.values(), timeout=self.grace)
            for task in self.calls.values():
                task.cancel()
        except Exception:
            _log.exception("the worker ends")
            return 1
        finally:
            if started:
                await self.app.shutdown()
        return 0

    def take(self, frame: Mapping[str, Any]) -> None:
        """Does what a frame says. One of an unknown type is of a later version."""
        if frame["type"] == "hook":
            call = frame["id"]
            self.calls[call] = asyncio.get_running_loop().create_task(self.answer(call, frame["request"]))
            self.calls[call].add_done_callback(lambda _: self.calls.pop(call, None))
        elif frame["type"] == "cancel" and (task := self.calls.get(frame["id"])):
            task.cancel()
        elif frame["type"] == "health":
            self.send({"type": "health", "id": frame["id"], "status": "ok"})

    async def answer(self, call: str, request: Mapping[str, Any]) -> None:
        """Asks the hooks, and tells what they say."""
        message = Message.from_request(request)
        invocation_id.set(message.invocation_id)
        try:
            verdict = await self.app.ask(message, request["hook"], self.threads.run)
            self.send({"type": "result", "id": call, "response": verdict.to_dict()})
        except asyncio.CancelledError:
            # Nobody waits for it any more.
            raise
        except BaseException as error:
            _log.exception("a hook failed")
            self.send({"type": "result", "id": call, "error": type(error).__name__})

    def send(self, frame: Mapping[str, Any]) -> None:
        """Writes a frame, from any thread."""
        # The protocol tells frames from other text by what they begin with.
        line = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        with self.writing:
            _write(self.output, line + b"\n")


class Frames(logging.Handler):
    """Sends log records to the server."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {"logger": record.name, "invocation_id": getattr(record, "invocation_id", None)}
            self._worker.send(
                {"type": "log", "level": record.levelname.lower(), "msg": self.format(record), "fields": fields}
            )
        except Exception:
            self.handleError(record)


def _read(source: int, loop: asyncio.AbstractEventLoop, frames: asyncio.Queue[bytes | None]) -> None:
    """Hands lines to the loop. The buffer is our own: the one of `sys.stdin` can't be left while somebody reads."""
    rest = b""
    while block := os.read(source, 1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            loop.call_soon_threadsafe(frames.put_nowait, line)
    loop.call_soon_threadsafe(frames.put_nowait, None)


def _write(output: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(output, octets):]
