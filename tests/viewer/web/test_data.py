"""Documents of the page: each is what the command prints with --json."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, checkout, store, trace_id
from tests.viewer.web.serving import Site, served

pytestmark = pytest.mark.process

#: Paths, and the arguments of the command that answers the same.
SAME = [
    ("slow", ["slow", "--limit", "50"]),
    ("slow?service=shop&errors=1&limit=1", ["slow", "--service", "shop", "--errors", "--limit", "1"]),
    ("slow?since=2026-01-31T12:00:30Z&limit=9", ["slow", "--since", "2026-01-31T12:00:30Z", "--limit", "9"]),
    ("find?text=reserve", ["find", "reserve", "--limit", "50"]),
    ("find?text=reserve&min=1h", ["find", "reserve", "--min", "1h", "--limit", "50"]),
    ("errors", ["errors", "--limit", "50"]),
    ("errors?text=nothing", ["errors", "--text", "nothing", "--limit", "50"]),
    ("errors?sort=frequent&all=1", ["errors", "--sort", "frequent", "--all", "--limit", "50"]),
    ("stats", ["stats"]),
    ("stats?method=checkout", ["stats", "--method", "checkout"]),
    ("map", ["map"]),
    ("profile", ["profile", "--all"]),
    (
        "diff?before=2026-01-30..2026-01-31&after=2026-01-31..2026-02-01",
        ["diff", "--before", "2026-01-30..2026-01-31", "--after", "2026-01-31..2026-02-01"],
    ),
]
#: Questions without an answer, and the arguments of the command that says why in the same words.
REFUSED = [
    ("diff?by=service.version", ["diff", "--by", "service.version"]),
    ("diff?slow=1&root=shop.checkout", ["diff", "shop.checkout", "--slow"]),
    ("diff?by=card&root=checkout&after=visa", ["diff", "checkout", "--by", "card", "--after", "visa"]),
]


@pytest.mark.parametrize(("path", "arguments"), SAME, ids=[path for path, _ in SAME])
def test_it_is_the_commands_document(
    site: Site, run: Run, shop: Path, path: str, arguments: list[str]
) -> None:
    """A document over HTTP is the command's, field by field."""
    printed = json.loads(run(*arguments, "--json", "--db", str(shop)).output)
    assert _without_now(site.get(f"/data/{path}")) == _without_now(printed)


@pytest.mark.parametrize(("path", "arguments"), REFUSED, ids=[path for path, _ in REFUSED])
def test_it_says_why_as_the_command_does(
    site: Site, run: Run, shop: Path, path: str, arguments: list[str]
) -> None:
    """A question that cannot be answered is told in the command's words."""
    told = run(*arguments, "--db", str(shop)).stderr
    answer = site.ask(f"/data/{path}")
    assert (answer.status, f"ztrace: {answer.document['error']}\n") == (404, told)


def test_the_editor_is_that_of_the_server(site: Site, shop: Path) -> None:
    """The page learns the URL of a line in the editor, as far as the server has one."""
    assert site.get("/data/editor") == {"template": None}
    with served(shop, ZTRACE_EDITOR="code:{file}:{line}") as edited:
        assert edited.get("/data/editor") == {"template": "code:{file}:{line}"}


@pytest.mark.parametrize("missing", ["by=card", "by=card&root=shop.checkout", "slow=1", "before=2h..1h"])
def test_a_comparison_says_what_is_missing(site: Site, missing: str) -> None:
    """A comparison without its method, value or time is refused with what to give."""
    answer = site.ask(f"/data/diff?{missing}")
    assert answer.status == 400
    assert "; give " in answer.document["error"]


def _without_now(document: Any) -> Any:
    """Return a document without what depends on the moment of the question."""
    if isinstance(document, dict):
        return {key: _without_now(value) for key, value in document.items() if key != "when_until_ns"}
    if isinstance(document, list):
        return [_without_now(each) for each in document]
    return document


def test_one_error_and_one_span_are_the_commands(site: Site, run: Run, shop: Path) -> None:
    """The details of an error and of each span are those of `error` and `show --flat`."""
    (group,) = site.get("/data/errors")["groups"]
    printed = json.loads(run("error", group["group"], "--json", "--db", str(shop)).output)
    assert site.get(f"/data/error/{group['group']}") == printed
    flat = json.loads(run("show", trace_id(1).hex(), "--json", "--flat", "--db", str(shop)).output)
    for span in flat["spans"]:
        del span["depth"]
        span |= {"children": [], "stacks": []}
        assert site.get(f"/data/trace/{trace_id(1).hex()}/{span['span_id']}") == span


def test_columns_are_the_tree(site: Site, run: Run, shop: Path) -> None:
    """A tree in columns has the rows, times and exceptions of `show --flat`, in the same order."""
    tree = json.loads(run("show", trace_id(1).hex(), "--json", "--flat", "--db", str(shop)).output)
    columns, spans = site.get(f"/data/trace/{trace_id(1).hex()[:16]}"), tree["spans"]
    for name in ("trace_id", "duration_ns", "services", "span_count", "error_count", "complete", "missing"):
        assert columns[name] == tree[name]
    assert b64decode(columns["ids"]).hex() == "".join(span["span_id"] for span in spans)
    assert columns["critical"] == [span["critical_ns"] for span in spans]
    raised = {number: span["exception"] for number, span in enumerate(spans) if span["exception"]}
    assert columns["exceptions"] == {
        str(number): {name: each[name] for name in ("type", "message", "how", "origin", "group")}
        for number, each in raised.items()
    }
    assert len(raised) == 4


def test_a_group_is_resolved_and_opened(tmp_path: Path) -> None:
    """The two writes of the page change the group's state."""
    path = tmp_path / "shop.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    with served(path) as site:
        (group,) = site.get("/data/errors")["groups"]
        for state, listed in (("resolved", 0), ("open", 1)):
            answer = site.ask(f"/data/error/{group['group']}/{state}", "POST")
            assert (answer.status, answer.document["group"]["state"]) == (200, state)
            assert len(site.get("/data/errors")["groups"]) == listed


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("slow?since=soon", 400, "is not a time"),
        ("slow?limit=0", 400, "limit"),
        ("slow?limit=1e9", 400, "limit"),
        ("slow?since=5m&until=1h", 400, "not before"),
        ("find?min=long", 400, "long"),
        ("errors?sort=odd", 400, "newest"),
        ("diff?before=1h..", 400, "after is missing"),
        ("diff?before=x&after=1h..", 400, "stretch"),
        ("explain", 400, "root is missing"),
        ("profile?root=shop.nothing", 404, "shop.nothing"),
        ("trace/xyz", 400, "not a trace id"),
        (f"trace/{'ab' * 16}", 404, "no trace"),
        (f"trace/{trace_id(1).hex()}/abc", 404, "no span"),
        (f"trace/{trace_id(1).hex()}/charge", 400, "ambiguous"),
        ("error/0123456789abcdef", 404, "no error"),
        ("nothing", 404, "not found"),
    ],
)
def test_bad_questions_get_one_line(site: Site, path: str, status: int, words: str) -> None:
    """What cannot be answered gets its status and one line that says why."""
    answer = site.ask(f"/data/{path}")
    assert answer.status == status
    assert words in answer.document["error"]
    assert "\n" not in answer.document["error"]


def test_trees_are_counted_over_time(site: Site) -> None:
    """The histogram counts each tree of the selection once, in its part of the time."""
    histogram = site.get("/data/histogram")
    assert (sum(histogram["traces"]), sum(histogram["errors"])) == (2, 2)
    assert histogram["since_ns"] == NOON
    since, until = "2026-01-31T12:00:30Z", "2026-01-31T12:01:30Z"
    histogram = site.get(f"/data/histogram?since={since}&until={until}&service=shop")
    assert [count for count in histogram["traces"] if count] == [1]
    assert sum(site.get("/data/histogram?service=nobody")["traces"]) == 0


def test_a_trace_and_an_error_can_be_pasted(site: Site) -> None:
    """A trace and an error come as Markdown, in a block that their text cannot end."""
    (group,) = site.get("/data/errors")["groups"]
    for path, word in (
        (f"/trace/{trace_id(1).hex()}.md", "checkout"),
        (f"/error/{group['group']}.md", group["type"]),
    ):
        answer = site.ask(path)
        assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
        title, empty, fence, *lines = answer.text.splitlines()
        assert title.startswith(("Trace ", "Error "))
        assert (empty, fence, lines[-1]) == ("", "```", "```")
        assert any(word in line for line in lines)
