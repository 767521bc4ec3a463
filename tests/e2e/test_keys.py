"""The master key is changed, and everything that it seals still opens."""

import base64
import json
import os
import pathlib

from conftest import Api, run, wait_until
from test_serve import configuration, production

TEXT = b"\r\na text that nobody reads on the disk\r\n"


def new_key():
    return base64.b64encode(os.urandom(32)).decode()


def keys(config):
    return {entry["state"]: entry for entry in json.loads(run("keys", "list", "-c", config, "-o", "json").stdout)}


def rotate(config, *arguments):
    return json.loads(run("keys", "rotate", "-c", config, "-o", "json", *arguments).stdout)


def receive(server, key, number=1):
    """The id of the message of this number, the newest one."""
    server.smtp().sendmail("a@sender.example", "alice@example.com", b"Subject: number %d\r\n" % number + TEXT)
    api = Api(server.ready["http"], key)
    return wait_until(lambda: len(found := api.messages()) == number and found, "the message")[0]["id"]


def files(tmp_path, count):
    """The files of messages; they may come into the database first."""
    mail = pathlib.Path(tmp_path / "data" / "mail")
    return wait_until(lambda: len(found := list(mail.rglob("*.eml"))) == count and found, f"{count} files")


def test_a_kept_key_is_renewed_beside_the_server(servers, tmp_path):
    storage = {"client_side_encryption": True}
    server, key = production(servers, tmp_path, storage=storage)
    config, folder = tmp_path / "mairust.yaml", tmp_path / "data"
    message, (file,) = receive(server, key), files(tmp_path, 1)
    assert b"nobody reads" not in file.read_bytes()
    before, old = file.read_bytes(), (folder / "master.key").read_text()
    done = rotate(config, "--new-key")
    assert (done["rewrapped"], done["unchanged"], done["failed"]) == (2, 0, [])
    assert (folder / "master.key").read_text() != old and (folder / "master.key.former").read_text() == old
    assert (folder / "master.key.former").stat().st_mode & 0o777 == 0o600
    # Once more changes nothing, and the running server goes on.
    again = rotate(config)
    assert (again["rewrapped"], again["unchanged"]) == (0, 2)
    listed = keys(config)
    assert (listed["current"]["secrets"], listed["former"]["secrets"]) == (2, 0)
    assert listed["current"]["id"] == done["key"]
    assert TEXT in Api(server.ready["http"], key).raw({"id": message})
    assert server.stop() == 0
    # Only the new key is left.
    (folder / "master.key.former").unlink()
    server = servers("-c", config, command="serve", name="after")
    api = Api(server.ready["http"], key)
    assert TEXT in api.raw({"id": message})
    assert file.read_bytes() == before, "objects are never changed"
    rotated = json.loads(run("audit", "list", "--installation", "--type", "keys.rotated", "-c", config, "-o", "json").stdout)
    assert [entry["after"]["rewrapped"] for entry in rotated] == [0, 2]
    assert {chain["whole"] for chain in json.loads(run("audit", "verify", "-c", config, "-o", "json").stdout)} == {True}
    other = json.loads(run("apikey", "create", "second", "-c", config, "-o", "json").stdout)["key"]
    assert len(Api(server.ready["http"], other).messages()) == 1


def test_a_configured_key_is_changed(servers, tmp_path):
    first, second = new_key(), new_key()
    server, key = production(servers, tmp_path, secrets={"master_key": first})
    assert server.stop() == 0
    # Without the former key nothing opens, and nothing is made anew over it.
    config = configuration(tmp_path, secrets={"master_key": second})
    for command in (("serve",), ("apikey", "create", "x"), ("domain", "add", "b.example"), ("keys", "rotate")):
        refused = run(*command, "-c", config, check=False)
        assert refused.returncode in (3, 8) and "former" in refused.stderr, (command, refused)
    assert run("keys", "rotate", "--new-key", "-c", config, check=False).returncode == 2
    config = configuration(tmp_path, secrets={"master_key": second, "former_master_keys": [first]})
    server = servers("-c", config, command="serve", name="both")
    assert Api(server.ready["http"], key).messages() == []
    assert rotate(config)["rewrapped"] == 1
    assert server.stop() == 0
    config = configuration(tmp_path, secrets={"master_key": second})
    server = servers("-c", config, command="serve", name="new")
    assert Api(server.ready["http"], key).messages() == []
    assert keys(config)["current"]["secrets"] == 1


def test_encryption_is_turned_on_and_off(servers, tmp_path):
    server, key = production(servers, tmp_path)
    plain = receive(server, key)
    assert TEXT in files(tmp_path, 1)[0].read_bytes()
    assert server.stop() == 0
    config = configuration(tmp_path, storage={"client_side_encryption": True})
    server = servers("-c", config, command="serve", name="on")
    api = Api(server.ready["http"], key)
    receive(server, key, 2)
    assert sum(TEXT in file.read_bytes() for file in files(tmp_path, 2)) == 1
    assert all(TEXT in api.raw(message) for message in api.messages())
    ranged = api.request("GET", f"/api/v1/messages/{api.messages()[0]['id']}/raw", headers={"Range": "bytes=-10"})
    assert (ranged.status, ranged.body) == (206, TEXT[-10:])
    assert server.stop() == 0
    config = configuration(tmp_path)
    server = servers("-c", config, command="serve", name="off")
    api = Api(server.ready["http"], key)
    assert all(TEXT in api.raw(message) for message in api.messages())
    receive(server, key, 3)
    assert sum(TEXT in file.read_bytes() for file in files(tmp_path, 3)) == 2
    assert plain in [message["id"] for message in api.messages()]
