"""Trees over HTTP by real clients and frameworks, which answer exceptions themselves, down to a database."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Child, Collected
from tests.ztrace.otel.test_instrumenting import in_line
from tests.ztrace.waiting import wait_for
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.trees.tree import walk

pytestmark = [pytest.mark.trouble, pytest.mark.process]

CLIENTS = ("requests", "urllib3", "httpx", "aiohttp")
#: Exception that each library raises for an HTTP error.
RAISED = {
    "requests": "HTTPError",
    "urllib3": "-",
    "httpx": "HTTPStatusError",
    "aiohttp": "ClientResponseError",
}
WHOLE = [
    ("internal", "shopper", "buy"),
    ("client", "shopper", "GET"),
    ("server", "web", "GET /<path>"),
    ("client", "web", "find"),
    ("server", "stock", "find"),
    ("client", "stock", "SELECT"),
]


class Shop:
    """Running processes of a tree, and the collector."""

    def __init__(self, collected: Collected, addresses: dict[str, str], shoppers: dict[str, Child]) -> None:
        self._collected = collected
        self._addresses = addresses
        self._shoppers = shoppers

    def buy(
        self, client: str, path: str, spans: int, server: str = "web", role: str = "shopper"
    ) -> tuple[list[SpanDocument], str]:
        """Request a path, and return the roots of the tree and the exception's name."""
        shopper = self._shoppers[role]
        shopper.say(f"{client} {self._addresses[server]}/{path}")
        trace_id, raised = shopper.hear().split()
        wait_for(lambda: self._collected.count_spans(trace_id) >= spans)
        tree = self._collected.tree(trace_id)
        assert (tree["complete"], tree["missing"]) == (True, [])
        return tree["roots"], raised


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Run the processes."""
    folder = tmp_path_factory.mktemp("frameworks")
    collected, errors = Collected(folder), folder / "errors.txt"
    with ExitStack() as stack:

        def start(role: str, upstream: str = "") -> tuple[Child, str]:
            command = ["-m", "tests.ztrace.otel.frameworks", role, upstream]
            child = stack.enter_context(Child(errors, *command, ZTRACE_ENDPOINT=collected.endpoint))
            return child, child.hear()

        _, stock = start("stock")
        addresses = {"web": start("web", stock)[1], "api": start("api")[1]}
        yield Shop(collected, addresses, {role: start(role)[0] for role in ("shopper", "plain")})
    assert [line for line in errors.read_text().splitlines() if "ztrace:" in line] == []
    collected.stop()


def names(spans: list[SpanDocument]) -> list[tuple[str, str, str]]:
    """Return kind, service and name of each span."""
    return [(span["kind"], span["service"], span["name"]) for span in spans]


@pytest.mark.parametrize("client", CLIENTS)
def test_an_order_is_one_whole_tree(shop: Shop, client: str) -> None:
    """An HTTP client, Flask, rpyc and sqlite3 are one tree in one file."""
    roots, raised = shop.buy(client, "order", len(WHOLE))
    spans = in_line(roots)
    assert names(spans) == WHOLE
    assert raised == "-"
    assert {span["status"] for span in spans} == {"ok"}


@pytest.mark.parametrize("client", CLIENTS)
def test_the_origin_comes_back_over_http(shop: Shop, client: str) -> None:
    """An exception of the database has its origin there, in each span up to the client's own exception."""
    roots, raised = shop.buy(client, "refuse", len(WHOLE))
    spans = in_line(roots)
    assert names(spans) == WHOLE
    assert raised == RAISED[client]
    exceptions = [span["exception"] for span in (spans if raised != "-" else spans[1:])]
    told = [
        exception and (exception["type"].rpartition(".")[2], exception["origin"]) for exception in exceptions
    ]
    assert told[-4:] == [
        ("OperationalError", False),
        ("OperationalError", False),
        ("OperationalError", False),
        ("OperationalError", True),
    ]
    assert told[:-4] == [(raised, False), ("HTTP 500", False)][-len(told[:-4]) :]
    assert {each and each["origin_span_id"] for each in exceptions} == {spans[-1]["span_id"]}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("path", "error"), [("direct", "LookupError: no such page"), ("handled", None)], ids=["direct", "handled"]
)
def test_the_request_is_the_origin_of_its_own_failure(
    shop: Shop, client: str, path: str, error: str | None
) -> None:
    """An exception that leaves no span before the answer, and an error status, begin at the server."""
    roots, raised = shop.buy(client, path, 3)
    assert raised == RAISED[client]
    buy, get, served = in_line(roots)
    assert (served["name"], served["status"]) == (f"GET /{path}", "error")
    if error is not None:
        assert served["exception"] is not None
        assert f"{served['exception']['type']}: {served['exception']['message']}" == error
        assert served["exception"]["origin"]
    for span in (buy, get) if raised != "-" else (get,):
        assert span["exception"] is not None
        assert (span["exception"]["origin"], span["exception"]["origin_span_id"]) == (
            False,
            served["span_id"],
        )


@pytest.mark.parametrize(
    ("path", "origin", "count"),
    # Of an answer that passes the instrumentation, the two messages have spans too; the first one fails.
    [("direct", "GET /direct", 3), ("within", "within", 4), ("handled", "GET /handled http send", 5)],
)
def test_starlette_answers_outside_of_its_instrumentation(
    shop: Shop, path: str, origin: str, count: int
) -> None:
    """The answer of Starlette names the origin, whether or not its instrumentation sees the answer."""
    roots, _ = shop.buy("requests", path, count, server="api")
    spans = {span["name"]: span for span, _ in reversed(list(walk(roots)))}
    buy, get = spans["buy"]["exception"], spans["GET"]["exception"]
    assert buy is not None
    assert get is not None
    assert {buy["origin_span_id"], get["origin_span_id"]} == {spans[origin]["span_id"]}
    assert spans[origin]["service"] == "api"


def test_a_client_without_opentelemetry(shop: Shop) -> None:
    """A client that sends no context has a tree of its own, and its exception begins there."""
    roots, raised = shop.buy("requests", "refuse", 1, role="plain")
    assert raised == "HTTPError"
    (buy,) = roots
    assert (buy["children"], buy["exception"] and buy["exception"]["origin"]) == ([], True)
