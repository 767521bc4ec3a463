"""A backup that is made under load comes back elsewhere, whole; what is none is refused."""

import json
import re
import resource
import shutil
import signal
import subprocess
import threading
import urllib.parse

import pytest
from conftest import BINARY, ROOT, Api, run, wait_until
from seaweed import Seaweed
from test_serve import PASSWORD, configuration, production

SESSIONS = 4


def text(number):
    return f"Subject: mail {number}\r\n\r\nword{number} ".encode() + b"x" * (number % 7 * 3000) + b"\r\n"


class Load:
    """Clients that send until they are told to stop."""

    def __init__(self, server):
        self.lock, self.accepted, self.next = threading.Lock(), [], 0
        self.going_on = True
        self.threads = [threading.Thread(target=self.session, args=(server,)) for _ in range(SESSIONS)]
        for thread in self.threads:
            thread.start()

    def session(self, server):
        client = server.smtp()
        while self.going_on:
            with self.lock:
                number, self.next = self.next, self.next + 1
            client.sendmail("a@sender.example", ["alice@example.com"], text(number))
            with self.lock:
                self.accepted.append(number)
        client.quit()

    def stop(self):
        self.going_on = False
        for thread in self.threads:
            thread.join()


def place(request, name, kind):
    """The section of a database of this kind."""
    if kind == "sqlite":
        return {}
    return {"database": {"backend": "postgres", "url": request.getfixturevalue("postgres").database(name)}}


def elsewhere(tmp_path, **sections):
    """The configuration of another server, with nothing in it yet."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    return configuration(folder, **sections), folder / "data"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("source,target", [("sqlite", "sqlite"), ("sqlite", "postgres"), ("postgres", "sqlite")])
def test_under_load_and_elsewhere(servers, tmp_path, request, source, target):
    server, key = production(servers, tmp_path, **place(request, f"from_{source}_to_{target}", source))
    config, backup = tmp_path / "mairust.yaml", tmp_path / "mail.tar"
    load = Load(server)
    try:
        wait_until(lambda: len(load.accepted) >= 100, "100 messages")
        before = sorted(load.accepted)
        made = run("backup", "--output", backup, "-c", config)
        assert "read back and found whole" in made.stdout and "master.key" in made.stderr
        wait_until(lambda: len(load.accepted) > len(before) + 50, "more messages")
    finally:
        load.stop()
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "mail.tar" in path.name] == ["mail.tar"]
    assert subprocess.run(["tar", "tf", backup], capture_output=True, check=True).stdout.count(b"bodies/") >= len(before)

    other, data = elsewhere(tmp_path, **place(request, f"to_{target}_from_{source}", target))
    done = json.loads(run("restore", "--input", backup, "-c", other, "-o", "json").stdout)
    assert done["restored"] and done["messages"] == done["bodies"] >= len(before) and done["database"] == source
    shutil.copy(tmp_path / "data" / "master.key", data)
    clean = json.loads(run("consistency-check", "-c", other, "-o", "json").stdout)
    assert clean["findings"] == [] and clean["bodies"] == clean["objects"] == done["messages"]
    restored = servers("-c", other, command="serve", name="restored")
    was, now = Api(server.ready["http"], key), Api(restored.ready["http"], key)
    ours, theirs = ({message["id"]: message for message in api.messages()} for api in (was, now))
    subjects = {message["subject"] for message in theirs.values()}
    assert subjects >= {f"mail {number}" for number in before}
    for identity, message in theirs.items():
        assert message == ours[identity]
        assert now.raw(message) == was.raw(message)
    # It goes on: mail, search, logins, and the log of who did what.
    client = restored.smtp()
    client.sendmail("a@sender.example", ["alice@example.com"], b"Subject: after\r\n\r\nx\r\n")
    assert len(now.messages()) == len(theirs) + 1
    word = f"word{before[0]}"
    query = "/api/v1/search?" + urllib.parse.urlencode({"q": word})
    wait_until(lambda: [m["subject"] for m in now.json(query)["items"]] == [f"mail {before[0]}"], "search")
    assert {chain["whole"] for chain in json.loads(run("audit", "verify", "-c", other, "-o", "json").stdout)} == {True}
    assert json.loads(run("consistency-check", "-c", other, "-o", "json").stdout)["findings"] == []


def test_the_target_has_to_be_empty(servers, tmp_path):
    server, key = production(servers, tmp_path)
    server.smtp().sendmail("a@sender.example", ["alice@example.com"], text(1))
    config, backup = tmp_path / "mairust.yaml", tmp_path / "mail.tar"
    run("backup", "--output", backup, "-c", config)
    again = run("backup", "--output", backup, "-c", config, check=False)
    assert again.returncode == 6 and "name another file" in again.stderr
    for arguments in ([], ["--dry-run"]):
        refused = run("restore", "--input", backup, "-c", config, *arguments, check=False)
        assert refused.returncode == 6 and "not empty" in refused.stderr, refused
    assert len(Api(server.ready["http"], key).messages()) == 1
    other, data = elsewhere(tmp_path)
    rehearsed = run("restore", "--input", backup, "-c", other, "--dry-run")
    assert rehearsed.stdout.startswith("can be restored: 1 messages, 1 bodies") and not data.exists()


def test_what_is_no_backup_is_refused(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    for number in range(20):
        server.smtp().sendmail("a@sender.example", ["alice@example.com"], text(number))
    backup = tmp_path / "mail.tar"
    run("backup", "--output", backup, "-c", tmp_path / "mairust.yaml")
    whole = backup.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) * 2 // 3] ^= 1
    other, data = elsewhere(tmp_path)
    for octets, why in ((whole[:-1024], "cut off"), (bytes(flipped), "no backup"), (b"", "cut off"), (b"x" * 2000, "no backup")):
        backup.write_bytes(octets)
        for arguments in ([], ["--dry-run"]):
            refused = run("restore", "--input", backup, "-c", other, *arguments, check=False)
            assert refused.returncode == 1 and why in refused.stderr, refused
    assert not list(data.rglob("*.eml"))
    # Names that lead elsewhere.
    (tmp_path / "evil").write_text("x")
    subprocess.run(["tar", "cPf", backup, "--transform", "s,.*,../../evil,", tmp_path / "evil"], check=True)
    assert run("restore", "--input", backup, "-c", other, check=False).returncode == 1
    assert run("restore", "--input", tmp_path / "nothing.tar", "-c", other, check=False).returncode == 5
    backup.write_bytes(whole)
    run("restore", "--input", backup, "-c", other)


def test_a_restore_that_was_killed_is_done_again(servers, tmp_path):
    server, key = production(servers, tmp_path)
    client = server.smtp()
    for number in range(200):
        client.sendmail("a@sender.example", ["alice@example.com"], text(number))
    backup = tmp_path / "mail.tar"
    run("backup", "--output", backup, "-c", tmp_path / "mairust.yaml")
    assert server.stop() == 0
    other, data = elsewhere(tmp_path)
    process = subprocess.Popen([BINARY, "restore", "--input", backup, "-c", other], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    wait_until(lambda: next(data.rglob("*.eml"), None), "the first body")
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    # Unless it was quicker than the signal, there are bodies without rows now, and nothing else.
    again = run("restore", "--input", backup, "-c", other, check=False)
    assert again.returncode == 0 or "not empty" in again.stderr, again
    shutil.copy(tmp_path / "data" / "master.key", data)
    clean = json.loads(run("consistency-check", "-c", other, "-o", "json").stdout)
    assert clean["findings"] == [] and clean["bodies"] == clean["objects"] == 200
    restored = servers("-c", other, command="serve", name="restored")
    assert len(Api(restored.ready["http"], key).messages()) == 200


def test_encrypted_messages_stay_so(servers, tmp_path):
    server, key = production(servers, tmp_path, storage={"client_side_encryption": True})
    secret = b"a text that nobody reads in the backup" * 200
    secret = b"\r\n".join(secret[start:start + 70] for start in range(0, len(secret), 70))
    # Behind what the preview shows, which is a part of the row.
    server.smtp().sendmail("a@sender.example", ["alice@example.com"], b"Subject: s\r\n\r\n" + b"y\r\n" * 3000 + secret)
    backup = tmp_path / "mail.tar"
    run("backup", "--output", backup, "-c", tmp_path / "mairust.yaml")
    assert b"nobody reads" not in backup.read_bytes()
    assert (tmp_path / "data" / "master.key").read_bytes().strip() not in backup.read_bytes()
    other, data = elsewhere(tmp_path)
    run("restore", "--input", backup, "-c", other)
    without = run("consistency-check", "-c", other, check=False)
    assert without.returncode == 3 and "master key" in without.stderr, without
    shutil.copy(tmp_path / "data" / "master.key", data)
    run("consistency-check", "-c", other)
    restored = servers("-c", other, command="serve", name="restored")
    api = Api(restored.ready["http"], key)
    assert b"nobody reads" in api.raw(api.messages()[0])


def test_the_master_key_is_in_it_when_asked_for(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    config, key = tmp_path / "mairust.yaml", (tmp_path / "data" / "master.key").read_bytes()
    run("keys", "rotate", "--new-key", "-c", config)
    made = run("backup", "--include-master-key", "--output", tmp_path / "mail.tar", "-c", config)
    assert "not in it" not in made.stderr
    subprocess.run(["tar", "xf", "mail.tar", "--one-top-level=keys", "master.key", "master.key.former"], check=True, cwd=tmp_path)
    assert (tmp_path / "keys" / "master.key").read_bytes() == (tmp_path / "data" / "master.key").read_bytes()
    assert (tmp_path / "keys" / "master.key.former").read_bytes() == key
    other, _ = elsewhere(tmp_path)
    run("restore", "--input", tmp_path / "mail.tar", "-c", other)


def test_an_interrupted_backup_leaves_nothing(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    client = server.smtp()
    for number in range(200):
        client.sendmail("a@sender.example", ["alice@example.com"], text(number))
    folder = tmp_path / "backups"
    folder.mkdir()
    backup = folder / "mail.tar"
    process = subprocess.Popen([BINARY, "backup", "--output", backup, "-c", tmp_path / "mairust.yaml"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(folder.iterdir()), "the file that is begun")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    left = [path.name for path in folder.iterdir()]
    # Unless it was quicker than the signal.
    assert (process.returncode, left) in ((130, []), (0, ["mail.tar"])), said


def test_from_s3_to_files(servers, tmp_path, monkeypatch):
    seaweed = Seaweed(tmp_path / "seaweed")
    try:
        server, key = production(servers, tmp_path, storage=seaweed.storage(monkeypatch))
        client = server.smtp()
        for number in range(10):
            client.sendmail("a@sender.example", ["alice@example.com"], text(number))
        wait_until(lambda: len(seaweed.objects()) == 10, "ten objects")
        backup = tmp_path / "mail.tar"
        run("backup", "--output", backup, "-c", tmp_path / "mairust.yaml")
        api = Api(server.ready["http"], key)
        expected = {message["id"]: api.raw(message) for message in api.messages()}
        # Back into the same objects, which are there already, and into files.
        assert server.stop() == 0
        for folder, storage in (("same", seaweed.storage(monkeypatch)), ("files", {})):
            (tmp_path / folder).mkdir()
            sections = {"storage": storage} if storage else {}
            other = configuration(tmp_path / folder, **sections)
            run("restore", "--input", backup, "-c", other)
            shutil.copy(tmp_path / "data" / "master.key", tmp_path / folder / "data")
            run("consistency-check", "-c", other)
            restored = servers("-c", other, command="serve", name=f"server-{folder}")
            api = Api(restored.ready["http"], key)
            assert {message["id"]: api.raw(message) for message in api.messages()} == expected
            assert restored.stop() == 0
    finally:
        seaweed.kill()


def test_without_room_there_is_no_half_a_backup(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    large = b"Subject: large\r\n\r\n" + b"x" * 70 + (b"\r\n" + b"x" * 70) * 60_000
    server.smtp().sendmail("a@sender.example", ["alice@example.com"], large)
    folder = tmp_path / "backups"
    folder.mkdir()

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))

    # The signal about it stays ignored, as in Python, so that writing fails as on a full disk.
    failed = subprocess.run(
        [BINARY, "backup", "--output", folder / "mail.tar", "-c", tmp_path / "mairust.yaml"], preexec_fn=little_room,
        restore_signals=False, capture_output=True, text=True, timeout=60,
    )
    assert failed.returncode == 1 and "write backup" in failed.stderr, failed
    assert list(folder.iterdir()) == []


def test_lost_bodies_are_told_and_the_rest_is_kept(servers, tmp_path):
    server, key = production(servers, tmp_path)
    client = server.smtp()
    for number in range(5):
        client.sendmail("a@sender.example", ["alice@example.com"], text(number))
    mail = tmp_path / "data" / "mail"
    files = wait_until(lambda: len(found := sorted(mail.rglob("*.eml"))) == 5 and found, "five files")
    files[0].unlink()
    files[1].write_bytes(b"x")
    backup = tmp_path / "mail.tar"
    made = run("backup", "--output", backup, "-c", tmp_path / "mairust.yaml", check=False)
    assert made.returncode == 8 and "the backup was made, but 2 messages" in made.stderr
    assert f"body_missing  message {files[0].stem}" in made.stdout
    assert f"body_damaged  message {files[1].stem}" in made.stdout
    other, data = elsewhere(tmp_path)
    run("restore", "--input", backup, "-c", other)
    shutil.copy(tmp_path / "data" / "master.key", data)
    checked = run("consistency-check", "-c", other, "-o", "json", check=False)
    assert checked.returncode == 8
    assert json.loads(checked.stdout)["found"] == {"body_missing": 1, "body_damaged": 1}


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_deleted_archived_and_purged(servers, tmp_path, request, database):
    server, key = production(servers, tmp_path, **place(request, "lifecycle_backup", database))
    config, backup = tmp_path / "mairust.yaml", tmp_path / "mail.tar"
    run("user", "add", "bob@example.com", "-c", config, "--password-stdin", input=PASSWORD)
    client = server.smtp()
    for number in range(4):
        client.sendmail("a@sender.example", ["alice@example.com", "bob@example.com"], text(number))
    mail = tmp_path / "data" / "mail"
    wait_until(lambda: len(list(mail.rglob("*.eml"))) == 4, "four files")
    api = Api(server.ready["http"], key)
    of = lambda number: [m["id"] for m in api.messages(to="alice") if m["subject"] == f"mail {number}"]
    (deleted,), (archived,), (purged,) = of(1), of(2), of(3)
    run("message", "delete", deleted, "-c", config)
    run("message", "hold", deleted, "-c", config)
    run("message", "archive", archived, "-c", config)
    # The first copy of a body that bob keeps.
    run("message", "delete", "--permanent", purged, "-c", config)
    expected = {message["id"]: api.raw(message) for message in api.messages()}
    assert json.loads(run("consistency-check", "-c", config, "-o", "json").stdout)["findings"] == []
    done = run("backup", "--output", backup, "-c", config)
    assert "7 messages, 4 bodies" in done.stdout
    other, data = elsewhere(tmp_path)
    run("restore", "--input", backup, "-c", other)
    shutil.copy(tmp_path / "data" / "master.key", data)
    assert json.loads(run("consistency-check", "-c", other, "-o", "json").stdout)["findings"] == []
    assert len(list((data / "mail" / "archive").rglob("*.eml"))) == 1
    restored = servers("-c", other, command="serve", name="restored")
    api = Api(restored.ready["http"], key)
    assert {message["id"]: api.raw(message) for message in api.messages()} == expected
    (hidden,) = api.messages(deleted="true")
    assert (hidden["id"], hidden["legal_hold"]) == (deleted, True)
    run("message", "restore", deleted, "-c", other)
    assert json.loads(run("consistency-check", "-c", other, "-o", "json").stdout)["findings"] == []


def test_the_commands_of_the_manual(servers, tmp_path):
    server, key = production(servers, tmp_path)
    server.smtp().sendmail("a@sender.example", ["alice@example.com"], text(1))
    manual = (ROOT / "docs" / "backup.md").read_text()
    commands = [line.removeprefix("$ ") for block in re.findall(r"```console\n(.*?)```", manual, re.DOTALL)
                for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 6
    # The other server has a configuration of its own, for a folder of its own.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mairust").symlink_to(BINARY)
    new, _ = elsewhere(tmp_path)
    shutil.copy(new, tmp_path / "new.yaml")
    script = "set -e\n" + "\n".join(commands).replace("/var/lib/mairust-new", str(tmp_path / "elsewhere" / "data"))
    script = script.replace("/var/lib/mairust", str(tmp_path / "data"))
    done = subprocess.run(["bash", "-c", f'PATH="{tmp_path}/bin:$PATH"\n{script}'], cwd=tmp_path, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    restored = servers("-c", tmp_path / "new.yaml", command="serve", name="restored")
    assert len(Api(restored.ready["http"], key).messages()) == 1
