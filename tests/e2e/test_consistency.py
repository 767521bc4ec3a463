"""What does not fit together is found, named, and put right where it can be."""

import json
import pathlib
import sqlite3
import time
import uuid

import pytest
from conftest import Api, run, wait_until
from seaweed import BUCKET, Seaweed
from test_serve import PASSWORD, production


def send(server, count, to=("alice@example.com",)):
    client = server.smtp()
    for number in range(count):
        client.sendmail("a@sender.example", list(to), b"Subject: number %d\r\n\r\ntext %d\r\n" % (number, number))
    client.quit()


def files(tmp_path, count):
    """The files of messages, when all have come to their places."""
    mail = tmp_path / "data" / "mail"
    return wait_until(lambda: len(found := sorted(mail.rglob("*.eml"))) == count and found, f"{count} files")


def check(config, *arguments, command="consistency-check"):
    """The exit code, and what was found."""
    done = run(command, "-c", config, "-o", "json", *arguments, check=False)
    return done.returncode, json.loads(done.stdout)


def flip(file):
    octets = bytearray(file.read_bytes())
    octets[len(octets) // 2] ^= 1
    file.write_bytes(octets)


def id_of(seconds):
    """An id that was made so many seconds ago."""
    millis = int((time.time() - seconds) * 1000)
    return str(uuid.UUID(int=millis << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1))


def change(config_folder, *statements):
    """Changes the SQLite database behind the back of the server."""
    with sqlite3.connect(config_folder / "data" / "mairust.db", timeout=30) as database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement
    database.close()


def test_lost_and_damaged_bodies_are_named(servers, tmp_path):
    server, key = production(servers, tmp_path)
    config = tmp_path / "mairust.yaml"
    send(server, 4)
    files(tmp_path, 4)
    assert check(config) == (0, {
        "findings": [], "bodies": 4, "objects": 4, "counters": 13, "found": {}, "repaired": {}, "left": {},
    })
    api = Api(server.ready["http"], key)
    messages = {message["subject"]: message["id"] for message in api.messages()}
    of = {file.stem: file for file in files(tmp_path, 4)}
    damaged, lost = messages["number 1"], messages["number 2"]
    flip(of[damaged])
    of[lost].unlink()
    code, found = check(config)
    assert code == 8 and found["found"] == {"body_damaged": 1, "body_missing": 1} and found["left"] == found["found"]
    named = {(finding["fault"], finding["message_id"]) for finding in found["findings"]}
    assert named == {("body_damaged", damaged), ("body_missing", lost)}
    assert all(finding["object"].endswith(f"/{finding['message_id']}.eml") for finding in found["findings"])
    # The same for people, and what to do.
    text = run("consistency-check", "-c", config, check=False)
    assert text.returncode == 8 and damaged in text.stdout and lost in text.stdout
    assert "2 faults are left" in text.stderr and "from a backup" in text.stderr
    # A repair removes no mail, and what is damaged is given to nobody.
    assert check(config, "--repair")[0] == 8
    assert len(api.messages()) == 4
    assert api.request("GET", f"/api/v1/messages/{damaged}/raw").status == 503


def test_a_body_of_two_mailboxes_is_lost_to_both(servers, tmp_path):
    server, key = production(servers, tmp_path)
    config = tmp_path / "mairust.yaml"
    run("user", "add", "bob@example.com", "-c", config, "--password-stdin", input=PASSWORD)
    send(server, 1, ("alice@example.com", "bob@example.com"))
    (file,) = files(tmp_path, 1)
    file.unlink()
    code, found = check(config)
    ids = {message["id"] for message in Api(server.ready["http"], key).messages()}
    assert code == 8 and {finding["message_id"] for finding in found["findings"]} == ids and len(ids) == 2


def test_orphans_are_removed_when_they_are_old(servers, tmp_path):
    server, key = production(servers, tmp_path)
    config = tmp_path / "mairust.yaml"
    send(server, 1)
    (file,) = files(tmp_path, 1)
    old, young = (file.with_name(f"{id_of(seconds)}.eml") for seconds in (7_200, 10))
    for orphan in (old, young):
        orphan.write_bytes(b"x")
    code, found = check(config)
    assert code == 8 and found["found"] == {"body_orphaned": 1} and old.exists()
    assert found["findings"][0]["object"] == str(old.relative_to(tmp_path / "data" / "mail"))
    code, found = check(config, "--repair")
    assert (code, found["repaired"], found["left"]) == (0, {"body_orphaned": 1}, {})
    assert not old.exists() and young.exists() and file.exists()
    assert check(config)[0] == 0
    listed = run("audit", "list", "--installation", "--type", "storage.repaired", "-c", config, "-o", "json").stdout
    assert json.loads(listed)[0]["after"] == {"found": {"body_orphaned": 1}, "repaired": {"body_orphaned": 1}}
    assert len(Api(server.ready["http"], key).messages()) == 1


def test_bodies_of_a_lost_database_are_left_alone(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    send(server, 3)
    files(tmp_path, 3)
    assert server.stop() == 0
    for file in (tmp_path / "data").glob("mairust.db*"):
        file.unlink()
    config = tmp_path / "mairust.yaml"
    run("migrate", "-c", config)
    # Whoever made them is not known here; let them have lain for a while.
    for file in files(tmp_path, 3):
        file.rename(file.with_name(f"{id_of(7_200)}.eml"))
    code, found = check(config, "--repair")
    assert code == 8 and found["left"] == {"body_orphaned": 3} and found["repaired"] == {}
    assert "is this the right database?" in found["findings"][0]["detail"]
    assert len(files(tmp_path, 3)) == 3


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_counters_are_corrected(servers, tmp_path, request, database):
    sections = {}
    if database == "postgres":
        postgres = request.getfixturevalue("postgres")
        sections = {"database": {"backend": "postgres", "url": postgres.database("counters")}}
    server, key = production(servers, tmp_path, **sections)
    config = tmp_path / "mairust.yaml"
    send(server, 3)
    statements = ["UPDATE mailboxes SET used = used + 1000 WHERE name = 'alice@example.com'",
                  "UPDATE folders SET uidnext = 1, modseq = 0 WHERE uidnext > 1"]
    if database == "postgres":
        postgres.sql(";".join(statements), "counters")
    else:
        change(tmp_path, *statements)
    for command in (["consistency-check"], ["consistency-check", "--repair"]):
        done = run(*command, "-c", config, check=False)
        assert done.stdout.count("mailbox_use") == done.stdout.count("folder_counters") == 1, done
        assert done.returncode == (0 if "--repair" in command else 8)
    assert check(config)[0] == 0
    send(server, 1)
    assert len(Api(server.ready["http"], key).messages()) == 4
    assert check(config)[0] == 0


def test_the_database_is_repaired(servers, tmp_path):
    server, key = production(servers, tmp_path)
    config = tmp_path / "mairust.yaml"
    send(server, 5)
    files(tmp_path, 5)
    assert check(config, command="db-repair") == (0, {
        "findings": [], "bodies": 0, "objects": 0, "counters": 13, "found": {}, "repaired": {}, "left": {},
    })
    assert server.stop() == 0
    # An index misses what was written, as after a crash of a machine whose disk lies about syncs.
    path = tmp_path / "data" / "mairust.db"
    index = "name = 'messages_by_time'"
    with sqlite3.connect(path) as database:
        (entry,) = database.execute(f"SELECT * FROM sqlite_schema WHERE {index}").fetchall()
        database.execute("PRAGMA writable_schema = ON")
        database.execute(f"DELETE FROM sqlite_schema WHERE {index}")
    database.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE messages SET received_at = received_at + 1")
        database.execute("UPDATE mailboxes SET used = 0")
        database.execute("PRAGMA writable_schema = ON")
        database.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", entry)
    database.close()
    code, found = check(config, command="db-repair")
    assert code == 0 and found["left"] == {} and found["found"]["database"] > 0 and found["found"]["mailbox_use"] == 1
    assert check(config, command="db-repair")[1]["found"] == {}
    assert check(config)[0] == 0
    server = servers("-c", config, command="serve", name="after")
    assert len(Api(server.ready["http"], key).messages()) == 5


def test_a_file_that_is_no_database_any_more_is_told(tmp_path, servers):
    server, _ = production(servers, tmp_path)
    assert server.stop() == 0
    path = tmp_path / "data" / "mairust.db"
    path.write_bytes(b"x" * path.stat().st_size)
    for log in ("mairust.db-wal", "mairust.db-shm"):
        path.with_name(log).unlink(missing_ok=True)
    for command in ("db-repair", "consistency-check"):
        done = run(command, "-c", tmp_path / "mairust.yaml", check=False)
        assert done.returncode == 1 and "restore the newest backup" in done.stderr, done


def test_in_s3(servers, tmp_path, monkeypatch):
    seaweed = Seaweed(tmp_path / "seaweed")
    try:
        server, _ = production(servers, tmp_path, storage=seaweed.storage(monkeypatch))
        config = tmp_path / "mairust.yaml"
        send(server, 3)
        keys = wait_until(lambda: len(found := seaweed.objects()) == 3 and sorted(found), "three objects")
        assert check(config)[0] == 0
        client = seaweed.client()
        body = bytearray(client.get_object(Bucket=BUCKET, Key=keys[0])["Body"].read())
        body[-3] ^= 1
        client.put_object(Bucket=BUCKET, Key=keys[0], Body=bytes(body))
        client.delete_object(Bucket=BUCKET, Key=keys[1])
        orphan = str(pathlib.PurePosixPath(keys[2]).with_name(f"{id_of(7_200)}.eml"))
        client.put_object(Bucket=BUCKET, Key=orphan, Body=b"x")
        code, found = check(config, "--repair")
        assert code == 8 and found["repaired"] == {"body_orphaned": 1}
        assert found["found"] == {"body_damaged": 1, "body_missing": 1, "body_orphaned": 1}
        assert orphan not in seaweed.objects()
        # What can't be looked at is no fault, but the check has not come to its end.
        seaweed.kill()
        down = run("consistency-check", "-c", config, check=False)
        assert down.returncode == 1 and "has not come to its end" in down.stderr, down
    finally:
        seaweed.kill()
