"""Token of the web server: given, kept or generated."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ztrace.errors import SettingsError
from ztrace.process import owners
from ztrace_collector.clickhouse.address import read_address
from ztrace_viewer.web.token import MIN_LENGTH, find_token


def test_it_lasts_as_long_as_the_database(tmp_path: Path) -> None:
    """A token is generated once per database, in a file that only its owner can read."""
    token = find_token(tmp_path / "shop.db", {})
    assert len(token) >= 32
    assert find_token(tmp_path / "shop.db", {}) == token
    assert find_token(tmp_path / "other.db", {}) != token
    path = tmp_path / "shop.db.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other.db.token", "shop.db.token"]


def test_that_of_clickhouse_is_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of a ClickHouse database is generated once, in the folder of the user's own state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    address = read_address("clickhouse://ada:secret@db.example.org/ztrace", {})
    token = find_token(address, {})
    assert find_token(address, {}) == token
    path = tmp_path / "state/ztrace/db.example.org_8123_ztrace.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match="cannot create the folder"):
        find_token(address, {})


def test_those_that_start_at_once_have_the_same(tmp_path: Path) -> None:
    """Servers that start concurrently use the same token."""
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: find_token(tmp_path / "shop.db", {}), range(32)))
    assert len(tokens) == 1


def test_the_one_that_is_given_counts(tmp_path: Path) -> None:
    """A token given by variable is used and not stored."""
    assert find_token(tmp_path / "shop.db", {"ZTRACE_WEB_TOKEN": "a" * MIN_LENGTH}) == "a" * MIN_LENGTH
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given", ["short", "with spaces in it for sure", "ümläute-in-a-token", "a" * 300, "a;" * 20]
)
def test_one_that_is_no_good_is_refused(tmp_path: Path, given: str) -> None:
    """A given token that is too short, too long or unfit for a header is rejected."""
    with pytest.raises(SettingsError, match="ZTRACE_WEB_TOKEN is not a token"):
        find_token(tmp_path / "shop.db", {"ZTRACE_WEB_TOKEN": given})


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A token file that others can read is rejected."""
    find_token(tmp_path / "shop.db", {})
    (tmp_path / "shop.db.token").chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others; chmod 600"):
        find_token(tmp_path / "shop.db", {})


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that another user has put beside the database is rejected: that user would know the token."""
    find_token(tmp_path / "shop.db", {})
    monkeypatch.setattr(owners, "trusted_users", lambda: {os.geteuid() + 4242})
    with pytest.raises(SettingsError, match=r"shop\.db\.token belongs to another user"):
        find_token(tmp_path / "shop.db", {})


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"too short\n"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """A token file without a token is rejected with a remedy."""
    path = tmp_path / "shop.db.token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="contains no token; delete it"):
        find_token(tmp_path / "shop.db", {})


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link in place of the token file is not followed."""
    (tmp_path / "real").write_text("a" * 40)
    (tmp_path / "real").chmod(0o600)
    os.symlink(tmp_path / "real", tmp_path / "shop.db.token")
    with pytest.raises(SettingsError, match="cannot store the token"):
        find_token(tmp_path / "shop.db", {})


def test_where_nothing_can_be_kept_one_has_to_be_given(tmp_path: Path) -> None:
    """Where no token can be stored, the error names the variable."""
    with pytest.raises(SettingsError, match=r"cannot store the token .* give one as ZTRACE_WEB_TOKEN"):
        find_token(tmp_path / "nowhere" / "shop.db", {})
