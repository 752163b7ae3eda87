"""Links from frames to the editor."""

import sys
from pathlib import Path

import pytest

from tests.viewer.commands.test_process import on_terminal
from tests.viewer.stored import raised, span, store, trace_id
from ztrace_viewer.terminal.links import find_line


def test_a_line_of_a_local_file_has_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is that of the file, or the editor's; a file that is not on this machine has none."""
    file = tmp_path / "a b\x1b.py"
    file.write_text("")
    monkeypatch.delenv("ZTRACE_EDITOR", raising=False)
    assert find_line(str(file), 7) is None  # The output of a test is no terminal.
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert find_line(str(file), 7) == f"file://{tmp_path}/a%20b%1B.py"
    monkeypatch.setenv("ZTRACE_EDITOR", "vscode://file/{file}:{line}\x07")
    assert find_line(str(file), 7) == f"vscode://file/{tmp_path}/a%20b%1B.py:7"
    for other in (str(tmp_path), f"{file}x", "a.py", "\0", "/\0", ""):
        assert find_line(other, 1) is None


@pytest.mark.process
def test_frames_are_links_on_a_terminal(path: Path, tmp_path: Path) -> None:
    """The place of a frame is a link on a terminal, and its text is the same as without."""
    file = tmp_path / "shop.py"
    file.write_text("1 / 0\n")
    frames = [[str(file), 1, "work", "shop", "1 / 0", True]]
    store(path, {"shop": [span(trace_id(1), 1, exception=raised("ValueError", "no", frames=frames))]})
    shown = on_terminal(
        "show", trace_id(1).hex(), "--db", path, columns=200, ZTRACE_EDITOR="code:{file}:{line}"
    )
    assert f";code:{file}:1\x1b\\" in shown
    assert f"{file}" in shown.replace(f"code:{file}:1", "")
