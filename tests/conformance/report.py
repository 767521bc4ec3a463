"""Results as a table on the terminal, as JSON, and as one Markdown table of several servers."""

import collections
import json
import re

from suite import FAIL, INCONCLUSIVE, NOT_OFFERED, PASS

OUTCOMES = (PASS, FAIL, NOT_OFFERED, INCONCLUSIVE)
COLOURS = {PASS: "32", FAIL: "31", NOT_OFFERED: "90", INCONCLUSIVE: "33"}
SIGNS = {PASS: "✓", FAIL: "**✗**", NOT_OFFERED: "–", INCONCLUSIVE: "?"}


def line(result, colour):
    """One row of the table on the terminal."""
    word = f"{result.outcome:<12}"
    word = f"\x1b[{COLOURS[result.outcome]}m{word}\x1b[0m" if colour else word
    note = f"  ({result.note})" if result.note else ""
    return f"{word}  {result.case.id:<26}  {result.case.source:<24}  {result.case.sentence}{note}"


def totals(outcomes):
    counted = collections.Counter(outcomes)
    return " · ".join(f"{counted[outcome]} {outcome}" for outcome in OUTCOMES)


def as_json(results, about):
    """What `--json` writes; `about` names the server, its version, the profile and the date."""
    rows = [
        {
            "id": result.case.id,
            "source": result.case.source,
            "sentence": result.case.sentence,
            "outcome": result.outcome,
            "note": timeless(result.note),
        }
        for result in results
    ]
    return {**about, "results": rows}


def timeless(note):
    """A note without the tokens of this run, so that two runs can be compared."""
    return re.sub(r"\bt[0-9a-f]{20}\b", "token", note)


def markdown(reports):
    """A table for each profile: a row for each case, a column for each server; notes below."""
    parts = []
    for profile, title in (("mx", "Receiving (MX)"), ("submission", "Submission")):
        columns = [report for report in reports if report["profile"] == profile]
        if columns:
            parts += [f"## {title}", "", *table(columns, profile), ""]
    return "\n".join(parts)


def table(columns, profile):
    notes = []
    rows, order = collections.OrderedDict(), []
    for column, report in enumerate(columns):
        for row in report["results"]:
            if row["id"] not in rows:
                order.append(row)
            rows.setdefault(row["id"], {})[column] = row

    def cell(row):
        if row is None:
            return ""
        if row["outcome"] not in (FAIL, INCONCLUSIVE):
            return SIGNS[row["outcome"]]
        if row["note"] not in notes:
            notes.append(row["note"])
        return f"{SIGNS[row['outcome']]} [{notes.index(row['note']) + 1}](#{profile}-notes)"

    yield "| case | rule | " + " | ".join(report["server"] for report in columns) + " |"
    yield "|---|---|" + ":-:|" * len(columns)
    for first in order:
        cells = [cell(rows[first["id"]].get(column)) for column in range(len(columns))]
        yield f"| `{first['id']}` | {escaped(first['sentence'])} {first['source']} | " + " | ".join(cells) + " |"
    for outcome in OUTCOMES:
        counts = [sum(row["outcome"] == outcome for row in report["results"]) for report in columns]
        yield f"| | **{outcome}** | " + " | ".join(map(str, counts)) + " |"
    if notes:
        yield ""
        yield f"### {profile} notes"
        yield ""
        yield from (f"{number}. {escaped(note)}" for number, note in enumerate(notes, 1))


def escaped(text):
    for character in "\\|<>*_`":
        text = text.replace(character, "\\" + character)
    return text


def load(paths):
    reports = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            reports.append(json.load(file))
    return reports
