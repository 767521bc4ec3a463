"""Collects hooks."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from ._call import RunSync, ask
from .errors import ConfigurationError
from .message import Message
from .verdicts import Verdict, merge

__all__ = ["App", "Hook"]

F = TypeVar("F", bound=Callable[..., Any])
OnFailure = Literal["allow", "quarantine", "tempfail", "reject"]

_ON_FAILURE = ("allow", "quarantine", "tempfail", "reject")
#: The longest time of one call at each point, in seconds.
_LONGEST = {"pre_receive": 3.0, "pre_send": 5.0, "post_receive": 300.0}


@dataclasses.dataclass(frozen=True)
class Hook:
    """A function that is called at a point in the way of mail."""

    name: str
    #: ``pre_receive``, ``post_receive`` or ``pre_send``.
    point: str
    function: Callable[[Message], Any]
    #: Lower is called first; equals are called at the same time.
    priority: int
    #: How long a call may take, in seconds; None for what is usual.
    timeout: float | None
    #: What becomes of a message when the hook fails.
    on_failure: OnFailure
    #: What becomes of a message while the hook is not called, since too many calls failed; None for `on_failure`.
    on_open: OnFailure | None
    #: Whether no mail is to pass that the hook has not seen.
    required: bool
    #: Calls at the same time; None for what is usual.
    max_inflight: int | None
    #: A regular expression for the recipients that it is called for; None for all.
    recipients: str | None
    #: What it wants to see where it runs as a process of its own.
    read_headers: bool
    read_body: str
    read_attachments: str

    @property
    def is_async(self) -> bool:
        """Whether calls run on the asyncio loop rather than on a thread of the pool."""
        return inspect.iscoroutinefunction(self.function)

    def is_for(self, recipients: Iterable[str]) -> bool:
        """Whether it is called for a message to these addresses."""
        if self.recipients is None:
            return True
        pattern = re.compile(self.recipients, re.IGNORECASE)
        return any(pattern.fullmatch(address) for address in recipients)


class App:
    """Hooks that belong together. One app is mounted on a server, or runs as a process of its own."""

    def __init__(self, name: str = "app") -> None:
        self.name = name
        #: A place for what hooks share: connections, models.
        self.state = types.SimpleNamespace()
        self._hooks: dict[str, Hook] = {}
        self._startup: list[Callable[[], Any]] = []
        self._shutdown: list[Callable[[], Any]] = []

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """All hooks, in the order in which they are called."""
        return tuple(sorted(self._hooks.values(), key=lambda hook: (hook.priority, hook.name)))

    def pre_receive(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        priority: int = 100,
        timeout: float | None = None,
        on_failure: OnFailure | None = None,
        on_open: OnFailure | None = None,
        required: bool = False,
        max_inflight: int | None = None,
        recipients: str | Iterable[str] | None = None,
        read_headers: bool = True,
        read_body: Literal["none", "preview", "full"] = "none",
        read_attachments: Literal["none", "metadata", "preview", "full"] = "metadata",
    ) -> Any:
        """Has the function called about each message before it is stored: the sender waits for it.

        `timeout` is in seconds, 2 if nothing is said and at most 3. `recipients` are patterns with ``*`` and ``?``.
        """
        options = locals()
        return self._add("pre_receive", options)

    def post_receive(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        priority: int = 100,
        timeout: float | None = None,
        max_inflight: int | None = None,
        recipients: str | Iterable[str] | None = None,
        read_headers: bool = True,
        read_body: Literal["none", "preview", "full"] = "none",
        read_attachments: Literal["none", "metadata", "preview", "full"] = "metadata",
    ) -> Any:
        """Has the function called about each stored message, at least once: nobody waits for it.

        `timeout` is in seconds, 30 if nothing is said and at most 300. One that fails is called again later.
        """
        options = locals()
        return self._add("post_receive", options)

    def pre_send(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        priority: int = 100,
        timeout: float | None = None,
        on_failure: OnFailure | None = None,
        on_open: OnFailure | None = None,
        required: bool = False,
        max_inflight: int | None = None,
        recipients: str | Iterable[str] | None = None,
        read_headers: bool = True,
        read_body: Literal["none", "preview", "full"] = "none",
        read_attachments: Literal["none", "metadata", "preview", "full"] = "metadata",
    ) -> Any:
        """Has the function called about each message of a user or an application before it is signed and queued: they
        wait for it. `timeout` is in seconds, 2 if nothing is said and at most 5."""
        options = locals()
        return self._add("pre_send", options)

    def on_startup(self, function: F) -> F:
        """Has the function called on the asyncio loop before any hook is; what it raises keeps the server down."""
        self._startup.append(function)
        return function

    def on_shutdown(self, function: F) -> F:
        """Has the function called on the asyncio loop after the last hook."""
        self._shutdown.append(function)
        return function

    async def startup(self) -> None:
        """Calls what `on_startup` collected."""
        for function in self._startup:
            await _await(function())

    async def shutdown(self) -> None:
        """Calls what `on_shutdown` collected, the last one first."""
        for function in reversed(self._shutdown):
            await _await(function())

    def test(
        self, message: Message, *, point: str = "pre_receive", hook: str | None = None, lifespan: bool = False
    ) -> Verdict:
        """What the hooks say about a message, without a server: all of those at `point` that are for its recipients,
        or the one named `hook`. What a hook raises that is no verdict is raised here, too.

        With `lifespan`, what `on_startup` and `on_shutdown` collected is called around it.
        """
        return asyncio.run(self.test_async(message, point=point, hook=hook, lifespan=lifespan))

    async def test_async(
        self, message: Message, *, point: str = "pre_receive", hook: str | None = None, lifespan: bool = False
    ) -> Verdict:
        """The same as `test`, where an asyncio loop runs already."""
        if lifespan:
            await self.startup()
        try:
            verdict = await (self.ask(message, point) if hook is None else ask(self._named(hook), message))
            _check(verdict, point if hook is None else self._named(hook).point)
            return verdict
        finally:
            if lifespan:
                await self.shutdown()

    async def ask(self, message: Message, point: str, run_sync: RunSync | None = None) -> Verdict:
        """Asks the hooks at this point one after the other, until one refuses the message. Those that are no coroutines
        are called by `run_sync`, if that is given."""
        verdicts: list[Verdict] = []
        recipients = [] if message.is_redacted("envelope") else [one.address for one in message.envelope.recipients]
        for hook in self.hooks:
            # Whoever may not see the recipients is called for all of them.
            if hook.point != point or not (message.is_redacted("envelope") or hook.is_for(recipients)):
                continue
            verdicts.append(await ask(hook, message, run_sync))
            if verdicts[-1].refuses:
                break
        return merge(verdicts)

    def _named(self, name: str) -> Hook:
        try:
            return self._hooks[name]
        except KeyError:
            raise LookupError(f"there is no hook named {name!r}, but {', '.join(self._hooks) or 'none at all'}") from None

    def _add(self, point: str, options: dict[str, Any]) -> Any:
        function = options.pop("function")
        options.pop("self")

        def decorate(function: F) -> F:
            hook = _hook(point, function, **options)
            if hook.name in self._hooks:
                raise ConfigurationError(f"there are two hooks named {hook.name!r}: give one of them another name=")
            self._hooks[hook.name] = hook
            return function

        return decorate if function is None else decorate(function)


def _hook(
    point: str,
    function: Callable[..., Any],
    *,
    name: str | None,
    priority: int,
    timeout: float | None,
    max_inflight: int | None,
    recipients: str | Iterable[str] | None,
    read_headers: bool,
    read_body: str,
    read_attachments: str,
    on_failure: OnFailure | None = None,
    on_open: OnFailure | None = None,
    required: bool = False,
) -> Hook:
    """Checks everything that can be known when the module is imported."""
    if not callable(function):
        raise TypeError(f"a hook is a function, not {function!r}")
    name = name if name is not None else getattr(function, "__name__", None)
    if not name or not isinstance(name, str):
        raise TypeError("a hook needs a name: name=")
    on_failure = on_failure if on_failure is not None else ("tempfail" if required else "allow")
    problems = []
    if not 0 <= priority <= 1000:
        problems.append(f"priority is from 0 to 1000, not {priority}")
    if timeout is not None and not 0 < timeout <= _LONGEST[point]:
        problems.append(f"timeout is at most {_LONGEST[point]:g} seconds at {point}, not {timeout}")
    if max_inflight is not None and max_inflight < 1:
        problems.append(f"max_inflight is at least 1, not {max_inflight}")
    for keyword, value in (("on_failure", on_failure), ("on_open", on_open or on_failure)):
        if value not in _ON_FAILURE:
            problems.append(f"{keyword} is one of {', '.join(_ON_FAILURE)}, not {value!r}")
        elif required and value == "allow":
            problems.append(f"the hook is required, and mail would pass without it: {keyword} can't be 'allow'")
    if read_body not in ("none", "preview", "full"):
        problems.append(f"read_body is one of none, preview, full, not {read_body!r}")
    if read_attachments not in ("none", "metadata", "preview", "full"):
        problems.append(f"read_attachments is one of none, metadata, preview, full, not {read_attachments!r}")
    if problems:
        raise ConfigurationError(f"hook {name!r}: " + "; ".join(problems))
    return Hook(
        name=name,
        point=point,
        function=function,
        priority=priority,
        timeout=timeout,
        on_failure=on_failure,
        on_open=on_open,
        required=required,
        max_inflight=max_inflight,
        recipients=_patterns(recipients),
        read_headers=read_headers,
        read_body=read_body,
        read_attachments=read_attachments,
    )


def _patterns(recipients: str | Iterable[str] | None) -> str | None:
    """One regular expression, as Python and the server read it, for patterns with ``*`` and ``?``."""
    if recipients is None:
        return None
    globs = [recipients] if isinstance(recipients, str) else list(recipients)
    wild = {"*": ".*", "?": "."}
    return "|".join("".join(wild.get(one) or re.escape(one) for one in glob) for glob in globs)


def _check(verdict: Verdict, point: str) -> None:
    """Refuses what the server would refuse, where it is at hand."""
    try:
        from ._mairust import check_answer
    except ImportError:
        return
    check_answer(verdict.to_json(), point)


async def _await(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
