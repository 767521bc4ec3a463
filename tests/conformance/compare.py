#!/usr/bin/env python3
"""Installs and starts mail servers, runs all cases against each, and writes the table.

compare.py                     all servers; rewrites docs/conformance.md
compare.py --only ours         one of them; prints the rows, writes no document
"""

import argparse
import datetime
import importlib
import json
import pathlib
import sys
import tempfile

import cases  # noqa: F401  registers them
import peers
import report
from mailservers import Unavailable
from stores import open_store
from suite import FAIL, INCONCLUSIVE, Run, Target

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/conformance.md"
COMMAND = "python3 tests/conformance/compare.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=peers.NAMES, default=peers.NAMES)
    parser.add_argument("--profile", choices=("mx", "submission"), help="only this profile")
    parser.add_argument("--case", action="append", metavar="WORD", help="only cases whose id contains WORD")
    parser.add_argument("--json", type=pathlib.Path, metavar="FOLDER", help="keep the results of each server there")
    options = parser.parse_args()
    reports, unavailable = [], {}
    for name in options.only:
        try:
            reports += compare(name, options)
        except (Unavailable, OSError) as reason:
            unavailable[name] = str(reason)
            print(f"{name}: not available: {reason}", flush=True)
    if options.json:
        options.json.mkdir(parents=True, exist_ok=True)
        for one in reports:
            path = options.json / f"{one['server'].lower()}-{one['profile']}.json"
            path.write_text(json.dumps(one, indent=1, ensure_ascii=False))
    if set(options.only) == set(peers.NAMES) and not options.case and not options.profile:
        DOCUMENT.write_text(document(reports, unavailable))
        print(f"wrote {DOCUMENT}")
    return 1 if unavailable or any(row["outcome"] == FAIL for one in reports for row in one["results"]) else 0


def compare(name, options):
    """The reports of one server, one for each profile that it has."""
    peer = importlib.import_module(f"peers.{name}")
    peer.install()
    reports = []
    # Servers drop privileges and must reach their files.
    with tempfile.TemporaryDirectory(prefix="mairust-peer-") as folder:
        pathlib.Path(folder).chmod(0o755)
        with peer.start(pathlib.Path(folder)) as running:
            store = open_store(running.store)
            for profile, port in running.ports.items():
                if options.profile in (None, profile):
                    reports.append(one_profile(peer, running, store, profile, port, options.case))
    return reports


def one_profile(peer, running, store, profile, port, wanted):
    target = Target(
        host="127.0.0.1",
        port=port,
        store=store,
        profile=profile,
        recipient=peers.RECIPIENT,
        unknown_recipient=peers.UNKNOWN,
        foreign_recipient=peers.FOREIGN,
        idn_recipient=peers.IDN_RECIPIENT,
        tls=running.tls,
        max_size=peers.MAX_SIZE,
        user=peers.USER,
        password=peers.PASSWORD,
    )
    results = Run(target).execute(wanted)
    for result in results:
        if wanted or result.outcome in (FAIL, INCONCLUSIVE):
            print(report.line(result, sys.stdout.isatty()))
    print(
        f"{peer.NAME} {running.version}, {profile}: {report.totals(result.outcome for result in results)}", flush=True
    )
    about = {
        "server": peer.NAME,
        "version": running.version,
        "settings": peer.SETTINGS,
        "profile": profile,
        "date": datetime.date.today().isoformat(),
    }
    return report.as_json(results, about)


def document(reports, unavailable):
    servers = {one["server"]: one for one in reports}
    lines = [
        "# Conformance",
        "",
        "How MaiRust and other mail servers answer the cases of `tests/conformance`: a black-box runner that "
        "talks to a port and looks at what was stored. Each server runs on loopback ports, from a configuration that an "
        "operator would write, with its own stricter settings where it has them. The runner itself is tested against a "
        "server that breaks one rule at a time.",
        "",
        f"Made by `{COMMAND}` on {datetime.date.today().isoformat()}; as root on Debian it installs what it needs, and "
        "`MAIRUST_BIN` names the binary of MaiRust. For any other server, see `tests/conformance/run.py --help`.",
        "",
        "| server | version | settings that matter here |",
        "|---|---|---|",
        *(f"| {name} | {one['version']} | {one['settings']} |" for name, one in servers.items()),
        "",
        "✓ as the rule says · **✗** against the rule · – not offered: the extension is not announced · "
        "? could not be told.",
        "The numbers lead to what happened. A ✗ is about the letter of the rule, not about how much it matters.",
        "",
        *(f"Not available in this run: {name} ({reason})." for name, reason in unavailable.items()),
        *([""] if unavailable else []),
        report.markdown(reports),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
