"""``ztrace export``: call trees for other programs."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztrace.errors import NotFoundError, SettingsError
from ztrace_viewer.commands.answering import end_with_nothing
from ztrace_viewer.commands.completing import complete_traces
from ztrace_viewer.commands.options import Amount, limit_option, service_option, store_option, time_options
from ztrace_viewer.interrupts import deferred, interruptible
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import ExportSize
from ztrace_viewer.queries.stores.conditions import TreeFilter
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import parse_duration
from ztrace_viewer.terminal.saying import complain

if TYPE_CHECKING:
    from ztrace_viewer.queries.pieces import Piece
    from ztrace_viewer.terminal.progress import CountProgress

#: Values of ``--format``.
FORMATS = ("otlp", "jaeger", "chrome", "speedscope", "otlp-profiles", "parquet")
#: Formats by the ending of a file's name; for any other the default is OTLP.
_ENDINGS = {".speedscope.json": "speedscope", ".parquet": "parquet"}


@click.command()
@click.argument("traces", metavar="[TRACE]...", nargs=-1, shell_complete=complete_traces)
@store_option
@time_options
@service_option("Only trees with a span of this service.")
@click.option("--errors", is_flag=True, help="Only trees with an error.")
@click.option(
    "--slower-than",
    "slower_ns",
    type=Amount("duration", parse_duration, "0ns"),
    metavar="DURATION",
    help="Only trees that took longer, such as 250ms.",
)
@limit_option(None, "Most trees to export; the newest.")
@click.option("--unfinished", is_flag=True, help="Include unfinished spans.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="File to write, compressed if its name ends in .gz; - or none: standard output.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    metavar="FORMAT",
    help="otlp (JSON lines), jaeger, chrome (for Perfetto), speedscope, otlp-profiles, or parquet."
    "  [default: otlp]",
)
@click.option("--to", "url", metavar="URL", help="Send the trees to this OTLP receiver instead.")
def export(
    traces: tuple[str, ...],
    database: Source,
    since: int | None,
    until: int | None,
    service: str | None,
    errors: bool,
    slower_ns: int | None,
    limit: int | None,
    unfinished: bool,
    output: Path | None,
    format_name: str | None,
    url: str | None,
) -> None:
    """Write call trees for other programs, or send them to one.

    TRACE is the beginning of a trace id; without one, all trees are exported. Trees must meet all
    conditions. Files in OTLP's and Jaeger's format can be imported again without any loss.

    \b
    Example:
      ztrace export --since 1h --errors --output errors.jsonl.gz
      ztrace export 019a4c7e11d04f2b --format chrome --output tree.json
      ztrace export --slower-than 1s --to http://127.0.0.1:4318
      ztrace export --since 1d --output spans.parquet
    """
    if url is not None and (output is not None or format_name is not None):
        raise SettingsError("--to and --output exclude each other", hint="give one of them")
    from ztrace_viewer.queries.identifiers import find_trace

    path = None if output is None or str(output) == "-" else output
    format_name = format_name or _choose_format(path)
    if format_name == "parquet":
        _check_binary(path)
    with open_store(database, snapshot=False) as store:
        wanted = TreeFilter(
            trace_ids=tuple(dict.fromkeys(find_trace(store, trace) for trace in traces)),
            selection=Selection(since, until, service),
            errors=errors,
            slower_ns=slower_ns,
            limit=limit,
            unfinished=unfinished,
        )
        totals = store.export_size(wanted)
        if not totals.trees:
            told = "no matching call trees" if wanted != TreeFilter() else "no call trees"
            end_with_nothing(told, database, wanted.selection)
        if format_name == "otlp-profiles":
            _check_profiles(store)
        if url is not None:
            _send(store, wanted, totals, url)
        else:
            _write(store, wanted, totals, path, format_name)


def _write(store: Store, wanted: TreeFilter, totals: ExportSize, path: Path | None, name: str) -> None:
    import sys

    from ztrace_viewer.export.formats import make_parts
    from ztrace_viewer.export.output import open_output
    from ztrace_viewer.queries.pieces import read_pieces
    from ztrace_viewer.terminal.progress import CountProgress

    counts = [0, 0, 0]
    shown = path is not None or not sys.stdout.isatty()
    with deferred(), CountProgress("spans", shown=shown) as progress, open_output(path) as out:
        pieces = _count(read_pieces(store, wanted), counts, totals, progress)
        for part in interruptible(make_parts(name, store, pieces, totals.start_ns)):
            out.write(part)
    if path is not None:
        complain(f"exported {_tell(*counts)} to {path}")
    _tell_sampled(counts[2], "column weight" if name == "parquet" else "tracestate (ot=th)")


def _send(store: Store, wanted: TreeFilter, totals: ExportSize, url: str) -> None:
    from ztrace_collector.otlp.mapping.outgoing import Builder
    from ztrace_viewer.export.formats import gather
    from ztrace_viewer.export.sending import check_refused, read_destination, send
    from ztrace_viewer.queries.pieces import read_pieces
    from ztrace_viewer.terminal.progress import CountProgress

    destination = read_destination(url)
    counts = [0, 0, 0]
    with deferred(), CountProgress("spans") as progress:
        pieces = _count(read_pieces(store, wanted), counts, totals, None)
        sent = send(
            destination,
            gather(pieces),
            Builder(store.process).request,
            lambda so_far: progress.update(so_far.count, so_far.count / max(1, totals.spans)),
        )
    check_refused(sent, destination)
    complain(f"sent {_tell(*counts)} to {destination.url}")
    _tell_sampled(counts[2], "tracestate (ot=th)")


def _count(
    pieces: "Iterable[Piece]", counts: list[int], totals: ExportSize, progress: "CountProgress | None"
) -> "Iterator[Piece]":
    """Yield the pieces, and count their spans, trees, and trees that stand for others."""
    for piece in pieces:
        yield piece
        counts[0] += len(piece.spans)
        counts[1] += piece.is_last
        counts[2] += bool(piece.is_last and piece.spans and piece.spans[0].threshold is not None)
        if progress is not None:
            progress.update(counts[0], counts[0] / max(1, totals.spans))


def _check_profiles(store: Store) -> None:
    """Check that profiles can be written, before a file is opened.

    Raises:
        NotFoundError: no span has code.
        SettingsError: the installed ``opentelemetry-proto`` has no profiles.
    """
    from ztrace_viewer.export.otlp_profiles import check_installed

    check_installed()
    if not store.has_span_stacks():
        raise NotFoundError("no span has sampled code", hint="take some with 'ztrace profile --live'")


def _check_binary(path: Path | None) -> None:
    """Check that a Parquet file can be written, before the database is opened.

    Raises:
        ModuleNotFoundError: ``pyarrow`` is not installed.
        SettingsError: the destination is a terminal, or its name asks for another compression.
    """
    import sys

    if path is None and sys.stdout.isatty():
        raise SettingsError("a Parquet file is not text", hint="add --output spans.parquet")
    if path is not None and path.suffix.lower() == ".gz":
        raise SettingsError(f"{path} would be compressed twice", hint="remove .gz from its name")
    import pyarrow  # noqa: F401


def _choose_format(path: Path | None) -> str:
    ending = "" if path is None else path.name.lower().removesuffix(".gz")
    return next((name for known, name in _ENDINGS.items() if ending.endswith(known)), "otlp")


def _tell(spans: int, trees: int, _sampled: int) -> str:
    return f"{plural(spans, 'span')} in {plural(trees, 'tree')}"


def _tell_sampled(count: int, place: str) -> None:
    if count:
        complain(f"{plural(count, 'tree')} of thinned times: {place} has the weight of each")
