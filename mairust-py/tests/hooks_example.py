"""Hooks that tests run as a process of its own."""

import asyncio
import logging
import sys

import mairust
from mairust import Message, Reject, allow, quarantine

app = mairust.App("example")
log = logging.getLogger("example")


@app.on_startup
async def begin():
    app.state.seen = []


@app.pre_receive(priority=10, timeout=1.5, on_failure="tempfail")
async def judge(msg: Message):
    app.state.seen.append(msg.invocation_id)
    print("a stray print")
    if "refuse" in msg.subject:
        raise Reject("Not this one", code=550, enhanced="5.7.1", reason="the test wants it")
    if "keep apart" in msg.subject:
        return quarantine(tags=["odd"])
    if "fail" in msg.subject:
        raise RuntimeError("a secret of the hook")
    if "exit" in msg.subject:
        sys.exit(3)
    if "bool" in msg.subject:
        return True
    if "wait" in msg.subject:
        await asyncio.sleep(60)
    log.info("looked at it")
    return allow(score=0.5)


@app.post_receive(recipients="support@*", read_body="full")
def ticket(msg: Message):
    msg.add_tag(f"ticket:{len(msg.text)}")
    msg.add_flag("\\Flagged")


if __name__ == "__main__":
    raise AssertionError("the file is read for its hooks only")
