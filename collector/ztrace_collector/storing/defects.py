"""Internal errors of ztrace: logged with their traceback, and the data that caused them kept for a report.

One idea: an unforeseen exception says nothing about the file, the disk or the peer. So it is never reported
as their fault, and it costs only the message that caused it.
"""

import base64
import json
import logging
import stat
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ztrace import __version__
from ztrace.errors import ZtraceError
from ztrace.process.owners import is_trusted
from ztrace_collector.files import write_whole

#: Maximum of files, and of bytes in all of them; the oldest are deleted for a new one.
MAX_FILES, MAX_BYTES = 20, 20_000_000
#: Maximum of bytes in one file; a larger one keeps its traceback without the data.
MAX_FILE_BYTES = 8_000_000
#: Interval between two tracebacks from the same line of code: a defect may recur with every message.
REPEAT_S = 60.0
#: Lines of code remembered; beyond, all are forgotten.
MAX_PLACES = 1000

_log = logging.getLogger(__name__)
_lock = threading.Lock()
#: Time from which a line's traceback may be logged again, and the number of those left out since.
_places: dict[tuple[type, str, int], tuple[float, int]] = {}


class DefectFiles:
    """Folder beside a database with the data that caused defects; thread-safe."""

    def __init__(self, database: Path) -> None:
        """Name the folder; it is created with the first file."""
        self._folder = Path(f"{database}.defects")
        self._lock = threading.Lock()

    def report(
        self, log: logging.Logger, doing: str, error: BaseException, data: Mapping[str, object]
    ) -> None:
        """Log an internal error, and keep the data that caused it; never raises.

        Args:
            log: the logger of the calling module.
            doing: the work that failed, as in "storing a message".
            error: the exception.
            data: the message, as JSON values or bytes.
        """
        path = self._keep(doing, error, data)
        log_defect(log, doing if path is None else f"{doing}, which is kept in {path}", error)

    def _keep(self, doing: str, error: BaseException, data: Mapping[str, object]) -> Path | None:
        try:
            content = _describe(doing, error, data)
            with self._lock:
                return self._write(content)
        except Exception as failure:  # A full disk, or data that cannot be encoded either.
            _log.warning("cannot keep the data of a defect in %s: %s", self._folder, failure)
            return None

    def _write(self, content: bytes) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or not is_trusted(status.st_uid):
            raise PermissionError(f"{self._folder} belongs to another user, or is a link")
        kept = sorted(self._folder.glob("*.json"))
        sizes = [path.stat().st_size for path in kept]
        while kept and (len(kept) >= MAX_FILES or sum(sizes) + len(content) > MAX_BYTES):
            kept.pop(0).unlink()
            sizes.pop(0)
        path = self._folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.json"
        with write_whole(path, mode=0o600, replace=False) as file:
            file.write(content)
        return path


def log_defect(log: logging.Logger, doing: str, error: BaseException) -> None:
    """Log an internal error with its traceback, unless the same line was logged a moment ago.

    Args:
        log: the logger of the calling module.
        doing: the work that failed, as in "storing a message".
        error: the exception.
    """
    place, now_s = _find_place(error), time.monotonic()
    with _lock:
        due_s, omitted = _places.get(place, (now_s, 0))
        if now_s < due_s:
            _places[place] = due_s, omitted + 1
            return
        if len(_places) >= MAX_PLACES:
            _places.clear()
        _places[place] = now_s + REPEAT_S, 0
    more = f" ({omitted:,} more like it since the last one)" if omitted else ""
    log.error("internal error while %s%s; please report it", doing, more, exc_info=error)


@contextmanager
def contained(log: logging.Logger, doing: str) -> Iterator[None]:
    """Log an internal error that the block raises, and continue after it; a `ZtraceError` propagates.

    Args:
        log: the logger of the calling module.
        doing: the work of the block, as in "adopting spans".
    """
    try:
        yield
    except ZtraceError:
        raise
    except Exception as error:
        log_defect(log, doing, error)


def describe_error(error: BaseException) -> str:
    """Return an exception as one line, as in ``TypeError: unhashable type``."""
    return f"{type(error).__name__}: {error}"


def _find_place(error: BaseException) -> tuple[type, str, int]:
    """Return the type of an exception and the line that raised it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return type(error), "", 0
    frame, line = frames[-1]
    return type(error), frame.f_code.co_filename, line


def _describe(doing: str, error: BaseException, data: Mapping[str, object]) -> bytes:
    head = {
        "ztrace": __version__,
        "python": sys.version.partition(" ")[0],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "doing": doing,
        "error": describe_error(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    content = _encode({**head, "data": data})
    if len(content) > MAX_FILE_BYTES:
        content = _encode({**head, "data": f"left out: {len(content):,} bytes"})
    return content


def _encode(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, default=_encode_value, indent=1).encode() + b"\n"


def _encode_value(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return list(value.items()) if isinstance(value, Mapping) else repr(value)
