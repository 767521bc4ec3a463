"""What `run` does for itself: the mail servers that are shared with the conformance cases can be imported."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests"))
