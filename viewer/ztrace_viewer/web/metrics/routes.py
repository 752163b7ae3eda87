"""``/metrics`` for Prometheus, and ``/metrics/grafana.json``, the dashboard to import."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace_viewer.queries.counters import Counters
from ztrace_viewer.web.asking import Asker

#: Path of the metrics, and of the dashboard.
METRICS, DASHBOARD = "/metrics", "/metrics/grafana.json"

#: Prometheus's text format, which all of its versions read.
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def make_routes(asker: Asker) -> list[Route]:
    """Return the routes of metrics."""
    counters = Counters()

    def metrics(request: Request) -> Response:
        # Only Prometheus needs the library, and it asks after the page has been opened.
        from prometheus_client import generate_latest

        from ztrace_viewer.web.metrics.families import Families

        return Response(
            asker.ask(lambda store: generate_latest(Families(store, counters))),
            headers={"Content-Type": _TEXT},
        )

    def dashboard(request: Request) -> Response:
        content = files("ztrace_viewer.web").joinpath("metrics", "grafana.json").read_bytes()
        return Response(content, media_type="application/json")

    return [Route(METRICS, metrics), Route(DASHBOARD, dashboard)]
