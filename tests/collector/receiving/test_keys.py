"""Folder of keys: creation, parsing, revocation, file modes and atomic writes."""

import os
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from ztrace.enrolment import Enrolment
from ztrace.errors import NotFoundError, SettingsError
from ztrace.process import keys as reading
from ztrace.process.keys import SERVER_FILE
from ztrace_collector.receiving.keys import MIN_ID_DIGITS, KeyFolder


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """Return a folder with the collector's key."""
    made = KeyFolder(tmp_path / "keys")
    made.create()
    return made


def fits(public: bytes, secret: bytes) -> bool:
    """Return whether two keys are a pair."""
    return bytes(zmq.curve_public(z85.encode(secret))) == z85.encode(public)


def test_what_is_made_fits_together(folder: KeyFolder) -> None:
    """Created keys are pairs, and the enrolment and the folder have the matching public keys."""
    server_public, server_secret = folder.server_pair()
    enrolment = folder.add("billing")
    assert fits(server_public, server_secret)
    assert fits(enrolment.public, enrolment.secret)
    assert enrolment.server_public == server_public
    (key,) = folder.read()
    assert (key.service, key.public, key.revoked_s) == ("billing", enrolment.public, None)
    assert Enrolment.parse(enrolment.format()) == enrolment


def test_the_secret_of_a_service_is_in_no_file(folder: KeyFolder) -> None:
    """The secret key of a service is stored in no file."""
    secret = folder.add("billing").secret
    texts = [path.read_text() for path in folder.path.iterdir()]
    assert not any(form in text for text in texts for form in (secret.hex(), z85.encode(secret).decode()))


@pytest.mark.parametrize("umask", [0, 0o077])
def test_nobody_else_can_read_any_of_it(tmp_path: Path, umask: int) -> None:
    """The folder has mode 0700 and its files 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        folder = KeyFolder(tmp_path / "keys")
        folder.create()
        folder.add("billing")
        folder.revoke("billing")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()} == {0o600}


def test_a_server_key_is_never_overwritten(folder: KeyFolder) -> None:
    """A second `create` raises an error and keeps the server key."""
    pair = folder.server_pair()
    with pytest.raises(SettingsError, match="has a server key already"):
        folder.create()
    assert folder.server_pair() == pair
    assert os.listdir(folder.path) == [SERVER_FILE]


def test_init_takes_an_empty_folder_that_is_closed(tmp_path: Path) -> None:
    """`create` accepts an existing empty folder unless others can read it."""
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(SettingsError, match=r"chmod go= .*open"):
        KeyFolder(tmp_path / "open").create()
    assert os.listdir(tmp_path / "open") == []
    (tmp_path / "closed").mkdir(mode=0o700)
    KeyFolder(tmp_path / "closed").create()


def test_what_others_can_read_is_refused(folder: KeyFolder) -> None:
    """A folder or file that others can read raises an error with the chmod to run."""
    folder.add("billing")
    for name in os.listdir(folder.path):
        path = folder.path / name
        path.chmod(0o640)
        with pytest.raises(SettingsError, match=f"chmod go= {path}"):
            folder.server_pair() if name == SERVER_FILE else folder.read()
        path.chmod(0o600)
    folder.path.chmod(0o711)
    for use in (folder.read, folder.server_pair, lambda: folder.add("x"), lambda: folder.revoke("billing")):
        with pytest.raises(SettingsError, match=f"chmod go= {folder.path}"):
            use()


def test_what_belongs_to_another_user_is_refused(folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder or file of another user, who may know or replace the keys, raises an error with the owner."""
    folder.add("billing")
    mine = folder.path.stat().st_uid
    checked: list[int] = []

    def trust_the_folder(user: int) -> bool:
        checked.append(user)
        return len(checked) == 1

    monkeypatch.setattr(reading, "is_trusted", trust_the_folder)
    with pytest.raises(SettingsError, match=rf"{SERVER_FILE} belongs to another user"):
        folder.server_pair()
    monkeypatch.setattr(reading, "is_trusted", lambda user: user != mine)
    for use in (folder.read, folder.server_pair, folder.create, lambda: folder.add("x")):
        with pytest.raises(SettingsError, match=rf"{folder.path} belongs to another user"):
            use()


def test_a_revoked_key_is_kept_as_revoked(folder: KeyFolder) -> None:
    """A revoked key is listed as revoked, and its service can get another."""
    old = folder.add("billing")
    revoked = folder.revoke("billing")
    assert (revoked.public, revoked.service) == (old.public, "billing")
    new = folder.add("billing")
    states = {key.public: key.revoked_s is None for key in folder.read()}
    assert states == {old.public: False, new.public: True}
    assert folder.revoke("billing").public == new.public


def test_one_of_several_keys_is_named_by_its_id(folder: KeyFolder) -> None:
    """One of several keys is revoked by the start of its id, and the error lists the ids."""
    keys = [folder.add("billing") for _ in range(2)]
    ids = [key.public.hex()[:12] for key in keys]
    with pytest.raises(SettingsError, match=f"{min(ids)} .*{max(ids)} |{max(ids)} .*{min(ids)} "):
        folder.revoke("billing")
    assert folder.revoke(ids[1][:10]).public == keys[1].public
    assert folder.revoke("billing").public == keys[0].public


@pytest.mark.parametrize("which", ["nobody", "", "0" * MIN_ID_DIGITS, "a" * (MIN_ID_DIGITS - 1), "server"])
def test_what_is_not_there_cannot_be_revoked(folder: KeyFolder, which: str) -> None:
    """Revoking an unknown key raises an error and writes nothing."""
    folder.add("billing")
    before = folder.stamp()
    if not folder.read()[0].id.startswith("0" * MIN_ID_DIGITS):
        with pytest.raises(NotFoundError):
            folder.revoke(which)
    assert folder.stamp() == before


def test_a_key_is_revoked_once(folder: KeyFolder) -> None:
    """Revoking a key twice raises an error and keeps the time."""
    folder.add("billing")
    folder.revoke("billing")
    before = folder.stamp()
    with pytest.raises(NotFoundError, match="revoked already"):
        folder.revoke("billing")
    assert folder.stamp() == before


def test_every_change_shows_in_the_stamp(folder: KeyFolder) -> None:
    """Every change of the folder changes its stamp, so the collector reads it again."""
    stamps = [folder.stamp()]
    folder.add("billing")
    stamps.append(folder.stamp())
    key = folder.revoke("billing")
    stamps.append(folder.stamp())
    (folder.path / f"{key.id}.json").chmod(0o644)
    stamps.append(folder.stamp())
    (folder.path / f"{key.id}.json").unlink()
    stamps.append(folder.stamp())
    assert all(before != after for before, after in pairwise(stamps))
    assert KeyFolder(folder.path / "gone").stamp() == KeyFolder(folder.path / "gone").stamp()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"service": "x"}', '{"service": 1, "public": "00", "made": "x", "revoked": null}'],
)
def test_a_damaged_file_is_named(folder: KeyFolder, text: str) -> None:
    """A damaged file raises an error with its path."""
    folder.add("billing")
    (path,) = (each for each in folder.path.iterdir() if each.name != SERVER_FILE)
    path.write_text(text)
    with pytest.raises(SettingsError, match=str(path)):
        folder.read()
    (folder.path / SERVER_FILE).write_text(text)
    with pytest.raises(SettingsError, match=SERVER_FILE):
        folder.server_pair()


def test_a_key_in_the_wrong_file_is_damage(folder: KeyFolder) -> None:
    """A key file under another name is damage, since a copy would be a second key."""
    folder.add("billing")
    (path,) = (each for each in folder.path.iterdir() if each.name != SERVER_FILE)
    (folder.path / "0123456789ab.json").write_bytes(path.read_bytes())
    (folder.path / "0123456789ab.json").chmod(0o600)
    with pytest.raises(SettingsError, match=r"0123456789ab\.json is damaged"):
        folder.read()


def test_links_and_other_files_are_left_alone(folder: KeyFolder, tmp_path: Path) -> None:
    """Links and files with other names are not read."""
    folder.add("billing")
    (folder.path / "notes.txt").write_text("ours")
    (folder.path / ".0123456789ab.json.abc").write_text("half a key that a crash left")
    assert len(folder.read()) == 1
    (tmp_path / "elsewhere").write_text("{}")
    (folder.path / "0123456789ab.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="cannot read"):
        folder.read()


@pytest.mark.parametrize("service", ["", "a\nb", " a", "x" * 300])
def test_a_name_that_cannot_be_one_gets_no_key(folder: KeyFolder, service: str) -> None:
    """An invalid service name gets no key."""
    with pytest.raises(SettingsError, match="cannot be a service's name"):
        folder.add(service)
    assert folder.read() == []


def test_without_a_folder(tmp_path: Path) -> None:
    """Without a folder, every operation but `create` names `ztrace keys init`."""
    folder = KeyFolder(tmp_path / "none")
    for use in (folder.read, folder.server_pair, lambda: folder.add("x"), lambda: folder.revoke("x")):
        with pytest.raises(SettingsError, match="ztrace keys init"):
            use()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="not a folder"):
        KeyFolder(tmp_path / "file").create()
    with pytest.raises(SettingsError, match="cannot make"):
        KeyFolder(tmp_path / "none" / "deeper").create()


@pytest.mark.process
def test_a_full_disk_leaves_the_folder_as_it_was(folder: KeyFolder) -> None:
    """A write that fails on a full disk leaves no partial file and raises a one-line error."""
    program = (
        "import resource, signal, sys; from pathlib import Path; from ztrace.errors import SettingsError\n"
        "from ztrace_collector.receiving.keys import KeyFolder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "try: KeyFolder(Path(sys.argv[1])).add('billing')\n"
        "except SettingsError as error: sys.exit('cannot write' not in str(error))\n"
        "sys.exit(2)"
    )
    before = os.listdir(folder.path)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, str(folder.path)], timeout=20)
    assert done.returncode == 0
    assert os.listdir(folder.path) == before
