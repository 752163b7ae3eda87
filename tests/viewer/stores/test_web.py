"""The page's documents, Jaeger's API and metrics from a collector's file and from ClickHouse."""

import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clickhouse import Engine
from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, span_id, trace_id
from tests.viewer.stores.filling import copy_to_clickhouse
from tests.viewer.stores.mixed import SAMPLED
from tests.viewer.web.serving import TOKEN, Answer, Site, served
from tests.viewer.web.spans import REQUEST, VERSION_1, VERSION_3, VERSION_3_NEW, store_request
from tests.viewer.web.test_recorded import plain
from tests.ztrace.waiting import wait_for

pytestmark = [pytest.mark.scale, pytest.mark.process]

#: Fields of `status` that say how large a store is, and metrics that do.
SIZES = ("database_bytes", "log_bytes")
METRICS_OF_SIZE = ("ztrace_database_bytes", "ztrace_database_log_bytes")

TREE, OTHER = trace_id(3, NOON).hex(), trace_id(1_000, NOON).hex()
SPAN = span_id(1).hex()

DATA = [
    "slow",
    "slow?errors=1&limit=3",
    "slow?since=2026-01-31T12:20&until=2026-01-31T12:40&service=shop",
    "find?text=customer%3DAda&limit=1000",
    "find?min=20ms&errors=1",
    "histogram?since=2026-01-31T12:00&until=2026-01-31T13:00&service=shop",
    "errors?all=1&sort=frequent",
    "errors?text=parcel",
    "error/ffff",
    "stats",
    "stats?since=2026-01-31T12:20&until=2026-01-31T13:40",
    "profile?columns=1",
    "profile?root=shop.pay",
    "diff?before=2026-01-31T13:00..2026-01-31T13:15&after=2026-01-31T13:15..2026-01-31T13:30",
    "diff?root=shop.sell&slow=1",
    "diff?root=shop.sell&by=paid&before=cash&after=card",
    "diff?by=service.version",
    "explain?root=shop.sell",
    "explain",
    "map",
    "status",
    "services",
    "editor",
    f"trace/{TREE}",
    f"trace/{OTHER}?clocks=raw",
    f"trace/{OTHER}/{SPAN}",
    f"trace/{SAMPLED.hex()}/{SPAN}",
    "trace/ffff",
    "trace/xyz",
]

_NOON_US = NOON // 1_000
_TIME = f"start={_NOON_US}&end={_NOON_US + 7_200_000_000}"
API = [
    "/api/services",
    "/api/operations?service=shop&spanKind=client",
    f"/api/traces/{TREE}",
    f"/api/traces/{OTHER}",
    f"/api/traces?service=shop&limit=5&{_TIME}",
    f"/api/traces?service=shop&operation=pay&limit=200&{_TIME}",
    f"/api/traces?service=shop&minDuration=20ms&maxDuration=40ms&limit=200&{_TIME}",
    f"/api/traces?service=billing&tag=customer:Ada&limit=200&{_TIME}",
    f"/api/traces?service=billing&tags=%7B%22error%22%3A%22true%22%7D&limit=200&{_TIME}",
    f"/api/traces?service=stock&tag=n:3&limit=200&{_TIME}",
    f"/api/dependencies?endTs={NOON // 1_000_000 + 7_200_000}&lookback=7200000",
    f"/api/v3/traces/{TREE}",
    "/api/v3/trace-summaries?query.serviceName=stock&query.numTraces=200"
    "&query.startTimeMin=2026-01-31T11:00:00Z&query.startTimeMax=2026-01-31T14:00:00Z",
]
RECORDED = {**VERSION_1, **VERSION_3, **VERSION_3_NEW}

Sites = tuple[Site, Site]


@pytest.fixture(scope="module")
def sites(both: tuple[Path, str]) -> Iterator[Sites]:
    """Yield servers of a file and of a ClickHouse database with the same rows."""
    with served(both[0]) as file, served(both[1]) as database:
        yield file, database


@pytest.fixture(scope="module")
def like_jaeger(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Yield servers of the spans whose answers by Jaeger are recorded."""
    path, url = tmp_path_factory.mktemp("like") / "like.db", engine.url("like_jaeger")
    store_request(path, REQUEST)
    copy_to_clickhouse(path, url)
    with served(path) as file, served(url) as database:
        yield file, database
    engine.query("DROP DATABASE like_jaeger")


def ask_whole(site: Site, path: str) -> Answer:
    """Return an answer that did not end at a deadline, as some do on a busy machine."""

    def find() -> list[Answer]:
        answer = site.ask(path)
        is_cut = "searched back to" in (answer.headers["X-Ztrace-Note"] or "")
        if path.startswith("/data/find") and answer.status == 200:
            is_cut = answer.document["searched_since_ns"] is not None
        return [] if is_cut or answer.status == 503 else [answer]

    return wait_for(find)[0]


def ask(sites: Sites, path: str) -> list[Answer]:
    """Return the answers of both servers, of the same status and with the same note."""
    answers = [ask_whole(site, path) for site in sites]
    one, other = answers
    assert other.status == one.status, other.text
    assert other.headers["X-Ztrace-Note"] == one.headers["X-Ztrace-Note"]
    return answers


@pytest.mark.parametrize("path", DATA)
def test_documents_of_the_page_are_the_same(sites: Sites, path: str) -> None:
    """Every document that the page asks for is the same from either store, also one of an error."""
    documents = [answer.document for answer in ask(sites, f"/data/{path}")]
    for document in documents:
        for name in SIZES:
            document.pop(name, None)
    assert documents[1] == documents[0]


@pytest.mark.parametrize("path", API)
def test_jaegers_api_is_the_same(sites: Sites, path: str) -> None:
    """Every answer of Jaeger's API has the same traces, but for the order of spans."""
    one, other = (plain(answer.document) for answer in ask(sites, path))
    assert other == one
    assert one


@pytest.mark.parametrize("path", RECORDED.values(), ids=RECORDED)
def test_what_jaeger_answers_is_answered_alike(like_jaeger: Sites, path: str) -> None:
    """The questions whose answers by Jaeger are recorded have the same answers from either store."""
    one, other = (plain(answer.document) for answer in ask(like_jaeger, path))
    assert other == one


def test_metrics_are_the_same(sites: Sites) -> None:
    """Every series has the same value from either store, at the second request too."""
    for _ in range(2):
        one, other = (read_series(answer.text) for answer in ask(sites, "/metrics"))
        assert other == one
        assert one


def read_series(text: str) -> list[str]:
    """Return the lines of metrics, without those of the store's size."""
    return [line for line in text.splitlines() if line.split()[0] not in METRICS_OF_SIZE]


def test_every_error_has_the_same_document_and_text(sites: Sites) -> None:
    """Each exception group has the same document and the same text to copy, and so has a tree."""
    groups = sites[0].get("/data/errors")["groups"]
    assert groups
    for group in groups:
        documents = [answer.document for answer in ask(sites, f"/data/error/{group['group']}")]
        assert documents[1] == documents[0]
    for path in (f"/error/{groups[0]['group']}.md", f"/trace/{OTHER}.md"):
        one, other = (answer.text for answer in ask(sites, path))
        assert other == one


def test_an_error_is_resolved_by_the_page(like_jaeger: Sites) -> None:
    """The page's button resolves a group and opens it again, in either store."""
    for site in like_jaeger:
        (group,) = (each["group"] for each in site.get("/data/errors")["groups"])
        for state, listed in (("resolved", 0), ("open", 1)):
            answer = site.ask(f"/data/error/{group}/{state}", "POST")
            assert (answer.status, answer.document["group"]["state"]) == (200, state)
            assert len(site.get("/data/errors")["groups"]) == listed
        assert site.ask("/data/error/ffff/resolved", "POST").status == 404


def test_the_page_is_opened_and_linked_to(
    both: tuple[Path, str], sites: Sites, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree's address is opened by a file in the user's own folder, which no one else can read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ZTRACE_WEB_TOKEN", TOKEN)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    address = f"127.0.0.1:{sites[1].port}"
    result = run("open", OTHER, "--db", both[1], "--listen", address)
    assert (result.stderr, result.stdout) == ("", f"http://{address}/trace/{OTHER}?token={TOKEN}\n")
    (way,) = (tmp_path / "state/ztrace").iterdir()
    assert opened == [way.as_uri()]
    assert way.stat().st_mode & 0o777 == 0o600
    assert way.parent.stat().st_mode & 0o777 == 0o700
