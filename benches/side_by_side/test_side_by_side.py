"""The parts of the measurement that only read and write text."""

import json
import xml.etree.ElementTree

import plot
import pytest
import report
import strace
from measure import Row

# Two sessions at a time: the sync of the first ends after the 354 of the second, and counts for both.
TRACE = """\
20 1.000000 sendto(9<TCP:[127.0.0.1:25->127.0.0.1:5001]>, "250 ok\\r\\n250 ok\\r\\n354 go\\r\\n", 28, 0, NULL, 0) = 28
21 1.100000 fdatasync(4</data/mail/tmp/6f1c> <unfinished ...>
22 1.200000 write(8<TCP:[127.0.0.1:25->127.0.0.1:5002]>, "354 go\\r\\n", 8) = 8
21 1.300000 <... fdatasync resumed>)      = 0
22 1.400000 fsync(5</data/log.db-wal>) = 0
20 1.500000 sendto(9<TCP:[127.0.0.1:25->127.0.0.1:5001]>, "250 2.0.0 kept\\r\\n", 16, 0, NULL, 0) = 16
20 1.550000 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---
21 1.600000 fsync(5</data/log.db-wal>) = 0
22 1.700000 writev(8<TCP:[127.0.0.1:25->127.0.0.1:5002]>, [{iov_base="250 kept\\r\\n", iov_len=10}], 1) = 10
21 1.800000 fsync(5</data/after>) = 0
"""


@pytest.fixture
def traced(tmp_path):
    path = tmp_path / "strace"
    path.write_text(TRACE)
    return path


def test_what_was_synced_before_each_reply(traced):
    first, second = strace.synced_before_reply(strace.read([traced]), "/data")
    assert first == {"mail/tmp/*": 1, "log.db-wal": 1}
    assert second == {"mail/tmp/*": 1, "log.db-wal": 2}


def test_all_syncs_are_counted(traced, tmp_path):
    assert strace.syncs([traced, tmp_path / "of a process that was not started"]) == 4


def test_syncs_of_two_traces_are_put_in_order(traced, tmp_path):
    database = tmp_path / "database"
    database.write_text("7 1.450000 fdatasync(3</data/pg_wal/000000010000000000000001>) = 0\n")
    first, _ = strace.synced_before_reply(strace.read([traced, database]), "/data")
    assert first["pg_wal/*"] == 1


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/data/spool/input/B/1vNq8F-000Abc-0D-D", "spool/input/*/*-D"),
        ("/data/data/mairust.db-wal", "data/mairust.db-wal"),
        ("/data/mail/0197a/5b2f-11.eml", "mail/*/*.eml"),
        ("/elsewhere/queue", "/elsewhere/queue"),
    ],
)
def test_paths_are_shown_without_what_is_of_one_message(path, shown):
    assert strace.general(path, "/data") == shown


def result(rate, **more):
    figures = {"accepted": 100, "messages_per_second": rate, "p50_ms": 1.0, "p99_ms": 2.0, "ungreeted": 0}
    figures |= {"cpu_seconds": {"server": 0.1}, "generator_cpu_seconds": 0.01, "peaks_kib": 2048}
    return figures | {"sent": 140, "stored": 140, "seconds_until_idle": 0.0} | more


def cell(name, *rates, **more):
    rounds = [result(rate, **more) for rate in rates]
    return report.Cell(Row(5, 20), name, rounds, [result(1, syncs=50, pss_kib=1024)])


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
    "options": {"rounds": 3, "seconds": 4.0},
    "servers": {
        name: {"title": title, "keeps": "somewhere", "version": "1", "synced_before_reply": synced}
        for name, title, synced in (
            ("ours", "MaiRust", {"log": 1}),
            ("postfix", "Postfix", {"queue/*": 1}),
            ("exim", "Exim", {"spool/*": 2}),
            ("opensmtpd", "OpenSMTPD", {}),
            ("smtp-sink", "smtp-sink", {}),
        )
    },
}


def table(*cells):
    return report.markdown(RESULTS, cells).partition("### ")[2]


def test_figures_are_medians_with_the_spread():
    assert "| MaiRust | 800 | 700–4,000 |" in table(cell("ours", 700, 4000, 800))


def test_ratios_are_to_postfix_to_the_best_durable_peer_and_to_the_bound():
    peers = cell("postfix", 100), cell("exim", 200), cell("opensmtpd", 400), cell("smtp-sink", 1600)
    assert "| MaiRust | 800 | 800–800 | 8.00 | 4.00 | 0.50 |" in table(cell("ours", 800), *peers)


def test_the_best_peer_has_lost_nothing():
    text = table(cell("ours", 800), cell("postfix", 100), cell("exim", 200, stored=139))
    assert "| MaiRust | 800 | 800–800 | 8.00 | 8.00 | – |" in text
    assert "Exim: lost 1 of 140 accepted messages." in text


def test_who_does_not_sync_stands_below_and_the_bound_at_the_end():
    text = table(cell("smtp-sink", 1600), cell("opensmtpd", 900), cell("postfix", 100))
    places = [
        text.index(word) for word in ("| Postfix |", "| OpenSMTPD, **not durable** |", "| smtp-sink, stores nothing")
    ]
    assert places == sorted(places)


def test_the_database_is_shown_apart_and_summed():
    both = {"database": 0.2, "server": 0.1}
    assert "| 3.00 (server 1.00 + database 2.00) |" in table(cell("ours", 800, cpu_seconds=both))


def test_a_server_that_fails_is_in_the_table_and_in_the_json():
    failed = report.Cell(Row(5, 20), "postfix", [{"failed": "the load failed: refused"}], [])
    text = table(cell("ours", 800), failed)
    assert "| Postfix | failed |" in text
    assert "Postfix: the load failed: refused." in text
    assert json.loads(report.as_json(RESULTS, [failed]))["cells"][0]["summary"] is None


def test_a_server_that_is_not_here_says_why():
    servers = {"exim": {"title": "Exim", "keeps": "somewhere", "unavailable": "needs root"}}
    assert "| Exim | – | not measured: needs root | – |" in report.table_of_servers(servers)


def test_plots_are_svg_with_a_bar_for_each_server():
    figures = plot.figures(RESULTS, [cell("ours", 700, 800), cell("postfix", 1), cell("smtp-sink", 100000)])
    for text in figures.values():
        root = xml.etree.ElementTree.fromstring(text)
        bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("height") == str(plot.BAR)]
        assert len(bars) == 3
        assert all(float(bar.get("width")) >= 0 for bar in bars)
        assert "MaiRust" in text
