"""``ztrace keys``: who may send spans from other machines."""

import time
from pathlib import Path

import click

from ztrace_viewer.commands.options import json_option, keys_option
from ztrace_viewer.interrupts import ignored


@click.group()
def keys() -> None:
    """Make, list and revoke the keys by which services are let in.

    The collector looks at the folder while it runs: what is added or revoked counts within seconds.

    \b
    Example:
      ztrace keys init
      ztrace keys add billing
      ztrace collect --bind tcp://0.0.0.0:4710 --keys ztrace.keys
    """


@keys.command()
@keys_option
def init(folder: Path) -> None:
    """Make the folder, and the collector's own key in it.

    \b
    Example:
      ztrace keys init
    """
    from ztrace_collector.receiving.keys import KeyFolder

    with ignored():
        KeyFolder(folder).create()
    click.echo(f"ztrace: the collector's key is in {folder}; next: ztrace keys add SERVICE", err=True)


@keys.command()
@keys_option
@click.argument("service")
def add(folder: Path, service: str) -> None:
    """Make a key for a service, and print what lets the service in.

    It is printed now and never again: give it to the service as ZTRACE_KEY, and to nobody else. A service
    can have several keys.

    \b
    Example:
      ztrace keys add billing
      ZTRACE_KEY=$(ztrace keys add billing) python billing.py
    """
    from ztrace_collector.receiving.keys import ID_DIGITS, KeyFolder

    with ignored():
        enrolment = KeyFolder(folder).add(service)
        click.echo(enrolment.format())
    click.echo(
        f"ztrace: key {enrolment.public.hex()[:ID_DIGITS]} lets {service} in; run it with this as ZTRACE_KEY."
        " It is a secret, and kept nowhere else",
        err=True,
    )


@keys.command("list")
@keys_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List the services' keys, the oldest first.

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
        raise NotFoundError(f"{folder} has no service's key", hint="make one with 'ztrace keys add SERVICE'")
    from ztrace_viewer.render.lists import draw_keys
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_keys(document, screen.width, time.time_ns()))


@keys.command()
@keys_option
@click.argument("which", metavar="SERVICE|ID")
def revoke(folder: Path, which: str) -> None:
    """Revoke a key: who has it is out within seconds.

    Connected or not. A service's name does if it has one key only; else give the beginning of the id.

    \b
    Example:
      ztrace keys revoke billing
    """
    from ztrace_collector.receiving.keys import KeyFolder

    with ignored():
        key = KeyFolder(folder).revoke(which)
    click.echo(f"ztrace: key {key.id} of {key.service} is revoked", err=True)
