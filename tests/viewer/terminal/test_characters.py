"""Characters that a terminal interprets: they reach none, on no way."""

import ast
import io
import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ztrace_viewer
from tests.viewer.conftest import Run
from tests.viewer.stored import span, store, trace_id
from ztrace.errors import SettingsError
from ztrace_viewer.cli import run as run_line
from ztrace_viewer.export.output import Output
from ztrace_viewer.terminal.characters import clean, clean_lines, escape_json, is_seen
from ztrace_viewer.terminal.logs import showing_logs
from ztrace_viewer.terminal.progress import CollectorProgress
from ztrace_viewer.terminal.saying import write_out

ROOT = Path(ztrace_viewer.__file__).parent
MAIN = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
#: C0 and C1 controls, bidi and zero-width marks, separators, tags, fillers, musical and shorthand controls.
UNSEEN = (
    "\x00\x07\x08\x0e\x1b\x7f\x80\x84\x85\x8d\x90\x9b\x9c\x9d\x9f\u00ad\u061c\u180e\u200b\u200d\u200e\u202a\u202e"
    "\u2028\u2029\u2060\u2066\u2069\u206f\ufeff\ufff9\u034f\u115f\u3164\uffa0\u2800\U000e0001\U000e0041\U0001d173\U0001bca0"
)
EVIL = f"a{UNSEEN}z"


def harmless(text: str) -> bool:
    """Return whether a text has lines of harmless characters only."""
    return all(is_seen(character) for character in text.replace("\n", ""))


def test_what_is_not_seen_is_left_out() -> None:
    """Characters without a shape vanish; letters of all scripts, emoji and line drawings stay."""
    assert clean(EVIL).replace(" ", "") == "az"
    seen = "Grüße, 世界, עולם, 🎉 é │█ ‹› \ufe0f"
    assert clean(seen) == seen


@given(text=st.text())
def test_any_text_is_made_harmless(text: str) -> None:
    """A text is one line after `clean`, and JSON on a terminal has the same value in harmless characters."""
    assert harmless(clean(text))
    assert "\n" not in clean(text)
    assert all(map(harmless, clean_lines(text)))
    written = json.dumps(text, ensure_ascii=False)
    assert harmless(escape_json(written))
    assert json.loads(escape_json(written)) == text


def test_an_export_to_a_terminal_is_escaped() -> None:
    """A terminal gets JSON of the same value without such characters; a file gets them as they are."""
    text = json.dumps([EVIL], ensure_ascii=False) + "\n"

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.BytesIO()
    for into in (terminal, file):
        Output(into, is_stream=False).write(text)
    shown = terminal.getvalue().decode()
    assert harmless(shown)
    assert json.loads(shown) == json.loads(file.getvalue()) == [EVIL]
    assert not harmless(file.getvalue().decode())


@pytest.mark.process
def test_a_terminal_gets_nothing_that_it_interprets(path: Path) -> None:
    """Export and JSON on a real terminal have no such character."""
    store(path, {"shop": [span(trace_id(1), 1, name=EVIL, attributes={"k": EVIL})]})
    for arguments in (["export"], ["export", "--format", "jaeger"], ["show", trace_id(1).hex(), "--json"]):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-c", MAIN, *arguments, "--db", str(path)]
        with subprocess.Popen(command, stdout=theirs, stdin=theirs) as process:
            os.close(theirs)
            shown = b""
            try:
                while part := os.read(ours, 65536):
                    shown += part
            except OSError:
                pass  # The other end is closed.
            os.close(ours)
            assert process.wait(20) == 0
        text = shown.decode().replace("\r\n", "\n")
        assert '"a' in text
        assert harmless(text)


def test_messages_are_harmless(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors, usage errors, summaries and lines of the collector repeat no such character."""
    evil = "".join(each for each in EVIL if each not in "\x00/")
    file, home = tmp_path / evil, tmp_path / f"{evil}.db"
    file.write_text(json.dumps([{"traceId": "1", "id": "1", "timestamp": 1790000000000000}]))
    for arguments in (
        ["show", evil],
        ["slow", evil],
        [evil],
        ["slow", f"--{evil}"],
        ["slow", "--db", home],
        ["import", file, "--db", home],
        ["errors", "--since", evil],
        ["collect", "--bind", evil, "--db", home],
        ["export", "--db", home, "-o", tmp_path / f"{evil}.json"],
    ):
        run_line([str(each) for each in arguments])
        told = capsys.readouterr()
        assert told.out + told.err != ""
        assert harmless(told.out + told.err), arguments
    CollectorProgress().say(f"cannot use {evil}")
    with showing_logs(verbose=False):
        try:
            raise SettingsError(evil)
        except SettingsError:
            logging.getLogger("ztrace_collector").exception("of a peer: %s", evil)
    told = capsys.readouterr()
    assert "Traceback" in told.err
    assert harmless(told.err)


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_messages_are_printed_in_one_place(file: Path) -> None:
    """No module prints a message but `ztrace_viewer.terminal.saying`, apart from fixed texts."""
    if file.name == "saying.py":
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            fixed = file.name in ("entry.py", "lifeline.py", "cli.py")
            assert fixed or name not in ("print", "click.echo", "click.secho", "sys.stderr.write"), (
                node.lineno
            )


def test_a_text_to_a_terminal_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of several lines is escaped on a terminal, and written as it is elsewhere."""
    for is_terminal in (True, False):
        out = io.StringIO()
        monkeypatch.setattr(out, "isatty", lambda found=is_terminal: found)
        monkeypatch.setattr("sys.stdout", out)
        write_out(f"{EVIL}\r;\tb 1\n")
        assert harmless(out.getvalue().replace("\t", "")) == is_terminal
        assert out.getvalue().endswith("\tb 1\n")
