"""aiosmtpd from PyPI, in a Python environment of its own."""

import sys

from mailservers import CACHE, run

VERSION = "1.4.6"
PYTHON = CACHE / "aiosmtpd" / "bin" / "python"


def install():
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", PYTHON.parents[1])
        run(PYTHON, "-m", "pip", "install", "-q", f"aiosmtpd=={VERSION}")
