"""``ztrace up`` and ``ztrace collect``: receive, store and forward spans."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack

import click
from click.core import ParameterSource

from ztrace.addresses import DEFAULT_ENDPOINT, DEFAULT_OTLP_GRPC, DEFAULT_OTLP_HTTP, DEFAULT_WEB, Address
from ztrace_viewer.commands.options import KEYS_VARIABLE, Amount, Share, database_option, verbose_option
from ztrace_viewer.events import COMMAND_VARIABLE, WEBHOOK_VARIABLE
from ztrace_viewer.terminal.durations import parse_duration
from ztrace_viewer.terminal.saying import complain
from ztrace_viewer.terminal.sizes import parse_size

if TYPE_CHECKING:
    from ztrace_collector.otlp.listening.servers import Listening

_F = TypeVar("_F", bound=Callable[..., object])

#: Value of ``--otlp-listen`` that disables the listener.
OFF = "off"
#: Least values of ``--keep`` and ``--max-size``: traces are deleted by the hour, and a smaller log
#: beside the file would be emptied too often.
LEAST_KEPT, LEAST_SIZE = "1h", "100MB"


def _bind_option(function: _F) -> _F:
    return click.option(
        "--bind",
        default=DEFAULT_ENDPOINT,
        show_default=True,
        metavar="ENDPOINT",
        help="Endpoint that publishers connect to; port 0 picks a free one.",
    )(function)


def _keys_option(function: _F) -> _F:
    return click.option(
        "--keys",
        "folder",
        type=click.Path(path_type=Path),
        envvar=KEYS_VARIABLE,
        show_envvar=True,
        metavar="DIR",
        help="Folder with the keys of services that may send; without it, anyone on this machine.",
    )(function)


def _adopt_option(function: _F) -> _F:
    return click.option(
        "--adopt",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Spool folder on this machine, from which to store the spans of killed services.",
    )(function)


def _limit_options(function: _F) -> _F:
    keep = click.option(
        "--keep",
        "keep_ns",
        type=Amount("age", parse_duration, LEAST_KEPT),
        metavar="AGE",
        help="Delete traces that arrived longer ago than this, such as 7d; without it, none.",
    )
    max_size = click.option(
        "--max-size",
        "max_bytes",
        type=Amount("size", parse_size, LEAST_SIZE),
        metavar="SIZE",
        help="Delete traces of the largest sender above this size, such as 10GB.",
    )
    return keep(max_size(function))


def _thin_option(function: _F) -> _F:
    return click.option(
        "--thin",
        type=Share(),
        metavar="SHARE",
        help="Keep this share of ordinary traces, such as 5%, once their hour is over, or their day in"
        " ClickHouse; all figures stay.",
    )(function)


def _group_option(function: _F) -> _F:
    return click.option(
        "--group-readable",
        is_flag=True,
        help="Let the group of the database file read it; by default only its owner can.",
    )(function)


def _listen_options(default: str | None) -> Callable[[_F], _F]:
    """Add the addresses of the OTLP listeners, of which only HTTP has a default."""

    def add(function: _F) -> _F:
        http = click.option(
            "--otlp-listen",
            "otlp_http",
            default=default,
            show_default=True,
            metavar="HOST:PORT",
            help="Address that receives OTLP over HTTP" + ("; off disables it." if default else "."),
        )
        grpc = click.option(
            "--otlp-grpc-listen",
            "otlp_grpc",
            metavar="HOST:PORT",
            help=f"Address that receives OTLP over gRPC, such as {DEFAULT_OTLP_GRPC}.",
        )
        return http(grpc(function))

    return add


def _sending_options(function: _F) -> _F:
    urls = click.option(
        "--otlp",
        multiple=True,
        metavar="URL",
        help="Forward spans to http://HOST:4318 or grpc://HOST:4317, or to 'env': see OTEL_EXPORTER_OTLP_*."
        " Repeatable.",
    )
    headers = click.option(
        "--otlp-header",
        "otlp_headers",
        multiple=True,
        metavar="KEY=VALUE",
        help="Header for all destinations. Repeatable.",
    )
    unfinished = click.option(
        "--otlp-unfinished",
        is_flag=True,
        help="Also forward unfinished spans, once their processes have ended.",
    )
    clickhouse = click.option(
        "--clickhouse",
        metavar="URL",
        help="Send everything on to clickhouse://HOST/DATABASE, prepared by 'ztrace clickhouse init'.",
    )
    return urls(headers(unfinished(clickhouse(function))))


def _event_options(function: _F) -> _F:
    command = click.option(
        "--on-event",
        "on_event",
        envvar=COMMAND_VARIABLE,
        show_envvar=True,
        metavar="COMMAND",
        help="Program to run for a new or regressed error and a slower method; gets JSON on standard input.",
    )
    webhook = click.option(
        "--webhook",
        envvar=WEBHOOK_VARIABLE,
        show_envvar=True,
        metavar="URL",
        help="URL to post the same JSON to; use the variable for a URL with a secret in it.",
    )
    return command(webhook(function))


class _Given(TypedDict):
    """Options of both commands."""

    bind: str
    folder: Path | None
    adopt: Path | None
    keep_ns: int | None
    max_bytes: int | None
    thin: float | None
    group_readable: bool
    otlp_http: str | None
    otlp_grpc: str | None
    otlp: tuple[str, ...]
    otlp_headers: tuple[str, ...]
    otlp_unfinished: bool
    on_event: str | None
    webhook: str | None
    clickhouse: str | None
    database: Path


@click.command()
@_bind_option
@_keys_option
@_adopt_option
@_limit_options
@_thin_option
@_group_option
@_listen_options(DEFAULT_OTLP_HTTP)
@_sending_options
@_event_options
@database_option
@click.option(
    "--web-listen",
    default=DEFAULT_WEB,
    show_default=True,
    metavar="HOST:PORT",
    help="Loopback address of the page and Jaeger's query API.",
)
@click.option("--no-web", is_flag=True, help="Serve neither the page nor Jaeger's query API.")
@verbose_option
def up(web_listen: str, no_web: bool, **given: Unpack[_Given]) -> None:
    """Collect spans into one file; start here.

    Services send to the endpoint, programs with OpenTelemetry by OTLP. The other commands read the file at
    any time, and the page, as 'ztrace web' serves it, shows it in the browser. Ctrl-C stops the collector
    once everything received is stored.

    \b
    Example:
      ztrace up --db shop.db
      ztrace up --db shop.db --keep 7d --max-size 10GB
      ztrace up --otlp http://jaeger:4318
      ztrace up --on-event 'mail -s ztrace ada@example.com'
    """
    from ztrace_collector.otlp.listening.addresses import parse_address

    _collect(given, None if no_web else parse_address(web_listen, "--web-listen", DEFAULT_WEB))


@click.command()
@_bind_option
@_keys_option
@_adopt_option
@_limit_options
@_thin_option
@_group_option
@_listen_options(None)
@_sending_options
@_event_options
@database_option
@verbose_option
def collect(**given: Unpack[_Given]) -> None:
    """Run the collector alone.

    The collector receives spans and stores them in the file until Ctrl-C or SIGTERM.

    \b
    Example:
      ztrace collect --bind tcp://127.0.0.1:4710 --db shop.db
      ztrace collect --bind tcp://0.0.0.0:4710 --keys ztrace.keys
    """
    _collect(given)


def _collect(given: _Given, web: Address | None = None) -> None:
    from ztrace_collector.clickhouse.address import read_address
    from ztrace_collector.clickhouse.engine import check_installed
    from ztrace_collector.otlp.listening.servers import Servers
    from ztrace_collector.otlp.sending.destinations import read_destinations
    from ztrace_collector.receiving.inbox import Companion, Inbox
    from ztrace_collector.receiving.keys import KeyFolder
    from ztrace_collector.service import Options
    from ztrace_collector.service import collect as run
    from ztrace_collector.storing.places import GROUP_MODE, OWN_MODE
    from ztrace_collector.storing.retention import Limits
    from ztrace_viewer.events.beside import Events
    from ztrace_viewer.terminal.progress import CollectorProgress
    from ztrace_viewer.web.beside import Beside

    listening = _read_listening(given["otlp_http"], given["otlp_grpc"])
    servers: list[Servers] = []

    def listen(inbox: Inbox, say: Callable[[str], None]) -> Servers:
        servers.append(Servers(listening, inbox, say))
        return servers[0]

    pages: list[Beside] = []
    is_wanted = web is not None and _is_given("web_listen")

    def show(inbox: Inbox, say: Callable[[str], None]) -> Beside:
        assert web is not None
        pages.append(Beside(given["database"], web, say, is_wanted=is_wanted))
        return pages[0]

    notifying: list[Events] = []

    def notify(inbox: Inbox, say: Callable[[str], None]) -> Events:
        notifying.append(
            Events(
                engine or given["database"],
                given["on_event"] or None,
                given["webhook"] or None,
                inbox.note,
                say,
            )
        )
        return notifying[0]

    companions: list[Callable[[Inbox, Callable[[str], None]], Companion]] = [listen]
    if web is not None:
        companions.append(show)
    if given["on_event"] or given["webhook"]:
        companions.append(notify)

    def announce(endpoint: str) -> None:
        for page in pages:
            page.start()
        for each in notifying:
            each.start(next((page.address for page in pages), None))
        _announce(
            endpoint,
            given["database"],
            [place for each in servers for place in each.places()],
            [*(destination.url for destination in destinations), *([engine.url] if engine else [])],
            [page.url for page in pages if page.url is not None],
            with_keys=keys is not None,
        )

    destinations = read_destinations(given["otlp"], given["otlp_headers"], os.environ)
    engine = None if given["clickhouse"] is None else read_address(given["clickhouse"])
    if engine is not None:
        check_installed()
    keys = None if given["folder"] is None else KeyFolder(given["folder"])
    with CollectorProgress() as progress:
        run(
            Options(
                given["bind"],
                given["database"],
                keys,
                Limits(given["keep_ns"], given["max_bytes"]),
                given["thin"],
                given["adopt"],
                progress=progress,
                companions=companions,
                destinations=destinations,
                sends_unfinished=given["otlp_unfinished"],
                clickhouse=engine,
                mode=GROUP_MODE if given["group_readable"] else OWN_MODE,
            ),
            ready=announce,
        )


def _read_listening(http: str | None, grpc: str | None) -> "Listening":
    from ztrace_collector.otlp.listening.addresses import parse_address
    from ztrace_collector.otlp.listening.servers import Listening

    proxy = "a proxy with TLS and a password"  # OTLP has no keys.
    return Listening(
        None if http in (None, OFF) else parse_address(http, "--otlp-listen", DEFAULT_OTLP_HTTP, proxy),
        None if grpc in (None, OFF) else parse_address(grpc, "--otlp-grpc-listen", DEFAULT_OTLP_GRPC, proxy),
        http_is_default=not _is_given("otlp_http"),
    )


def _is_given(parameter: str) -> bool:
    """Return whether a value was given for a parameter, by option or variable."""
    return click.get_current_context().get_parameter_source(parameter) != ParameterSource.DEFAULT


def _announce(
    endpoint: str,
    database: Path,
    otlp: Sequence[str],
    urls: Sequence[str],
    pages: Sequence[str],
    *,
    with_keys: bool,
) -> None:
    # An endpoint on all interfaces is reached by a name that only the user knows.
    reached = re.sub(r"//(0\.0\.0\.0|\[::\]|\*):", "//THIS-MACHINE:", endpoint)
    key = " and its ZTRACE_KEY" if with_keys else ""
    taken = f", OTLP at {' and '.join(otlp)}" if otlp else ""
    complain(
        f"ztrace: collecting at {endpoint} into {database}{taken}; "
        f"run a service with ZTRACE_ENDPOINT={reached}{key}, end with Ctrl-C",
    )
    for page in pages:
        complain(f"ztrace: the page is at {page}")
    for url in urls:
        complain(f"ztrace: forwarding to {url}; 'ztrace status' shows the progress")
