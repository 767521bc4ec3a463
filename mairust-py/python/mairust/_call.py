"""One call of one hook: what it returned or raised, as a verdict. All ways to call hooks have this in common."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .verdicts import Verdict, VerdictException, allow

if TYPE_CHECKING:
    from .app import Hook
    from .message import Message

#: The id of the call that is being answered.
invocation_id: ContextVar[str | None] = ContextVar("mairust_invocation_id", default=None)


class InvocationFilter(logging.Filter):
    """Gives each record the id of the call that is being answered, as ``invocation_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.invocation_id = invocation_id.get()
        return True


#: Runs a function on a thread, and gives what it returns.
RunSync = Callable[..., Awaitable[Verdict]]


async def ask(hook: Hook, message: Message, run_sync: RunSync | None = None) -> Verdict:
    """Calls a hook where an asyncio loop runs; one that is no coroutine by `run_sync`, if that is given."""
    if run_sync is not None and not hook.is_async:
        return await run_sync(ask_sync, hook, message)
    token = invocation_id.set(message.invocation_id)
    try:
        message = message.for_call()
        try:
            result = hook.function(message)
            result = await result if inspect.isawaitable(result) else result
        except VerdictException as raised:
            result = raised.verdict
        return verdict_of(hook, message, result)
    finally:
        invocation_id.reset(token)


def ask_sync(hook: Hook, message: Message) -> Verdict:
    """Calls a hook that is no coroutine, on a thread of its own."""
    token = invocation_id.set(message.invocation_id)
    try:
        message = message.for_call()
        try:
            result = hook.function(message)
        except VerdictException as raised:
            result = raised.verdict
        return verdict_of(hook, message, result)
    finally:
        invocation_id.reset(token)


def verdict_of(hook: Hook, message: Message, result: Any) -> Verdict:
    """What the function meant, with the actions that it took on the message."""
    if inspect.iscoroutine(result):
        result.close()
    verdict = allow() if result is None else result
    if not isinstance(verdict, Verdict):
        kind = type(result).__name__
        why = ": True and False could mean either" if isinstance(result, bool) else ""
        raise TypeError(f"the hook {hook.name!r} returned {kind}, not a verdict or None{why}")
    if hook.point == "post_receive" and verdict.name != "allow":
        raise TypeError(f"the hook {hook.name!r} wants to {verdict.name} a message that is stored already")
    return dataclasses.replace(verdict, actions=(*message.actions, *verdict.actions))
