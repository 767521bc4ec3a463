"""What can go wrong: one class for each kind."""


class MairustError(Exception):
    """The base of all errors of this package."""

    #: Whether the same may succeed later.
    is_temporary: bool = False


class ConfigurationError(MairustError, ValueError):
    """Something was asked for that can't be; the text names every problem."""


class NotGranted(MairustError):
    """A part of the message that this program may not see. It is not empty: it is not shown."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"{part} is not granted to this hook: have whoever runs the server grant it, see read_headers, read_body "
            "and read_attachments"
        )
        #: The part, as the protocol names it.
        self.part = part


class InvalidAnswer(MairustError, ValueError):
    """A hook said something that no hook may say; nothing of it is done."""


class ServerError(MairustError):
    """A server could not start, or a part of it ended."""


class ForkRefused(MairustError, RuntimeError):
    """The process has a server that runs. A copy of it would have its sockets, but none of its threads."""


class StorageError(MairustError):
    """A storage did not do what it was asked."""


class AlreadyExists(StorageError):
    """There is one already."""


class Conflict(StorageError):
    """It was changed meanwhile."""


class Corrupt(StorageError):
    """Octets were read whose checksum is wrong."""


class InvalidArgument(StorageError, ValueError):
    """The arguments make no sense."""


class NotFound(StorageError, LookupError):
    """There is none."""


class StorageFull(StorageError):
    """The disk, or the share of it that may be used, is full."""

    is_temporary = True


class StorageUnavailable(StorageError):
    """The storage does not answer, or failed in a way that may pass."""

    is_temporary = True
