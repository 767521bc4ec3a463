"""What `run` does for itself: what is shared with other measurements and tests can be imported."""

import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path += [str(FOLDER.parent / "side_by_side"), str(FOLDER.parents[1] / "tests")]
