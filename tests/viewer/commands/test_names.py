"""Names that are unknown or begun: suggestions, usage errors on one line, and completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.viewer.conftest import Run
from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import NOON, checkout, span, store, trace_id
from ztrace_viewer.cli import COMMANDS
from ztrace_viewer.cli import run as run_line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("stat",), "ztrace: no such command 'stat'; did you mean stats or status?"),
        (("xyzzy",), "ztrace: no such command 'xyzzy'; see 'ztrace --help'"),
        (("keys", "ad"), "ztrace keys: no such command 'ad'; did you mean add?"),
        (("slow", "--limi", "3"), "ztrace slow: no such option '--limi'; did you mean --limit?"),
        (("slow", "--xyzzy"), "ztrace slow: no such option '--xyzzy'; see 'ztrace slow --help'"),
        (("show",), "ztrace show: missing argument 'TRACE'; see 'ztrace show --help'"),
        (
            ("find", "--min", "x"),
            "ztrace find: invalid value for '--min': 'x' is not a duration;"
            " write it like 250ms, 10s, 5m, 1h or 7d; see 'ztrace find --help'",
        ),
    ],
)
def test_a_usage_error_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    """A usage error names the nearest command or option, or the help, on one line."""
    assert run_line(arguments) == 2
    assert capsys.readouterr() == ("", f"{told}\n")


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`ztrace` alone prints its help on standard error, and exits with status 2."""
    assert run_line([]) == 2
    assert "List the slowest call trees." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("slow", "--service", "shp"), "no service 'shp'; did you mean shop?"),
        (("errors", "--service", "STOCK"), "no service 'STOCK'; did you mean stock?"),
        (("stats", "--method", "reserv"), "no method 'reserv'; did you mean reserve?"),
        (
            ("stats", "--service", "cart", "--method", "charge"),
            "no method 'charge' of cart; there are load",
        ),
        (("find", "x", "--service", "bill"), "no service 'bill'; did you mean billing?"),
        (
            ("map", "--service", "zzz"),
            "no service 'zzz'; there are billing, cart, pricing, shop, stock",
        ),
        (("export", "--service", "shp"), "no service 'shp'; did you mean shop?"),
        (
            ("slow", "--service", "cart"),
            "no call trees; --service and --method are the root's; 'ztrace find' has calls within trees",
        ),
        (("slow", "--until", "2020-01-01"), "no call trees; relax the filter, or see 'ztrace status'"),
        (("profile", "cart.load"), "no trees begin with cart.load; give a root that calls it: shop.checkout"),
        (("profile", "shop.chekout"), "no trees of shop.chekout; did you mean shop.checkout?"),
    ],
)
def test_an_unknown_name_has_the_nearest(
    run: Run, counted: Path, arguments: tuple[str, ...], told: str
) -> None:
    """Where nothing is found as a service or method is unknown, the nearest names are told."""
    result = run(*arguments, "--db", counted)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"ztrace: {told}\n")


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with a checkout whose call paths are counted."""
    return settle(tmp_path_factory.mktemp("names") / "shop.db", checkout(trace_id(1), NOON))


def complete(
    line: str, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Return what bash is offered at the end of a line."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_ZTRACE_COMPLETE", "bash_complete")
    monkeypatch.setenv("ZTRACE_DB", str(database))
    assert run_line([]) == 0
    return [offer.partition(",")[2] for offer in capsys.readouterr().out.splitlines() if offer]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ztrace sh", ["show"]),
        ("ztrace keys a", ["add"]),
        ("ztrace slow --er", ["--errors"]),
        ("ztrace slow --service s", ["shop", "stock"]),
        ("ztrace stats --service cart --method ", ["load"]),
        ("ztrace profile ", ["shop.checkout"]),
        ("ztrace show ", [trace_id(1).hex()[:16]]),
        ("ztrace completion f", ["fish"]),
    ],
)
def test_names_and_ids_are_completed(
    counted: Path,
    line: str,
    offered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands, options, services, methods, roots and traces are completed from the database."""
    assert complete(line, counted, monkeypatch, capsys) == offered


def test_every_command_is_completed(
    counted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All commands are offered where nothing is typed."""
    assert complete("ztrace ", counted, monkeypatch, capsys) == list(COMMANDS)


def test_errors_are_completed(
    counted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ids of errors are offered in the form in which `errors` lists them."""
    (offered,) = complete("ztrace error ", counted, monkeypatch, capsys)
    assert len(offered) == 8


def test_names_that_a_shell_interprets_are_not_offered(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that a shell would run or split, or take for an option, is no completion."""
    evil = ("$(id)", "a b", "`id`", "-x", "a;b", "a\x1b[31m")
    store(path, {name: [span(trace_id(n), n)] for n, name in enumerate((*evil, "good-1"), 1)})
    assert complete("ztrace slow --service ", path, monkeypatch, capsys) == ["good-1"]


def test_without_a_database_nothing_is_offered(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A completion without a database is empty, and prints no message."""
    assert complete("ztrace slow --service ", path, monkeypatch, capsys) == []


@pytest.mark.process
def test_bash_reads_the_script(run: Run, counted: Path, tmp_path: Path) -> None:
    """The script for bash completes a command in a real bash."""
    program = tmp_path / "ztrace"
    program.write_text(f"#!{sys.executable}\nfrom ztrace_viewer.entry import main\n\nmain()\n")
    program.chmod(0o755)
    typed = "COMP_WORDS=(ztrace slow --service s) COMP_CWORD=3"
    ask = f'{typed}; _ztrace_completion {program}; echo "${{COMPREPLY[*]}}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{run('completion', 'bash').stdout}\n{ask}"],
        capture_output=True,
        text=True,
        env={**os.environ, "ZTRACE_DB": str(counted)},
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("shop stock\n", "")
