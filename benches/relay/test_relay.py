"""The parts of the measurement that only read and write text."""

import json

import summary
from bulk import letter
from sink import Sink

RESULTS = {
    "machine": {
        "date": "2026-11-24",
        "processors": 2,
        "processor": "a processor",
        "memory_mib": 4096,
        "kernel": "6.1",
        "file_system": {"type": "ext4", "options": "rw"},
        "disk": {"group_of_1_per_second": 800.0, "group_of_20_per_second": 9000.0},
    },
    "options": {"rounds": 3, "messages": 2000},
    "servers": {"ours": "MaiRust", "ours-dkim": "MaiRust with DKIM", "postfix": "Postfix"},
}


def rounds(*rates, **more):
    figures = {"messages": 2000, "arrived": 2000, "cpu_seconds": 3.0, "seconds_until_idle": 0.0}
    return [figures | {"messages_per_second": rate, "seconds": 2000 / rate} | more for rate in rates]


def table(**cells):
    return summary.markdown(RESULTS, {("relayed", name.replace("_", "-")): found for name, found in cells.items()})


def test_figures_are_medians_with_the_spread_and_ratios():
    text = table(ours=rounds(4000, 1000, 2000), ours_dkim=rounds(1600), postfix=rounds(500))
    assert "| MaiRust | 1.00 | 2,000 | 1,000–4,000 | 1.50 | 4.00 | 1.00 |" in text
    assert "| MaiRust with DKIM | 1.25 | 1,600 | 1,600–1,600 | 1.50 | 3.20 | 0.80 |" in text


def test_a_server_alone_has_no_ratio():
    assert "| Postfix | 4.00 | 500 | 500–500 | 1.50 | 1.00 | – |" in table(postfix=rounds(500))


def test_what_is_lost_or_comes_twice_is_said():
    text = table(ours=rounds(2000, arrived=1999), postfix=rounds(500, arrived=2001))
    assert "MaiRust: 1999 messages arrived of 2000." in text
    assert "Postfix: 2001 messages arrived of 2000." in text


def test_a_round_that_failed_is_in_the_table_and_in_the_json():
    cells = {("relayed", "ours"): [{"failed": "refused"}]}
    assert "| MaiRust | failed |" in summary.markdown(RESULTS, cells)
    assert "MaiRust: refused." in summary.markdown(RESULTS, cells)
    assert json.loads(summary.as_json(RESULTS, cells))["cells"][0]["faults"] == ["refused"]


def test_the_sink_is_read_where_its_counts_end(tmp_path):
    log = tmp_path / "log"
    there = Sink(0, 0, log)
    log.write_text("")
    assert there.count() == 0
    # As smtp-sink writes it; the last number may be there in part only.
    log.write_text("sess=4 quit=0 mesg=9\rsess=4 quit=0 mesg=10\rsess=4 quit=0 mesg=1")
    assert there.count() == 10


def test_letters_differ_and_have_the_size():
    first, second = (letter("a@example.com", "b@remote.example", number, 5 << 10) for number in (1, 2))
    assert first != second
    assert (5 << 10) - 80 < len(first) <= 5 << 10
