"""``ztrace show --span``: one span with all that is known of it, and its code."""

import json
from pathlib import Path

import pytest

from tests.viewer.conftest import Run
from tests.viewer.queries.test_stacks import take
from tests.viewer.stored import Sampled, span_id, trace_id
from ztrace.records import RUN, WAIT, WAIT_BUSY

TRACE = trace_id(1).hex()
EVIL = "<script>\x1b[2Jload\u202e"


@pytest.fixture
def sampled(shop: Path, tmp_path: Path) -> Path:
    """Return a copy of the shop with code of the billing service's span."""
    path = tmp_path / "shop.db"
    path.write_bytes(shop.read_bytes())
    profile = Sampled("billing")
    profile.add_span(
        trace_id(1),
        7,
        (f"main:1 {EVIL}:26", WAIT_BUSY, 96, 2),
        (f"main:1 {EVIL}:26", WAIT, 86, 0),
        ("main:1 render:32", RUN, 33, 0),
        name="charge",
    )
    profile.add_span(trace_id(2), 7, name="charge")
    return take(path, profile)


def test_a_span_is_shown_with_its_facts(run: Run, shop: Path) -> None:
    """A span is found by the beginning of its id, and shown with its times, process and exception."""
    shown = run("show", TRACE, "--span", span_id(7).hex(), "--db", str(shop))
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == f"span {span_id(7).hex()}  billing.charge  123ms"
    assert "server · error · own 13.0ms" in lines[1]
    assert f"in logs trace={trace_id(1).hex()} span={span_id(7).hex()}" in lines
    assert "PaymentError" in shown.stdout
    named = run("show", TRACE, "--span", "cart.load", "--db", str(shop))
    assert "user=ada" in named.stdout


def test_the_document_is_the_span_of_the_tree(run: Run, shop: Path) -> None:
    """The document of a span is that in the tree, and its stacks come with --stacks alone."""
    tree = json.loads(run("show", TRACE, "--json", "--db", str(shop)).output)
    arguments = ("show", TRACE, "--span", span_id(1).hex(), "--json", "--db", str(shop))
    assert json.loads(run(*arguments).output) == tree["roots"][0]
    assert json.loads(run(*arguments, "--stacks").output) == {**tree["roots"][0], "stacks": []}


def test_the_code_of_a_span_is_shown(run: Run, sampled: Path) -> None:
    """Lines that ran and waited have their time, and what ran meanwhile; names are shown as text."""
    arguments = ("show", TRACE, "--span", "billing.charge", "--stacks", "--db", str(sampled))
    told = run(*arguments).stdout
    assert "sampled 215ms: runs 33.0ms, waits 86.0ms, waits, busy 96.0ms" in told
    assert "load shop/shop.py:26" in told
    assert f"billing.charge {span_id(7).hex()[:4]}: 96.0ms" in told
    assert not {"\x1b", "\u202e"} & set(told)
    stacks = json.loads(run(*arguments, "--json").output)["stacks"]
    assert [(each["state"], each["ns"] // 10**6) for each in stacks] == [
        ("wait_busy", 96),
        ("wait", 86),
        ("run", 33),
    ]
    assert stacks[0]["frames"][-1]["function"] == EVIL


def test_a_span_without_code_says_where_to_get_it(run: Run, sampled: Path) -> None:
    """A span that was not sampled says so."""
    told = run("show", TRACE, "--span", "cart.load", "--stacks", "--db", str(sampled)).stdout
    assert "no code was sampled in this span: set ZTRACE_PROFILE=slow, or run 'ztrace profile --live'" in told
    # One that waits for calls within it has little time of its own.
    told = run("show", TRACE, "--span", "shop.checkout", "--stacks", "--db", str(sampled)).stdout
    assert "no code was sampled in its own 22.0ms; calls below it may have some" in told


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--span", "nothing"], 1, "no span of this trace is 'nothing'"),
        (["--span", "charge"], 2, "'charge' is ambiguous"),
        (["--span", "0000"], 2, "'0000' is ambiguous"),
        (["--span", "1"], 1, "no span of this trace is '1'"),
        (["--stacks"], 2, "add --span"),
        (["--span", "x", "--flat", "--json"], 2, "--flat and --span exclude each other"),
    ],
)
def test_bad_spans_are_told(run: Run, shop: Path, arguments: list[str], status: int, told: str) -> None:
    """A span that is not there, one of several, and options that do not go together are told in one line."""
    result = run("show", TRACE, *arguments, "--db", str(shop))
    assert result.exit_code == status
    assert told in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--live", "--hz", "101"], "--hz 101 is out of bounds; give 1 to 100"),
        (["--live", "--seconds", "0"], "--seconds 0 is out of bounds; give 1 to 600"),
        (["--live", "--since", "1h"], "leave out --since and --until"),
        (["--seconds", "5"], "add --live"),
        (["--hz", "5"], "add --live"),
    ],
)
def test_bad_options_are_told(run: Run, path: Path, arguments: list[str], told: str) -> None:
    """Numbers out of bounds, and options that do not go together, are told before anything is asked."""
    result = run("profile", "--db", str(path), *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
