"""The MaiRust mail server inside a Python process."""

import sys

from ._mairust import __version__, run

__all__ = ["__version__", "main", "run"]


def main() -> int:
    """Runs the command line of the process, as the program `mairust` does."""
    return run(["mairust", *sys.argv[1:]])
