"""Runs hooks as a process of their own: `python -m mairust.plugin my_hooks:app`.

Without more it is a worker of the stdin protocol: it reads requests, one JSON object a line, answers each, and ends when
its standard input does. Such a process can be killed, whatever a hook does. With `--http`, it is an endpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from ._load import load
from .app import App
from .errors import ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns the code to exit with."""
    parser = argparse.ArgumentParser(prog="python -m mairust.plugin", description=__doc__)
    parser.add_argument("app", metavar="MODULE:APP", help="where the hooks are; my_hooks.py:app is possible, too")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--http", metavar="HOST:PORT|unix:PATH", help="listen for requests by HTTP, signed with MAIRUST_SECRET")
    ways.add_argument("--oneshot", action="store_true", help="answer one request from standard input")
    ways.add_argument("--describe", action="store_true", help="print what the hooks are, and what they want to see")
    parser.add_argument("--plugin-id", metavar="ID", default=os.environ.get("MAIRUST_PLUGIN_ID"),
                        help="take requests for this plugin only (default: MAIRUST_PLUGIN_ID)")
    given = parser.parse_args(arguments)
    try:
        app = load(given.app)
        if given.describe:
            print(json.dumps(describe(app), indent=2))
            return 0
        if given.http:
            from ._endpoint import run

            return run(app, given.http, given.plugin_id, os.environ.get("MAIRUST_SECRET"))
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from . import _worker

    return _worker.oneshot(app) if given.oneshot else _worker.run(app)


def describe(app: App) -> dict[str, object]:
    """The hooks of an app, and what has to be granted to them all."""
    bodies, parts = ("none", "preview", "full"), ("none", "metadata", "preview", "full")
    return {
        "hooks": [
            {
                "name": hook.name,
                "hook": hook.point,
                "priority": hook.priority,
                "timeout": hook.timeout,
                "required": hook.required,
                "on_failure": hook.on_failure,
                "recipients": hook.recipients,
            }
            for hook in app.hooks
        ],
        "read": {
            "read_headers": any(hook.read_headers for hook in app.hooks),
            "read_body": max((hook.read_body for hook in app.hooks), key=bodies.index, default="none"),
            "read_attachments": max((hook.read_attachments for hook in app.hooks), key=parts.index, default="none"),
        },
    }


if __name__ == "__main__":
    sys.exit(main())
