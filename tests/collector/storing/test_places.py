"""Places of database files: modes, owners and links, so that no other user reads or replaces one."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.collector.messages import Sender, make_span
from ztrace.errors import DatabaseError, DatabaseInUse
from ztrace.process import owners
from ztrace_collector.storing import places
from ztrace_collector.storing.database import Lock
from ztrace_collector.storing.defects import DefectFiles
from ztrace_collector.storing.places import GROUP_MODE, OWN_MODE
from ztrace_collector.storing.store import Store


@pytest.fixture(params=[0, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the process's umask during a test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every file another user's."""
    monkeypatch.setattr(owners, "trusted_users", lambda: {max(0, os.geteuid()) + 4242})


def modes(path: Path) -> dict[str, int]:
    """Return the modes of all files beside a database, by suffix."""
    return {
        each.name.removeprefix(path.name): stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()
    }


def message_of(path: Path, use: Callable[[Path], object] = Store) -> str:
    """Return the one-line error for a database that cannot be used."""
    with pytest.raises(DatabaseError) as raised:
        use(path)
    assert type(raised.value) is DatabaseError
    assert raised.value.hint
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.usefixtures("umask")
def test_only_the_owner_can_read_a_database(path: Path) -> None:
    """The database, SQLite's files beside it and the lock have mode 0600, whatever the umask."""
    with Store(path) as store:
        store.store([Sender().data(make_span())])
        assert modes(path) == dict.fromkeys(("", "-wal", "-shm", ".lock"), OWN_MODE)
    assert modes(path) == {"": OWN_MODE}


def test_a_group_can_read_a_database_on_request(path: Path) -> None:
    """With the mode for a group, the group can read the files and write none, and cannot open the lock."""
    with Store(path, mode=GROUP_MODE) as store:
        store.store([Sender().data(make_span())])
        assert modes(path) == {"": 0o640, "-wal": 0o640, "-shm": 0o640, ".lock": 0o600}


@pytest.mark.parametrize("mode", [OWN_MODE, GROUP_MODE], ids=oct)
def test_an_older_mode_is_replaced(path: Path, mode: int) -> None:
    """A database that others could read gets the wanted mode when it is opened, its leftover log too."""
    with Store(path) as store:
        store.store([Sender().data(make_span())])
        for suffix in ("", "-wal"):
            (path.parent / f"copy{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
            (path.parent / f"copy{suffix}").chmod(0o644)
    copy = path.with_name("copy")
    with Store(copy, mode=mode):
        assert {name: mode for name, mode in modes(copy).items() if name in ("", "-wal", "-shm")} == (
            dict.fromkeys(("", "-wal", "-shm"), mode)
        )


def make_link(lock: Path) -> None:
    """Put a link to another file in the place of a lock."""
    (lock.parent / "victim").write_text("kept")
    lock.symlink_to(lock.parent / "victim")


def make_dangling_link(lock: Path) -> None:
    """Put a link to a missing file in the place of a lock."""
    lock.symlink_to(lock.parent / "victim")


def make_hard_link(lock: Path) -> None:
    """Put a second name of another file in the place of a lock."""
    (lock.parent / "victim").write_text("kept")
    lock.hardlink_to(lock.parent / "victim")


def make_pipe(lock: Path) -> None:
    """Put a pipe in the place of a lock."""
    os.mkfifo(lock)


@pytest.mark.parametrize("make", [make_link, make_dangling_link, make_hard_link, make_pipe])
def test_what_is_prepared_as_a_lock_is_rejected(path: Path, make: Callable[[Path], None]) -> None:
    """A link or pipe in the place of the lock is neither followed nor waited for, and the error names it."""
    make(Path(f"{path}.lock"))
    assert f"{path}.lock" in message_of(path)
    victim = path.parent / "victim"
    assert not victim.exists() or victim.read_text() == "kept"
    assert not path.exists()


def test_a_lock_that_others_could_open_is_closed_to_them(path: Path) -> None:
    """A leftover lock of the owner's gets mode 0600, and still excludes a second collector."""
    Path(f"{path}.lock").touch(mode=0o644)
    with Store(path):
        assert modes(path)[".lock"] == OWN_MODE
        with pytest.raises(DatabaseInUse):
            Store(path)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_links_beside_a_database_are_rejected(path: Path, suffix: str) -> None:
    """A link in the place of one of SQLite's files is not followed."""
    with Store(path):
        pass
    (path.parent / "victim").touch()
    Path(f"{path}{suffix}").symlink_to(path.parent / "victim")
    assert f"{path}{suffix} is a link" in message_of(path)
    assert (path.parent / "victim").read_bytes() == b""


def test_a_folder_that_everybody_can_write_to_is_rejected(path: Path) -> None:
    """A folder in which all users can replace files is rejected, unless they can replace only their own."""
    folder = path.parent / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert message_of(folder / "a.db").startswith(f"every user can replace files in {folder}; 'chmod o-w")
    assert list(folder.iterdir()) == []
    folder.chmod(0o1777)
    with Store(folder / "a.db"):
        pass


@pytest.mark.usefixtures("stranger")
def test_a_folder_of_another_user_is_rejected(path: Path) -> None:
    """A folder whose owner can replace its files is rejected, by root too, and nothing is created in it."""
    assert message_of(path).startswith(f"{path.parent} belongs to another user, ")
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_files_of_another_user_are_rejected(path: Path, suffix: str) -> None:
    """A file that another user has made in the place of the database or of SQLite's files is rejected."""
    Path(f"{path}{suffix}").touch()
    assert message_of(path, places.check_files).startswith(f"{path}{suffix} belongs to another user, ")


@pytest.mark.usefixtures("stranger")
def test_a_lock_of_another_user_is_rejected(path: Path) -> None:
    """A lock file that another user owns, and could hold for ever, is rejected at once with the remedy."""
    Path(f"{path}.lock").touch()
    told = message_of(path, Lock)
    assert told.startswith(f"{path}.lock belongs to another user, ")
    assert told.endswith("; remove it, or give another file with --db")


@pytest.mark.usefixtures("stranger")
def test_a_link_of_another_user_is_not_followed(path: Path) -> None:
    """A link that another user owns does not lead to the database, wherever in the path."""
    (path.parent / "folder").mkdir()
    (path.parent / "link").symlink_to(path.parent / "folder")
    assert message_of(path.parent / "link" / "a.db").startswith(f"{path.parent / 'link'} belongs to another")


def test_links_of_ones_own_are_followed(path: Path) -> None:
    """A database can be opened over a link of its owner's."""
    with Store(path):
        pass
    path.with_name("link.db").symlink_to(path)
    with Store(path.with_name("link.db")), pytest.raises(DatabaseInUse):
        Store(path)


@pytest.mark.usefixtures("stranger")
def test_defects_are_not_kept_in_the_folder_of_another_user(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Data of an internal error is not written into a folder that another user has prepared."""
    folder = Path(f"{path}.defects")
    folder.mkdir()
    DefectFiles(path)._keep("storing", ValueError("x"), {})
    assert list(folder.iterdir()) == []
    assert "belongs to another user" in caplog.text


def test_root_trusts_no_other_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process relies on files of its own user and of root, and root's on those of root alone."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [owners.is_trusted(user) for user in (0, 1000, 1001)] == [True, True, False]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [owners.is_trusted(user) for user in (0, 1000, 1001)] == [True, False, False]


def test_users_without_a_name_are_named_by_their_number() -> None:
    """A message names a user, or the number where the system knows no name."""
    assert owners.name_user(0) == "root"
    assert owners.name_user(4_000_000_000) == "user 4000000000"
