"""``ztrace keys``: keys of services that may send spans."""

import time
from pathlib import Path

import click

from ztrace_viewer.commands.options import json_option, keys_option
from ztrace_viewer.interrupts import ignored
from ztrace_viewer.terminal.saying import complain, say


@click.group()
def keys() -> None:
    """Create, list and revoke the keys of services.

    A key lets its holder send spans under the name of its service, in any trace, and nothing else: not read
    what is stored, not end, hide or replace spans of other services, not become the root of their traces. All
    holders of keys see the acknowledgements, which are random process ids and numbers. A running collector
    applies changes to the folder within seconds.

    \b
    Example:
      ztrace keys init
      ztrace keys add billing
      ztrace collect --bind tcp://0.0.0.0:4710 --keys ztrace.keys
    """


@keys.command()
@keys_option
def init(folder: Path) -> None:
    """Create the folder, with the collector's own key.

    \b
    Example:
      ztrace keys init
    """
    from ztrace_collector.receiving.keys import KeyFolder

    with ignored():
        KeyFolder(folder).create()
    complain(f"ztrace: the collector's key is in {folder}; next: ztrace keys add SERVICE")


@keys.command(short_help="Create a key for a service, and print it.")
@keys_option
@click.argument("service")
def add(folder: Path, service: str) -> None:
    """Create a key for a service, and print the value for its ZTRACE_KEY.

    The value cannot be printed again. Give it to the service only. A service can have several keys.

    \b
    Example:
      ztrace keys add billing
      ZTRACE_KEY=$(ztrace keys add billing) python billing.py
    """
    from ztrace.process.keys import ID_DIGITS
    from ztrace_collector.receiving.keys import KeyFolder

    with ignored():
        enrolment = KeyFolder(folder).add(service)
        say(enrolment.format())
    complain(
        f"ztrace: key {enrolment.public.hex()[:ID_DIGITS]} admits {service}; run it with this value as"
        " ZTRACE_KEY. The value is a secret, and stored nowhere else",
    )


@keys.command("list")
@keys_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List the keys of services, the oldest first.

    \b
    Example:
      ztrace keys list
    """
    from ztrace.errors import NotFoundError
    from ztrace_collector.layout import SECOND_NS
    from ztrace_collector.receiving.keys import KeyFolder
    from ztrace_viewer.commands.answering import print_json
    from ztrace_viewer.documents.status import KeysDocument

    document: KeysDocument = {
        "keys": [
            {
                "service": key.service,
                "id": key.id,
                "state": "active" if key.revoked_s is None else "revoked",
                "made_ns": key.made_s * SECOND_NS,
                "revoked_ns": None if key.revoked_s is None else key.revoked_s * SECOND_NS,
            }
            for key in KeyFolder(folder).read()
        ]
    }
    if as_json:
        return print_json(document, found=bool(document["keys"]))
    if not document["keys"]:
        raise NotFoundError(
            f"{folder} has no key of a service", hint="create one with 'ztrace keys add SERVICE'"
        )
    from ztrace_viewer.render.lists import draw_keys
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_keys(document, screen.width, time.time_ns()))


@keys.command(short_help="Revoke a key of a service.")
@keys_option
@click.argument("which", metavar="SERVICE|ID")
def revoke(folder: Path, which: str) -> None:
    """Revoke a key; it is rejected within seconds, on open connections too.

    Give the service's name if the service has a single key, otherwise the beginning of the key's id.

    \b
    Example:
      ztrace keys revoke billing
    """
    from ztrace_collector.receiving.keys import KeyFolder

    with ignored():
        key = KeyFolder(folder).revoke(which)
    complain(f"ztrace: key {key.id} of {key.service} is revoked")
