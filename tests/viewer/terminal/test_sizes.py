"""Parsing of sizes and retention limits."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ztrace.errors import SettingsError
from ztrace_viewer.cli import ztrace
from ztrace_viewer.terminal.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10GB", 10**10),
        ("500MB", 500 * 10**6),
        ("1GiB", 1 << 30),
        ("1.5gib", 3 << 29),
        (" 2 TB ", 2 * 10**12),
        ("0.5kb", 500),
        ("12B", 12),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    """Sizes with units of powers of 1000 and of 1024, in any case, are parsed."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "10", "GB", "10 G", "-1GB", "1e9B", "10GBs", "1..5GB", "9" * 99 + "B", "1IB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """An invalid size, or a number without unit, raises a one-line error with a hint."""
    with pytest.raises(SettingsError) as raised:
        parse_size(text)
    assert raised.value.hint
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("command", ["up", "collect"])
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--keep", "a while", "'a while' is not a duration; write it like"),
        ("--keep", "59m", "at least 1h"),
        ("--max-size", "10", "'10' is not a size; write it like"),
        ("--max-size", "99MB", "at least 100MB"),
    ],
)
def test_limits_that_make_no_sense_are_refused(
    tmp_path: Path, command: str, option: str, value: str, says: str
) -> None:
    """An invalid or too small limit is one clear error, and no file is created."""
    path = tmp_path / "ztrace.db"
    answer = CliRunner().invoke(ztrace, [command, "--db", str(path), option, value])
    assert answer.exit_code == 2
    assert says in answer.stderr
    assert not path.exists()
