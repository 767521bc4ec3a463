"""Results as JSON, and as a table for a document."""

import dataclasses
import json
import statistics

from subjects import BOUND, OURS

COMMAND = "benches/side_by_side/run"


@dataclasses.dataclass
class Cell:
    """One server under one load."""

    row: object
    name: str
    # What `measure.timed` gave, a result for each round.
    rounds: list = dataclasses.field(default_factory=list)
    # What `measure.traced` gave, once.
    traced: list = dataclasses.field(default_factory=list)

    def faults(self):
        """What was wrong with the server, as sentences."""
        found = []
        for result in self.rounds + self.traced:
            if "failed" in result:
                found.append(result["failed"])
                continue
            if result["stored"] is not None and result["stored"] < result["sent"]:
                found.append(f"lost {result['sent'] - result['stored']} of {result['sent']} accepted messages")
            if result["stored"] is not None and result["stored"] > result["sent"]:
                found.append(f"has {result['stored']} messages of {result['sent']}")
            if result["seconds_until_idle"] is None:
                found.append("was not idle within a minute after the load")
        return sorted(set(found))

    def summary(self):
        """The figures of the table; medians over the rounds. None when no round came to an end."""
        rounds = [result for result in self.rounds if "failed" not in result]
        if not rounds:
            return None
        rates = [result["messages_per_second"] for result in rounds]
        traced = [result for result in self.traced if "failed" not in result]
        return {
            "messages_per_second": statistics.median(rates),
            "slowest_round": min(rates),
            "fastest_round": max(rates),
            "p50_ms": statistics.median(result["p50_ms"] for result in rounds),
            "p99_ms": statistics.median(result["p99_ms"] for result in rounds),
            "cpu_seconds_per_1000": {part: cpu(rounds, part) for part in rounds[0]["cpu_seconds"]},
            "generator_cpu_seconds_per_1000": statistics.median(
                result["generator_cpu_seconds"] / result["accepted"] * 1e3 for result in rounds
            ),
            "peak_pss_mib": max((result["pss_kib"] / 1024 for result in traced), default=None),
            "sum_of_peak_rss_mib": max(result["peaks_kib"] / 1024 for result in rounds + traced),
            "syncs_per_message": max((result["syncs"] / result["accepted"] for result in traced), default=None),
            "ungreeted_connections": sum(result["ungreeted"] for result in rounds),
        }


def cpu(rounds, part):
    return statistics.median(result["cpu_seconds"][part] / result["accepted"] * 1e3 for result in rounds)


def as_json(results, cells):
    """Everything that was measured."""
    rows = [
        {
            "kibibytes": cell.row.kibibytes,
            "sessions": cell.row.sessions,
            "server": cell.name,
            "summary": cell.summary(),
            "faults": cell.faults(),
            "rounds": cell.rounds,
            "traced": cell.traced,
        }
        for cell in cells
    ]
    return json.dumps({**results, "cells": rows}, indent=1, ensure_ascii=False) + "\n"


def durable(server):
    """Whether a server syncs anything before it replies."""
    return bool(server.get("synced_before_reply"))


def markdown(results, cells):
    """The tables of a document: what was measured how, the servers, and one table for each row."""
    lines = [*conditions(results), "", *table_of_servers(results["servers"]), ""]
    for row in dict.fromkeys(cell.row for cell in cells):
        lines += [*table_of_row(row, [cell for cell in cells if cell.row == row], results["servers"]), ""]
    return "\n".join(lines)


def conditions(results):
    machine, options = results["machine"], results["options"]
    return [
        f"Made by `{COMMAND}` on {machine['date']}: rounds of {options['seconds']:g} s, {options['rounds']} of each, "
        f"with 10 messages in each connection; {hardware(machine)}"
    ]


def hardware(machine):
    """What was measured on, and what its disk allows, as the end of a sentence and one more."""
    disk = machine["disk"]
    return (
        f"{machine['processors']} × {machine['processor']}, {machine['memory_mib'] / 1024:.0f} GiB, "
        f"Linux {machine['kernel']}, {machine['file_system']['type']}. The disk syncs "
        f"{disk['group_of_1_per_second']:,.0f} records of 5 KiB a second one by one, and "
        f"{disk['group_of_20_per_second']:,.0f} in groups of 20."
    )


def table_of_servers(servers):
    lines = ["| server | version | where an accepted message is | synced before the 250 |", "|---|---|---|---|"]
    for server in servers.values():
        if "unavailable" in server:
            lines.append(f"| {server['title']} | – | not measured: {server['unavailable']} | – |")
            continue
        lines.append(f"| {server['title']} | {server['version']} | {server['keeps']} | {synced(server)} |")
    return lines


def synced(server):
    times = server["synced_before_reply"].items()
    parts = [f"`{path}`" + (f" ×{count}" if count > 1 else "") for path, count in times]
    return ", ".join(parts) or "**nothing**"


def table_of_row(row, cells, servers):
    """The servers that keep what they accept, fastest first; below them those that don't sync, and the bound."""
    measured = [(cell, cell.summary()) for cell in cells]
    rates = {cell.name: figures["messages_per_second"] for cell, figures in measured if figures}
    peers = [cell for cell in cells if cell.name not in OURS and cell.name in rates]
    best = max((rates[cell.name] for cell in peers if durable(servers[cell.name]) and not cell.faults()), default=None)
    lines = [
        f"### {row.title}",
        "",
        "| server | messages/s | slowest–fastest round | × Postfix | × best durable peer | × smtp-sink "
        "| p50 ms | p99 ms | CPU s / 1,000 | peak MiB: PSS / sum of RSS | syncs / message |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    measured.sort(key=lambda pair: place(pair[0].name, servers[pair[0].name], rates))
    notes = []
    for cell, figures in measured:
        title = servers[cell.name]["title"]
        if cell.name == BOUND:
            title += ", stores nothing"
        elif not durable(servers[cell.name]):
            title += ", **not durable**"
        notes += [f"{servers[cell.name]['title']}: {fault}." for fault in cell.faults()]
        if figures:
            notes += ungreeted(servers[cell.name]["title"], figures)
            ratios = (rates.get("postfix"), best, rates.get(BOUND))
            lines.append(table_line(title, figures, ratios))
        else:
            lines.append(f"| {title} | failed |" + " |" * 9)
    return lines + ["", *notes] if notes else lines


def place(name, server, rates):
    return name == BOUND, not durable(server), -rates.get(name, 0)


def ungreeted(title, figures):
    count = figures["ungreeted_connections"]
    return [f"{title}: {count} connections were not greeted, and made again."] if count else []


def table_line(title, figures, bases):
    parts = dict(sorted(figures["cpu_seconds_per_1000"].items(), key=lambda part: part[0] != "server"))
    spent = f"{sum(parts.values()):.2f}"
    if len(parts) > 1:
        spent += " (" + " + ".join(f"{part} {seconds:.2f}" for part, seconds in parts.items()) + ")"
    columns = [
        title,
        f"{figures['messages_per_second']:,.0f}",
        f"{figures['slowest_round']:,.0f}–{figures['fastest_round']:,.0f}",
        *(f"{figures['messages_per_second'] / base:.2f}" if base else "–" for base in bases),
        f"{figures['p50_ms']:.2f}",
        f"{figures['p99_ms']:.2f}",
        spent,
        f"{rounded(figures['peak_pss_mib'], 0)} / {figures['sum_of_peak_rss_mib']:.0f}",
        rounded(figures["syncs_per_message"], 2),
    ]
    return "| " + " | ".join(columns) + " |"


def rounded(figure, digits):
    return "–" if figure is None else f"{figure:.{digits}f}"
