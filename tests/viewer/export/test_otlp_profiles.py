"""OTLP profiles: samples of spans with a link to each, in tables as the signal has them."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)

from tests.viewer.conftest import Run
from tests.viewer.queries.test_stacks import take
from tests.viewer.stored import Sampled, checkout, span_id, store, trace_id
from ztrace.records import RUN, WAIT, WAIT_BUSY


@pytest.fixture
def sampled(path: Path) -> Path:
    """Return a database with two trees; spans of two services of the first one have code."""
    store(path, checkout(trace_id(1)))
    store(path, checkout(trace_id(2)))
    billing, cart = Sampled("billing"), Sampled("cart")
    billing.add_span(trace_id(1), 7, ("main:1 load:26", WAIT_BUSY, 96, 0), ("main:1 render:32", RUN, 33, 0))
    cart.add_span(trace_id(1), 3, ("main:1 load:26", WAIT, 5, 0), ("", RUN, 2, 0))
    return take(path, billing, cart)


def export(run: Run, path: Path, *more: str) -> ExportProfilesServiceRequest:
    """Return the only request of an export."""
    result = run("export", "--format", "otlp-profiles", "--db", str(path), *more)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    content = json.loads(line)
    spell(content["dictionary"]["linkTable"], "traceId", "spanId")
    for resource in content["resourceProfiles"]:
        for scope in resource["scopeProfiles"]:
            spell(scope["profiles"], "profileId")
    request = ExportProfilesServiceRequest()
    ParseDict(content, request)
    return request


def spell(messages: list[dict[str, Any]], *names: str) -> None:
    """Spell ids as protobuf's own JSON does."""
    for message in messages:
        for name in names:
            if name in message:
                message[name] = base64.b64encode(bytes.fromhex(message[name])).decode()


def test_samples_lead_to_their_spans(run: Run, sampled: Path) -> None:
    """Each process has a profile; its samples have their code, state, time and span."""
    request = export(run, sampled)
    tables = request.dictionary
    texts = tables.string_table
    found = {}
    for resource in request.resource_profiles:
        service = next(each for each in resource.resource.attributes if each.key == "service.name")
        (profile,) = resource.scope_profiles[0].profiles
        assert texts[profile.sample_type.type_strindex] == "wall"
        assert texts[profile.sample_type.unit_strindex] == "nanoseconds"
        assert len(profile.profile_id) == 16
        for sample in profile.samples:
            locations = tables.stack_table[sample.stack_index].location_indices
            lines = [tables.location_table[place].lines[0] for place in reversed(locations)]
            code = " ".join(
                f"{texts[tables.function_table[line.function_index].name_strindex]}:{line.line}"
                for line in lines
            )
            (attribute,) = (tables.attribute_table[place] for place in sample.attribute_indices)
            assert texts[attribute.key_strindex] == "ztrace.state"
            link = tables.link_table[sample.link_index]
            key = service.value.string_value, link.trace_id, link.span_id, code, attribute.value.string_value
            (found[key],) = sample.values
    trace = trace_id(1)
    assert found == {
        ("billing", trace, span_id(7), "main:1 load:26", "wait_busy"): 96_000_000,
        ("billing", trace, span_id(7), "main:1 render:32", "run"): 33_000_000,
        ("cart", trace, span_id(3), "main:1 load:26", "wait"): 5_000_000,
        ("cart", trace, span_id(3), "", "run"): 2_000_000,
    }


def test_tables_begin_with_nothing_and_repeat_nothing(run: Run, sampled: Path) -> None:
    """The first item of each table is the zero value, and no item occurs twice."""
    tables = export(run, sampled).dictionary
    assert tables.string_table[0] == ""
    for name in ("mapping", "location", "function", "link", "attribute", "stack"):
        table = getattr(tables, f"{name}_table")
        assert table[0] == type(table[0])(), name
        items = [item.SerializeToString() for item in table]
        assert len(items) == len(set(items)), name


def test_trees_without_code_make_no_line(run: Run, sampled: Path, tmp_path: Path) -> None:
    """A selection without code is an empty file, and a database without code is told in one line."""
    other = run("export", trace_id(2).hex(), "--format", "otlp-profiles", "--db", str(sampled))
    assert (other.exit_code, other.stdout) == (0, "")
    plain = store(tmp_path / "plain.db", checkout(trace_id(1)))
    result = run("export", "--format", "otlp-profiles", "--db", str(plain))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "ztrace: no span has sampled code; take some with 'ztrace profile --live'\n"


def test_a_package_without_profiles_is_told(
    run: Run, sampled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the messages, one line says what to install, and no file is written."""
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.profiles.v1development", None)
    target = tmp_path / "out.jsonl"
    result = run("export", "--format", "otlp-profiles", "--db", str(sampled), "-o", str(target))
    assert result.exit_code == 2
    assert "pip install --upgrade opentelemetry-proto" in result.stderr
    assert not target.exists()
