"""``ztrace import``: call trees from files of ztrace and other programs."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ztrace.errors import NotFoundError, SettingsError
from ztrace_viewer.commands.answering import next_command
from ztrace_viewer.commands.options import database_option
from ztrace_viewer.interrupts import allowed, deferred, ignore, interruptible
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.saying import say

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from ztrace_collector.refusals import Note
    from ztrace_viewer.terminal.progress import CountProgress

#: Remedies for reasons that spans of other programs are refused for.
_HINTS = {
    "trace_id": "trace ids have 32 hex digits, or 16 bytes in base64, not all 0",
    "span_id": "span ids have 16 hex digits, or 8 bytes in base64, not all 0",
    "parent_id": "parent ids have the form of span ids",
    "time": "times are in nanoseconds since 1970 for OTLP, and in microseconds for Jaeger and Zipkin",
}


class _Skipped:
    """Contents of files without spans, counted by kind, and the first of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.trouble = ""

    def tell(self) -> None:
        """Print the numbers, and the first content that has no name of its own."""
        if self.counts:
            say(f"{plural(self.counts.total(), 'line')} without spans skipped: {_list(self.counts)}")
        if self.counts["unreadable"] or self.counts["other"]:
            say(f"the first: {self.trouble}")


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@database_option
@click.option("--to", "url", metavar="URL", help="Send the spans to this OTLP receiver instead.")
def import_(files: tuple[str, ...], database: Path, url: str | None) -> None:
    """Store call trees from files of ztrace and other programs.

    FILE is OTLP as JSON lines, as JSON documents or as protobuf, or Jaeger's or Zipkin's JSON, written by
    'ztrace export' or by other programs, also compressed by gzip; - is standard input. Spans already stored
    are skipped, so a file can be imported twice.

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

    skipped = _Skipped()
    with deferred(), closing(Storing(database)) as storing, CountProgress("spans") as progress:
        storing.open_if_there()
        try:
            for request in _read(files, progress, storing.note, skipped):
                storing.add(request)
        except SettingsError as error:
            storing.flush()
            found = storing.stored + storing.duplicates
            told = f"{plural(found, 'span')} stored before it" if found else "nothing was imported"
            raise SettingsError(f"{error.message}; {told}", hint=error.hint) from None
        storing.flush()
        for _ in storing.settle():
            with allowed():  # The next import or collector counts the rest.
                pass
        ignore()
    refused = storing.refused
    if not (storing.stored or storing.duplicates):
        _end_without_spans(files, refused, skipped)
    say(f"imported {plural(storing.stored, 'span')} into {database}; {plural(storing.traces, 'new tree')}")
    if storing.duplicates:
        say(f"{plural(storing.duplicates, 'span')} already stored")
    if refused:
        say(f"{plural(refused.total(), 'span')} refused: {_list(refused)}")
    if storing.mended:
        say(f"{plural(storing.mended.total(), 'value')} corrected: {_list(storing.mended)}")
    skipped.tell()
    if hint := next_command("slow", database):
        say("")
        say(hint)


def _end_without_spans(files: tuple[str, ...], refused: "Counter[str]", skipped: _Skipped) -> NoReturn:
    if not refused and skipped.trouble:
        raise SettingsError(f"{skipped.trouble}; nothing was imported")
    if not refused:
        raise NotFoundError(f"no spans in {', '.join(files)}", hint="nothing was changed")
    hints = [hint for reason, hint in _HINTS.items() if reason in refused]
    raise SettingsError(
        f"no span of {', '.join(files)} is valid; {plural(refused.total(), 'span')} refused:"
        f" {_list(refused)}",
        hint="; ".join(hints) or "see docs/reference/refusals.md for the reasons",
    )


def _list(counts: "Counter[str]") -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())


def _send(files: tuple[str, ...], url: str) -> None:
    from ztrace_collector.refusals import Refusals
    from ztrace_viewer.export.sending import bind, check_refused, loosen, read_destination, send
    from ztrace_viewer.terminal.progress import CountProgress

    destination = read_destination(url)
    mended, skipped = Refusals(), _Skipped()
    with deferred(), CountProgress("spans") as progress:
        requests = _read(files, progress, mended.note, skipped)
        sent = send(destination, loosen(requests), bind, lambda _: None)
    check_refused(sent, destination)
    if not sent.count and skipped.trouble:
        raise SettingsError(f"{skipped.trouble}; nothing was sent")
    if not sent.count:
        raise NotFoundError(f"no spans in {', '.join(files)}", hint="nothing was sent")
    say(f"sent {plural(sent.count, 'span')} to {destination.url}")
    if mended.counts:
        say(f"corrected or left out before: {_list(Counter(mended.counts))}")
    skipped.tell()


def _read(
    files: tuple[str, ...], progress: "CountProgress", note: "Note", skipped: _Skipped
) -> "Iterator[ExportTraceServiceRequest]":
    from ztrace_viewer.export.files import Source

    done = 0
    for name in files:
        with closing(Source(None if name == "-" else Path(name), note)) as source:
            for request in interruptible(source.read()):
                yield request
                progress.update(done + source.spans, source.share)
            done += source.spans
            skipped.counts.update(source.skipped)
            skipped.trouble = skipped.trouble or source.trouble
