from collections.abc import Sequence

__version__: str

def run(arguments: Sequence[str]) -> int: ...
