"""Mail servers to run the cases against, each from a configuration that an operator would write.

A module for each: `NAME`, `install()`, and `start(folder)`, a context manager that gives a `Peer`.
Everything listens on loopback ports, keeps its data in `folder`, and is stopped by its process id.
"""

import dataclasses
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))

from mailservers import run  # noqa: E402

RECIPIENT = "alice@example.com"
UNKNOWN = "nobody@example.com"
FOREIGN = "eve@elsewhere.example"
IDN_DOMAIN = "xn--grn-ioa.example"
IDN_RECIPIENT = "alice@grün.example"
USER = "bob@example.com"
PASSWORD = "correct-horse-battery"
MAX_SIZE = 1 << 20
HOSTNAME = "mx.example.com"

NAMES = ("ours", "postfix", "exim", "opensmtpd", "haraka", "aiosmtpd")


@dataclasses.dataclass
class Peer:
    """A running server."""

    version: str
    # The store, as `--store` takes it.
    store: str
    # Port for each profile.
    ports: dict[str, int]
    # Whether STARTTLS is expected.
    tls: bool = True


def certificate(folder):
    """A self-signed certificate and its key, as PEM files."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        f"/CN={HOSTNAME}",
        "-addext",
        f"subjectAltName=DNS:{HOSTNAME}",
        "-keyout",
        key,
        "-out",
        certificate,
    )
    return certificate, key
