"""Destination of an export: a file, compressed if its name says so, or standard output."""

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ztrace.errors import SettingsError
from ztrace_collector.files import write_whole
from ztrace_viewer.interrupts import allowed, ignore
from ztrace_viewer.terminal.characters import escape_json

#: Nearly as small as the best level, in a third of the time.
_GZIP_LEVEL = 5


class Output:
    """Text or bytes on their way into a binary file."""

    def __init__(self, raw: BinaryIO, *, is_stream: bool) -> None:
        """Write to an open file.

        Args:
            raw: the file.
            is_stream: a reader can block it, so Ctrl-C is allowed while it is written to.
        """
        self._is_terminal = raw.isatty()
        self._raw = raw
        self._is_stream = is_stream

    def write(self, part: str | bytes) -> None:
        """Write bytes, or text as UTF-8."""
        if isinstance(part, str):
            # Half of a surrogate pair, which JSON can spell, has no encoding in UTF-8.
            part = (escape_json(part) if self._is_terminal else part).encode("utf-8", "replace")
        if self._is_stream:
            with allowed():
                self._raw.write(part)
        else:
            self._raw.write(part)


@contextmanager
def open_output(path: Path | None) -> Iterator[Output]:
    """Open a file, or standard output for None.

    A regular file gets its name once it is complete; see `write_whole`.

    Raises:
        SettingsError: the file cannot be written.
    """
    if path is None:
        sys.stdout.flush()
        yield Output(sys.stdout.buffer, is_stream=True)
        with allowed():
            sys.stdout.buffer.flush()
        return
    try:
        if path.exists() and not path.is_file():
            # A pipe or a device keeps its name; opening a pipe waits for its reader.
            with allowed():
                stream = path.open("wb")
            with stream:
                yield Output(stream, is_stream=True)
            return
        with write_whole(path) as raw:
            if path.suffix.lower() == ".gz":
                with gzip.open(raw, "wb", compresslevel=_GZIP_LEVEL) as packed:
                    yield Output(cast("BinaryIO", packed), is_stream=False)
            else:
                yield Output(raw, is_stream=False)
            ignore()
    except OSError as error:
        raise SettingsError(
            f"cannot write {path}: {error.strerror or error}", hint="give another file with --output"
        ) from error
