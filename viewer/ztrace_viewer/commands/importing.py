"""``ztrace import``: call trees from files of ztrace and other programs."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztrace.errors import NotFoundError, SettingsError
from ztrace_viewer.commands.answering import next_command
from ztrace_viewer.commands.options import database_option
from ztrace_viewer.interrupts import deferred, ignore, interruptible
from ztrace_viewer.terminal.counts import plural

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from ztrace_viewer.terminal.progress import CountProgress


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@database_option
@click.option("--to", "url", metavar="URL", help="Send the spans to this OTLP receiver instead.")
def import_(files: tuple[str, ...], database: Path, url: str | None) -> None:
    """Store call trees from files of ztrace and other programs.

    FILE is OTLP as JSON lines, as one JSON document or as protobuf, or Jaeger's JSON, written by 'ztrace
    export' or by other programs, also compressed by gzip; - is standard input. Spans already stored are
    skipped, so a file can be imported twice.

    \b
    Example:
      ztrace import errors.jsonl.gz
      ztrace import trace-from-jaeger.json --db jaeger.db
    """
    for name in files:
        if name != "-" and not Path(name).exists():
            raise SettingsError(f"there is no file {name}", hint="give a file, or - for standard input")
    if url is not None:
        _send(files, url)
    else:
        _store(files, database)


def _store(files: tuple[str, ...], database: Path) -> None:
    from ztrace_viewer.export.storing import Storing
    from ztrace_viewer.terminal.progress import CountProgress

    with deferred(), closing(Storing(database)) as storing, CountProgress("spans") as progress:
        storing.open_if_there()
        try:
            for request in _read(files, progress):
                storing.add(request)
        except SettingsError as error:
            storing.flush()
            found = storing.stored + storing.duplicates
            told = f"{plural(found, 'span')} stored before it" if found else "nothing was imported"
            raise SettingsError(f"{error.message}; {told}", hint=error.hint) from None
        ignore()
        storing.flush()
    refused = storing.refused.total()
    if not (storing.stored or storing.duplicates or refused):
        raise NotFoundError(f"no spans in {', '.join(files)}", hint="nothing was changed")
    click.echo(
        f"imported {plural(storing.stored, 'span')} into {database}; {plural(storing.traces, 'new tree')}"
    )
    if storing.duplicates:
        click.echo(f"{plural(storing.duplicates, 'span')} already stored")
    if refused:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in storing.refused.most_common())
        click.echo(f"{plural(refused, 'span')} refused: {reasons}")
    if hint := next_command("slow", database):
        click.echo(f"\n{hint}")


def _send(files: tuple[str, ...], url: str) -> None:
    from ztrace_viewer.export.sending import bind, check_refused, loosen, read_destination, send
    from ztrace_viewer.terminal.progress import CountProgress

    destination = read_destination(url)
    with deferred(), CountProgress("spans") as progress:
        sent = send(destination, loosen(_read(files, progress)), bind, lambda _: None)
    check_refused(sent, destination)
    if not sent.count:
        raise NotFoundError(f"no spans in {', '.join(files)}", hint="nothing was sent")
    click.echo(f"sent {plural(sent.count, 'span')} to {destination.url}")


def _read(files: tuple[str, ...], progress: "CountProgress") -> "Iterator[ExportTraceServiceRequest]":
    from ztrace_viewer.export.files import Source

    done = 0
    for name in files:
        with closing(Source(None if name == "-" else Path(name))) as source:
            for request in interruptible(source.read()):
                yield request
                progress.update(done + source.spans, source.share)
            done += source.spans
