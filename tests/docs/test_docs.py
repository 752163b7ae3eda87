"""Equality of the reference documentation and the code."""

import inspect
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest

import ztrace
import ztrace.otel
from tests.docs import pages
from ztrace import addresses, records, settings, wire
from ztrace.exceptions import frames, marks, messages, origins, recording
from ztrace.exceptions import locals as local_variables
from ztrace.middleware import carriers, replies, trailers
from ztrace.process import probing
from ztrace.profiling import encoding as profiling_encoding
from ztrace.publishing import delivery, encoding, peer, unfinished, values, worker
from ztrace.publishing import intake as publishing_intake
from ztrace.scrubbing import rules
from ztrace.spooling import adoption, files, spool
from ztrace_collector import refusals
from ztrace_collector.checking import encoding as attributes_encoding
from ztrace_collector.checking import failures, mending, parcels
from ztrace_collector.checking import messages as batches
from ztrace_collector.forwarding import forwarder, pauses
from ztrace_collector.layout import BUCKETS_PER_E, LOG_BYTES, LOSS_COLUMNS, SCHEMA_VERSION
from ztrace_collector.otlp.forwarding import process
from ztrace_collector.otlp.listening import bodies, grpc, http, http_connections, intake, thread
from ztrace_collector.otlp.mapping import pieces
from ztrace_collector.otlp.sending import deliver
from ztrace_collector.otlp.sending import http as sending_http
from ztrace_collector.receiving import admission, connections, inbox, receiver, weighing
from ztrace_collector.storing import (
    clocks,
    database,
    defects,
    folding,
    log,
    pruning,
    retention,
    sampled_code,
    space,
    writer,
)
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import accounts, code, groups, known, losses, methods, samples, stack_sums
from ztrace_collector.tables import unfinished as open_spans
from ztrace_viewer.cli import COMMANDS
from ztrace_viewer.cli import ztrace as group
from ztrace_viewer.queries import calls
from ztrace_viewer.web import app, asking, serving
from ztrace_viewer.web.jaeger import loading, parameters

COMMAND_PAGE = pages.sections(pages.read("reference/commands.md"))
SCHEMA_PAGE = pages.sections(pages.read("reference/schema.md"))
WIRE_PAGE = pages.sections(pages.read("reference/wire-format.md"))
API_PAGE = pages.sections(pages.read("reference/api.md"))


def command(name: str) -> click.Command:
    """Return a command; a subcommand is named with its group, as in "keys add"."""
    found: click.Command | None = group
    for part in name.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), part)
    assert found is not None
    return found


def _parts(found: click.Group) -> list[str]:
    """Return the subcommands of a group in the order of its help: a lazy one lists its table."""
    return list(found.commands) or found.list_commands(click.Context(found))


def _with_groups() -> list[str]:
    names = []
    for name in COMMANDS:
        names.append(name)
        found = command(name)
        if isinstance(found, click.Group):
            names += [f"{name} {part}" for part in _parts(found)]
    return names


#: Every command, each group before its subcommands.
NAMES = _with_groups()


def test_every_command_is_documented() -> None:
    """Each command has a section, in the order of the help, and each section a command."""
    assert [heading for heading in COMMAND_PAGE if heading.startswith("ztrace ")] == [
        f"ztrace {name}" for name in NAMES
    ]
    assert "--version" in COMMAND_PAGE["Commands"]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_documented_with_its_default(name: str) -> None:
    """A section's table lists the command's options with their defaults."""
    documented = {pages.code(row[0])[0]: row[1] for row in pages.rows(COMMAND_PAGE[f"ztrace {name}"])}
    options = [each for each in command(name).params if isinstance(each, click.Option)]
    expected = {}
    for option in options:
        argument = "" if option.is_flag else f" {option.metavar}"
        if option.is_flag:
            default = "off"
        elif isinstance(option.default, (str, int, float)):
            default = f"`{option.default}`"
        else:
            default = {
                ("demo", "database"): "a new file",
                ("tail", "since"): "now",
                ("status", "limit"): "50, 20",
            }.get((name, option.name or ""), "none")
        expected[f"{option.opts[-1]}{argument}"] = default
    assert documented == expected


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example(name: str) -> None:
    """Each command's ``--help`` has an example."""
    text = command(name).help or ""
    assert f"Example:\n  ztrace {name}" in inspect.cleandoc(text)


def test_every_variable_is_documented() -> None:
    """The ZTRACE_* names in the sources are those in the settings page."""
    name = re.compile(r"\bZTRACE_[A-Z_]+\b")
    used = {found for text in pages.sources() for found in name.findall(text)}
    assert used == set(name.findall(pages.read("reference/settings.md")))


def test_every_argument_of_configure_is_documented() -> None:
    """The table of settings lists each argument, and the default endpoint."""
    page = pages.sections(pages.read("reference/settings.md"))
    table = pages.rows(page["In a traced service"])
    arguments = [argument for row in table for argument in pages.code(row[1])]
    assert arguments == list(inspect.signature(ztrace.configure).parameters)
    assert f"`{addresses.DEFAULT_ENDPOINT}`" in table[1]


#: Section and row of the settings page, and the value expected there.
LIMITS = [
    ("Limits of a publisher", "bytes of spans in a message", f"{wire.MAX_BODY_BYTES >> 20} MiB"),
    ("Limits of a publisher", "batches in flight", delivery.IN_FLIGHT),
    ("Limits of a publisher", "time without progress before a resend", f"{delivery.RESEND_S:g} s"),
    ("Limits of a publisher", "heartbeat of an idle publisher", f"{worker.BEAT_S:g} s"),
    ("Limits of a publisher", "`shutdown`, also at exit", f"{worker.UNREACHED_S} s"),
    ("Limits of a publisher", "bytes of a spool file", f"{files.SEGMENT_BYTES >> 20} MiB"),
    ("Limits of a publisher", "batches of one process in the spool", spool.MAX_BATCHES),
    ("Limits of a publisher", "interval of the search for spools", f"{adoption.PERIOD_S:g} s"),
    ("Limits of a publisher", "unfinished spans reported", unfinished.MAX_WATCHED),
    ("Limits of a publisher", "characters of a span's name", values.MAX_NAME),
    ("Limits of a publisher", "characters of a text attribute", values.MAX_TEXT),
    ("Limits of a publisher", "attributes of a span", values.MAX_ATTRIBUTES),
    ("Limits of a publisher", "items of a list in an attribute", values.MAX_ITEMS),
    ("Limits of a publisher", "characters of a text in an OpenTelemetry span", values.MAX_FOREIGN_TEXT),
    ("Limits of a publisher", "bytes of one span", f"{encoding.MAX_SPAN_BYTES >> 10} KiB"),
    ("Limits of a publisher", "frames of an exception", frames.OUTERMOST),
    ("Limits of a publisher", "frames of an exception", frames.INNERMOST),
    ("Limits of a publisher", "frames of an exception", recording.MAX_RECORDED_FRAMES),
    ("Limits of a publisher", "causes and members recorded with an exception", origins.MAX_LINKS),
    ("Limits of a publisher", "notes of an exception", messages.MAX_NOTES),
    ("Limits of a publisher", "notes of an exception", messages.MAX_NOTE),
    ("Limits of a publisher", "members of an exception group", recording.MAX_MEMBERS),
    ("Limits of a publisher", "members of an exception group", recording.MAX_DEPTH),
    ("Limits of a publisher", "local variables of a frame", local_variables.MAX_NAMES),
    ("Limits of a publisher", "local variables of a frame", local_variables.MAX_VALUE),
    ("Limits of a publisher", "depth of an exception's causes", recording.MAX_CAUSES),
    ("Limits of a publisher", "characters of an exception's message", messages.MAX_MESSAGE),
    ("Limits of a publisher", "exceptions whose origin is remembered", marks.MAX_ENTRIES),
    ("Limits of a publisher", "characters of a source line", records.MAX_CODE),
    ("Limits of the collector", "bytes of a frame", f"{wire.MAX_FRAME_BYTES >> 20} MiB"),
    ("Limits of the collector", "spans of a message", batches.MAX_SPANS),
    ("Limits of the collector", "spans of a message", batches.MAX_ITEMS),
    ("Limits of the collector", "handshake timeout", f"{connections.HANDSHAKE_MS // 1000} s"),
    ("Limits of the collector", "open connections", connections.MAX_CONNECTIONS),
    ("Limits of the collector", "open connections", connections.RESERVE),
    ("Limits of the collector", "bytes of an unfinished message", f"{weighing.MAX_UNFINISHED >> 20} MiB"),
    ("Limits of the collector", "bytes of an unfinished message", f"{weighing.MAX_ALL_UNFINISHED >> 20} MiB"),
    ("Limits of the collector", "bytes held for a connection", f"{weighing.MAX_HELD >> 20} MiB"),
    ("Limits of the collector", "bytes held for a connection", f"{weighing.MAX_ALL_HELD >> 30} GiB"),
    ("Limits of the collector", "interval of reading the folder of keys", f"{admission.LOOK_S:g} s"),
    (
        "Limits of the collector",
        "wait of a message for others",
        f"{receiver.GATHER_S} s; {receiver.MAX_GATHER_S} s within {receiver.STREAM_BYTES_PER_S >> 10} KiB",
    ),
    ("Limits of the collector", "messages, bytes of a transaction", receiver.MAX_MESSAGES),
    ("Limits of the collector", "messages, bytes of a transaction", f"{receiver.MAX_OF_ONE} of a connection"),
    ("Limits of the collector", "incarnations whose connections are known", receiver.MAX_ROUTES),
    ("Limits of the collector", "messages held while nothing can be stored", writer.HELD_MESSAGES),
    ("Limits of the collector", "messages, bytes of a transaction", f"{receiver.MAX_BYTES >> 10} KiB"),
    (
        "Limits of the collector",
        "bytes of an OTLP request, decompressed",
        f"{bodies.MAX_BODY_BYTES >> 20} MiB",
    ),
    (
        "Limits of the collector",
        "bytes of an OTLP request, decompressed",
        f"{grpc.MAX_MESSAGE_BYTES >> 20} MiB",
    ),
    (
        "Limits of the collector",
        "bytes that a compressed OTLP request may become",
        f"{bodies.INFLATED_BYTES >> 20} MiB",
    ),
    ("Limits of the collector", "members of a gzip stream", bodies.MAX_MEMBERS),
    ("Limits of the collector", "resources, scopes and spans of an OTLP request", pieces.MAX_ENTRIES),
    ("Limits of the collector", "resources, scopes and spans of an OTLP request", bodies.MAX_JSON_VALUES),
    ("Limits of the collector", "bytes of an OTLP span", f"{pieces.MAX_SPAN_BYTES >> 20} MiB"),
    ("Limits of the collector", "bytes of an OTLP span", f"{pieces.MAX_HEAD_BYTES >> 10} KiB"),
    ("Limits of the collector", "processor time for reading", f"{bodies.MAX_WORK_S:g} s"),
    (
        "Limits of the collector",
        "bytes of all OTLP requests being received",
        f"{http.MAX_RECEIVED_BYTES >> 20} MiB",
    ),
    ("Limits of the collector", "wait of an OTLP request for its commit", f"{bodies.ANSWER_S:g} s"),
    ("Limits of the collector", "OTLP requests waiting", http.MAX_WAITING),
    ("Limits of the collector", "OTLP requests waiting", grpc.MAX_WAITING),
    ("Limits of the collector", "spans of an OTLP request mapped at a time", intake.PIECE_SPANS),
    ("Limits of the collector", "OTLP spans waiting to be stored", inbox.MAX_SPANS),
    ("Limits of the collector", "OTLP spans waiting to be stored", f"{inbox.MAX_BYTES >> 20} MiB"),
    ("Limits of the collector", "OTLP spans, bytes of a transaction", inbox.TURN_SPANS),
    ("Limits of the collector", "OTLP spans, bytes of a transaction", f"{inbox.TURN_BYTES >> 10} KiB"),
    ("Limits of the collector", "OTLP spans, bytes of a transaction", parcels.PARCEL_SPANS),
    ("Limits of the collector", "spans of large traces remembered", known.MAX_REMEMBERED),
    ("Limits of the collector", "characters of a span's details", attributes_encoding.MAX_ATTRIBUTES),
    ("Limits of the collector", "connections for OTLP", http_connections.MAX_CONNECTIONS),
    ("Limits of the collector", "connections for OTLP", grpc.MAX_CONNECTIONS),
    ("Limits of the collector", "timeout of an OTLP request's head", f"{http_connections.HEAD_S:g} s"),
    ("Limits of the collector", "timeout of an OTLP request's head", f"{http.PART_S:g} s"),
    ("Limits of the collector", "timeout of an OTLP request's head", f"{http.BODY_S:g} s"),
    ("Limits of the collector", "idle timeout of an OTLP connection", f"{thread.KEEP_ALIVE_S} s"),
    ("Limits of the collector", "idle timeout of an OTLP connection", f"{grpc.IDLE_MS // 1000} s"),
    ("Limits of the collector", "characters of a service's", mending.MAX_NAME),
    ("Limits of the collector", "characters of a span's attributes", attributes_encoding.MAX_ATTRIBUTES),
    ("Limits of the collector", "levels of nested attributes", attributes_encoding.MAX_DEPTH),
    ("Limits of the collector", "links of a span", mending.MAX_LINKS),
    ("Limits of the collector", "accounts of publishers", folding.MAX_ACCOUNTS),
    ("Limits of the collector", "reasons of changed values", accounts.MAX_REASONS),
    ("Limits of the collector", "unfinished spans of a publisher and of all", open_spans.MAX_OF_INSTANCE),
    ("Limits of the collector", "unfinished spans of a publisher and of all", open_spans.MAX_ROWS),
    ("Limits of the collector", "ids of refused spans", refusals.MAX_SPANS),
    ("Limits of the collector", "gap within which losses", losses.MAX_ROWS),
    ("Limits of the collector", "frames of an exception", failures.MAX_FRAMES),
    ("Limits of the collector", "causes, depth and siblings", failures.MAX_DEPTH),
    ("Limits of the collector", "members of an exception group", failures.MAX_MEMBERS),
    ("Limits of the collector", "members of an exception group", failures.MAX_NOTES),
    ("Limits of the collector", "variables of a frame", failures.MAX_LOCALS),
    ("Limits of the collector", "variables of a frame", failures.MAX_LOCAL),
    ("Limits of the collector", "samples of an exception group", samples.MAX_SAMPLES),
    ("Limits of the collector", "samples of an exception group", groups.MAX_SERVICES),
    ("Limits of the collector", "characters of an exception's message", failures.MAX_MESSAGE),
    (
        "Limits of the collector",
        "wait for another program's write lock",
        f"{database.BUSY_TIMEOUT_MS / 1000} s",
    ),
    ("Limits of the collector", "free space kept on the database's disk", f"{space.FLOOR_BYTES >> 20} MiB"),
    ("Limits of the collector", "free space kept on the database's disk", f"{space.FLOOR_SHARE:.0%}"),
    ("Limits of the collector", "retry interval while nothing can be stored", f"{writer.RETRY_S} s"),
    ("Limits of the collector", "interval of checks of the file", f"{writer.CHECK_S:g} s"),
    ("Limits of the collector", "files kept of ztrace's own errors", defects.MAX_FILES),
    ("Limits of the collector", "files kept of ztrace's own errors", f"{defects.MAX_BYTES // 10**6} MB"),
    ("Limits of the collector", "write-ahead log", f"{LOG_BYTES / 1e6:g} MB"),
    ("Limits of the collector", "write-ahead log", f"{log.SHARE:.0%}"),
    ("Limits of the collector", "write-ahead log", f"{log.MAX_BYTES >> 20} MiB"),
    ("Limits of the collector", "names of a service", methods.MAX_METHODS),
    ("Limits of the collector", "error groups of a service", groups.MAX_OF_SERVICE),
    ("Limits of the collector", "error groups of a service", groups.MAX_GROUPS),
    ("Limits of the collector", "groups `(other)`", groups.MAX_SHARED),
    ("Limits of the collector", "time spent on deleting", f"{retention.SHARE:.0%}"),
    ("Limits of the collector", "time spent on deleting", f"{retention.LATE_SHARE:.0%}"),
    ("Limits of the collector", "figures of a service", f"{pruning.SHARE:.0%}"),
    ("Limits of the collector", "sampled code", f"{sampled_code.MINUTES_SHARE:.0%}"),
    ("Limits of the collector", "sampled code", f"{sampled_code.HOURS_SHARE:.0%}"),
    ("Limits of the collector", "new stacks of a service", code.MAX_NEW_STACKS),
    ("Limits of the collector", "new stacks of a service", code.MAX_STACKS),
    ("Limits of the collector", "stacks of a service", stack_sums.MAX_MINUTE_SUMS),
    ("Limits of the collector", "stacks of a service", stack_sums.MAX_HOUR_SUMS),
    ("Limits of the collector", "frames of a stack", code.MAX_DEPTH),
    ("Limits of the collector", "distrust of a clock that jumps ahead", f"{retention.DOUBT_S:,.0f} s"),
    ("Limits of the collector", "time between two runs", f"{clocks.BELIEVED_NS / 10**9:g} s"),
    ("Limits of the collector", "time between two runs", f"{clocks.DOUBT_NS / 10**9:,.0f} s"),
    ("Limits of the collector", "difference to a steady clock", f"{clocks.JUMP_NS / 10**9:g} s"),
    ("Limits of the collector", "spans of a request to a destination", process.MAX_SPANS),
    ("Limits of the collector", "spans of a request to a destination", deliver.MAX_BYTES),
    ("Limits of the collector", "retry delay of a destination", f"{pauses.FIRST_PAUSE_S} s"),
    ("Limits of the collector", "retry delay of a destination", f"{pauses.LONGEST_PAUSE_S:g} s"),
    ("Limits of the collector", "retry delay of a destination", f"{pauses.MAX_ASKED_S:,.0f} s"),
    ("Limits of the collector", "bytes read of a destination", sending_http.MAX_ANSWER_BYTES),
    ("Limits of the collector", "interval of the search for spans to forward", f"{process.LOOK_S} s"),
    (
        "Limits of the collector",
        "interval of the search for spans to forward",
        f"{process.LOOK_UNFINISHED_S:g} s",
    ),
    ("Limits of the collector", "requests to a destination", process.UNWRITTEN + 1),
    ("Limits of the collector", "wait for destinations at shutdown", f"{forwarder.FINISH_S:g} s"),
    ("Limits of the viewer", "traces in a response", parameters.DEFAULT_LIMIT),
    ("Limits of the viewer", "traces in a response", parameters.MAX_LIMIT),
    ("Limits of the viewer", "traces in a response", parameters.MAX_IDS),
    ("Limits of the viewer", "spans in a response", loading.MAX_SPANS),
    ("Limits of the viewer", "spans in a response", f"{loading.MAX_BYTES >> 20} MiB"),
    ("Limits of the viewer", "pairs of services", calls.MAX_PAIRS),
    ("Limits of the viewer", "time limit of a search", f"{asking.SEARCH_S:g} s"),
    ("Limits of the viewer", "time limit of a search", f"{asking.ANSWER_S:g} s"),
    ("Limits of the viewer", "tags of a query", parameters.MAX_TAGS),
    ("Limits of the viewer", "concurrent queries", app.THREADS),
    ("Limits of the viewer", "concurrent queries", http_connections.MAX_CONNECTIONS),
    ("Limits of the viewer", "idle timeout of a connection", f"{serving.IDLE_S} s"),
    ("Limits of the viewer", "timeout of a request's head", f"{http_connections.HEAD_S:g} s"),
    ("Limits of the viewer", "timeout of a request's head", f"{http_connections.SEND_S:g} s"),
    ("Limits of the viewer", "idle timeout of a connection", f"{serving.GRACE_S} s"),
]


@pytest.mark.parametrize("variable", settings.LIMITS)
def test_numbers_that_can_be_set_have_their_range(variable: str) -> None:
    """The table of settings lists each number's default and range."""
    page = pages.sections(pages.read("reference/settings.md"))
    (row,) = [cells for cells in pages.rows(page["In a traced service"]) if f"`{variable}`" in cells[0]]
    limit = settings.LIMITS[variable]
    assert f"`{limit.default}`" in row[2]
    least, most = f"{limit.least:,}", f"{limit.most:,}"
    if variable.endswith("_BYTES"):
        least, most = f"{limit.least >> 20} MiB", f"{limit.most >> 40} TiB"
    assert f"{least} to {most}" in row[3]


@pytest.mark.parametrize(("section", "start", "limit"), LIMITS)
def test_limits_are_those_of_the_code(section: str, start: str, limit: int | str) -> None:
    """A limit in the settings page equals the constant in the code."""
    page = pages.sections(pages.read("reference/settings.md"))
    (row,) = [cells for cells in pages.rows(page[section]) if cells[0].startswith(start)]
    text = f"{limit:,}" if isinstance(limit, int) else limit
    assert re.search(rf"(?<![\d.,]){re.escape(text)}(?![\d])", row[1])


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return the columns of every table and view of a new database, with their types."""
    path = tmp_path_factory.mktemp("fresh") / "fresh.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type != 'index'")]
        return {
            name: {row[1]: row[2].lower() for row in db.execute(f"PRAGMA table_info({name})")}
            for name in names
            if name != "sqlite_sequence"
        }


def test_every_table_and_view_is_documented(schema: dict[str, dict[str, str]]) -> None:
    """Every table and view has a section, and every section a table or view."""
    words = {heading for heading in SCHEMA_PAGE if re.fullmatch(r"[a-z_]+", heading)}
    assert words == set(schema)
    assert f"at present {SCHEMA_VERSION}" in " ".join(SCHEMA_PAGE["Database schema"].split())
    assert f"e^(b/{BUCKETS_PER_E})" in SCHEMA_PAGE["Histograms"]


def test_every_column_is_documented(schema: dict[str, dict[str, str]]) -> None:
    """A section's table lists the columns in order, with types for tables."""
    for name, types in schema.items():
        table = pages.rows(SCHEMA_PAGE[name])
        assert [column for row in table for column in pages.code(row[0])] == list(types), name
        if not name.endswith("_list"):
            assert [row[1] for row in table] == list(types.values()), name


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("Header", wire.Header._fields),
        ("Span", records.Span._fields),
        ("Exception", records.ExceptionRecord._fields),
        ("Frame", records.FrameRecord._fields),
    ],
)
def test_every_field_of_the_wire_is_documented(section: str, fields: tuple[str, ...]) -> None:
    """Fields are documented in wire order, with their positions."""
    table = [row for row in pages.rows(WIRE_PAGE[section]) if row[1].startswith("`")]
    first = 2 if section == "Header" else 0
    assert [(row[0], row[1]) for row in table] == [
        (str(position), f"`{field}`") for position, field in enumerate(fields, first)
    ]


def test_kinds_and_bytes_of_the_wire() -> None:
    """The documented kinds and the first bytes of an acknowledgement equal the code's."""
    for number, kind, *_ in pages.rows(WIRE_PAGE["Kinds"]):
        assert getattr(wire, kind) == int(number)
    assert wire.ACK.hex(" ") in WIRE_PAGE["Acknowledgement"]
    assert wire.REQUEST.hex(" ") in WIRE_PAGE["Request for a profile"]
    assert f"version {wire.VERSION}." in WIRE_PAGE["Wire format"]
    kinds = next(row for row in pages.rows(WIRE_PAGE["Span"]) if row[1] == "`kind`")
    assert all(f"{number} {name}" in kinds[3] for name, number in records.KIND_NUMBERS.items())


def test_every_reason_is_documented() -> None:
    """The tables of refusals list every counted reason, and no other."""
    counted = {
        *refusals.DOOR_REASONS,
        *refusals.MESSAGE_REASONS,
        *refusals.DEFECT_REASONS,
        *refusals.OTLP_REASONS,
        *refusals.SPAN_REASONS,
        *refusals.MENDED_REASONS,
        *refusals.EVENT_REASONS,
        values.CUT,
        values.REPLACED,
        encoding.REFUSED,
        profiling_encoding.TOO_LARGE,
        unfinished.DROPPED_OPEN,
        publishing_intake.FLOOD,
        publishing_intake.FOREIGN,
        peer.MOVED,
        rules.REASON,
        probing.SHORTAGE,
        carriers.UNREADABLE,
        replies.UNREADABLE,
        trailers.UNREADABLE,
        *LOSS_COLUMNS,
    }
    for text in pages.sources():
        counted.update(re.findall(r'\b(?:contain|count_failure)\("(\w+)"\)', text))
    page = pages.sections(pages.read("reference/refusals.md"))
    table = [row for section in page.values() for row in pages.rows(section)]
    assert sorted(pages.code(row[0])[0] for row in table) == sorted(counted)


def test_every_public_name_is_documented() -> None:
    """Each public name has a heading."""
    headings = [heading for heading in API_PAGE if heading.startswith("ztrace.")]
    named = {re.split(r"[.(]", heading)[1] for heading in headings}
    assert named == {*ztrace.__all__, "middleware", "otel"}
    of_otel = [heading for heading in headings if heading.startswith("ztrace.otel.")]
    assert {re.split(r"[.(]", heading)[2] for heading in of_otel} == set(ztrace.otel.__all__)


@pytest.mark.parametrize(
    "function",
    [
        ztrace.carry,
        ztrace.configure,
        ztrace.current_span,
        ztrace.extract,
        ztrace.flush,
        ztrace.inject,
        ztrace.install_log_record_factory,
        ztrace.instrument,
        ztrace.logging_filter,
        ztrace.shutdown,
        ztrace.span,
    ],
)
def test_parameters_are_documented(function: Callable[..., Any]) -> None:
    """A heading has the function's parameters in order, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    bare = [
        str(each.replace(annotation=each.empty, default=each.empty))
        + ("" if each.default is each.empty else "=" + repr(each.default).replace("'", '"'))
        for each in parameters
    ]
    if any(each.kind is each.POSITIONAL_ONLY for each in parameters):
        bare.insert(1, "/")
    keyword = [each.kind is each.KEYWORD_ONLY for each in parameters]
    if True in keyword:
        bare.insert(keyword.index(True), "*")
    assert f"ztrace.{function.__name__}({', '.join(bare)})" in API_PAGE


@pytest.mark.parametrize("cls", [ztrace.Span, ztrace.Context])
def test_members_are_documented(cls: type) -> None:
    """A class's table lists its documented attributes and its methods."""
    table = pages.rows(API_PAGE[f"ztrace.{cls.__name__}"])
    documented = {re.split(r"\W", pages.code(row[0])[0])[0] for row in table}
    _, _, listed = (cls.__doc__ or "").partition("Attributes:")
    attributes = set(re.findall(r"^ +(\w+): ", listed, re.MULTILINE))
    methods = {name for name, value in vars(cls).items() if inspect.isfunction(value) and name[0] != "_"}
    assert documented == attributes | methods


def _targets(page: Path) -> list[str]:
    return [link for link in pages.links(page.read_text()) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", pages.all_pages(), ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names an existing file and heading."""
    for target in _targets(page):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in pages.anchors(path.read_text()), f"{page.name}: {target}"


def test_every_page_is_found_from_the_index() -> None:
    """The index links to every page below ``docs``."""
    linked = {
        (pages.DOCS / target.partition("#")[0]).resolve() for target in _targets(pages.DOCS / "index.md")
    }
    assert set(pages.DOCS.rglob("*.md")) - {pages.DOCS / "index.md"} <= linked


#: Folders from which ARCHITECTURE.md names modules and folders.
_NAMED_FROM = ("", "collector", "collector/ztrace_collector", "viewer/ztrace_viewer", "ztrace")
_RELATIVE = re.compile(r"[a-z_]+(?:/[a-z_]+)+(?:\.py)?|[a-z_]+\.py")
_PATH = re.compile(r"(?:ztrace|collector|viewer|tests|docs)/[\w./]+")
_DOTTED = re.compile(r"(ztrace_(?:collector|viewer)(?:\.[a-z_]+)*)\.(\w+)")


def test_paths_in_the_architecture_exist() -> None:
    """Each file and folder that ARCHITECTURE.md names exists."""
    code = pages.code(pages.without_blocks((pages.ROOT / "ARCHITECTURE.md").read_text()))
    named = [name for name in code if _RELATIVE.fullmatch(name)]
    assert len(named) > 20
    assert [
        name for name in named if not any((pages.ROOT / start / name).exists() for start in _NAMED_FROM)
    ] == []


@pytest.mark.parametrize("page", pages.all_pages(), ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_code_that_pages_name_exists(page: Path) -> None:
    """A path in backticks exists, and a dotted name is a module of the collector or viewer, or is in one."""
    for name in pages.code(pages.without_blocks(page.read_text())):
        if _PATH.fullmatch(name):
            assert (pages.ROOT / name).exists(), name
        if dotted := _DOTTED.fullmatch(name):
            assert hasattr(import_module(dotted[1]), dotted[2]) or find_spec(name), name


@pytest.mark.parametrize("page", pages.all_pages(), ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_python_in_pages_compiles(page: Path) -> None:
    """Every fenced block of Python compiles."""
    for number, block in enumerate(pages.blocks(page.read_text(), "python")):
        compile(block, f"{page.name}:{number}", "exec")


@pytest.mark.parametrize(
    "page", [p for p in pages.all_pages() if p.name != "README.md"], ids=lambda p: p.stem
)
def test_lines_fit(page: Path) -> None:
    """Lines have at most 110 characters, except command output, headings, images and lines with links."""
    lines = pages.without_blocks(page.read_text()).splitlines()
    assert [line for line in lines if len(line) > 110 and "](" not in line and line[0] != "#"] == []


@pytest.mark.parametrize("page", sorted((pages.DOCS / "adr").glob("*.md")), ids=lambda page: str(page.stem))
def test_decisions_have_one_form(page: Path) -> None:
    """A decision record has a number, a title, context, decision and consequences on one page."""
    text = page.read_text()
    title, *headings = pages.sections(text)
    assert title.split()[0] == page.name[:4]
    assert headings == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 60
