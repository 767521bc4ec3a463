"""The servers that are measured, each configured to keep a message on disk and to do nothing else with it.

A module for each: `TITLE`, `KEEPS` (where an accepted message is when the server is done with it),
`install()`, and `start(folder, group)`, a context manager that gives a `Running`. `group(name)` makes a
group of processes; everything that a subject starts is in one.
"""

import dataclasses
import os
import pathlib
import typing

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Where cargo puts what it builds.
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release"

NAMES = ("ours", "ours-postgres", "postfix", "exim", "opensmtpd", "haraka", "aiosmtpd", "smtp-sink")
OURS = ("ours", "ours-postgres")
# Stores nothing: the bound.
BOUND = "smtp-sink"

RECIPIENT = "b@example.com"
HOSTNAME = "mx.example.com"


@dataclasses.dataclass
class Running:
    """A server that greets on `port`."""

    version: str
    port: int
    # How many messages it really has; None if it keeps none.
    stored: typing.Callable[[], int] | None
