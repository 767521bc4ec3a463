"""An aiosmtpd server that keeps messages in a Maildir: aiosmtpd_server.py PORT MAILDIR."""

import asyncio
import os
import pathlib
import sys
import uuid

# This folder also has a module named aiosmtpd.
sys.path.pop(0)

from aiosmtpd.smtp import SMTP  # noqa: E402


class Handler:
    """Answers when a message cannot be lost any more."""

    def __init__(self, maildir):
        self.temporary, self.new = maildir / "tmp", maildir / "new"
        for folder in (self.temporary, self.new):
            folder.mkdir(parents=True)
        self.directory = os.open(self.new, os.O_RDONLY | os.O_DIRECTORY)

    async def handle_DATA(self, server, session, envelope):
        # In a thread, so that other sessions go on while the disk works.
        await asyncio.to_thread(self.keep, envelope.original_content)
        return "250 2.0.0 OK"

    def keep(self, content):
        name = uuid.uuid4().hex
        with open(self.temporary / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self.temporary / name, self.new / name)
        os.fsync(self.directory)


async def main():
    port, maildir = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    handler = Handler(maildir)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, hostname="mx.example.com", loop=loop), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


asyncio.run(main())
