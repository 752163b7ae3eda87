"""Profiles in pprof's format, read by protobuf with the fields of profile.proto."""

import gzip
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.viewer.export.test_icicle import EVIL
from tests.viewer.queries.test_profile import read, settle
from tests.viewer.queries.test_stacks import take
from tests.viewer.stored import Sampled, span, trace_id
from ztrace.records import RUN, WAIT
from ztrace_viewer.cli import ztrace
from ztrace_viewer.documents.profile import ProfileDocument
from ztrace_viewer.export.pprof import write_pprof

_NUMBER, _UNSIGNED, _TEXT, _MESSAGE = 3, 4, 9, 11
_ONE, _MANY = 1, 3

#: Messages and fields of profile.proto that files have: number, type, how many, and the message.
FIELDS: dict[str, dict[str, tuple[int, int, int, str]]] = {
    "Profile": {
        "sample_type": (1, _MESSAGE, _MANY, "ValueType"),
        "sample": (2, _MESSAGE, _MANY, "Sample"),
        "location": (4, _MESSAGE, _MANY, "Location"),
        "function": (5, _MESSAGE, _MANY, "Function"),
        "string_table": (6, _TEXT, _MANY, ""),
        "default_sample_type": (14, _NUMBER, _ONE, ""),
    },
    "ValueType": {"type": (1, _NUMBER, _ONE, ""), "unit": (2, _NUMBER, _ONE, "")},
    "Sample": {
        "location_id": (1, _UNSIGNED, _MANY, ""),
        "value": (2, _NUMBER, _MANY, ""),
        "label": (3, _MESSAGE, _MANY, "Label"),
    },
    "Label": {"key": (1, _NUMBER, _ONE, ""), "str": (2, _NUMBER, _ONE, "")},
    "Location": {"id": (1, _UNSIGNED, _ONE, ""), "line": (4, _MESSAGE, _MANY, "Line")},
    "Line": {"function_id": (1, _UNSIGNED, _ONE, ""), "line": (2, _NUMBER, _ONE, "")},
    "Function": {
        "id": (1, _UNSIGNED, _ONE, ""),
        "name": (2, _NUMBER, _ONE, ""),
        "system_name": (3, _NUMBER, _ONE, ""),
        "filename": (4, _NUMBER, _ONE, ""),
    },
}


def parse(content: bytes) -> Any:
    """Return the parsed message of a file."""
    file = descriptor_pb2.FileDescriptorProto(name="pprof.proto", package="pprof", syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, type_number, label, of) in fields.items():
            added = message.field.add(name=field, number=number, label=label)
            added.type = cast(Any, type_number)
            if of:
                added.type_name = f".pprof.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("pprof.Profile"))
    profile: Any = kind()
    profile.ParseFromString(gzip.decompress(content))
    return profile


def read_samples(profile: Any) -> dict[tuple[str, ...], int]:
    """Return the value of each sample, by its lines from the outermost on, and its labels."""
    texts = profile.string_table
    names = {each.id: texts[each.name] for each in profile.function}
    lines = {each.id: f"{names[each.line[0].function_id]}:{each.line[0].line}" for each in profile.location}
    samples = {}
    for sample in profile.sample:
        labels = tuple(f"{texts[each.key]}={texts[each.str]}" for each in sample.label)
        stack = tuple(lines[location] for location in reversed(sample.location_id))
        (samples[stack + labels],) = sample.value
    return samples


@pytest.fixture
def database(path: Path) -> Path:
    """Return a database with a tree whose call was sampled, and a name full of markup."""
    sampled = Sampled("shop")
    sampled.add("pay", f"main:1 {EVIL.replace(' ', '')}:7", WAIT, 30)
    sampled.add("pay", "main:1 render:300", RUN, 10)
    calls = [
        span(trace_id(1), 1, name="buy", duration_ms=100),
        span(trace_id(1), 2, 1, name="pay", duration_ms=40),
    ]
    return take(settle(path, {"shop": calls}), sampled)


def test_samples_are_paths_with_their_code(database: Path) -> None:
    """Each sample is a path or a stack below it, in nanoseconds of critical time, with its state."""
    document: ProfileDocument = read(database)
    profile = parse(write_pprof(document))
    texts = profile.string_table
    assert texts[0] == ""
    (kind,) = profile.sample_type
    assert (texts[kind.type], texts[kind.unit]) == ("critical", "nanoseconds")
    assert texts[profile.default_sample_type] == "critical"
    samples = read_samples(profile)
    pay = ("shop.buy:0", "shop.pay:0")
    assert samples[("shop.buy:0",)] == 60_000_000
    assert samples[*pay, "(runs, over all paths):0", "main:1", "render:300", "state=run"] == 10_000_000
    assert sum(samples.values()) == 100_000_000
    assert {texts[each.filename] for each in profile.function} == {"", "/srv/shop/shop.py"}


def test_the_command_writes_a_file(database: Path) -> None:
    """The file on standard output is that of the same document."""
    result = CliRunner().invoke(ztrace, ["profile", "--format", "pprof", "--db", str(database)])
    assert result.exit_code == 0
    assert read_samples(parse(result.stdout_bytes)) == read_samples(parse(write_pprof(read(database))))
