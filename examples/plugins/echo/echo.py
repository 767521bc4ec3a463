"""Writes a line into the log for each message that was stored: from whom, to whom, about what.

Settings: `tag`, a tag for each message that it has seen.
"""

import logging

import mairust

app = mairust.App("echo")
log = logging.getLogger("echo")


@app.post_receive(read_attachments="none")
async def echo(msg: mairust.Message):
    sender = granted(lambda: str(msg.envelope.sender) or "<>")
    recipients = granted(lambda: ", ".join(map(str, msg.envelope.recipients)))
    subject = granted(lambda: msg.subject)
    log.info("%s from %s to %s: %s", msg.id, sender, recipients, subject)
    if tag := msg.config.get("tag"):
        msg.add_tag(tag)


def granted(read):
    """A part of the message, or that it may not be seen, which is something else than an empty one."""
    try:
        return read()
    except mairust.NotGranted:
        return "(not granted)"
