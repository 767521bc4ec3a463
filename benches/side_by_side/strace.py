"""What strace wrote: how often files were synced, and which of them before a message was answered.

Reads traces of `strace -f -ttt -yy`. A sync counts when it has returned, a reply when it begins to be written.
"""

import collections
import dataclasses
import os
import pathlib
import re

from groups import SYNCS, WRITES

CALL = re.compile(r"(?P<process>\d+) +(?P<time>[\d.]+) (?P<call>\w+)\((?P<rest>.*)")
RESUMED = re.compile(r"(?P<process>\d+) +(?P<time>[\d.]+) <\.\.\. (?P<call>\w+) resumed>")
DESCRIPTOR = re.compile(r"\d+<(?P<name>.*?)>(?:[,)]| <unfinished)")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclasses.dataclass
class Event:
    time: float
    # "sync" or "write".
    kind: str
    # The file that was synced, or the connection that was written to.
    name: str
    text: str = ""


def events(lines):
    """What happened, in order."""
    waiting = {}
    for line in lines:
        if found := RESUMED.match(line):
            if found["call"] in SYNCS and found["process"] in waiting:
                yield Event(float(found["time"]), "sync", waiting.pop(found["process"]))
        elif found := CALL.match(line):
            descriptor = DESCRIPTOR.match(found["rest"])
            name = descriptor["name"] if descriptor else ""
            if found["call"] in WRITES:
                text = TEXT.search(found["rest"])
                yield Event(float(found["time"]), "write", name, text[1] if text else "")
            elif found["call"] in SYNCS:
                if "<unfinished" in found["rest"]:
                    waiting[found["process"]] = name
                else:
                    yield Event(float(found["time"]), "sync", name)


def read(paths):
    """The events of several traces of the same time."""
    found = []
    for path in paths:
        if path.exists():
            with open(path, encoding="utf-8", errors="replace") as file:
                found += events(file)
    return sorted(found, key=lambda event: event.time)


def syncs(paths):
    """How many files were synced so far."""
    return sum(event.kind == "sync" for event in read(paths))


def synced_before_reply(found, folder):
    """For each message, in order: how often each file was synced between 354 and the reply to its last line."""
    messages, open_data = [], {}
    for event in found:
        if event.kind == "sync":
            for synced in open_data.values():
                synced[general(event.name, folder)] += 1
        elif event.name in open_data and event.text.startswith("250"):
            messages.append(open_data.pop(event.name))
        elif re.search(r"(?:^|\\n)354[ -]", event.text):
            open_data[event.name] = collections.Counter()
    return messages


def general(path, folder):
    """A path within the folder of a run, without what is of one message only; directories end with a slash."""
    slash = "/" if os.path.isdir(path) else ""
    if pathlib.PurePath(path).is_relative_to(folder):
        path = str(pathlib.PurePath(path).relative_to(folder))
    return "/".join(map(general_part, path.split("/"))) + slash


def general_part(part):
    """`*` for a name with digits or of one letter, but for the ending that tells what the file is for."""
    if len(part) != 1 and not any(letter.isdigit() for letter in part):
        return part
    ending = re.search(r"(\.[a-z-]+|-[A-Z])$", part)
    return "*" + (ending[0] if ending else "")
