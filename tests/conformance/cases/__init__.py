"""The cases, by subject. Importing this package registers all of them, in the order of the report."""

from cases import (  # noqa: F401
    greeting,
    commands,
    paths,
    recipients,
    relay,
    content,
    end_of_data,
    size,
    pipelining,
    extensions,
    tls,
    chunking,
    trace,
    aborts,
    submission,
)
