"""Fuzzed queries: every one is answered soon, in the form of its version, without a server error.

Requests are generated from the routes and parameters in `openapi.json`: valid ones, and others that no client
would send.
"""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.viewer.web.serving import Site
from tests.viewer.web.spans import CHECKOUT

pytestmark = pytest.mark.process

DESCRIPTION: dict[str, Any] = json.loads((Path(__file__).parent / "openapi.json").read_text())
#: Time limit on a busy machine for small queries.
SOON_S = 10.0

_WORDS = st.sampled_from(
    ["shop", "billing", "charge", "server", CHECKOUT, "abc", "GET", "", "0", "true", "%00", "\x00"]
)
_BY_FORMAT = {
    "duration": st.from_regex(r"-?[0-9]{0,20}(\.[0-9]{0,20})?(ns|us|µs|ms|s|m|h)?", fullmatch=True),
    "date-time": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
    | st.just("2026-01-31T12:00:00 02:00"),
    "json": st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3).map(json.dumps)
    | st.recursive(st.integers() | st.text(max_size=5), st.lists, max_leaves=5).map(json.dumps),
    "tag": st.text(max_size=20) | st.from_regex(r"[a-z.]{1,9}:[a-z]{0,9}", fullmatch=True),
    "integer": st.integers(-(10**40), 10**40).map(str) | st.just("1769860800000000"),
    "boolean": st.sampled_from(["true", "False", "1", "yes"]),
    "hex": st.from_regex(r"[0-9a-fA-F]{0,40}", fullmatch=True) | st.just(CHECKOUT),
}


def _values(schema: dict[str, str]) -> st.SearchStrategy[str]:
    by_kind = _BY_FORMAT.get(schema.get("format", ""), _BY_FORMAT.get(schema["type"], st.text(max_size=20)))
    return by_kind | _WORDS | st.text(max_size=20)


@st.composite
def targets(draw: st.DrawFn) -> str:
    """Draw a path with its parameters, some of them repeated."""
    path = draw(st.sampled_from(sorted(DESCRIPTION["paths"])))
    pairs = []
    for parameter in DESCRIPTION["paths"][path]["get"].get("parameters", []):
        values = _values(parameter["schema"])
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(draw(values), safe=""))
        else:
            pairs += [(parameter["name"], value) for value in draw(st.lists(values, max_size=2))]
    return f"{path}?{urlencode(pairs, errors='replace')}"


@given(targets())
@example(f"/api/traces?{'traceID=abc&' * 1001}")
@example("/api/traces?service=%ff%fe&tags=%7B%22%5Cud800%22%3A%22%5Cudfff%22%7D")
@example("/api/services/%00%0a%ff/operations")
@example("/api/traces/%2e%2e%2f%2e%2e")
@settings(
    max_examples=3 * settings().max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_asked(site: Site, target: str) -> None:
    """Any query gets a documented status, and errors are one line."""
    begin_s = time.monotonic()
    answer = site.ask(target)
    assert time.monotonic() - begin_s < SOON_S
    path = target.partition("?")[0]
    assert answer.status in (200, 400, 404) or (answer.status == 501 and path.startswith("/api/metrics/"))
    document = answer.document
    if answer.status == 200:
        return
    if path.startswith("/api/v3/"):
        message = document["error"]["message"]
        assert document["error"]["httpCode"] == answer.status
    else:
        message = document["errors"][0]["msg"]
        assert document["errors"][0]["code"] == answer.status
    assert message
    assert "\n" not in message
    assert "Traceback" not in message


def test_the_description_has_every_route(site: Site) -> None:
    """The description has every route and no other, and each route answers a valid query."""
    for path, item in DESCRIPTION["paths"].items():
        for expected in item["get"]["responses"]:
            assert expected in ("200", "400", "404", "501"), path
        asked = (
            path.replace("{service}", "shop").replace("{trace}", "0" * 31 + "1").replace("{kind}", "calls")
        )
        assert site.ask(asked).status != 404 or "{trace}" in path, path


def test_many_at_once_are_all_answered(site: Site) -> None:
    """More concurrent requests than threads are all answered."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(lambda _: site.ask("/api/traces?service=shop").status, range(96)))
    assert statuses == [200] * 96
