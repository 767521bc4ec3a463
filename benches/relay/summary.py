"""Results as JSON, and as tables for a document."""

import json
import statistics

from report import hardware

COMMAND = "benches/relay/run"
TITLES = {
    "relayed": "Queued first, then let out: from the opening until the last message is at the sink",
    "passed-on": "From the first command of a user until the last message is at the sink",
}
# Whose figures the others are compared with.
BASES = {"× Postfix": "postfix", "× without DKIM": "ours"}


def summary(rounds):
    """Medians, and the spread; None when no round came to an end."""
    ended = [one for one in rounds if "failed" not in one]
    if not ended:
        return None
    rates = [one["messages_per_second"] for one in ended]
    return {
        "seconds": statistics.median(one["seconds"] for one in ended),
        "messages_per_second": statistics.median(rates),
        "slowest_round": min(rates),
        "fastest_round": max(rates),
        "cpu_seconds_per_1000": statistics.median(one["cpu_seconds"] / one["messages"] * 1e3 for one in ended),
    }


def faults(rounds):
    """What was wrong, as sentences."""
    found = {one["failed"] for one in rounds if "failed" in one}
    for one in rounds:
        if "failed" not in one and one["arrived"] != one["messages"]:
            found.add(f"{one['arrived']} messages arrived of {one['messages']}")
        if "failed" not in one and one["seconds_until_idle"] is None:
            found.add("was not idle within a minute afterwards")
    return sorted(found)


def as_json(results, cells):
    """`cells`: the results of the rounds, by measurement and server."""
    rows = [
        {"measurement": kind, "server": name, "summary": summary(rounds), "faults": faults(rounds), "rounds": rounds}
        for (kind, name), rounds in cells.items()
    ]
    return json.dumps({**results, "cells": rows}, indent=1, ensure_ascii=False) + "\n"


def markdown(results, cells):
    machine, options = results["machine"], results["options"]
    lines = [
        f"Made by `{COMMAND}` on {machine['date']}: {options['messages']:,} messages of 5 KiB, {options['rounds']} "
        f"rounds; {hardware(machine)}"
    ]
    for kind in dict.fromkeys(kind for kind, _ in cells):
        rows = {name: rounds for (of, name), rounds in cells.items() if of == kind}
        lines += ["", f"### {TITLES[kind]}", "", *table(rows, results["servers"])]
    return "\n".join(lines) + "\n"


def table(rows, titles):
    figures = {name: summary(rounds) for name, rounds in rows.items()}
    lines = [
        "| server | seconds | messages/s | slowest–fastest round | CPU s / 1,000 | " + " | ".join(BASES) + " |",
        "|---|--:|--:|--:|--:|" + "--:|" * len(BASES),
    ]
    for name, found in figures.items():
        cells = line(found, figures) if found else ["failed"] + ["–"] * (3 + len(BASES))
        lines.append(f"| {titles[name]} | " + " | ".join(cells) + " |")
    notes = [f"{titles[name]}: {fault}." for name, rounds in rows.items() for fault in faults(rounds)]
    return lines + ["", *notes] if notes else lines


def line(found, figures):
    return [
        f"{found['seconds']:.2f}",
        f"{found['messages_per_second']:,.0f}",
        f"{found['slowest_round']:,.0f}–{found['fastest_round']:,.0f}",
        f"{found['cpu_seconds_per_1000']:.2f}",
        *(ratio(found, figures.get(base)) for base in BASES.values()),
    ]


def ratio(found, base):
    return f"{found['messages_per_second'] / base['messages_per_second']:.2f}" if base else "–"
