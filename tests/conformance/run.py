#!/usr/bin/env python3
"""Black-box SMTP conformance: points at a server, sends what is allowed and what is not, and looks
at what was answered and what was stored.

  run.py HOST:PORT --store maildir:/var/mail/alice --recipient alice@example.com \\
         --unknown-recipient nobody@example.com --foreign-recipient eve@elsewhere.example
  run.py HOST:587 --profile submission --user alice@example.com --password … --store …
  run.py --render a.json b.json > table.md

Only for servers of your own: it tries to smuggle, to relay and to flood.
"""

import argparse
import datetime
import json
import sys
import time

import cases  # noqa: F401  registers them
import report
from stores import open_store
from suite import CASES, FAIL, Run, Target
from wire import Connection, Transcript, WireError


def main():
    options = parse()
    if options.list:
        for case in CASES:
            print(f"{case.id:<26}  {'+'.join(case.profiles):<14}  {case.source:<24}  {case.sentence}")
        return 0
    if options.render:
        print(report.markdown(report.load(options.render)))
        return 0
    target = target_of(options)
    problem = unreachable(target)
    if problem:
        print(f"{target.host}:{target.port}: {problem}", file=sys.stderr)
        return 2
    name = options.name or f"{target.host}:{target.port}"
    colour = sys.stdout.isatty()
    results = Run(target).execute(options.case)
    for result in results:
        print(report.line(result, colour))
    print(f"\n{name}, {options.profile}: {report.totals(result.outcome for result in results)}")
    if options.json:
        about = {
            "server": name,
            "version": options.version,
            "profile": options.profile,
            "date": datetime.date.today().isoformat(),
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report.as_json(results, about), file, indent=1, ensure_ascii=False)
    return 1 if any(result.outcome == FAIL for result in results) else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", type=address, help="HOST:PORT of the server")
    parser.add_argument(
        "--store",
        type=store,
        help="where to look for messages: maildir:PATH, files:PATH, mbox:PATH, sink:PATH, api:URL,KEY",
    )
    parser.add_argument("--profile", choices=("mx", "submission"), default="mx")
    parser.add_argument("--recipient", default="alice@example.com", help="an address that is delivered to the store")
    parser.add_argument("--unknown-recipient", help="an address of the same domain that does not exist")
    parser.add_argument("--foreign-recipient", help="an address that the server is not responsible for")
    parser.add_argument("--idn-recipient", help="a known address in a domain with U-labels")
    parser.add_argument("--tls", action="store_true", help="STARTTLS is expected: without it, its cells are red")
    parser.add_argument("--max-size", type=int, help="the limit of a message in octets, where SIZE does not tell")
    parser.add_argument("--user", help="who submits; the address is used as sender, too")
    parser.add_argument("--password")
    parser.add_argument("--timeout", type=float, default=10, help="seconds for one reply (default 10)")
    parser.add_argument(
        "--patience", type=float, default=10, help="seconds until a message must be stored (default 10)"
    )
    parser.add_argument("--run-timeout", type=float, default=600, help="seconds for everything (default 600)")
    parser.add_argument(
        "--case", action="append", metavar="WORD", help="only cases whose id contains WORD; may be repeated"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results to FILE")
    parser.add_argument("--name", help="the name of the server in reports")
    parser.add_argument("--version", default="", help="the version of the server in reports")
    parser.add_argument("--render", nargs="+", metavar="FILE", help="render results as a Markdown table instead")
    parser.add_argument("--list", action="store_true", help="list the cases instead")
    options = parser.parse_args()
    if not options.list and not options.render:
        if not options.address or not options.store:
            parser.error("HOST:PORT and --store are needed")
        if options.profile == "submission" and not (options.user and options.password):
            parser.error("--profile submission needs --user and --password")
    return options


def address(text):
    """HOST:PORT, the host in brackets if it is an IPv6 address."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def store(text):
    try:
        return open_store(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def target_of(options):
    host, port = options.address
    names = (
        "profile recipient unknown_recipient foreign_recipient idn_recipient tls max_size user password "
        "timeout patience run_timeout"
    ).split()
    given = {name: getattr(options, name) for name in names}
    return Target(host=host, port=port, store=options.store, **given)


def unreachable(target):
    """Why no case can be tried, if so."""
    try:
        with Connection(
            (target.host, target.port), target.timeout, time.monotonic() + target.timeout, Transcript()
        ) as connection:
            connection.reply()
    except WireError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
