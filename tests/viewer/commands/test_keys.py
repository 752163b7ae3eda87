"""Output, exit status and scripting of ``ztrace keys``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ztrace.enrolment import Enrolment
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_viewer.cli import ztrace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the default folder of ``ztrace keys`` in a temporary working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZTRACE_KEYS", raising=False)
    return tmp_path / "ztrace.keys"


def ask(*arguments: str) -> Result:
    """Run a ``ztrace keys`` command."""
    return CliRunner().invoke(ztrace, ["keys", *arguments])


def test_from_init_to_revoke(folder: Path) -> None:
    """Init, add, list and revoke work, and stdout has the enrolment alone."""
    made = ask("init")
    assert (made.exit_code, made.stdout) == (0, "")
    assert "next: ztrace keys add SERVICE" in made.stderr
    added = ask("add", "billing")
    assert (added.exit_code, added.stdout.count("\n")) == (0, 1)
    enrolment = Enrolment.parse(added.stdout)
    (key,) = KeyFolder(folder).read()
    assert (key.public, enrolment.service) == (enrolment.public, "billing")
    assert added.stdout.strip() not in added.stderr
    listed = ask("list")
    assert [line.split()[:3] for line in listed.stdout.splitlines()] == [
        ["KEY", "SERVICE", "STATE"],
        [key.id, "billing", "active"],
    ]
    revoked = ask("revoke", "billing")
    assert (revoked.exit_code, revoked.stdout) == (0, "")
    assert f"key {key.id} of billing is revoked" in revoked.stderr
    (document,) = json.loads(ask("list", "--json").stdout)["keys"]
    assert document["state"] == "revoked"
    assert document["revoked_ns"] >= document["made_ns"] > 0


def test_the_folder_is_named_by_option_or_variable(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--keys`` takes precedence over ``ZTRACE_KEYS``, and both over the default."""
    monkeypatch.setenv("ZTRACE_KEYS", str(tmp_path / "a"))
    assert ask("init").exit_code == ask("init", "--keys", str(tmp_path / "b")).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["list"], 2, "ztrace keys init"),
        (["add", "x"], 2, "ztrace keys init"),
        (["revoke", "x"], 2, "ztrace keys init"),
    ],
)
def test_without_keys(folder: Path, arguments: list[str], status: int, text: str) -> None:
    """Without a key folder, each command prints one line that names `ztrace keys init`."""
    result = ask(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_nothing_found(folder: Path) -> None:
    """An empty list and an unknown key exit with status 1."""
    ask("init")
    assert ask("list").exit_code == 1
    empty = ask("list", "--json")
    assert (empty.exit_code, json.loads(empty.stdout)) == (1, {"keys": []})
    assert ask("revoke", "nobody").exit_code == 1
    assert ask("init").exit_code == 2


@pytest.mark.process
def test_help_imports_nothing_that_is_slow(folder: Path) -> None:
    """The help of the group and its commands imports no slow module."""
    program = (
        "import sys; from ztrace_viewer.entry import main\n"
        "sys.argv = ['ztrace', 'keys', *sys.argv[1:], '-h']\n"
        "try: main()\n"
        "finally: assert not {'zmq', 'rich', 'sqlite3'} & sys.modules.keys(), sys.modules.keys()"
    )
    for name in ([], ["init"], ["add"], ["list"], ["revoke"]):
        done = subprocess.run([sys.executable, "-c", program, *name], capture_output=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, b"")
