"""Requests of Grafana's Jaeger data source, and the fields it reads from the answers.

Source: github.com/grafana/grafana, pkg/tsdb/jaeger: client.go, grpc_client.go, and utils/.
"""

from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.viewer.stored import span, store, trace_id
from tests.viewer.web.serving import Site, served
from tests.viewer.web.spans import CHECKOUT

pytestmark = pytest.mark.process

#: Times of a dashboard, in the units that Grafana sends.
NOON_MS, NOON_US = 1_769_860_800_000, 1_769_860_800_000_000


def test_a_trace_by_its_id(like_jaeger: Site) -> None:
    """Grafana reads the first trace without a check, and sends times in milliseconds."""
    for query in ("", f"?start={NOON_MS}&end={NOON_MS + 1}"):
        (trace,) = like_jaeger.get(f"/api/traces/{CHECKOUT}{query}")["data"]
        assert trace["traceID"] == CHECKOUT
        for item in trace["spans"]:
            assert trace["processes"][item["processID"]]["serviceName"]
    assert like_jaeger.ask("/api/traces/1234").status == 404


def test_a_search(like_jaeger: Site) -> None:
    """Grafana sends tags as a JSON object made from logfmt, and omits unset conditions."""
    query = {
        "limit": "20",
        "service": "shop",
        "operation": "checkout",
        "tags": '{"http.request.method":"POST"}',
        "minDuration": "1ms",
        "maxDuration": "1.5s",
        "start": str(NOON_US - 1),
        "end": str(NOON_US + 60_000_000),
    }
    (trace,) = like_jaeger.get(f"/api/traces?{urlencode(query)}")["data"]
    assert trace["traceID"] == CHECKOUT
    assert like_jaeger.get("/api/traces?limit=20&service=shop")["errors"] is None


def test_the_graph_of_dependencies(like_jaeger: Site) -> None:
    """Grafana treats any error in an answer as a failure, even beside data."""
    document = like_jaeger.get(f"/api/dependencies?endTs={NOON_MS + 60_000}&lookback=3600000")
    assert document["errors"] is None
    assert document["data"] == [{"parent": "shop", "child": "billing", "callCount": 1}]


@pytest.mark.parametrize("name", ["shop/api", "a b", "ümlaut", "50%", "a+b", "a?b#c"])
def test_services_by_any_name(tmp_path: Path, name: str) -> None:
    """Grafana puts service names into the path unescaped, slashes included."""
    path = store(tmp_path / "z.db", {name: [span(trace_id(1), 1, name="work")]})
    with served(path) as site:
        assert site.get("/api/services")["data"] == [name]
        for escaped in (quote(name, safe="/"), quote(name, safe="")):
            assert site.get(f"/api/services/{escaped}/operations")["data"] == ["work"]
        assert len(site.get(f"/api/traces?{urlencode({'service': name})}")["data"]) == 1
        assert site.get(f"/api/v3/operations?{urlencode({'service': name})}")["operations"]


def test_version_3_where_it_is_switched_on(like_jaeger: Site) -> None:
    """Grafana sends version 3 with old names and unescaped times, and needs spans in each scope."""
    times = "query.start_time_min=2026-01-31T13:00:00+01:00&query.start_time_max=2026-01-31T13:01:00+01:00"
    result = like_jaeger.get(f"/api/v3/traces?query.service_name=shop&{times}")["result"]
    for resource in result["resourceSpans"]:
        assert [each for each in resource["resource"]["attributes"] if each["key"] == "service.name"]
        for scope in resource["scopeSpans"]:
            assert scope["spans"]
            assert len({each["traceId"] for each in scope["spans"]}) == 1
    one = like_jaeger.get(
        f"/api/v3/traces/{CHECKOUT}?start_time=2026-01-31T13:00:00+01:00&end_time=2026-01-31T14:00:00Z"
    )
    assert one["result"]["resourceSpans"]
