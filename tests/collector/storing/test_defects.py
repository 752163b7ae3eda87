"""Records of ztrace's own defects: bounded files for their owner only, and a log that does not flood."""

import json
import logging
import os
import stat
import time
from pathlib import Path

import pytest

from tests.collector.disks import fill, small_disk
from ztrace.errors import DatabaseError, SettingsError
from ztrace_collector.storing import defects
from ztrace_collector.storing.defects import MAX_BYTES, MAX_FILES, DefectFiles, contained, log_defect

_log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def _no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what other tests have logged."""
    monkeypatch.setattr(defects, "_places", {})


def make_error(text: str = "a defect") -> Exception:
    """Return an exception that was raised here."""
    try:
        raise TypeError(text)
    except TypeError as error:
        return error


def read(folder: Path) -> list[dict[str, object]]:
    """Return the contents of a folder's files, the oldest first."""
    return [json.loads(path.read_text()) for path in sorted(folder.iterdir())]


def test_a_file_has_all_that_a_report_needs(tmp_path: Path) -> None:
    """A file has versions, the traceback and the data; only its owner can read it, whatever the umask."""
    previous = os.umask(0)
    try:
        DefectFiles(tmp_path / "t.db").report(
            _log, "storing", make_error(), {"frames": [b"\xff\0"], "mapping": {"nan": float("nan")}}
        )
    finally:
        os.umask(previous)
    (content,) = read(tmp_path / "t.db.defects")
    assert content.keys() == {"ztrace", "python", "time", "doing", "error", "traceback", "data"}
    assert content["error"] == "TypeError: a defect"
    assert "in make_error" in str(content["traceback"])
    assert str(content["data"]).startswith("{'frames': [{'base64': '/wA='}], 'mapping': {'nan': nan")
    (path,) = (tmp_path / "t.db.defects").iterdir()
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)


def test_the_oldest_files_are_deleted_first(tmp_path: Path) -> None:
    """There are never more files, nor more bytes, than allowed."""
    files, folder = DefectFiles(tmp_path / "t.db"), tmp_path / "t.db.defects"
    for number in range(MAX_FILES + 5):
        files.report(_log, "storing", make_error(), {"number": number})
    assert [content["data"] for content in read(folder)] == [{"number": n} for n in range(5, MAX_FILES + 5)]
    for number in range(5):
        files.report(_log, "storing", make_error(), {"number": number, "body": "x" * 7_000_000})
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert sum(sizes) <= MAX_BYTES
    assert len(sizes) == 2


def test_data_that_is_too_large_is_left_out(tmp_path: Path) -> None:
    """The traceback is kept without the data."""
    DefectFiles(tmp_path / "t.db").report(_log, "storing", make_error(), {"body": b"x" * (64 << 20)})
    (content,) = read(tmp_path / "t.db.defects")
    assert str(content["data"]).startswith("left out: ")
    assert "make_error" in str(content["traceback"])


def test_a_folder_that_cannot_be_written_costs_the_file_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The defect is logged all the same, and a line says that its data is not kept."""
    (tmp_path / "t.db.defects").write_text("in the way")
    DefectFiles(tmp_path / "t.db").report(_log, "storing", make_error(), {})
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert caplog.records[1].message == "internal error while storing; please report it"


@pytest.mark.process
def test_a_full_disk_costs_the_file_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where a disk cannot be mounted, its folder takes the file."""
    with small_disk(tmp_path / "disk", 1) as disk:
        if disk is not None:
            fill(disk)
        folder = disk or tmp_path
        DefectFiles(folder / "t.db").report(_log, "storing", make_error(), {"body": "x" * 100_000})
        is_told = any("No space left" in record.message for record in caplog.records)
        assert is_told == (disk is not None)
        assert caplog.records[-1].levelname == "ERROR"


def test_the_same_place_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect that recurs is counted, and the count stands in the next record; another place has its own."""
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    for _ in range(100):
        log_defect(_log, "storing", make_error())
    log_defect(_log, "storing", ValueError("elsewhere"))
    now_s[0] = 61.0
    log_defect(_log, "storing", make_error())
    assert [record.message for record in caplog.records] == [
        "internal error while storing; please report it",
        "internal error while storing; please report it",
        "internal error while storing (99 more like it since the last one); please report it",
    ]
    assert all(record.exc_info for record in caplog.records)


def test_errors_of_the_user_pass(caplog: pytest.LogCaptureFixture) -> None:
    """Only defects are contained: what the user or the disk did wrong is raised, and so is an interrupt."""
    for error in (SettingsError("no"), DatabaseError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)), contained(_log, "working"):
            raise error
    assert caplog.records == []
    with contained(_log, "working"):
        raise LookupError
    assert caplog.records[0].message == "internal error while working; please report it"
