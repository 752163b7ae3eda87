"""OTLP spans of others, received and sent out unchanged through the real store."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.otlp.requests import make_request, make_span, put_in_order, requests, send_all, take_in
from ztrace_collector.otlp.mapping.incoming import parse_request, read_request


@settings(max_examples=settings().max_examples // 2)
@given(request=requests())
def test_what_comes_in_goes_out(request: ExportTraceServiceRequest) -> None:
    """Spans, typed attributes, events, links, scopes and resources survive a round trip."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "traces.db"
        outcomes = take_in(path, parse_request(request.SerializeToString()))
        assert [outcome.refused for outcome in outcomes] == [{}] * len(outcomes)
        assert put_in_order(send_all(path)) == put_in_order(request)


def test_a_resource_is_known_by_its_attributes() -> None:
    """A resource is identified by its attributes in any order."""
    one = make_request(make_span(), **{"host.name": "desk", "process.pid": 7})
    same = make_request(make_span(), **{"process.pid": 7, "host.name": "desk"})
    other = make_request(make_span(), **{"process.pid": 8, "host.name": "desk"})
    ids = [read_request(request)[0].resource.incarnation for request in (one, same, other)]
    assert ids[0] == ids[1] != ids[2]
    resource = read_request(one)[0].resource
    assert (resource.service, resource.host, resource.pid) == ("shop", "desk", 7)
