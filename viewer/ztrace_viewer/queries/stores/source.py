"""Source of answers, as given with --db; here, for options that must not import a store."""

import os
from pathlib import Path
from typing import TypeAlias

from ztrace.errors import SettingsError
from ztrace_collector.clickhouse.address import ClickHouseAddress, is_clickhouse, read_address

Source: TypeAlias = Path | ClickHouseAddress


def read_source(given: str | Path) -> Source:
    """Return the source that a path or an address names.

    Raises:
        SettingsError: the address of a ClickHouse database cannot be read.
    """
    return read_address(given) if isinstance(given, str) and is_clickhouse(given) else Path(given)


def name_source(source: Source) -> str:
    """Return a source as people write it, without user and password."""
    return str(source) if isinstance(source, Path) else source.url


def find_side(source: Source) -> Path:
    """Return the path to whose name the files beside a source add their suffixes.

    These are the page's token and address. The files of a ClickHouse database are in the user's own folder.
    """
    if isinstance(source, Path):
        return source
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return state / "ztrace" / f"{source.host.replace(':', '_')}_{source.port}_{source.database}"


def make_side(source: Source) -> Path:
    """Return the same path, for files that are written there: the folder of a ClickHouse database is created.

    Raises:
        SettingsError: the folder cannot be created.
    """
    side = find_side(source)
    if not isinstance(source, Path):
        try:
            side.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"cannot create the folder {side.parent}: {error.strerror}",
                hint="give another one as XDG_STATE_HOME",
            ) from error
    return side
